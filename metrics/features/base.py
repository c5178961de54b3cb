"""What the suite computes once per frame, whatever number of metrics asks for it.

A feature turns a batch of frames into one value per frame. Features may build on others
(embeddings on faces), and know how to be written to the cache and read back. Each registers
itself under a name or a pattern such as ``embeddings.{backend}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metrics.errors import MetricsError
from metrics.frames import Frames

if TYPE_CHECKING:
    from metrics.features.models import Models

__all__ = ["ClipFeature", "Feature", "build", "feature"]

Indices = NDArray[np.int64]


class Feature(Protocol):
    """One value per frame."""

    name: str
    version: str
    requires: tuple[str, ...]
    """Names of the features that `compute` builds on."""

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Any]:
        """A value for each frame of uint8 ``[N, H, W, 3]``; ``given`` holds what is required."""
        ...

    def pack(self, values: Sequence[Any]) -> dict[str, Tensor]:
        """Values as tensors, for the cache."""
        ...

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """The values that `pack` packed."""
        ...


@runtime_checkable
class ClipFeature(Protocol):
    """One vector per video, of the frames that the feature itself chooses."""

    name: str
    version: str
    asked: int
    """how many frames it looks at where the video has as many"""

    def indices(self, count: int) -> Indices:
        """The frames that it looks at, of a video of ``count``; ascending, each once."""
        ...

    def encode(self, frames: Frames) -> Tensor:
        """A vector ``[D]`` of those frames, uint8 ``[T, H, W, 3]``."""
        ...


Builder = Callable[..., Any]
_BUILDERS: dict[str, tuple[re.Pattern[str], Builder]] = {}


def feature(pattern: str) -> Callable[[Builder], Builder]:
    """Register what builds a feature: ``build(models, *words in braces) -> Feature``.

    The last word in braces takes all that is left of the name, the others go up to a dot.
    """
    parts = re.split(r"\{\w+\}", pattern)
    groups = [r"([^.]+)"] * (len(parts) - 2) + [r"(.+)"] * (len(parts) > 1)
    expression = re.escape(parts[0])
    for group, part in zip(groups, parts[1:], strict=True):
        expression += group + re.escape(part)

    def decorate(builder: Builder) -> Builder:
        _BUILDERS[pattern] = (re.compile(expression), builder)
        return builder

    return decorate


def build(models: Models, name: str) -> Any:
    """The feature of that name.

    Raises:
        MetricsError: the name isn't known, or weights that it needs aren't on this machine.
    """
    for expression, builder in _BUILDERS.values():
        if found := expression.fullmatch(name):
            return builder(models, *found.groups())
    raise MetricsError(f"no feature is called {name!r}; there are: {', '.join(_BUILDERS)}.")
