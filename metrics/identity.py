"""Whether the face in a video is the face of the reference.

The score of a frame is the cosine of its best-matching face with the reference; a frame without a
face counts 0, so that hiding the face in hard frames does not pay. Beside it stand the
mean over frames with a face, the share of such frames, and what taking the largest face instead
would have given. With several references, each is another person: references and the frame's
faces are matched one to one (Hungarian algorithm) and a reference without a face counts 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from metrics.errors import MetricsError, NoFaceError
from metrics.facts import register
from metrics.features.base import Indices
from metrics.features.face_backends import FaceBackend, Faces, detectors, recognisers
from metrics.features.face_backends.base import unit_length
from metrics.features.models import Picture
from metrics.frames import dimensions, per_video
from metrics.metric import Result, Video, VideoMetric, remarks

OURS = "this package"


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
        per_frame: what ``all_frames`` is the mean of, one value per frame.
        matched: cosines of the pairs that were matched in each frame, at most one per reference.
        references: how many there are.
    """

    all_frames: float
    faces_only: float | None
    face_rate: float
    largest: float | None
    differs: float | None
    per_frame: tuple[float, ...]
    matched: tuple[tuple[float, ...], ...]
    references: int


def match_faces(faces: Tensor, references: Tensor) -> list[tuple[int, int, float]]:
    """Match faces and references one to one so that the sum of cosines is largest.

    Args:
        faces: embeddings ``[n, D]`` of unit length; n may be 0.
        references: embeddings ``[R, D]`` of unit length.

    Returns:
        ``(face, reference, cosine)`` for each of the ``min(n, R)`` pairs, in the order of
        references.

    Raises:
        MetricsError: the embeddings are of different dimensions, not finite, or not of length 1.

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
    faces, references = faces.double(), references.double()
    cosines = references @ faces.T  # [R, n]
    if not torch.isfinite(cosines).all():
        raise MetricsError("a face embedding is NaN or infinite; look at the frame it is of.")
    lengths = torch.cat([faces, references]).norm(dim=1)
    if ((lengths - 1).abs() > 1e-3).any():
        raise MetricsError(
            f"a face embedding has length {float(lengths[(lengths - 1).abs().argmax()]):g}; scale "
            "embeddings to length 1, or give them to IdentitySimilarity, which does."
        )
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    pairs = zip(columns.tolist(), rows.tolist(), strict=True)
    return [(face, ref, float(cosines[ref, face])) for face, ref in pairs]


def best_faces(frames: Sequence[Tensor], reference: Tensor | None) -> list[int | None]:
    """The face of each frame that is most like the reference; the largest where there is none.

    Args:
        frames: embeddings ``[n, D]`` per frame, largest face first.
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
        references: ``[R, D]``, unit length, one row per person.

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
    matched: list[tuple[float, ...]] = []
    largest: list[float] = []
    differs: list[bool] = []
    for faces in frames:
        pairs = match_faces(faces, references)
        cosines = tuple(cosine for _, _, cosine in pairs)
        matched.append(cosines)
        per_frame.append(sum(cosines) / count)
        if count == 1:
            largest.append(float(faces[0].double() @ references[0].double()) if pairs else 0.0)
            if pairs:
                differs.append(pairs[0][0] != 0)
    found = sum(len(faces) > 0 for faces in frames)
    whole = [cosine for cosines in matched for cosine in cosines]
    return IdentityScores(
        all_frames=sum(per_frame) / len(per_frame),
        faces_only=sum(whole) / len(whole) if whole else None,
        face_rate=found / len(frames),
        largest=sum(largest) / len(largest) if count == 1 else None,
        differs=sum(differs) / len(differs) if differs else None,
        per_frame=tuple(per_frame),
        matched=tuple(matched),
        references=count,
    )


