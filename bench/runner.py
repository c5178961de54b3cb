"""A run from start to end: plan, generate, score, report, and again from wherever it was killed.

The driver (the thread that calls `Runner.run`) alone writes to the run folder. The engine
generates, a second thread encodes, a third scores, so that none waits for another.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import config as cfg
from bench.engine import Engine, make_engine
from bench.errors import BenchError
from bench.evalsets import EvalSet, load_evalset
from bench.generators import Generator, make_generator
from bench.progress import CellProgress, Progress
from bench.scoring import Item, Judge, Scorer, judge_fingerprint, make_judge
from bench.store import Store, duration
from bench.sweep import Job, Plan, Task, plan

log = logging.getLogger("stdrc.bench")
PACKAGES = ("stdrc-bench", "torch", "diffusers", "transformers", "peft", "av", "numpy")


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    folder: Path
    cells: int
    videos: int
    generated: int
    adopted: int
    failed: int
    scored: int
    seconds: float
    report: Path | None = None


class Runner:
    """One run of a config.

    Args:
        config: what to run.
        limit: only the first so many samples.
        shard: (which, of how many), from 1.
        wait: seconds to wait for another process that holds the folder; None without end.
        console: where the display goes.
        generator, judge, engine, report, samples: stand-ins for what the config would make;
            `report(folder)` writes the leaderboard and returns its page.

    Raises:
        BenchError: for whatever a user can mend.
    """

    def __init__(
        self,
        config: cfg.BenchConfig,
        *,
        limit: int | None = None,
        shard: tuple[int, int] = (1, 1),
        wait: float | None = 0,
        console: Console | None = None,
        generator: Generator | None = None,
        judge: Judge | None = None,
        engine: Engine | None = None,
        report: Callable[[Path], Path | None] | None = None,
        samples: EvalSet | None = None,
    ) -> None:
        self.config, self.limit, self.shard, self.wait = config, limit, shard, wait
        self.folder = config.folder
        if shard[1] > 1:
            self.folder = self.folder.with_name(
                f"{self.folder.name}-shard-{shard[0]}-of-{shard[1]}"
            )
        self.console = console or Console(stderr=True)
        self._generator, self._judge, self._engine = generator, judge, engine
        self._report = report or write_report
        self._samples = samples
        self._plan: Plan | None = None

    # Planning ------------------------------------------------------------------------------------

    @property
    def generator(self) -> Generator:
        if self._generator is None:
            self._generator = make_generator(self.config.generator)
        return self._generator

    @property
    def judge(self) -> Judge:
        if self._judge is None:
            self._judge = make_judge(self.config.metrics, self.folder / "cache")
        return self._judge

    @property
    def plan(self) -> Plan:
        """What the run consists of; loads the evaluation set."""
        if self._plan is None:
            samples = self._samples
            if samples is None:
                samples = load_evalset(self.config.evalset, cache=self.folder / "evalset")
            self._plan = plan(
                self.config, samples, self.generator, limit=self.limit, shard=self.shard
            )
        return self._plan

    # Running -------------------------------------------------------------------------------------

    def run(
        self, *, generate: bool = True, retry_failed: bool = False, fresh_report: bool = False
    ) -> Summary:
        """Do what is not done yet, and report.

        Args:
            generate: make missing videos; False refuses if some are missing (`merge`).
            retry_failed: try videos again that failed before.
            fresh_report: write the report even if nothing changed.
        """
        started = time.monotonic()
        try:
            with Store(self.folder, write=True, wait=self.wait) as store, log_file(self.folder):
                return self._run(store, started, generate, retry_failed, fresh_report)
        except (OSError, sqlite3.OperationalError) as error:
            if getattr(error, "errno", None) == 28 or "disk is full" in str(error):
                raise BenchError(
                    f"The disk of {self.folder} is full; free some space and give the same "
                    "command again, what is done is kept."
                ) from None
            raise

    def _run(
        self, store: Store, started: float, generate: bool, retry_failed: bool, fresh: bool
    ) -> Summary:
        planned = self.plan
        complete = self._fingerprint()
        if not (retry_failed or fresh) and store.meta("complete") == complete:
            store.adopt()
            counts = store.counts()
            if not counts.get("pending") and (self.folder / "leaderboard").is_dir():
                videos = planned.in_shard()
                return Summary(
                    folder=self.folder,
                    cells=len(planned.cells),
                    videos=videos,
                    generated=0,
                    adopted=0,
                    failed=counts.get("failed", 0),
                    scored=0,
                    seconds=time.monotonic() - started,
                )
        store.set_meta("complete", "")
        judge = self.judge
        if judge.absent:
            text = f"{len(judge.absent)} metrics cannot run here; 'stdrc doctor' says why"
            self.console.print(text, highlight=False)
        store.write_manifest(self.manifest())
        store.register_cells(planned.cells)
        store.register_samples(planned.samples)
        tasks = {task.key: task for job in planned.jobs() for task in job.tasks}
        store.register_tasks(tasks.values())
        store.register_metrics(judge.columns)
        adopted = store.adopt()
        if retry_failed:
            store.retry_failed()
        status = store.statuses()
        todo = {key for key in tasks if status[key] == "pending"}
        if todo and not generate:
            raise BenchError(
                f"{self.folder} lacks {len(todo)} of {len(tasks)} videos; finish the shards first."
            )
        unscored = [key for key in store.unscored(judge.columns) if key in tasks]
        changed = bool(todo or unscored or adopted or store.meta("reported") != "1")
        if todo or unscored:
            store.set_meta("reported", "0")
        progress = Progress(self.console, [c.metric for c in judge.columns if c.per_video])
        scored = 0
        if todo or unscored:
            scored = self._work(store, tasks, todo, sorted(unscored), status, progress)
        changed |= self._score_sets(store, tasks)
        page = None
        if changed or fresh or not (self.folder / "leaderboard").is_dir():
            store.set_meta("reported", "0")
            page = self._report(self.folder)
            store.set_meta("reported", "1")
        store.set_meta("complete", complete)
        counts = store.counts()
        return Summary(
            folder=self.folder,
            cells=len(planned.cells),
            videos=len(tasks),
            generated=progress.made,
            adopted=adopted,
            failed=counts.get("failed", 0),
            scored=scored,
            seconds=time.monotonic() - started,
            report=page,
        )

    def _fingerprint(self) -> str:
        """What the finished run folder follows from; equal, and there is nothing to do."""
        digest = hashlib.sha256(json.dumps(packages(), sort_keys=True).encode())
        for cell in self.plan.cells:
            digest.update(f"{cell.digest} {cell.label}\n".encode())
        for job in self.plan.jobs():
            for task in job.tasks:
                digest.update(task.key.encode())
        if self._judge is None:
            digest.update(judge_fingerprint(self.config.metrics).encode())
        else:
            digest.update(repr(self.judge.columns).encode())
        return digest.hexdigest()

    def _work(
        self,
        store: Store,
        tasks: dict[str, Task],
        todo: set[str],
        unscored: list[str],
        status: dict[str, str],
        progress: Progress,
    ) -> int:
        """Generate and score at once; how many videos were scored."""
        cells = {c.id: CellProgress(c.label, 0, c.mismatch) for c in self.plan.cells}
        waiting = set(unscored)
        for key, task in tasks.items():
            cell = cells[task.cell]
            cell.total += 1
            cell.done += status[key] == "done"
            cell.failed += status[key] == "failed"
            cell.scored += status[key] == "done" and key not in waiting
        wanted = {c.metric for c in self.judge.columns if c.per_video}
        scorer = Scorer(self.judge)
        pieces: dict[str, set[str]] = {}  # video -> metrics that have come
        scored = 0

        def keep(scores: list[Any]) -> None:
            nonlocal scored
            store.add_scores(scores)
            for score in scores:
                cell = cells[tasks[score.key].cell]
                if score.status == "ok" and score.value is not None:
                    cell.add(score.metric, score.value)
                came = pieces.setdefault(score.key, set())
                came.add(score.metric)
                if came >= wanted:
                    del pieces[score.key]
                    cell.scored += 1
                    scored += 1

        progress.start(cells)
        try:
            for key in unscored:
                scorer.submit(self._item(store, tasks[key]))
            if todo:
                engine = self._engine or make_engine(
                    self.config.engine, self.generator, self.config
                )
                results = engine.run(self._pending(todo))
                try:
                    for result in results:
                        if result is not None:
                            cell = cells[tasks[result.key].cell]
                            if result.data is None:
                                store.fail(result.key, result.error)
                                cell.failed += 1
                            else:
                                self._keep_video(store, result)
                                cell.done += 1
                                progress.made += 1
                                scorer.submit(self._item(store, tasks[result.key]))
                        keep(scorer.collect()[0])
                        progress.tick()
                finally:
                    results.close()  # type: ignore[attr-defined]  # engines are generators
            scorer.close()
            more = True
            while more:
                scores, more = scorer.collect(timeout=0.2)
                keep(scores)
                progress.tick()
            if scorer.error is not None:
                raise scorer.error
        except BaseException:
            scorer.stop()
            keep(scorer.collect()[0])
            raise
        finally:
            progress.stop()
        return scored

    def _pending(self, todo: set[str]) -> Iterator[Job]:
        for job in self.plan.jobs():
            left = tuple(task for task in job.tasks if task.key in todo)
            if left:
                yield replace(job, tasks=left)

    @staticmethod
    def _keep_video(store: Store, result: Any) -> None:
        from media.writing import write_bytes

        write_bytes(store.video_path(result.key), result.data)
        store.finish(result.key, hashlib.sha256(result.data).hexdigest(), result.seconds)

    @staticmethod
    def _item(store: Store, task: Task) -> Item:
        sample = task.sample
        return Item(
            video=store.video_path(task.key),
            key=task.key,
            prompt=sample.prompt,
            references=sample.references,
            target=sample.target,
            identity=sample.identity,
            group=task.cell,
        )

    def _score_sets(self, store: Store, tasks: dict[str, Task]) -> bool:
        """Set-level scores of cells whose videos changed; whether there were any.

        Always over a whole cell and in the same order, so that a run that was killed sums up in
        the order of one that was not.
        """
        columns = [c for c in self.judge.columns if not c.per_video]
        if not columns:
            return False
        versions = sorted((c.metric, c.backend, c.version) for c in columns)
        stale: dict[str, str] = {}
        items: list[Item] = []
        for cell in self.plan.cells:
            rows = [r for r in store.videos(cell.id) if r.status == "done" and r.video in tasks]
            digest = hashlib.sha256(
                json.dumps([versions, [(r.video, r.sha256) for r in rows]]).encode()
            ).hexdigest()
            if rows and store.meta(f"set:{cell.id}") != digest:
                stale[cell.id] = digest
                items += [self._item(store, tasks[r.video]) for r in rows]
        if not stale:
            return False
        store.add_set_scores(list(self.judge.score_sets(items)))
        for cell_id, digest in stale.items():
            store.set_meta(f"set:{cell_id}", digest)
        return True

    # Saying what will be done --------------------------------------------------------------------

    def describe_plan(self, store: Store | None = None) -> tuple[list[str], int]:
        """(the plan in words, videos left to make): cells, videos, passes, what is already done."""
        planned = self.plan
        mismatched = sum(c.mismatch for c in planned.cells)
        lines = [
            f"{len(planned.cells)} cells x {len(planned.samples)} samples x "
            f"{len(planned.seeds)} seeds = {planned.videos} videos, "
            f"{planned.passes} model passes"
            + (f", shard {self.shard[0]} of {self.shard[1]}" if self.shard[1] > 1 else ""),
        ]
        if planned.varied:
            lines.append("varied: " + ", ".join(planned.varied))
        if mismatched:
            lines.append(
                f"{mismatched} cells run a placement on a checkpoint trained with another; "
                "they are marked in every table"
            )
        status = store.statuses() if store is not None else {}
        keys = [t.key for job in planned.jobs() for t in job.tasks]
        left = sum(status.get(key, "pending") == "pending" for key in keys)
        if left < len(keys):
            lines.append(f"{len(keys) - left} of them are settled, {left} are left to make")
            each = store.mean_seconds() if store is not None else None
            if left and each:
                lines.append(f"about {duration(left * each)} at {each:.2f} s a video so far")
        return lines, left

    def calibrate(self) -> float | None:
        """Seconds that one model pass takes: two videos of two steps, the first unmeasured.

        None where a video takes no passes (finished videos).
        """
        cell = max(self.plan.cells, key=lambda c: c.passes)
        if not cell.passes or not cell.settings.steps:
            return None
        sample = self.plan.samples[0]
        settings = replace(cell.settings, steps=2)
        self.generator.generate([sample], settings)  # loads, encodes, warms up
        began = time.perf_counter()
        self.generator.generate([sample], settings)
        return (time.perf_counter() - began) / max(1, round(cell.passes * 2 / cell.settings.steps))

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
            "hardware": hardware(),
            "git": git_commit(),
            "command": sys.argv,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def merge_shards(folder: Path, shards: Sequence[Path], **stand_ins: Any) -> Summary:
    """Put shards of one run together in `folder`, score whole cells, and report.

    Args:
        folder: the run folder to fill; may already hold some of the shards.
        shards: run folders of `--shard` runs of one config.
        stand_ins: passed to `Runner`.

    Raises:
        BenchError: if the shards belong to different runs, or some are not finished.
    """
    if not shards:
        raise BenchError("Name the shards' run folders: stdrc bench merge RUN SHARD [SHARD ...].")
    manifests = {}
    for shard in shards:
        with Store(shard) as store:
            manifests[shard] = store.manifest()
    same = ("config", "limit", "checkpoints")
    first = manifests[shards[0]]
    for shard, manifest in manifests.items():
        for part in same:
            if manifest[part] != first[part]:
                raise BenchError(
                    f"{shard} is no shard of the same run as {shards[0]}: their {part} differ."
                )
    with Store(folder, write=True) as store:
        for shard in shards:
            store.merge(shard)
    config = cfg.parse_config(first["config"], str(shards[0] / "manifest.json"))
    config = config.model_copy(update={"run": folder})
    return Runner(config, limit=first["limit"], **stand_ins).run(generate=False)


def write_report(folder: Path) -> Path | None:
    """The leaderboard of a run folder; its page."""
    from leaderboards.report import write_report as write

    result = write(folder)
    return Path(result) if isinstance(result, str | Path) else folder / "leaderboard" / "index.html"


@cache
def packages() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> dict[str, Any]:
    """This machine: processor, cores, memory, and GPUs if torch is loaded anyway."""
    import os

    import psutil

    found: dict[str, Any] = {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpus": [],
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


@cache
def git_commit() -> str | None:
    """The commit this package was checked out at, with '+' if files were changed; None if none."""
    git = shutil.which("git")
    if git is None:
        return None
    here = str(Path(__file__).resolve().parent)
    try:
        commit = subprocess.run(
            [git, "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
        if commit.returncode:
            return None
        dirty = subprocess.run(
            [git, "-C", here, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")


class log_file:
    """Within it, the bench's log goes to `logs/` of a run folder, a file a start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "logs"

    def __enter__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.handler = logging.FileHandler(self.folder / f"{stamp}.log", delay=True)
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(self.handler)
        log.setLevel(logging.INFO)
        log.propagate = False

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self.handler)
        self.handler.close()
