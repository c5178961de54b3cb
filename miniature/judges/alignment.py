"""From five landmarks to an upright face crop of the procedural world's proportions."""

from __future__ import annotations

import cv2
import numpy as np

from metrics.features.face_backends.base import Frames, similarity_transform
from miniature.judges.networks import CROP, TEMPLATE


def align_face(frame: Frames, points: np.ndarray, size: int = CROP) -> Frames:
    """Crop a face upright: uint8 [H, W, 3] and landmarks [5, 2] -> uint8 [size, size, 3].

    What lies outside the frame is filled with grey.

    Raises:
        MetricsError: all landmarks lie on one point.
    """
    matrix = similarity_transform(points, TEMPLATE) * (size / CROP)
    crop = cv2.warpAffine(
        frame,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(127, 127, 127),
    )
    return np.asarray(crop, dtype=np.uint8)
