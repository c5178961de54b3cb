"""Ray's workers give the local engine's videos, also when one is killed midway."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.batching import Stages
from bench.errors import BenchError
from bench.runner import Runner
from bench.store import Store
from bench.sweep import Job

from .fakes import PixelJudge, make_config, no_report, table_of

ray = pytest.importorskip("ray")


def runner(config: Any, **changes: Any) -> Runner:
    parts = {
        "judge": PixelJudge(),
        "report": no_report,
        "console": Console(file=io.StringIO()),
    }
    return Runner(config, **{**parts, **changes})


def test_an_address_without_a_cluster_is_one_sentence(tmp_path: Path) -> None:
    config = make_config(tmp_path, engine={"kind": "ray", "address": "127.0.0.1:1"})
    with pytest.raises(BenchError, match=r"no Ray cluster at 127.0.0.1:1 .*; start one with"):
        runner(config).run()


@pytest.fixture(scope="module")
def cluster() -> Any:
    root = str(Path(__file__).resolve().parents[2])
    env = {"env_vars": {"PYTHONPATH": root}}
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", runtime_env=env)
    yield
    ray.shutdown()


def drawn(folder: Path, **args: Any) -> Any:
    generator = {"kind": "custom", "factory": "tests.bench.fakes:DrawnGenerator", "args": args}
    return make_config(folder, generator=generator)


@pytest.mark.slow
def test_two_workers_one_killed_midway(tmp_path: Path, cluster: Any) -> None:
    from bench.ray_engine import RayEngine

    class Deadly(RayEngine):
        """Kills one of its workers after the third result."""

        def run(self, jobs: Any) -> Any:
            for number, result in enumerate(r for r in super().run(jobs) if r is not None):
                if number == 3:
                    self.killed, _ = ray.get(self.workers[0].handle.actor.place.remote())
                    os.kill(self.killed, signal.SIGKILL)
                yield result

    runner(drawn(tmp_path / "local", delay=0.05)).run()  # the arguments are part of the keys
    config = drawn(tmp_path / "ray", delay=0.05)
    config = config.model_copy(
        update={"engine": config.engine.model_copy(update={"kind": "ray", "workers": 2})}
    )
    engine = Deadly(config)
    summary = runner(config, engine=engine).run()
    assert engine.killed
    assert (summary.generated, summary.failed) == (16, 0)
    assert table_of(tmp_path / "ray" / "run") == table_of(tmp_path / "local" / "run")


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_given_up(tmp_path: Path, cluster: Any) -> None:
    config = make_config(
        tmp_path,
        prompts=["a red square", "please die"],
        generator={"kind": "custom", "factory": "tests.bench.fakes:DeadlyGenerator"},
        engine={"kind": "ray", "workers": 1, "retries": 1},
        sweep={},
    )
    summary = runner(config).run()
    assert (summary.generated, summary.failed) == (2, 2)
    with Store(tmp_path / "run") as store:
        assert {r for _, _, r in store.failures()} == {"its worker was lost 2 times; see the log"}


def test_workers_stay_with_their_checkpoint() -> None:
    jobs = [Job((), stage) for stage in ["a"] * 3 + ["b"] * 2]
    waiting = Stages(jobs)
    first, second = waiting.take(None), waiting.take(None, busy=["a"])
    assert first is not None
    assert second is not None
    assert (first.stage, second.stage) == ("a", "b")
    rest = [waiting.take("b"), waiting.take("b", busy=["a"]), waiting.take("a")]
    assert [j.stage if j else None for j in rest] == ["b", "a", "a"]
    assert not waiting
    waiting.give_back(first)
    assert waiting.take("b") is first
