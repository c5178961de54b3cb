"""Cells from axes, keys from content, jobs in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import config as cfg
from bench.errors import BenchError
from bench.evalsets import EvalSet, Sample
from bench.generators import Resolved, Settings
from bench.runner import Runner
from bench.sweep import Plan, expand, plan, repeated

from .fakes import DrawnGenerator, PixelJudge, evalset, make_config

SAMPLES = EvalSet([Sample(f"s{i}", f"prompt {i}") for i in range(5)], name="five")


def planned(sweep: dict[str, Any], tmp_path: Path | None = None, **changes: Any) -> Plan:
    data = {
        "name": "x",
        "evalset": {"kind": "csv", "path": "set.csv"},
        "generator": {"kind": "custom", "factory": "a:b"},
        "sweep": sweep,
    }
    data["engine"] = {"batch_size": changes.pop("batch_size", 1)}
    samples = changes.pop("samples", SAMPLES)
    generator = changes.pop("generator", DrawnGenerator())
    return plan(cfg.parse_config(data, "test"), samples, generator, **changes)


def axes(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    return list(expand(cfg.Sweep(**sweep)))


def test_an_empty_sweep_is_the_base() -> None:
    assert axes({}) == [{}]
    assert axes({"base": {"steps": 4, "args": {"a": 1}}}) == [{"steps": 4, "args.a": 1}]


def test_grid_list_ablations_and_exclusions() -> None:
    sweep = {
        "base": {"placement": "tass", "steps": 4},
        "grid": {"text": [1, 2], "reference": [0, 1]},
        "list": [{"placement": "far"}],
        "ablations": {"method": {"augmentation": [True, False], "steps": [8]}},
        "exclude": [{"text": 2, "reference": 0}],
    }
    base = {"placement": "tass", "steps": 4}
    assert axes(sweep) == [
        {**base, "text": 1.0, "reference": 0.0},
        {**base, "text": 1.0, "reference": 1.0},
        {**base, "text": 2.0, "reference": 1.0},
        {**base, "placement": "far"},
        base,
        {**base, "augmentation": "on"},
        {**base, "augmentation": "off"},
        {**base, "steps": 8},
    ]


def test_repeats_are_one_cell() -> None:
    made = planned({"grid": {"text": [1, 1.0, 2]}, "list": [{"text": 2}]})
    assert [c.label for c in made.cells] == ["text=1", "text=2"]


def test_labels_name_what_varies() -> None:
    sweep = {"grid": {"placement": ["tass", "far"], "text": [3.0], "args.eta": [0.0, 0.5]}}
    assert [c.label for c in planned(sweep).cells] == [
        "tass eta=0",
        "tass eta=0.5",
        "far eta=0",
        "far eta=0.5",
    ]
    assert planned({}).cells[0].label == "drawn"
    sweep = {"grid": {"interval": [[0, 1], [0.4, 0.8]]}}
    assert [c.label for c in planned(sweep).cells] == [
        "interval=[0.0, 1.0]",  # as tables write the axis' value
        "interval=[0.4, 0.8]",
    ]


def test_args_reach_the_generator() -> None:
    settings = Settings.of({"steps": 3, "args.eta": 0.5})
    assert settings == Settings(steps=3, args={"eta": 0.5})
    assert settings.axes() == {"steps": 3, "args.eta": 0.5}


def keys(made: Plan) -> set[str]:
    return {task.key for job in made.jobs() for task in job.tasks}


def test_a_key_holds_all_that_determines_the_video(tmp_path: Path) -> None:
    samples = evalset(tmp_path, ["a", "b"])
    sweep = {"grid": {"text": [1.0]}}
    first = keys(planned(sweep, samples=samples))
    assert keys(planned(sweep, samples=samples)) == first

    class Newer(DrawnGenerator):
        version = "2"

    class Heavier(DrawnGenerator):
        def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
            return Resolved(settings, {"drawn": "another hash"})

    others = [
        planned({"grid": {"text": [1.5]}}, samples=samples),
        planned({**sweep, "seeds": [1]}, samples=samples),
        planned(sweep, samples=samples, generator=Newer()),
        planned(sweep, samples=samples, generator=Heavier()),
        planned(sweep, samples=evalset(tmp_path / "2", ["a!", "b!"])),
    ]
    for other in others:
        assert not keys(other) & first
    # Another picture under the same name is another video.
    from PIL import Image

    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "person0.png")
    changed = keys(planned(sweep, samples=evalset_again(tmp_path)))
    assert len(changed & first) == 2


def evalset_again(folder: Path) -> EvalSet:
    from bench.evalsets import evalset

    table = evalset("csv", path=folder / "set.csv", id="id", identity="person")
    return table.load(folder)


@given(
    count=st.integers(1, 7),
    size=st.integers(1, 6),
    texts=st.integers(1, 4),
    seeds=st.integers(1, 3),
)
def test_shards_are_a_partition(count: int, size: int, texts: int, seeds: int) -> None:
    sweep = {
        "grid": {"text": [float(t) for t in range(texts)], "augmentation": ["on", "off"]},
        "seeds": list(range(seeds)),
    }
    whole = planned(sweep, batch_size=size)
    parts = [keys(planned(sweep, batch_size=size, shard=(i + 1, count))) for i in range(count)]
    assert sum(map(len, parts)) == whole.videos == texts * 2 * seeds * len(SAMPLES)
    assert set().union(*parts) == keys(whole)


@given(size=st.integers(1, 6))
def test_keys_do_not_depend_on_the_batch(size: int) -> None:
    sweep = {"grid": {"text": [1.0, 2.0]}}
    assert keys(planned(sweep, batch_size=size)) == keys(planned(sweep))


def test_jobs_of_a_stage_follow_each_other() -> None:
    made = planned({"grid": {"text": [1, 2], "augmentation": ["on", "off"]}}, batch_size=2)
    stages = [job.stage for job in made.jobs()]
    assert stages == ["on"] * 6 + ["off"] * 6
    assert [len(job.tasks) for job in made.jobs()][:6] == [2, 2, 2, 2, 1, 1]
    assert made.passes == 4 * 5 * 2


def test_limit_and_shard_are_checked() -> None:
    assert planned({}, limit=2).videos == 2
    with pytest.raises(BenchError, match="--limit is at least 1"):
        planned({}, limit=0)
    with pytest.raises(BenchError, match="A shard is I/N"):
        planned({}, shard=(3, 2))


def test_every_refused_setting_is_listed() -> None:
    class Picky(DrawnGenerator):
        def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
            raise BenchError(f"no {settings.placement}")

    with pytest.raises(BenchError) as caught:
        planned({"grid": {"placement": ["tass", "far"], "text": [1, 2]}}, generator=Picky())
    assert str(caught.value).splitlines() == ["no tass", "no far"]


def test_a_sweep_that_excludes_everything() -> None:
    with pytest.raises(BenchError, match="has no cell left"):
        planned({"grid": {"text": [1]}, "exclude": [{"text": 1}]})


def test_what_is_named_twice_is_said_and_planned_once(tmp_path: Path) -> None:
    grid = {"text": [1, 1.0, 2], "steps": [2, 3], "args.n": [1, 1.0]}
    sweep = {"grid": grid, "seeds": [4, 4]}
    assert repeated(cfg.Sweep(**sweep)) == ["text", "seeds"]
    lines, left = Runner(make_config(tmp_path, sweep=sweep), judge=PixelJudge()).describe_plan()
    assert "named twice, and run once: text, seeds" in lines
    assert left == 2 * 2 * 2 * 4
