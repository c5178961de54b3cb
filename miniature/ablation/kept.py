"""The part of a run that is kept in the repository: enough to continue it elsewhere.

The base as every point starts from it, and each point's measurements and loss curve. A point whose
measurements are all there is not trained again; the weights of points are too large to ship.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from miniature import CHECKPOINTS
from miniature.ablation.plan import BUDGETS, POINTS, REFERENCE_WEIGHTS, SNAPSHOTS, Point
from miniature.ablation.training import base_file, snapshot_file
from stdrc.training.checkpoint import whole_file

FOLDER = CHECKPOINTS / "ablation"


def results_of(work: Path, point: Point) -> list[Path]:
    """Every file that measuring a point leaves, whether it is there or not."""
    folder = work / "results" / point.name
    frontiers = [f"{budget}-w{w:g}.json" for budget in BUDGETS for w in REFERENCE_WEIGHTS]
    reading = [f"reading-{step:04d}.json" for step in SNAPSHOTS]
    return [folder / name for name in (*frontiers, *reading, "attention.json")]


def is_measured(work: Path, point: Point) -> bool:
    """Whether nothing is left to do for a point."""
    return all(file.is_file() for file in results_of(work, point))


def gather_curve(work: Path, point: Point) -> None:
    """A training's numbers by step, as they were last done, beside its measurements."""
    lines, kept = work / "trainings" / point.name / "curve.jsonl", curve_file(work, point)
    if not lines.is_file() or not snapshot_file(work, point, SNAPSHOTS[-1]).is_file():
        return
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    # A kill leaves steps that are done again, and perhaps one from before an earlier end.
    by_step = {row["step"]: row for row in rows if row["step"] <= SNAPSHOTS[-1]}
    columns = {
        name: [by_step[step][name] for step in sorted(by_step)] for name in ("flow", "alignment")
    }
    with whole_file(kept) as partial:
        partial.write_text(json.dumps(columns), encoding="utf-8")


def curve_file(work: Path, point: Point) -> Path:
    return work / "results" / point.name / "curve.json"


def _worth_keeping(work: Path) -> Iterator[Path]:
    yield base_file(work)
    yield work / "results" / "base" / "w0.json"
    for point in POINTS:
        yield from results_of(work, point)
        yield curve_file(work, point)


def keep(work: Path, folder: Path = FOLDER) -> None:
    """Copy what is there and worth keeping from a work folder into the repository's."""
    for point in POINTS:
        gather_curve(work, point)
    _copy(work, folder, work)


def restore(work: Path, folder: Path = FOLDER) -> None:
    """Copy what a work folder lacks from the repository's."""
    _copy(folder, work, work)


def _copy(source: Path, target: Path, work: Path) -> None:
    for file in _worth_keeping(work):
        name = file.relative_to(work)
        if (source / name).is_file() and (source == work or not (target / name).is_file()):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target / name) as partial:
                shutil.copyfile(source / name, partial)
