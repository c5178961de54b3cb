from .augmentation import ReferenceAugmentation as ReferenceAugmentation
from .errors import STDRCError as STDRCError
from .guidance import Stream as Stream
from .guidance import ThreeStreamGuidance as ThreeStreamGuidance
from .pipeline import STDRCPipeline as STDRCPipeline
from .positions import ReferencePlacement as ReferencePlacement
from .timeline import Event as Event
from .timeline import Reference as Reference
