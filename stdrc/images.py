"""Reference images: from whatever a person hands over to the tensor the autoencoder takes.

Read as everywhere (`media.images`), optionally cropped around the face, letterboxed to the video's
size so that nothing of the face is cut off or stretched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from media.images import WHITE, read_image
from stdrc.errors import NoFaceError

ReferenceImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
#: uint8 [H, W, 3] -> face boxes [n, 4] as x0, y0, x1, y1 in pixels.
FaceDetector: TypeAlias = Callable[[np.ndarray], Any]

#: What a reference is cut to before it is encoded.
Crop = Literal["none", "face", "head"]
#: Added on every side of a box, in its larger sides.
CROPS: dict[Crop, float] = {"face": 0.5, "head": 0.15}


def open_image(image: ReferenceImage) -> Image.Image:
    """An upright RGB image of what `read_image` takes, or of a tensor [1|3|4, H, W].

    Raises:
        UnreadableImageError: see `read_image`.
    """
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        image = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    return Image.fromarray(read_image(image))


def crop_to_face(
    image: Image.Image, boxes: FaceDetector | Any, *, margin: float = CROPS["face"]
) -> Image.Image:
    """A square around the largest box, `margin` of its larger side added on every side.

    Args:
        boxes: [n, 4] x0, y0, x1, y1 in pixels, or what finds them in the image.

    Raises:
        NoFaceError: if there is no box.
    """
    found = boxes(np.asarray(image)) if callable(boxes) else boxes
    found = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    if len(found) == 0:
        raise NoFaceError(
            "No face was found in the reference image; give one with a visible face, "
            "or leave the crop off."
        )
    areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    return crop_square(np.asarray(image), found[areas.argmax()], margin)


def crop_square(frame: np.ndarray, box: Any, margin: float) -> Image.Image:
    """A square around a box, `margin` of its larger side added on every side.

    Args:
        frame: uint8 [H, W, 3].
        box: x0, y0, x1, y1 in pixels.
        margin: >= 0.
    """
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    height, width = frame.shape[:2]
    # Inside the photograph as far as it goes; letterboxing fills the rest.
    return Image.fromarray(frame).crop(
        (
            max(0, round(x - half)),
            max(0, round(y - half)),
            min(width, round(x + half)),
            min(height, round(y + half)),
        )
    )


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
    crop: Crop = "none",
    boxes: FaceDetector | Any = None,
) -> Tensor:
    """The reference as a one-frame video for the autoencoder: float32 [3, 1, H, W] in -1..1.

    The model's input of training and of sampling is made here.

    Args:
        crop: the whole picture, or what of it is cut out around the largest of `boxes`.
        boxes: of faces or of heads, as `crop` says; see `crop_to_face`.
    """
    opened = open_image(image)
    if crop != "none":
        opened = crop_to_face(opened, boxes, margin=CROPS[crop])
    return image_tensor(letterbox(opened, height, width))


def image_tensor(image: Image.Image) -> Tensor:
    """An RGB image as float32 [3, 1, H, W] in -1..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, None].float() / 127.5 - 1.0
