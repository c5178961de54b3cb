"""What the metrics of people and of timelines say of planted faults, by how bad they are.

    python benchmarks/people_faults.py [--clips 12] [--picture docs/images/planted_faults.png]

True clips of the drawn world are spoilt by 0 to 100 % and judged by its own networks: people who
change places in the last half, become one, or leave; the order of people in time, and of events,
exchanged; events late by up to half the clip, or replaced by what the other event shows. A row per
fault and metric.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from media.errors import UserError
from metrics.people import IdentityPeople, IdentityTimeline
from miniature.judges.faces import MiniatureFaces
from miniature.judges.metrics import MiniatureTimeline
from miniature.world.people import PeopleClip, render_people
from miniature.world.sequences import SequenceClip, render_sequence, sample_scenes
from miniature.world.world import World

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
FRAMES = 16
Spoil = Callable[[np.ndarray, float], np.ndarray]  # frames [T, H, W, 3], severity 0 to 1


def swapped(frames: np.ndarray, share: float) -> np.ndarray:
    """The last half's last share: left and right have changed places."""
    start = len(frames) - round(share * len(frames) / 2)
    return np.concatenate([frames[:start], np.roll(frames[start:], frames.shape[1], axis=2)])


def _right(frames: np.ndarray, share: float, shown: np.ndarray) -> np.ndarray:
    """Something else on the right in the last share of the frames."""
    start, spoilt = len(frames) - round(share * len(frames)), frames.copy()
    spoilt[start:, :, frames.shape[1] :] = shown[start:]
    return spoilt


def merged(frames: np.ndarray, share: float) -> np.ndarray:
    """In the last share of the frames both are the person on the left."""
    return _right(frames, share, frames[:, :, : frames.shape[1]])


def absent(frames: np.ndarray, share: float) -> np.ndarray:
    """In the last share of the frames nobody stands on the right."""
    wall = frames[:, :4, frames.shape[1] :].mean((1, 2), keepdims=True)
    return _right(frames, share, wall.round().astype(np.uint8))


def exchanged(frames: np.ndarray, share: float) -> np.ndarray:
    """The first share of each half stands in the other."""
    half, spoilt = len(frames) // 2, frames.copy()
    n = round(share * half)
    spoilt[:n], spoilt[half : half + n] = frames[half : half + n], frames[:n]
    return spoilt


def shifted(frames: np.ndarray, share: float) -> np.ndarray:
    """All of it late by the share of half the clip; the first frame stands until then."""
    n = round(share * len(frames) / 2)
    return np.concatenate([np.repeat(frames[:1], n, 0), frames[: len(frames) - n]])


def dropped(frames: np.ndarray, share: float) -> np.ndarray:
    """The last share of the second half is the first half's end, which stands still."""
    half = len(frames) // 2
    n, spoilt = round(share * half), frames.copy()
    spoilt[len(frames) - n :] = frames[half - 1]
    return spoilt


#: fault, clips, and (metric, what it measures, whether the fault raises it).
FAULTS: tuple[tuple[Spoil, str, tuple[tuple[Any, str, bool], ...]], ...] = (
    (swapped, "beside", (
        (IdentityPeople, "mean", False), (IdentityPeople, "least", False),
        (IdentityPeople, "confusion", True), (IdentityPeople, "swaps", True),
    )),
    (merged, "beside", (
        (IdentityPeople, "mean", False), (IdentityPeople, "least", False),
        (IdentityPeople, "confusion", True),
    )),
    (absent, "beside", (
        (IdentityPeople, "mean", False), (IdentityPeople, "least", False),
        (IdentityPeople, "absence", True),
    )),
    (exchanged, "in_turn", (
        (IdentityTimeline, "own", False), (IdentityTimeline, "stranger", True),
        (IdentityPeople, "mean", False), (IdentityPeople, "confusion", True),
    )),
    (exchanged, "events", (
        (MiniatureTimeline, "accuracy", False), (MiniatureTimeline, "order", False),
    )),
    (shifted, "events", (
        (MiniatureTimeline, "accuracy", False), (MiniatureTimeline, "boundary", True),
    )),
    (dropped, "events", (
        (MiniatureTimeline, "accuracy", False), (MiniatureTimeline, "alignment", False),
    )),
)  # fmt: skip


def clips(kind: str, count: int) -> list[PeopleClip | SequenceClip]:
    """True clips of two people, "beside" or "in_turn", or of one person's two "events"."""
    world, made = World(split="test", size=2 * count), []
    for i in range(count):
        if kind == "events":
            scenes = sample_scenes(np.random.default_rng([96, 0, i]), 2)
            made.append(render_sequence(world.identity(i), scenes, frames=FRAMES, seed=i))
        else:
            scenes = sample_scenes(np.random.default_rng([97, 0, i]), 2)
            cast = [world.identity(2 * i), world.identity(2 * i + 1)]
            made.append(render_people(cast, scenes, kind, frames=FRAMES, seed=i))
    return made


def reading(metric: Any, of: str, made: Sequence[Any], spoil: Spoil, share: float) -> float:
    """The mean over clips that are spoilt by a share."""
    if metric is MiniatureTimeline:
        judge = metric(measured=of)
        for clip in made:
            judge.update(spoil(clip.frames, share), clip.timeline, clip.fps)
        return float(judge.compute())
    judge = metric(of, MiniatureFaces())
    for clip in made:
        always = len(set(clip.times)) == 1
        shown = [
            (one.name, *((None, None) if always else time))
            for one, time in zip(clip.people, clip.times, strict=True)
        ]
        judge.update(spoil(clip.frames, share), list(clip.references), shown, clip.fps)
    return float(judge.compute())


def draw(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A panel per fault; values over severity."""
    figure, axes = plt.subplots(2, 4, figsize=(12, 5.2), layout="constrained")
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis, (fault, lines) in zip(axes.flat, curves.items(), strict=False):
        for name, values in lines.items():
            scale = 100 if name.endswith("alignment") else 1
            label = f"{name} / 100" if scale > 1 else name
            axis.plot([100 * s for s in SHARES], np.array(values) / scale, marker="o", label=label)
        axis.set(title=fault, xlabel="severity (%)")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": ""})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    made = {kind: clips(kind, given.clips) for kind in ("beside", "in_turn", "events")}
    curves: dict[str, dict[str, list[float]]] = {}
    print("| fault | metric | " + " | ".join(f"{s:.0%}" for s in SHARES) + " | monotone |")
    print("|---" * (len(SHARES) + 3) + "|")
    for spoil, kind, read in FAULTS:
        fault = f"{'events' if kind == 'events' else 'people'} {spoil.__name__}"
        for metric, of, rises in read:
            family = {IdentityPeople: "people", IdentityTimeline: "identity.timeline"}
            name = f"{family.get(metric, 'timeline')}.{of}"
            values = [reading(metric, of, made[kind], spoil, share) for share in SHARES]
            curves.setdefault(fault, {})[name] = values
            steady = values == sorted(values, reverse=not rises)
            cells = [f"{v:.2f}" for v in values]
            print(
                "|", " | ".join([fault, name, *cells, "yes" if steady else "no"]), "|", flush=True
            )
    if given.picture:
        draw(curves, given.picture)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
