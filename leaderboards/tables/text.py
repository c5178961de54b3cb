"""What all tables share: which columns and rows, under which names, with how many decimals."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from natsort import natsort_keygen, ns

from leaderboards import families, ranking
from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Cell, Leaderboard
from leaderboards.scores import axis_text
from media.wording import counted

#: Names short enough for a table's head, by family, for labels that are not.
_SHORT = {
    "identity": "Identity",
    "text": "Text",
    "distribution": "Distrib.",
    "temporal": "Consist.",
    "copying": "Copying",
    "motion": "Motion",
    "quality": "Quality",
}
_LONGEST = 16


@dataclass(frozen=True)
class Selection:
    """Rows and columns of a table, in the order in which they are printed.

    entries, columns: indices into the board. short: a name for each column, at most sixteen
    characters where that is possible, no two alike. hidden: entries that are left out at the end.
    """

    entries: tuple[int, ...]
    columns: tuple[int, ...]
    short: tuple[str, ...]
    hidden: int = 0


#: Entries that a report prints: in the terminal, in leaderboard.md and .tex.
PRINTED = 200


def select(
    board: Leaderboard,
    columns: Sequence[str] | None = None,
    sort: str | None = None,
    top: int | None = None,
    most: int | None = 6,
) -> Selection:
    """Choose and order rows and columns.

    columns: keys, metrics, labels, families, or patterns such as "temporal.*"; "all" is every
    column. Without them, up to `most` (None: all) of those that are not the same for all entries:
    those that count, then one of each other family, then the rest, diagnostics last.
    sort: a column, "name" or "place" (the default); best first, and with a "-" in front last.
    top: only the first N entries.

    Raises LeaderboardError for a name that nothing has.
    """
    chosen = _preferred(board)[:most] if columns is None else _named(board, columns)
    order = _sorted(board, sort)
    kept = order if top is None else order[:top]
    return Selection(
        tuple(kept), tuple(chosen), tuple(short_names(board, chosen)), len(order) - len(kept)
    )


def _preferred(board: Leaderboard) -> list[int]:
    counted = list(board.scheme.columns)
    several = len(board.entries) > 1
    varied = [
        c
        for c in range(len(board.columns))
        if not (several and ranking.constant(board.means[:, c]))
    ]
    telling = [c for c in varied if board.columns[c].sign and not board.columns[c].diagnostic]
    found = {board.columns[c].family for c in counted}
    for family in families.FAMILIES:
        one = ranking.primary(family, board.columns, board.means)
        if family not in found and one in telling and one not in counted:
            counted.append(one)
    rest = [c for c in telling if c not in counted]
    last = [c for c in varied if c not in counted and c not in rest]
    return counted + rest + last or list(range(len(board.columns)))


def _named(board: Leaderboard, names: Sequence[str]) -> list[int]:
    chosen: list[int] = []
    for name in names:
        found = [
            c
            for c, column in enumerate(board.columns)
            if name in ("all", column.key, column.metric, column.label, column.family)
            or fnmatchcase(column.key, name)
        ]
        if not found:
            known = ", ".join(column.key for column in board.columns)
            raise LeaderboardError(f"{name!r} is not a column: choose among all, {known}.")
        chosen += [c for c in found if c not in chosen]
    return chosen


def _sorted(board: Leaderboard, sort: str | None) -> list[int]:
    order = list(range(len(board.entries)))
    if sort is None:
        return order
    backwards, name = sort.startswith("-"), sort.lstrip("-")
    if name == "name":
        natural = natsort_keygen(lambda i: board.entries[i].label, ns.FLOAT | ns.NOEXP)
        order.sort(key=natural)
    elif name != "place":
        (c, *_) = _named(board, [name])
        sign = board.columns[c].sign or 1.0
        worth = -sign * board.means[:, c]
        missing = np.isnan(worth)
        order.sort(key=lambda i: -worth[i] if backwards else worth[i])
        return [i for i in order if not missing[i]] + [i for i in order if missing[i]]
    return order[::-1] if backwards else order


def short_names(board: Leaderboard, columns: Sequence[int]) -> list[str]:
    """A name for each column that a narrow head has room for, no two alike."""
    names = []
    for c in columns:
        column = board.columns[c]
        plain = re.sub(r"\s*[(\[][^()\[\]]*[)\]]", "", column.title).strip() or column.title
        if len(plain) > _LONGEST:
            family = _SHORT.get(column.family)
            first = ranking.primary(column.family, board.columns, board.means) == c
            plain = family if family and first else _abbreviated(column.metric, column.backend)
        names.append(plain)
    for name in {name for name in names if names.count(name) > 1}:
        alike = [n for n, other in enumerate(names) if other == name]
        longer = [" ".join(board.columns[columns[n]].metric.split(".")[:2]) for n in alike]
        if len(set(longer)) == len(alike):
            for n, words in zip(alike, longer):
                names[n] = words.replace("_", " ")
            continue
        backends = [board.columns[columns[n]].backend for n in alike]
        for k, n in enumerate(alike):
            mark = backends[k] if len(set(backends)) == len(alike) else str(k + 1)
            names[n] = f"{name} {mark}".strip()
    return names


def _abbreviated(metric: str, backend: str) -> str:
    """The telling parts of a metric's name: "leakage.pose_difference.dlib", "pose difference"."""
    parts = [part.replace("_", " ") for part in re.split(r"[.\s]+", metric) if part != backend]
    words = parts[1] if len(parts) == 2 and len(parts[1]) >= 8 else " ".join(parts[-2:])
    if len(parts) > 2 and len(words) > _LONGEST:
        words = parts[-1]
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1].rstrip() + "."


