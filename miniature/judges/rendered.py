"""What the judges learn from: stills and clips of the world, rendered once into a cache folder.

The judges' identities are splits of their own (`miniature.world.world.SPLITS`). Arrays are plain
``.npy`` files that are memory-mapped back, so that training needs little memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from media.files import whole_folder
from miniature.judges.damage import wear
from miniature.words import FIELDS
from miniature.world.attributes import ClipAttributes, write_caption
from miniature.world.backgrounds import draw_background
from miniature.world.identity import Identity
from miniature.world.render import render_poses, sample_poses
from miniature.world.world import SPLITS


@dataclass(frozen=True)
class Stills:
    """Frames of many people: `frames` uint8 [N, 64, 64, 3], `boxes` [N, 4], `landmarks`
    [N, 5, 2] in pixels, `identity` int [N] from 0, and the drawn `people` by that number."""

    frames: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    identity: np.ndarray
    people: tuple[Identity, ...]


@dataclass(frozen=True)
class Clips:
    """`frames` uint8 [N, 9, 64, 64, 3], `labels` int [N, 6] in the order of `FIELDS`, captions."""

    frames: np.ndarray
    labels: np.ndarray
    captions: list[str]


def _save(path: Path, **arrays: np.ndarray) -> None:
    """Write the arrays into folder `path`, which appears only when it is complete."""
    with whole_folder(path, keep=True) as part:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)


def stills(cache: Path, split: str, people: int, scenes: int, seed: int, each: int = 2) -> Stills:
    """`people` identities in `scenes` scenes, `each` frames per scene (a quarter with hats)."""
    path = cache / f"stills-{split}-{people}x{scenes}x{each}-{seed}"
    first = SPLITS[split][0]
    drawn = tuple(Identity.from_seed(first + i) for i in range(people))
    if not path.exists():
        count = people * scenes * each
        frames = np.empty((count, 64, 64, 3), np.uint8)
        boxes, landmarks = np.empty((count, 4), np.float32), np.empty((count, 5, 2), np.float32)
        at = 0
        for i, identity in enumerate(drawn):
            for scene in range(scenes):
                rng = np.random.default_rng([7160, seed, i, scene])
                attributes = ClipAttributes.sample(rng)
                path_of_head = sample_poses(attributes.motion, 9, rng)
                poses = tuple(path_of_head[int(k)] for k in rng.integers(0, 9, each))
                span = slice(at, at + each)
                frames[span], boxes[span], landmarks[span] = render_poses(
                    identity, attributes, poses, 64, rng
                )
                at += each
        identity_of = np.repeat(np.arange(people), scenes * each)
        _save(path, frames=frames, boxes=boxes, landmarks=landmarks, identity=identity_of)
    arrays = {
        name: np.load(path / f"{name}.npy", mmap_mode="r")
        for name in ("frames", "boxes", "landmarks", "identity")
    }
    return Stills(**arrays, people=drawn)


def backgrounds(cache: Path, count: int, seed: int) -> np.ndarray:
    """Scenes without anyone in them, uint8 [count, 64, 64, 3]."""
    path = cache / f"backgrounds-{count}-{seed}"
    if not path.exists():
        frames = np.empty((count, 64, 64, 3), np.uint8)
        for i in range(count):
            rng = np.random.default_rng([7161, seed, i])
            scene = ClipAttributes.sample(rng)
            image = draw_background(scene.color, scene.pattern, 192, rng)
            small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
            frames[i] = (small * rng.uniform(0.5, 1.0, 3)).astype(np.uint8)
        _save(path, frames=frames)
    return np.load(path / "frames.npy", mmap_mode="r")


def clips(cache: Path, split: str, count: int, seed: int) -> Clips:
    """`count` clips, each of another identity; every combination of attributes may occur."""
    path = cache / f"clips-{split}-{count}-{seed}"
    if not path.exists():
        first = SPLITS[split][0]
        frames = np.empty((count, 9, 64, 64, 3), np.uint8)
        labels = np.empty((count, len(FIELDS)), np.int64)
        captions = []
        for i in range(count):
            rng = np.random.default_rng([7162, seed, i])
            attributes = ClipAttributes.sample(rng)
            poses = sample_poses(attributes.motion, 9, rng)
            identity = Identity.from_seed(first + i)
            frames[i], _, _ = render_poses(identity, attributes, poses, 64, rng)
            values = attributes.as_dict()
            labels[i] = [FIELDS[name].index(values[name]) for name in FIELDS]
            captions.append(write_caption(attributes, rng))
        text = np.frombuffer(json.dumps(captions).encode(), np.uint8)
        _save(path, frames=frames, labels=labels, captions=text)
    captions = json.loads(np.load(path / "captions.npy").tobytes().decode())
    return Clips(
        np.load(path / "frames.npy", mmap_mode="r"), np.load(path / "labels.npy"), captions
    )


def swapped_clips(cache: Path, split: str, count: int, seed: int, skip: int = 0) -> np.ndarray:
    """Pairs of clips that differ only in who is seen: uint8 [2, count, 9, 64, 64, 3].

    People are those of `split` from number `skip` on.
    """
    path = cache / f"swapped-{split}-{count}-{seed}"
    if not path.exists():
        first = SPLITS[split][0] + skip
        pair = np.empty((2, count, 9, 64, 64, 3), np.uint8)
        for i in range(count):
            rng = np.random.default_rng([7163, seed, i])
            attributes = ClipAttributes.sample(rng)
            poses = sample_poses(attributes.motion, 9, rng)
            for k in range(2):
                scene = np.random.default_rng([7164, seed, i])
                identity = Identity.from_seed(first + 2 * i + k)
                pair[k, i], _, _ = render_poses(identity, attributes, poses, 64, scene)
        _save(path, frames=pair)
    return np.load(path / "frames.npy", mmap_mode="r")


def boxed_batch(data: Stills, rows: np.ndarray, rng: np.random.Generator, size: int) -> Tensor:
    """Square crops about the face box with margins of 0.1 to 0.45: float [N, 3, size, size]."""
    frames = np.stack([wear(np.asarray(data.frames[r]), rng) for r in rows.tolist()])
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    boxes = torch.from_numpy(np.array(data.boxes[np.sort(rows)])[np.argsort(np.argsort(rows))])
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    center = center + torch.from_numpy(rng.normal(0, 0.6, (len(rows), 2))).float()
    margin = torch.from_numpy(rng.uniform(0.1, 0.45, (len(rows), 1))).float()
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * (0.5 + margin)
    index = torch.arange(len(rows))[:, None].float()
    regions = torch.cat([index, center - half, center + half], 1)
    return roi_align(pixels, regions, (size, size), sampling_ratio=2, aligned=True)
