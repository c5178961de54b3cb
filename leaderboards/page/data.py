"""What the page shows, as data: columns with meanings, numbers column by column, panels.

Numbers are stored by column rather than by cell, so that ten thousand entries are a few megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from leaderboards import ranking
from leaderboards.ablations import Ablation
from leaderboards.errors import LeaderboardError
from leaderboards.families import FAMILIES
from leaderboards.figures import colour_axis, guidance_panels
from leaderboards.leaderboard import Cell, Leaderboard
from leaderboards.scores import Column, axis_text
from leaderboards.tables.data import number
from leaderboards.tables.text import axis_cells, decimals, select, short_names, told_apart


def inline_json(data: Any) -> str:
    """JSON that is safe inside a <script> element: no "<" can close it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def page_data(board: Leaderboard, tables: Sequence[Ablation]) -> dict[str, Any]:
    """Everything but the samples: what index.html carries."""
    main = select(board).columns
    pair = board.axis_columns()
    named = axis_cells(board)
    percent = f"{100 * board.confidence:g} %"
    sources = list(dict.fromkeys(entry.source for entry in board.entries))
    return {
        "confidence": percent,
        "total": board.total_name,
        "lowTotal": not board.scheme.is_score,
        "rule": board.scheme.rule,
        "notes": [note for note in board.notes if note != board.scheme.rule],
        "facts": _facts(board),
        "columns": _columns(board),
        "main": list(main),
        "weights": _weights(board),
        "entries": _entries(board),
        # Settings under a head that names them are shorter than labels that name them in each row.
        "nameHead": " · ".join(named[0]) if named else "Entry",
        "names": [" · ".join(row) for row in named[1]] if named else [],
        "axes": {axis: [axis_text(v) for v in values] for axis, values in board.axes.items()},
        "sources": sources if len(sources) > 1 else [],
        "pair": [board.columns.index(column) for column in pair] if pair else [0, len(main) > 1],
        "colour": colour_axis(board),
        "guidance": _guidance(board),
        "ablations": [_ablation(board, table) for table in tables],
        "failures": board.failures()[["entry", "sample", "what", "reason"]]
        .astype(str)
        .to_numpy()
        .tolist(),
        "earlier": [
            {
                "label": one.label,
                "source": one.source,
                "videos": one.videos,
                "means": [
                    number(one.means.get((c.metric, c.backend), float("nan")))
                    for c in board.columns
                ],
            }
            for one in board.earlier
        ],
        "chosen": _first_entries(board),
    }


def _facts(board: Leaderboard) -> str:
    scores = board.scores
    words = [_many(len(board.entries), "entry", "entries")]
    if len(scores.keys):
        words.append(_many(scores.keys["sample"].nunique(), "sample", "samples"))
        if scores.has_identities:
            words.append(_many(scores.keys["identity"].nunique(), "identity", "identities"))
        seeds = scores.keys["seed"].nunique()
        if seeds > 1:
            words.append(f"{seeds} seeds")
    # Whose numbers can't be compared with another's; the other columns name theirs in their heads.
    faces = {column.backend for column in board.columns if column.family == "identity"} - {""}
    if faces:
        words.append("identity measured by " + ", ".join(sorted(faces)))
    return " · ".join(words)


def _many(n: int, one: str, more: str) -> str:
    return f"{n:,} {one if n == 1 else more}"


def _columns(board: Leaderboard) -> list[dict[str, Any]]:
    names = short_names(board, range(len(board.columns)))
    out = []
    for c, column in enumerate(board.columns):
        cells = [board.cell(i, c) for i in range(len(board.entries))]
        told = told_apart(board, c)
        out.append(
            {
                "key": column.key,
                "label": column.title,
                "short": names[c],
                "sign": int(column.sign),
                "family": column.family,
                "sample": column.level == "sample",
                "decimals": decimals(board, c),
                "about": _about(board, c),
                "anchors": _anchors(column),
                "mean": [number(cell.mean) for cell in cells],
                "low": [number(cell.low) for cell in cells],
                "high": [number(cell.high) for cell in cells],
                "n": [cell.n for cell in cells],
                "failed": [cell.failed for cell in cells],
                "mark": [_mark(cell, told) for cell in cells],
            }
        )
    return out


def _mark(cell: Cell, told: bool) -> int:
    """1: best and told from the second, 2: best or second, 4: not told from the best; added."""
    return (cell.best and told) + 2 * (cell.best or cell.second) + 4 * cell.tied


