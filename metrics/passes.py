"""One pass over many videos: a thread decodes ahead while features are computed here.

Frames of neighbouring videos of one size share a batch, what builds on other features alone waits
for the end of a video, and what was computed in an earlier run is taken from the cache. Whatever
goes wrong with one video or one feature stays with it, in words.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from media.errors import UserError
from media.video import CHUNK_BYTES, VideoInfo, VideoReader, video_sha256
from metrics.errors import MetricsError
from metrics.features.base import ClipFeature, Feature, Indices, exact_float32
from metrics.features.models import Models
from metrics.frames import Frames
from metrics.metric import Result, StreamedMetric
from metrics.scores import UNEXPECTED, VideoItem

log = logging.getLogger(__name__)

ASSUMED_FPS = 8.0
"""Of a video without a frame rate, a folder of images: neighbouring frames are compared."""

_BATCH_FRAMES = 64
"""Most frames of several videos that share a batch; the first scores needn't wait for more."""

Piece = tuple["Job", Indices, Frames]


def words(error: Exception, what: str) -> str:
    """What a row says of an error; one that isn't the user's goes to the log as well."""
    if isinstance(error, UserError):
        return str(error)
    log.error("%s failed", what, exc_info=error)
    return f"{UNEXPECTED}{type(error).__name__}: {error}"


class Job:
    """A video on its way through the pass."""

    def __init__(self, item: VideoItem) -> None:
        self.item = item
        self.info = VideoInfo(0, 0.0, 0, 0)
        self.sha256 = ""
        self.error = ""
        self.values: dict[str, dict[int, Any]] = {}  # feature -> frame -> value
        self.wanted: dict[str, set[int]] = {}  # feature -> frames still to be computed
        self.clips: dict[str, torch.Tensor] = {}  # feature of the clip -> vector
        self.clips_wanted: list[ClipFeature] = []
        self.feature_errors: dict[str, str] = {}
        self.states: dict[str, StreamedMetric] = {}  # metric -> its state
        self.streamed: dict[str, Result] = {}
        self.stream_errors: dict[str, str] = {}
        self.fresh: set[str] = set()  # features computed now, to be written to the cache

    def get(self, feature: str, indices: Indices) -> list[Any]:
        """A feature at these frames; of the clip, its one vector.

        Raises:
            MetricsError: it couldn't be computed.
        """
        if feature in self.feature_errors:
            raise MetricsError(self.feature_errors[feature])
        if feature in self.clips:
            return [self.clips[feature]]
        values = self.values[feature]
        return [values[i] for i in indices.tolist()]


