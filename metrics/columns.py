"""Every metric as a column of the suite: which frames and features it wants, and its arithmetic.

The arithmetic itself is in the modules of the metrics (`metrics.identity`, `metrics.protocols`,
`metrics.temporal`, ...); a column picks the frames, hands over the features that the suite has
computed, and turns the result into a value with its detail.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metrics.errors import MetricsError
from metrics.faces.base import Faces, Frames
from metrics.registry import MetricInfo
from metrics.scores import VideoItem
from metrics.video import VideoInfo, sample_linspace

__all__ = [
    "Column",
    "Context",
    "FaceRate",
    "Flicker",
    "Result",
    "SetColumn",
    "StreamState",
    "Video",
]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """A value, or in words why there is none."""

    value: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


class Context(Protocol):
    """What the suite lends to its columns."""

    num_frames: int
    device: str

    def feature(self, name: str) -> str:
        """Make sure that the suite computes a feature; returns its version."""
        ...

    def of_image(self, name: str, path: Any) -> Any:
        """A feature of a reference image, computed once however often it is asked for."""
        ...

    def of_video(self, name: str, path: Any, indices: Indices | None) -> list[Any]:
        """A feature of another video's frames; sampled evenly where no indices are given."""
        ...


class StreamState(Protocol):
    """A metric that sees every frame of a video, a chunk at a time."""

    def update(self, frames: Frames) -> None:
        """The next frames, uint8 ``[n, H, W, 3]``."""
        ...

    def result(self) -> float:
        """The value once all frames were seen."""
        ...


class Video(Protocol):
    """A video whose features have been computed."""

    item: VideoItem
    info: VideoInfo

    def get(self, feature: str, indices: Indices) -> list[Any]:
        """A feature at these frames."""
        ...


class Column:
    """Base of the columns.

    Attributes:
        info: the registry's row.
        version: of everything that the number depends on.
        features: names of the frame features it wants at `indices`.
    """

    features: tuple[str, ...] = ()

    def __init__(self, info: MetricInfo, context: Context) -> None:
        self.info = info
        self.context = context
        self.version = ""

    def want(self, *features: str) -> None:
        """Ask the suite for features and take their versions into this column's."""
        self.features = features
        self.version = "+".join(dict.fromkeys(self.context.feature(f) for f in features))

    def indices(self, count: int) -> Indices:
        """The frames that it looks at, of a video of ``count``; each once, ascending."""
        return np.unique(sample_linspace(count, self.context.num_frames))

    def start(self, info: VideoInfo) -> StreamState | None:
        """The state of a metric that sees every frame; None for one that samples."""
        return None

    def score(self, video: Video) -> Result:
        """The value of one video, from the features at `indices`."""
        raise MetricsError(f"{self.info.name} has no value for a single video.")

    def short(self, video: Video) -> str:
        """A remark when the video has fewer frames than were asked for."""
        asked, count = self.context.num_frames, video.info.count
        if count >= asked:
            return ""
        frames = "1 frame" if count == 1 else f"{count} frames"
        return f"the video has {frames}, fewer than the {asked} asked; each was used once"


class SetColumn(Column, ABC):
    """Base of the metrics of a set of videos."""

    @abstractmethod
    def collect(self, video: Video) -> Any:
        """What one generated video adds to the set."""

    def real(self, video: Video) -> Any:
        """What its target adds to the real set; None where it has none."""
        target = video.item.target
        return None if target is None else self.of_path(target)

    @abstractmethod
    def of_path(self, path: Any) -> Any:
        """What a real video adds to the set."""

    @abstractmethod
    def finish(self, made: list[Any], real: list[Any]) -> tuple[float, float | None, float | None]:
        """Value and 95 % interval from what was collected."""


class FaceRate(Column):
    """``faces.rate.<backend>``."""

    def __init__(self, info: MetricInfo, context: Context) -> None:
        super().__init__(info, context)
        self.want(f"faces.{info.backend}")

    def score(self, video: Video) -> Result:
        faces: list[Faces] = video.get(self.features[0], self.indices(video.info.count))
        counts = [len(f) for f in faces]
        found = sum(c > 0 for c in counts)
        detail = {
            "frames": len(faces),
            "frames_with_face": found,
            "most_faces": max(counts),
        }
        reason = self.short(video) or ("" if found else "no face in any sampled frame")
        return Result(found / len(faces), detail, reason)


class _FlickerState:
    def __init__(self) -> None:
        self.last: Frames | None = None
        self.total = 0.0
        self.pairs = 0

    def update(self, frames: Frames) -> None:
        from metrics.temporal import temporal_flicker

        if self.last is not None:
            frames = np.concatenate([self.last, frames])
        self.last = frames[-1:]
        if len(frames) > 1:
            self.total += temporal_flicker(frames) * (len(frames) - 1)
            self.pairs += len(frames) - 1

    def result(self) -> float:
        if not self.pairs:
            raise MetricsError("a video of one frame has no neighbouring frames to compare.")
        return self.total / self.pairs


class Flicker(Column):
    """``temporal.flicker``."""

    def __init__(self, info: MetricInfo, context: Context) -> None:
        super().__init__(info, context)
        self.version = "1"

    def indices(self, count: int) -> Indices:
        return np.zeros(0, dtype=np.int64)

    def start(self, info: VideoInfo) -> StreamState:
        return _FlickerState()
