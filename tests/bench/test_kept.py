"""What is kept: change one input, and exactly what depends on it is done again."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from bench import config as cfg
from bench.errors import BenchError
from bench.evalsets import Event, Sample
from bench.merging import merge
from bench.runner import Runner
from bench.scoring import judge_fingerprint
from bench.status import read_status
from bench.store import Store
from leaderboards.runfolder import MetricRow
from leaderboards.runs import read_run
from media.files import file_sha256
from media.writing import write_video
from metrics.scores import VideoItem
from tests.leaderboards.test_runfolder import old

from .fakes import DrawnGenerator, FakeScore, FakeSetScore, no_report, table_of
from .test_store import plan, task

__all__ = ["old"]  # a fixture
CELLS, SAMPLES = 2, 3
NEEDS = {
    "pixel.alone": (),
    "text.words": ("prompt",),
    "face.like": ("reference",),
    "copy.both": ("reference", "target"),
}


class NeedyJudge:
    """Says what it was asked to score; every metric needs something else."""

    def __init__(self, versions: dict[str, str] | None = None, status: str = "ok") -> None:
        self.versions, self.status = versions or {}, status
        self.absent: dict[str, str] = {}
        self.asked: set[tuple[str, str]] = set()  # (video, metric)
        self.sets: set[tuple[str, str]] = set()

    @property
    def columns(self) -> list[MetricRow]:
        each = [
            MetricRow(m, "fake", self.versions.get(m, "1"), m, True, needs=n)
            for m, n in NEEDS.items()
        ]
        return [
            *each,
            MetricRow("set.d", "fake", "1", "d", False, per_video=False, needs=NEEDS["copy.both"]),
        ]

    def score(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        for item in items:
            for m in metrics:
                self.asked.add((item.key, m))
                value = 0.5 if self.status == "ok" else None
                version = self.versions.get(m, "1")
                why = "" if self.status == "ok" else "no face"
                yield FakeScore(item.key, item.group, m, "fake", version, value, self.status, why)

    def score_sets(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        groups: dict[str, int] = {}
        for item in items:
            groups[item.group] = groups.get(item.group, 0) + 1
        for group, n in groups.items():
            self.sets.add((group, "set.d"))
            yield FakeSetScore(group, "set.d", "fake", "1", 1.0, None, None, n)


class Versioned(DrawnGenerator):
    def __init__(self, version: str = "1", salt: str = "") -> None:
        super().__init__()
        self.version, self.salt = version, salt

    def draw(self, sample: Any, settings: Any) -> Any:
        frames = super().draw(sample, settings)
        return np.clip(frames * 0.5, 0, 1) if self.salt else frames


class World:
    """A run's inputs on disk, to be changed one at a time."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        self.data.mkdir(parents=True)
        self.rows = [
            {"id": f"s{i}", "prompt": f"square {i}", "reference": f"face{i}.png",
             "target": f"true{i}.mp4", "person": f"person{i}"}
            for i in range(SAMPLES)
        ]  # fmt: skip
        for i in range(SAMPLES):
            Image.new("RGB", (16, 16), (40 * i, 90, 20)).save(self.data / f"face{i}.png")
            self.write_target(i, 0.1 * i)
        self.config: dict[str, Any] = {
            "name": "kept",
            "run": str(root / "run"),
            "generator": {"kind": "custom", "factory": "tests.bench.fakes:DrawnGenerator"},
            "sweep": {"base": {"steps": 2}, "grid": {"text": [1, 3]}, "seeds": [0]},
            "video": {"crf": 12},
        }
        self.versions: dict[str, str] = {}
        self.generator = "1"
        self.reports = 0

    def write_target(self, i: int, level: float) -> None:
        write_video(self.data / f"true{i}.mp4", np.full((3, 16, 16, 3), level), 8.0)

    def load(self, reverse: bool = False) -> cfg.BenchConfig:
        names = list(self.rows[0])
        table = [",".join(names), *(",".join(row[n] for n in names) for row in self.rows)]
        (self.data / "set.csv").write_text("\n".join(table) + "\n")
        evalset = {"kind": "csv", "path": str(self.data / "set.csv"), "id": "id",
                   "identity": "person", "target": "target"}  # fmt: skip
        config = {**self.config, "evalset": evalset}
        if reverse:
            config = {k: config[k] for k in reversed(config)}
        path = self.root / "run.yaml"
        text = yaml.safe_dump(config, sort_keys=False)
        path.write_text(f"# {'another' if reverse else 'a'} comment\n{text}")
        return cfg.load_config(path)

    def report(self, folder: Path) -> None:
        self.reports += 1
        no_report(folder)

    def run(self, **changes: Any) -> tuple[int, list[tuple[str, str]], int]:
        """(videos generated, (sample, metric) of each score made, cells whose set was scored)."""
        judge = NeedyJudge(self.versions)
        runner = Runner(
            self.load(**changes),
            generator=Versioned(self.generator),
            judge=judge,
            report=self.report,
            console=Console(file=io.StringIO()),
        )
        summary = runner.run()
        with Store(Path(self.config["run"])) as store:
            sample = {v.video: v.sample for v in store.videos()}
        return summary.generated, sorted((sample[k], m) for k, m in judge.asked), len(judge.sets)


