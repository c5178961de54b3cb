"""Whether the face in a video is the face of the reference.

The score of a frame is the cosine of its best-matching face with the reference; a frame without a
face counts 0, so that hiding the face in hard frames does not pay. Beside it stand the
mean over frames with a face, the share of such frames, and what taking the largest face instead
would have given. With several references, each is another person: references and the frame's
faces are matched one to one (Hungarian algorithm) and a reference without a face counts 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from metrics.errors import MetricsError

__all__ = ["IdentityScores", "IdentitySimilarity", "best_faces", "identity_scores", "match_faces"]


@dataclass(frozen=True)
class IdentityScores:
    """Identity of one video; every value is a mean of cosines, -1 to 1.

    Attributes:
        all_frames: over all frames and references, 0 where a reference has no face.
        faces_only: over the pairs that were matched; None where no frame has a face.
        face_rate: share of frames with at least one face, 0 to 1.
        largest: as ``all_frames``, with the largest face of each frame; None with several
            references.
        differs: share of frames with a face in which the best-matching face isn't the largest;
            None with several references or without faces.
        per_frame: what ``all_frames`` is the mean of, one value a frame.
    """

    all_frames: float
    faces_only: float | None
    face_rate: float
    largest: float | None
    differs: float | None
    per_frame: tuple[float, ...]


def match_faces(faces: Tensor, references: Tensor) -> list[tuple[int, int, float]]:
    """Match faces and references one to one so that the sum of cosines is largest.

    Args:
        faces: embeddings ``[n, D]`` of unit length; n may be 0.
        references: embeddings ``[R, D]`` of unit length.

    Returns:
        ``(face, reference, cosine)`` for each of the ``min(n, R)`` pairs, in the order of
        references.

    Raises:
        MetricsError: the embeddings are of different dimensions, or not finite.

    Example:
        >>> faces = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> match_faces(faces, torch.tensor([[0.6, 0.8]]))
        [(0, 0, 0.800000011920929)]
    """
    if len(faces) == 0 or len(references) == 0:
        return []
    if faces.ndim != 2 or references.ndim != 2 or faces.shape[1] != references.shape[1]:
        raise MetricsError(
            f"faces {tuple(faces.shape)} and references {tuple(references.shape)} must be matrices "
            "of embeddings of one backend."
        )
    cosines = references.double() @ faces.double().T  # [R, n]
    if not torch.isfinite(cosines).all():
        raise MetricsError("a face embedding is NaN or infinite; look at the frame it is of.")
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    pairs = zip(columns.tolist(), rows.tolist(), strict=True)
    return [(face, ref, float(cosines[ref, face])) for face, ref in pairs]


def best_faces(frames: Sequence[Tensor], reference: Tensor | None) -> list[int | None]:
    """The face of each frame that is most like the reference; the largest where there is none.

    Args:
        frames: embeddings ``[n, D]`` a frame, largest face first.
        reference: ``[D]``, or None.

    Returns:
        Its place among the frame's faces; None for a frame without a face.
    """
    if reference is None:
        return [0 if len(faces) else None for faces in frames]
    return [int((faces @ reference).argmax()) if len(faces) else None for faces in frames]


def identity_scores(frames: Sequence[Tensor], references: Tensor) -> IdentityScores:
    """Identity of a video from the embeddings of its faces.

    Args:
        frames: for each frame the embeddings ``[n, D]`` of its faces, unit length, largest face
            first; n may be 0.
        references: ``[R, D]``, unit length, one row a person.

    Raises:
        MetricsError: no frames, no reference, or embeddings of different dimensions.

    Example:
        >>> reference = torch.tensor([[1.0, 0.0]])
        >>> scores = identity_scores([torch.tensor([[1.0, 0.0]]), torch.zeros(0, 2)], reference)
        >>> scores.all_frames, scores.faces_only, scores.face_rate
        (0.5, 1.0, 0.5)
    """
    if not len(frames):
        raise MetricsError("identity needs at least one frame.")
    if references.ndim != 2 or not len(references):
        raise MetricsError("identity needs the embedding of at least one reference, [R, D].")
    count = len(references)
    per_frame: list[float] = []
    matched: list[float] = []
    largest: list[float] = []
    differs: list[bool] = []
    for faces in frames:
        pairs = match_faces(faces, references)
        cosines = [cosine for _, _, cosine in pairs]
        matched += cosines
        per_frame.append(sum(cosines) / count)
        if count == 1:
            largest.append(float(faces[0].double() @ references[0].double()) if pairs else 0.0)
            if pairs:
                differs.append(pairs[0][0] != 0)
    found = sum(len(faces) > 0 for faces in frames)
    return IdentityScores(
        all_frames=sum(per_frame) / len(per_frame),
        faces_only=sum(matched) / len(matched) if matched else None,
        face_rate=found / len(frames),
        largest=sum(largest) / len(largest) if count == 1 else None,
        differs=sum(differs) / len(differs) if differs else None,
        per_frame=tuple(per_frame),
    )


class IdentitySimilarity(Metric):
    """Mean of :func:`identity_scores` over videos.

    Args:
        of: "all_frames", "faces_only", "face_rate", "largest" or "differs". Videos that have no
            such value (no face at all) are left out of the mean and counted in ``skipped``.

    Raises:
        MetricsError: another ``of``; or ``compute`` before any video with a value.

    Example:
        >>> metric = IdentitySimilarity()
        >>> metric.update([torch.tensor([[1.0, 0.0]]), torch.zeros(0, 2)], torch.eye(2)[:1])
        >>> float(metric.compute())
        0.5
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    videos: Tensor
    skipped: Tensor

    def __init__(self, of: str = "all_frames", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = ("all_frames", "faces_only", "face_rate", "largest", "differs")
        if of not in known:
            raise MetricsError(f"of is {of!r}; use one of {', '.join(known)}.")
        self.of = of
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("videos", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, frames: Sequence[Tensor], references: Tensor) -> None:
        """Add one video: embeddings ``[n, D]`` a frame, and of its references ``[R, D]``."""
        value = getattr(identity_scores(frames, references), self.of)
        if value is None:
            self.skipped += 1
        else:
            self.total += value
            self.videos += 1

    def compute(self) -> Tensor:
        """The mean over videos."""
        if self.videos == 0:
            raise MetricsError(
                "IdentitySimilarity has seen no video with a value; update it first."
            )
        return self.total / self.videos
