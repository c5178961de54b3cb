"""The leaderboard for a terminal: one line per entry, whatever fits, and no digit cropped."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leaderboards.leaderboard import Leaderboard
from leaderboards.tables import text as t

if TYPE_CHECKING:
    from rich.table import Table

_GAP = 2


@dataclass
class _Column:
    """Head (lines joined by line breaks), cells as plain text with a style each, and alignment."""

    head: str
    cells: list[tuple[str, str]]
    left: bool = False

    @property
    def width(self) -> int:
        lines = [*self.head.split("\n"), *(text for text, _ in self.cells)]
        return max(_width(line) for line in lines)


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def terminal_table(
    board: Leaderboard,
    title: str | None = None,
    width: int | None = None,
    selection: t.Selection | None = None,
) -> Table:
    """The leaderboard for `rich`: one line per entry, best bold, ties with the best green.

    Args:
        width: characters in a line. What does not fit is left out and counted in the caption:
            first the columns that do not count, then intervals, then columns; names are cut in the
            middle. None shows every column with its interval.
        selection: rows and columns, as `select` gives them; every column of the first
            `PRINTED` entries where not given.
    """
    from rich import box
    from rich.table import Table

    chosen = selection or t.select(board, top=t.PRINTED, most=None)
    room = math.inf if width is None else width
    lead, unsaid = _lead(board, chosen, room)
    tail = _tail(board, chosen)
    room -= sum(column.width + _GAP for column in [*lead, *tail])  # the frame takes one gap
    middle, kept, bare = _middle(board, chosen, room)
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    table.padding = (0, _GAP - 1, 0, 0)
    shown = [*lead, *middle, *tail]
    for column in shown:
        table.add_column(
            _escaped(column.head), justify="left" if column.left else "right", no_wrap=True,
            min_width=column.width, max_width=column.width, overflow="ignore",
        )  # fmt: skip
    for row in zip(*(column.cells for column in shown)):
        table.add_row(*(f"[{style}]{_escaped(x)}[/]" if style else _escaped(x) for x, style in row))
    lines = [unsaid] if unsaid else []
    table.caption = _escaped("\n".join(lines + _caption(board, chosen, kept, bare)))
    table.caption_justify = "left"
    return table


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _lead(board: Leaderboard, chosen: t.Selection, room: float) -> tuple[list[_Column], str]:
    """Place and name: the values of swept axes where they say it all, else the label; and what the
    names leave unsaid."""
    place = _Column("#", [(board.standings[i].text, "dim") for i in chosen.entries])
    brief = t.named_briefly(board, chosen)
    for named, unsaid in ((t.named(board, chosen), ""), brief or ([("Entry", [])], "")):
        if len(named) > 1 or named[0][0] != "Entry":
            columns = []
            for name, texts in named:
                widest = max(6, *map(_width, texts))
                head = name if len(name) <= widest else f"{name[: widest - 1]}."
                columns.append(_Column(head, [(text, "") for text in texts], left=True))
            if sum(column.width + _GAP for column in columns) <= 0.6 * room:
                return [place, *columns], unsaid
    labels = [board.entries[i].label.replace("\n", " ") for i in chosen.entries]
    if room < math.inf:
        labels = _cut(labels, max(12, int(0.4 * room)), chosen, board)
    return [place, _Column("Entry", [(label, "") for label in labels], left=True)], ""


def _cut(names: list[str], most: int, chosen: t.Selection, board: Leaderboard) -> list[str]:
    """Long names with their middle cut out; the key tells those apart that have become alike."""
    from rich.cells import set_cell_size

    short = []
    for name in names:
        if _width(name) > most:
            half = (most - 1) // 2
            end = name
            while _width(end) > most - 1 - half:
                end = end[1:]
            name = set_cell_size(name, half).rstrip() + "…" + end.lstrip()
        short.append(name)
    for k, name in enumerate(short):
        if short.count(name) > 1 and names.count(names[k]) != short.count(name):
            short[k] = f"{name} {board.entries[chosen.entries[k]].key[:8]}"
    return short


def _tail(board: Leaderboard, chosen: t.Selection) -> list[_Column]:
    """Counts, where they are worth a column."""
    columns = []
    if not all(math.isnan(total) for total in board.totals):
        head = board.total_name.replace(" ", "\n")
        columns.append(_Column(head, [(board.total_text(i), "") for i in chosen.entries]))
    lacking = [board.counts[i]["failed"] + board.counts[i]["pending"] for i in chosen.entries]
    if any(lacking):
        columns.append(_Column("Failed", [(str(n or ""), "red") for n in lacking]))
    found = board.face_rates
    rates = [found[i] for i in chosen.entries]
    if any(rate < 0.995 for rate in rates):
        columns.append(_Column("Faces", [(t.percent(rate), "") for rate in rates]))
    return columns


def _middle(
    board: Leaderboard, chosen: t.Selection, room: float
) -> tuple[list[_Column], list[int], int]:
    """The metrics that fit, which those are, and how many are without their interval.

    Means of what counts come first, then their intervals, then further columns with theirs.
    """
    counted = [k for k, c in enumerate(chosen.columns) if c in board.scheme.columns]
    order = counted + [k for k in range(len(chosen.columns)) if k not in counted]
    bare = {k: _metric(board, chosen, k, interval=False) for k in order}
    full = {k: _metric(board, chosen, k, interval=True) for k in order}
    taken: dict[int, _Column] = {}
    for k in counted or order[:1]:
        if bare[k].width + _GAP <= room or not taken:
            taken[k] = bare[k]
            room -= bare[k].width + _GAP
    for k in taken:
        if full[k].width - bare[k].width <= room:
            taken[k] = full[k]
            room -= full[k].width - bare[k].width
    for k in order:
        if k not in taken and full[k].width + _GAP <= room:
            taken[k] = full[k]
            room -= full[k].width + _GAP
    without = sum(taken[k] is bare[k] and bare[k].cells != full[k].cells for k in taken)
    return [taken[k] for k in sorted(taken)], sorted(taken), without


def _metric(board: Leaderboard, chosen: t.Selection, k: int, interval: bool) -> _Column:
    c = chosen.columns[k]
    places = t.decimals(board, c)
    cells = [board.cell(i, c) for i in chosen.entries]
    means = [t.mean_text(cell, places) for cell in cells]
    ends = [t.interval_text(cell, places) if interval else "" for cell in cells]
    wide = max(map(len, means), default=0)
    far = max(map(len, ends), default=0)
    texts = [f"{m:>{wide}} {e:>{far}}".rstrip() if far else m for m, e in zip(means, ends)]
    told = t.told_apart(board, c)
    styles = [
        "bold green" if cell.best and told else "green" if cell.tied else "" for cell in cells
    ]
    head = f"{chosen.short[k]} {board.columns[c].arrow}".rstrip()
    widest = max([len(text) for text in texts] + [len(word) for word in head.split()])
    head = "\n".join(textwrap.wrap(head, widest))
    pad = max(map(len, texts), default=0)
    return _Column(head, [(f"{text:<{pad}}" if far else text, s) for text, s in zip(texts, styles)])


def _caption(board: Leaderboard, chosen: t.Selection, kept: list[int], without: int) -> list[str]:
    """What a reader of the table has to know; kept: which of the chosen columns are in it."""
    columns, short = [chosen.columns[k] for k in kept], [chosen.short[k] for k in kept]
    lines = [t.PLACES]
    if told := t.key_of(board, columns, short):
        lines.append(told + ".")
    if note := t.interval_note(board, columns, short):
        lines.append(
            f"{note} Green: the paired test does not tell it from the best; bold: the best, told "
            "from the second."
        )
    hidden = len(chosen.columns) - len(kept)
    if hidden or without:
        what = [f"{hidden} more column{'s' if hidden > 1 else ''}"] if hidden else []
        what += [f"the intervals of {without}"] if without else []
        lines.append(
            f"No room for {' and '.join(what)}: --width, --columns; leaderboard.csv and the page "
            "have all."
        )
    if chosen.hidden:
        lines.append(f"{chosen.hidden} more entries.")
    return lines + board.notes
