"""Frames in every form that libraries hand them out, as what the metrics compute on.

diffusers returns floats in 0..1, torchvision planes, OpenCV and PyAV bytes with the colours last;
all of them become uint8 ``[T, H, W, 3]`` here, and what could be read in two ways is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from media.images import read_image
from media.video import read_clip as read_clip
from metrics.errors import MetricsError

Frames = NDArray[np.uint8]

_FORMS = (
    "pass uint8 or float in 0..1, [frames, height, width, 3] or [frames, 3, height, width], with "
    "one more axis in front for a batch"
)


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, Image.Image):
        return read_image(value)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, list | tuple):
        return np.stack([_array(one) for one in value]) if len(value) else np.zeros(0)
    return np.asarray(value)


def _bytes(array: NDArray[Any]) -> Frames:
    """Pixels as bytes; floats are rounded to the nearest, as diffusers does on export."""
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise MetricsError(f"frames are of type {array.dtype}; {_FORMS}.")
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise MetricsError(
            f"float frames go from {low:g} to {high:g} and have to be in 0..1; rescale them, or "
            "pass uint8."
        )
    return np.asarray((array.clip(0, 1) * 255).round(), dtype=np.uint8)


def _colours_last(array: NDArray[Any], axes: int, what: str) -> NDArray[Any]:
    if array.ndim != axes or 0 in array.shape:
        raise MetricsError(f"{what} can't be of shape {array.shape}; {_FORMS}.")
    last, planes = array.shape[-1] == 3, array.shape[-3] == 3
    if last and planes:
        raise MetricsError(
            f"{what} of shape {array.shape} can be read with the colours first or last; pass "
            "images that aren't three pixels wide or high."
        )
    if not (last or planes):
        raise MetricsError(
            f"{what} of shape {array.shape} have no axis of three colours; {_FORMS}."
        )
    return array if last else np.moveaxis(array, -3, -1)


def check_frames(frames: Any, least: int = 1) -> Frames:
    """``frames`` as they have to be already, contiguous and writeable as torch wants arrays.

    Args:
        frames: array or tensor.
        least: how many there have to be.

    Raises:
        MetricsError: they aren't uint8 ``[T, H, W, 3]``, or fewer than ``least``.
    """
    array = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or 0 in array.shape[1:]:
        raise MetricsError(
            f"frames must be uint8 [frames, height, width, 3] in RGB, not {array.dtype} of shape "
            f"{array.shape}; convert them first."
        )
    if len(array) < least:
        raise MetricsError(
            f"there are {len(array)} frames, and at least {least} are needed; give more."
            if least != 2
            else "a video of one frame has no neighbouring frames; give it at least two."
        )
    return np.require(array, requirements=["C", "W"])


def as_frames(frames: Any) -> Frames:
    """One video as uint8 ``[T, H, W, 3]``, C-contiguous.

    Args:
        frames: numpy array, tensor, or list of images; uint8, or float in 0..1.

    Raises:
        MetricsError: another type, shape or range of values.

    Example:
        >>> import torch
        >>> as_frames(torch.full((2, 3, 4, 5), 0.2)).shape
        (2, 4, 5, 3)
    """
    return np.ascontiguousarray(_bytes(_colours_last(_array(frames), 4, "frames")))


def as_videos(frames: Any) -> list[Frames]:
    """One video or a batch of them as a list of uint8 ``[T, H, W, 3]``.

    Args:
        frames: as :func:`as_frames`, or with one more axis in front; a list may hold videos of
            different sizes.

    Raises:
        MetricsError: as :func:`as_frames`.

    Example:
        >>> [v.shape for v in as_videos(np.zeros((2, 9, 4, 5, 3)))]
        [(9, 4, 5, 3), (9, 4, 5, 3)]
    """
    if isinstance(frames, list | tuple) and len(frames) and dimensions(frames[0]) == 4:
        return [as_frames(video) for video in frames]
    array = _array(frames)
    return [as_frames(video) for video in (array if array.ndim == 5 else array[None])]


def as_image(image: Any) -> Frames:
    """One image as uint8 ``[H, W, 3]``: an array, tensor or Pillow image in any of those forms."""
    array = _array(image)
    if array.ndim != 3:
        raise MetricsError(
            f"an image can't be of shape {array.shape}; pass [height, width, 3] or "
            "[3, height, width]."
        )
    return as_frames(array[None])[0]


def as_images(images: Any) -> list[Frames]:
    """One image, or several, as a list of uint8 ``[H, W, 3]``."""
    if dimensions(images) == 3:
        return [as_image(images)]
    return [as_image(image) for image in images]


def dimensions(value: Any) -> int:
    """Number of axes; a Pillow image has 3, a list one more than its first entry."""
    if isinstance(value, Image.Image):
        return 3
    if isinstance(value, list | tuple):
        return 1 + dimensions(value[0]) if len(value) else 1
    return int(getattr(value, "ndim", 0))


def per_video(value: Any, videos: int, single: int, what: str) -> Sequence[Any]:
    """What each video of a batch comes with.

    Args:
        value: one for all videos (``single`` axes or fewer), or one per video.
        videos: how many there are.
        single: the largest number of axes that one video's has.
        what: for the message.

    Raises:
        MetricsError: there are as many as neither.
    """
    if videos == 1 and dimensions(value) <= single:
        return [value]
    if dimensions(value) < single:
        return [value] * videos
    if len(value) != videos:
        raise MetricsError(f"there are {videos} videos and {len(value)} of {what}; pass one each.")
    return list(value)
