"""ST-DRC: identity-preserving text-to-video by in-context reference conditioning on LTX-2."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stdrc.augmentation import ReferenceAugmentation
    from stdrc.errors import STDRCError
    from stdrc.guidance import Stream, ThreeStreamGuidance
    from stdrc.pipeline import STDRCPipeline
    from stdrc.positions import ReferencePlacement

_HOMES = {
    "STDRCPipeline": "stdrc.pipeline",
    "ReferencePlacement": "stdrc.positions",
    "ThreeStreamGuidance": "stdrc.guidance",
    "Stream": "stdrc.guidance",
    "ReferenceAugmentation": "stdrc.augmentation",
    "STDRCError": "stdrc.errors",
}
__all__ = [
    "ReferenceAugmentation",
    "ReferencePlacement",
    "STDRCError",
    "STDRCPipeline",
    "Stream",
    "ThreeStreamGuidance",
]


def __getattr__(name: str) -> Any:
    # Lazily, so that `import stdrc` does not wait for diffusers.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stdrc' has no attribute {name!r}")