def key_of(board: Leaderboard, columns: Sequence[int], short: Sequence[str]) -> str:
    """What the short names stand for, as "Text: Text-video similarity (xclip); ..."."""
    told = []
    for c, name in zip(columns, short):
        title, backend = board.columns[c].title, board.columns[c].backend
        if backend and backend.lower() not in title.lower():
            title += f" ({backend})"
        if title != name:
            told.append(f"{name}: {title}")
    return "; ".join(told)


def swept_axes(board: Leaderboard) -> list[str]:
    """Axes that vary over the entries; those that are the same everywhere are not worth a word."""
    values: dict[str, set[str]] = {}
    for entry in board.entries:
        for axis, value in entry.axes.items():
            values.setdefault(axis, set()).add(axis_text(value))
    return [axis for axis, found in values.items() if len(found) > 1]


def axis_cells(board: Leaderboard) -> tuple[list[str], list[list[str]]] | None:
    """Names and values of the swept axes, one entry per row, where they tell all entries apart.

    None where entries are told apart by their labels only.
    """
    axes = swept_axes(board)
    rows = [[axis_text(e.axes[a]) if a in e.axes else "–" for a in axes] for e in board.entries]
    said = all(
        all(value in entry.label for value in row if value != "–")
        for entry, row in zip(board.entries, rows)
    )
    # In the order of the labels, which is the sweep's own.
    first = board.entries[0]

    def position(axis: str) -> int:
        named = first.label.find(f"{axis}=")
        return named if named >= 0 else first.label.find(axis_text(first.axes.get(axis)))

    order = sorted(range(len(axes)), key=lambda a: position(axes[a]))
    axes, rows = [axes[a] for a in order], [[row[a] for a in order] for row in rows]
    if axes and said and len({tuple(row) for row in rows}) == len(rows):
        return axes, rows
    return None


def named(board: Leaderboard, chosen: Selection) -> list[tuple[str, list[str]]]:
    """Columns that name the rows, each a head and a text per row: swept axes, or the label.

    A star marks entries whose reference stands where their checkpoint did not learn it.
    """
    marks = ["*" if board.entries[i].mismatch else "" for i in chosen.entries]
    axes = axis_cells(board)
    if axes is None:
        labels = [f"{board.entries[i].label}{m}" for i, m in zip(chosen.entries, marks)]
        return [("Entry", labels)]
    names, rows = axes
    columns = [(name, [rows[i][a] for i in chosen.entries]) for a, name in enumerate(names)]
    head, first = columns[0]
    return [(head, [text + mark for text, mark in zip(first, marks)]), *columns[1:]]


_USUAL = 0.8  # share of entries that have an axis' commonest value, from which on it goes unsaid


def named_briefly(
    board: Leaderboard, chosen: Selection
) -> tuple[list[tuple[str, list[str]]], str] | None:
    """As `named`, axes that hardly vary being said only where they do; and what goes unsaid.

    None where entries are told apart by their labels only, or all axes vary.
    """
    columns, axes = named(board, chosen), axis_cells(board)
    if axes is None:
        return None
    usual = {}
    for a, name in enumerate(axes[0]):
        (value, count), *_ = Counter(row[a] for row in axes[1]).most_common(1)
        if count >= _USUAL * len(board.entries):
            usual[name] = value
    kept = [(name, texts) for name, texts in columns if name not in usual]
    if not usual or not kept:
        return None
    other = [
        " ".join(
            f"{name}={texts[k]}"
            for name, texts in columns
            if name in usual and texts[k].rstrip("*") != usual[name]
        )
        for k in range(len(chosen.entries))
    ]
    unsaid = ", ".join(f"{name} {value}" for name, value in usual.items())
    return [*kept, ("other", other)] if any(other) else kept, f"Where not said: {unsaid}."


# --------------------------------------------------------------------------- numbers