def _about(board: Leaderboard, c: int) -> str:
    """A column explained in a few sentences."""
    column = board.columns[c]
    words = [column.title + (f", measured by {column.backend}" if column.backend else "") + "."]
    if column.sign:
        words.append("Higher is better." if column.sign > 0 else "Lower is better.")
    else:
        words.append("Neither high nor low is better.")
    low, high = column.low, column.high
    if low is not None and high is not None:
        words.append(f"From {low:g} to {high:g}.")
    elif low is not None:
        words.append(f"From {low:g} up.")
    words.append(
        {"sample": "Measured per video.", "set": "Measured on all videos of an entry."}.get(
            column.level, "As published."
        )
    )
    if column.family:
        words.append(f"Family: {FAMILIES.get(column.family, column.family)}.")
    if c in board.scheme.columns:
        words.append("Counts in the order.")
    elif column.diagnostic:
        words.append("A diagnostic: shown, never counted.")
    if board.methods[c] and np.isfinite(board.lows[:, c]).any():
        words.append(f"Interval: {board.methods[c]}.")
    return " ".join(words)


def _anchors(column: Column) -> list[float] | None:
    if not column.sign:
        return None
    try:
        return list(ranking.anchors_of(column))
    except LeaderboardError:
        return None  # an open range has no ends to scale by


def _weights(board: Leaderboard) -> dict[str, float]:
    """Column -> weight that the sliders start with: the scheme's, or the published ones."""
    scheme = board.scheme
    if scheme.is_score:
        chosen = dict(zip(scheme.columns, scheme.weights))
    else:
        chosen = {}
        for family, weight in ranking.SCORE_WEIGHTS.items():
            c = ranking.primary(family, board.columns, board.means)
            if c is not None and _anchors(board.columns[c]) is not None:
                chosen[c] = weight
    whole = sum(chosen.values()) or 1.0
    return {str(c): round(weight / whole, 4) for c, weight in chosen.items()}


def _entries(board: Leaderboard) -> list[dict[str, Any]]:
    front = board.pareto() if board.axis_columns() else [False] * len(board.entries)
    rates = board.face_rates
    out = []
    for i, (entry, standing) in enumerate(zip(board.entries, board.standings)):
        counts = board.counts[i]
        one = {
            "key": entry.key,
            "label": entry.label + (" *" if entry.mismatch else ""),
            "source": entry.source,
            "axes": {axis: axis_text(value) for axis, value in entry.axes.items()},
            "place": standing.place,
            "told": standing.text,
            "low": standing.low,
            "high": standing.high,
            "first": None if standing.p_first is None else number(standing.p_first),
            "why": standing.why,
            "total": number(board.totals[i]),
            "front": front[i],
            "faces": number(rates[i]),
            "done": counts["done"],
            "failed": counts["failed"] + counts["pending"],
        }
        # What is missing is left out: the page has no word for it.
        out.append({name: value for name, value in one.items() if value not in (None, "", {})})
    return out


def _guidance(board: Leaderboard) -> list[dict[str, Any]]:
    return [
        {
            "point": ", ".join(f"{a} {axis_text(v)}" for a, v in point.items()) or "all",
            "text": [axis_text(t) for t in sorted({t for t, _ in grid})],
            "reference": [axis_text(r) for r in sorted({r for _, r in grid})],
            "rows": {f"{axis_text(t)}|{axis_text(r)}": row for (t, r), row in grid.items()},
        }
        for point, grid in guidance_panels(board)
    ]


def _ablation(board: Leaderboard, table: Ablation) -> dict[str, Any]:
    """An ablation's numbers under the columns of the whole board, null where it lacks one."""
    small = table.board
    own = {column.key: c for c, column in enumerate(small.columns)}
    columns = []
    for column in board.columns:
        c = own.get(column.key)
        told = c is not None and told_apart(small, c)
        cells = [None if c is None else small.cell(i, c) for i in table.order]
        columns.append(
            [
                None
                if cell is None
                else [
                    number(cell.mean), number(cell.low), number(cell.high), cell.n, cell.failed,
                    _mark(cell, told),
                ]
                for cell in cells
            ]
        )  # fmt: skip
    return {
        "axis": table.axis,
        "caption": table.caption,
        "values": [
            axis_text(small.entries[i].axes[table.axis])
            + (" *" if small.entries[i].mismatch else "")
            for i in table.order
        ],
        "done": [small.counts[i]["done"] for i in table.order],
        "columns": columns,
    }


def _first_entries(board: Leaderboard) -> list[int]:
    """Rows whose videos the browser opens with: the best, the best of another kind, the last.

    Kinds are the values of the axis that colours the plot; the last ranked one is the contrast.
    """
    if len(board.entries) < 4:
        return list(range(len(board.entries)))
    axis = colour_axis(board)
    kinds = [axis_text(entry.axes.get(axis)) if axis else str(i) for i, entry in enumerate(
        board.entries)]  # fmt: skip
    ranked = [i for i, standing in enumerate(board.standings) if standing.place is not None]
    ranked = ranked or list(range(len(board.entries)))
    other = next((i for i in ranked if kinds[i] != kinds[ranked[0]]), ranked[1 % len(ranked)])
    return sorted({ranked[0], other, ranked[-1]})
