"""All metrics of many videos in one pass: one decode, one detection, one embedding a backend.

`MetricSuite` works out which frames and features its metrics need. A thread decodes ahead while
the models run; frames of neighbouring videos of one size share a batch; features can be kept on
disk by the video's hash. Scores come out as each video finishes, set-level scores at the end.
Whatever goes wrong with one video or one metric becomes that row's status and reason, and the run
goes on. Memory holds a few chunks of frames and doesn't grow with a video's length.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from media.errors import UserError
from media.images import read_image
from media.video import CHUNK_BYTES, VideoInfo, VideoReader, video_sha256
from metrics.columns import Column, Result, SetColumn, StreamState, build_feature
from metrics.errors import MetricsError
from metrics.faces import load_face_backend
from metrics.faces.base import FaceBackend, Frames, pad_grey
from metrics.features import Feature, FeatureCache
from metrics.registry import METRICS, MetricInfo, availability, metric_info
from metrics.scores import Score, SetScore, VideoItem

__all__ = ["MetricSuite", "Score", "SetScore", "VideoItem"]

log = logging.getLogger(__name__)

Indices = NDArray[np.int64]

_BATCH_FRAMES = 64
"""Most frames of several videos that share a batch; the first scores needn't wait for more."""

_NEEDS = {
    "reference": "needs a reference image of the face, and none was given for this video",
    "prompt": "needs the prompt, and none was given for this video",
    "target": "needs a true video of the same person to compare with, and none was given",
}


def _words(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}"


class _Job:
    """A video on its way through the suite."""

    def __init__(self, item: VideoItem) -> None:
        self.item = item
        self.info = VideoInfo(0, 0.0, 0, 0)
        self.sha256 = ""
        self.error = ""
        self.values: dict[str, dict[int, Any]] = {}  # feature -> frame -> value
        self.wanted: dict[str, set[int]] = {}  # feature -> frames still to be computed
        self.feature_errors: dict[str, str] = {}
        self.states: dict[str, StreamState] = {}  # metric -> its state
        self.stream_values: dict[str, float] = {}
        self.stream_errors: dict[str, str] = {}
        self.fresh: set[str] = set()  # features computed now, to be written to the cache

    def get(self, feature: str, indices: Indices) -> list[Any]:
        if feature in self.feature_errors:
            raise MetricsError(self.feature_errors[feature])
        values = self.values[feature]
        return [values[i] for i in indices.tolist()]


