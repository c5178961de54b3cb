"""The engine on Ray: one warm worker a GPU (or a few cores), taken in as the cluster has room.

Workers get the config, make their own generator, and send back finished files' bytes; the
evaluation set's files and the checkpoints must be readable under the same paths on every node.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench import config as cfg
from bench.batching import Ahead, Batcher, Result, describe, encode
from bench.errors import BenchError
from bench.sweep import Job
from bench.workers import Event, Lost, Prepared, Ready, Worker, WorkerEngine
from media.files import known_digests

log = logging.getLogger("stdrc.bench")
LOOK_EVERY = 5.0  # seconds between two looks at the cluster: its head, and how large it is
HEAD_GONE = 8.0  # seconds after which a head that does not answer is gone


@dataclass
class _Actor:
    actor: Any
    refs: dict[Any, Job | Ahead | None] = field(
        default_factory=dict
    )  # Ray's result -> its job, or Ready


class GeneratorActor:
    """What lives in a worker: a generator that stays loaded from job to job."""

    def __init__(self, bench: cfg.BenchConfig, digests: Mapping[str, str]) -> None:
        self.bench = bench
        known_digests().update(digests)  # so that no worker reads 40 GB to name a checkpoint

    def make(self) -> str:
        """Make the generator; why that fails, if it does."""
        try:
            self.batcher = Batcher(self.bench.generator.make())
        except Exception as error:  # the driver stops the run with it
            return describe(error) or "no reason given"
        return ""

    def run(self, job: Job | Ahead) -> list[Result]:
        """Generate and encode a job, or prepare what all jobs need."""
        if isinstance(job, Ahead):
            self.batcher.generator.prepare(job.tasks)
            return []
        return [
            failure or encode(task, video, seconds, self.bench.video.crf)
            for task, video, failure, seconds in self.batcher.videos(job.tasks)
        ]

    def place(self) -> tuple[int, str]:
        """The worker's process and node, for logs and tests."""
        import os

        import ray

        return os.getpid(), ray.get_runtime_context().get_node_id()


def _knock(address: str, timeout: float = 10.0) -> None:
    """See whether somebody listens at host:port; Ray itself tries for five minutes.

    Raises:
        OSError: if nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout).close()


def join(config: cfg.EngineConfig) -> bool:
    """Join a Ray cluster, or start one on this machine; whether it is ours to stop.

    Raises:
        BenchError: if Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise BenchError(
            "engine.kind: ray is not installed; pip install ray, or use local."
        ) from None
    if ray.is_initialized():
        return False
    try:
        if config.address:
            _knock(config.address)
            ray.init(address=config.address, logging_level=logging.ERROR)
            return False
        cpus = None
        if config.workers:  # a machine with fewer cores than workers runs them by turns
            cpus = max(1, round(config.workers * config.cpus_per_worker)) + config.score_workers
        ray.init(num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error) else "no reason given"
        raise BenchError(
            f"engine.address: no Ray cluster at {config.address or 'this machine'} "
            f"({first}); start one with 'ray start --head', or leave the address out."
        ) from None
    return True


