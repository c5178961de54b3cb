"""Boards that the tables' tests share."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from leaderboards import Leaderboard
from tests.leaderboards.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("exports") / "run", failed=[(2, 0)])


@pytest.fixture(scope="module")
def board(run: Path) -> Leaderboard:
    return Leaderboard.from_run(run, on_mixed="blank")


NASTY = "50% of_a & b #1 {x} ~ ^ \\ <é> $|$ ±"


def nasty_board() -> Leaderboard:
    return Leaderboard.from_table(
        pd.DataFrame({"team": [NASTY, "plain"], "Face_Arc ^": [0.5, -0.25], "FID v": [170, 214]})
    )


#: Names that a reader of tables takes for something else.
AWKWARD = [
    "NaN", "nan", "None", "null", "NA", "N/A", "001", "1", "1.0", "True", "false", "inf", "-inf",
    "1e5", "2026-01-01", " leading", "a,b", 'say "x"', "a;b", "#1", "é", "你好", "line\nbreak", "-",
]  # fmt: skip
