"""Figures for papers: identity against text with intervals, guidance heat maps, ablation plots.

Each is written as SVG, PDF and PNG with the same bytes every time: no dates, fixed ids.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leaderboards.ablations import Ablation
from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Leaderboard
from leaderboards.scores import Column, Entry, axis_text
from leaderboards.tables.text import decimals
from media.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("svg", "pdf", "png")
GUIDANCE = ("text", "reference")

#: Above that many entries, bars are left out of the plot, which they would fill.
CROWD = 1000

#: So many guidance maps are drawn at most: those of the entries placed first.
MOST_MAPS = 6

#: Colours that stay apart for colour-blind readers (Okabe and Ito 2008), and one shape each.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.hashsalt": "stdrc",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "figure.dpi": 150,
}


@contextmanager
def _drawing(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    """A figure that touches neither pyplot's state nor the user's settings."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **_STYLE}):
        figure = MatplotlibFigure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    paths = []
    for kind in KINDS:
        buffer = io.BytesIO()
        nothing = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
        figure.savefig(buffer, format=kind, metadata=nothing[kind])
        paths.append(write_atomic(folder / f"{name}.{kind}", buffer.getvalue()))
    return paths


def _label(column: Column) -> str:
    backend = (
        f" ({column.backend})" if column.backend and column.backend not in column.title else ""
    )
    return f"{column.title}{backend} {column.arrow}".rstrip()


def colour_axis(board: Leaderboard) -> str | None:
    """The axis to colour points by: placement where it varies, else the first with few values."""
    several = {axis: v for axis, v in board.axes.items() if 1 < len(v) <= len(COLOURS)}
    return "placement" if "placement" in several else next(iter(several), None)


def identity_text_figure(board: Leaderboard, folder: Path) -> list[Path]:
    """Identity against text alignment, one point per entry with intervals; the front is joined.

    Raises LeaderboardError where the table has no such pair of columns.
    """
    pair = board.axis_columns()
    if pair is None:
        raise LeaderboardError("the table has no identity and text columns to plot.")
    (identity, i), (text, j) = ((c, board.columns.index(c)) for c in pair)
    axis = colour_axis(board)
    values = board.axes[axis] if axis else []
    with _drawing(5.4, 4.0) as (figure, (plot,)):
        front = np.array(board.pareto())
        order = np.flatnonzero(front)[np.argsort(board.means[front, j])]
        plot.plot(
            board.means[order, j], board.means[order, i], "-", color="#bbbbbb", lw=1, zorder=1
        )
        kinds = np.array(
            [values.index(e.axes[axis]) if axis and axis in e.axes else 0 for e in board.entries]
        )
        there = np.isfinite(board.means[:, [i, j]]).all(axis=1)
        bars = np.nan_to_num(
            [[board.means[:, c] - board.lows[:, c], board.highs[:, c] - board.means[:, c]]
             for c in (j, i)]
        )  # fmt: skip
        for kind in np.unique(kinds[there]):
            colour = COLOURS[kind % len(COLOURS)]
            rows = there & (kinds == kind)
            x, y = board.means[rows, j], board.means[rows, i]
            if there.sum() <= CROWD:
                plot.errorbar(
                    x, y, xerr=bars[0][:, rows], yerr=bars[1][:, rows], fmt="none", ecolor=colour,
                    alpha=0.28, lw=1, zorder=2,
                )  # fmt: skip
            for on, size, fill in ((False, 4.5, "white"), (True, 5.5, colour)):
                plot.plot(
                    x[front[rows] == on], y[front[rows] == on], SHAPES[kind % len(SHAPES)],
                    color=colour, ms=size, mfc=fill, mew=1.2, zorder=3 + on,
                )  # fmt: skip
        for kind, value in enumerate(values):
            plot.plot([], [], SHAPES[kind], color=COLOURS[kind], ms=5, label=axis_text(value))
        if values:
            plot.legend(title=axis, frameon=False, loc="best")
        elif len(board.entries) <= 12:
            for row, entry in enumerate(board.entries):
                if np.isfinite(board.means[row, [i, j]]).all():
                    plot.annotate(
                        entry.label, (board.means[row, j], board.means[row, i]),
                        xytext=(5, 4), textcoords="offset points", fontsize=7.5,
                    )  # fmt: skip
        plot.set_xlabel(_label(text))
        plot.set_ylabel(_label(identity))
        plot.grid(color="#eeeeee", lw=0.8)
        plot.set_axisbelow(True)
        return _save(figure, folder, "identity_text")


