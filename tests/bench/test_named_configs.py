"""Configs by name: what a name means, where relative paths start, what a copy refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main
from bench.config import load_config
from bench.errors import BenchError
from bench.named_configs import copy_config, find_config, named_configs
from media.errors import UnknownNameError
from stdrc.training import TrainConfig


def test_every_shipped_config_has_a_kind_and_a_summary() -> None:
    known = named_configs()
    assert {"quick", "first", "ltx23-ipvg2026"} <= {
        n for n, c in known.items() if c.kind == "bench"
    }
    assert {"ltx23-lora", "miniature-base"} <= {n for n, c in known.items() if c.kind == "train"}
    for config in known.values():
        assert config.summary.endswith(".")
        assert len(config.summary) > 20


def test_paths_of_a_shipped_config_start_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, base = find_config("ltx23-lora", "train")
    by_name = TrainConfig.load(file, folder=base)
    assert by_name.output == Path("runs/ltx23-lora-tass")
    assert by_name.data == [Path("data/vip200k")]
    assert find_config(str(file), "train") == (file, base)  # the same file, named by its path
    copied = copy_config("ltx23-lora", tmp_path)  # and a copy of it
    assert TrainConfig.load(copied).output == tmp_path / by_name.output
    sweep = load_config(*find_config("ltx23-ipvg2026", "bench"))
    assert sweep.evalset.path == Path("data/ipvg2026/test_track1/final")


def test_paths_of_a_config_of_ones_own_start_at_its_folder(tmp_path: Path) -> None:
    assert find_config(f"{tmp_path}/mine.yaml", "bench") == (tmp_path / "mine.yaml", tmp_path)
    assert find_config("mine.yml", "train") == (Path("mine.yml"), Path())


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("quik", "bench", "Did you mean 'quick'"),
        ("ltx23-lora", "bench", "a config of 'stdrc train'"),
        ("quick", "train", "a config of 'stdrc bench'"),
    ],
)
def test_an_unknown_name_is_refused(name: str, kind: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        find_config(name, kind)  # type: ignore[arg-type]


def test_a_copy_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["configs", "copy", "quick", str(tmp_path / "mine.yaml")])
    assert not ended.value.code
    assert load_config(tmp_path / "mine.yaml") == load_config(*find_config("quick", "bench"))
    with pytest.raises(BenchError, match="already exists"):
        copy_config("quick", tmp_path / "mine.yaml")
    with pytest.raises(BenchError, match="no folder"):
        copy_config("quick", tmp_path / "none" / "mine.yaml")
    with pytest.raises(UnknownNameError, match="Did you mean 'quick'"):
        copy_config("quik", tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["configs"])
    assert not ended.value.code
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(named_configs())
    assert any(line.startswith("stdrc bench quick ") for line in listed)
