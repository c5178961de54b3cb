"""Reference images: from whatever a person hands over to the tensor the autoencoder takes.

Read as everywhere (`media.images`), optionally cropped around the face, letterboxed to the video's
size so that nothing of the face is cut off or stretched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from media.errors import NoFaceError
from media.images import WHITE, read_image

ReferenceImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
#: uint8 [H, W, 3] -> face boxes [n, 4] as x0, y0, x1, y1 in pixels.
FaceDetector: TypeAlias = Callable[[np.ndarray], Any]


def open_image(image: ReferenceImage) -> Image.Image:
    """An upright RGB image of what `read_image` takes, or of a tensor [1|3|4, H, W].

    Raises:
        UnreadableImageError: see `read_image`.
    """
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        image = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    return Image.fromarray(read_image(image))


def crop_to_face(image: Image.Image, detector: FaceDetector, *, margin: float = 0.5) -> Image.Image:
    """A square around the largest face, `margin` of the face's larger side added on every side.

    Raises:
        NoFaceError: if the detector finds no face.
    """
    boxes = np.asarray(detector(np.asarray(image)), dtype=np.float64).reshape(-1, 4)
    if len(boxes) == 0:
        raise NoFaceError(
            "No face was found in the reference image; give one with a visible face, "
            "or leave the crop off."
        )
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    x0, y0, x1, y1 = boxes[areas.argmax()]
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    # Inside the photograph as far as it goes; letterboxing fills the rest.
    box = (
        max(0, round(x - half)),
        max(0, round(y - half)),
        min(image.width, round(x + half)),
        min(image.height, round(y + half)),
    )
    return image.crop(box)


def letterbox(
    image: Image.Image, height: int, width: int, fill: tuple[int, int, int] = WHITE
) -> Image.Image:
    """The whole image within height x width, proportions kept, the rest filled."""
    if image.size == (width, height):
        return image
    return ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS, color=fill)


def reference_pixels(
    image: ReferenceImage,
    height: int,
    width: int,
    *,
    detector: FaceDetector | None = None,
    margin: float = 0.5,
) -> Tensor:
    """The reference as a one-frame video for the autoencoder: float32 [3, 1, H, W] in -1..1."""
    opened = open_image(image)
    if detector is not None:
        opened = crop_to_face(opened, detector, margin=margin)
    array = np.asarray(letterbox(opened, height, width))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[:, None].float() / 127.5 - 1.0