def of(samples: Iterable[int], metrics: Iterable[str], cells: int = CELLS) -> list[tuple[str, str]]:
    return sorted({(f"s{i}", m) for i in samples for m in metrics for _ in range(cells)})


def again(found: tuple[int, list[tuple[str, str]], int]) -> tuple[int, list[Any], int]:
    return found[0], sorted(set(found[1])), found[2]


def row(i: int, **values: str) -> Callable[[World], None]:
    return lambda world: world.rows[i].update(values)


def section(name: str, **values: Any) -> Callable[[World], None]:
    return lambda world: world.config.update({name: {**world.config[name], **values}})


EVERY = range(SAMPLES)
#: What is changed, and: videos made again, scores made again, cells whose set is scored again.
CHANGES: dict[str, tuple[Callable[[World], None], int, list[Any], int]] = {
    "a prompt": (row(1, prompt="another"), CELLS, of([1], NEEDS), CELLS),
    "a reference's bytes": (
        lambda w: Image.new("RGB", (16, 16), "red").save(w.data / "face2.png"),
        *(CELLS, of([2], NEEDS), CELLS),
    ),
    "a target's bytes": (lambda w: w.write_target(0, 0.9), 0, of([0], ["copy.both"]), CELLS),
    "who is the same person": (row(1, person="person0"), 0, [], CELLS),
    "a metric's version": (
        lambda w: w.versions.update({"text.words": "2"}),
        *(0, of(EVERY, ["text.words"]), 0),
    ),
    "the generator's version": (
        lambda w: setattr(w, "generator", "2"),
        *(CELLS * SAMPLES, of(EVERY, NEEDS), CELLS),
    ),
    "crf": (section("video", crf=20), CELLS * SAMPLES, of(EVERY, NEEDS), CELLS),
    "a seed": (section("sweep", seeds=[7]), CELLS * SAMPLES, of(EVERY, NEEDS), CELLS),
    "one more seed": (section("sweep", seeds=[0, 7]), CELLS * SAMPLES, of(EVERY, NEEDS), CELLS),
    "the base": (section("sweep", base={"steps": 3}), CELLS * SAMPLES, of(EVERY, NEEDS), CELLS),
    "one more cell": (
        section("sweep", grid={"text": [1, 3, 5]}),
        *(SAMPLES, of(EVERY, NEEDS), 1),
    ),
    "one cell fewer": (section("sweep", grid={"text": [1]}), 0, [], 0),
    "one sample fewer": (lambda w: w.rows.pop(), 0, [], CELLS),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_depends_on_a_change_is_done_again_and_nothing_else(tmp_path: Path, what: str) -> None:
    world = World(tmp_path)
    assert again(world.run()) == (CELLS * SAMPLES, of(EVERY, NEEDS), CELLS)
    assert world.run() == (0, [], 0)
    change, generated, scores, sets = CHANGES[what]
    change(world)
    assert again(world.run()) == (generated, scores, sets)
    assert world.run() == (0, [], 0)
    rows = read_run(tmp_path / "run")  # one entry per cell, one score per slot
    assert not rows.scores.duplicated(["entry", "sample", "seed", "metric"]).any()
    assert len({e.label for e in rows.entries}) == len(rows.entries)


def test_a_replaced_reference_of_finished_videos_is_noticed_on_a_complete_run(
    tmp_path: Path,
) -> None:
    """The videos don't depend on it, so nothing but the scores can tell."""
    world = World(tmp_path)
    (tmp_path / "made").mkdir()
    for i in range(SAMPLES):
        write_video(tmp_path / "made" / f"s{i}.mp4", np.full((3, 16, 16, 3), 0.3), 8.0)
    folder = {"kind": "folder", "path": str(tmp_path / "made"), "pattern": "{sample}.mp4"}
    world.config.update(generator=folder, sweep={})

    def run() -> list[str]:
        judge = NeedyJudge(world.versions)
        Runner(
            world.load(), judge=judge, report=world.report, console=Console(file=io.StringIO())
        ).run()
        with Store(Path(world.config["run"])) as store:
            sample = {v.video: v.sample for v in store.videos()}
        return sorted(f"{sample[key]} {metric}" for key, metric in judge.asked)

    assert len(run()) == SAMPLES * len(NEEDS)
    assert run() == []
    Image.new("RGB", (16, 16), "red").save(world.data / "face1.png")
    seen = [name for name, needs in NEEDS.items() if "reference" in needs]
    assert run() == sorted(f"s1 {name}" for name in seen)
    assert run() == []


def touched(world: World) -> None:
    for path in world.root.rglob("*"):
        if path.suffix in (".png", ".mp4", ".csv"):
            os.utime(path, (1, 1))


def moved(world: World) -> None:
    shutil.move(world.data, world.root / "elsewhere")
    world.data = world.root / "elsewhere"


#: What does not matter, and whether tables show it.
NOTHING: dict[str, tuple[Callable[[World], None], bool, bool]] = {
    "order of keys and comments": (lambda w: None, True, False),
    "time stamps": (touched, False, False),
    "the files' place": (moved, False, False),
    "an identity's name": (row(0, person="somebody"), False, True),
    "batch size": (lambda w: w.config.update(engine={"batch_size": 2}), False, False),
    "a description": (lambda w: w.config.update(description="words"), False, False),
}


@pytest.mark.parametrize("what", NOTHING)
def test_what_does_not_matter_does_nothing(tmp_path: Path, what: str) -> None:
    world = World(tmp_path)
    world.run()
    before, reports = table_of(tmp_path / "run"), world.reports
    change, reverse, shown = NOTHING[what]
    change(world)
    assert world.run(reverse=reverse) == (0, [], 0)
    assert (table_of(tmp_path / "run") != before) is shown
    assert world.reports >= reports + shown


def test_what_a_plan_no_longer_has_is_retired_until_it_is_back_or_cleaned(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    before = table_of(tmp_path / "run")
    Image.new("RGB", (16, 16), "red").save(world.data / "face0.png")
    world.run()
    with Store(tmp_path / "run") as store:
        assert sum(n for _, n, _ in store.retired()) == CELLS
        assert store.counts() == {"done": CELLS * SAMPLES}
    Image.new("RGB", (16, 16), (0, 90, 20)).save(world.data / "face0.png")
    assert world.run()[:2] == (0, [])  # as it was: nothing is lost
    with Store(tmp_path / "run", write=True) as store:
        gone = store.videos(retired=True)
        assert store.clean()[0] == len(gone) == CELLS
        assert not any(store.video_path(row.video).exists() for row in gone)
        assert store.retired() == []
    assert world.run() == (0, [], 0)
    assert table_of(tmp_path / "run") == before


def test_two_configs_of_one_folder_keep_their_own_and_may_not_share_a_name(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        plan(store, [task("v1", "c1")], "mine")
        plan(store, [task("v2", "c2")], "theirs")
        plan(store, [task("v3", "c1")], "mine")
        assert [v.video for v in store.videos()] == ["v3", "v2"]
        with pytest.raises(ValueError, match=r"other videos of the cell c2, planned by 'theirs'"):
            plan(store, [task("v4", "c2")], "mine")
        assert [v.video for v in store.videos()] == ["v3", "v2"]


def test_a_folder_of_schema_1_goes_on_with_what_its_plan_still_has(old: Path) -> None:
    with Store(old, write=True) as store:
        column = MetricRow("identity.dlib", "dlib", "1", "Identity")
        assert set(store.scored(column).values()) == {("1", None)}  # of inputs nobody wrote down
        plan(store, [task("aa01", "c1c1")], "mine")
        assert [v.video for v in store.videos()] == ["aa01"]
        assert [c.label for c in store.cells()] == ["tass"]
        assert sum(n for _, n, _ in store.retired()) == 2


# Faults that were planted once and that no test noticed ------------------------------------------


def test_the_timeline_is_in_a_videos_key() -> None:
    sample = Sample("1", "a person", timeline=(Event(0, 1, "waves"),))
    other = Sample("1", "a person", timeline=(Event(0, 2, "waves"),))
    generator = DrawnGenerator()
    assert generator.content(sample, 0) != generator.content(other, 0)
    assert generator.content(sample, 0) != generator.content(Sample("1", "a person"), 0)


def test_failed_scores_are_not_scored_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = CELLS * SAMPLES * len(NEEDS)
    # The last run is not complete when it starts, so it goes through what is there.
    for seeds, expected, failed in (([0], made, made), ([0], 0, made), ([0, 7], made, 2 * made)):
        world.config["sweep"]["seeds"] = seeds
        judge = NeedyJudge(status="failed")
        console = Console(file=io.StringIO())
        runner = Runner(
            world.load(), generator=Versioned(), judge=judge, report=no_report, console=console
        )
        assert runner.run().unscorable == failed
        assert len(judge.asked) == expected
    told = read_status(runner.config.folder)["score_failures"]
    assert {row["reason"] for row in told} == {"no face"}
    assert {row["metric"]: row["scores"] for row in told} == dict.fromkeys(
        NEEDS, 2 * CELLS * SAMPLES
    )


@pytest.mark.parametrize("same", [True, False])
def test_merging_takes_no_video_that_is_there(tmp_path: Path, same: bool) -> None:
    for name in ("all", "shard"):
        with Store(tmp_path / name, write=True) as store:
            plan(store, [task("v1")])
            path = store.video_path("v1")
            path.parent.mkdir(parents=True)
            path.write_bytes(b"video" if same else name.encode())
            store.finish("v1", file_sha256(path), 1.0)
    with Store(tmp_path / "all", write=True) as store:
        inode, before = store.video_path("v1").stat().st_ino, store.video_path("v1").read_bytes()
        if same:
            assert merge(store, tmp_path / "shard") == (0, [])
        else:
            with pytest.raises(BenchError):
                merge(store, tmp_path / "shard")
        assert store.video_path("v1").stat().st_ino == inode
        assert store.video_path("v1").read_bytes() == before


def test_merging_leaves_finished_videos_and_their_scores_alone(tmp_path: Path) -> None:
    for name, value in (("all", 0.5), ("shard", 0.9)):
        with Store(tmp_path / name, write=True) as store:
            plan(store, [task("v1")])
            if name == "all":
                store.video_path("v1").parent.mkdir(parents=True)
                store.video_path("v1").write_bytes(b"finished")
                store.finish("v1", "hash", 1.0)
            else:
                store.fail("v1", "it fell over")
            store.add_scores([(FakeScore("v1", "c", "m", "b", "1", value), "i")])
    with Store(tmp_path / "all", write=True) as store:
        assert merge(store, tmp_path / "shard") == (0, [])
        (video,) = store.videos()
        assert (video.status, video.sha256, video.reason) == ("done", "hash", None)
        assert store.mean("c", "m") == 0.5
        assert store.video_path("v1").read_bytes() == b"finished"


def test_a_changed_video_drops_its_scores_and_its_cells_set_scores(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    run = tmp_path / "run"
    next((run / "videos").glob("??/*.mp4")).write_bytes(b"another video")
    with Store(run, write=True) as store:
        store.adopt()
        assert store.counts() == {"done": CELLS * SAMPLES - 1, "pending": 1}
        (count,) = store.db.execute("SELECT COUNT(*) FROM set_scores").fetchone()
        assert count == CELLS - 1
    judge, console = NeedyJudge(), Console(file=io.StringIO())
    Runner(
        world.load(),
        generator=Versioned(salt="other bytes"),
        judge=judge,
        report=no_report,
        console=console,
    ).run()
    assert (len(judge.asked), len(judge.sets)) == (len(NEEDS), 1)


def test_the_number_of_frames_is_in_a_sampled_metrics_version(tmp_path: Path) -> None:
    from bench.suite_judge import SuiteJudge

    names = ["leakage.crop_ssim.miniature", "temporal.flicker"]
    sampled, whole = (
        [
            SuiteJudge(cfg.Metrics(names=names, num_frames=n), tmp_path).columns[i].version
            for n in (4, 16)
        ]
        for i in (0, 1)
    )
    assert sampled[0] != sampled[1]
    assert whole[0] == whole[1]  # it looks at every frame


def test_replaced_weights_are_noticed_on_a_complete_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"one")
    monkeypatch.setattr("metrics.weights.find", lambda name, path=None: weights)
    config = cfg.Metrics(names=["identity.dlib"])
    monkeypatch.setattr("metrics.catalogue.availability", lambda info, paths: ("", ""))
    first = judge_fingerprint(config)
    assert judge_fingerprint(config) == first
    weights.write_bytes(b"another")
    assert judge_fingerprint(config) != first
