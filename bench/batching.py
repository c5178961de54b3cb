"""What every engine needs: the protocol, batches that fail in halves, encoding, jobs by stage.

An engine takes jobs and yields results; only the driver writes to the run folder. A job that fails
is tried in halves down to single videos, so that one bad sample, or too large a batch for the GPU's
memory, costs itself and nothing else.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.axes import Settings
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators import Generator, Remarked
from bench.provenance import environment
from bench.sweep import Job, Task
from media.errors import UserError
from stdrc.memory import release_memory

log = logging.getLogger("stdrc.bench")
HEARTBEAT = 0.2  # seconds without a result before an engine yields None


@dataclass(frozen=True)
class Result:
    """What became of one video: an MP4's bytes, or why there is none.

    Attributes:
        error: in one line; `trace` is all that is known of it.
        environment: what made it: packages, device, commit.
    """

    key: str
    data: bytes | None
    error: str = ""
    seconds: float = 0.0
    remark: str = ""
    trace: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ahead:
    """Videos that something is to be made for first; see `Generator.prepare`."""

    tasks: Sequence[tuple[Sample, Settings]]


class BrokenWorkerError(RuntimeError):
    """What generates is in a state that fails whatever comes next, such as a GPU after a fault."""


class Engine(Protocol):
    """Runs jobs somewhere; what it has loaded stays until `close`.

    Attributes:
        claim: asked before a job is begun; a job it refuses is somebody else's.
        say: how it tells the user something.
    """

    name: str
    claim: Callable[[Job], bool]
    say: Callable[[str], None]

    def prepare(self, ahead: Ahead) -> None:
        """Have one worker make what all of them need, before any is given a job."""
        ...

    def run(self, jobs: Iterable[Job]) -> Iterator[Result | None]:
        """Results as they come, in any order; None now and then, so that the driver can do other
        work. Closing the iterator gives up the batches at work."""
        ...

    def stop(self) -> None:
        """Begin no other job; `run` ends with those at work."""
        ...

    def working(self) -> list[tuple[str, Task, float]]:
        """(worker, first video, seconds so far) of each job at work."""
        ...

    def close(self) -> None:
        """End the workers, whatever they are at."""
        ...


def unclaimed(job: Job) -> bool:
    """The `claim` of an engine that shares its work with nobody."""
    return True


class Batcher:
    """Generates jobs, in halves where a whole one fails; remembers how many fit into memory."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.limit: int | None = None  # videos per batch, after memory ran out

    def videos(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any, Result | None, float]]:
        """(task, frames or path, failure, seconds) of each task.

        Raises:
            BrokenWorkerError: after an error that the next video would meet too.
        """
        if self.limit and len(tasks) > self.limit:
            for start in range(0, len(tasks), self.limit):
                yield from self.videos(tasks[start : start + self.limit])
            return
        started = time.perf_counter()
        try:
            made = self._generate(tasks)
        except Exception as error:  # anything a model may raise fails its samples, not the sweep
            full = out_of_memory(error)
            reason, trace = describe(error), "".join(traceback.format_exception(error))
            if not full and sticky(error):
                raise BrokenWorkerError(reason) from error
            del error  # its traceback holds the tensors that filled the memory
            if full:
                release_memory()
            if len(tasks) == 1:
                log.warning("%s: %s", tasks[0].sample.id, reason)
                yield tasks[0], None, Result(tasks[0].key, None, reason, trace=trace), 0.0
                return
            half = (len(tasks) + 1) // 2
            if full:
                self.limit = half
                log.warning("out of memory with %d videos per batch; now %d", len(tasks), half)
            for part in (tasks[:half], tasks[half:]):
                yield from self.videos(part)
            return
        each = (time.perf_counter() - started) / len(tasks)
        for task, video in zip(tasks, made):
            yield task, video, None, each

    def _generate(self, tasks: Sequence[Task]) -> list[Any]:
        name = self.generator.name
        returned = self.generator.generate([t.sample for t in tasks], tasks[0].settings)
        if isinstance(returned, str | bytes | Mapping) or not hasattr(returned, "__iter__"):
            raise BenchError(
                f"The generator {name} returned {_kind(returned)} for {len(tasks)} samples; "
                "it returns a list with a video for each."
            )
        made = list(returned)
        if len(made) != len(tasks):
            raise BenchError(
                f"The generator {name} returned {len(made)} videos for {len(tasks)} samples."
            )
        return made


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def encode(task: Task, video: Any, seconds: float, crf: int) -> Result:
    """A generated video as a result: its file's bytes, or why it is not a video."""
    from media.writing import encode_video

    video, remark = (video.video, video.remark) if isinstance(video, Remarked) else (video, "")
    try:
        if isinstance(video, str | Path):
            data = checked_file(Path(video))
        elif hasattr(video, "shape") or isinstance(video, list | tuple):
            data = encode_video(video, task.fps, crf)
        else:
            raise BenchError(
                f"The generator returned {_kind(video)} as a video; it is frames [T, H, W, 3], "
                "uint8 or float in 0..1, or the path of an MP4."
            )
    except Exception as error:  # whatever a model returned in place of a video, it fails alone
        if isinstance(error, OSError) and error.errno == 28:  # no space: not this video's fault
            raise
        trace = "".join(traceback.format_exception(error))
        return Result(task.key, None, describe(error), trace=trace)
    return Result(task.key, data, "", seconds, remark, environment=environment())


def checked_file(path: Path) -> bytes:
    """A finished video's bytes.

    Raises:
        UnreadableFileError: if it cannot be read as a video.
    """
    from media.video import VideoReader

    VideoReader(path)
    return path.read_bytes()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, a GPU's or this machine's, was full."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in str(error).lower()
    )


def sticky(error: BaseException) -> bool:
    """Whether a GPU fails whatever its process asks of it after this error."""
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
    )


def describe(error: BaseException) -> str:
    """An error as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else "no message"
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


class Stages:
    """Jobs in order, handed out so that a worker stays with the stage (checkpoint) it has."""

    def __init__(self, jobs: Iterable[Job], claim: Callable[[Job], bool] = unclaimed) -> None:
        self.claim = claim
        self._ours: set[tuple[str, ...]] = set()  # given back, so claimed before
        self.waiting: dict[str, deque[Job]] = {}
        for job in jobs:
            self.waiting.setdefault(job.stage, deque()).append(job)

    def __bool__(self) -> bool:
        return any(self.waiting.values())

    def take(self, loaded: str | None, busy: Iterable[str] = ()) -> Job | None:
        """The next job for a worker with `loaded`: of its own stage, else of the fullest one that
        no other worker is busy with, else of the fullest."""
        while left := {stage: jobs for stage, jobs in self.waiting.items() if jobs}:
            if loaded not in left:
                free = [s for s in left if s not in set(busy)] or list(left)
                loaded = max(free, key=lambda s: len(left[s]))
            job = left[loaded].popleft()
            if _keys(job) in self._ours or self.claim(job):
                return job
        return None

    def give_back(self, job: Job) -> None:
        """A lost worker's job, to be the next of its stage."""
        self._ours.add(_keys(job))
        self.waiting.setdefault(job.stage, deque()).appendleft(job)

    def clear(self) -> None:
        """Hand out no more."""
        self.waiting.clear()


def _keys(job: Job) -> tuple[str, ...]:
    return tuple(task.key for task in job.tasks)
