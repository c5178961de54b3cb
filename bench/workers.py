"""Jobs on workers that may be lost, hang, or come late: what the engines with workers share.

A worker is a process with a generator of its own, here (`bench.process_engine`) or on a cluster
(`bench.ray_engine`). It gets work once it has answered. A job whose worker is lost, or takes
longer than its time, is given back in halves until the video that does it is alone; that one is
tried again, and then failed.
"""

from __future__ import annotations

import logging
import statistics
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from bench import config as cfg
from bench.batching import HEARTBEAT, Ahead, Result, Stages, unclaimed
from bench.errors import BenchError
from bench.sweep import Job, Task
from media.wording import duration

log = logging.getLogger("stdrc.bench")
AHEAD = 2  # jobs a worker holds: the one at work, and the next, so that it never waits
TIMES_MEDIAN = 10.0  # how long a video may take where no time is given, in medians so far
AT_LEAST = 60.0  # seconds that a video has in any case, where no time is given
AT_FIRST = 3600.0  # seconds that a video has where none was made yet
HUNG_TRIES = 2


class Held:
    """A job in a worker's hands, and those of its videos that have not come yet."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.left: dict[str, Task] = {task.key: task for task in job.tasks}


@dataclass
class Worker:
    """Where a generator lives.

    Attributes:
        handle: what the engine knows it by.
        ready: it has answered; before, it gets no work.
        begun: the job that it said it has begun; where it says nothing, the first it holds.
        since: when that was.
        fresh: it has made nothing yet, so that its first job loads weights too.
    """

    name: str
    handle: Any
    ready: bool = False
    held: deque[Held] = field(default_factory=deque)
    begun: Held | None = None
    since: float = 0.0
    fresh: bool = True
    stage: str | None = None

    @property
    def at(self) -> Held:
        """The job at work."""
        return self.begun if self.begun is not None else self.held[0]


@dataclass(frozen=True)
class Ready:
    """A worker has answered."""


@dataclass(frozen=True)
class Prepared:
    """A worker has made what all of them need."""


@dataclass(frozen=True)
class Began:
    """A worker has begun the job with this video; those before it are being encoded."""

    key: str


@dataclass(frozen=True)
class Lost:
    """A worker is gone; `fatal` is the text of an error that any other would meet too."""

    reason: str = ""
    fatal: str = ""


Event = Ready | Prepared | Began | Lost | Result


class WorkerEngine(ABC):
    """The loop around workers; an engine says how one is made, heard, given work and ended."""

    name = ""

    def __init__(self, bench: cfg.BenchConfig) -> None:
        self.bench, self.config = bench, bench.engine
        self.claim: Callable[[Job], bool] = unclaimed
        self.say: Callable[[str], None] = log.warning
        self.workers: list[Worker] = []
        self.waiting = Stages(())
        self._stopping = False
        self._ahead: Ahead | None = None  # what is to be prepared before any job
        self._preparing: tuple[Worker | None, int] = (None, 0)  # who does, and how many were lost
        self._lost: dict[str, list[str]] = {}  # video -> why its worker was lost, alone with it
        self._hung: dict[str, int] = {}
        self._unborn = 0  # workers lost in a row before they answered
        self._each: deque[float] = deque(maxlen=101)  # seconds per pass of the last videos
        self._first = 0.0  # seconds of the slowest first video of a worker

    # What an engine is made of -------------------------------------------------------------------

    @abstractmethod
    def _grow(self) -> None:
        """Make the workers that are missing; say it where some find no place."""

    @abstractmethod
    def _give(self, worker: Worker, job: Job | Ahead) -> None:
        """Hand a job, or what is to be prepared, to a worker that has answered."""

    @abstractmethod
    def _events(self, timeout: float) -> list[tuple[Worker, Event]]:
        """What workers have said; waits for the first word."""

    @abstractmethod
    def _kill(self, worker: Worker) -> None:
        """End a worker at once; it may be gone already."""

    # The protocol --------------------------------------------------------------------------------

    def prepare(self, ahead: Ahead) -> None:
        self._ahead, self._preparing = ahead, (None, 0)

    def run(self, jobs: Iterable[Job]) -> Iterator[Result | None]:
        self.waiting, self._stopping = Stages(jobs, self.claim), False
        done = False
        try:
            while self.waiting or any(worker.held for worker in self.workers):
                self._grow()
                self._feed()
                events = self._events(HEARTBEAT)
                for worker, event in events:
                    yield from self._hear(worker, event)
                if not events:  # whatever was said is heard: what is late now is late
                    yield from self._end_the_hung()
                    yield None
            done = True
        finally:
            if self._stopping or not done:
                self.close()

    def stop(self) -> None:
        self._stopping = True
        self.waiting.clear()
        for worker in self.workers:
            while len(worker.held) > 1:
                worker.held.pop()

    def working(self) -> list[tuple[str, Task, float]]:
        now = time.monotonic()
        return [
            (worker.name, next(iter(worker.at.left.values())), now - worker.since)
            for worker in self.workers
            if worker.held
        ]

    def close(self) -> None:
        for worker in self.workers:
            self._kill(worker)
        self.workers = []

    # The loop ------------------------------------------------------------------------------------

    def _feed(self) -> None:
        ready = [worker for worker in self.workers if worker.ready]
        if self._ahead is not None:
            at, lost = self._preparing
            if at is None and ready:
                self._preparing = ready[0], lost
                self._give(ready[0], self._ahead)
            return
        for depth in range(1, AHEAD + 1):  # everybody gets a first job before anybody a second
            for worker in ready:
                if len(worker.held) >= depth or (depth > 1 and worker.fresh):
                    continue
                busy = [w.stage for w in ready if w is not worker and w.stage is not None]
                job = self.waiting.take(worker.stage, busy)
                if job is None:
                    return
                worker.stage = job.stage
                if not worker.held:
                    worker.since = time.monotonic()
                worker.held.append(Held(job))
                self._give(worker, job)

    def _hear(self, worker: Worker, event: Event) -> Iterator[Result]:
        if worker not in self.workers:
            return  # what a worker said before it was given up
        if isinstance(event, Ready):
            worker.ready, self._unborn = True, 0
        elif isinstance(event, Prepared):
            self._ahead = None
        elif isinstance(event, Began):
            worker.begun = next((held for held in worker.held if event.key in held.left), None)
            worker.since = time.monotonic()
        elif isinstance(event, Lost):
            self._kill(worker)
            if event.fatal:
                raise BenchError(f"The generator cannot be made: {event.fatal}")
            log.warning("%s was lost (%s)", worker.name, event.reason or "no reason given")
            at, lost = self._preparing
            if self._ahead is not None and worker is at:
                self._preparing = None, lost + 1
                if lost == self.config.retries:
                    raise BenchError(
                        f"{lost + 1} workers were lost at what is prepared for all of them "
                        f"({event.reason or 'no reason given'}); the log may say why."
                    )
            if not worker.ready:
                self._unborn += 1
                if self._unborn > self.config.retries:
                    raise BenchError(
                        f"{self._unborn} workers in a row ended before they could begin "
                        f"({event.reason or 'no reason given'}); the log of {self.name} may say "
                        "why."
                    )
            yield from self._lose(worker, event.reason)
        else:
            yield from self._take(worker, event)

    def _take(self, worker: Worker, result: Result) -> Iterator[Result]:
        held = next((held for held in worker.held if result.key in held.left), None)
        if held is None:
            return  # of a job that was let go of
        del held.left[result.key]
        if result.data is not None:
            passed = time.monotonic() - worker.since
            if worker.fresh:
                self._first = max(self._first, passed)
            else:
                self._each.append(max(result.seconds, 1e-3) / max(held.job.passes, 1))
            worker.fresh = False
        if not held.left:
            worker.held.remove(held)
            if worker.begun in (held, None):
                worker.begun, worker.since = None, time.monotonic()
        yield result

    def _limit(self, worker: Worker) -> float:
        """Seconds that a worker's job may take."""
        job = worker.at.job
        if self.config.timeout_s is not None:
            return self.config.timeout_s * len(job.tasks)
        if not self._each:
            return AT_FIRST
        each = statistics.median(self._each) * max(job.passes, 1)
        least = max(AT_LEAST, TIMES_MEDIAN * each * len(job.tasks))
        return least + (3 * self._first if worker.fresh else 0.0)

    def _end_the_hung(self) -> Iterator[Result]:
        now = time.monotonic()
        for worker in [worker for worker in self.workers if worker.held]:
            passed, limit = now - worker.since, self._limit(worker)
            if passed <= limit:
                continue
            tasks = worker.at.job.tasks
            log.warning("%s hangs: %s for %s", worker.name, tasks[0].sample.id, duration(passed))
            self._kill(worker)
            if len(worker.at.left) == 1:
                (key,) = worker.at.left
                self._hung[key] = self._hung.get(key, 0) + 1
            yield from self._lose(worker, "", hung=limit)

    def _lose(self, worker: Worker, reason: str, hung: float | None = None) -> Iterator[Result]:
        """Give the jobs of a worker that is gone back, or up."""
        self.workers.remove(worker)
        if not worker.held:
            return
        first = worker.at
        for held in reversed(worker.held):
            if held is not first:  # who waits behind it, or is being encoded, isn't to blame
                self._again(replace(held.job, tasks=tuple(held.left.values())))
        tasks = tuple(first.left.values())
        if len(tasks) > 1:
            half = (len(tasks) + 1) // 2
            for part in (tasks[half:], tasks[:half]):
                self._again(replace(first.job, tasks=part))
            return
        key = tasks[0].key
        why = self._lost.setdefault(key, [])
        if hung is None:
            why.append(reason)
            if len(why) > self.config.retries:
                trace = "\n".join(f"its worker was lost: {text or 'no reason'}" for text in why)
                said = f" ({reason})" if reason else ""
                yield Result(
                    key,
                    None,
                    f"its worker was lost {len(why)} times{said}; see the log",
                    trace=trace,
                )
                return
        elif self._hung[key] >= HUNG_TRIES:
            text = f"hung: not done after {hung:g} s, in {self._hung[key]} tries"
            yield Result(key, None, text + "; engine.timeout_s gives it more time", trace=text)
            return
        self._again(replace(first.job, tasks=tasks))

    def _again(self, job: Job) -> None:
        if not self._stopping:
            self.waiting.give_back(job)
