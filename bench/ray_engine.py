"""The engine on Ray: one warm worker a GPU (or a few cores), lost workers replaced, driver writes.

Workers get the config, make their own generator, and send back finished files' bytes; the
evaluation set's files and the checkpoints must be readable under the same paths on every node.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench import config as cfg
from bench.batching import HEARTBEAT, Batcher, Result, Stages, encode
from bench.errors import BenchError
from bench.sweep import Job

log = logging.getLogger("stdrc.bench")
AHEAD = 2  # jobs a worker holds: the one at work, and the next, so that it never waits


@dataclass
class _Worker:
    actor: Any
    stage: str | None = None
    jobs: dict[Any, Job] = field(default_factory=dict)  # what Ray calls a result -> its job


class GeneratorActor:
    """What lives in a worker: a generator that stays loaded from job to job."""

    def __init__(self, bench: cfg.BenchConfig) -> None:
        self.generator = bench.generator.make()
        self.batcher = Batcher(self.generator)
        self.crf = bench.video.crf

    def run(self, job: Job) -> list[Result]:
        """Generate and encode a job."""
        return [
            Result(task.key, None, error) if error else encode(task, video, seconds, self.crf)
            for task, video, error, seconds in self.batcher.videos(job.tasks)
        ]

    def pid(self) -> int:
        """The worker's process, for logs and tests."""
        import os

        return os.getpid()


def _knock(address: str) -> None:
    """See whether somebody listens at host:port; Ray itself tries for five minutes.

    Raises:
        OSError: if nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


class RayEngine:
    """Jobs on the workers of a Ray cluster.

    Args:
        bench: the run; its `engine` section says how many workers, with what, and where.

    Raises:
        BenchError: if Ray is not installed, or there is no cluster at the address.
    """

    name = "ray"

    def __init__(self, bench: cfg.BenchConfig) -> None:
        try:
            import ray
        except ImportError:
            raise BenchError(
                "engine.kind: ray is not installed; pip install 'stdrc-bench[ray]', or use local."
            ) from None
        self.ray = ray
        self.bench = bench
        self.config = bench.engine
        self.workers: list[_Worker] = []

    def _start(self) -> bool:
        """Join or start a cluster; whether it is ours to stop."""
        if self.ray.is_initialized():
            return False
        try:
            if self.config.address:
                _knock(self.config.address)
                self.ray.init(address=self.config.address, logging_level=logging.ERROR)
                return False
            cpus = None
            if self.config.workers:  # a machine with fewer cores than workers runs them by turns
                cpus = max(1, round(self.config.workers * self.config.cpus_per_worker))
            self.ray.init(num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0] if str(error) else "no reason given"
            raise BenchError(
                f"engine.address: no Ray cluster at {self.config.address or 'this machine'} "
                f"({first}); start one with 'ray start --head', or leave the address out."
            ) from None
        return True

    def _spawn(self) -> _Worker:
        gpus = self.config.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if self.ray.cluster_resources().get("GPU", 0) else 0.0
        remote = self.ray.remote(
            num_cpus=self.config.cpus_per_worker, num_gpus=gpus, max_restarts=0
        )(GeneratorActor)
        return _Worker(remote.remote(self.bench))

    def _count(self) -> int:
        if self.config.workers:
            return self.config.workers
        resources = self.ray.cluster_resources()
        if resources.get("GPU", 0):
            return max(1, int(resources["GPU"] // (self.config.gpus_per_worker or 1)))
        return max(1, int(resources.get("CPU", 1) // self.config.cpus_per_worker))

    def run(self, jobs: Iterable[Job]) -> Iterator[Result | None]:
        waiting = Stages(jobs)
        lost: dict[str, int] = {}  # first video of a job -> how often its worker was lost
        ours = self._start()
        try:
            if not waiting:
                return
            self.workers = [self._spawn() for _ in range(self._count())]
            while True:
                self._feed(waiting)
                handles = {handle: w for w in self.workers for handle in w.jobs}
                if not handles:
                    return
                ready, _ = self.ray.wait(list(handles), num_returns=1, timeout=HEARTBEAT)
                if not ready:
                    yield None
                    continue
                worker = handles[ready[0]]
                try:
                    results = self.ray.get(ready[0])
                except self.ray.exceptions.RayActorError as error:
                    yield from self._replace(worker, waiting, lost, error)
                    continue
                except self.ray.exceptions.RayTaskError as error:
                    cause = error.as_instanceof_cause()
                    raise cause from None
                del worker.jobs[ready[0]]
                yield from results
        finally:
            for worker in self.workers:
                self.ray.kill(worker.actor)
            self.workers = []
            if ours:
                self.ray.shutdown()

    def _feed(self, waiting: Stages) -> None:
        for depth in range(1, AHEAD + 1):  # everybody gets a first job before anybody a second
            for worker in self.workers:
                if len(worker.jobs) >= depth:
                    continue
                busy = [w.stage for w in self.workers if w is not worker and w.stage is not None]
                job = waiting.take(worker.stage, busy)
                if job is None:
                    return
                worker.stage = job.stage
                worker.jobs[worker.actor.run.remote(job)] = job

    def _replace(
        self, worker: _Worker, waiting: Stages, lost: dict[str, int], error: Exception
    ) -> Iterator[Result]:
        """Give a lost worker's jobs back, or up; put another worker in its place."""
        log.warning("a worker was lost with %d jobs: %s", len(worker.jobs), error)
        self.workers.remove(worker)
        # Only the first can have killed it; the one that waited behind it is not to blame.
        for position, job in reversed(list(enumerate(worker.jobs.values()))):
            key = job.tasks[0].key
            if position == 0:
                lost[key] = lost.get(key, 0) + 1
            if lost.get(key, 0) > self.config.retries:
                for task in job.tasks:
                    yield Result(
                        task.key, None, f"its worker was lost {lost[key]} times; see the log"
                    )
            else:
                waiting.give_back(job)
        self.workers.append(self._spawn())
