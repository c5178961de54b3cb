"""Whether a generated face is nearer to the reference than to a true video of the same person.

A model that pastes its reference scores high on identity and is found out here. Where there is no
true video, `metrics.leakage` says what is left of the reference in the frames.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.errors import MetricsError, NoFaceError
from metrics.facts import register
from metrics.features.face_backends import recognisers
from metrics.identity import FaceMetric, best_faces
from metrics.metric import Result, Video, remarks


def _unit(vectors: Tensor, name: str) -> Tensor:
    vectors = torch.as_tensor(vectors).detach().to(torch.float64)
    if vectors.ndim not in (1, 2) or 0 in vectors.shape:
        raise MetricsError(
            f"{name} has shape {tuple(vectors.shape)}; pass one embedding [D], or one per frame "
            "[T, D]."
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


@register(
    "copy_paste.{backend}",
    label="Copy-paste",
    formula="mean of (theta(g, t) - theta(g, r)) / theta(t, r), angles between embeddings",
    source="MultiID-Bench, arXiv 2510.14975",
    family="copying",
    quirks="+1 copies the reference, -1 is the target; frames without a face are left out",
    needs=("reference", "target"),
    range=(-1.0, 1.0),
    higher_is_better=False,
    backends=recognisers,
)
class CopyPaste(FaceMetric):
    """Mean :func:`copy_paste` over videos.

    In the frames and in the target, the face that is most like the reference is taken; the
    target's embedding is the mean over its frames.

    Args:
        backend: a face backend or its name; None where `update` is given embeddings.

    Example:
        >>> import torch
        >>> r, t = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> metric = CopyPaste()
        >>> metric.update(r, t, r)
        >>> metric.update(t, t, r)
        >>> float(metric.compute())
        0.0
    """

    def update(  # type: ignore[override]
        self, frames: Any, target: Any, reference: Any
    ) -> None:
        """Add one video or a batch, each with its target and its reference.

        Args:
            frames: raw frames as in :class:`metrics.VideoMetric`, or embeddings ``[T, D]``.
            target: the true video, raw frames or embeddings ``[D]`` or ``[T, D]``.
            reference: an image of the person, or its embedding ``[D]``.
        """
        for video in self.videos_of(frames, reference, target=target):
            self.add(self.measure(video))

    def measure(self, video: Video) -> Result:
        if video.target is None:
            raise MetricsError("copy-paste needs a target; pass a true video of the person.")
        reference = self.reference(video)
        frames: list[Tensor] = video[self.embeddings]
        places = best_faces(frames, reference.embedding)
        generated = [f[k] for f, k in zip(frames, places) if k is not None]
        if not generated:
            return Result(None, {"frames": len(frames)}, "no sampled frame has a face")
        target = self._target(video.target, reference.embedding)
        value = copy_paste(torch.stack(generated), target, reference.embedding)
        detail = {"frames": len(frames), "frames_with_face": len(generated)}
        return Result(value, detail, remarks(reference.remark, self.short(video)))

    def _target(self, target: Video, reference: Tensor) -> Tensor:
        frames: list[Tensor] = target[self.embeddings]
        places = best_faces(frames, reference)
        rows = [f[k] for f, k in zip(frames, places) if k is not None]
        if not rows:
            raise NoFaceError(f"no face was found in {target.label}.")
        mean = torch.stack(rows).mean(0)
        return mean / mean.norm()
