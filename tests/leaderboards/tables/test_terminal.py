from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leaderboards import Leaderboard, LeaderboardError
from leaderboards.tables import select, terminal_table
from leaderboards.tables.text import _abbreviated, decimals, mean_text, short_names
from tests.leaderboards.runs import make_run


def printed(board: Leaderboard, width: int = 80, **settings: Any) -> list[str]:
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal_table(board, width=width, selection=select(board, **settings)))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def rows(lines: list[str]) -> list[list[str]]:
    """The table's body, split into cells."""
    start = next(n for n, line in enumerate(lines) if "───" in line) + 1
    body = lines[start : lines.index("", start)]
    return [line.split() for line in body]


def test_terminal(board: Leaderboard) -> None:
    from rich.console import Console

    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(terminal_table(board))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Identity ↑" in text
    assert "dlib" in text
    assert "90 %" in text
    assert "sets of different size" in text


@pytest.mark.parametrize("width", [60, 80, 180])
def test_one_line_an_entry(board: Leaderboard, width: int) -> None:
    lines = printed(board, width, most=None)
    body = rows(lines)
    assert len(body) == len(board.entries)
    assert max(map(len, lines)) <= width
    assert any("No room for" in line for line in lines) == (width < 180)


def test_digits_are_never_cropped(board: Leaderboard) -> None:
    """Each number that is there is there in full, however narrow the terminal."""
    c = board.columns.index(board.column("fvd.videomae"))
    wanted = [mean_text(board.cell(i, c), decimals(board, c)) for i in range(len(board.entries))]
    for width in range(20, 100, 7):
        lines = printed(board, width, columns=["fvd.videomae"])
        text = " ".join(lines)
        assert all(f" {number}" in text for number in wanted), width


def test_constant_axes_are_elided(board: Leaderboard) -> None:
    small = board.only(placement="tass")
    head = " ".join(printed(small)[:4])
    assert "text" in head
    assert "placem" not in head
    assert "tass" not in " ".join(" ".join(row) for row in rows(printed(small)))


def test_where_axes_hardly_vary_only_what_differs_is_said(tmp_path: Path) -> None:
    usual = {"interval": [0.0, 1.0], "order": "text_first", "parallel": 1, "rescale": 0}
    grid = [
        {"placement": p, "reference": r, **usual}
        for p in ("tass", "overlap", "far")
        for r in (1.0, 1.5, 2.0)
    ]
    others = [{**grid[0], "rescale": 0.5}, {**grid[0], "interval": [0.4, 0.8]}]
    others += [{**grid[0], "order": "joint"}, {**grid[0], "parallel": 0}]
    made = {f"cell{i}": axes for i, axes in enumerate([*grid, *others])}
    lines = printed(Leaderboard.from_run(make_run(tmp_path / "run", made)), 90)
    head = " ".join(lines[:4])
    assert re.search(r"placem\. +refer\. +other", head)
    (least,) = [row for row in rows(lines) if "rescale=0.5" in row]
    assert least[1:4] == ["tass", "1", "rescale=0.5"]
    assert sum("interval=" in " ".join(row) for row in rows(lines)) == 1
    said = re.search(r"Where not said: (.*?)\. ", re.sub(r"\s+", " ", " ".join(lines)))
    assert said is not None
    unsaid = {"interval [0.0, 1.0]", "order text_first", "parallel 1", "rescale 0"}
    assert all(one in said[1] for one in unsaid)


def test_columns_sort_and_top(board: Leaderboard) -> None:
    lines = printed(board, 100, columns=["text.clip", "identity"], sort="identity.dlib", top=3)
    assert any("15 more entries." in line for line in lines)
    c = board.columns.index(board.column("identity.dlib"))
    best = np.sort(board.means[:, c])[::-1][:3]
    shown = [float(next(x for x in row if x.startswith(("0.6", "0.7"))))
             for row in rows(lines)]  # fmt: skip
    assert shown == pytest.approx(best, abs=0.005)
    head = " ".join(lines[:4])
    assert head.index("Text") < head.index("Identity")
    worst = select(board, sort="-identity.dlib").entries
    assert worst == select(board, sort="identity.dlib").entries[::-1]
    with pytest.raises(LeaderboardError, match="'beauty' is not a column"):
        select(board, ["beauty"])
    with pytest.raises(LeaderboardError, match="'beauty' is not a column"):
        select(board, sort="beauty")
    assert len(select(board, ["all"]).columns) == len(board.columns)
    assert len(select(board, ["t*"]).columns) == 2


def test_names_are_cut_in_the_middle_and_stay_apart() -> None:
    names = [f"the same long beginning of a name, {k}, and the same long end" for k in (1, 2)]
    board = Leaderboard.from_table(pd.DataFrame({"team": names, "FID v": [1.0, 2.0]}))
    body = printed(board, 60)
    lines = [line for line in body if "…" in line]
    assert len(lines) == 2
    assert lines[0].split()[1:-2] != lines[1].split()[1:-2]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.473, 0.441, 0.269], ["0.473", "0.441", "0.269"]),
        ([170, 214, 208], ["170", "214", "208"]),
        ([27.8, 28.0, 28.6], ["27.8", "28.0", "28.6"]),
        ([0.00012, 0.00034, 0.00023], ["0.00012", "0.00034", "0.00023"]),
        ([1234.5678, 1334.1, 999.9], ["1235", "1334", "1000"]),
        ([1.0, 1.0, 1.0], ["1", "1", "1"]),
    ],
)
def test_decimals_follow_the_spread(values: list[float], shown: list[str]) -> None:
    frame = pd.DataFrame({"team": ["a", "b", "c"], "score ^": values})
    board = Leaderboard.from_table(frame)
    places = decimals(board, 0)
    texts = {e.key: mean_text(board.cell(i, 0), places) for i, e in enumerate(board.entries)}
    assert [texts[name] for name in "abc"] == shown


def test_an_interval_is_never_zero_wide(board: Leaderboard) -> None:
    for c in range(len(board.columns)):
        half = np.nanmedian(board.highs[:, c] - board.lows[:, c]) / 2
        if np.isfinite(half) and half > 0:
            assert round(half, decimals(board, c)) > 0


@pytest.mark.parametrize(
    ("metric", "short"),
    [
        ("identity.people.miniature.absence", "people absence"),
        ("identity.timeline.miniature.stranger", "stranger"),
        ("identity.timeline.miniature", "timeline"),
        ("leakage.pose_difference.miniature", "pose difference"),
        ("leakage.attributes.hat.miniature", "attributes hat"),
        ("faces.rate.miniature", "faces rate"),
    ],
)
def test_a_long_label_is_shortened_to_what_tells_the_metric(metric: str, short: str) -> None:
    assert _abbreviated(metric, "miniature") == short


def test_short_names_differ(board: Leaderboard) -> None:
    names = short_names(board, range(len(board.columns)))
    assert len(set(names)) == len(names)
