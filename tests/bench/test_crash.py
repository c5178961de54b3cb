"""SIGKILL at random moments: nothing is lost, nothing is done twice, the table is the same."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.runner import Runner, write_report
from bench.store import Store

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report, table_of

# The moments of the 20 kills add up to 1.8 s and 17 videos that are waited for: some 200 videos at
# `DELAY` each on a machine where nothing else takes time. The sweep is longer than that.
PROMPTS = [f"square number {i}" for i in range(40)]
VIDEOS = 2 * 40 * 4  # identities, prompts, cells
DELAY = 0.01
IN_FLIGHT = 5  # the queue between the threads, and one in the hands of each


def work(folder: str, log: str) -> None:
    """One process' attempt at the run."""
    runner = Runner(
        make_config(Path(folder), prompts=PROMPTS),
        generator=DrawnGenerator(delay=DELAY, log=Path(log)),
        judge=PixelJudge(delay=0.003),
        report=no_report,
        console=Console(file=io.StringIO()),
    )
    runner.run()


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Complete videos: name -> (inode, time of last change)."""
    files = (folder / "run" / "videos").glob("??/*.mp4")
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def begun(log: Path) -> int:
    """How many videos were begun so far, killed ones and all."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.fixture(scope="module")
def processes() -> Any:
    # A server that has imported the bench forks each attempt: 20 starts without 20 imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.test_crash"])
    return context


def test_twenty_kills_change_nothing(tmp_path: Path, processes: Any) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    child = processes.Process(target=work, args=(str(calm), str(tmp_path / "calm.log")))
    child.start()
    child.join()
    assert child.exitcode == 0
    moments = random.Random(0)
    log = tmp_path / "rough.log"
    seen: dict[str, tuple[int, int]] = {}
    for kill in range(20):
        logged = begun(log)
        child = processes.Process(target=work, args=(str(rough), str(log)))
        child.start()
        if kill % 3 == 0:  # in the start, or soon after it on a fast machine
            time.sleep(moments.uniform(0, 0.2))
        elif kill % 3 == 1:  # just after a video: its row, its scores, the next one's file
            wanted = len(seen) + moments.randint(1, 3)
            while len(finished(rough)) < wanted and child.is_alive():
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02))
        else:  # anywhere in the work, however long the start took
            while begun(log) == logged and child.is_alive():
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.2))
        assert child.is_alive(), "the run was over before it could be killed"
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        now = finished(rough)
        # A video that was complete is never made again: same file, never touched.
        assert {name: now.get(name) for name in seen} == seen
        seen = now
    assert 10 <= len(seen) < VIDEOS, "the kills did not fall into the run"
    work(str(rough), str(log))
    final = finished(rough)
    assert {name: final[name] for name in seen} == seen
    assert len(final) == VIDEOS
    assert table_of(rough / "run") == table_of(calm / "run")
    for folder in (calm, rough):
        write_report(folder / "run")
    tables = sorted(p.name for p in (calm / "run" / "leaderboard").glob("*.csv"))
    assert "leaderboard.csv" in tables
    for name in tables:
        calm_table, rough_table = (f / "run" / "leaderboard" / name for f in (calm, rough))
        assert rough_table.read_bytes() == calm_table.read_bytes(), name
    assert not list((rough / "run").rglob("*.part"))
    # The calm run generated each video once; the rough one again only what a kill interrupted
    # before its file was complete: at most what is in flight between the threads, a kill.
    made = [json.dumps(json.loads(line)[1:]) for line in log.read_text().splitlines()]
    calm_made = (tmp_path / "calm.log").read_text().splitlines()
    assert len(calm_made) == len(set(made)) == VIDEOS
    assert len(made) <= VIDEOS + 20 * IN_FLIGHT


def test_the_second_process_says_who_holds_the_folder(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with (
        Store(tmp_path / "run", write=True),
        pytest.raises(BenchError, match=rf"in use by process {os.getpid()} on .* since"),
    ):
        Runner(config, judge=PixelJudge(), report=no_report).run()


def test_the_second_process_can_wait(tmp_path: Path, processes: Any) -> None:
    holder = Store(tmp_path / "run", write=True)
    child = processes.Process(target=_wait_for, args=(str(tmp_path / "run"),))
    child.start()
    child.join(0.5)
    assert child.is_alive()
    holder.close()
    child.join(20)
    assert child.exitcode == 0


def _wait_for(folder: str) -> None:
    Store(Path(folder), write=True, wait=None).close()


def test_a_killed_writer_leaves_the_folder_free(tmp_path: Path, processes: Any) -> None:
    child = processes.Process(target=_hold, args=(str(tmp_path / "run"),))
    child.start()
    while not (tmp_path / "run" / "lock.json").is_file():
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with Store(tmp_path / "run", write=True) as store:
        assert f"process {os.getpid()} " in store.holder()


def _hold(folder: str) -> None:
    Store(Path(folder), write=True)
    time.sleep(60)
