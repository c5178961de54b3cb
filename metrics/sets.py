"""Metrics of sets of videos: what `update` takes, what is kept, and what a result says."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from media.wording import counted
from metrics.clusters import Influence, Interval
from metrics.errors import MetricsError
from metrics.features.base import ClipFeature, Indices, exact_float32
from metrics.features.models import Models, sampled
from metrics.frames import as_videos, dimensions
from metrics.frechet import HALF, check_features
from metrics.metric import Video, remarks


@runtime_checkable
class FeatureEncoder(Protocol):
    """A model that turns uint8 frames or videos into one feature vector each."""

    name: str
    version: str

    def encode(self, batch: NDArray[np.uint8]) -> Tensor:
        """Features ``[B, D]`` of frames ``[B, H, W, 3]`` or videos ``[B, T, H, W, 3]``, RGB."""
        ...


@dataclass(frozen=True)
class SetDistance:
    """A distance between two sets with what it takes to compare it."""

    value: float
    n: int
    """samples in the set under test"""
    n_reference: int
    extractor: str
    version: str
    """of the extractor: changes whenever its numbers may"""
    low: float | None = None
    high: float | None = None
    """bounds of the 95 % interval over people, None where there are too few videos for one"""
    remark: str = ""
    """which frames were seen, how many samples, videos and people there were"""
    influences: tuple[Influence, ...] = ()
    """of people, each a `number_of` of the name that `update` was given; none without names"""


class SetMetric(Metric):
    """A distance between a generated and a reference set, filled by `update`.

    Args:
        extractor: a model (``update`` then takes frames or videos), or a name: of one that this
            package knows, or of whatever made the features that ``update`` takes.
        version: the extractor's, where only its name is given.
        num_frames: frames sampled per video by extractors of single frames; None takes all.
        device, weights, models: as in :class:`metrics.VideoMetric`.
        kwargs: torchmetrics' own.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    level: ClassVar[str] = "set"
    revision: ClassVar[int] = 2
    features: tuple[str, ...] = ()
    """Name of the feature that the distance stands on; none where `update` is given features."""

    def __init__(
        self,
        extractor: FeatureEncoder | str,
        version: str = "",
        *,
        num_frames: int | None = None,
        device: str = "cpu",
        weights: Mapping[str, str | Path] | None = None,
        models: Models | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.models = models or Models(device, weights)
        self.num_frames = num_frames
        named = isinstance(extractor, str)
        self.extractor: str = extractor if isinstance(extractor, str) else extractor.name
        self._own = None if named else self.models.add(f"encoder.{self.extractor}", extractor)
        self.extractor_version = version if isinstance(extractor, str) else extractor.version
        self.prepare()
        for name in self.features:
            self.extractor_version = self.models.version(name)
        # Metrics on the same features may share their state in a MetricCollection; others mustn't.
        said = f"{self.extractor} {self.extractor_version} {self.features} {self.num_frames}"
        self._names = {kind: f"{kind} of {said}" for kind in ("reference", "generated", "counts")}
        self.declare()
        empty = torch.zeros(2, dtype=torch.int64)  # videos shorter than asked, rows of half floats
        self.add_state(self._names["counts"], empty, dist_reduce_fx="sum")

    def prepare(self) -> None:
        """Name the feature that the distance stands on."""

    def declare(self) -> None:
        """Add the states of the two sets."""

    @property
    def version(self) -> str:
        """Of everything but the videos that a value depends on: code, settings, weights."""
        sampled_frames = "" if self._of_clips or self.num_frames is None else f"n{self.num_frames}"
        parts = (f"r{self.revision}", self.setting, sampled_frames, self.extractor_version)
        return "+".join(part for part in parts if part)

    @property
    def setting(self) -> str:
        """What the formula is set to, for the version."""
        return ""

    @property
    def _of_clips(self) -> bool:
        return bool(self.features) and isinstance(
            self.models.feature(self.features[0]), ClipFeature
        )

    # --- what the suite asks -------------------------------------------------------------------

    def indices(self, count: int) -> Indices:
        """The frames that it looks at, of a video of ``count``; each once, ascending."""
        return sampled(count, self.num_frames or count)

    def rows(self, video: Video) -> Tensor:
        """What a video adds to its set, features ``[n, D]``."""
        return torch.stack(video[self.features[0]])

    def asked(self) -> int:
        """How many frames of a video it looks at where there are as many."""
        feature = self.models.feature(self.features[0])
        return feature.asked if isinstance(feature, ClipFeature) else self.num_frames or 1

    def result(self) -> SetDistance:
        """The value with what it takes to compare it; synchronise first where there are several
        processes."""
        raise MetricsError(f"{type(self).__name__} defines no result.")

    # --- on its own ----------------------------------------------------------------------------

    def update(
        self,
        frames: Any,
        real: bool,
        videos: Any = None,
        people: Any = None,
        short: bool = False,
        target: Any = None,
    ) -> None:
        """Add to one of the sets.

        Args:
            frames: features ``[B, D]``; or raw frames of one video or of a batch, as
                :class:`metrics.VideoMetric` takes them, where the extractor is one that this
                package knows; or what the extractor's own ``encode`` takes.
            real: True for the reference set.
            videos: names of the videos, one for all or one per feature row or video. By default
                each row of features is of a video of its own, and so is each video of a batch.
            people: names of who is to be seen, in the same way. Intervals resample people.
            short: the video has fewer frames than are asked for, which the result remarks.
            target: name of the true video that these are made after, or are of.
        """
        rows, sizes = self._encode(frames)
        count = len(rows) if sizes is None else len(sizes)
        videos = _each(videos, count, "videos")
        who = [
            -1 if person is None else number_of(person) for person in _each(people, count, "people")
        ]
        if sizes is None:  # a row without a name is of a video of its own
            what = [-1 if video is None else number_of(video) for video in videos]
        else:  # frames of a video without a name are of one video still
            what = [number_of(uuid.uuid4() if video is None else video) for video in videos]
        after = [-1 if target is None else number_of(target)] * len(what)
        labels = torch.tensor([what, who, after], dtype=torch.int64).T
        if sizes is not None:
            labels = labels.repeat_interleave(torch.tensor(sizes), dim=0)
        half = len(rows) if rows.dtype in HALF else 0
        checked = check_features(rows, f"the features of {self.extractor}", least=1)
        self.take(checked, labels, real)
        counts = getattr(self, self._names["counts"])
        more = torch.tensor([int(short), half], device=counts.device)
        setattr(self, self._names["counts"], counts + more)

    def take(self, features: Tensor, labels: Tensor, real: bool) -> None:
        """Keep checked features ``[n, D]``, their labels ``[n, 3]``: video, person, target."""
        raise MetricsError(f"{type(self).__name__} keeps nothing.")

    @exact_float32()
    def _encode(self, frames: Any) -> tuple[Tensor, list[int] | None]:
        """Features ``[N, D]`` and how many are of each video; None where each is one's own."""
        if self._own is not None and dimensions(frames) > 2:
            return self.models.own(self._own).encode(frames), None
        if dimensions(frames) <= 2:
            return torch.as_tensor(frames), None
        if not self.features:
            raise MetricsError(
                f"{self.extractor!r} is a name only, which makes no features of frames; pass "
                "features [B, D], or construct the metric with a model."
            )
        name = self.features[0]
        feature = self.models.feature(name)
        parts = []
        for video in as_videos(frames):
            if isinstance(feature, ClipFeature):
                parts.append(feature.encode(video[feature.indices(len(video))])[None])
            else:
                pixels = video[self.indices(len(video))]
                parts.append(torch.stack(self.models.compute([name], pixels)[name]))
        return torch.cat(parts), [len(part) for part in parts]

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Update; returns the distance of everything seen so far, NaN while it has none."""
        self.update(*args, **kwargs)
        try:
            self._forward_cache = self.compute()
        except MetricsError:
            self._forward_cache = torch.tensor(float("nan"), dtype=torch.float64)
        self._computed = None
        return self._forward_cache


def _each(value: Any, count: int, what: str) -> Sequence[Any]:
    if value is None or isinstance(value, str | int):
        return [value] * count
    if len(value) != count:
        raise MetricsError(f"there are {count} samples and {len(value)} {what}; name each.")
    return list(value)


def number_of(name: Any) -> int:
    """A name as a number of 60 bits, the same in every process."""
    return int(hashlib.sha256(str(name).encode()).hexdigest()[:15], 16)


class KeptFeatures(SetMetric):
    """Both sets are kept whole."""

    def declare(self) -> None:
        for kind in ("reference", "generated"):
            self.add_state(self._names[kind], [], dist_reduce_fx="cat")
            self.add_state(f"labels, {self._names[kind]}", [], dist_reduce_fx="cat")

    def take(self, features: Tensor, labels: Tensor, real: bool) -> None:
        name = self._names["reference" if real else "generated"]
        getattr(self, name).append(features)
        getattr(self, f"labels, {name}").append(labels.to(features.device))

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any = None
    ) -> None:
        """As torchmetrics', on ranks without samples too: they learn the others' dimensions."""
        group = process_group or self.process_group
        for kind in ("reference", "generated"):
            name = self._names[kind]
            held = getattr(self, name)
            wide = torch.tensor([held[0].shape[1] if held else 0], device=self.device)
            width = int(max(dist_sync_fn(wide, group=group)))
            if not held:
                empty = torch.zeros(0, width, dtype=torch.float64, device=self.device)
                setattr(self, name, [empty])
                nobody = torch.zeros(0, 3, dtype=torch.int64, device=self.device)
                setattr(self, f"labels, {name}", [nobody])
        super()._sync_dist(dist_sync_fn, process_group)

    def _set(self, kind: str) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Features, videos, people where everybody is named, and targets of a set."""
        name = self._names[kind]
        held = getattr(self, name)
        features = dim_zero_cat(held) if len(held) else torch.zeros(0)
        if not len(features):
            raise MetricsError(f"the {kind} set is empty; update it first.")
        labels = dim_zero_cat(getattr(self, f"labels, {name}")).cpu()
        videos, people, targets = labels.unbind(1)
        own = -2 - torch.arange(len(videos))
        videos = torch.where(videos == -1, own, videos)
        return features, videos, people if bool((people >= 0).all()) else None, targets

    def distance(self, x: Tensor, y: Tensor, **labels: Tensor) -> float:
        """The formula on features."""
        raise MetricsError(f"{type(self).__name__} has no formula.")

    def interval(self, x: Tensor, y: Tensor, **labels: Tensor | None) -> Interval:
        """The formula with bounds."""
        raise MetricsError(f"{type(self).__name__} has no interval.")

    def compute(self) -> Tensor:
        """The distance.

        Raises:
            MetricsError: a set is empty or too small, or features don't fit each other.
        """
        (x, x_videos, _, x_targets), (y, y_videos, _, y_targets) = map(
            self._set, ("generated", "reference")
        )
        of = {"x_targets": x_targets, "y_targets": y_targets}
        value = self.distance(x, y, x_videos=x_videos, y_videos=y_videos, **of)
        return torch.tensor(value, dtype=torch.float64)

    def result(self) -> SetDistance:
        """The value with its interval, N and extractor; synchronise first where there are several
        processes."""
        x, x_videos, x_people, x_targets = self._set("generated")
        y, y_videos, y_people, y_targets = self._set("reference")
        value, low, high, influences = self.interval(
            x,
            y,
            x_videos=x_videos,
            y_videos=y_videos,
            x_people=x_people,
            y_people=y_people,
            x_targets=x_targets,
            y_targets=y_targets,
        )
        shorter, half = getattr(self, self._names["counts"]).tolist()
        remark = remarks(
            self._frames(),
            f"{_counted(x, x_videos, x_people)} against {_counted(y, y_videos, y_people)}",
            "" if low is not None else "no interval from fewer than 3 videos or people",
            f"fewer frames in {counted(shorter, 'video')}, which gave all of them"
            if shorter
            else "",
            f"{half} samples are of half precision, whose rounding stays in the value"
            if half
            else "",
        )
        names = self.extractor, self.extractor_version
        named = () if x_people is None else influences
        return SetDistance(value, len(x), len(y), *names, low, high, remark, named)

    def _frames(self) -> str:
        if self._of_clips:
            return str(self.models.feature(self.features[0]).window.words())
        return f"{self.num_frames} frames spread over each video" if self.num_frames else ""


def _counted(features: Tensor, videos: Tensor, people: Tensor | None) -> str:
    count = len(videos.unique())
    frames = f"{len(features)} frames of " if len(features) != count else ""
    who = "" if people is None else f" of {len(people.unique())} people"
    return f"{frames}{count} videos{who}"
