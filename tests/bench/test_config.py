"""A bad config is a sentence a problem, with the line, the key and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.axes import axis_value
from bench.config import BenchConfig, config_json, load_config, parse_config
from bench.errors import BenchError
from bench.named_configs import find_config, named_configs

GOOD = """\
name: small
evalset:
  kind: world
  identities: 2
generator:
  kind: stdrc
sweep:
  grid:
    placement: [tass, {when: after, gap: 2}]
    augmentation: [on, off]
    text: [1, 3.5]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_a_config_is_read_with_its_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.folder == Path("runs/small")
    assert config.sweep.seeds == [0]
    assert config.engine.kind == "local"
    assert parse_config(config_json(config), "manifest") == config


def test_yaml_switches_and_numbers_become_what_the_axis_holds() -> None:
    assert axis_value("augmentation", True) == "on"
    assert axis_value("augmentation", "no-pose") == "no-pose"
    assert axis_value("text", 3) == 3.0
    assert isinstance(axis_value("text", 3), float)
    assert axis_value("interval", [0, 0.5]) == (0.0, 0.5)
    assert axis_value("args.anything", [1]) == [1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("identities: 2", "identitis: 2",
         r"run.yaml:4: evalset.identitis: unknown key 'identitis'; known are "
         r".*\. Did you mean 'identities'\?"),
        ("name: small", "name: small\nrank: {by: families, weights: {identity: 1}}",
         r"run.yaml:2: rank: .*weights and anchors belong to the scheme 'score'"),
        ("kind: stdrc", "kind: stdrcc", r"run.yaml:5: generator: .*'stdrcc'.*'stdrc'"),
        ("kind: stdrc", "kind: stdrc\n  dtype: int8", r"run.yaml:7: generator.dtype: .*'float32'"),
        ("identities: 2", "identities: zero", r"run.yaml:4: evalset.identities: .*'zero'"),
        ("placement: [", "placment: [", r"sweep.grid.placment: unknown axis 'placment'; "
         r"the axes are checkpoint, placement.*\. Did you mean 'placement'\?"),
        ("text: [1, 3.5]", "text: [1, high]", r"sweep.grid.text: 'high'"),
        ("text: [1, 3.5]", "text: []", r"run.yaml:11: sweep.grid.text: list should have"),
        ("text: [1, 3.5]", "text: 3", r"run.yaml:11: sweep.grid.text: .*list.*it is 3"),
        ("text: [1, 3.5]", "text: [.nan]", r"sweep.grid.text: nan"),
        ("name: small", "name: ../small", r"run.yaml:1: name: "),
        ("name: small\n", "", r"run.yaml: name: is missing"),
        ("name: small", "name: small\nname: other", r"run.yaml:2: the key 'name' is duplicated"),
        ("name: small", "name: [", r"run.yaml:\d+: not valid YAML"),
        ("kind: world", "kind: csv", r"run.yaml:2: evalset.path: is missing"),
        ("name: small", "name: small\nengine: {kind: ray, gpus_per_worker: 2}",
         r"gpus_per_worker: the generator stdrc uses one GPU, and 2 would be held; leave it at 1"),
        ("name: small", "name: small\nengine: {kind: ray, placement: pack}",
         r"engine.placement needs engine.kind: ray, and engine.workers"),
        ("name: small", "name: small\ntrackers: [mlflow]", r"run.yaml:2: trackers.*'tensorboard'"),
    ],
)  # fmt: skip
def test_bad_configs(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(BenchError, match=message):
        load_config(write(tmp_path, GOOD.replace(old, new)))


def test_a_model_of_ones_own_may_use_several_gpus(tmp_path: Path) -> None:
    own = GOOD.replace("kind: stdrc", "kind: custom\n  factory: mine:model")
    config = load_config(write(tmp_path, own + "engine: {kind: ray, gpus_per_worker: 2}\n"))
    assert config.engine.gpus_per_worker == 2


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("identities: 2", "identities: 0") + "colour: red\n"
    with pytest.raises(BenchError) as caught:
        load_config(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_not_there_or_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="There is no file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(BenchError, match="a run is a mapping"):
        load_config(write(tmp_path, "- 1\n"))


def test_input_paths_start_at_the_file_and_the_run_folder_at_the_caller(tmp_path: Path) -> None:
    text = (
        "name: x\nrun: out\nevalset: {kind: csv, path: data/set.csv}\n"
        "generator: {kind: stdrc, checkpoint: base, variants: {a: {path: a.safetensors}}}\n"
    )
    (tmp_path / "base").mkdir()
    (tmp_path / "a.safetensors").touch()  # what is no file is taken for a hub id
    config = load_config(write(tmp_path, text))
    assert config.evalset.path == tmp_path / "data/set.csv"  # type: ignore[union-attr]
    assert config.folder == Path("out")
    assert config.generator.checkpoint == str(tmp_path / "base")  # type: ignore[union-attr]
    assert Path(config.generator.variants["a"].path) == tmp_path / "a.safetensors"  # type: ignore[union-attr]


def test_the_schema_is_json_and_names_every_section() -> None:
    schema = json.loads(json.dumps(BenchConfig.model_json_schema()))
    assert set(schema["properties"]) == set(BenchConfig.model_fields)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", [c.name for c in named_configs().values() if c.kind == "bench"])
def test_shipped_configs_are_valid(name: str) -> None:
    config = load_config(*find_config(name, "bench"))
    assert config.name == name
    assert config.description
