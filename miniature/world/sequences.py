"""Clips in which one thing follows another, with exact truth.

A sequence goes through two or three motions and expressions, one after another, each from where the
one before left the head; its timeline says when each begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from miniature import words
from miniature.world.attributes import ClipAttributes
from miniature.world.identity import Identity
from miniature.world.render import Pose, render_portrait, render_poses, sample_poses

#: (start, end, caption) in seconds.
Timeline = tuple[tuple[float, float, str], ...]

#: Where the middle of a head may be, in pixels of a 64 x 64 frame, and how large it may be.
_ROOM = {"x": (20.0, 44.0), "y": (28.0, 46.0), "scale": (0.8, 1.2)}


@dataclass(frozen=True)
class SequenceClip:
    """A clip whose events are known.

    Attributes:
        identity: who.
        scenes: what is seen in each event.
        timeline: when each event is, and its caption.
        caption: of the whole clip.
        frames: uint8 [T, S, S, 3].
        boxes: float [T, 4], x0 y0 x1 y1 of the face in pixels.
        reference: a portrait in another scene, uint8 [S, S, 3].
        fps: frames per second.
    """

    identity: Identity
    scenes: tuple[ClipAttributes, ...]
    timeline: Timeline
    caption: str
    frames: np.ndarray
    boxes: np.ndarray
    reference: np.ndarray
    fps: float


def place(scene: ClipAttributes) -> str:
    """The background in words."""
    return f"in front of {words.PATTERN_PHRASES[scene.pattern][0].format(scene.color)}"


def action(scene: ClipAttributes) -> str:
    """Motion and expression in words, the expression only where it is one."""
    said = [phrase for phrase in words.EXPRESSION_PHRASES[scene.expression] if phrase]
    expression = f" {said[0]}" if scene.expression != "neutral" else ""
    return f"{words.MOTION_PHRASES[scene.motion][0]}{expression}"


def sample_scenes(rng: np.random.Generator, events: int) -> tuple[ClipAttributes, ...]:
    """One background and light, and for each event a motion and expression of its own."""
    first = ClipAttributes.sample(rng, held_out=False)
    moves = [m for m in words.MOTIONS if m != "still"]
    motions = rng.permutation(len(moves))[:events]
    expressions = rng.permutation(len(words.EXPRESSIONS))[:events]
    return tuple(
        replace(first, motion=moves[int(m)], expression=words.EXPRESSIONS[int(e)], hat="none")
        for m, e in zip(motions, expressions)
    )


def follow(poses: tuple[Pose, ...], last: Pose | None) -> tuple[Pose, ...]:
    """A head's path, begun where the one before ended and kept within the frame."""
    if last is None:
        return poses
    moved = {
        name: [
            getattr(pose, name) + getattr(last, name) - getattr(poses[0], name) for pose in poses
        ]
        for name in _ROOM
    }
    held = {name: np.clip(values, *_ROOM[name]) for name, values in moved.items()}
    return tuple(
        replace(pose, **{name: float(values[i]) for name, values in held.items()})
        for i, pose in enumerate(poses)
    )


def render_sequence(
    identity: Identity,
    scenes: tuple[ClipAttributes, ...],
    *,
    frames: int = 17,
    size: int = 64,
    seed: int = 0,
    fps: float = 8.0,
) -> SequenceClip:
    """Draw one event after another, in equal parts of the clip.

    Args:
        identity: who.
        scenes: one per event; background and light are the first one's.
        frames: of the whole clip.
        size: side of the square frame in pixels, a multiple of 32.
        seed: fixes start pose, shirt, and the portrait's scene.
        fps: frame rate that the clip is meant to be played at.
    """
    rng = np.random.default_rng([7156, identity.seed, seed])
    borders = np.linspace(0, frames, len(scenes) + 1).round().astype(int)
    pixels, boxes, told = [], [], []
    last: Pose | None = None
    where = place(scenes[0])
    for scene, (start, end) in zip(scenes, pairwise(borders)):
        poses = follow(sample_poses(scene.motion, end - start, rng), last)
        last = poses[-1]
        # The same generator state for every event: one shirt, one background, one light.
        drawn = np.random.default_rng([7157, identity.seed, seed])
        part, faces, _ = render_poses(identity, scene, poses, size, drawn)
        pixels.append(part)
        boxes.append(faces)
        told.append((float(start / fps), float(end / fps), f"a person {action(scene)} {where}"))
    portrait = ClipAttributes.sample(rng)
    while portrait.color == scenes[0].color or portrait.lighting == "dim":
        portrait = ClipAttributes.sample(rng)
    reference, _, _ = render_portrait(
        identity, replace(portrait, motion="still", hat="none"), size, seed
    )
    return SequenceClip(
        identity=identity,
        scenes=scenes,
        timeline=tuple(told),
        caption=f"a person {', then '.join(action(s) for s in scenes)}, {where}",
        frames=np.concatenate(pixels),
        boxes=np.concatenate(boxes),
        reference=reference,
        fps=fps,
    )