# --- what a face metric is given ---------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The face of a reference image.

    Attributes:
        embedding: ``[D]``, unit length.
        place: among the image's faces.
        remark: where the image has several faces.
    """

    embedding: Tensor
    place: int
    remark: str = ""


def reference_face(picture: Picture, feature: str) -> Reference:
    """A reference's largest face, with a remark where there are several.

    Args:
        feature: ``embeddings.<backend>``.

    Raises:
        MetricsError: the image can't be read, or has no face.
    """
    faces = picture.feature(feature)
    if len(faces) == 0:
        raise NoFaceError(f"no face was found in {picture.label}; use a photograph of one.")
    remark = f"{picture.short} has {len(faces)} faces; the largest was taken"
    return Reference(faces[0], 0, remark if len(faces) > 1 else "")


class FaceMetric(VideoMetric):
    """A metric of faces that a backend finds.

    Args:
        backend: a face backend or its name; None where `update` is given embeddings.
        kwargs: of :class:`metrics.VideoMetric`.
    """

    settings: ClassVar[tuple[str, ...]] = ("backend",)
    kinds: ClassVar[tuple[str, ...]] = ("embeddings",)
    """The backend's features that `measure` takes; "pixels" are not a backend's."""

    def __init__(self, backend: str | FaceBackend | None = None, **kwargs: Any) -> None:
        self.backend: Any = backend
        super().__init__(**kwargs)

    def prepare(self) -> None:
        if self.backend is not None and not isinstance(self.backend, str):
            self.backend = self.models.add(self.backend.name, self.backend)
        kinds = self.kinds if self.backend is not None else ()
        self.features = tuple(k if k == "pixels" else f"{k}.{self.backend}" for k in kinds)

    @property
    def embeddings(self) -> str:
        """Name of the feature that holds the faces' embeddings."""
        return f"embeddings.{self.backend}"

    def reference(self, video: Video, number: int = 0) -> Reference:
        """The face of one of a video's references."""
        if not video.references:
            raise MetricsError(f"{type(self).__name__} needs a reference; pass an image of one.")
        return reference_face(video.references[number], self.embeddings)

    def videos_of(
        self, frames: Any, reference: Any = None, prompt: Any = None, target: Any = None
    ) -> Iterator[Video]:
        """As in every metric, or from embeddings of any length in the place of pixels."""
        if not self._are_embeddings(frames):
            if self.backend is None:
                raise MetricsError(
                    f"{type(self).__name__} has no backend to find faces with; construct it with "
                    "backend='facenet' or another, or pass embeddings."
                )
            yield from super().videos_of(frames, reference, prompt, target)
            return
        videos = list(frames) if dimensions(frames) == 3 and not _listed(frames) else [frames]
        references = per_video(reference, len(videos), 2, "references") if reference is not None \
            else [None] * len(videos)  # fmt: skip
        targets = per_video(target, len(videos), 2, "targets") if target is not None else (
            [None] * len(videos)
        )  # fmt: skip
        for rows, people, truth in zip(videos, references, targets, strict=True):
            pictures = () if people is None else tuple(
                Picture(self.models, None, values={self.embeddings: row})
                for row in _rows(people)
            )  # fmt: skip
            yield self._of_rows(
                _rows(rows),
                references=pictures,
                target=None if truth is None else self._of_rows(_rows(truth), label="the target"),
            )

    def _are_embeddings(self, frames: Any) -> bool:
        if _listed(frames):
            return all(dimensions(one) <= 2 for one in frames)
        return dimensions(frames) <= 2 or (self.backend is None and dimensions(frames) == 3)

    def _of_rows(self, rows: list[Tensor], **given: Any) -> Video:
        def get(name: str, indices: Indices) -> list[Tensor]:
            return [rows[i] for i in indices.tolist()]

        return Video(len(rows), np.arange(len(rows)), get, **given)


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _rows(embeddings: Any) -> list[Tensor]:
    """Faces of each frame ``[n, D]``, unit length: of ``[D]``, ``[T, D]`` or a list of frames."""
    if _listed(embeddings):
        frames = [torch.atleast_2d(torch.as_tensor(one).detach().cpu()) for one in embeddings]
    else:
        frames = [r[None] for r in torch.atleast_2d(torch.as_tensor(embeddings).detach().cpu())]
    floats = (f if f.dtype in (torch.float32, torch.float64) else f.float() for f in frames)
    return [unit_length(f) if len(f) else f for f in floats]


# --- metrics -----------------------------------------------------------------------------------


@register(
    "faces.rate.{backend}",
    label="Frames with a face",
    formula="frames with at least one detected face / sampled frames",
    source=OURS,
    family="identity",
    quirks="read it beside every face metric",
    diagnostic=True,
    backends=detectors,
)
class FaceRate(FaceMetric):
    """Share of frames in which the backend's own detector finds a face, 0 to 1.

    Example:
        >>> import numpy as np
        >>> metric = FaceRate("facenet")
        >>> metric.update(np.zeros((2, 64, 64, 3), np.uint8))
        >>> float(metric.compute())
        0.0
    """

    kinds: ClassVar[tuple[str, ...]] = ("faces",)

    def measure(self, video: Video) -> Result:
        faces: list[Faces] = video[self.features[0]]
        counts = [len(f) for f in faces]
        found = sum(c > 0 for c in counts)
        detail = {"frames": len(faces), "frames_with_face": found, "most_faces": max(counts)}
        reason = remarks(self.short(video), "" if found else "no sampled frame has a face")
        return Result(found / len(faces), detail, reason)