class Pass:
    """Computes what metrics want of videos.

    Args:
        models: what the features are computed with.
        metrics: by name.
        wants: whether a metric is to be computed of an item.
        batch_videos: let frames of neighbouring videos share a batch.
    """

    def __init__(
        self,
        models: Models,
        metrics: Mapping[str, Any],
        wants: Callable[[str, VideoItem], bool],
        batch_videos: bool,
    ) -> None:
        self.models, self.metrics = models, metrics
        self.wants, self.batch_videos = wants, batch_videos

    def jobs(self, items: Iterable[VideoItem]) -> Iterator[Job]:
        """Every video's job, in order, once it is complete."""
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
                    job = Job(item)
                    try:
                        for entry in self._decode(job):
                            if not put(entry):
                                return
                    except UserError as error:
                        job.error = str(error)
                    except Exception as error:
                        job.error = f"{item.video} can't be read: {words(error, str(item.video))}"
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

    def _decode(self, job: Job) -> Iterator[Piece]:
        reader = VideoReader(job.item.video)
        job.info = reader.info
        if self.models.cache is not None:
            job.sha256 = video_sha256(job.item.video)
        indices, every = self._plan(job)
        if every:
            yield from ((job, part, frames) for part, frames in reader.stream())
        elif len(indices):
            yield from ((job, part, frames) for part, frames in reader.stream(indices))

    def _plan(self, job: Job) -> tuple[Indices, bool]:
        """Set what a job has to compute; returns the frames for features and whether to stream."""
        wanted: dict[str, set[int]] = {}
        for name, metric in self.metrics.items():
            if not self.wants(name, job.item):
                continue
            if isinstance(metric, StreamedMetric):
                cached = self.models.load(job.sha256, f"stream.{name}", metric.version)
                if "value" in cached:
                    value = float(cached["value"])
                    job.streamed[name] = Result(value, {"frames": job.info.count})
                else:
                    job.states[name] = metric.clone()
            frames = set(metric.indices(job.info.count).tolist()) if metric.features else set()
            for feature in metric.features:
                found = self.models.feature(feature)
                if isinstance(found, ClipFeature):
                    self._plan_clip(job, found, wanted)
                    continue
                for required in self.models.chain([feature]):
                    wanted.setdefault(required.name, set()).update(frames)
        for name, frames in wanted.items():
            feature = self.models.feature(name)
            tensors = self.models.load(job.sha256, name, feature.version)
            known: dict[int, Any] = {}
            if tensors:
                stored = tensors.pop("frames").tolist()
                known = dict(zip(stored, feature.unpack(tensors), strict=True))
            job.values[name] = known
            job.wanted[name] = frames - known.keys()
        # A feature computed now needs what it requires at the same frames, even if cached.
        shown = [frames for name, frames in job.wanted.items() if not self._late(name)]
        todo = sorted(set().union(*shown))
        return np.array(todo, dtype=np.int64), bool(job.states)

    def _late(self, name: str) -> bool:
        return getattr(self.models.feature(name), "late", False)

    def _plan_clip(self, job: Job, feature: ClipFeature, wanted: dict[str, set[int]]) -> None:
        if feature.name in job.clips or feature in job.clips_wanted:
            return
        stored = self.models.load(job.sha256, feature.name, feature.version)
        if stored:
            job.clips[feature.name] = stored["vector"]
            return
        job.clips_wanted.append(feature)
        frames = feature.indices(job.info.count).tolist()
        wanted.setdefault("pixels", set()).update(frames)

    def _consume(self, ready: queue.Queue[Any]) -> Iterator[Job]:
        batch: list[Piece] = []
        complete: list[Job] = []

        def done() -> Iterator[Job]:
            self._flush(batch)
            batch.clear()
            self._of_whole_videos([job for job in complete if not job.error])
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

    def _finish(self, job: Job) -> Job:
        if job.error:
            return job
        for name, state in job.states.items():
            if name not in job.stream_errors:
                try:
                    job.streamed[name] = state.result(job.info.count)
                except Exception as error:
                    job.stream_errors[name] = words(error, f"{name} of {job.item.key}")
        for feature in job.clips_wanted:
            try:
                frames = np.stack(job.get("pixels", feature.indices(job.info.count)))
                with exact_float32():
                    job.clips[feature.name] = feature.encode(frames)
            except Exception as error:
                job.feature_errors[feature.name] = words(error, f"{feature.name} of {job.item.key}")
        self._store(job)
        return job

    def _store(self, job: Job) -> None:
        if self.models.cache is None:
            return
        for name in job.fresh:
            feature = self.models.feature(name)
            if not getattr(feature, "cached", True):
                continue
            frames = sorted(job.values[name])
            tensors = feature.pack([job.values[name][i] for i in frames])
            tensors["frames"] = torch.tensor(frames)
            self.models.store(job.sha256, name, feature.version, tensors)
        for clip in job.clips_wanted:
            if clip.name in job.clips:
                vector = {"vector": job.clips[clip.name]}
                self.models.store(job.sha256, clip.name, clip.version, vector)
        for name in job.states:
            if name in job.streamed:
                value = torch.tensor(job.streamed[name].value, dtype=torch.float64)
                version = self.metrics[name].version
                self.models.store(job.sha256, f"stream.{name}", version, {"value": value})

    def _flush(self, batch: list[Piece]) -> None:
        """Show streaming metrics their frames, then compute features over the whole batch."""
        for job, indices, frames in batch:
            for name, state in job.states.items():
                if name not in job.stream_errors:
                    try:
                        fps = {"fps": job.info.fps or ASSUMED_FPS} if state.needs_fps else {}
                        state.update(frames, start=int(indices[0]) == 0, **fps)
                    except Exception as error:
                        job.stream_errors[name] = words(error, f"{name} of {job.item.key}")
        self._features(batch, late=False)

    def _of_whole_videos(self, jobs: list[Job]) -> None:
        unread = np.zeros((0, 0, 0, 3), dtype=np.uint8)
        wanted = [sorted(set().union(*job.wanted.values())) for job in jobs]
        pieces = [(j, np.array(w, dtype=np.int64), unread) for j, w in zip(jobs, wanted)]
        self._features(pieces, late=True)

    def _features(self, batch: list[Piece], *, late: bool) -> None:
        """Compute those features over the batch that look at frames, or the ``late`` others."""
        names = {name for job, _, _ in batch for name, todo in job.wanted.items() if todo}
        for feature in self.models.chain(names):
            if self._late(feature.name) is not late:
                continue
            parts = []
            for job, indices, frames in batch:
                todo = job.wanted.get(feature.name, set())
                rows = [k for k, i in enumerate(indices.tolist()) if i in todo]
                if rows and not _blocked(job, feature):
                    picked = frames if late or len(rows) == len(frames) else frames[rows]
                    parts.append((job, indices[rows], picked))
            if parts:
                self._attempt(feature, parts)

    def _attempt(self, feature: Feature, parts: list[Piece]) -> None:
        try:
            _compute(feature, parts)
        except Exception as error:
            if len(parts) > 1:
                for part in parts:  # one bad video must not spoil its neighbours
                    self._attempt(feature, [part])
                return
            job = parts[0][0]
            job.feature_errors[feature.name] = words(error, f"{feature.name} of {job.item.key}")


def _blocked(job: Job, feature: Feature) -> bool:
    for name in (feature.name, *feature.requires):
        if name in job.feature_errors:
            job.feature_errors[feature.name] = job.feature_errors[name]
            return True
    return False


@exact_float32()
def _compute(feature: Feature, parts: list[Piece]) -> None:
    frames = parts[0][2] if len(parts) == 1 else np.concatenate([p[2] for p in parts])
    given = {
        name: [job.values[name][i] for job, indices, _ in parts for i in indices.tolist()]
        for name in feature.requires
    }
    values = iter(feature.compute(frames, given))
    for job, indices, _ in parts:
        job.values[feature.name].update((i, next(values)) for i in indices.tolist())
        job.wanted[feature.name] -= set(indices.tolist())
        job.fresh.add(feature.name)
