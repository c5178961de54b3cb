from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboards import Leaderboard, LeaderboardError, ablation
from leaderboards.tables import (
    ablation_frame,
    board_frame,
    export,
    to_csv,
    to_json,
    to_parquet,
)
from tests.leaderboards.tables.conftest import AWKWARD


def test_csv_reads_back(board: Leaderboard) -> None:
    frame = pd.read_csv(io.BytesIO(to_csv(board_frame(board))))
    assert len(frame) == 18
    again = Leaderboard.from_table(frame)
    assert [e.key for e in again.entries] == [e.key for e in board.entries]
    assert again.means[:, 0] == pytest.approx(board.means[:, 0], rel=1e-5)
    assert again.lows[:, 0] == pytest.approx(board.lows[:, 0], rel=1e-5)
    assert again.columns[0].backend == "dlib"
    assert again.column("motion.degree").higher_is_better is None
    assert again.entries[0].axes["placement"] == "tass"


def test_parquet_has_the_same_numbers(board: Leaderboard) -> None:
    a = pd.read_parquet(io.BytesIO(to_parquet(board_frame(board))))
    b = pd.read_csv(io.BytesIO(to_csv(board_frame(board))))
    assert a["identity.dlib"].tolist() == b["identity.dlib"].tolist()


def test_json_is_whole(board: Leaderboard) -> None:
    data = json.loads(to_json(board))
    assert len(data["entries"]) == 18
    assert data["columns"][0]["backend"] == "dlib"
    first = data["entries"][0]["cells"][0]
    assert first["low"] < first["mean"] < first["high"]
    assert any("sets of different size" in note for note in data["notes"])


@pytest.mark.parametrize("format", ["csv", "parquet", "json", "md", "tex"])
def test_same_bytes_every_time(run: Path, tmp_path: Path, format: str) -> None:
    paths = [
        export(Leaderboard.from_run(run, on_mixed="blank"), tmp_path / f"{n}.{format}")
        for n in (1, 2)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_unknown_format(board: Leaderboard, tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="has an unknown format"):
        export(board, tmp_path / "table.docx")


def test_ablation_frame_states_the_point(board: Leaderboard) -> None:
    frame = ablation_frame(ablation(board, "text", {"placement": "overlap"}))
    assert frame["text"].tolist() == ["1", "3", "5"]
    assert set(frame["at:placement"]) == {"overlap"}
    assert "identity.dlib" in frame.columns


# --------------------------------------------------------------------------- CSV


def test_everything_is_in_plain_ascii_columns(board: Leaderboard) -> None:
    frame = board_frame(board)
    assert all(name.isascii() and name.isprintable() for name in frame.columns)
    assert {"place_low", "place_high", "p_first", "rank_sum", "axis:placement"} <= set(frame)
    assert set(frame["identity.dlib_direction"]) == {"higher"}
    assert set(frame["temporal.warp_direction"]) == {"lower"}
    assert set(frame["motion.degree_direction"]) == {"none"}


def test_weights_and_anchors(run: Path) -> None:
    board = Leaderboard.from_run(run, rank="score", on_mixed="blank")
    frame = board_frame(board)
    weights = frame[[name for name in frame if name.endswith("_weight")]].iloc[0]
    assert weights.sum() == pytest.approx(1)
    assert weights["identity.dlib_weight"] == max(weights)
    ends = frame[["identity.dlib_worst", "identity.dlib_best"]].iloc[0].tolist()
    assert ends == list(board.scheme.anchors[0])
    assert "weighted_score" in frame


def test_awkward_names_come_back_as_they_went(tmp_path: Path) -> None:
    scores = {"Face-Arc ^": [k / 100 for k in range(len(AWKWARD))], "FID v": 1.0}
    board = Leaderboard.from_table(pd.DataFrame({"team": AWKWARD, **scores}))
    path = export(board, tmp_path / "table.csv")
    again = Leaderboard.from_table(path)
    assert sorted(e.key for e in again.entries) == sorted(AWKWARD)
    assert [e.label for e in again.entries] == [e.label for e in board.entries]
    assert again.means[:, 0] == pytest.approx(board.means[:, 0])
    parquet = Leaderboard.from_table(export(board, tmp_path / "table.parquet"))
    assert sorted(e.key for e in parquet.entries) == sorted(AWKWARD)


def test_formulas_are_defused(tmp_path: Path) -> None:
    """A spreadsheet runs a cell that begins with one of these."""
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1"]
    board = Leaderboard.from_table(pd.DataFrame({"team": names, "FID v": range(6)}))
    path = export(board, tmp_path / "table.csv")
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert not cells["entry"].str.match(r"[=+@\t\r-]").any()
    assert not cells["label"].str.match(r"[=+@\t\r-]").any()
    assert sorted(e.key for e in Leaderboard.from_table(path).entries) == sorted(names)


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=4, unique=True))
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    names = [name for name in names if name.strip() and "\0" not in name]
    names = [n.encode("utf-8", "ignore").decode().replace("\r", "") for n in names]
    if len(set(names)) < 2 or not all(names):
        return
    frame = pd.DataFrame({"team": names, "FID v": range(len(names))})
    board = Leaderboard.from_table(frame)
    path = export(board, tmp_path_factory.mktemp("any") / "table.csv")
    assert [e.key for e in Leaderboard.from_table(path).entries] == [e.key for e in board.entries]


def test_choosing_columns_is_for_text(board: Leaderboard, tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="holds the whole table"):
        export(board, tmp_path / "table.csv", columns=["identity"])
    text = export(board, tmp_path / "table.md", columns=["identity"], top=3).read_text()
    assert text.splitlines()[0].count("|") == 9
    assert "15 more entries are not shown." in text
