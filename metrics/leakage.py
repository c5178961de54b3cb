"""How much of the reference image, beyond the identity, is in the video.

Where a true video of the same person exists, the copy-paste score says whether a generated face is
nearer to the reference than to the truth. Where none does, what is left is how well the
reference's own pose, light and background explain the frames: similarity of the aligned face
crops, difference of head pose, and similarity of the background's colours. A model that pastes its
reference scores high on identity and is found out here.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from metrics.errors import MetricsError

__all__ = [
    "METRICS",
    "BackgroundSimilarity",
    "CopyPaste",
    "CropDistance",
    "CropSimilarity",
    "PerceptualDistance",
    "PoseDifference",
    "angular_distance",
    "background_mask",
    "background_similarity",
    "copy_paste",
    "crop_lpips",
    "crop_ssim",
    "head_rotation",
    "pose_difference",
]

METRICS = {
    "leakage.copy_paste": {
        "label": "Copy-paste",
        "higher_is_better": False,
        "range": (-1.0, 1.0),
    },
    "leakage.crop_ssim": {
        "label": "SSIM to the reference's face crop",
        "higher_is_better": False,
        "range": (-1.0, 1.0),
    },
    "leakage.crop_lpips": {
        "label": "LPIPS to the reference's face crop",
        "higher_is_better": True,
        "range": (0.0, None),
    },
    "leakage.pose_difference": {
        "label": "Head pose against the reference's (degrees)",
        "higher_is_better": True,
        "range": (0.0, 180.0),
    },
    "leakage.background": {
        "label": "Background colours of the reference",
        "higher_is_better": False,
        "range": (0.0, 1.0),
    },
}

Image = NDArray[np.uint8]


# --- copy-paste ----------------------------------------------------------------------------------


def _unit(vectors: Tensor, name: str) -> Tensor:
    vectors = torch.as_tensor(vectors).detach().to(torch.float64)
    if vectors.ndim not in (1, 2) or 0 in vectors.shape:
        raise MetricsError(
            f"{name} has shape {tuple(vectors.shape)}; pass an embedding [D] or one a frame [T, D]."
        )
    if not torch.isfinite(vectors).all() or (vectors.norm(dim=-1) == 0).any():
        raise MetricsError(
            f"{name} holds NaN, infinite or zero embeddings; leave out frames without a face."
        )
    return F.normalize(vectors, dim=-1)


def angular_distance(a: Tensor, b: Tensor) -> Tensor:
    """Angle between embeddings along the last axis, 0 to pi.

    By ``2 atan2(|a - b|, |a + b|)`` of the unit vectors (Kahan), exact to rounding where the
    arccosine of a cosine near 1 is not.

    Example:
        >>> import torch
        >>> round(float(angular_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]))), 6)
        1.570796
    """
    a, b = _unit(a, "a"), _unit(b, "b")
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def copy_paste(generated: Tensor, target: Tensor, reference: Tensor) -> float:
    """Copy-paste score: ``(theta(g, t) - theta(g, r)) / theta(t, r)``, angles of face embeddings.

    Args:
        generated: embeddings of the generated frames ``[T, D]``, or one ``[D]``; frames without a
            face left out.
        target: of a true video of the same person ``[D]``.
        reference: of the reference image ``[D]``.

    Returns:
        The mean over frames: +1 is the reference itself, -1 the target itself, 0 as near to the
        one as to the other.

    Raises:
        MetricsError: NaN or zero embeddings, or a target equal to the reference.

    Example:
        >>> import torch
        >>> r, t = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> copy_paste(r, t, r), copy_paste(t, t, r), abs(copy_paste(r + t, t, r)) < 1e-12
        (1.0, -1.0, True)
    """
    apart = float(angular_distance(target, reference))
    if apart < 1e-6:
        raise MetricsError(
            "the target and the reference have the same embedding, so nothing lies between them; "
            "take the target from another image."
        )
    to_target = angular_distance(generated, target)
    to_reference = angular_distance(generated, reference)
    return float((to_target - to_reference).mean() / apart)


# --- aligned crops -------------------------------------------------------------------------------


@runtime_checkable
class PerceptualDistance(Protocol):
    """A learned distance between pairs of images."""

    name: str
    version: str

    def distance(self, first: Image, second: Image) -> Tensor:
        """Distance ``[B]`` of uint8 RGB ``[B, S, S, 3]`` to uint8 RGB ``[B, S, S, 3]``."""
        ...


def _crops(generated: Image, reference: Image) -> tuple[Image, Image]:
    generated, reference = np.asarray(generated), np.asarray(reference)
    if generated.ndim == 3:
        generated = generated[None]
    if (
        generated.ndim != 4
        or generated.shape[-1] != 3
        or 0 in generated.shape
        or generated.shape[1:] != reference.shape
        or generated.dtype != np.uint8
        or reference.dtype != np.uint8
    ):
        raise MetricsError(
            f"crops must be uint8 [T, S, S, 3] and a reference [S, S, 3] of the same size, not "
            f"{generated.dtype} {generated.shape} and {reference.dtype} {reference.shape}; align "
            "both with one face backend."
        )
    return generated, np.broadcast_to(reference, generated.shape)


def _planes(images: Image) -> Tensor:
    return (
        torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2).float()
        / 255
    )


def crop_ssim(generated: Image, reference: Image) -> float:
    """Mean SSIM (Wang et al. 2004) of aligned face crops to the reference's, as in torchmetrics.

    Args:
        generated: aligned crops of the frames, uint8 RGB ``[T, S, S, 3]`` or one ``[S, S, 3]``,
            S at least 12.
        reference: the reference's aligned crop, uint8 RGB ``[S, S, 3]``.

    Returns:
        -1 to 1; 1 is a pixel-wise copy.

    Raises:
        MetricsError: other shapes or types.

    Example:
        >>> import numpy as np
        >>> crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        >>> round(crop_ssim(crop, crop), 6), round(crop_ssim(255 - crop, crop), 2)
        (1.0, -0.96)
    """
    generated, reference = _crops(generated, reference)
    if min(generated.shape[1:3]) < 12:
        raise MetricsError(
            f"crops of {generated.shape[1]} x {generated.shape[2]} pixels are below SSIM's window "
            "of 11; pass larger ones."
        )
    value = structural_similarity_index_measure(
        _planes(generated), _planes(reference), data_range=1.0
    )
    assert isinstance(value, Tensor)  # return_full_image is off
    return float(value)


def crop_lpips(generated: Image, reference: Image, model: PerceptualDistance) -> float:
    """Mean LPIPS (Zhang et al. 2018, arXiv 1801.03924) of aligned face crops to the reference's.

    Args:
        generated, reference: as in :func:`crop_ssim`.
        model: ``metrics.extractors.lpips.LPIPS`` with its backbone's weights.

    Returns:
        From 0, a copy, up; rarely above 1.

    Raises:
        MetricsError: other shapes or types.

    Example:
        >>> import numpy as np, torch
        >>> class Pixels:  # stands for a learned distance
        ...     name, version = "pixels", "1"
        ...     def distance(self, first, second):
        ...         gap = np.abs(first.astype(float) - second).mean(axis=(1, 2, 3)) / 255
        ...         return torch.from_numpy(gap)
        >>> crop = np.zeros((16, 16, 3), dtype=np.uint8)
        >>> crop_lpips(crop + 51, crop, Pixels())
        0.2
    """
    generated, reference = _crops(generated, reference)
    return float(model.distance(generated, reference).double().mean())


# --- pose ----------------------------------------------------------------------------------------

# Eyes, nose tip and mouth corners of an average adult face in millimetres: x to the right of the
# image, y down, z away from the camera. Only proportions matter.
_FACE = torch.tensor(
    [
        [-31.5, 0.0, 0.0],
        [31.5, 0.0, 0.0],
        [0.0, 36.0, -32.0],
        [-26.0, 73.0, -8.0],
        [26.0, 73.0, -8.0],
    ],
    dtype=torch.float64,
)


def head_rotation(landmarks: Tensor) -> Tensor:
    """Rotation of the head from five landmarks, by a scaled orthographic fit.

    The affine map from an average face to the landmarks is found by least squares, and the nearest
    rotation to it by its singular values (Tomasi and Kanade 1992). Coarse, a few degrees off for
    a face unlike the average, but the same for two images of one face.

    Args:
        landmarks: ``[..., 5, 2]`` in pixels: eyes, nose, mouth corners, image-left first.

    Returns:
        Rotation matrices ``[..., 3, 3]``, float64; the identity faces the camera.

    Raises:
        MetricsError: another shape, NaN, or landmarks on one line.

    Example:
        >>> import torch
        >>> frontal = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> torch.allclose(head_rotation(frontal + 100), torch.eye(3, dtype=torch.float64))
        True
    """
    landmarks = torch.as_tensor(landmarks).detach().to(torch.float64)
    if landmarks.shape[-2:] != (5, 2) or not torch.isfinite(landmarks).all():
        raise MetricsError(
            f"landmarks must be finite [..., 5, 2], not of shape {tuple(landmarks.shape)}; pass "
            "eyes, nose and mouth corners."
        )
    face = _FACE.to(landmarks.device)
    centred = landmarks - landmarks.mean(dim=-2, keepdim=True)
    affine = (torch.linalg.pinv(face - face.mean(dim=0)) @ centred).mT  # [..., 2, 3]
    u, s, vh = torch.linalg.svd(affine, full_matrices=False)
    if (s[..., 1] <= 1e-6 * s[..., 0]).any() or (s[..., 0] == 0).any():
        raise MetricsError("landmarks lie on one line or point; leave that face out.")
    rows = u @ vh  # two orthonormal rows
    third = torch.linalg.cross(rows[..., 0, :], rows[..., 1, :])
    return torch.cat([rows, third.unsqueeze(-2)], dim=-2)


def pose_difference(generated: Tensor, reference: Tensor) -> float:
    """Mean angle between the head's pose in the frames and in the reference.

    Args:
        generated: landmarks of the frames, pixels ``[T, 5, 2]`` or ``[5, 2]``; see
            :func:`head_rotation`. Neither size nor place in the image matters.
        reference: of the reference image, ``[5, 2]``.

    Returns:
        Degrees, 0 (the reference's pose throughout) to 180.

    Raises:
        MetricsError: as :func:`head_rotation`.

    Example:
        >>> import math, torch
        >>> frontal = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
        >>> tilted = 2 * frontal @ torch.tensor([[c, s], [-s, c]]) + 7
        >>> round(pose_difference(tilted, frontal), 3)
        20.0
    """
    turn = head_rotation(generated).mT @ head_rotation(reference)
    # |R - I|_F = 2 sqrt(2) sin(angle / 2): exact near 0, where the trace's arccosine is not.
    chord = (turn - torch.eye(3).to(turn)).flatten(-2).norm(dim=-1) / 8**0.5
    return float(torch.rad2deg(2 * torch.asin(chord.clamp(max=1))).mean())


# --- background ----------------------------------------------------------------------------------


def background_mask(
    height: int, width: int, boxes: Tensor | NDArray[np.floating], grow: float = 2.0
) -> NDArray[np.bool_]:
    """Pixels outside the faces' boxes, each grown about its centre to take in hair and neck.

    Args:
        height, width: of the image.
        boxes: ``[n, 4]`` x0 y0 x1 y1 in pixels; none leaves the whole image.
        grow: factor on the box's sides.

    Returns:
        bool ``[H, W]``.

    Example:
        >>> import numpy as np
        >>> background_mask(4, 6, np.array([[2.0, 1.0, 4.0, 3.0]]), grow=1.0).astype(int).tolist()
        [[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]]
    """
    mask = np.ones((height, width), dtype=bool)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        half_x, half_y = (x1 - x0) * grow / 2, (y1 - y0) * grow / 2
        left, right = (x0 + x1) / 2 - half_x, (x0 + x1) / 2 + half_x
        top, bottom = (y0 + y1) / 2 - half_y, (y0 + y1) / 2 + half_y
        rows = slice(max(0, round(top)), max(0, round(bottom)))
        mask[rows, max(0, round(left)) : max(0, round(right))] = False
    return mask


def _colours(image: Image, mask: NDArray[np.bool_] | None, name: str) -> NDArray[np.float64]:
    """Joint histogram of 8 levels a colour, [512], adding up to 1."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise MetricsError(
            f"the {name} must be uint8 [H, W, 3], not {image.dtype} of shape {image.shape}."
        )
    if mask is not None and mask.shape != image.shape[:2]:
        raise MetricsError(
            f"the mask of the {name} has shape {mask.shape} and the image {image.shape[:2]}; make "
            "it for that image."
        )
    pixels = image.reshape(-1, 3) if mask is None else image[mask]
    if not len(pixels):
        raise MetricsError(f"the face fills the whole {name}, which leaves no background.")
    levels = (pixels >> 5).astype(np.int64) @ np.array([64, 8, 1])
    return np.bincount(levels, minlength=512) / len(pixels)