def guidance_panels(board: Leaderboard) -> list[tuple[dict[str, Any], dict[tuple[Any, Any], int]]]:
    """Grids of guidance weights: for each point of the other axes, (text, reference) -> row index.

    Only points with at least two values of each weight are given, in the sweep's order.
    """
    if not all(len(board.axes.get(axis, ())) > 1 for axis in GUIDANCE):
        return []
    others = [a for a, values in board.axes.items() if a not in GUIDANCE and len(values) > 1]
    row_of = {entry.key: i for i, entry in enumerate(board.entries)}
    panels: dict[tuple[str, ...], tuple[dict[str, Any], dict[tuple[Any, Any], int]]] = {}
    for entry in board.planned_entries:
        if not all(axis in entry.axes for axis in GUIDANCE):
            continue
        point = {axis: entry.axes.get(axis) for axis in others}
        key = tuple(axis_text(value) for value in point.values())
        grid = panels.setdefault(key, (point, {}))[1]
        grid[entry.axes["text"], entry.axes["reference"]] = row_of[entry.key]
    return [
        (point, grid)
        for point, grid in panels.values()
        if len({t for t, _ in grid}) > 1 and len({r for _, r in grid}) > 1
    ]


def guidance_figure(board: Leaderboard, folder: Path) -> list[Path]:
    """Heat maps over text and reference guidance, a file set for each point of the other axes.

    Of more than `MOST_MAPS` points those are drawn whose entries are placed first, with a warning.
    """
    paths = []
    pair = board.axis_columns()
    columns = list(pair) if pair else [c for c in board.columns if c.level == "sample"][:2]
    panels = guidance_panels(board)
    if len(panels) > MOST_MAPS:
        warnings.warn(
            f"Of {len(panels)} guidance maps the {MOST_MAPS} with the entries placed first are "
            "drawn as figures; the page has all.",
            stacklevel=2,
        )
        best = sorted(range(len(panels)), key=lambda n: min(panels[n][1].values()))[:MOST_MAPS]
        panels = [panels[n] for n in sorted(best)]
    for number, (point, grid) in enumerate(panels):
        texts = sorted({t for t, _ in grid})
        references = sorted({r for _, r in grid})
        with _drawing(3.4 * len(columns), 3.1, len(columns)) as (figure, plots):
            for plot, column in zip(plots, columns):
                c = board.columns.index(column)
                image = np.full((len(references), len(texts)), np.nan)
                for (text, reference), row in grid.items():
                    image[references.index(reference), texts.index(text)] = board.means[row, c]
                name = "viridis_r" if column.higher_is_better is False else "viridis"
                drawn = plot.imshow(image, origin="lower", cmap=name, aspect="auto")
                for (y, x), value in np.ndenumerate(image):
                    if math.isnan(value):
                        continue
                    red, green, blue, _ = drawn.cmap(drawn.norm(value))
                    light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
                    plot.text(
                        x, y, f"{value:.{decimals(board, c)}f}", ha="center", va="center",
                        fontsize=7.5, color="black" if light else "white",
                    )  # fmt: skip
                plot.set_xticks(range(len(texts)), [axis_text(t) for t in texts])
                plot.set_yticks(range(len(references)), [axis_text(r) for r in references])
                plot.set_xlabel("text guidance")
                plot.set_ylabel("reference guidance")
                plot.set_title(_label(column), fontsize=9)
                plot.spines[:].set_visible(False)
                plot.tick_params(length=0)
            words = ", ".join(f"{axis} {axis_text(value)}" for axis, value in point.items())
            if words:
                figure.suptitle(words, fontsize=9, color="#444444")
            name = "guidance" if number == 0 else f"guidance_{number + 1}"
            paths += _save(figure, folder, name)
    return paths


def ablation_figure(table: Ablation, folder: Path) -> list[Path]:
    """An ablation's means with intervals, one panel per metric (identity and text if present)."""
    board = table.board
    pair = board.axis_columns()
    columns = list(pair) if pair else [c for c in board.columns if c.level == "sample"][:2]
    if not columns:
        return []
    rows = list(table.order)
    entries: list[Entry] = [board.entries[i] for i in rows]
    names = [axis_text(entry.axes[table.axis]) for entry in entries]
    with _drawing(2.9 * len(columns), 2.6, len(columns)) as (figure, plots):
        for plot, column in zip(plots, columns):
            c = board.columns.index(column)
            mean, low, high = (a[rows, c] for a in (board.means, board.lows, board.highs))
            bars = np.nan_to_num([mean - low, high - mean])
            plot.errorbar(
                range(len(rows)),
                mean,
                yerr=bars,
                fmt="o",
                color=COLOURS[0],
                ms=5,
                lw=1.2,
                capsize=3,
            )
            plot.set_xticks(range(len(rows)), names)
            plot.set_xlim(-0.5, len(rows) - 0.5)
            plot.set_xlabel(table.axis)
            plot.set_ylabel(_label(column))
            plot.grid(axis="y", color="#eeeeee", lw=0.8)
            plot.set_axisbelow(True)
        if table.fixed:
            figure.suptitle(table.point, fontsize=8, color="#444444")
        return _save(figure, folder, f"ablation_{file_name(table.axis)}")


def file_name(axis: str) -> str:
    """An axis' name as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in axis)