FACE_FACTS: dict[str, Any] = {
    "source": OURS,
    "family": "identity",
    "needs": ("reference",),
    "range": (-1.0, 1.0),
    "backends": recognisers,
}


@register(
    "identity.{backend}.largest",
    label="Identity of the largest face",
    formula="mean over sampled frames of cos(largest face, reference), 0 without a face",
    quirks="a bystander near the camera is taken for the subject; one reference only",
    diagnostic=True,
    of="largest",
    **FACE_FACTS,
)
@register(
    "identity.{backend}.faces_only",
    label="Identity where there is a face",
    formula="mean over matched faces of cos(face, reference)",
    quirks="rewards hiding the face in hard frames; read it beside the share of frames with a face",
    diagnostic=True,
    of="faces_only",
    **FACE_FACTS,
)
@register(
    "identity.{backend}",
    label="Identity",
    formula="mean over sampled frames of cos(best-matching face, reference), 0 without a face",
    quirks="several references are matched one to one with the faces (Hungarian)",
    backend_quirks={
        "dlib": "different people score 0.86 on average and one person 0.97, in photographs"
    },
    **FACE_FACTS,
)
class IdentitySimilarity(FaceMetric):
    """Mean of :func:`identity_scores` over videos: whether the faces are the reference's.

    Args:
        of: "all_frames", "faces_only", "face_rate", "largest" or "differs". Videos that have no
            such value (no face at all) are left out of the mean and counted in ``skipped``.
        backend: a face backend or its name, "dlib", "facenet", "insightface", "curricularface" or
            a plug-in's; None where `update` is given embeddings.
        kwargs: of :class:`metrics.VideoMetric`.

    Raises:
        MetricsError: another ``of``; a backend whose weights aren't on this machine; ``compute``
            before any video with a value.

    Example:
        Embeddings of two frames, one of which has no face, of whatever length:

        >>> metric = IdentitySimilarity()
        >>> frames = [torch.tensor([[20.0, 0.0]]), torch.zeros(0, 2)]
        >>> metric.update(frames, torch.tensor([3.0, 0.0]))
        >>> float(metric.compute())
        0.5

        Raw frames with a backend that finds the faces itself:

        >>> import numpy as np
        >>> metric = IdentitySimilarity(backend="dlib")  # doctest: +SKIP
        >>> metric.update(np.zeros((9, 256, 256, 3)), photograph)  # doctest: +SKIP
    """

    settings: ClassVar[tuple[str, ...]] = ("of", "backend")

    def __init__(
        self, of: str = "all_frames", backend: str | FaceBackend | None = None, **kwargs: Any
    ) -> None:
        self.of = of
        known = ("all_frames", "faces_only", "face_rate", "largest", "differs")
        if self.of not in known:
            raise MetricsError(f"of is {of!r}; use one of {', '.join(known)}.")
        super().__init__(backend, **kwargs)

    def value(self, scores: IdentityScores) -> float | None:
        """Which of a video's scores counts."""
        found: float | None = getattr(scores, self.of)
        return found

    def measure(self, video: Video) -> Result:
        people = [self.reference(video, number) for number in range(len(video.references) or 1)]
        references = torch.stack([person.embedding for person in people])
        scores = identity_scores(video[self.embeddings], references)
        frames = len(scores.per_frame)
        detail: dict[str, Any] = {
            "frames": frames,
            "frames_with_face": round(scores.face_rate * frames),
            "references": len(people),
            "faces_only": scores.faces_only,
        }
        if scores.largest is not None:
            detail |= {"largest": scores.largest, "differs": scores.differs}
        value = self.value(scores)
        if value is None:
            several = len(people) > 1 and self.of != "faces_only"
            why = "there are several references" if several else "no sampled frame has a face"
            return Result(None, detail, f"has no value, since {why}")
        faceless = "" if scores.face_rate else "no sampled frame has a face"
        return Result(
            value, detail, remarks(*(p.remark for p in people), self.short(video), faceless)
        )


@register(
    "identity.{backend}.differs",
    label="Best match isn't the largest face",
    formula="frames in which the best-matching face isn't the largest / frames with a face",
    quirks="one reference only",
    higher_is_better=False,
    diagnostic=True,
    **{**FACE_FACTS, "range": (0.0, 1.0)},
)
class IdentityDiffers(IdentitySimilarity):
    """Share of the frames with a face in which somebody else is nearer to the camera."""

    def __init__(self, backend: str | FaceBackend | None = None, **kwargs: Any) -> None:
        super().__init__("differs", backend, **kwargs)
