"""Writing tables: CSV, Parquet, JSON, Markdown, LaTeX and the terminal.

The same leaderboard gives the same bytes: numbers are written with six significant digits, nothing
carries a date, and files are written beside their final name and renamed.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from leaderboards.ablations import Ablation
from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Cell, Leaderboard
from leaderboards.scores import axis_text
from media.files import write_atomic

if TYPE_CHECKING:
    from rich.table import Table

Interval = Literal["pm", "range", "none"]
FORMATS = ("csv", "parquet", "json", "md", "tex")


def significant(value: float) -> float:
    """A number at six significant digits: below what matters, above what rounding noise touches."""
    if not math.isfinite(value) or value == 0:
        return value
    return float(f"{value:.6g}")


def to_csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV bytes, six significant digits, empty for missing."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A frame as Parquet bytes."""
    buffer = io.BytesIO()
    rounded = frame.copy()
    for name in rounded.columns:
        if rounded[name].dtype == np.float64:
            rounded[name] = rounded[name].map(significant)
    rounded.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()


def to_json(board: Leaderboard) -> bytes:
    """Everything that the table knows, as JSON: columns with meaning, entries with cells, notes."""
    return (json.dumps(board_data(board), indent=1, ensure_ascii=False) + "\n").encode()


def number(value: float) -> float | None:
    """A float fit for JSON: six significant digits, None for what is not finite."""
    return significant(float(value)) if math.isfinite(value) else None


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
                "backend": column.backend,
                "version": column.version,
                "higher_is_better": column.higher_is_better,
                "low": column.low,
                "high": column.high,
                "level": column.level,
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
                "place_low": standing.low,
                "place_high": standing.high,
                "p_first": None if standing.p_first is None else number(standing.p_first),
                "unranked": standing.why,
                "pareto": front[i],
                "face_rate": number(rates[i]),
                **board.counts[i],
                "cells": [
                    {
                        "mean": number(cell.mean),
                        "low": number(cell.low),
                        "high": number(cell.high),
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
        "ahead": board.ahead.tolist(),
        "primary": board.primary.key if board.primary else None,
        "notes": list(board.notes),
    }


# --------------------------------------------------------------------------- numbers as text


def decimals(board: Leaderboard, column: int) -> int:
    """Decimals to print a column with: three for numbers about 1, none for hundreds."""
    values = np.abs(board.means[:, column])
    values = values[np.isfinite(values)]
    largest = values.max() if len(values) else 1.0
    return 3 if largest < 10 else 2 if largest < 100 else 1


def cell_text(cell: Cell, places: int, interval: Interval = "pm", pm: str = "±") -> str:
    """A cell as text: "0.492 ±0.013", or an en dash where there is no mean."""
    if math.isnan(cell.mean):
        return "–"
    text = f"{cell.mean:.{places}f}"
    if interval == "none" or math.isnan(cell.half_width):
        return text
    if interval == "range":
        return f"{text} [{cell.low:.{places}f}, {cell.high:.{places}f}]"
    return f"{text} {pm}{cell.half_width:.{places}f}"


def _rows_of(board: Leaderboard, order: Sequence[int] | None) -> Sequence[int]:
    return range(len(board.entries)) if order is None else order


def _extras(board: Leaderboard) -> tuple[bool, bool]:
    """Whether anything failed, and whether anyone measured how often there was a face."""
    failed = any(counts["failed"] or counts["pending"] for counts in board.counts)
    return failed, any(not math.isnan(rate) for rate in board.face_rates)


# --------------------------------------------------------------------------- Markdown


def to_markdown(board: Leaderboard, interval: Interval = "pm") -> str:
    """A GitHub table: best bold, second in italics, backend of each column below its name."""

    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")

    failed, faces = _extras(board)
    head = ["#", "Entry"]
    align = ["--:", ":--"]
    for column in board.columns:
        backend = f"<br><sub>{escape(column.backend)}</sub>" if column.backend else ""
        head.append(f"{escape(column.title)} {column.arrow}".rstrip() + backend)
        align.append("--:")
    head += [board.total_name, "N"] + (["Failed"] if failed else []) + (["Faces"] if faces else [])
    align += ["--:"] * (len(head) - len(align))
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(align)} |"]
    for i, entry in enumerate(board.entries):
        row = [board.standings[i].text, escape(entry.label) + (" \\*" if entry.mismatch else "")]
        for c in range(len(board.columns)):
            cell = board.cell(i, c)
            text = cell_text(cell, decimals(board, c), interval)
            row.append(f"**{text}**" if cell.best else f"*{text}*" if cell.second else text)
        counts = board.counts[i]
        row += [board.total_text(i), str(counts["done"])]
        row += [str(counts["failed"])] if failed else []
        row += [_percent(board.face_rates[i])] if faces else []
        lines.append(f"| {' | '.join(row)} |")
    lines += [""] + [f"- {note}" for note in board.notes] if board.notes else []
    return "\n".join(lines) + "\n"


