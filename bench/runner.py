"""A run from start to end: plan, generate, score, report, and again from wherever it was killed.

The driver (the thread that calls `Runner.run`) alone writes to the run folder. The engine
generates, a second thread encodes, a third scores, so that none waits for another.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import claims
from bench import config as cfg
from bench.batching import Ahead, Engine
from bench.claims import Claims
from bench.errors import BenchError
from bench.evalsets import EvalSet
from bench.forecast import Trial, card_line, disk_line, time_line
from bench.generators import Generator
from bench.provenance import git_commit, gpus, hardware, log_file, packages
from bench.scoring import Judge, check_metrics, judge_fingerprint, make_judge
from bench.store import DENIED, FULL, Store, file_stamp
from bench.sweep import Job, Plan, Task, plan, repeated
from bench.trackers import Trackers
from bench.work import Shown, Work
from leaderboards.runfolder import MetricRow
from media.wording import counted, warnings_said


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        failed: videos that could not be made, now or before.
        scored: videos that were scored now.
        unscorable: scores that failed, now or before.
        report: the leaderboard's page, where it was written.
    """

    folder: Path
    cells: int
    videos: int
    generated: int
    adopted: int
    failed: int
    scored: int
    unscorable: int
    seconds: float
    board: Any = None  # the leaderboard, where a report was written