def background_similarity(
    frame: Image,
    reference: Image,
    frame_mask: NDArray[np.bool_] | None = None,
    reference_mask: NDArray[np.bool_] | None = None,
) -> float:
    """Share of the background's colours that the frame has in common with the reference.

    The intersection of joint RGB histograms with 8 levels a colour (Swain and Ballard 1991).

    Args:
        frame: uint8 RGB ``[H, W, 3]``.
        reference: uint8 RGB, of any size.
        frame_mask, reference_mask: bool, True on background; None is the whole image.

    Returns:
        0 (no colour in common) to 1 (the same colours in the same shares).

    Raises:
        MetricsError: other shapes, or no background.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((4, 4, 3), dtype=np.uint8)
        >>> frame = reference.copy()
        >>> frame[:, 3] = 255
        >>> background_similarity(frame, reference)
        0.75
    """
    a = _colours(frame, frame_mask, "frame")
    b = _colours(reference, reference_mask, "reference")
    return float(np.minimum(a, b).sum())


# --- metrics -------------------------------------------------------------------------------------


class _MeanMetric(Metric):
    """Mean of one value a video."""

    is_differentiable = False
    full_state_update = False

    score_sum: Tensor
    videos: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("score_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("videos", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, value: float) -> None:
        self.score_sum += value
        self.videos += 1

    def compute(self) -> Tensor:
        if self.videos == 0:
            raise MetricsError(f"{type(self).__name__} has seen no video; update it first.")
        return self.score_sum / self.videos


class CopyPaste(_MeanMetric):
    """Mean :func:`copy_paste` over videos.

    Example:
        >>> import torch
        >>> r, t = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> metric = CopyPaste()
        >>> metric.update(r, t, r)
        >>> metric.update(t, t, r)
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = False

    def update(self, generated: Tensor, target: Tensor, reference: Tensor) -> None:
        """Add one video's frame embeddings ``[T, D]`` with its target and reference ``[D]``."""
        self._add(copy_paste(generated, target, reference))


class CropSimilarity(_MeanMetric):
    """Mean :func:`crop_ssim` over videos.

    Example:
        >>> import numpy as np
        >>> crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        >>> metric = CropSimilarity()
        >>> metric.update(crop[None].repeat(3, axis=0), crop)
        >>> round(float(metric.compute()), 6)
        1.0
    """

    higher_is_better = False

    def update(self, generated: Image, reference: Image) -> None:
        """Add one video's aligned crops ``[T, S, S, 3]`` and its reference's ``[S, S, 3]``."""
        self._add(crop_ssim(generated, reference))


class CropDistance(_MeanMetric):
    """Mean :func:`crop_lpips` over videos; ``model`` is the learned distance.

    Example:
        >>> import numpy as np, torch
        >>> class Pixels:  # stands for a learned distance
        ...     name, version = "pixels", "1"
        ...     def distance(self, first, second):
        ...         gap = np.abs(first.astype(float) - second).mean(axis=(1, 2, 3)) / 255
        ...         return torch.from_numpy(gap)
        >>> crop = np.zeros((16, 16, 3), dtype=np.uint8)
        >>> metric = CropDistance(Pixels())
        >>> metric.update(crop + 51, crop)
        >>> float(metric.compute())
        0.2
    """

    higher_is_better = True

    def __init__(self, model: PerceptualDistance, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def update(self, generated: Image, reference: Image) -> None:
        """Add one video's aligned crops ``[T, S, S, 3]`` and its reference's ``[S, S, 3]``."""
        self._add(crop_lpips(generated, reference, self.model))


class PoseDifference(_MeanMetric):
    """Mean :func:`pose_difference` over videos, in degrees.

    Example:
        >>> import torch
        >>> frontal = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> metric = PoseDifference()
        >>> metric.update(3 * frontal[None] + 5, frontal)
        >>> round(float(metric.compute()), 6)
        0.0
    """

    higher_is_better = True

    def update(self, generated: Tensor, reference: Tensor) -> None:
        """Add one video's landmarks ``[T, 5, 2]`` and its reference's ``[5, 2]``."""
        self._add(pose_difference(generated, reference))


class BackgroundSimilarity(_MeanMetric):
    """Mean :func:`background_similarity` over the frames of a video, then over videos.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((4, 4, 3), dtype=np.uint8)
        >>> frame = reference.copy()
        >>> frame[:, 3] = 255
        >>> metric = BackgroundSimilarity()
        >>> metric.update([frame, reference], reference)
        >>> float(metric.compute())
        0.875
    """

    higher_is_better = False

    def update(
        self,
        frames: Any,
        reference: Image,
        frame_masks: Any = None,
        reference_mask: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add one video: uint8 frames ``[T, H, W, 3]``, its reference, and masks of background."""
        masks = [None] * len(frames) if frame_masks is None else list(frame_masks)
        if not len(frames) or len(masks) != len(frames):
            raise MetricsError(
                f"there are {len(frames)} frames and {len(masks)} masks; pass one mask a frame."
            )
        self._add(
            float(
                np.mean(
                    [
                        background_similarity(frame, reference, mask, reference_mask)
                        for frame, mask in zip(frames, masks, strict=True)
                    ]
                )
            )
        )