class MetricSuite:
    """Runs metrics over videos.

    Args:
        metrics: names from the registry; by default every metric that can run here.
        device: where models run, "cpu" or "cuda".
        num_frames: frames that are sampled evenly from first to last for metrics that sample;
            protocols take their own.
        cache: a folder in which features are kept between runs, or None.
        weights: explicit places of weights, by their name in `metrics.weights.WEIGHTS`.
        real: true videos that set-level metrics compare with, where items have no targets.
        batch_videos: let frames of neighbouring small videos share a batch. It is faster on a GPU;
            without, a video's scores are the same to the last bit whatever is scored beside it.

    Raises:
        MetricsError: an unknown metric, a path in ``weights`` that isn't there, or a number of
            frames below 1.

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
    ) -> None:
        if num_frames < 1:
            raise MetricsError(f"num_frames is {num_frames}; sample at least one frame.")
        self.device = device
        self.num_frames = num_frames
        self.batch_videos = batch_videos
        self.weights: Mapping[str, str | Path] = dict(weights or {})
        self.real = tuple(Path(p) for p in real)
        self.absent: dict[str, str] = {}
        """Why each metric that was asked for can't run here, by name."""
        self._cache = FeatureCache(cache) if cache is not None else None
        self._features: dict[str, Feature] = {}
        self._models: dict[str, Any] = {}
        self._columns: dict[str, Column] = {}
        self._images: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._videos: OrderedDict[tuple[Any, ...], list[Any]] = OrderedDict()
        names = list(dict.fromkeys(metrics)) if metrics is not None else list(METRICS)
        for name in names:
            info = metric_info(name)
            reason, _ = availability(info, self.weights)
            if not reason:
                module, builder = info.build.split(":")
                try:
                    self._columns[name] = getattr(import_module(module), builder)(info, self)
                except UserError as error:
                    reason = str(error)
            if reason and metrics is not None:
                self.absent[name] = reason
        self.metrics: tuple[str, ...] = tuple(
            n for n in names if n in self._columns or n in self.absent
        )
        """Names of the metrics that are scored or reported as absent, in the order asked."""

    def version(self, name: str) -> str:
        """The version that a metric's scores carry; empty for an absent one."""
        return self._columns[name].version if name in self._columns else ""

    # --- features --------------------------------------------------------------------------

    def backend(self, name: str) -> FaceBackend:
        """The face backend of that name, loaded once."""
        return self.shared(
            f"faces.{name}", lambda: load_face_backend(name, self.device, self.weights)
        )

    def shared(self, key: str, load: Callable[[], Any]) -> Any:
        """A model that several columns use, loaded when it is first asked for."""
        if key not in self._models:
            self._models[key] = load()
        return self._models[key]

    def feature(self, name: str) -> str:
        """Make sure that a feature is computed; returns its version.

        Raises:
            MetricsError: weights that it needs aren't on this machine.
        """
        if name not in self._features:
            build_feature(self, name)
        return self._features[name].version

    def add_feature(self, feature: Feature) -> None:
        """Add a feature of a column's own; what it requires has to be there already."""
        self._features.setdefault(feature.name, feature)

    def _chain(self, names: Iterable[str]) -> list[Feature]:
        """Features and what they require, each after what it builds on."""
        order: dict[str, Feature] = {}

        def visit(name: str) -> None:
            for required in self._features[name].requires:
                visit(required)
            order.setdefault(name, self._features[name])

        for name in names:
            visit(name)
        return list(order.values())

    def _compute(self, names: Iterable[str], frames: Frames) -> dict[str, list[Any]]:
        values: dict[str, list[Any]] = {}
        for feature in self._chain(names):
            values[feature.name] = feature.compute(frames, values)
        return values

    def of_image(self, name: str, path: str | Path) -> Any:
        """A feature of an image. Where no face is found, it is looked for again in the image with
        a grey border of 25 %, since detectors miss faces that fill the picture.

        Raises:
            MetricsError: the image can't be read.
        """
        path = Path(path)
        try:
            stat = path.stat()
        except OSError as error:
            raise MetricsError(f"{path} can't be read ({error.strerror}).") from error
        key = (path.resolve(), stat.st_mtime_ns, stat.st_size)
        values = self._images.setdefault(key, {})
        if name not in values:
            frame = read_image(path)[None]
            for feature in self._chain([name]):
                if feature.name in values:
                    continue
                bordered = pad_grey(frame[0])[0][None] if self._bordered(feature, values) else frame
                found = feature.compute(bordered, {k: [v] for k, v in values.items()})[0]
                if feature.name.startswith("faces.") and len(found) == 0:
                    values[f"bordered.{feature.name}"] = True
                    found = feature.compute(pad_grey(frame[0])[0][None], {})[0]
                values[feature.name] = found
            if len(self._images) > 4096:
                self._images.popitem(last=False)
        return values[name]

    def needed_border(self, name: str, path: str | Path) -> bool:
        """Whether the faces of an image were only found with a border: they fill the picture."""
        self.of_image(name, path)
        path = Path(path)
        stat = path.stat()
        return f"bordered.{name}" in self._images[(path.resolve(), stat.st_mtime_ns, stat.st_size)]

    def _bordered(self, feature: Feature, values: Mapping[str, Any]) -> bool:
        """Whether a feature stands on faces that were found in the image with a border."""
        return any(f"bordered.{name}" in values for name in feature.requires)

    def of_video(self, name: str, path: str | Path, indices: Indices | None = None) -> list[Any]:
        """A feature of frames of a video that isn't scored itself, such as a target.

        Raises:
            MetricsError: the video can't be read.
        """
        path = Path(path)
        reader = VideoReader(path)
        if indices is None:
            indices = np.unique(np.linspace(0, len(reader) - 1, self.num_frames).astype(int))
        stat = path.stat()
        key = (name, path, stat.st_mtime_ns, stat.st_size, indices.tobytes())
        if key not in self._videos:
            values: list[Any] = []
            for _, frames in reader.stream(indices):
                values += self._compute([name], frames)[name]
            self._videos[key] = values
            if len(self._videos) > 256:
                self._videos.popitem(last=False)
        return self._videos[key]

    # --- scoring ---------------------------------------------------------------------------

    def stream(self, items: Iterable[VideoItem]) -> Iterator[Score | SetScore]:
        """Score videos: every metric of a video as it finishes, then set-level metrics by group.

        Args:
            items: the videos, in the order in which their scores are to come.

        Yields:
            :class:`Score` rows, grouped by video; then :class:`SetScore` rows.
        """
        sets = {n: c for n, c in self._columns.items() if isinstance(c, SetColumn)}
        groups: dict[str, dict[str, list[tuple[Any, Any]]]] = {}
        failures: dict[str, dict[str, int]] = {}
        for job in self._jobs(items):
            group = groups.setdefault(job.item.group, {n: [] for n in sets})
            for name in self.metrics:
                info = metric_info(name)
                if name in sets:
                    try:
                        self._check(info, job)
                        group[name].append((sets[name].collect(job), sets[name].real(job)))
                    except Exception as error:
                        self._log(error, name, job.item.key)
                        count = failures.setdefault(job.item.group, {})
                        count[name] = count.get(name, 0) + 1
                elif info.level == "set":
                    continue
                else:
                    yield self._score(name, info, job)
        for label, rows in groups.items():
            for name in self.metrics:
                info = metric_info(name)
                if info.level == "set":
                    failed = failures.get(label, {}).get(name, 0)
                    yield self._set_score(name, info, label, rows.get(name, []), failed)

    def score(self, items: Iterable[VideoItem]) -> list[Score | SetScore]:
        """All of `stream` as a list."""
        return list(self.stream(items))

    def _log(self, error: Exception, name: str, key: str) -> None:
        if not isinstance(error, UserError):
            log.error("%s of %s failed", name, key, exc_info=error)

    def _check(self, info: MetricInfo, job: _Job) -> None:
        if job.error:
            raise MetricsError(job.error)
        given = {
            "reference": bool(job.item.references),
            "prompt": bool(job.item.prompt),
            "target": job.item.target is not None or (info.level == "set" and bool(self.real)),
        }
        for need in info.needs:
            if not given[need]:
                raise MetricsError(_NEEDS[need])

    def _score(self, name: str, info: MetricInfo, job: _Job) -> Score:
        def row(
            version: str, value: float | None, status: str, reason: str, **detail: Any
        ) -> Score:
            return Score(
                job.item.key,
                job.item.group,
                name,
                info.backend,
                version,
                value,
                status,
                reason,
                detail,
            )

        if name in self.absent:
            return row("", None, "absent", self.absent[name])
        column = self._columns[name]
        try:
            self._check(info, job)
            if name in job.stream_errors:
                raise MetricsError(job.stream_errors[name])
            if name in job.stream_values:
                result = Result(job.stream_values[name], {"frames": job.info.count})
            else:
                result = column.score(job)
        except Exception as error:  # whatever it is, it is this row's and the run goes on
            self._log(error, name, job.item.key)
            return row(column.version, None, "failed", _words(error))
        if result.value is None or not math.isfinite(result.value):
            reason = result.reason or f"came out as {result.value}, which is no number"
            return row(column.version, None, "failed", reason, **result.detail)
        reason = "; ".join(filter(None, (result.reason, *job.info.remarks)))
        return row(column.version, float(result.value), "ok", reason, **result.detail)

    def _set_score(
        self, name: str, info: MetricInfo, group: str, rows: list[tuple[Any, Any]], failed: int
    ) -> SetScore:
        def out(version: str, values: tuple[float | None, ...], status: str, why: str) -> SetScore:
            value, low, high = values
            return SetScore(
                group, name, info.backend, version, value, low, high, len(rows), status, why
            )

        nothing = (None, None, None)
        if name in self.absent:
            return out("", nothing, "absent", self.absent[name])
        column = self._columns[name]
        assert isinstance(column, SetColumn)
        left_out = f"{failed} video(s) couldn't be used" if failed else ""
        if not rows:
            return out(column.version, nothing, "failed", left_out or "the group has no videos")
        try:
            made = [r[0] for r in rows]
            real = [r[1] for r in rows if r[1] is not None]
            values = column.finish(made, real or self._real_rows(column))
        except Exception as error:
            self._log(error, name, group)
            return out(column.version, nothing, "failed", _words(error))
        if values[0] is None or not math.isfinite(values[0]):
            return out(column.version, nothing, "failed", f"came out as {values[0]}")
        return out(column.version, values, "ok", left_out)

    def _real_rows(self, column: SetColumn) -> list[Any]:
        return [column.of_path(path) for path in self.real]

    # --- the pass over the videos ------------------------------------------------------------

    def _plan(self, job: _Job) -> tuple[Indices, bool]:
        """Set what a job has to compute; returns the frames for features and whether to stream."""
        wanted: dict[str, set[int]] = {}
        for name, column in self._columns.items():
            try:
                self._check(column.info, job)
            except UserError:
                continue  # said again, in words, when the row is written
            indices = set(column.indices(job.info.count).tolist())
            for feature in self._chain(column.features):
                wanted.setdefault(feature.name, set()).update(indices)
            if (state := column.start(job)) is not None:
                cached = self._load(job, f"stream.{name}", column.version)
                if "value" in cached:
                    job.stream_values[name] = float(cached["value"])
                else:
                    job.states[name] = state
        for name, indices in wanted.items():
            feature = self._features[name]
            tensors = self._load(job, name, feature.version)
            known: dict[int, Any] = {}
            if tensors:
                frames = tensors.pop("frames").tolist()
                known = dict(zip(frames, feature.unpack(tensors), strict=True))
            job.values[name] = known
            job.wanted[name] = indices - known.keys()
        # A feature computed now needs what it requires at the same frames, even if cached.
        todo = sorted(set().union(*job.wanted.values())) if job.wanted else []
        return np.array(todo, dtype=np.int64), bool(job.states)

    def _load(self, job: _Job, name: str, version: str) -> dict[str, Tensor]:
        return self._cache.load(job.sha256, name, version) if self._cache else {}

    def _store(self, job: _Job) -> None:
        if self._cache is None or job.error:
            return
        import torch

        for name in job.fresh:
            feature = self._features[name]
            if not getattr(feature, "cached", True):
                continue
            frames = sorted(job.values[name])
            tensors = feature.pack([job.values[name][i] for i in frames])
            tensors["frames"] = torch.tensor(frames)
            self._cache.store(job.sha256, name, feature.version, tensors)
        for name in job.states:
            if name in job.stream_values:
                value = torch.tensor(job.stream_values[name], dtype=torch.float64)
                version = self._columns[name].version
                self._cache.store(job.sha256, f"stream.{name}", version, {"value": value})

    def _jobs(self, items: Iterable[VideoItem]) -> Iterator[_Job]:
        """Decode in a thread and compute features here; yields each job once it is complete."""
        ready: queue.Queue[Any] = queue.Queue(maxsize=2)
        stop = threading.Event()

        def put(entry: Any) -> bool:
            while not stop.is_set():
                try:
                    ready.put(entry, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def decode() -> None:
            try:
                for item in items:
                    job = _Job(item)
                    try:
                        for entry in self._decode(job):
                            if not put(entry):
                                return
                    except UserError as error:
                        job.error = str(error)
                    except Exception as error:
                        log.error("%s can't be read", item.video, exc_info=error)
                        job.error = f"{item.video} can't be read: {_words(error)}"
                    if not put((job, None, None)):
                        return
            except BaseException as error:  # of the caller's iterable: raised where it is consumed
                put(error)
            put(None)

        thread = threading.Thread(target=decode, name="metrics-decode", daemon=True)
        thread.start()
        try:
            yield from self._consume(ready)
        finally:
            stop.set()
            thread.join()

    def _decode(self, job: _Job) -> Iterator[tuple[_Job, Indices, Frames]]:
        reader = VideoReader(job.item.video)
        job.info = reader.info
        if self._cache is not None:
            job.sha256 = video_sha256(job.item.video)
        indices, every = self._plan(job)
        if every:
            for part, frames in reader.stream():
                yield job, part, frames
        elif len(indices):
            for part, frames in reader.stream(indices):
                yield job, part, frames

    def _consume(self, ready: queue.Queue[Any]) -> Iterator[_Job]:
        batch: list[tuple[_Job, Indices, Frames]] = []
        complete: list[_Job] = []

        def done() -> Iterator[_Job]:
            self._flush(batch)
            batch.clear()
            while complete:
                yield self._finish(complete.pop(0))

        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            job, indices, frames = entry
            if indices is None:
                complete.append(job)
                if not batch or not self.batch_videos:
                    yield from done()
                continue
            # What shares a batch depends on the frames alone, never on how fast they came.
            size = sum(len(f) for _, _, f in batch) + len(frames)
            room = size <= _BATCH_FRAMES and size * frames[0].nbytes <= CHUNK_BYTES
            if batch and not (room and batch[0][2].shape[1:] == frames.shape[1:]):
                yield from done()
            batch.append((job, indices, frames))
        yield from done()

    def _finish(self, job: _Job) -> _Job:
        for name, state in job.states.items():
            if name not in job.stream_errors and not job.error:
                try:
                    job.stream_values[name] = state.result()
                except Exception as error:
                    self._log(error, name, job.item.key)
                    job.stream_errors[name] = _words(error)
        self._store(job)
        return job

    def _flush(self, batch: list[tuple[_Job, Indices, Frames]]) -> None:
        """Show streaming metrics their frames, then compute features over the whole batch."""
        for job, _, frames in batch:
            for name, state in job.states.items():
                if name in job.stream_errors:
                    continue
                try:
                    state.update(frames)
                except Exception as error:
                    self._log(error, name, job.item.key)
                    job.stream_errors[name] = _words(error)
        names = {name for job, _, _ in batch for name, todo in job.wanted.items() if todo}
        for feature in self._chain(names):
            parts = []
            for job, indices, frames in batch:
                todo = job.wanted.get(feature.name, set())
                rows = [k for k, i in enumerate(indices.tolist()) if i in todo]
                if rows and not self._blocked(job, feature):
                    picked = frames if len(rows) == len(frames) else frames[rows]
                    parts.append((job, indices[rows].tolist(), picked))
            if not parts:
                continue
            try:
                self._run(feature, parts)
            except Exception as error:
                if len(parts) == 1:
                    self._failed(feature, parts[0][0], error)
                    continue
                for part in parts:  # one bad video must not spoil its neighbours
                    try:
                        self._run(feature, [part])
                    except Exception as alone:
                        self._failed(feature, part[0], alone)

    def _blocked(self, job: _Job, feature: Feature) -> bool:
        for name in (feature.name, *feature.requires):
            if name in job.feature_errors:
                job.feature_errors[feature.name] = job.feature_errors[name]
                return True
        return False

    def _failed(self, feature: Feature, job: _Job, error: Exception) -> None:
        self._log(error, feature.name, job.item.key)
        job.feature_errors[feature.name] = _words(error)

    def _run(self, feature: Feature, parts: list[tuple[_Job, list[int], Frames]]) -> None:
        frames = parts[0][2] if len(parts) == 1 else np.concatenate([p[2] for p in parts])
        given = {
            name: [job.values[name][i] for job, indices, _ in parts for i in indices]
            for name in feature.requires
        }
        values = feature.compute(frames, given)
        start = 0
        for job, indices, _ in parts:
            found = values[start : start + len(indices)]
            start += len(indices)
            job.values[feature.name].update(zip(indices, found, strict=True))
            job.wanted[feature.name] -= set(indices)
            job.fresh.add(feature.name)
