"""Workers that die, hang or break fail what did it and nothing else, with the same videos."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from bench.batching import Stages
from bench.errors import BenchError, TooManyFailuresError
from bench.process_engine import ProcessEngine
from bench.runner import Runner
from bench.status import read_status, show_status
from bench.store import Store
from bench.sweep import Job, Task
from bench.workers import Event, Held, Lost, Ready, Worker, WorkerEngine
from bench.working import note

from .fakes import RETURNED, DrawnGenerator, PixelJudge, make_config, no_report, table_of


def moody(folder: Path, prompts: list[str], recovers: bool = False, **engine: Any) -> Any:
    args = {"recovers": str(folder / "remembered")} if recovers else {}
    generator = {"kind": "custom", "factory": "tests.bench.fakes:MoodyGenerator", "args": args}
    return make_config(folder, prompts=prompts, generator=generator, engine=engine, sweep={})


def run(config: Any, **changes: Any) -> Any:
    parts = {"judge": PixelJudge(), "report": no_report, "console": Console(file=io.StringIO())}
    return Runner(config, **{**parts, **changes}).run()  # type: ignore[arg-type]


def reasons(folder: Path) -> dict[str, str]:
    with Store(folder / "run") as store:
        return {sample: reason for _, sample, reason in store.failures(100)}


@pytest.mark.parametrize("size", [1, 5])
def test_what_dies_hangs_or_breaks_is_tried_again(tmp_path: Path, size: int) -> None:
    prompts = ["a red square", "please die", "please hang", "a fault", "a blue square"]
    config = moody(tmp_path / "rough", prompts, True, timeout_s=0.5, batch_size=size)
    summary = run(config, limit=5)
    assert (summary.generated, summary.failed) == (5, 0)
    calm = DrawnGenerator()
    calm.made_with = config.generator.args  # they are part of a video's key
    config = make_config(tmp_path / "calm", prompts=prompts, sweep={})
    run(config, generator=calm, limit=5)
    assert table_of(tmp_path / "rough" / "run") == table_of(tmp_path / "calm" / "run")


def test_what_does_it_again_fails_alone(tmp_path: Path) -> None:
    prompts = ["a red square", "please die", "a blue square", "please hang", "a fault"]
    config = moody(tmp_path, prompts, timeout_s=0.5, retries=1, batch_size=3)
    summary = run(config, limit=5)
    assert (summary.generated, summary.failed) == (2, 3)
    found = reasons(tmp_path)
    assert found["p0-1"] == ("its worker was lost 2 times (it ended with exit code 1); see the log")
    assert found["p0-3"].startswith("hung: not done after 0.5 s, in 2 tries; engine.timeout_s")
    assert "lost 2 times (RuntimeError: CUDA error: an illegal memory" in found["p0-4"]
    assert len(list((tmp_path / "run" / "logs" / "videos").glob("*.log"))) == 3


def test_what_is_not_a_video_fails_in_words(tmp_path: Path) -> None:
    prompts = ["a red square", *RETURNED]
    config = moody(tmp_path, prompts, batch_size=4)
    summary = run(config, generator=config.generator.make(), limit=12)
    assert (summary.generated, summary.failed) == (1, len(RETURNED))
    found = [reasons(tmp_path)[f"p0-{i}"] for i in range(1, len(prompts))]
    for reason, words in zip(
        found,
        [
            "returned nothing as a video; it is frames [T, H, W, 3]",
            "returned a int as a video",
            "no/such/file.mp4",
            "in 0..1, not 200..200; scale them, or return uint8",
            "in 0..1, not -0.5..-0.5",
            "NaN or infinity in 5 of 5 frames",
            "uint8 or float in 0..1, not int64",
            "[T, H, W, 3] with T >= 1, not [5, 32, 32]",
            "even height and width, not 33 x 33",
            "with T >= 1, not [0, 32, 32, 3]",
            "same shape",
        ],
        strict=True,
    ):
        assert words in reason


@pytest.mark.parametrize(("returned", "words"), [(None, "returned nothing for"), ("x", "a str")])
def test_what_is_not_a_list_of_videos(tmp_path: Path, returned: Any, words: str) -> None:
    class Odd(DrawnGenerator):
        def generate(self, samples: Any, settings: Any) -> Any:
            return returned

    assert run(make_config(tmp_path, sweep={}), generator=Odd()).failed == 4
    assert all(words in reason for reason in reasons(tmp_path).values())


def test_a_generator_that_no_worker_can_make_stops_the_run(tmp_path: Path) -> None:
    generator = {"kind": "custom", "factory": "tests.bench.fakes:UnbuiltGenerator"}
    config = make_config(tmp_path, generator={**generator, "args": {"pid": os.getpid()}})
    with pytest.raises(BenchError, match=r"cannot be made: .*no licence for this machine"):
        run(config)
    config = make_config(tmp_path, generator={**generator, "args": {"pid": 0}})
    with pytest.raises(BenchError, match=r"UnbuiltGenerator\(\*\*args\) fails .*no licence"):
        run(config)


@pytest.mark.parametrize("most", [3, 0.25])
def test_a_run_that_goes_wrong_stops(tmp_path: Path, most: float) -> None:
    config = make_config(tmp_path, prompts=["please raise"] * 6, engine={"max_failures": most})
    config = config.model_copy(update={"sweep": config.sweep.model_copy(update={"grid": {}})})
    with pytest.raises(TooManyFailuresError, match=r"Stopped: 4 videos failed, .*over\. What is"):
        run(config, generator=DrawnGenerator())
    with Store(tmp_path / "run") as store:
        assert store.counts() == {"failed": 4, "pending": 8}


def test_status_says_what_hangs(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    engine = Silent(config)
    results = engine.run(jobs(config))
    next(results)
    ((worker, task, seconds),) = engine.working()
    since = time.time() - seconds - 240
    row = {"worker": worker, "sample": task.sample.id, "cell": task.cell, "since": since}
    with Store(tmp_path / "run", write=True):
        note(tmp_path / "run", [row])
        out = io.StringIO()
        show_status(read_status(tmp_path / "run"), Console(file=out, width=200))
    assert f"worker 1: p0-0 of {task.cell} for 4:00" in out.getvalue()
    results.close()


class Silent(WorkerEngine):
    """A worker that answers, takes work, and is never heard of again."""

    def _grow(self) -> None:
        if not self.workers:
            self.workers.append(Worker("worker 1", None, ready=True))

    def _give(self, worker: Worker, job: Job) -> None:
        pass

    def _events(self, timeout: float) -> list[tuple[Worker, Event]]:
        return []

    def _kill(self, worker: Worker) -> None:
        pass


def jobs(config: Any) -> list[Job]:
    return list(Runner(config, generator=DrawnGenerator()).plan.jobs())


def test_a_time_is_a_multiple_of_the_median_a_pass(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    engine = Silent(config)
    worker = Worker("worker 1", None, ready=True, fresh=False)
    engine.workers.append(worker)
    (job, *_) = jobs(config)
    worker.held.append(Held(job))
    assert engine._limit(worker) == 3600
    engine._each.extend([20.0, 30.0, 1000.0])  # seconds a pass; it takes two
    assert engine._limit(worker) == 600
    worker.fresh, engine._first = True, 100.0
    assert engine._limit(worker) == 900


def test_workers_that_never_answer_stop_the_run(tmp_path: Path) -> None:
    class Stillborn(Silent):
        def _grow(self) -> None:
            if not self.workers:
                self.workers.append(Worker("worker", None))

        def _events(self, timeout: float) -> list[tuple[Worker, Event]]:
            return [(self.workers[0], Lost("it ended by SIGSEGV"))]

    config = make_config(tmp_path)
    with pytest.raises(BenchError, match=r"4 workers in a row ended .*SIGSEGV"):
        list(Stillborn(config).run(jobs(config)))


def test_work_is_only_given_to_workers_that_answered(tmp_path: Path) -> None:
    given: list[str] = []

    class Late(Silent):
        def _grow(self) -> None:
            if not self.workers:
                self.workers += [Worker("quick", None), Worker("slow", None)]

        def _give(self, worker: Worker, job: Job) -> None:
            given.append(worker.name)

        def _events(self, timeout: float) -> list[tuple[Worker, Event]]:
            return [] if self.workers[0].ready else [(self.workers[0], Ready())]

    config = make_config(tmp_path)
    results = Late(config).run(jobs(config))
    for _ in range(3):
        next(results)
    assert set(given) == {"quick"}


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    config = moody(tmp_path, ["please hang"])
    engine = ProcessEngine(config)
    results = engine.run(Runner(config).plan.jobs())
    while not engine.working():
        next(results)
    (worker,) = engine.workers
    process, connection = worker.handle
    child = psutil.Process(process.pid)
    assert child.is_running()
    connection.close()  # what a killed parent does
    assert child.wait(10) == 0
    results.close()


def test_the_first_interrupt_waits_for_the_video_at_work(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    class Interrupting(DrawnGenerator):
        def draw(self, sample: Any, settings: Any) -> Any:
            if sample.id == "p0-1":
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
            return super().draw(sample, settings)

    out = io.StringIO()
    # A shell that runs the tests in the background has the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        run(make_config(tmp_path), generator=Interrupting(), console=Console(file=out, width=200))
    assert "waiting for the videos at work; a second Ctrl-C gives them up" in out.getvalue()
    with Store(tmp_path / "run") as store:
        assert store.counts()["done"] == 5  # four of p0-0, and the one at work
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_job_that_was_claimed_is_not_asked_for_again() -> None:
    asked: list[Job] = []

    def claim(job: Job) -> bool:
        asked.append(job)
        return job is not mine[0]

    task = Task("k", "c", None, None, 8.0)  # type: ignore[arg-type]
    mine = [Job((), "a"), Job((task,), "a")]
    waiting = Stages(mine, claim)
    taken = waiting.take(None)
    assert taken is mine[1]
    waiting.give_back(taken)
    assert waiting.take("a") is taken
    assert asked == mine


@pytest.mark.parametrize("deaths", [0, 1])
def test_one_worker_prepares_before_any_is_given_a_job(tmp_path: Path, deaths: int) -> None:
    args = {"folder": str(tmp_path / "prepared"), "deaths": deaths}
    factory = "tests.bench.fakes:PreparedGenerator"
    config = make_config(
        tmp_path,
        generator={"kind": "custom", "factory": factory, "args": args},
        engine={"workers": 2, "retries": 1},
        sweep={},
    )
    summary = run(config)
    assert (summary.generated, summary.failed) == (4, 0)
    made = sorted(path.name for path in (tmp_path / "prepared").iterdir())
    assert made == [f"{number}-4" for number in range(deaths + 1)]


def test_what_can_not_be_prepared_stops_the_run(tmp_path: Path) -> None:
    args = {"folder": str(tmp_path / "prepared"), "deaths": 9}
    factory = "tests.bench.fakes:PreparedGenerator"
    config = make_config(
        tmp_path,
        generator={"kind": "custom", "factory": factory, "args": args},
        engine={"retries": 1},
        sweep={},
    )
    with pytest.raises(BenchError, match="2 workers were lost at what is prepared for all"):
        run(config)