def _percent(rate: float) -> str:
    return "–" if math.isnan(rate) else f"{100 * rate:.0f} %"


# --------------------------------------------------------------------------- LaTeX

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "×": r"$\times$",
    "\n": " ",
}


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it is written; accented letters pass, as LaTeX reads UTF-8."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_cell(cell: Cell, places: int, interval: Interval) -> str:
    if math.isnan(cell.mean):
        return "--"
    mean = f"{cell.mean:.{places}f}".replace("-", "$-$")
    if cell.best:
        mean = rf"\textbf{{{mean}}}"
    elif cell.second:
        mean = rf"\underline{{{mean}}}"
    if interval == "none" or math.isnan(cell.half_width):
        return mean
    if interval == "range":
        low, high = (f"{x:.{places}f}".replace("-", "$-$") for x in (cell.low, cell.high))
        return rf"{mean} {{\scriptsize [{low}, {high}]}}"
    return rf"{mean} {{\scriptsize$\pm${cell.half_width:.{places}f}}}"


def _latex_table(
    board: Leaderboard,
    first: str,
    names: Sequence[str],
    order: Sequence[int],
    caption: str,
    label: str,
    interval: Interval,
    document: bool,
    rank_sum: bool,
) -> str:
    heads = [latex_escape(first)]
    backends = [""]
    for column in board.columns:
        arrow = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}[column.higher_is_better]
        heads.append(latex_escape(column.title) + arrow)
        backends.append(
            rf"{{\scriptsize {latex_escape(column.backend)}}}" if column.backend else ""
        )
    if rank_sum:
        heads.append(board.total_name)
        backends.append("")
    heads.append("$N$")
    backends.append("")
    lines = [
        "% Needs \\usepackage{booktabs}. Best is bold, second best underlined.",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex_escape(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
    ]
    if any(backends):
        lines.append(" & ".join(backends) + r" \\")
    lines.append(r"\midrule")
    for name, i in zip(names, order):
        row = [latex_escape(name) + (r"$^{*}$" if board.entries[i].mismatch else "")]
        row += [
            _latex_cell(board.cell(i, c), decimals(board, c), interval)
            for c in range(len(board.columns))
        ]
        row += [board.total_text(i)] if rank_sum else []
        row.append(str(board.counts[i]["done"]))
        lines.append(" & ".join(row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    body = "\n".join(lines)
    if not document:
        return body
    return (
        "\\documentclass{article}\n\\usepackage[a4paper,landscape,margin=1cm]{geometry}\n"
        "\\usepackage{booktabs}\n\\begin{document}\n" + body + "\\end{document}\n"
    )


def to_latex(board: Leaderboard, interval: Interval = "pm", document: bool = False) -> str:
    """A booktabs table to paste: best bold, second underlined, arrows, half-widths after ±.

    interval: "pm" half the interval's width, "range" its ends, "none". document: wrap it so that it
    compiles alone.
    """
    percent = f"{100 * board.confidence:g}"
    caption = "Leaderboard." + (
        f" Intervals are {percent}% over identities ({board.interval_method})."
        if np.isfinite(board.lows).any() and interval != "none"
        else ""
    )
    return _latex_table(
        board,
        "Entry",
        [entry.label for entry in board.entries],
        range(len(board.entries)),
        caption,
        "tab:leaderboard",
        interval,
        document,
        rank_sum=True,
    )


def ablation_latex(table: Ablation, interval: Interval = "pm", document: bool = False) -> str:
    """An ablation as a booktabs table, rows in the order of the axis' values."""
    board = table.board
    percent = f"{100 * board.confidence:g}"
    caption = table.caption + (
        f" Intervals are {percent}% over identities." if np.isfinite(board.lows).any() else ""
    )
    return _latex_table(
        board,
        table.axis.capitalize(),
        [axis_text(board.entries[i].axes[table.axis]) for i in table.order],
        list(table.order),
        caption,
        f"tab:ablation-{table.axis.replace('.', '-').replace('_', '-')}",
        interval,
        document,
        rank_sum=False,
    )


def ablation_frame(table: Ablation) -> pd.DataFrame:
    """An ablation as a frame: the axis, the point it is taken at, then as in `to_frame`."""
    board = table.board
    frame = board.to_frame().iloc[list(table.order)].reset_index(drop=True)
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


# --------------------------------------------------------------------------- terminal


def terminal_table(board: Leaderboard, title: str | None = None, width: int | None = None) -> Table:
    """The leaderboard for `rich`: best bold, ties with the best marked, notes as the caption.

    Args:
        width: characters a line; columns that do not fit are left out and counted in the caption.
            None shows every column.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    failed, faces = _extras(board)
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    # Names wrap between words and are never squeezed to a letter a line by the numbers beside them.
    words = [len(word) for e in board.entries for word in f"{e.label} *".split()]
    name_width = min(max(words, default=5), 24)
    table.add_column("Entry", overflow="fold", min_width=name_width)
    # Each column beside its gap of two: as wide as its longest word, or a number with its interval.
    needs = [
        2 + max(7, *(len(word) for word in f"{c.title} {c.backend or ''}".split()))
        for c in board.columns
    ]
    shown = list(range(len(board.columns)))
    if width is not None:
        room = width - name_width - 30  # what stands left and right of the metrics
        shown = [i for i in shown if sum(needs[: i + 1]) <= room] or shown[:1]
    for column in (board.columns[i] for i in shown):
        head = escape(f"{column.title} {column.arrow}".rstrip())
        if column.backend:
            head += f"\n[dim]{escape(column.backend)}[/dim]"
        table.add_column(head, justify="right", min_width=needs[board.columns.index(column)] - 2)
    table.add_column(board.total_name.replace(" ", "\n"), justify="right")
    table.add_column("N", justify="right")
    if failed:
        table.add_column("Failed", justify="right", style="red")
    if faces:
        table.add_column("Faces", justify="right")
    for i, entry in enumerate(board.entries):
        row = [board.standings[i].text, escape(entry.label) + (" *" if entry.mismatch else "")]
        for c in shown:
            cell = board.cell(i, c)
            places = decimals(board, c)
            text = cell_text(cell, places, "none")
            if not math.isnan(cell.mean) and not math.isnan(cell.half_width):
                wide = f"\n[dim]±{cell.half_width:.{places}f}[/dim]"
            else:
                wide = ""
            style = "bold green" if cell.best else "green" if cell.tied else ""
            row.append((f"[{style}]{text}[/{style}]" if style else text) + wide)
        row.append(board.total_text(i))
        counts = board.counts[i]
        row.append(str(counts["done"]))
        if failed:
            row.append(str(counts["failed"] + counts["pending"] or ""))
        if faces:
            row.append(_percent(board.face_rates[i]))
        table.add_row(*row)
    lines = []
    if hidden := len(board.columns) - len(shown):
        lines.append(
            f"{hidden} more metrics do not fit here; leaderboard.csv and the page hold all."
        )
    if np.isfinite(board.lows).any():
        lines.append(
            f"± half of the {100 * board.confidence:g} % interval, {board.interval_method}. Green: "
            "the paired test does not tell it from the best."
        )
    lines.append("#: the places that undecided comparisons leave open.")
    table.caption = escape("\n".join(lines + board.notes))
    table.caption_justify = "left"
    return table


# --------------------------------------------------------------------------- files


def export(board: Leaderboard, path: Path, format: str | None = None) -> Path:
    """Write the table in the format of the file's ending, or in `format`.

    Raises LeaderboardError where the format is unknown.
    """
    path = Path(path)
    chosen = format or path.suffix.lstrip(".").lower()
    if chosen == "csv":
        data = to_csv(board.to_frame())
    elif chosen == "parquet":
        data = to_parquet(board.to_frame())
    elif chosen == "json":
        data = to_json(board)
    elif chosen in ("md", "markdown"):
        data = to_markdown(board).encode()
    elif chosen in ("tex", "latex"):
        data = to_latex(board).encode()
    else:
        raise LeaderboardError(
            f"{path.name} is in no format that is known: use .{', .'.join(FORMATS)}."
        )
    return write_atomic(path, data)
