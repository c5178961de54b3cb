"""The ablation's pictures: frontiers, what is read over training, and where attention goes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from miniature.ablation.kept import curve_file
from miniature.ablation.plan import BUDGETS, POINTS, SNAPSHOTS, Point
from miniature.ablation.results import Frontiers, read_errors, read_frontiers, seeds_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

COLOURS = {
    "overlap": "#c0392b",
    "tass": "#1f6fb2",
    "spatial": "#d68910",
    "strata": "#2e8b57",
    "far": "#7d3c98",
    "shift0.5": "#5dade2",
    "shift2": "#154360",
}
STYLES = {"off": "-", "on": "--", "cross": ":"}


def _cells(found: Frontiers, budget: str) -> list[tuple[tuple[str, str], list[int]]]:
    cells = dict.fromkeys((point.placement, point.arm) for point in POINTS)
    there = [(cell, seeds_of(found, budget, cell)) for cell in cells]
    return [(cell, seeds) for cell, seeds in there if seeds]


def _finish(axis: Any, x: str, y: str, title: str) -> None:
    axis.set(xlabel=x, ylabel=y)
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _style(cell: tuple[str, str]) -> dict[str, Any]:
    return {"color": COLOURS[cell[0]], "ls": STYLES[cell[1]], "lw": 1.3}


def _save(figure: Any, cells: Iterable[tuple[str, str]], path: Path) -> None:
    """With one legend beside all panels: placements by colour, references by the line's style."""
    places, arms = (dict.fromkeys(names) for names in zip(*cells))
    lines = [Line2D([], [], color=COLOURS[place], lw=3, label=place) for place in places]
    lines += [Line2D([], [], color="black", ls=STYLES[arm], label=arm) for arm in arms]
    figure.legend(handles=lines, loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_frontiers(found: Frontiers, path: Path) -> None:
    """Leakage over identity, without augmentation and with it or from other scenes, and identity
    over text alignment, by budget; one mark per weight, means over seeds."""
    budgets = [budget for budget in BUDGETS if any(at == budget for _, at in found)]
    if not budgets:
        return
    figure, axes = plt.subplots(
        len(budgets), 3, figsize=(12.6, 3.7 * len(budgets)), layout="constrained", squeeze=False,
    )  # fmt: skip
    drawn: dict[tuple[str, str], None] = {}
    for row, budget in zip(axes, budgets, strict=True):
        row[1].sharex(row[0])
        row[1].sharey(row[0])
        for cell, seeds in _cells(found, budget):
            drawn[cell] = None
            rows = [found[Point(*cell, seed).name, budget].rows for seed in seeds]
            mean = {
                name: np.mean([np.nanmean(r[name], axis=1) for r in rows], axis=0)
                for name in ("identity", "leak_any", "text")
            }
            leaks = row[0] if cell[1] == "off" else row[1]
            leaks.plot(mean["identity"], mean["leak_any"], marker="o", ms=3.5, **_style(cell))
            row[2].plot(mean["text"], mean["identity"], marker="o", ms=3.5, **_style(cell))
        steps = f"{budget} ({BUDGETS[budget]} steps)"
        _finish(row[0], "normalised identity", "attribute leakage", f"{steps}: off")
        _finish(row[1], "normalised identity", "attribute leakage", f"{steps}: on, cross")
        _finish(row[2], "text alignment (100 cos)", "normalised identity", f"{steps}: all")
    _save(figure, drawn, path)


def read_curve(work: Path, point: Point, window: int = 40) -> np.ndarray | None:
    """[steps, 2] step and running mean of a training's flow loss; None where there is none."""
    file = curve_file(work, point)
    if not file.is_file():
        return None
    values = json.loads(file.read_text(encoding="utf-8"))["flow"]
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    return np.stack([np.arange(window, len(values) + 1), smooth], axis=1)


def draw_reading(work: Path, path: Path) -> None:
    """Training loss against overlap's (the same clips and noise in the same order), and what is
    read of the person and copied, over training; means over seeds."""
    figure, axes = plt.subplots(1, 3, figsize=(12.6, 3.9), layout="constrained")
    cells: dict[tuple[str, str], list[Point]] = {}
    for point in POINTS:
        cells.setdefault((point.placement, point.arm), []).append(point)
    drawn: dict[tuple[str, str], None] = {}
    for cell, points in cells.items():
        behind: list[np.ndarray] = []
        gained: list[list[list[float]]] = []
        for point in points:
            curve = read_curve(work, point)
            known = read_curve(work, Point("overlap", point.arm, point.seed))
            if curve is not None and known is not None and len(curve) == len(known):
                behind.append(np.stack([curve[:, 0], curve[:, 1] - known[:, 1]]))
            errors = [read_errors(work / "results", point, step) for step in SNAPSHOTS]
            whole = [error["0.9"] for error in errors if error is not None]
            if len(whole) == len(SNAPSHOTS):
                pairs = (("stranger", "own"), ("own", "same"))
                gained.append([[float(np.mean(e[a] - e[b])) for e in whole] for a, b in pairs])
        if behind and cell[0] != "overlap":
            axes[0].plot(*np.mean(behind, axis=0), **_style(cell))
        if gained:
            drawn[cell] = None
            for axis, values in zip(axes[1:], np.mean(gained, axis=0), strict=True):
                axis.plot(SNAPSHOTS, values, marker="o", ms=3.5, **_style(cell))
    axes[0].axhline(0, color="black", lw=0.6)
    _finish(axes[0], "step", "flow loss minus overlap's", "training, mean of 40 steps")
    _finish(axes[1], "step", "squared error", "a stranger's reference minus the own")
    _finish(axes[2], "step", "squared error", "the own reference minus a frame of the clip")
    if drawn:
        _save(figure, drawn, path)


def draw_attention(folder: Path, path: Path) -> None:
    """For each point of seed 0, the mass on the reference by displacement; one panel per block."""
    files = {p: folder / p.name / "attention.json" for p in POINTS if p.seed == 0}
    there = {point: json.loads(f.read_text()) for point, f in files.items() if f.is_file()}
    if not there:
        return
    blocks = len(next(iter(there.values()))["offset"])
    rows = -(-len(there) // 2)  # two points beside one another
    figure, axes = plt.subplots(
        rows, 2 * blocks, figsize=(2.9 * blocks + 1, 1.65 * rows), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_axis_off()
    for place, (point, seen) in enumerate(sorted(there.items(), key=lambda item: _order(item[0]))):
        row, half = place // 2, place % 2 * blocks
        for block, axis in enumerate(axes[row, half : half + blocks]):
            share = np.array(seen["offset"][block])
            reach = (share.shape[0] - 1) // 2
            axis.imshow(share, extent=(-reach, reach, reach, -reach), cmap="magma", vmin=0)
            mass = 100 * np.mean(seen["to_reference"][block])
            name = f"{point.placement}, {point.arm}\n" if block == 0 else "\n"
            axis.set_title(f"{name}block {block + 1}: {mass:.0f} %", fontsize=8, loc="left")
    figure.suptitle(
        "where video tokens look in the reference, from their own place (the middle), and the "
        "share of their attention that goes there",
        fontsize=9,
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _order(point: Point) -> tuple[bool, int, str]:
    """Arms of a placement beside one another; references of other scenes last."""
    return point.arm == "cross", list(COLOURS).index(point.placement), point.arm


def draw(work: Path, images: Path) -> None:
    """All pictures into `images`."""
    found = read_frontiers(work / "results")
    draw_frontiers(found, images / "ablation_frontier.png")
    draw_reading(work, images / "ablation_reading.png")
    draw_attention(work / "results", images / "ablation_attention.png")
