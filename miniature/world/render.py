"""Drawing a face: an identity and a scene become the frames of a clip.

All points of a clip's head are laid out once; each frame transforms them together and fills them
with OpenCV on an enlarged canvas, which is then averaged down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from miniature.world.attributes import ClipAttributes, write_caption
from miniature.world.backgrounds import draw_background
from miniature.world.head import SHIRTS, Head, Pose
from miniature.world.identity import Identity

_OVERSAMPLE = 3


@dataclass
class WorldClip:
    """A clip whose truth is known.

    `frames` uint8 [T, S, S, 3]; `boxes` float [T, 4] as x0 y0 x1 y1 in pixels; `landmarks` float
    [T, 5, 2]: eye, eye, nose tip, mouth corner, mouth corner, image-left first. `reference` is a
    portrait of the same identity in another scene, uint8 [S, S, 3], with its own box and
    landmarks.
    """

    identity: Identity
    attributes: ClipAttributes
    caption: str
    seed: int
    frames: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    reference: np.ndarray
    reference_box: np.ndarray
    reference_landmarks: np.ndarray
    reference_attributes: ClipAttributes
    fps: float = 8.0
    poses: tuple[Pose, ...] = field(default=(), repr=False)


def _gain(lighting: str, direction: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """What the light multiplies each pixel with, float [size, size, 3]."""
    tint = {
        "neutral": (1.0, 1.0, 1.0),
        "warm": (1.06, 0.96, 0.78),
        "cold": (0.82, 0.95, 1.08),
        "dim": (0.58, 0.58, 0.63),
    }[lighting]
    level = rng.uniform(0.94, 1.04)
    across = np.linspace(-1, 1, size) * direction * rng.uniform(0.02, 0.1)
    row = level * (1 + across)[:, None] * np.array(tint)
    return np.ascontiguousarray(np.broadcast_to(row, (size, size, 3)), np.float32)


def sample_poses(motion: str, frames: int, rng: np.random.Generator) -> tuple[Pose, ...]:
    """The head's path. Travel is moderate: about two pixels per frame over nine frames."""
    s = np.linspace(-1, 1, frames) if frames > 1 else np.zeros(1)
    s = s * rng.uniform(0.9, 1.1)
    base = {
        "x": 32 + rng.uniform(-2.5, 2.5) * np.ones_like(s),
        "y": 36 + rng.uniform(-1.5, 1.5) * np.ones_like(s),
        "scale": rng.uniform(0.94, 1.06) * np.ones_like(s),
        "yaw": rng.uniform(-0.2, 0.2) * np.ones_like(s),
        "pitch": rng.uniform(-0.08, 0.08) * np.ones_like(s),
        "roll": rng.uniform(-0.08, 0.08) * np.ones_like(s),
    }
    if motion == "left":
        base["x"] = base["x"] - 8.5 * s
    elif motion == "right":
        base["x"] = base["x"] + 8.5 * s
    elif motion == "up":
        base["y"] = base["y"] + 1.0 - 7.0 * s
    elif motion == "down":
        base["y"] = base["y"] + 1.0 + 7.0 * s
    elif motion == "towards":
        base["scale"] = base["scale"] * (0.98 + 0.19 * s)
    elif motion == "away":
        base["scale"] = base["scale"] * (0.98 - 0.19 * s)
    elif motion == "turning":
        base["yaw"] = 0.55 * s * rng.choice([-1.0, 1.0])
    elif motion == "nodding":
        base["pitch"] = 0.12 + 0.36 * np.sin(s * np.pi * 1.5 + rng.choice([0.0, np.pi]))
        base["y"] = base["y"] + 1.6 * np.sin(base["pitch"])
    return tuple(Pose(**{k: float(v[i]) for k, v in base.items()}) for i in range(frames))


