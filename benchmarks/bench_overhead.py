"""What the bench itself costs: planning, status, and the runner's share of a sweep's time.

    python benchmarks/bench_overhead.py            # all three
    python benchmarks/bench_overhead.py plan       # 1,000,000 cells; wanted: 20 s and 1.2 GiB
    python benchmarks/bench_overhead.py status     # 1,000,000 scores: under 2 s
    python benchmarks/bench_overhead.py runner     # against the pipeline called by hand: under 1 %

Beside the time on the clock stands the time spent computing, which a busy machine does not stretch.
The runner is timed with a generator that takes a fixed time per video (a CPU's miniature: 0.3 s; an
hour-long sweep of a large model has the same overhead per video), so that the difference is the
runner's own: planning, keys, the worker's process, encoding, files and SQLite.
"""

from __future__ import annotations

import argparse
import io
import itertools
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench import config as cfg
from bench.evalsets import EvalSet, Sample
from bench.generators import Generator, Resolved, Settings
from bench.runner import Runner
from bench.store import Store
from bench.sweep import plan
from benchmarks.leaderboard_speed import filled
from leaderboards.runfolder import MetricRow, insert
from metrics.scores import VideoItem

FRAMES = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), dtype=np.uint8)


class Busy(Generator):
    """A video of noise after `seconds` of computing (one core at work, as a pipeline is)."""

    name = "busy"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        return Resolved(settings, {"busy": "1"}, passes=settings.steps or 1)

    def generate(self, samples: Sequence[Sample], settings: Settings) -> list[Any]:
        for _ in samples:
            time.sleep(self.seconds)
        return [FRAMES for _ in samples]


class Blind:
    """A judge without metrics."""

    columns: Sequence[MetricRow] = ()
    absent: dict[str, str] = {}  # noqa: RUF012  (the protocol's attribute)

    def score(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        for _ in items:
            yield from ()

    def score_sets(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        yield from ()


def samples(count: int) -> EvalSet:
    return EvalSet([Sample(f"s{i}", f"prompt {i}") for i in range(count)], name="bench")


def config(folder: Path, sweep: dict[str, Any], seconds: float = 0.0) -> cfg.BenchConfig:
    return cfg.parse_config(
        {
            "name": "overhead",
            "run": str(folder / "run"),
            "evalset": {"kind": "csv", "path": "unused.csv"},
            "generator": {
                "kind": "custom",
                "factory": "benchmarks.bench_overhead:Busy",
                "args": {"seconds": seconds},
            },
            "sweep": sweep,
        },
        "benchmark",
    )


def bench_plan() -> None:
    """1,000,000 cells, in a fresh process so that the memory is the plan's own."""
    code = "from benchmarks.bench_overhead import plan_once; plan_once()"
    root = str(Path(__file__).resolve().parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def plan_once() -> None:
    grid = {
        "text": [i / 10 for i in range(100)],
        "reference": [i / 10 for i in range(100)],
        "steps": list(range(1, 101)),
    }
    run = config(Path("unused"), {"grid": grid})
    started, worked = time.perf_counter(), time.process_time()
    made = plan(run, samples(10), Busy())
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"plan: {len(made.cells):,} cells in {seconds:.2f} s ({cpu:.2f} s of computing), "
        f"{peak:.2f} GiB at most"
    )


def bench_status(folder: Path) -> None:
    """A store with 1,000,000 scores: 100 cells, 1,000 videos each, 10 metrics."""
    with Store(folder / "run", write=True) as store, store.db as db:
        cells = [f"c{c:03}" for c in range(100)]
        keys = [(f"{c}{v:028}", c, f"s{v}") for c in cells for v in range(1000)]
        shown = ((c, c) for c in cells)
        scores = (
            (k, f"metric.{m}", i % 1000 / 1000) for i, (k, *_) in enumerate(keys) for m in range(10)
        )
        of = {"backend": "backend", "version": "1", "detail": '{"faces": 16, "frames": 16}'}
        insert(db, "cells", filled("cell label", shown, axes="{}", mismatch=0))
        insert(db, "videos", filled("video cell sample", keys, seed=0, status="done", seconds=1.0))
        insert(db, "planned", filled("video", keys, config="bench"))
        insert(db, "scores", filled("video metric value", scores, status="ok", **of))
    size = (folder / "run" / "store.sqlite").stat().st_size / 2**20
    command = [sys.executable, "-c", "from bench.cli import main; main()", "bench", "status"]
    times = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([*command, str(folder / "run")], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5
    with sqlite3.connect(folder / "run" / "store.sqlite") as check:
        (count,) = check.execute("SELECT COUNT(*) FROM scores").fetchone()
    print(
        f"status: {count:,} scores ({size:.0f} MiB) in {statistics.median(times):.2f} s, "
        f"the command's start included (median of 5, {min(times):.2f}-{max(times):.2f}; "
        f"{cpu:.2f} s of computing)"
    )


def bench_runner(folder: Path, seconds: float = 0.3, videos: int = 100) -> None:
    """A sweep through the runner against the same calls by hand."""
    cells, count = 10, videos // 10
    run = config(folder, {"grid": {"text": [float(c) for c in range(cells)]}}, seconds)
    generator, data = Busy(seconds), samples(count)
    started = time.perf_counter()
    for cell in range(cells):
        for sample in data:
            generator.generate([sample], Settings(text=float(cell)))
    byhand = time.perf_counter() - started
    runner = Runner(
        run, samples=data, judge=Blind(), report=lambda _: None, console=Console(file=io.StringIO())
    )
    list(runner.engine.run(itertools.islice(runner.plan.jobs(), 1)))  # its worker is warm
    started = time.perf_counter()
    summary = runner.run()
    ours = time.perf_counter() - started
    assert summary.generated == videos
    share = (ours - byhand) / ours
    each = (ours - byhand) / videos * 1000
    print(
        f"runner: {videos} videos of {seconds:g} s in {ours:.2f} s, by hand {byhand:.2f} s: "
        f"{share:.2%} of the time, {each:.1f} ms per video, is the runner's"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="?", choices=("plan", "status", "runner"))
    which = parser.parse_args().which
    if which in (None, "plan"):
        bench_plan()
    for name, measure in (("status", bench_status), ("runner", bench_runner)):
        if which in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder))


if __name__ == "__main__":
    main()
