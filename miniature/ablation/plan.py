"""Which points are trained and measured, in which order, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stdrc.positions import ReferencePlacement

HERE = Path(__file__).parent
#: Clips of the world's training split, one identity each, and references per clip in each arm.
CLIPS, REFERENCES = 3000, 4
#: Where a clip's training references come from.
ARMS = ("off", "on", "cross")
#: Steps whose weights are kept: the two budgets are the second and the last.
SNAPSHOTS = (50, 150, 250, 400)
BUDGETS = {"early": 150, "late": 400}
#: People of the validation split that every point is measured on, one clip each.
PEOPLE = 64
TEXT_WEIGHT, REFERENCE_WEIGHTS = 2.0, (0.0, 0.5, 1.5, 4.0, 8.0)
SAMPLER_STEPS, PARALLEL = 6, 0.0
#: Shifts of TASS-RoPE in extents of the video; 1 is `tass`, 0 `strata`.
SHIFTS = {"shift0.5": 0.5, "shift2": 2.0}


@dataclass(frozen=True, order=True)
class Point:
    """One training: a placement, where its references come from, and a seed.

    Args:
        placement: a name of `stdrc.positions`, or of `SHIFTS`.
        arm: one of `ARMS`.
        seed: of the order of clips, the noise and which reference is drawn.
    """

    placement: str
    arm: str
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.placement}-{self.arm}-{self.seed}"

    @property
    def where(self) -> ReferencePlacement:
        """When and where the reference stands."""
        if self.placement in SHIFTS:
            shift = SHIFTS[self.placement]
            return ReferencePlacement("after", 0, (shift, shift))
        return ReferencePlacement.parse(self.placement)


def _points(placements: tuple[str, ...], arms: tuple[str, ...], *seeds: int) -> list[Point]:
    return [Point(place, arm, seed) for seed in seeds for arm in arms for place in placements]


MAIN = _points(("overlap", "tass"), ("off", "on"), 0, 1, 2)
CROSS = _points(("overlap", "tass"), ("cross",), 0)
OTHERS = _points(("spatial", "strata", "far"), ("off", "on"), 0)
SWEEP = _points(tuple(SHIFTS), ("off", "on"), 0)
POINTS = (*MAIN, *CROSS, *OTHERS, *SWEEP)


def queue() -> list[tuple[str, Point]]:
    """What is done in which order: ("train" | "early" | "late", point).

    The four main points of seed 0 are all trained before any is measured; then late budgets before
    early ones. From there on each point is trained and measured before the next, so that stopping
    anywhere leaves whole answers.
    """
    first, rest = POINTS[:4], POINTS[4:]
    jobs = [("train", point) for point in first]
    jobs += [("late", point) for point in first] + [("early", point) for point in first]
    for start in range(0, len(rest), 2):
        pair = rest[start : start + 2]
        for job in ("train", "late", "early"):
            jobs += [(job, point) for point in pair]
    return jobs
