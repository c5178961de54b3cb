"""All metrics of many videos in one pass: one decode, one detection, one embedding per backend.

`MetricSuite` constructs each metric's class, works out which frames and features they need, and
hands each video's features to them. Scores come out as each video finishes, set-level scores at
the end. Whatever goes wrong with one video or one metric becomes that row's status and reason, and
the run goes on. Memory holds a few chunks of frames and doesn't grow with a video's length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from media.video import DECODER
from media.wording import counted
from metrics.catalogue import (
    availability,
    choose,
    lacking,
    load_plugins,
    make,
    metric_info,
    metric_names,
)
from metrics.errors import MetricsError
from metrics.facts import MetricInfo
from metrics.features.models import Models, PictureFile
from metrics.features.networks.engine import engine_version
from metrics.metric import Event, Result, Shown, StreamedMetric, Video, remarks
from metrics.passes import ASSUMED_FPS, Job, Pass, words
from metrics.scores import Score, SetScore, VideoItem
from metrics.sets import SetMetric, number_of

_NO_RATE = f"the video has no frame rate; neighbours were compared, as at {ASSUMED_FPS:g} a second"
_NEEDS = {
    "reference": "needs a reference image of the face, and none was given for this video",
    "prompt": "needs the prompt, and none was given for this video",
    "target": "needs a true video of the same person to compare with, and none was given",
    "timeline": "needs a timeline, and none was given for this video",
    "people": "needs references of several people, and this video has none or all are of one",
    "times": "needs a reference with a time, and none was given for this video",
}


class _Group:
    """A set-level metric of a group of videos, as they come in."""

    def __init__(self, metric: SetMetric) -> None:
        self.metric = metric.clone()
        self.metric.reset()
        self.videos = 0
        self.failed = 0
        self.unfit: Counter[str] = Counter()  # what videos lack that the metric needs
        self.targets: set[Path] = set()
        self.people: dict[int, str] = {}


class MetricSuite:
    """Runs metrics over videos.

    Args:
        metrics: names, patterns such as ``temporal.*``, families such as ``identity``, or presets
            such as ``opens2v``; by default every metric that can run here.
        device: where models run, "cpu" or "cuda".
        num_frames: frames that are sampled evenly from first to last for metrics that sample;
            protocols take their own.
        cache: a folder in which features are kept between runs, or None.
        weights: explicit places of weights, by their name in `metrics.weights.WEIGHTS`.
        real: true videos that set-level metrics compare with, where items have no targets.
        batch_videos: let frames of neighbouring small videos share a batch. It is faster on a GPU;
            without, a video's scores are the same to the last bit whatever is scored beside it.
        plugins: metrics of one's own to import first, ``module:Class`` each.
        engine: what runs IR-101 and Inception of the published protocols: "torch", "openvino" on a
            CPU, or "torch-float16", half precision for a card. The latter two move scores a little
            and are part of their version.

    Raises:
        UnknownNameError: an unknown metric.
        MetricsError: a path in ``weights`` that isn't there, a number of frames below 1, or an
            engine that isn't installed.

    Example:
        >>> suite = MetricSuite(["temporal.flicker"])
        >>> suite.absent
        {}
    """

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        device: str = "cpu",
        num_frames: int = 16,
        cache: str | Path | None = None,
        weights: Mapping[str, str | Path] | None = None,
        real: Sequence[str | Path] = (),
        batch_videos: bool = True,
        plugins: Sequence[str] = (),
        engine: str = "torch",
    ) -> None:
        if num_frames < 1:
            raise MetricsError(f"num_frames is {num_frames}; sample at least one frame.")
        engine_version(engine)  # refuses one that isn't here
        load_plugins(plugins)
        self.num_frames = num_frames
        self.models = Models(device, weights, cache, engine)
        self.real = tuple(Path(p) for p in real)
        self.absent: dict[str, str] = {}
        """Why each metric that was asked for can't run here, by name."""
        self.lacking = lacking(metrics or ())
        """Columns of the presets asked that no metric fills, and where they come from."""
        self._metrics: dict[str, Any] = {}
        self._infos: dict[str, MetricInfo] = {}
        names = choose(metrics) if metrics is not None else list(metric_names())
        for name in names:
            info = self._infos[name] = metric_info(name)
            reason, _ = availability(info, self.models.weights)
            if not reason:
                try:
                    self._metrics[name] = make(info, models=self.models, num_frames=num_frames)
                except MetricsError as error:
                    reason = str(error)
            if reason and metrics is not None:
                self.absent[name] = reason
        self.metrics: tuple[str, ...] = tuple(
            n for n in names if n in self._metrics or n in self.absent
        )
        """Names of the metrics that are scored or reported as absent, in the order asked."""
        self._pass = Pass(self.models, self._metrics, self._wants, batch_videos)
        self._real: dict[str, list[Tensor]] = {}

    def version(self, name: str) -> str:
        """The version that a metric's scores carry: its code, settings, weights and the decoder.

        With the hashes of the video and of the metric's ``inputs``, it is all that a value depends
        on. Empty for an absent metric.
        """
        return f"{self._metrics[name].version}+{DECODER}" if name in self._metrics else ""

    def stream(self, items: Iterable[VideoItem]) -> Iterator[Score | SetScore]:
        """Score videos: every metric of a video as it finishes, then set-level metrics by group.

        Args:
            items: the videos, in the order in which their scores are to come.

        Yields:
            :class:`Score` rows, grouped by video; then :class:`SetScore` rows.
        """
        sets = {n: m for n, m in self._metrics.items() if isinstance(m, SetMetric)}
        groups: dict[str, dict[str, _Group]] = {}
        for job in self._pass.jobs(items):
            group = groups.setdefault(job.item.group, {n: _Group(m) for n, m in sets.items()})
            for name in self.metrics:
                if name in sets:
                    self._collect(name, group[name], job)
                elif self._infos[name].level != "set":
                    yield self._score(name, job)
        for label, group in groups.items():
            for name in self.metrics:
                if self._infos[name].level == "set":
                    yield self._set_score(name, label, group.get(name))

    def score(self, items: Iterable[VideoItem]) -> list[Score | SetScore]:
        """All of `stream` as a list."""
        return list(self.stream(items))

    # --- one video ---------------------------------------------------------------------------

    def _lacks(self, name: str, item: VideoItem) -> str:
        """Which of what a metric needs an item comes without, or nothing."""
        info = self._infos[name]
        given = item.given
        given["target"] |= info.level == "set" and bool(self.real)
        return next((_NEEDS[need] for need in info.needs if not given[need]), "")

    def _wants(self, name: str, item: VideoItem) -> bool:
        return not self._lacks(name, item)

    def _video(self, name: str, job: Job) -> Video:
        """A job as one of the metrics sees it."""
        item, indices = job.item, self._metrics[name].indices
        return Video(
            job.info.count,
            indices(job.info.count),
            job.get,
            prompt=item.prompt,
            references=tuple(PictureFile(self.models, path) for path in item.references),
            target=None if item.target is None else self._other(item.target, indices, "target"),
            label=str(item.video),
            timeline=tuple(Event(*event) for event in item.timeline),
            shown=tuple(Shown(*one) for one in item.whom),
            fps=job.info.fps or 0.0,
        )

    def _other(self, path: Path, indices: Callable[[int], Any], what: str) -> Video:
        """A video that isn't scored itself."""

        def get(feature: str, _: Any) -> list[Any]:
            return self.models.of_video(feature, path, indices)

        return Video(0, np.zeros(0, dtype=np.int64), get, label=f"the {what} {path}")

    def _score(self, name: str, job: Job) -> Score:
        version = self.version(name)
        backend = self._infos[name].backend
        row = (job.item.key, job.item.group, name, backend, version)
        if name in self.absent:
            return Score(*row, None, "absent", self.absent[name])
        try:
            if not job.error and (reason := self._lacks(name, job.item)):
                return Score(*row, None, "inapplicable", reason)
            if reason := job.error or job.stream_errors.get(name, ""):
                return Score(*row, None, "failed", reason)
            metric = self._metrics[name]
            if isinstance(metric, StreamedMetric):
                result = job.streamed[name]
                if metric.needs_fps and not job.info.fps:
                    result = replace(result, reason=remarks(result.reason, _NO_RATE))
            else:
                found = metric.measure(self._video(name, job))
                result = found if isinstance(found, Result) else Result(float(found))
        except Exception as error:  # whatever it is, it is this row's and the run goes on
            return Score(*row, None, "failed", words(error, f"{name} of {job.item.key}"))
        if result.value is None or not math.isfinite(result.value):
            reason = result.reason or f"came out as {result.value}, which is not a number"
            return Score(*row, None, "failed", reason, dict(result.detail))
        reason = "; ".join(filter(None, (result.reason, *job.info.remarks)))
        return Score(*row, float(result.value), "ok", reason, dict(result.detail))

    # --- sets of videos ----------------------------------------------------------------------

    def _collect(self, name: str, group: _Group, job: Job) -> None:
        """Add a video to a set-level metric, and its target where it is a new one."""
        item, metric = job.item, group.metric
        try:
            if job.error:
                raise MetricsError(job.error)
            if reason := self._lacks(name, item):
                group.unfit[reason] += 1
                return
            video = self._video(name, job)
            made = metric.rows(video)
            real = metric.rows(video.target) if video.target is not None else None
            person = item.identity or None
            short = job.info.count < metric.asked()
            of = {"people": person, "target": item.target}
            metric.update(made, real=False, videos=f"made {item.key}", short=short, **of)
            group.videos += 1
            group.people[number_of(item.identity)] = item.identity
            if real is not None and item.target is not None and item.target not in group.targets:
                group.targets.add(item.target)
                metric.update(real, real=True, videos=f"real {item.target}", **of)
        except Exception as error:
            words(error, f"{name} of {item.key}")
            group.failed += 1

    def _set_score(self, name: str, label: str, group: _Group | None) -> SetScore:
        row = (label, name, self._infos[name].backend, self.version(name))
        if group is None:
            return SetScore(*row, None, None, None, 0, "absent", self.absent[name])
        said = [f"{counted(group.failed, 'video')} couldn't be used"] if group.failed else []
        said += [f"{counted(n, 'video')} left out: {reason}" for reason, n in group.unfit.items()]
        lost = "; ".join(said)
        if not group.videos:
            status = "inapplicable" if group.unfit and not group.failed else "failed"
            why = lost or "the group has no videos"
            return SetScore(*row, None, None, None, 0, status, why)
        try:
            if not group.targets:
                self._add_real(name, group.metric)
            found = group.metric.result()
        except Exception as error:
            why = words(error, f"{name} of {label or 'the videos'}")
            return SetScore(*row, None, None, None, group.videos, "failed", why)
        reason = "; ".join(part for part in (lost, found.remark) if part)
        influences = tuple(
            (tuple(group.people[person] for person in people), effect)
            for people, effect in found.influences
        )
        ends = found.value, found.low, found.high
        return SetScore(*row, *ends, group.videos, "ok", reason, influences)

    def _add_real(self, name: str, metric: SetMetric) -> None:
        if not self.real:
            raise MetricsError("needs true videos to compare with: targets, or a set of real ones")
        if name not in self._real:
            videos = (self._other(path, metric.indices, "real video") for path in self.real)
            self._real[name] = [metric.rows(video) for video in videos]
        for path, rows in zip(self.real, self._real[name], strict=True):
            metric.update(rows, real=True, videos=f"real {path}")
