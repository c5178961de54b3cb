"""Reading pictures: whatever a person hands over, as the RGB pixels that a viewer would show.

One reader for all: the generator's references, the metrics', evaluation sets, training data and
the leaderboard's page see the same pixels. Upright by EXIF, transparency on white, 16 bits scaled
to 8, palettes and CMYK converted, of an animation the first frame.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from media.errors import UnreadableImageError
from media.files import special_file

Pixels: TypeAlias = NDArray[np.uint8]
Picture: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
WHITE = (255, 255, 255)

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, KeyError, IndexError)


def read_image(image: Picture) -> Pixels:
    """A picture as RGB, uint8 ``[H, W, 3]``.

    Args:
        image: a path; an image file's bytes; a PIL image of any mode; or an array ``[H, W]``,
            ``[H, W, 1]``, ``[H, W, 3]`` or ``[H, W, 4]`` (RGBA), uint8 in 0..255, uint16 in
            0..65535, or float in 0..1.

    Raises:
        UnreadableImageError: the file is missing, empty, damaged, not an image, or larger than
            ``PIL.Image.MAX_IMAGE_PIXELS``; a mode without a known range (32-bit integers,
            floating point); an array of another shape, type or range.
    """
    if isinstance(image, Image.Image):
        return _first(image, "The image")
    if isinstance(image, np.ndarray):
        return _rgb(_from_array(image), "The array")
    with _opened(image) as (opened, name):
        return _first(opened, name)


def animation_frames(path: str | Path) -> Iterator[tuple[Pixels, float]]:
    """Frames of an animated (or still) picture, each as `read_image` reads it.

    Yields:
        Pixels, uint8 ``[H, W, 3]``, and for how many milliseconds they are shown; 0 where the
        file doesn't say.

    Raises:
        UnreadableImageError: see `read_image`.
    """
    with _opened(path) as (opened, name):
        # An APNG may hold a picture for viewers that know no animations, which isn't a frame.
        first = int(getattr(opened, "default_image", False))
        number = first
        try:
            for number in range(first, getattr(opened, "n_frames", 1)):
                opened.seek(number)
                pixels = _rgb(opened, name)
                yield pixels, float(opened.info.get("duration") or 0)
        except _DAMAGE as error:
            if isinstance(error, UnreadableImageError):
                raise
            raise UnreadableImageError(
                f"{name} breaks off at frame {number - first} ({error}); write it again."
            ) from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file as `read_image` gives it, from its header alone.

    Raises:
        UnreadableImageError: see `read_image`; damage behind the header isn't seen.
    """
    with _opened(path) as (opened, name):
        try:
            orientation = opened.getexif().get(0x0112, 1)
        except _DAMAGE as error:
            raise UnreadableImageError(f"{name} has damaged EXIF data ({error}).") from error
        width, height = opened.size
        return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


@contextmanager
def _opened(source: str | Path | bytes) -> Iterator[tuple[Image.Image, str]]:
    """An image whose header was read, and what to call it in a message."""
    if isinstance(source, bytes):
        name, data = "The image", source[:1]
        file: IO[bytes] = io.BytesIO(source)
    elif isinstance(source, str | Path):
        name = str(source)
        if special := special_file(source):
            raise UnreadableImageError(f"{name} is {special}, not a file; save the image first.")
        try:
            file = Path(source).open("rb")  # noqa: SIM115 - closed below
            data = file.read(1)
            file.seek(0)
        except OSError as error:
            raise UnreadableImageError(
                f"{name} can't be read as an image: {error.strerror or error}."
            ) from error
    else:
        raise UnreadableImageError(
            "An image is a path, bytes, a PIL image, an array or a tensor, "
            f"not a {type(source).__name__}."
        )
    with file:
        if not data:
            raise UnreadableImageError(f"{name} can't be read as an image: it is empty (0 bytes).")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                opened = Image.open(file)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnreadableImageError(
                f"{name} is too large, perhaps a decompression bomb ({error}); scale it down."
            ) from error
        except UnidentifiedImageError as error:
            raise UnreadableImageError(
                f"{name} can't be read as an image: it isn't one that Pillow knows; "
                "give a PNG, JPEG or WebP."
            ) from error
        except _DAMAGE as error:
            raise UnreadableImageError(
                f"{name} can't be read as an image: {error}; write it again."
            ) from error
        with opened:
            yield opened, name


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise UnreadableImageError(
            "An image array is [H, W] or [H, W, 1|3|4], a tensor [1|3|4, H, W], "
            f"not of shape {list(array.shape)}."
        )
    if 0 in array.shape:
        raise UnreadableImageError(f"The image is empty: shape {list(array.shape)}.")
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if array.dtype == np.uint16:
        return Image.fromarray(_eight_bits(array))
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise UnreadableImageError("A float image holds values in 0..1, not NaN or infinity.")
        if array.min() < 0 or array.max() > 1:
            raise UnreadableImageError(
                f"A float image holds values in 0..1, not {array.min():.3g}..{array.max():.3g}."
            )
        return Image.fromarray((array * 255).round().astype(np.uint8))
    raise UnreadableImageError(f"An image array is uint8, uint16 or float, not {array.dtype}.")


def flatten_alpha(pixels: Pixels) -> Pixels:
    """RGBA, uint8 ``[H, W, 4]``, on white: RGB, uint8 ``[H, W, 3]``."""
    whole = Image.fromarray(pixels)
    return np.array(
        Image.alpha_composite(Image.new("RGBA", whole.size, (*WHITE, 255)), whole).convert("RGB")
    )


def _eight_bits(values: NDArray[Any]) -> Pixels:
    """16-bit values in 0..65535 to the nearest of 0..255."""
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _first(image: Image.Image, name: str) -> Pixels:
    """Of an animation the first frame, whichever was looked at before."""
    try:
        image.seek(0)
    except _DAMAGE as error:
        raise UnreadableImageError(f"{name} is damaged ({error}); write it again.") from error
    return _rgb(image, name)


def _rgb(image: Image.Image, name: str) -> Pixels:
    try:
        transparency, kind = image.info.get("transparency"), image.format
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):
            # Pillow's own conversion would clip both to white; a PPM's are scaled to 16 bits.
            values = np.asarray(image)
            image = Image.fromarray(_eight_bits(values))
            if isinstance(transparency, int):
                image.putalpha(Image.fromarray(np.where(values == transparency, 0, 255)
                                               .astype(np.uint8)))  # fmt: skip
        if image.mode in ("I", "F"):
            raise UnreadableImageError(
                f"{name} holds 32-bit values ({image.mode!r}), which have no known range; convert "
                "it to 8 or 16 bits."
            )
        if image.mode == "La":
            image = image.convert("LA")
        if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
            return flatten_alpha(np.asarray(image.convert("RGBA")))
        return np.array(image.convert("RGB"))
    except UnreadableImageError:
        raise
    except _DAMAGE as error:
        raise UnreadableImageError(
            f"{name} can't be read as an image: it is damaged ({error}); write it again."
        ) from error
