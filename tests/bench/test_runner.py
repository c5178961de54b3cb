"""Runs on a drawn generator: results, restarts, failures, shards."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.runner import Runner
from bench.store import Store

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report, table_of


def runner(config: Any, **changes: Any) -> Runner:
    parts: dict[str, Any] = {
        "judge": PixelJudge(),
        "report": no_report,
        "console": Console(file=io.StringIO()),
    }
    return Runner(config, **{**parts, **changes})


def test_a_run_ends_with_every_video_scored(tmp_path: Path) -> None:
    summary = runner(make_config(tmp_path)).run()
    assert (summary.cells, summary.videos, summary.generated) == (4, 16, 16)
    assert summary.scored == 16
    with Store(tmp_path / "run") as store:
        assert store.counts() == {"done": 16}
        assert len(store.metric_counts()) == 2
        assert all((tmp_path / "run" / v.path).is_file() for v in store.videos() if v.path)
        assert [m for _, _, m, _ in store.cell_counts()] == [False, False, True, True]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["config"]["name"] == "small"
    assert manifest["seeds"] == [0]
    assert manifest["checkpoints"] == {"drawn": "1"}


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    runner(config).run()
    before = table_of(tmp_path / "run")
    generator, judge = DrawnGenerator(), PixelJudge()
    reports: list[Path] = []
    again = runner(config, generator=generator, judge=judge, report=reports.append).run()
    assert (again.generated, again.scored, generator.batches, judge.scored) == (0, 0, [], [])
    assert reports == []
    assert table_of(tmp_path / "run") == before