def _nodes() -> list[dict[str, float]]:
    """What each node that is alive has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class RayEngine(WorkerEngine):
    """Jobs on the workers of a Ray cluster.

    Args:
        bench: the run; its `engine` section says how many workers, with what, and where.

    Raises:
        BenchError: if Ray is not installed, or there is no cluster at the address.
    """

    name = "ray"

    def __init__(self, bench: cfg.BenchConfig) -> None:
        super().__init__(bench)
        self._ours: bool | None = None  # whether the cluster is ours to stop; None: not joined
        self._number = self._wanted = 0
        self._looked = self._asked_at = self._head_seen = 0.0
        self._head = ""  # host:port of the cluster's head
        self._headless = self._head_lost = False  # it did not answer just now; it is gone
        self._group: Any = None  # the placement group, where one is asked for

    # Workers that come and go --------------------------------------------------------------------

    def _grow(self) -> None:
        import ray

        if self._ours is None:
            self._ours = join(self.config)
            self._asked_at = self._head_seen = time.monotonic()
            address = self.config.address or ""
            self._head = address if "://" in address else ray.get_runtime_context().gcs_address
            self._reserve()
        if not self._looked or time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            self._headless = not self._head_answers()
            if not self._headless:
                self._wanted = self._count(ray.cluster_resources())
        if self._headless:
            return
        while len(self.workers) < self._wanted:
            self._number += 1
            options = {**self._demand(), "max_restarts": 0}
            if self._group is not None:
                from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._group)
            made = (self.bench, dict(known_digests()))
            actor = ray.remote(**options)(GeneratorActor).remote(*made)
            worker = Worker(f"worker {self._number}", _Actor(actor))
            worker.handle.refs[actor.make.remote()] = None
            self.workers.append(worker)
        if time.monotonic() - self._asked_at > self.config.place_s:
            self._say_who_fits()

    def _head_answers(self) -> bool:
        """Whether the cluster's head does; without it, whatever asks it waits for a minute.

        Raises:
            BenchError: when it is gone; Ray would end this process without a word.
        """
        try:
            _knock(self._head, timeout=LOOK_EVERY)
            self._head_seen = time.monotonic()
            return True
        except OSError as error:
            if time.monotonic() - self._head_seen < HEAD_GONE:
                return False
            self._head_lost = True
            raise BenchError(
                f"The Ray cluster has lost its head at {self._head} ({error.strerror or error}); "
                "start one again and give the same command, what is done is kept."
            ) from None

    def _reserve(self) -> None:
        """The placement group that `engine.placement` asks for: a place for every worker, or none.

        Raises:
            BenchError: if the cluster has no room for it in `engine.place_s` seconds.
        """
        if self.config.placement is None:
            return
        from ray.util import placement_group

        demand = self._demand()
        bundle = {"CPU": demand["num_cpus"], "GPU": demand["num_gpus"]}
        bundles = [{k: v for k, v in bundle.items() if v}] * (self.config.workers or 1)
        self._group = placement_group(bundles, strategy=self.config.placement.upper())
        if not self._group.wait(self.config.place_s):
            raise BenchError(
                f"engine.placement: the cluster has no room for {len(bundles)} workers at once "
                f"({self.config.placement}; {self._need_and_have(demand)}); ask for fewer workers, "
                "leave placement out, or give it more time with engine.place_s."
            )

    def _demand(self) -> dict[str, float]:
        gpus = self.config.gpus_per_worker
        if gpus is None:
            import ray

            gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        return {"num_cpus": self.config.cpus_per_worker, "num_gpus": gpus}

    def _count(self, resources: dict[str, float]) -> int:
        if self.config.workers:
            return self.config.workers
        if resources.get("GPU", 0):
            return max(1, int(resources["GPU"] // (self.config.gpus_per_worker or 1)))
        return max(1, int(resources.get("CPU", 1) // self.config.cpus_per_worker))

    def _say_who_fits(self) -> None:
        placed = sum(worker.ready for worker in self.workers)
        if placed == len(self.workers):
            return
        self._asked_at = float("inf")  # once; who comes later is simply given work
        demand = self._demand()
        fits = any(
            node.get("CPU", 0) >= demand["num_cpus"] and node.get("GPU", 0) >= demand["num_gpus"]
            for node in _nodes()
        )
        text = (
            f"{placed} of {len(self.workers)} workers fit into the cluster so far "
            f"({self._need_and_have(demand)})"
        )
        if not placed and not fits:
            raise BenchError(
                f"{text}; lower engine.cpus_per_worker or engine.gpus_per_worker, add a larger "
                "node, or give it more time with engine.place_s."
            )
        self.say(f"{text}; the run goes on with them and takes in others as they come")

    def _need_and_have(self, demand: dict[str, float]) -> str:
        need = f"{demand['num_cpus']:g} CPU and {demand['num_gpus']:g} GPU"
        have = "; ".join(f"{n.get('CPU', 0):g} CPU, {n.get('GPU', 0):g} GPU" for n in _nodes())
        return f"a worker needs {need}; its nodes have {have}"

    # What the loop asks for ----------------------------------------------------------------------

    def _give(self, worker: Worker, job: Job | Ahead) -> None:
        worker.handle.refs[worker.handle.actor.run.remote(job)] = job

    def _events(self, timeout: float) -> list[tuple[Worker, Event]]:
        import ray

        by_ref = {ref: worker for worker in self.workers for ref in worker.handle.refs}
        if not by_ref:
            time.sleep(timeout)
            return []
        ready, _ = ray.wait(list(by_ref), num_returns=1, timeout=timeout)
        return [(by_ref[ref], event) for ref in ready for event in self._event(by_ref[ref], ref)]

    def _event(self, worker: Worker, ref: Any) -> list[Event]:
        import ray

        job = worker.handle.refs.pop(ref)
        try:
            said = ray.get(ref)
        except ray.exceptions.RayTaskError as error:  # a broken GPU; the worker is given up
            return [Lost(describe(error.as_instanceof_cause()))]
        except ray.exceptions.RayError as error:
            log.warning("%s: %s", worker.name, error)
            return [Lost()]
        if isinstance(job, Ahead):
            return [Prepared()]
        if job is not None:
            return list(said)
        return [Lost(fatal=said) if said else Ready()]

    def _kill(self, worker: Worker) -> None:
        import ray

        ray.kill(worker.handle.actor)

    def close(self) -> None:
        if self._ours is None:
            return
        import ray

        if self._head_lost:
            self.workers = []  # nobody is there who could be told to end them
        super().close()
        if self._group is not None and not self._head_lost:
            ray.util.remove_placement_group(self._group)
        if self._ours or self._head_lost:
            ray.shutdown()
        self._ours = self._group = None
