"""What finds the part of a picture that a reference is cut to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.errors import BenchError


@dataclass(frozen=True)
class Detector:
    """Finds faces.

    Attributes:
        boxes: called with uint8 [H, W, 3]; gives [n, 4] x0, y0, x1, y1 in pixels.
        version: of its weights.
    """

    boxes: Callable[[Any], Any]
    version: str


@cache
def detector(crop: str) -> Detector:
    """What finds the part of a picture that a reference is cut to.

    Raises:
        BenchError: nothing here finds heads.
    """
    if crop == "head":
        raise BenchError(
            "The checkpoint's references are cut to the head, and nothing here finds heads in a "
            "picture: give references that are cut to it, and set the axis crop to none."
        )
    from metrics.features.face_backends.facenet import FacenetFaces

    faces = FacenetFaces()
    return Detector(lambda image: faces.detect(image[None])[0].boxes.numpy(), faces.version)
