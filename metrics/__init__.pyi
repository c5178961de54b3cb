from .catalogue import metric_info as metric_info
from .catalogue import metric_names as metric_names
from .copying import CopyPaste as CopyPaste
from .distribution import (
    FID as FID,
)
from .distribution import (
    FVD as FVD,
)
from .distribution import (
    KID as KID,
)
from .distribution import (
    KVD as KVD,
)
from .distribution import (
    FrechetDistance as FrechetDistance,
)
from .distribution import (
    KernelDistance as KernelDistance,
)
from .errors import MetricsError as MetricsError
from .facts import MetricInfo as MetricInfo
from .facts import register as register
from .frames import read_clip as read_clip
from .frechet import frechet_distance as frechet_distance
from .identity import FaceRate as FaceRate
from .identity import IdentitySimilarity as IdentitySimilarity
from .kernel import kernel_distance as kernel_distance
from .metric import (
    Result as Result,
)
from .metric import (
    StreamedMetric as StreamedMetric,
)
from .metric import (
    Video as Video,
)
from .metric import (
    VideoMetric as VideoMetric,
)
from .motion import DynamicDegree as DynamicDegree
from .motion import WarpingError as WarpingError
from .people import IdentityPeople as IdentityPeople
from .people import IdentityTimeline as IdentityTimeline
from .scores import Score as Score
from .scores import SetScore as SetScore
from .scores import VideoItem as VideoItem
from .sets import SetMetric as SetMetric
from .suite import MetricSuite as MetricSuite
from .temporal import (
    FeatureConsistency as FeatureConsistency,
)
from .temporal import (
    IdentityConsistency as IdentityConsistency,
)
from .temporal import (
    TemporalFlicker as TemporalFlicker,
)
from .text import CLIPScore as CLIPScore
from .timeline import TimelineScore as TimelineScore
