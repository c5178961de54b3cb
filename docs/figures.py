"""The drawings in docs/method.md, made from the code they explain: `python -m docs.figures`.

`placement_drawing` and `stream_drawing` prepare what is shown, from `ReferencePlacement.grid` and
`ThreeStreamGuidance.coefficients`; the rest only draws it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from PIL import Image

from stdrc.guidance import Order, Stream, ThreeStreamGuidance
from stdrc.positions import NAMED_PLACEMENTS, ReferencePlacement

IMAGES = Path(__file__).parent / "images"
ORDERS: tuple[Order, ...] = ("text_first", "reference_first", "joint")
INK, MUTED = "#22303c", "#6b7a88"
VIDEO, VIDEO_EDGE = "#d7e3ef", "#5b7fa3"
REFERENCE, REFERENCE_EDGE = "#f6b26b", "#b45f06"
STREAMS = {
    Stream.NONE: "#6b7a88",
    Stream.TEXT: "#3d78b0",
    Stream.REFERENCE: "#b45f06",
    Stream.BOTH: "#38761d",
}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _save(figure: Figure, path: Path) -> None:
    """As a PNG of few colours: drawings of flat areas lose nothing by it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150)
    plt.close(figure)
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)


# Positions ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlacementDrawing:
    """One panel: a video of t x h x w latents and the reference's tokens beside it.

    Attributes:
        name: of the placement.
        video: (t, h, w).
        cells: (frame, row, column) of every token of the reference.
    """

    name: str
    video: tuple[int, int, int]
    cells: tuple[tuple[int, int, int], ...]

    def span(self, axis: int) -> tuple[int, int]:
        """First and last position on an axis: 0 frame, 1 row, 2 column."""
        along = [cell[axis] for cell in self.cells]
        return min(along), max(along)


def placement_drawing(
    name: str, *, frames: int = 3, height: int = 3, width: int = 4
) -> PlacementDrawing:
    """What the panel of a named placement shows."""
    grid = ReferencePlacement.parse(name).grid(frames, height, width).tolist()
    cells = tuple((int(frame), int(row), int(column)) for frame, row, column in grid)
    return PlacementDrawing(name, (frames, height, width), cells)


def _project(frame: float, row: float, column: float) -> tuple[float, float]:
    """Later frames stand further back: up and to the right."""
    return column + 0.6 * frame, -row + 0.62 * frame


def _sheet(axes: Axes, cells: Sequence[tuple[int, int, int]], colour: str, edge: str) -> None:
    for frame, row, column in cells:
        corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        axes.add_patch(
            Polygon(
                [_project(frame, r, c) for r, c in corners],
                facecolor=colour,
                edgecolor=edge,
                linewidth=0.7,
                zorder=10 - frame,
            )
        )


def _panel(axes: Axes, drawing: PlacementDrawing) -> None:
    t, h, w = drawing.video
    for frame in reversed(range(t)):
        _sheet(axes, [(frame, r, c) for r in range(h) for c in range(w)], VIDEO, VIDEO_EDGE)
    _sheet(axes, drawing.cells, REFERENCE, REFERENCE_EDGE)
    axes.set_xlim(-0.2, 12.4)
    axes.set_ylim(-6.7, 1.9)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(drawing.name, fontsize=12, fontweight="bold", color=INK, pad=4)


def _compass(axes: Axes) -> None:
    """Which way frames, rows and columns grow."""
    for end, word, place in (
        ((0, 0, 1.5), "column", ("left", "center")),
        ((0, 1.2, 0), "row", ("center", "top")),
        ((1.4, 0, 0), "frame", ("left", "center")),
    ):
        x, y = _project(*end)
        axes.annotate(
            "",
            xytext=(0.4, -4.75),
            xy=(0.4 + x, -4.75 + y),
            arrowprops={"arrowstyle": "-|>", "color": MUTED, "lw": 0.9, "mutation_scale": 8},
        )
        axes.text(0.45 + x, -4.75 + y, word, ha=place[0], va=place[1], fontsize=7.5, color=MUTED)