def decimals(board: Leaderboard, column: int) -> int:
    """Decimals to print a column with: two significant digits of what is uncertain about it.

    That is half of the usual interval, or, where there are none, how far the means lie apart; never
    more than the numbers have themselves.
    """
    means = board.means[:, column]
    means = means[np.isfinite(means)]
    half = (board.highs[:, column] - board.lows[:, column]) / 2
    half = half[np.isfinite(half) & (half > 0)]
    own = _own_decimals(means)
    spread = float(np.median(half)) if len(half) else float(means.std()) if len(means) else 0.0
    if not spread > 1e-12 * float(np.abs(means).max(initial=1e-300)):
        return min(own, 3)
    return min(own, max(0, 1 - math.floor(math.log10(spread))))


def _own_decimals(values: np.ndarray, most: int = 8) -> int:
    """How many decimals write every one of the values, at most `most`."""
    near = 1e-12 * np.abs(values)
    return next((k for k in range(most) if (np.abs(values.round(k) - values) <= near).all()), most)


def mean_text(cell: Cell, places: int) -> str:
    """A mean as text, an en dash where there is none."""
    if math.isnan(cell.mean):
        return "–"
    return f"{0.0 if round(cell.mean, places) == 0 else cell.mean:.{places}f}"


def interval_text(cell: Cell, places: int) -> str:
    """An interval as "[0.479, 0.505]"; nothing where there is none."""
    if math.isnan(cell.mean) or math.isnan(cell.low) or math.isnan(cell.high):
        return ""
    low, high = (0.0 if round(end, places) == 0 else end for end in (cell.low, cell.high))
    return f"[{low:.{places}f}, {high:.{places}f}]"


def told_apart(board: Leaderboard, column: int) -> bool:
    """Whether the best mean of a column is told from the second.

    By the paired comparison, by intervals where there are no samples, and by the means alone in a
    published table; a measured distance without an interval tells nothing apart.
    """
    cells = [board.cell(i, column) for i in range(len(board.entries))]
    if board.columns[column].level == "set" and all(math.isnan(cell.low) for cell in cells):
        return False
    best = [cell for cell in cells if cell.best]
    return len(best) == 1 and not any(cell.tied for cell in cells if not cell.best)


def percent(rate: float) -> str:
    """A share in 0..1 as "90 %"."""
    return "–" if math.isnan(rate) else f"{100 * rate:.0f} %"


def interval_note(board: Leaderboard, columns: Sequence[int], short: Sequence[str]) -> str:
    """How the intervals of columns were made, in a sentence; nothing where there are none."""
    made: dict[str, list[str]] = {}
    for c, name in zip(columns, short):
        if np.isfinite(board.lows[:, c]).any():
            own = "as the metric gives it" if board.columns[c].level == "set" else "as published"
            made.setdefault(board.methods[c] or own, []).append(name)
    if not made:
        return ""
    how = list(made) if len(made) == 1 else [f"{m} for {', '.join(n)}" for m, n in made.items()]
    return f"[low, high]: {100 * board.confidence:g} % interval over identities, {'; '.join(how)}."


def change_text(board: Leaderboard, entry: int, baseline: int, column: int, places: int) -> str:
    """An entry's mean less the baseline's, with its sign; nothing where one is missing."""
    change = float(board.means[entry, column] - board.means[baseline, column])
    return "" if math.isnan(change) else f"{change:+.{places}f}"


#: What the column # holds.
PLACES = "#: the places that undecided comparisons leave open."


def caption_notes(
    board: Leaderboard, chosen: Selection, intervals: bool, baseline: int | None,
    second: str = "Underlined",
) -> list[str]:  # fmt: skip
    """What a reader of a printed table has to know, in sentences; the board's notes aside.

    second: how the table marks the second of a column.
    """
    sampled = any(column.level == "sample" for column in board.columns)
    told = "the paired test tells it" if sampled else "it is told"
    notes = [
        f"Bold: the best, where {told} from the second. {second}: the second, and a best that is "
        "not told from it."
    ]
    if key := key_of(board, chosen.columns, chosen.short):
        notes.append(key + ".")
    if intervals and (note := interval_note(board, chosen.columns, chosen.short)):
        notes.append(note)
    done = {board.counts[i]["done"] for i in chosen.entries}
    if len(done) == 1 and done != {0}:
        notes.append(f"N = {counted(done.pop(), 'video')} per entry.")
    elif len(done) > 1:
        notes.append(f"N, videos per entry, from {min(done)} to {max(done)}.")
    if baseline is not None:
        notes.append(f"In round brackets: difference from {board.entries[baseline].label}.")
    if chosen.hidden:
        notes.append(f"{chosen.hidden} more entries are not shown.")
    return notes
