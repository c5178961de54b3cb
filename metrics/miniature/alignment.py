"""From five landmarks to an upright face crop."""

from __future__ import annotations

import cv2
import numpy as np

from metrics.miniature.networks import CROP, TEMPLATE


def similarity(points: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """The rotation, scale and shift that carry `points` closest to `template`.

    Least squares over similarities without reflection; with points as complex numbers it is a
    linear regression of one variable.

    Args:
        points: float [5, 2], x y in pixels.
        template: float [5, 2], where they should come to lie.

    Returns:
        float [2, 3], the matrix that `cv2.warpAffine` takes.
    """
    p, q = points @ [1, 1j], template @ [1, 1j]
    p_mean, q_mean = p.mean(), q.mean()
    spread = float(np.abs(p - p_mean) @ np.abs(p - p_mean))
    # Five points in one place have no direction: keep the scale, move only.
    turn = np.vdot(p - p_mean, q - q_mean) / spread if spread > 1e-9 else 1.0 + 0j
    shift = q_mean - turn * p_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align_face(frame: np.ndarray, points: np.ndarray, size: int = CROP) -> np.ndarray:
    """Crop a face upright: uint8 [H, W, 3] and landmarks [5, 2] -> uint8 [size, size, 3].

    What lies outside the frame is filled with grey.
    """
    matrix = similarity(np.asarray(points, np.float64)) * (size / CROP)
    return cv2.warpAffine(
        frame,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(127, 127, 127),
    )