class Runner:
    """One run of a config.

    Args:
        config: what to run.
        limit: how many of the first samples to use.
        shard: (which, of how many), from 1.
        share: do what no other process does that shares the run, in a folder of this one's part.
        wait: seconds to wait for another process that holds the folder; None without end.
        console: where the display goes.
        generator, judge, engine, report, samples: stand-ins for what the config would make;
            `report(folder)` writes the leaderboard and returns it.
        search: this is a cell of a search: its videos stand beside the config's own and the
            search's others, and retire none of them.

    Raises:
        BenchError: for whatever a user can fix.
    """

    def __init__(
        self,
        config: cfg.BenchConfig,
        *,
        limit: int | None = None,
        shard: tuple[int, int] = (1, 1),
        share: bool = False,
        wait: float | None = 0,
        console: Console | None = None,
        generator: Generator | None = None,
        judge: Judge | None = None,
        engine: Engine | None = None,
        report: Callable[[Path], Any] | None = None,
        samples: EvalSet | None = None,
        search: bool = False,
    ) -> None:
        self.config, self.limit, self.shard, self.wait = config, limit, shard, wait
        self.search = search
        self.folder = config.folder
        if shard[1] > 1:
            self.folder = self.folder.with_name(
                f"{self.folder.name}-shard-{shard[0]}-of-{shard[1]}"
            )
        self.claims: Claims | None = None
        if share:
            folder = self.folder
            self.folder, name = claims.part(folder)
            self.claims = Claims(folder.with_name(f"{folder.name}-claims"), name)
        self.console = console or Console(stderr=True)
        self._generator, self._judge, self._engine = generator, judge, engine
        self._at_hand, self._own_engine, self._own_judge = generator, engine is None, judge is None
        self._report = report or write_report
        self._samples = samples
        self._plan: Plan | None = None

    @classmethod
    def of(cls, folder: Path, **stand_ins: Any) -> Runner:
        """The runner of a run folder's last start, as its manifest has it.

        Raises:
            BenchError: if it is not a run folder, or was never started.
        """
        with Store(folder) as store:
            manifest = store.manifest()
        config = cfg.parse_config(manifest["config"], str(folder / "manifest.json"))
        shard = (manifest["shard"][0], manifest["shard"][1])
        runner = cls(config, limit=manifest["limit"], shard=shard, **stand_ins)
        runner.folder = folder
        return runner

    # Planning ------------------------------------------------------------------------------------

    @property
    def generator(self) -> Generator:
        if self._generator is None:
            self._generator = self.config.generator.make()
        return self._generator

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = make_engine(self.config, self._at_hand)
            self._engine.say = lambda text: self.console.print(text, markup=False, soft_wrap=True)
        return self._engine

    def close(self) -> None:
        """End the workers; `run` does at its end."""
        if self._own_judge and (close := getattr(self._judge, "close", None)) is not None:
            close()
        if self._own_engine and self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def judge(self) -> Judge:
        if self._judge is None:
            metrics = self.config.metrics
            if metrics.threads is None:
                threads = getattr(self.config.generator, "threads", None)
                metrics = metrics.model_copy(update={"threads": threads})
            cache = self.folder / "cache"
            self._judge = make_judge(metrics, cache)
            if self.config.engine.score_workers:
                from bench.ray_judge import RayJudge

                self._judge = RayJudge(self.config.engine, metrics, cache, self._judge)
        return self._judge

    @property
    def plan(self) -> Plan:
        """What the run consists of; loads the evaluation set."""
        if self._plan is None:
            samples = self._samples
            if samples is None:
                samples = self.config.evalset.load(self.folder / "evalset")
            self._plan = plan(
                self.config, samples, self.generator, limit=self.limit, shard=self.shard
            )
        return self._plan

    # Running -------------------------------------------------------------------------------------

    def run(
        self,
        *,
        generate: bool = True,
        retry_failed: bool = False,
        fresh_report: bool = False,
        rescore: Sequence[str] = (),
    ) -> Summary:
        """Do what is not done yet, and report.

        Args:
            generate: make missing videos; False refuses if some are missing (`merge`).
            retry_failed: try videos and scores again that failed before.
            fresh_report: write the report even if nothing changed.
            rescore: metrics (or patterns) whose scores are computed again; then nothing is
                generated.

        Raises:
            TooManyFailuresError: if more videos failed than `engine.max_failures`.
        """
        started = time.monotonic()
        try:
            with Store(self.folder, write=True, wait=self.wait) as store, log_file(self.folder):
                return self._run(store, started, generate, retry_failed, fresh_report, rescore)
        except (OSError, sqlite3.OperationalError) as error:
            if getattr(error, "errno", None) in FULL or "disk is full" in str(error):
                raise BenchError(
                    f"The disk of {self.folder} is full; free some space and give the same "
                    f"command again, what is done is kept ({error})."
                ) from None
            place = str(getattr(error, "filename", ""))
            denied = getattr(error, "errno", None) in DENIED and str(self.folder) in place
            if denied or "disk I/O error" in str(error) or "readonly database" in str(error):
                raise BenchError(
                    f"The disk of {self.folder} cannot be written to ({error}), as when a quota is "
                    "used up; give the same command again when it can, what is done is kept."
                ) from None
            raise
        finally:
            self.close()

    def _run(
        self,
        store: Store,
        started: float,
        generate: bool,
        retry_failed: bool,
        fresh: bool,
        rescore: Sequence[str],
    ) -> Summary:
        complete = self._fingerprint()
        try:
            store.manifest()
        except BenchError:  # it was lost: it is written again
            store.set_meta("complete", "")
        if not (retry_failed or fresh or rescore) and store.meta("complete") == complete:
            store.adopt()
            if not store.counts().get("pending") and (self.folder / "leaderboard").is_dir():
                return self._summary(store, started)
        store.set_meta("complete", "")
        tasks = self._register(store)
        adopted = store.adopt()
        if retry_failed:
            store.retry_failed()
        store.forget_metrics(rescore)
        status = store.statuses()
        todo = {key for key in tasks if status[key] == "pending" and not rescore}
        if todo and not generate:
            raise BenchError(
                f"{self.folder} lacks {len(todo)} of {len(tasks)} videos; finish the shards first."
            )
        cells = {tasks[key].cell for key in todo}
        self.generator.check([cell.settings for cell in self.plan.cells if cell.id in cells])
        shown = Shown(store, tasks)
        store.drop_scores(self._outdated(store, shown))
        unscored = self._unscored(store, shown)
        most = self.config.engine.max_failures
        if most is not None and most < 1:
            most *= len(todo)
        with Trackers(self.config, store, self.plan.cells, self.judge.columns) as trackers:
            work = Work(
                store, shown, self.plan.cells, self.judge, self.console, most, self.claims, trackers
            )
            if todo or unscored or adopted:
                store.set_meta("reported", "")
            if todo or unscored:
                work.start(status, unscored)
                if self.claims is not None:
                    self.engine.claim = self.claims.take
                videos = [(t.sample, t.settings) for key, t in tasks.items() if key in todo]
                if ahead := self.generator.unprepared(videos):
                    self.engine.prepare(Ahead(ahead))
                work.run(self.engine, self._pending(todo) if todo else None, unscored)
            if self.claims is not None:  # whole cells, and the report, are the merged run's
                return replace(
                    self._summary(store, started), generated=work.progress.made, scored=work.scored
                )
            self._score_sets(store, shown)
        if work.progress.made:
            manifest = {**store.manifest(), "environments": store.environments()}
            store.write_manifest(manifest)
        board = None
        reported = store.meta("reported") == complete and (self.folder / "leaderboard").is_dir()
        if fresh or not reported:
            board = self._report(self.folder)
            store.set_meta("reported", complete)
        store.set_meta("complete", "" if store.to_retry() else complete)
        return replace(
            self._summary(store, started),
            generated=work.progress.made,
            adopted=adopted,
            scored=work.scored,
            board=board,
        )

    def _summary(self, store: Store, started: float) -> Summary:
        """The state of the folder, nothing having been done."""
        return Summary(
            folder=self.folder,
            cells=len(self.plan.cells),
            videos=self.plan.in_shard() if self.claims is None else store.counts().get("done", 0),
            generated=0,
            adopted=0,
            failed=store.counts().get("failed", 0),
            scored=0,
            unscorable=store.failed_scores(),
            seconds=time.monotonic() - started,
        )

    def _register(self, store: Store) -> dict[str, Task]:
        """Write down what the run is; its videos."""
        planned, judge = self.plan, self.judge
        columns = [name for name in judge.absent if " " in name]  # "opens2v GmeScore", of a preset
        if count := len(judge.absent) - len(columns):
            text = f"metrics that cannot run here: {count}; 'stdrc doctor' says why"
            self.console.print(text, highlight=False)
        if columns:
            text = f"columns that no metric fills: {', '.join(columns)}"
            self.console.print(text, highlight=False)
        store.write_manifest({**self.manifest(), "environments": store.environments()})
        tasks = {task.key: task for job in planned.jobs() for task in job.tasks}
        store.register_plan(
            f"{self.config.name} search" if self.search else self.config.name,
            planned.cells,
            planned.samples,
            tasks.values(),
            add=self.search,
        )
        store.register_metrics(judge.columns)
        return tasks

    def _fingerprint(self) -> str:
        """What the finished run folder follows from; equal, and there is nothing to do."""
        digest = hashlib.sha256(json.dumps(packages(), sort_keys=True).encode())
        for cell in self.plan.cells:
            digest.update(f"{cell.digest} {cell.label}\n".encode())
        for sample in self.plan.samples:
            files = [*sample.references, *([sample.target] if sample.target else [])]
            shown = [[str(path), file_stamp(path)] for path in files]
            digest.update(json.dumps([sample.id, sample.identity, sample.prompt, shown]).encode())
        for job in self.plan.jobs():
            for task in job.tasks:
                digest.update(task.key.encode())
        if self._judge is None:
            digest.update(judge_fingerprint(self.config.metrics).encode())
        else:
            digest.update(repr(self.judge.columns).encode())
        digest.update(repr(self.config.rank).encode())
        return digest.hexdigest()

    # Scores that are there, and those that are not -----------------------------------------------

    def _outdated(self, store: Store, shown: Shown) -> list[tuple[str, str, str]]:
        """(video, metric, backend) of scores whose video, reference, target or prompt changed."""
        return [
            (key, metric.metric, metric.backend)
            for metric in store.metrics()
            if metric.per_video
            for key, (_, found) in store.scored(metric).items()
            if key in shown.sha256 and found is not None and found != shown(key, metric)
        ]

    def _unscored(self, store: Store, shown: Shown) -> dict[str, tuple[str, ...]]:
        """Finished video -> per-video metrics that lack a score of what they would be shown."""
        missing: dict[str, tuple[str, ...]] = {}
        for metric in self.judge.columns:
            if metric.per_video:
                have = store.scored(metric)
                for key in shown.sha256:
                    if have.get(key) != (metric.version, shown(key, metric)):
                        missing[key] = (*missing.get(key, ()), metric.metric)
        return missing

    def _score_sets(self, store: Store, shown: Shown) -> None:
        """Set-level scores of cells whose videos, or what else is shown of them, changed.

        Always over a whole cell and in the same order, so that a run that was killed sums up in
        the order of one that was not.
        """
        cells = {
            cell.id: [r.video for r in store.videos(cell.id) if r.video in shown.sha256]
            for cell in self.plan.cells
        }

        def person(key: str) -> str:
            return shown.tasks[key].sample.identity or key

        def of_cell(cell: str, metric: MetricRow) -> str:
            # Intervals resample people: who is the same person, whatever they are called.
            people = {who: i for i, who in enumerate(dict.fromkeys(map(person, cells[cell])))}
            parts = [f"{shown(key, metric)} {people[person(key)]}" for key in cells[cell]]
            return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]

        asked = {(m.metric, m.backend): m for m in self.judge.columns if not m.per_video}
        store.drop_set_scores(
            (cell, metric.metric, metric.backend)
            for metric in [m for m in store.metrics() if not m.per_video]
            for cell, (_, found) in store.set_scored(metric).items()
            if cell in cells and found is not None and found != of_cell(cell, metric)
        )
        stale: dict[tuple[str, ...], list[str]] = {}
        have = {key: store.set_scored(metric) for key, metric in asked.items()}
        for cell in cells:
            missing = tuple(
                metric.metric
                for key, metric in asked.items()
                if have[key].get(cell) != (metric.version, of_cell(cell, metric))
            )
            if cells[cell] and missing:
                stale.setdefault(missing, []).append(cell)
        for metrics, of in stale.items():
            items = [shown.item(key) for cell in of for key in cells[cell]]
            store.set_meta("reported", "")
            store.add_set_scores(
                (
                    score,
                    None
                    if score.transient
                    else of_cell(score.group, asked[score.metric, score.backend]),
                )
                for score in list(self.judge.score_sets(items, metrics))
            )

    def _pending(self, todo: set[str]) -> Iterator[Job]:
        for job in self.plan.jobs():
            left = tuple(task for task in job.tasks if task.key in todo)
            if left:
                yield replace(job, tasks=left)

    # Saying what will be done --------------------------------------------------------------------

    def describe_plan(self, store: Store | None = None) -> tuple[list[str], int]:
        """(the plan in words, videos left to make): cells, videos, passes, what is already done."""
        if self._judge is None:
            check_metrics(self.config.metrics)
        planned = self.plan
        mismatched = sum(c.mismatch for c in planned.cells)
        lines = [
            f"{counted(len(planned.cells), 'cell')} x {counted(len(planned.samples), 'sample')} x "
            f"{counted(len(planned.seeds), 'seed')} = {counted(planned.videos, 'video')}, "
            f"{planned.passes} model passes"
            + (f", shard {self.shard[0]} of {self.shard[1]}" if self.shard[1] > 1 else ""),
        ]
        if planned.varied:
            lines.append("varied: " + ", ".join(planned.varied))
        if twice := repeated(self.config.sweep):
            lines.append(f"named twice, and run once: {', '.join(twice)}")
        if mismatched:
            lines.append(
                ("1 cell runs" if mismatched == 1 else f"{mismatched} cells run")
                + " a placement on a checkpoint trained with another, marked in every table"
            )
        status = store.statuses() if store is not None else {}
        keys = [t.key for job in planned.jobs() for t in job.tasks]
        left = sum(status.get(key, "pending") == "pending" for key in keys)
        if left < len(keys):
            lines.append(f"{len(keys) - left} of them are settled, {left} are left to make")
        if left and (line := time_line(left, 0, self._workers, _seconds(store), None)):
            lines.append(line)
        return lines, left

    def forecast(self, left: int, store: Store | None = None, needs: bool = True) -> list[str]:
        """What `left` videos take, by a trial where none was timed: time; `needs`: disk, card."""
        seconds = _seconds(store)
        trial = self.calibrate() if left and seconds is None else None
        passes = self.plan.passes * left // max(self.plan.videos, 1)
        time_ = time_line(left, passes, self._workers, None, trial)
        lines = [] if time_ is None else [time_]
        if needs:
            from stdrc.footprint import card_memory

            size = store.mean_bytes() if store is not None else None
            crf, section = self.config.video.crf, self.config.generator
            lines.append(disk_line(self.plan, left, self.folder, crf, size, trial))
            lines.append(card_line(self.plan, section, card_memory()))
        return lines

    @property
    def _workers(self) -> int:
        return self.config.engine.workers or 1

    def calibrate(self) -> Trial | None:
        """What a model pass and a video take: two videos of two steps, the first unmeasured.

        None where a video takes no passes (finished videos), or fails.
        """
        self.generator.check([cell.settings for cell in self.plan.cells])
        cell = max(self.plan.cells, key=lambda c: c.passes)
        if not cell.passes or not cell.settings.steps:
            return None
        task = self.plan.task(cell, self.plan.samples[0], self.plan.seeds[0])
        task = replace(task, settings=task.settings.replace(steps=2))
        passes = max(1, round(cell.passes * 2 / cell.settings.steps))
        size = 0
        for _ in range(2):  # the first loads, encodes, warms up
            (made,) = filter(None, self.engine.run([Job((task,), cell.stage, passes)]))
            if made.data is None:
                return None  # the run itself says what is wrong with it
            size = len(made.data)
        return Trial(made.seconds / passes, size)

    def manifest(self) -> dict[str, Any]:
        """What another person needs to run this again."""
        weights = {name: h for c in self.plan.cells for name, h in c.weights.items()}
        return {
            "name": self.config.name,
            "config": cfg.config_json(self.config),
            "limit": self.limit,
            "shard": list(self.shard),
            "seeds": list(self.plan.seeds),
            "checkpoints": weights,
            "generator": {"name": self.generator.name, "version": self.generator.version},
            "metrics": [[c.metric, c.backend, c.version] for c in self.judge.columns],
            "absent": self.judge.absent,
            "packages": packages(),
            "python": platform.python_version(),
            "hardware": {**hardware(), "gpus": gpus()},
            "git": git_commit(),
            "command": sys.argv,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _seconds(store: Store | None) -> float | None:
    return None if store is None else store.mean_seconds()


def make_engine(config: cfg.BenchConfig, at_hand: Generator | None = None) -> Engine:
    """The engine a config names.

    A model gets a process of its own, in which it can hang or crash alone.

    Args:
        at_hand: a generator that is used as it is, in this process, by the local engine.

    Raises:
        BenchError: if Ray is asked for and not installed.
    """
    if config.engine.kind == "ray":
        from bench.ray_engine import RayEngine

        return RayEngine(config)
    if at_hand is None and (config.generator.may_hang or config.engine.timeout_s is not None):
        from bench.process_engine import ProcessEngine

        return ProcessEngine(config)
    from bench.local_engine import LocalEngine

    return LocalEngine(at_hand or config.generator.make(), crf=config.video.crf)


def write_report(folder: Path) -> Any:
    """Write the leaderboard of a run folder, and return it."""
    from leaderboards.report import load
    from leaderboards.report import write_report as write

    with warnings_said():
        board = load(folder)
        write(folder, board)
    return board
