"""The whole table as a data frame, and as CSV and Parquet that read back as they were written."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import pandas as pd
from anyascii import anyascii

from leaderboards.ablations import Ablation
from leaderboards.leaderboard import Leaderboard
from leaderboards.score_tables import DIRECTIONS
from leaderboards.scores import axis_text
from leaderboards.tables.data import significant


def board_frame(board: Leaderboard) -> pd.DataFrame:
    """Everything that the table knows, one row per entry: what leaderboard.csv and .parquet hold.

    rank, entry, label, axis:<name>..., mismatch, place_low, place_high and p_first (the interval of
    the place), place_first and place_last (the places that undecided comparisons leave open),
    rank_sum or weighted_score, pareto, n, failed, pending, face_rate, then for each column its
    mean and <column>_low, _high, _n, _failed, _rank, _tied_with_best, _backend, _direction (higher,
    lower or none is better) and, where a score weighs it, _weight (all together 1), _worst and
    _best (the anchors that count 0 and 1). Names of columns are ASCII.
    """
    places = board.standings
    data: dict[str, list[Any]] = {
        "rank": [standing.place for standing in places],
        "entry": [entry.key for entry in board.entries],
        "label": [entry.label for entry in board.entries],
    }
    for axis in board.axes:
        data[f"axis:{axis}"] = [
            axis_text(e.axes[axis]) if axis in e.axes else "" for e in board.entries
        ]
    data["mismatch"] = [entry.mismatch for entry in board.entries]
    for name in ("low", "high", "first", "last"):
        data[f"place_{name}"] = [getattr(standing, name) for standing in places]
    data["p_first"] = [standing.p_first for standing in places]
    data["weighted_score" if board.scheme.is_score else "rank_sum"] = [s.total for s in places]
    if board.axis_columns() is not None:
        data["pareto"] = list(board.pareto())
    for name, count in (("n", "done"), ("failed", "failed"), ("pending", "pending")):
        data[name] = [counts[count] for counts in board.counts]
    if not all(math.isnan(rate) for rate in board.face_rates):
        data["face_rate"] = board.face_rates
    for c in range(len(board.columns)):
        data |= _column(board, c)
    frame = pd.DataFrame({_ascii(name): values for name, values in data.items()})
    whole = {"rank", "rank_sum", *(f"place_{n}" for n in ("low", "high", "first", "last"))}
    for name in frame.columns:
        if name in whole or name.endswith("_n"):
            frame[name] = frame[name].astype("Int64")
    return frame


def _column(board: Leaderboard, c: int) -> dict[str, list[Any]]:
    column, scheme = board.columns[c], board.scheme
    cells = [board.cell(e, c) for e in range(len(board.entries))]
    data: dict[str, list[Any]] = {column.key: [cell.mean for cell in cells]}

    def add(suffix: str, values: list[Any]) -> None:
        data[f"{column.key}_{suffix}"] = values

    for name in ("low", "high", "n", "failed"):
        add(name, [getattr(cell, name) for cell in cells])
    add("rank", [int(board.ranks[e, c]) for e in range(len(cells))])
    add("tied_with_best", [cell.tied for cell in cells])
    add("backend", [column.backend] * len(cells))
    add("direction", [DIRECTIONS[column.higher_is_better]] * len(cells))
    if scheme.is_score and c in scheme.columns:
        k = scheme.columns.index(c)
        add("weight", [scheme.weights[k] / sum(scheme.weights)] * len(cells))
        add("worst", [scheme.anchors[k][0]] * len(cells))
        add("best", [scheme.anchors[k][1]] * len(cells))
    return data


def earlier_frame(board: Leaderboard) -> pd.DataFrame:
    """What earlier plans made: run, label, videos, and the means of the table's columns."""
    return pd.DataFrame(
        [
            {"run": one.source, "label": one.label, "videos": one.videos}
            | {
                _ascii(column.key): one.means.get((column.metric, column.backend), math.nan)
                for column in board.columns
                if column.level == "sample"
            }
            for one in board.earlier
        ]
    )


def _ascii(name: str) -> str:
    return name if name.isascii() else anyascii(name)


def ablation_frame(table: Ablation) -> pd.DataFrame:
    """An ablation as a frame: the axis, the point it is taken at, then as in `board_frame`."""
    board = table.board
    frame = board_frame(board).iloc[list(table.order)].reset_index(drop=True)
    data: dict[str, Any] = {
        table.axis: [axis_text(board.entries[i].axes[table.axis]) for i in table.order]
    }
    for axis, value in table.fixed.items():
        data[f"at:{axis}"] = [axis_text(value)] * len(frame)
    for axis in table.following:
        data[axis] = [axis_text(board.entries[i].axes.get(axis)) for i in table.order]
    order = ("rank", "rank_sum", "weighted_score", "p_first")
    rest = [n for n in frame.columns if not n.startswith(("axis:", "place_")) and n not in order]
    return pd.concat([pd.DataFrame(data), frame[rest]], axis=1)


def to_csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV bytes: six significant digits, empty for missing.

    Text that a spreadsheet would take for a formula gets an apostrophe in front, which
    `read_table` takes off again.
    """
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == object or pd.api.types.is_string_dtype(safe[name]):
            safe[name] = safe[name].map(_defused, na_action="ignore")
    safe.columns = [_defused(name) for name in safe.columns]
    return safe.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def _defused(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and re.match(r"'*[=+\-@\t\r]", value) else value


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A frame as Parquet bytes."""
    buffer = io.BytesIO()
    rounded = frame.copy()
    for name in rounded.columns:
        if rounded[name].dtype == np.float64:
            rounded[name] = rounded[name].map(significant)
    rounded.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()
