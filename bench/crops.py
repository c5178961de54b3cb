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
        BenchError: for heads, which nothing here finds.
    """
    if crop == "head":
        raise BenchError(
            "crop: head needs a box of the head, and the detectors here find faces only: cut the "
            "references to the head yourself, and set crop: none."
        )
    from metrics.features.face_backends.facenet import FacenetFaces

    faces = FacenetFaces()
    return Detector(lambda image: faces.detect(image[None])[0].boxes.numpy(), faces.version)
