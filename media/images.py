"""Reference images: from whatever a person hands over to the tensor the autoencoder takes.

Upright by EXIF, any mode on white, optionally cropped around the face, letterboxed to the video's
size so that nothing of the face is cut off or stretched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from stdrc.errors import STDRCError

ReferenceImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
#: uint8 [H, W, 3] -> face boxes [n, 4] as x0, y0, x1, y1 in pixels.
FaceDetector: TypeAlias = Callable[[np.ndarray], Any]

WHITE = (255, 255, 255)


def open_image(image: ReferenceImage) -> Image.Image:
    """An upright RGB image.

    Args:
        image: a path; a PIL image of any mode; an array [H, W], [H, W, 1|3|4] or a tensor
            [1|3|4, H, W], uint8 in 0..255, uint16 in 0..65535 or float in 0..1.

    Raises:
        STDRCError: for a missing or unreadable file, another type or shape, or values out of range.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise STDRCError(f"There is no reference image at {path}.")
        try:
            opened: Image.Image = Image.open(path)
            opened.load()
        except Image.DecompressionBombError as error:
            raise STDRCError(f"The reference image {path} is too large to open: {error}.") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise STDRCError(
                f"The reference image {path} cannot be read ({error}); give a PNG, JPEG or WebP."
            ) from None
        return _to_rgb(opened)
    if isinstance(image, Image.Image):
        return _to_rgb(image)
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        if array.ndim == 3:
            array = np.moveaxis(array, 0, -1)
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise STDRCError(
            "A reference is a path, a PIL image, an array or a tensor, "
            f"not a {type(image).__name__}."
        )
    return _to_rgb(_from_array(array))


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise STDRCError(
            "A reference array is [H, W], [H, W, 1|3|4] and a tensor [1|3|4, H, W], "
            f"not of shape {tuple(array.shape)}."
        )
    if 0 in array.shape:
        raise STDRCError(f"The reference is empty: shape {tuple(array.shape)}.")
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if array.dtype == np.uint16:
        return Image.fromarray((array.astype(np.uint32) * 255 // 65535).astype(np.uint8))
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise STDRCError("A float reference holds values in 0..1, not NaN or infinity.")
        if array.min() < 0 or array.max() > 1:
            raise STDRCError(
                f"A float reference holds values in 0..1, not {array.min():.3g}..{array.max():.3g}."
            )
        return Image.fromarray((array * 255).round().astype(np.uint8))
    raise STDRCError(f"A reference array is uint8, uint16 or float, not {array.dtype}.")


def _to_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16-bit greyscale opens as "I;16" or "I"; Pillow's own conversion would clip it to white.
        values = np.asarray(image).astype(np.int64)
        top = 65535 if values.max(initial=0) > 255 else 255
        image = Image.fromarray((values.clip(0, top) * 255 // top).astype(np.uint8))
    if image.mode == "F":
        raise STDRCError("A floating-point image has no known range; convert it to 8 or 16 bits.")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, (*WHITE, 255))
        image = Image.alpha_composite(canvas, image)
    return image.convert("RGB")


def crop_to_face(image: Image.Image, detector: FaceDetector, *, margin: float = 0.5) -> Image.Image:
    """A square around the largest face, `margin` of the face's larger side added on every side.

    Raises:
        STDRCError: if the detector finds no face.
    """
    boxes = np.asarray(detector(np.asarray(image)), dtype=np.float64).reshape(-1, 4)
    if len(boxes) == 0:
        raise STDRCError(
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
