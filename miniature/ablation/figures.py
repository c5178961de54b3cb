"""The ablation's pictures: frontiers, what is read over training, and where attention goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from miniature.ablation.kept import curve_file
from miniature.ablation.plan import BUDGETS, POINTS, SNAPSHOTS, Point
from miniature.ablation.results import Frontiers, read_errors, read_frontiers, seeds_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt

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


def draw_frontiers(found: Frontiers, path: Path) -> None:
    """Leakage over identity and identity over text alignment, by budget; one mark per weight."""
    budgets = [budget for budget in BUDGETS if any(at == budget for _, at in found)]
    if not budgets:
        return
    figure, axes = plt.subplots(
        len(budgets), 2, figsize=(9.6, 3.7 * len(budgets)), layout="constrained",
        sharey="col", squeeze=False,
    )  # fmt: skip
    for row, budget in zip(axes, budgets, strict=True):
        for cell, seeds in _cells(found, budget):
            rows = [found[Point(*cell, seed).name, budget].rows for seed in seeds]
            mean = {
                name: np.mean([np.nanmean(r[name], axis=1) for r in rows], axis=0)
                for name in ("identity", "leak_any", "text")
            }
            style = {"color": COLOURS[cell[0]], "ls": STYLES[cell[1]], "marker": "o", "ms": 3.5}
            label = f"{', '.join(cell)} ({len(seeds)})"
            row[0].plot(mean["identity"], mean["leak_any"], label=label, **style)
            row[1].plot(mean["text"], mean["identity"], **style)
        title = f"{budget}: {BUDGETS[budget]} steps"
        _finish(row[0], "normalised identity", "attribute leakage", title)
        _finish(row[1], "text alignment (100 cos)", "normalised identity", title)
        row[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def read_curve(work: Path, point: Point, window: int = 20) -> np.ndarray | None:
    """[steps, 2] step and running mean of a training's flow loss; None where there is none."""
    file = curve_file(work, point)
    if not file.is_file():
        return None
    values = json.loads(file.read_text(encoding="utf-8"))["flow"]
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    return np.stack([np.arange(window, len(values) + 1), smooth], axis=1)


def draw_reading(work: Path, path: Path) -> None:
    """Training loss against overlap's, and what is read of person and copied, over training."""
    figure, axes = plt.subplots(1, 3, figsize=(12.6, 3.7), layout="constrained")
    for point in POINTS:
        style = {"color": COLOURS[point.placement], "ls": STYLES[point.arm]}
        label = f"{point.placement}, {point.arm}" if point.seed == 0 else None
        curve = read_curve(work, point)
        if curve is not None:
            axes[0].plot(*curve.T, lw=0.9, label=label, **style)
        errors = [read_errors(work / "results", point, step) for step in SNAPSHOTS]
        whole = [error["0.9"] for error in errors if error is not None]
        if len(whole) < len(SNAPSHOTS):
            continue
        for axis, worse, better in ((axes[1], "stranger", "own"), (axes[2], "own", "same")):
            gained = [np.mean(error[worse] - error[better]) for error in whole]
            axis.plot(SNAPSHOTS, gained, marker="o", ms=3.5, **style)
    _finish(axes[0], "step", "flow loss, mean of 20 steps", "training")
    _finish(axes[1], "step", "squared error", "a stranger's reference minus the own")
    _finish(axes[2], "step", "squared error", "the own reference minus a frame of the clip")
    if axes[0].lines:
        axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_attention(folder: Path, path: Path) -> None:
    """For each point of seed 0, the mass on the reference by displacement; one panel per block."""
    files = {p: folder / p.name / "attention.json" for p in POINTS if p.seed == 0}
    there = {point: json.loads(f.read_text()) for point, f in files.items() if f.is_file()}
    if not there:
        return
    blocks = len(next(iter(there.values()))["offset"])
    figure, axes = plt.subplots(
        len(there), blocks, figsize=(2.1 * blocks + 1, 2.2 * len(there)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for row, (point, seen) in zip(axes, there.items(), strict=True):
        for block, axis in enumerate(row):
            share = np.array(seen["offset"][block])
            reach = (share.shape[0] - 1) // 2
            axis.imshow(share, extent=(-reach, reach, reach, -reach), cmap="magma", vmin=0)
            mass = np.mean(seen["to_reference"][block])
            axis.set_title(f"block {block + 1}: {100 * mass:.0f} % on it", fontsize=8)
            axis.tick_params(labelsize=6)
        row[0].set_ylabel(f"{point.placement}, {point.arm}", fontsize=9)
    figure.suptitle(
        "where video tokens look in the reference: rows and columns from their own place",
        fontsize=9,
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw(work: Path, images: Path) -> None:
    """All pictures into `images`."""
    found = read_frontiers(work / "results")
    draw_frontiers(found, images / "ablation_frontier.png")
    draw_reading(work, images / "ablation_reading.png")
    draw_attention(work / "results", images / "ablation_attention.png")
