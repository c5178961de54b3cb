"""The base of every metric: a `torchmetrics.Metric`, used on its own and by the suite.

`measure` gives the value of one video from its features. Given raw frames, `update` computes those
features itself; in the suite all metrics share them. Either way the formula runs once, here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.errors import MetricsError
from metrics.features.base import ClipFeature, Indices, exact_float32
from metrics.features.models import Models, Picture, sampled
from metrics.frames import Frames, as_images, as_videos, per_video


@dataclass(frozen=True)
class Result:
    """A value, or in words why there is none; with a value, ``reason`` is a remark on it."""

    value: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Event:
    """What happens in a video from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    caption: str


@dataclass(frozen=True)
class Shown:
    """Whom a reference shows, and between which seconds; None: from the start, to the end."""

    person: str = ""
    start: float | None = None
    end: float | None = None

    @property
    def timed(self) -> bool:
        """Whether it counts at some time only."""
        return (self.start, self.end) != (None, None)


@dataclass(frozen=True)
class Video:
    """One video as `measure` sees it; ``video[feature]`` is the feature at the metric's frames.

    Attributes:
        count: frames in the whole video.
        indices: which of them the metric looks at, ascending.
        get: a feature at given frames.
        prompt: the text it was generated from.
        references: images of the faces it should show.
        target: a true video of the same identity and prompt.
        label: for messages.
        timeline: what should happen when.
        shown: of each reference, whom it shows and when.
        fps: frames per second; 0 for a folder of images.
    """

    count: int
    indices: Indices
    get: Callable[[str, Indices], list[Any]]
    prompt: str | None = None
    references: tuple[Picture, ...] = ()
    target: Video | None = None
    label: str = "the video"
    timeline: tuple[Event, ...] = ()
    shown: tuple[Shown, ...] = ()
    fps: float = 0.0

    def __getitem__(self, feature: str) -> list[Any]:
        return self.get(feature, self.indices)


