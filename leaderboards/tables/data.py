"""A leaderboard as plain data: what the JSON export and the page are made of."""

from __future__ import annotations

import json
import math
from typing import Any

from leaderboards.leaderboard import Leaderboard
from leaderboards.scores import axis_text


def significant(value: float) -> float:
    """A number at six significant digits: below what matters, above what rounding noise touches."""
    if not math.isfinite(value) or value == 0:
        return value
    return float(f"{value:.6g}")


def to_json(board: Leaderboard) -> bytes:
    """Everything that the table knows, as JSON: columns with meaning, entries with cells, notes.

    One line per column, entry and note.
    """
    parts = []
    for name, value in board_data(board).items():
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(map(_line, value)) + "\n ]"
        else:
            text = _line(value)
        parts.append(f" {_line(name)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def number(value: float) -> float | None:
    """A float fit for JSON: six significant digits, None for what is not finite."""
    return significant(float(value)) if math.isfinite(value) else None


#: Of a column, what the export says beside its key and label.
MEANINGS = ("backend", "version", "higher_is_better", "low", "high", "level")


def board_data(board: Leaderboard) -> dict[str, Any]:
    """The leaderboard as plain data; what `to_json` and the page are made of."""
    front = board.pareto() if board.axis_columns() else [False] * len(board.entries)
    rates = board.face_rates
    return {
        "confidence": board.confidence,
        "interval": board.interval_method,
        "draws": board.draws,
        "columns": [
            {
                "key": column.key,
                "label": column.title,
                **{name: getattr(column, name) for name in MEANINGS},
            }
            for column in board.columns
        ],
        "entries": [
            {
                "key": entry.key,
                "label": entry.label,
                "source": entry.source,
                "axes": {axis: axis_text(value) for axis, value in entry.axes.items()},
                "mismatch": entry.mismatch,
                "rank": standing.place,
                "total": number(board.totals[i]),
                "place": standing.text,
                "place_open": [standing.first, standing.last],
                "place_low": standing.low,
                "place_high": standing.high,
                "p_first": None if standing.p_first is None else number(standing.p_first),
                "unranked": standing.why,
                "pareto": front[i],
                "face_rate": number(rates[i]),
                **board.counts[i],
                "cells": [
                    {
                        **{name: number(getattr(cell, name)) for name in ("mean", "low", "high")},
                        "n": cell.n,
                        "failed": cell.failed,
                        "rank": int(board.ranks[i, c]),
                        "best": cell.best,
                        "second": cell.second,
                        "tied": cell.tied,
                    }
                    for c in range(len(board.columns))
                    for cell in [board.cell(i, c)]
                ],
            }
            for i, (entry, standing) in enumerate(zip(board.entries, board.standings))
        ],
        "total": board.total_name,
        "rule": board.scheme.rule,
        "primary": board.primary.key if board.primary else None,
        "notes": list(board.notes),
    }
