"""Choosing guidance weights on a landscape whose best point is known."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.generators import Settings
from bench.tune import show_choice, tune_guidance
from leaderboards.runfolder import MetricRow

from .fakes import DrawnGenerator, FakeScore, PixelJudge, make_config, read


class Landscape(DrawnGenerator):
    """Grey videos: red rises with the reference's weight, green falls the more it does."""

    def draw(self, sample: Any, settings: Settings) -> Any:
        identity = settings.reference / 4
        text = 1.0 - max(0.0, settings.reference - 2.0) / 2 - abs(settings.text - 3.0) / 10
        return np.full((2, 16, 16, 3), [identity, max(text, 0.0), 0.0], np.float32)


class Eyes(PixelJudge):
    """Reads the two channels back."""

    @property
    def columns(self) -> list[MetricRow]:
        return [
            MetricRow("identity", "x", "1", "Identity", True),
            MetricRow("text", "x", "1", "Text", True),
        ]

    def score(self, items: Any, metrics: Any) -> Any:
        for item in items:
            self.scored.append(item.key)
            frames = read(item.video) / 255
            for i, name in enumerate(("identity", "text")):
                yield FakeScore(item.key, item.group, name, "x", "1", float(frames[..., i].mean()))


def config(folder: Path, **changes: Any) -> Any:
    tune = {"objective": "identity", "subject_to": "text", "tolerance": 0.05, "trials": 20}
    return make_config(folder, sweep={}, tune={**tune, "step": 1.0, **changes})


def search(run: Any, **changes: Any) -> Any:
    console = Console(file=io.StringIO())
    parts = {"generator": Landscape(), "judge": Eyes(), "console": console}
    return tune_guidance(run, **{**parts, **changes})


def test_the_best_identity_that_keeps_the_text(tmp_path: Path) -> None:
    choice = search(config(tmp_path), limit=1)
    assert (choice.best.text, choice.best.reference) == (3.0, 2.0)
    assert choice.best.feasible
    assert any(not t.feasible and t.objective > choice.best.objective for t in choice.trials)
    out = io.StringIO()
    show_choice(choice, Console(file=out, width=120))
    assert "chosen: text=3 reference=2" in out.getvalue()


def test_a_search_again_costs_nothing(tmp_path: Path) -> None:
    first = search(config(tmp_path), trials=5, limit=1)
    generator, judge = Landscape(), Eyes()
    again = search(config(tmp_path), trials=5, limit=1, generator=generator, judge=judge)
    assert again == first
    assert generator.batches == []
    assert judge.scored == []


def test_what_cannot_be_searched(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="has no 'tune' section"):
        search(make_config(tmp_path))
    with pytest.raises(BenchError, match="there is no metric 'beauty'; there are identity, text"):
        search(config(tmp_path, objective="beauty"))
    judge = Eyes(absent={"clip": "needs weights"})
    with pytest.raises(BenchError, match=r"'clip' cannot run here \(needs weights\)"):
        search(config(tmp_path, subject_to="clip"), judge=judge)
