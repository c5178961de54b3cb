"""Generating and scoring at once: each video is kept and scored as it comes."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from bench import working
from bench.batching import Engine, Result
from bench.claims import Claims
from bench.errors import TooManyFailuresError
from bench.progress import CellProgress, Progress
from bench.scoring import Judge, Scorer, inputs, item_of
from bench.store import Store
from bench.sweep import Cell, Job, Task
from bench.trackers import Trackers
from leaderboards.runfolder import MetricRow
from media import files
from metrics.scores import VideoItem


class Shown:
    """What metrics are shown of each finished video.

    Attributes:
        sha256: finished video -> hash of its file.
    """

    def __init__(self, store: Store, tasks: Mapping[str, Task]) -> None:
        self.store, self.tasks = store, tasks
        self.sha256 = {
            row.video: row.sha256 or ""
            for row in store.videos()
            if row.status == "done" and row.video in tasks
        }
        self._known: dict[tuple[str, tuple[str, ...]], str] = {}

    def __call__(self, key: str, metric: MetricRow) -> str:
        """Hash of what a metric is shown of a finished video."""
        place = (key, metric.needs)
        if place not in self._known:
            self._known[place] = inputs(metric.needs, self.item(key), self.sha256[key])
        return self._known[place]

    def item(self, key: str) -> VideoItem:
        """A video as the metrics take it."""
        task = self.tasks[key]
        return item_of(task.sample, self.store.video_path(key), key, task.cell)


WORKING_EVERY = 2.0  # seconds between two notes of what is at work


class Work:
    """One start of a run at work: what comes of videos and scores is kept in the store and shown.

    Args:
        most_failures: how many videos may fail before the run stops; None: all of them.
        claims: what is settled there as it comes, where processes share the run.
        trackers: what the progress is written to, beside the console.

    Attributes:
        scored: videos that were scored.
    """

    def __init__(
        self,
        store: Store,
        shown: Shown,
        cells: Sequence[Cell],
        judge: Judge,
        console: Console,
        most_failures: float | None = None,
        claims: Claims | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        self.claims, self.trackers = claims, trackers
        self.store, self.shown, self.judge, self.console = store, shown, judge, console
        self.most_failures, self._failed = most_failures, 0
        self._interrupts = 0
        self._note_at = 0.0
        self.columns = {(c.metric, c.backend): c for c in judge.columns}
        self.metrics = tuple(c.metric for c in judge.columns if c.per_video)
        self.scored = 0
        self.progress = Progress(console, self.metrics)
        self._cells = {c.id: CellProgress(c.label, 0, c.mismatch) for c in cells}
        self._left: dict[str, set[str]] = {}  # video -> metrics still to come

    def start(self, status: Mapping[str, str], unscored: Mapping[str, tuple[str, ...]]) -> None:
        """Begin to show, with what was done before."""
        for key, task in self.shown.tasks.items():
            cell = self._cells[task.cell]
            cell.total += 1
            cell.done += status[key] == "done"
            cell.failed += status[key] == "failed"
            cell.scored += status[key] == "done" and key not in unscored
        self.progress.start(self._cells)

    def run(
        self, engine: Engine, jobs: Iterator[Job] | None, unscored: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Have an engine make what is missing, and have that and the unscored videos scored.

        Raises:
            TooManyFailuresError: after `most_failures`.
            KeyboardInterrupt: after an interrupt, when the videos at work were finished; or at
                once after a second.
        """
        scorer = Scorer(self.judge)
        try:
            # Neighbours with the same metrics, so that the judge changes its set of them least.
            for key in sorted(unscored, key=lambda key: (unscored[key], key)):
                self._submit(scorer, key, unscored[key])
            if jobs is not None:
                self._generate(engine, jobs, scorer)
            scorer.close()
            more = True
            while more:
                scores, more = scorer.collect(timeout=0.2)
                self._keep(scores)
            if scorer.error is not None:
                raise scorer.error
        except BaseException:
            scorer.stop()
            self._keep(scorer.collect()[0])
            raise
        finally:
            self.progress.stop()

    def _generate(self, engine: Engine, jobs: Iterator[Job], scorer: Scorer) -> None:
        results = engine.run(jobs)
        stopping = False
        with self._first_interrupt_waits():
            try:
                for result in results:
                    if result is not None and self._take(result):
                        self._submit(scorer, result.key, self.metrics)
                    if self.claims is not None:
                        if result is not None:
                            self.claims.settle(result.key)
                        self.claims.touch()
                    self._keep(scorer.collect()[0])
                    self._note(engine)
                    if self._interrupts and not stopping:
                        stopping = True
                        engine.stop()
                        self.console.print(
                            "Interrupted: waiting for the videos at work; a second Ctrl-C gives "
                            "them up."
                        )
            finally:
                results.close()  # type: ignore[attr-defined]  # engines are generators
                working.note(self.store.folder, ())
        if self._interrupts:
            raise KeyboardInterrupt

    @contextmanager
    def _first_interrupt_waits(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread has signals
            return

        def count(*_: object) -> None:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, count)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, engine: Engine) -> None:
        """Say what is at work, for those who look at the run from outside."""
        if (now := time.monotonic()) >= self._note_at:
            self._note_at = now + WORKING_EVERY
            working.note(
                self.store.folder,
                (
                    {
                        "worker": worker,
                        "sample": task.sample.id,
                        "cell": self._cells[task.cell].label,
                        "since": time.time() - seconds,
                    }
                    for worker, task, seconds in engine.working()
                ),
            )

    def _take(self, result: Result) -> bool:
        """Keep what an engine made of a video; whether there is one."""
        task = self.shown.tasks[result.key]
        cell = self._cells[task.cell]
        if result.data is None:
            self.store.fail(result.key, result.error, result.trace)
            cell.failed += 1
            self._failed += 1
            if self.most_failures is not None and self._failed > self.most_failures:
                raise TooManyFailuresError(
                    f"Stopped: {self._failed} videos failed, more than engine.max_failures allows; "
                    f"the last, {task.sample.id} of {cell.label}: {result.error.rstrip('.')}. What "
                    f"is done is kept; 'stdrc bench retry {self.store.folder}' goes on."
                )
            return False
        sha256 = hashlib.sha256(result.data).hexdigest()
        made = (result.key, sha256, result.seconds, result.remark)
        self.store.prepare(*made, result.environment)
        files.write_atomic(self.store.video_path(result.key), result.data)
        self.store.finish(*made)
        self.shown.sha256[result.key] = sha256
        cell.done += 1
        self.progress.made += 1
        return True

    def _submit(self, scorer: Scorer, key: str, metrics: tuple[str, ...]) -> None:
        self._left[key] = set(metrics)
        scorer.submit(self.shown.item(key), metrics)

    def _keep(self, scores: Sequence[Any]) -> None:
        """Write scores down, with what they were made of; of nothing where it is to be retried."""
        rows = []
        for score in scores:
            made_of = self.shown(score.key, self.columns[score.metric, score.backend])
            rows.append((score, None if score.transient else made_of))
            cell = self._cells[self.shown.tasks[score.key].cell]
            if score.status == "ok" and score.value is not None:
                cell.add(score.metric, score.value)
            left = self._left[score.key]
            if score.metric in left:
                left.remove(score.metric)
                if not left:
                    cell.scored += 1
                    self.scored += 1
        self.store.add_scores(rows)
        self.progress.tick()
        if self.trackers is not None:
            self.trackers.tick(self.progress)