def _strip(axes: Axes, drawing: PlacementDrawing, last: int) -> None:
    """The frame axis, one box per frame: the video's, the reference's, or both."""
    t = drawing.video[0]
    mine, _ = drawing.span(0)
    for frame in range(last + 1):
        both = frame < t and frame == mine
        colour = VIDEO if frame < t else REFERENCE if frame == mine else "white"
        edge = VIDEO_EDGE if frame < t else REFERENCE_EDGE if frame == mine else "#c8d0d8"
        axes.add_patch(Rectangle((frame, 0), 0.9, 0.9, facecolor=colour, edgecolor=edge, lw=0.8))
        if both:
            axes.add_patch(
                Polygon(
                    [(frame, 0), (frame + 0.9, 0), (frame + 0.9, 0.9)],
                    facecolor=REFERENCE,
                    edgecolor=REFERENCE_EDGE,
                    linewidth=0.8,
                )
            )
        axes.text(frame + 0.45, -0.25, str(frame), ha="center", va="top", fontsize=7.5, color=MUTED)
    (r0, r1), (c0, c1) = drawing.span(1), drawing.span(2)
    axes.text(
        (last + 0.9) / 2,
        -1.35,
        f"frame {mine}, rows {r0}–{r1}, columns {c0}–{c1}",
        ha="center",
        va="top",
        fontsize=8.5,
    )
    axes.set_xlim(-0.2, last + 1.1)
    axes.set_ylim(-2.3, 1.1)
    axes.set_aspect("equal")
    axes.axis("off")


def draw_positions(path: Path) -> Path:
    """The five placements side by side."""
    drawings = [placement_drawing(name) for name in NAMED_PLACEMENTS]
    last = max(drawing.span(0)[1] for drawing in drawings)
    t, h, w = drawings[0].video
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, len(drawings), figsize=(13, 3.5), height_ratios=(2.1, 1.0), layout="constrained"
        )
        for column, drawing in enumerate(drawings):
            _panel(axes[0, column], drawing)
            _strip(axes[1, column], drawing, last)
        _compass(axes[0, 0])
        figure.suptitle(
            f"A video of t={t}, h={h}, w={w} latents (blue) and its reference (orange): "
            "space above, frame index below",
            fontsize=10,
            color=MUTED,
        )
        _save(figure, path)
    return path


# Streams -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamDrawing:
    """One pass of an order: its stream, and its coefficient as c + a w_text + b w_ref."""

    stream: Stream
    constant: int
    text: int
    reference: int

    def at(self, text: float, reference: float) -> float:
        """The coefficient at two weights."""
        return self.constant + self.text * text + self.reference * reference

    @property
    def formula(self) -> str:
        """Such as `1 - w_text`, in matplotlib's mathematical notation."""
        parts = [(self.text, "w_{text}"), (self.reference, "w_{ref}"), (self.constant, "1")]
        parts.sort(key=lambda part: part[0] < 0)  # what is added comes first
        words = ""
        for factor, symbol in parts:
            if factor:
                sign = "-" if factor < 0 else "+" if words else ""
                words += f" {sign} {symbol}" if words else f"{sign}{symbol}"
        terms = sum(map(bool, (self.constant, self.text, self.reference)))
        return f"$({words})$" if terms > 1 else f"${words}$"


def stream_drawing(order: Order) -> tuple[StreamDrawing, ...]:
    """The passes of an order with their coefficients, found by asking the guidance itself.

    A coefficient is affine in both weights, so three points of the plane give it.
    """

    def at(text: float, reference: float) -> dict[Stream, float]:
        return ThreeStreamGuidance(text, reference, order).coefficients()

    origin, along_text, along_reference = at(0.0, 0.0), at(1.0, 0.0), at(0.0, 1.0)
    generic = at(3.0, 1.5)  # where no coefficient vanishes
    return tuple(
        StreamDrawing(
            stream,
            round(origin.get(stream, 0.0)),
            round(along_text.get(stream, 0.0) - origin.get(stream, 0.0)),
            round(along_reference.get(stream, 0.0) - origin.get(stream, 0.0)),
        )
        for stream in Stream
        if stream in generic
    )


