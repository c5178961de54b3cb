"""Frames and videos as the models take them: checked, in batches, as float tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metrics.errors import MetricsError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""mean and standard deviation of ImageNet's pixels in 0..1"""


def check_videos(videos: NDArray[np.uint8], least: int, model: str) -> NDArray[np.uint8]:
    """Return ``videos``, contiguous and writeable as torch wants arrays.

    Raises:
        MetricsError: they aren't uint8 ``[B, T, H, W, 3]``, or T is below ``least``.
    """
    videos = np.require(videos, requirements=["C", "W"])
    if videos.dtype != np.uint8 or videos.ndim != 5 or videos.shape[-1] != 3 or 0 in videos.shape:
        raise MetricsError(
            f"videos must be uint8 [videos, frames, height, width, 3] in RGB, not {videos.dtype} "
            f"of shape {videos.shape}; convert them first."
        )
    if videos.shape[1] < least:
        raise MetricsError(
            f"{model} needs {least} frames and the video has {videos.shape[1]}; give it a longer "
            "one."
        )
    return videos


def batches(array: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Pieces of at most ``size`` along the first axis."""
    for start in range(0, len(array), size):
        yield array[start : start + size]


def to_tensor(frames: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 ``[..., H, W, 3]`` to uint8 ``[..., 3, H, W]`` on ``device``."""
    return torch.from_numpy(np.require(frames, requirements=["C", "W"])).to(device).movedim(-1, -3)


def resize_square(images: Tensor, size: int, *, antialias: bool = False) -> Tensor:
    """Bilinear resize of float ``[N, 3, H, W]`` to a square, the aspect ratio given up."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False, antialias=antialias
    )


def normalise(images: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """``(images - mean) / std`` per colour over ``[..., 3, H, W]``, pixels in 0..1."""
    mean, std = (images.new_tensor(s).view(3, 1, 1) for s in statistics)
    return (images - mean) / std


def evenly(frames: int, wanted: int) -> NDArray[np.int64]:
    """Indices of ``wanted`` frames from the first to the last, evenly spread."""
    return np.linspace(0, frames - 1, wanted).round().astype(np.int64)


def feature_rows(features: Tensor, rows: int, model: str) -> Tensor:
    """Raise :class:`MetricsError` unless a scripted model gave one row of features an input."""
    if features.ndim != 2 or len(features) != rows:
        raise MetricsError(
            f"the file of {model} gives features of shape {tuple(features.shape)} for {rows} "
            "inputs, not one row each; pass the detector that its name stands for."
        )
    return features.float()
