"""Scores on the workers of a Ray cluster, equal to the bit to those of one process.

Each video goes through a suite by itself (`bench.suite_judge`), so that it does not matter which
worker scores it. Features go to the run folder's cache, which every node must see under its path;
what needs a whole cell is computed by the driver.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import config as cfg
from bench.errors import BenchError
from bench.ray_engine import join
from bench.scoring import Judge
from metrics.scores import VideoItem

_END = object()


class ScoreActor:
    """What lives in a worker: a judge."""

    def __init__(self, metrics: cfg.Metrics, cache: Path) -> None:
        self.metrics, self.cache = metrics, cache
        self.judge: Judge | None = None

    def score(self, item: VideoItem, metrics: Sequence[str]) -> list[Any]:
        """All scores of a video."""
        from bench.scoring import make_judge

        if self.judge is None:
            self.judge = make_judge(self.metrics, self.cache)
        return list(self.judge.score([item], metrics))

    def answer(self) -> None:
        """Says that it is there."""


class RayJudge:
    """A judge whose videos are scored by `engine.score_workers` workers.

    Args:
        engine: which cluster, and how many workers.
        metrics: what to score with.
        cache: the run folder's cache of features.
        here: the judge of this process, for what the columns are and for whole cells.
    """

    def __init__(
        self, engine: cfg.EngineConfig, metrics: cfg.Metrics, cache: Path, here: Judge
    ) -> None:
        self.engine, self.metrics, self.cache, self.here = engine, metrics, cache.absolute(), here
        self.columns, self.absent = here.columns, here.absent
        self._actors: list[Any] = []
        self._ours = False

    def _actor(self) -> Any:
        import ray

        gpus = 1 if self.metrics.device.startswith("cuda") else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(ScoreActor)
        return remote.remote(self.metrics, self.cache)

    def _start(self) -> None:
        """Workers that have answered.

        Raises:
            BenchError: if none has in `engine.place_s` seconds.
        """
        import ray

        self._ours = join(self.engine)
        actors = [self._actor() for _ in range(self.engine.score_workers)]
        answers = {actor.answer.remote(): actor for actor in actors}
        ready, _ = ray.wait(list(answers), num_returns=len(actors), timeout=self.engine.place_s)
        if not ready:
            raise BenchError(
                f"engine.score_workers: none of {len(actors)} fits into the cluster within "
                f"{self.engine.place_s:g} s; each needs a CPU beside the generating workers'."
            )
        self._actors = [answers[ref] for ref in ready]
        for ref, actor in answers.items():
            if ref not in ready:
                ray.kill(actor)

    def score(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        if not self._actors:
            self._start()
        source, lock = iter(items), threading.Lock()
        results: queue.Queue[Any] = queue.Queue()

        def work(place: int) -> None:
            try:
                while True:
                    with lock:
                        item = next(source, _END)
                    if item is _END:
                        break
                    results.put(self._score(place, item, metrics))
            except BaseException as error:  # raised where the scores are asked for
                results.put(error)
            results.put(_END)

        left = len(self._actors)
        for place in range(left):
            threading.Thread(target=work, args=(place,), daemon=True).start()
        while left:
            found = results.get()
            if isinstance(found, BaseException):
                raise found
            if found is _END:
                left -= 1
            else:
                yield from found

    def _score(self, place: int, item: Any, metrics: Sequence[str]) -> list[Any]:
        """A video's scores from one worker, or from one in its place if it is lost."""
        import ray

        for attempt in range(self.engine.retries + 1):
            try:
                found: list[Any] = ray.get(self._actors[place].score.remote(item, metrics))
                return found
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except ray.exceptions.RayError:
                if attempt == self.engine.retries:
                    raise
                self._actors[place] = self._actor()
        raise AssertionError("one of the tries returns or raises")

    def score_sets(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        return self.here.score_sets(items, metrics)

    def close(self) -> None:
        """End the workers."""
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        if self._ours:
            ray.shutdown()
            self._ours = False