def _name(stream: Stream) -> str:
    text = "T" if stream.has_text else r"\varnothing"
    reference = "R" if stream.has_reference else r"\varnothing"
    return f"$v({text}, {reference})$"


def _passes(axes: Axes, order: Order) -> None:
    """The passes from top to bottom: prompt, tokens, coefficient."""
    for i, part in enumerate(stream_drawing(order)):
        y = 2 - i
        colour = STREAMS[part.stream]
        axes.text(0.0, y + 0.28, _name(part.stream), fontsize=11, va="center", color=colour)
        prompt = "prompt" if part.stream.has_text else "negative"
        axes.add_patch(
            FancyBboxPatch(
                (1.88, y + 0.08),
                1.69,
                0.38,
                boxstyle="round,pad=0.02,rounding_size=0.1",
                facecolor="#e6efe1" if part.stream.has_text else "#f2f3f5",
                edgecolor="#a9b4bd",
                linewidth=0.7,
            )
        )
        axes.text(2.725, y + 0.27, prompt, ha="center", va="center", fontsize=8)
        box: dict[str, Any] = {"height": 0.46, "linewidth": 0.8}
        axes.add_patch(
            Rectangle((3.8, y + 0.05), 2.4, facecolor=VIDEO, edgecolor=VIDEO_EDGE, **box)
        )
        axes.text(5.0, y + 0.27, "video", ha="center", va="center", fontsize=8)
        if part.stream.has_reference:
            axes.add_patch(
                Rectangle(
                    (6.2, y + 0.05), 0.8, facecolor=REFERENCE, edgecolor=REFERENCE_EDGE, **box
                )
            )
            axes.text(6.6, y + 0.27, "ref", ha="center", va="center", fontsize=8)
        axes.text(7.35, y + 0.27, "×", va="center", fontsize=10, color=MUTED)
        axes.text(7.75, y + 0.27, part.formula, va="center", fontsize=11, color=colour)
    axes.set_xlim(-0.1, 11.2)
    axes.set_ylim(-0.25, 2.75)
    axes.axis("off")
    axes.set_title(order, fontsize=12, fontweight="bold", loc="left", pad=2)


def _lines(axes: Axes, order: Order, text: float) -> None:
    """Coefficients over w_ref at one w_text."""
    weights = [i * 0.05 for i in range(81)]
    for part in stream_drawing(order):
        axes.plot(
            weights,
            [part.at(text, reference) for reference in weights],
            color=STREAMS[part.stream],
            linewidth=1.8,
            label=_name(part.stream),
        )
    axes.axhline(0, color="#c8d0d8", linewidth=0.8, zorder=0)
    axes.set_xlim(0, 4)
    axes.set_ylim(-4.5, 6.5)
    axes.set_xlabel("$w_{ref}$")
    axes.legend(
        frameon=False, fontsize=8.5, ncols=3, loc="upper left", handlelength=1.2, columnspacing=1.0
    )


def draw_streams(path: Path, *, text: float = 3.0) -> Path:
    """The passes of the three orders, and their coefficients over w_ref."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, 3, figsize=(13, 4.9), height_ratios=(1.15, 1.0), layout="constrained"
        )
        for column, order in enumerate(ORDERS):
            _passes(axes[0, column], order)
            _lines(axes[1, column], order, text)
        axes[1, 0].set_ylabel(f"coefficient at $w_{{text}} = {text:g}$")
        _save(figure, path)
    return path


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for path in (draw_positions(IMAGES / "positions.png"), draw_streams(IMAGES / "streams.png")):
        print(f"{path.relative_to(IMAGES.parent.parent)}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