class VideoMetric(Metric):
    """A metric with one value per video, and their mean over videos.

    Args:
        num_frames: sample this many frames per video, evenly from the first to the last; None
            looks at every frame given. Metrics whose ``frames`` aren't "sampled" choose their own.
        device: where networks run.
        weights: explicit places of weights, by their name in ``metrics.weights.WEIGHTS``.
        models: networks to share with other metrics, instead of ``device`` and ``weights``.
        kwargs: torchmetrics' own.

    A subclass names the ``features`` it wants and defines `measure`. Arguments of its own that
    change its values are named in ``settings``.
    """

    is_differentiable = False
    full_state_update = False

    level: ClassVar[str] = "video"
    revision: ClassVar[int] = 1
    """Raised whenever the formula gives other numbers; part of every score's version."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Attributes that values depend on."""
    features: tuple[str, ...] = ()
    """Names of the features that `measure` takes."""
    samples: ClassVar[bool] = True
    """Whether `num_frames` applies."""

    def __init__(
        self,
        *,
        num_frames: int | None = None,
        device: str = "cpu",
        weights: Mapping[str, str | Path] | None = None,
        models: Models | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_frames is not None and num_frames < 1:
            raise MetricsError(f"num_frames is {num_frames}; sample at least one frame.")
        self.num_frames = num_frames
        self.models = models or Models(device, weights)
        self._batch: list[float] | None = None
        self.prepare()
        for name in self.features:
            self.models.feature(name)
        # torchmetrics takes metrics with equal states for one computation; the name tells which.
        said = {name: getattr(self, name) for name in self.settings}
        self._sums = f"{type(self).__qualname__}({said}, {self.num_frames}) {self.version}"
        empty = torch.zeros(3, dtype=torch.float64)  # sum of values, videos with one, without
        self.add_state(self._sums, empty, dist_reduce_fx="sum")

    def prepare(self) -> None:
        """Name the features and load what the metric needs.

        Raises:
            MetricsError: weights or packages aren't on this machine.
        """

    # --- what the suite asks -------------------------------------------------------------------

    @property
    def version(self) -> str:
        """Of everything but the inputs that a value depends on: code, settings, weights."""
        parts = [f"r{self.revision}"]
        if self.samples and self.num_frames is not None:
            parts.append(f"n{self.num_frames}")
        parts += [f"{name}={getattr(self, name)}" for name in self.settings if name != "backend"]
        parts += [self.models.version(name) for name in self.features]
        return "+".join(dict.fromkeys(part for part in parts if part))

    def indices(self, count: int) -> Indices:
        """The frames that it looks at, of a video of ``count``; each once, ascending."""
        return sampled(count, (self.num_frames or count) if self.samples else count)

    def measure(self, video: Video) -> Result | float:
        """The value of one video."""
        raise MetricsError(f"{type(self).__name__} defines no value of a video; define measure.")

    def short(self, video: Video) -> str:
        """A remark where the video has fewer frames than are asked for."""
        if not self.samples or self.num_frames is None or video.count >= self.num_frames:
            return ""
        frames = "1 frame" if video.count == 1 else f"{video.count} frames"
        return (
            f"the video has {frames}, fewer than the {self.num_frames} asked, and each was used "
            "once"
        )

    def prompt_of(self, video: Video) -> str:
        """The prompt of a video.

        Raises:
            MetricsError: it has none.
        """
        if video.prompt is None:
            raise MetricsError(f"{type(self).__name__} needs a prompt; pass the video's.")
        return video.prompt

    # --- on its own ------------------------------------------------------------------------------

    def update(
        self, frames: Any, reference: Any = None, prompt: Any = None, target: Any = None
    ) -> None:
        """Add one video, or a batch of videos.

        Args:
            frames: uint8 ``[T, H, W, 3]`` or ``[T, 3, H, W]``, or float in 0..1, with one more axis
                in front for a batch; numpy, torch or lists of Pillow images.
            reference: an image of the person, or several, each of another person; for a batch one
                of these per video.
            prompt: the text, or one per video.
            target: a true video, or one per video, in the forms of ``frames``.
        """
        for video in self.videos_of(frames, reference, prompt, target):
            self.add(self.measure(video))

    def videos_of(
        self, frames: Any, reference: Any = None, prompt: Any = None, target: Any = None
    ) -> Iterator[Video]:
        """The videos of a batch with what each comes with, as `measure` takes them."""
        videos = as_videos(frames)
        count = len(videos)
        references = [None] * count if reference is None else (
            per_video(reference, count, 4, "references")
        )  # fmt: skip
        prompts = prompt if isinstance(prompt, list | tuple) else [prompt] * count
        targets = [None] * count if target is None else as_videos(target)
        if len(prompts) != count or len(targets) != count:
            raise MetricsError(
                f"there are {count} videos, {len(prompts)} prompts and {len(targets)} targets; "
                "pass one each."
            )
        for pixels, words, images, truth in zip(videos, prompts, references, targets, strict=True):
            pictures = () if images is None else tuple(
                Picture(self.models, image) for image in as_images(images)
            )  # fmt: skip
            yield self.video_of(
                pixels,
                prompt=words,
                references=pictures,
                target=None if truth is None else self.video_of(truth, label="the target"),
            )

    def video_of(self, pixels: Frames, **given: Any) -> Video:
        """A video whose features are computed when they are first asked for."""
        held: dict[tuple[str, bytes], list[Any]] = {}

        @exact_float32()
        def get(name: str, indices: Indices) -> list[Any]:
            feature = self.models.feature(name)
            if isinstance(feature, ClipFeature):
                return [feature.encode(pixels[feature.indices(len(pixels))])]
            known = {n: values for (n, at), values in held.items() if at == indices.tobytes()}
            for found, values in self.models.compute([name], pixels[indices], known).items():
                held[found, indices.tobytes()] = values
            return held[name, indices.tobytes()]

        return Video(len(pixels), self.indices(len(pixels)), get, **given)

    def add(self, result: Result | float | None) -> None:
        """Count the value of one video; without one it is left out of the mean."""
        value = result.value if isinstance(result, Result) else result
        row = [0.0, 0.0, 1.0] if value is None else [float(value), 1.0, 0.0]
        state = getattr(self, self._sums)
        setattr(self, self._sums, state + torch.tensor(row, dtype=state.dtype, device=state.device))
        if value is not None and self._batch is not None:
            self._batch.append(float(value))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Update; returns the mean over the videos of this call, NaN where none has a value."""
        self._batch = []
        self.update(*args, **kwargs)
        self._forward_cache = torch.tensor(self._batch or [math.nan], dtype=torch.float64).mean()
        self._batch = None
        return self._forward_cache

    @property
    def videos(self) -> Tensor:
        """How many videos the mean is over."""
        return getattr(self, self._sums)[1].long()

    @property
    def skipped(self) -> Tensor:
        """How many videos had no value and are left out."""
        return getattr(self, self._sums)[2].long()

    def compute(self) -> Tensor:
        """The mean over videos.

        Raises:
            MetricsError: no video with a value was seen.
        """
        total, videos, _ = getattr(self, self._sums)
        if videos == 0:
            raise MetricsError(
                f"{type(self).__name__} has seen no video with a value; update it first."
            )
        return total / videos


class ChunkedMetric(VideoMetric):
    """A metric over neighbouring frames that takes a video in one or more chunks.

    ``update(chunk)`` opens a video and ``update(chunk, start=False)`` goes on with it. The state
    always includes the open video at its value so far: nothing is to be closed, and states of
    several processes add up at any moment.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._open()

    def _open(self) -> None:
        """Forget the video at hand."""
        self._score: float | None = None
        self._previous: Any = None

    def begin(self, start: bool) -> None:
        """Open a video, or go on with the open one."""
        if start:
            self._open()
        elif self._previous is None:
            raise MetricsError("there is no open video to go on with; pass start=True first.")

    def settle(self, score: float) -> None:
        """The open video's value so far."""
        state = getattr(self, self._sums)
        row = [score - (self._score or 0.0), float(self._score is None), 0.0]
        setattr(self, self._sums, state + torch.tensor(row, dtype=state.dtype, device=state.device))
        self._score = score
        if self._batch is not None:
            self._batch.append(score)

    def reset(self) -> None:
        super().reset()
        self._open()


class StreamedMetric(ChunkedMetric):
    """A metric that sees every frame of a video and keeps only the last one.

    Memory doesn't grow with a video's length. A subclass defines `terms`, of which a video's value
    is the mean, or `chunk`.
    """

    samples = False
    needs_fps: ClassVar[bool] = False
    compared: ClassVar[str] = "neighbouring frames"
    """What a video without a value is too short to have."""

    def _open(self) -> None:
        super()._open()
        self._sum, self._terms = 0.0, 0

    def prepared(self, frames: Frames) -> Frames:
        """The frames as the terms take them."""
        return frames

    def terms(self, frames: Frames) -> Tensor:
        """What the value is the mean of, of neighbouring frames uint8 ``[T, H, W, 3]``: [T - 1]."""
        raise MetricsError(f"{type(self).__name__} compares no frames; define terms.")

    def update(self, frames: Any, start: bool = True) -> None:  # type: ignore[override]
        """Add a video or a batch of them; ``start=False`` goes on with the last video.

        Args:
            frames: in the forms of :func:`metrics.frames.as_videos`.
            start: open a video.
        """
        for number, video in enumerate(as_videos(frames)):
            self.begin(start or number > 0)
            self.chunk(video)

    def chunk(self, frames: Frames) -> None:
        """The open video's next frames, uint8 ``[T, H, W, 3]``."""
        joined = self.join(self.prepared(frames))
        if len(joined) > 1:
            found = self.terms(joined).double()
            self._sum += float(found.sum())
            self._terms += len(found)
            self.settle(self._sum / self._terms)

    def join(self, frames: Frames) -> Frames:
        """The frames behind the last one of the chunk before; their last is kept for the next."""
        joined = frames
        if self._previous is not None:
            if self._previous.shape[1:] != frames.shape[1:]:
                raise MetricsError(
                    f"the chunk's frames are {frames.shape[1:]} and the video's are "
                    f"{self._previous.shape[1:]}; pass start=True for another video."
                )
            joined = np.concatenate([self._previous, frames])
        self._previous = frames[-1:].copy()  # not a view, which would keep the chunk alive
        return joined

    def result(self, count: int) -> Result:
        """The value of the open video, of ``count`` frames."""
        if self._score is None:
            frames = "one frame" if count == 1 else f"{count} frames"
            raise MetricsError(f"the video has {frames}, and no {self.compared} to compare")
        return Result(float(self.compute()), {"frames": count})


def cut_prompt(tokens: int, limit: int) -> str:
    """A remark on a prompt of which a model reads a part; empty where it reads all."""
    if tokens <= limit:
        return ""
    return f"the prompt has {tokens} tokens and the model reads {limit}; the rest was cut"


def remarks(*parts: str) -> str:
    """Remarks that aren't empty, each once, as one text."""
    return "; ".join(dict.fromkeys(p for p in parts if p))
