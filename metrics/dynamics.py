"""How lively a face is: variety of head pose and of expression across a video.

A face that never moves is recognised best, so these stand beside identity. Both are made from the
five landmarks that every face backend gives, of the face that `identity.*.consistency` follows:
the best match of a single reference, else the largest.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.facts import register
from metrics.features.face_backends import aligners
from metrics.identity import OURS, FaceMetric, best_faces
from metrics.leakage import head_rotation, rotation_angles
from metrics.metric import Result, Video

__all__ = ["ExpressionVariety", "PoseVariety", "expression_variety", "pose_variety"]


def pose_variety(landmarks: Tensor) -> float:
    """How much a head turns: mean angle of its rotations to their mean.

    Rotations are :func:`metrics.leakage.head_rotation`'s; their mean is the rotation nearest to the
    mean matrix (the chordal mean, Moakher 2002).

    Args:
        landmarks: pixels ``[T, 5, 2]``, T at least 2: eyes, nose, mouth corners, image-left first.

    Returns:
        Degrees, 0 (a fixed pose) to 180.

    Raises:
        MetricsError: one frame, another shape, NaN, or landmarks on one line.

    Example:
        >>> import math, torch
        >>> frontal = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
        >>> tilted = frontal @ torch.tensor([[c, s], [-s, c]])
        >>> round(pose_variety(torch.stack([frontal, tilted])), 3)
        10.0
    """
    rotations = head_rotation(_several(landmarks))
    u, _, vh = torch.linalg.svd(rotations.mean(dim=0))
    signs = torch.ones(3, dtype=u.dtype, device=u.device)
    signs[2] = torch.linalg.det(u) * torch.linalg.det(vh)  # a rotation, not a reflection
    return float(rotation_angles(rotations.mT @ ((u * signs) @ vh)).mean())


def expression_variety(landmarks: Tensor) -> float:
    """How much a mouth widens and narrows: standard deviation of ``log(mouth width / eye gap)``.

    Eyes and mouth corners lie on parallel lines of the face, so that the quotient is the same from
    wherever a distant camera sees it: turning the head alone changes nothing.

    Args:
        landmarks: as in :func:`pose_variety`.

    Returns:
        From 0 (the mouth keeps its width); 0.1 is a change by a tenth.

    Raises:
        MetricsError: as :func:`pose_variety`; or both eyes, or mouth corners, on one point.

    Example:
        >>> import torch
        >>> face = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> smile = face * torch.tensor([[1.0, 1], [1, 1], [1, 1], [1.2, 1], [1.2, 1]])
        >>> round(expression_variety(torch.stack([face, smile])), 4)
        0.0912
    """
    points = _several(landmarks)
    widths = (points[:, 4] - points[:, 3]).norm(dim=-1), (points[:, 1] - points[:, 0]).norm(dim=-1)
    if min(float(width.min()) for width in widths) <= 0:
        raise MetricsError("eyes or mouth corners lie on one point; leave that face out.")
    return float((widths[0] / widths[1]).log().std(correction=0))


def _several(landmarks: Tensor) -> Tensor:
    points = torch.as_tensor(landmarks).detach().to(torch.float64)
    if points.ndim != 3 or points.shape[1:] != (5, 2) or not torch.isfinite(points).all():
        raise MetricsError(
            f"landmarks must be finite [T, 5, 2], not of shape {tuple(points.shape)}; pass eyes, "
            "nose and mouth corners of each frame."
        )
    if len(points) < 2:
        raise MetricsError("one face has no variety; pass the landmarks of at least two frames.")
    return points


class _Variety(FaceMetric):
    """Base of the metrics of the followed face's landmarks.

    Args:
        backend: a face backend or its name; None where `update` is given landmarks.
        kwargs: of :class:`metrics.VideoMetric`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("embeddings", "faces")

    def update(self, frames: Any, reference: Any = None) -> None:  # type: ignore[override]
        """Add raw frames, with an image of the person to follow, or landmarks ``[T, 5, 2]``."""
        if self.backend is None:
            self.add(self.variety(frames))
        else:
            super().update(frames, reference)

    def measure(self, video: Video) -> Result:
        one = len(video.references) == 1
        places = best_faces(
            video[self.embeddings], self.reference(video).embedding if one else None
        )
        faces = video[f"faces.{self.backend}"]
        points = [f.landmarks[k] for f, k in zip(faces, places) if k is not None]
        detail = {"frames": len(faces), "frames_with_face": len(points)}
        if len(points) < 2:
            return Result(None, detail, "fewer than two sampled frames have a face")
        return Result(self.variety(torch.stack(points)), detail, self.short(video))

    @abstractmethod
    def variety(self, landmarks: Tensor) -> float:
        """The value of landmarks ``[T, 5, 2]``."""


_FACTS: dict[str, Any] = {
    "source": OURS,
    "family": "motion",
    "uses": ("reference",),
    "diagnostic": True,
    "backends": aligners,
}


@register(
    "faces.pose_variety.{backend}",
    label="Head-pose variety, degrees",
    formula="mean angle of the head's rotations in frames with a face to their mean",
    quirks="poses from five landmarks are coarse, and their noise is variety too; more is not "
    "better in itself: read beside identity",
    range=(0.0, 180.0),
    **_FACTS,
)
class PoseVariety(_Variety):
    """Mean :func:`pose_variety` over videos, in degrees.

    Args:
        backend: a face backend or its name; None where `update` is given landmarks.

    Example:
        >>> import torch
        >>> face = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> metric = PoseVariety()
        >>> metric.update(torch.stack([face, 2 * face + 5]))
        >>> round(float(metric.compute()), 6)
        0.0
    """

    def variety(self, landmarks: Tensor) -> float:
        return pose_variety(landmarks)


@register(
    "faces.expression_variety.{backend}",
    label="Expression variety",
    formula="standard deviation over frames with a face of log(mouth width / distance of the eyes)",
    quirks="five landmarks tell the mouth's width and nothing of eyes and brows; noisy in profile; "
    "more is not better in itself: read beside identity",
    range=(0.0, None),
    **_FACTS,
)
class ExpressionVariety(_Variety):
    """Mean :func:`expression_variety` over videos.

    Args:
        backend: a face backend or its name; None where `update` is given landmarks.

    Example:
        >>> import torch
        >>> face = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> metric = ExpressionVariety()
        >>> metric.update(torch.stack([face, 2 * face + 5]))
        >>> round(float(metric.compute()), 6)
        0.0
    """

    def variety(self, landmarks: Tensor) -> float:
        return expression_variety(landmarks)
