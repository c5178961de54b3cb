"""Clips of several people, with exact truth of who is where and when.

Side by side, each person has a square of the frame and moves within it, so that a wide frame is as
many squares as there are people. In turn, one person follows another in a square frame; every
border lies on a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from miniature.world.attributes import ClipAttributes
from miniature.world.identity import Identity
from miniature.world.render import render_portrait, render_poses, sample_poses
from miniature.world.sequences import action, place


@dataclass(frozen=True)
class PeopleClip:
    """A clip of several people.

    Attributes:
        people: who.
        times: start and end in seconds of each person.
        captions: of each person.
        caption: of the whole clip.
        frames: uint8 [T, S, W, 3], W a multiple of S.
        boxes: float [P, T, 4], x0 y0 x1 y1 of each person's face in pixels, NaN where it isn't
            seen.
        references: a portrait of each in another scene, uint8 [P, S, S, 3].
        fps: frames per second.
    """

    people: tuple[Identity, ...]
    times: tuple[tuple[float, float], ...]
    captions: tuple[str, ...]
    caption: str
    frames: np.ndarray
    boxes: np.ndarray
    references: np.ndarray
    fps: float


def render_people(
    people: Sequence[Identity],
    scenes: Sequence[ClipAttributes],
    arrangement: str = "beside",
    *,
    frames: int = 17,
    size: int = 64,
    seed: int = 0,
    fps: float = 8.0,
) -> PeopleClip:
    """Draw several people in one scene.

    Args:
        people: from left to right, or one after another.
        scenes: one per person; background and light are the first one's.
        arrangement: "beside", side by side in a frame that is wider by as much, or "in_turn", in
            equal parts of the clip.
        frames: of the whole clip.
        size: height of the frame in pixels, a multiple of 32.
        seed: fixes start poses, shirts, and the portraits' scenes.
        fps: frame rate that the clip is meant to be played at.
    """
    rng = np.random.default_rng([7158, people[0].seed, seed])
    beside = arrangement == "beside"
    count = len(people)
    borders = np.linspace(0, frames, 1 if beside else count + 1).round().astype(int)
    spans = [(0, frames)] * count if beside else list(pairwise(borders.tolist()))
    boxes = np.full((count, frames, 4), np.nan)
    parts = []
    for k, (one, scene, (start, end)) in enumerate(zip(people, scenes, spans, strict=True)):
        poses = sample_poses(scene.motion, end - start, rng)
        # The same generator state for everybody: one background, one light.
        drawn = np.random.default_rng([7159, people[0].seed, seed])
        pixels, faces, _ = render_poses(one, scene, poses, size, drawn)
        boxes[k, start:end] = faces + np.array([size * k, 0] * 2) * beside
        parts.append(pixels)
    captions = tuple(f"a person {action(scene)} {place(scenes[0])}" for scene in scenes)
    joined = " and a person ".join(map(action, scenes)) if beside else (
        ", then a person ".join(map(action, scenes))
    )  # fmt: skip
    return PeopleClip(
        people=tuple(people),
        times=tuple((start / fps, end / fps) for start, end in spans),
        captions=captions,
        caption=f"a person {joined}, {place(scenes[0])}",
        frames=np.concatenate(parts, axis=2 if beside else 0),
        boxes=boxes,
        references=np.stack([_portrait(one, scenes[0], size, seed) for one in people]),
        fps=fps,
    )


def _portrait(one: Identity, scene: ClipAttributes, size: int, seed: int) -> np.ndarray:
    """Of one person, in another colour and well lit."""
    rng = np.random.default_rng([7160, one.seed, seed])
    other = ClipAttributes.sample(rng)
    while other.color == scene.color or other.lighting == "dim":
        other = ClipAttributes.sample(rng)
    return render_portrait(one, replace(other, motion="still", hat="none"), size, seed)[0]
