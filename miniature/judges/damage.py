"""Damage that the judges are trained to tolerate or to notice, and pictures without a face.

Training plants it at random; validation plants it in known strengths.
"""

from __future__ import annotations

import cv2
import numpy as np


def blur(frames: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of frames [..., H, W, 3] uint8."""
    flat = frames.reshape(-1, *frames.shape[-3:])
    return np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in flat]).reshape(frames.shape)


def add_noise(frames: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian pixel noise of standard deviation `sigma` (of 255)."""
    noise = rng.standard_normal(frames.shape, np.float32) * sigma
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def wear(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mild degradation of decoded video: some blur, some noise, or none."""
    if rng.random() < 0.3:
        frames = blur(frames, rng.uniform(0.3, 1.1))
    if rng.random() < 0.3:
        frames = add_noise(frames, rng.uniform(2, 12), rng)
    return frames


def disorder(frames: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """An order of frames disturbed by noise of `sigma` frames."""
    return np.argsort(np.arange(frames) + rng.normal(0, sigma, frames), kind="stable")


def shuffle(clips: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Disturb the order of frames of each clip."""
    return np.stack([clip[disorder(len(clip), sigma, rng)] for clip in clips])


def freeze(clips: np.ndarray, last: int) -> np.ndarray:
    """Repeat frame ``T - 1 - last`` to the end."""
    steps = clips.shape[1]
    return clips[:, np.minimum(np.arange(steps), steps - 1 - last)]


def swap(clips: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """From the middle frame on, show the other person in the first `share` of the clips."""
    out, count = clips.copy(), round(share * len(clips))
    middle = clips.shape[1] // 2
    out[:count, middle:] = others[:count, middle:]
    return out


def faceless(
    scenes: np.ndarray, frames: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Pictures without a face: empty scenes, noise, flat colours, scrambled and erased faces."""
    out = np.empty((count, 64, 64, 3), np.uint8)
    for i in range(count):
        kind = i % 5
        if kind <= 1:
            out[i] = scenes[int(rng.integers(len(scenes)))]
        elif kind == 2:
            cells = int(rng.choice([4, 8, 16, 64]))
            small = rng.integers(0, 256, (cells, cells, 3), np.uint8)
            out[i] = cv2.resize(small, (64, 64), interpolation=int(rng.choice([0, 1])))
        elif kind == 3:
            side = int(rng.choice([8, 16]))
            n = 64 // side
            tiles = frames[int(rng.integers(len(frames)))].reshape(n, side, n, side, 3)
            tiles = tiles.transpose(0, 2, 1, 3, 4).reshape(n * n, side, side, 3)
            tiles = tiles[rng.permutation(n * n)].reshape(n, n, side, side, 3)
            out[i] = tiles.transpose(0, 2, 1, 3, 4).reshape(64, 64, 3)
        else:
            out[i] = rng.integers(0, 256, 3)
    return out
