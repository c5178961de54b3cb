"""`stdrc bench` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.commands.bench import app
from bench.errors import BenchError
from bench.status import read_status

from .fakes import PixelJudge, no_report, write_set


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A config in an empty folder, and the program."""
    write_set(tmp_path / "data", ["a red square", "a blue square"])
    (tmp_path / "small.yaml").write_text(
        "name: small\n"
        "evalset: {kind: csv, path: data/set.csv, id: id, identity: person}\n"
        "generator: {kind: custom, factory: 'tests.bench.fakes:DrawnGenerator'}\n"
        "sweep:\n  base: {steps: 4}\n  grid: {placement: [tass, overlap], text: [1, 3]}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.runner.make_judge", lambda *_: PixelJudge())
    monkeypatch.setattr("bench.runner.write_report", no_report)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    return run


def test_a_path_is_run(typed: Any) -> None:
    out = typed("small.yaml")
    assert "4 cells x 4 samples x 1 seed = 16 videos, 64 model passes" in out
    assert "varied: placement, text" in out
    assert "2 cells run a placement on a checkpoint trained with another" in out
    assert "ms per model pass here: about 0:0" in out
    assert "16 generated, 16 scored" in out
    again = typed("small.yaml")
    assert "nothing was left to do" in again
    assert "16 of them are settled, 0 are left to make" in again


def test_options_before_or_after_the_path(typed: Any) -> None:
    assert "8 videos" in typed("--limit", "2", "small.yaml")
    assert "4 generated" in typed("small.yaml", "--limit", "3", "--batch-size", "2")
    assert typed("run", "small.yaml", "--limit", "1").count("nothing was left to do") == 1


def test_a_plan_makes_nothing(typed: Any, tmp_path: Path) -> None:
    out = typed("small.yaml", "--plan")
    assert "16 videos" in out
    assert not (tmp_path / "runs/small/store.sqlite").exists()


def test_status_in_words_and_json(typed: Any) -> None:
    typed("small.yaml", "--run", "out")
    out = typed("status", "out")
    assert "out: 16 of 16 videos done; nobody writes to it" in out
    assert "overlap text=3 *" in out
    assert "pixel.mean" in out
    data = json.loads(typed("status", "out", "--json", "--cells", "1"))
    assert data["videos"] == {"done": 16, "pending": 0, "failed": 0}
    assert (len(data["cells"]), data["cells_in_all"]) == (1, 4)
    with pytest.raises(BenchError, match="is not a run folder"):
        read_status(Path("none"))


def test_shards_and_merge(typed: Any) -> None:
    for i in (1, 2):
        assert "8 generated" in typed("small.yaml", "--shard", f"{i}/2")
    shards = [f"runs/small-shard-{i}-of-2" for i in (1, 2)]
    out = typed("merge", "runs/small", *shards)
    assert "16 videos" in out
    assert "16 of 16 videos done" in typed("status", "runs/small")
    with pytest.raises(BenchError, match="--shard is I/N"):
        typed("small.yaml", "--shard", "3/2")


def test_tune(typed: Any, tmp_path: Path) -> None:
    with open(tmp_path / "small.yaml", "a") as file:
        file.write("tune: {objective: pixel.mean, subject_to: pixel.change, trials: 3, step: 1}\n")
    data = json.loads(typed("tune", "small.yaml", "--limit", "1", "--json"))
    assert data["objective"] == "pixel.mean"
    assert 1 <= len(data["trials"]) <= 3
    assert "chosen: text=" in typed("tune", "small.yaml", "--limit", "1")


def test_schema_and_help(typed: Any) -> None:
    schema = json.loads(typed("--schema"))
    assert "evalset" in schema["properties"]
    text = typed("--help")
    for command in ("run", "status", "merge", "tune"):
        assert command in text
    assert "--shard" in typed("run", "--help")


def test_no_config_is_a_sentence(typed: Any) -> None:
    with pytest.raises(BenchError, match=r"Name a config: stdrc bench CONFIG"):
        typed("--limit", "1")


@pytest.mark.parametrize(
    "name", ["status", "retry", "rescore", "clean", "merge", "verify", "push", "tune"]
)
def test_each_command_has_help_with_an_example(typed: Any, name: str) -> None:
    text = typed(name, "--help")
    assert f"Example: stdrc bench {name} " in text
    assert max(map(len, text.splitlines())) <= 80