def render_poses(
    identity: Identity,
    attributes: ClipAttributes,
    poses: tuple[Pose, ...],
    size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one frame per pose: frames uint8 [T, S, S, 3], boxes [T, 4], landmarks [T, 5, 2].

    `rng` fixes the shirt, the side of the light and the details of the background.
    """
    canvas = size * _OVERSAMPLE
    direction = float(rng.choice([-1.0, 1.0]))
    shirt = SHIRTS[int(rng.integers(len(SHIRTS)))]
    background = draw_background(attributes.color, attributes.pattern, canvas, rng)
    gain = _gain(attributes.lighting, direction, size, rng)
    head = Head(identity, attributes, shirt, direction)
    frames = np.empty((len(poses), size, size, 3), np.uint8)
    boxes, landmarks = np.empty((len(poses), 4)), np.empty((len(poses), 5, 2))
    for i, pose in enumerate(poses):
        image = background.copy()
        placed = head.place(pose)
        head.paint(image, placed)
        small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        frames[i] = cv2.multiply(small, gain, dtype=cv2.CV_8U)  # rounds and saturates
        boxes[i], landmarks[i] = head.truth(placed)
    unit = size / 64.0
    return frames, np.clip(boxes * unit, 0, size), np.clip(landmarks * unit, 0, size)


def render_portrait(
    identity: Identity, attributes: ClipAttributes, size: int = 64, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one still: image uint8 [S, S, 3], box [4] and landmarks [5, 2] in pixels."""
    rng = np.random.default_rng([7153, identity.seed, seed])
    pose = Pose(
        x=32 + rng.uniform(-2, 2),
        y=36 + rng.uniform(-1.5, 1.5),
        scale=rng.uniform(0.98, 1.14),
        yaw=rng.uniform(-0.28, 0.28),
        pitch=rng.uniform(-0.12, 0.12),
        roll=rng.uniform(-0.1, 0.1),
    )
    frames, boxes, landmarks = render_poses(identity, attributes, (pose,), size, rng)
    return frames[0], boxes[0], landmarks[0]


def render_clip(
    identity: Identity,
    attributes: ClipAttributes,
    frames: int = 9,
    size: int = 64,
    seed: int = 0,
    fps: float = 8.0,
) -> WorldClip:
    """Draw a clip of `identity` and its reference portrait.

    Args:
        identity: who.
        attributes: the scene.
        frames: how many, 1 or more.
        size: side of the square frame in pixels, a multiple of 32.
        seed: fixes what neither names: start pose, shirt, where stripes begin, the caption's
            wording, and the reference's own scene.
        fps: frame rate that the clip is meant to be played at.

    Returns:
        The clip. Equal arguments give equal pixels.
    """
    rng = np.random.default_rng([7152, identity.seed, seed])
    poses = sample_poses(attributes.motion, frames, rng)
    pixels, boxes, landmarks = render_poses(identity, attributes, poses, size, rng)
    caption = write_caption(attributes, rng)
    portrait = _other_scene(attributes, rng)
    reference, reference_box, reference_landmarks = render_portrait(identity, portrait, size, seed)
    return WorldClip(
        identity=identity,
        attributes=attributes,
        caption=caption,
        seed=seed,
        frames=pixels,
        boxes=boxes,
        landmarks=landmarks,
        reference=reference,
        reference_box=reference_box,
        reference_landmarks=reference_landmarks,
        reference_attributes=portrait,
        fps=fps,
        poses=poses,
    )


def _other_scene(attributes: ClipAttributes, rng: np.random.Generator) -> ClipAttributes:
    """A hatless, still scene that differs in background, expression and light."""
    while True:
        other = ClipAttributes.sample(rng)
        if (
            other.color != attributes.color
            and other.pattern != attributes.pattern
            and other.expression != attributes.expression
            and other.lighting != attributes.lighting
            and other.lighting != "dim"
        ):
            return ClipAttributes(
                other.color, other.pattern, "still", other.expression, other.lighting, "none"
            )
