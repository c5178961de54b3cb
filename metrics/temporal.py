"""What happens between the frames of a video: flicker and consistency.

Every quantity is a function of a whole video and a :class:`torchmetrics.Metric` over many. The
metrics take a video in chunks of frames: ``update(chunk)`` opens a video, ``update(chunk,
start=False)`` goes on with it. The value is the mean over videos of each video's mean, whatever
the chunks and the number of processes. Formulas are VBench's (arXiv 2311.17982) where it has one,
so that numbers compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.errors import MetricsError
from metrics.facts import register
from metrics.features.face_backends import FaceBackend, recognisers
from metrics.frames import Frames, check_frames, dimensions
from metrics.identity import OURS, FaceMetric, best_faces
from metrics.metric import ChunkedMetric, Result, StreamedMetric, Video, remarks


def _check_vectors(features: Tensor) -> Tensor:
    features = torch.as_tensor(features).detach()
    if features.ndim != 2 or 0 in features.shape:
        raise MetricsError(
            f"features must be a matrix [frames, dimensions], not of shape "
            f"{tuple(features.shape)}; pass one feature vector per frame."
        )
    features = features.to(torch.float32) if features.dtype.itemsize < 4 else features
    if not torch.isfinite(features).all():
        raise MetricsError("features hold NaN or infinite values; look at the frames they are of.")
    return features


# --- flicker -------------------------------------------------------------------------------------


def _flicker_terms(frames: Frames) -> Tensor:
    """``1 - mean |f_i - f_{i+1}| / 255`` for each pair of neighbouring frames, float64 [T-1]."""
    # The L1 norm of bytes is an exact integer, and needs no copy of the frames as floats.
    sums = [cv2.norm(a, b, cv2.NORM_L1) for a, b in pairwise(frames)]
    return 1 - torch.tensor(sums, dtype=torch.float64) / (frames[0].size * 255.0)


def temporal_flicker(frames: Frames | Tensor) -> float:
    """VBench's temporal flickering: ``(255 - mean |f_i - f_{i+1}|) / 255``.

    Motion lowers it as well as flicker, so VBench takes it on static scenes only.

    Args:
        frames: uint8 ``[T, H, W, 3]``, T at least 2.

    Returns:
        From 0 (black and white in turn) to 1 (all frames equal).

    Raises:
        MetricsError: frames of another form, or fewer than two.

    Example:
        >>> import numpy as np
        >>> frames = np.zeros((3, 4, 4, 3), dtype=np.uint8)
        >>> frames[1] = 51
        >>> temporal_flicker(frames)
        0.8
    """
    return float(_flicker_terms(check_frames(frames, least=2)).mean())


# --- consistency of features ---------------------------------------------------------------------


def feature_consistency(features: Tensor) -> float:
    """VBench's subject (DINO features) and background (CLIP features) consistency.

    The mean over frames i > 0 of ``(max(0, cos(f_{i-1}, f_i)) + max(0, cos(f_0, f_i))) / 2``.

    Args:
        features: one vector per frame, ``[T, D]``, T at least 2; of any length.

    Returns:
        From 0 to 1 (all frames alike).

    Raises:
        MetricsError: not a matrix, one frame, NaN.

    Example:
        >>> import torch
        >>> feature_consistency(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
        0.5
    """
    features = _check_vectors(features)
    if len(features) < 2:
        raise MetricsError("a video of one frame has no neighbouring frames; give it at least two.")
    now = features[1:]
    to_previous = F.cosine_similarity(features[:-1], now, dim=1).clamp(min=0)
    to_first = F.cosine_similarity(features[:1], now, dim=1).clamp(min=0)
    return float(((to_previous + to_first) / 2).double().mean())


class NeighbourConsistency(NamedTuple):
    """How alike neighbouring frames are, with what it rests on."""

    value: float
    """mean cosine over *all* neighbouring frames, a pair without both faces counting 0"""
    where_present: float | None
    """mean cosine over the pairs in which both frames have a face; None without such a pair"""
    share: float
    """share of pairs in which both frames have a face, 0 to 1"""


def _check_present(present: Tensor | None, frames: int) -> Tensor:
    if present is None:
        return torch.ones(frames, dtype=torch.bool)
    present = torch.as_tensor(present, dtype=torch.bool).cpu()
    if present.shape != (frames,):
        raise MetricsError(
            f"present has shape {tuple(present.shape)} for {frames} frames; pass one bool per "
            "frame."
        )
    return present


def _check_embeddings(embeddings: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    embeddings = torch.as_tensor(embeddings).detach()
    present = _check_present(present, len(embeddings))
    # Rows of frames without a face mean nothing and may hold NaN.
    absent = ~present.to(embeddings.device)
    if embeddings.ndim == 2:
        embeddings = embeddings.masked_fill(absent[:, None], 0)
    return _check_vectors(embeddings), present


def neighbour_consistency(
    embeddings: Tensor, present: Tensor | None = None
) -> NeighbourConsistency:
    """Identity between neighbouring frames: mean ``cos(e_i, e_{i+1})`` of face embeddings.

    Args:
        embeddings: one vector per frame, ``[T, D]``, T at least 2.
        present: bool ``[T]``, whether the frame has a face; rows without one are not read.

    Returns:
        The mean over all pairs (a pair without both faces counts 0), the mean over pairs with
        both faces, and the share of such pairs. Cosines, -1 to 1.

    Raises:
        MetricsError: not a matrix, one frame, NaN in a frame with a face.

    Example:
        >>> import torch
        >>> e = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
        >>> neighbour_consistency(e, torch.tensor([True, True, False]))
        NeighbourConsistency(value=0.5, where_present=1.0, share=0.5)
    """
    embeddings, present = _check_embeddings(embeddings, present)
    if len(embeddings) < 2:
        raise MetricsError("a video of one frame has no neighbouring frames; give it at least two.")
    cosines = F.cosine_similarity(embeddings[:-1], embeddings[1:], dim=1).double().cpu()  # [T-1]
    both = present[:-1] & present[1:]
    kept = cosines[both]
    return NeighbourConsistency(
        value=float(kept.sum() / len(cosines)),
        where_present=float(kept.mean()) if len(kept) else None,
        share=len(kept) / len(cosines),
    )


# --- metrics over many videos --------------------------------------------------------------------

VBENCH = "VBench, arXiv 2311.17982"


@register(
    "temporal.flicker",
    label="Temporal flickering",
    formula="mean over neighbouring frames of (255 - mean |f_i - f_{i+1}|) / 255",
    source=VBENCH,
    family="temporal",
    backend="pixels",
    quirks="motion lowers it as well as flicker; a still video scores 1",
    cost="decodes every frame",
    frames="all",
)
class TemporalFlicker(StreamedMetric):
    """Mean :func:`temporal_flicker` over videos, each in one or more chunks.

    Example:
        >>> import numpy as np
        >>> metric = TemporalFlicker()
        >>> metric.update(np.zeros((2, 4, 4, 3), dtype=np.uint8))
        >>> metric.update(np.full((1, 4, 4, 3), 51, dtype=np.uint8), start=False)
        >>> round(float(metric.compute()), 6)
        0.9
    """

    def terms(self, frames: Frames) -> Tensor:
        return _flicker_terms(frames)


_MEAN = "mean over i > 0 of (max(0, cos(f_i-1, f_i)) + max(0, cos(f_0, f_i))) / 2, "
_EVERY: dict[str, Any] = {"source": VBENCH, "family": "temporal", "frames": "all"}


@register(
    "temporal.subject_consistency",
    label="Subject consistency",
    formula=f"{_MEAN}DINO ViT-B/16",
    backend="dino",
    quirks="a still video scores 1",
    cost="a DINO ViT-B/16 pass for every frame",
    weights=("dino.vitb16",),
    model="dino.vitb16",
    **_EVERY,
)
@register(
    "temporal.background_consistency",
    label="Background consistency",
    formula=f"{_MEAN}CLIP ViT-B/32",
    backend="clip",
    quirks="a still video scores 1; frames reach CLIP resized without antialiasing, as VBench's do",
    cost="a CLIP ViT-B/32 pass for every frame",
    weights=("clip.vit_b32",),
    model="clip.vbench",
    **_EVERY,
)
class FeatureConsistency(ChunkedMetric):
    """Mean :func:`feature_consistency` over videos, each in one or more chunks.

    Args:
        model: feature per frame, "dino.vitb16" or "clip.vbench"; None where `update` is given
            features.
        kwargs: of :class:`metrics.VideoMetric`.

    Example:
        >>> import torch
        >>> metric = FeatureConsistency()
        >>> metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> metric.update(torch.tensor([[0.0, 2.0]]), start=False)
        >>> float(metric.compute())
        0.5
    """

    settings = ("model",)
    samples = False

    def __init__(self, model: str | None = None, **kwargs: Any) -> None:
        self.model = model
        super().__init__(**kwargs)

    def prepare(self) -> None:
        self.features = () if self.model is None else (self.model,)

    def update(self, frames: Any, start: bool = True) -> None:  # type: ignore[override]
        """Add raw frames, or features ``[T, D]``; ``start=False`` goes on with the last video."""
        for number, rows in enumerate(self._rows(frames)):
            self.begin(start or number > 0)
            held = [] if self._previous is None else [self._previous]
            self._previous = torch.cat([*held, rows])
            if len(self._previous) > 1:
                self.settle(feature_consistency(self._previous))

    def _rows(self, frames: Any) -> Iterator[Tensor]:
        if dimensions(frames) <= 2:
            yield _check_vectors(frames)
        elif self.model is None:
            raise MetricsError(
                "FeatureConsistency has no model for raw frames; construct it with "
                "model='dino.vitb16' or 'clip.vbench', or pass features [T, D]."
            )
        else:
            yield from (torch.stack(v[self.model]) for v in self.videos_of(frames))

    def measure(self, video: Video) -> Result:
        rows = torch.stack(video[self.features[0]])
        return Result(feature_consistency(rows), {"frames": len(rows)})


@register(
    "identity.{backend}.consistency",
    label="Identity between neighbouring frames",
    formula="mean over neighbouring sampled frames of cos(face, face), 0 where one has no face",
    source=OURS,
    family="temporal",
    quirks="follows the best match of a single reference, else the largest face",
    range=(-1.0, 1.0),
    uses=("reference",),
    backends=recognisers,
)
class IdentityConsistency(ChunkedMetric, FaceMetric):
    """Mean :func:`neighbour_consistency` (its ``value``) over videos, each in one or more chunks.

    ``share`` tells which part of the pairs had both faces, on average over videos.

    Args:
        backend: a face backend or its name; None where `update` is given embeddings.
        kwargs: of :class:`metrics.VideoMetric`.

    Example:
        >>> import torch
        >>> metric = IdentityConsistency()
        >>> metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> metric.update(torch.zeros(1, 2), torch.tensor([False]), start=False)
        >>> float(metric.compute()), float(metric.share)
        (0.5, 0.5)
    """

    share_sum: Tensor

    def __init__(self, backend: str | FaceBackend | None = None, **kwargs: Any) -> None:
        super().__init__(backend=backend, **kwargs)
        self.add_state("share_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def _open(self) -> None:
        super()._open()
        self._share = 0.0

    def update(  # type: ignore[override]
        self, frames: Any, present: Tensor | None = None, reference: Any = None, start: bool = True
    ) -> None:
        """Add a video or a batch; ``start=False`` goes on with the last video.

        Args:
            frames: raw frames with a backend, or embeddings ``[T, D]``.
            present: bool ``[T]``, which of the embeddings are of a frame with a face.
            reference: an image of the person to follow; without one it is the largest face.
            start: open a video.
        """
        if self._are_embeddings(frames):
            chosen = iter([_check_embeddings(torch.atleast_2d(torch.as_tensor(frames)), present)])
        elif present is not None:
            raise MetricsError("a backend finds the faces of raw frames itself; leave out present.")
        else:
            chosen = (self._follow(video) for video in self.videos_of(frames, reference))
        for number, (rows, there) in enumerate(chosen):
            self.begin(start or number > 0)
            if self._previous is not None:
                rows = torch.cat([self._previous[0], rows])
                there = torch.cat([self._previous[1], there])
            self._previous = rows, there
            if len(rows) > 1:
                found = neighbour_consistency(rows, there)
                self.share_sum += found.share - self._share
                self._share = found.share
                self.settle(found.value)

    def _follow(self, video: Video) -> tuple[Tensor, Tensor]:
        """The followed face's embedding in each frame, and where there is one."""
        frames: list[Tensor] = video[self.embeddings]
        one = len(video.references) == 1
        places = best_faces(frames, self.reference(video).embedding if one else None)
        width = next((f.shape[1] for f in frames if len(f)), 1)
        rows = [torch.zeros(width) if k is None else f[k] for f, k in zip(frames, places)]
        return torch.stack(rows), torch.tensor([k is not None for k in places])

    def measure(self, video: Video) -> Result:
        rows, present = self._follow(video)
        found = neighbour_consistency(rows, present)
        detail = {
            "frames": len(rows),
            "faces_only": found.where_present,
            "share_of_pairs": found.share,
        }
        faceless = "" if present.any() else "no sampled frame has a face"
        return Result(found.value, detail, remarks(self.short(video), faceless))

    @property
    def share(self) -> Tensor:
        """Share of neighbouring pairs in which both frames have a face, 0 to 1."""
        return self.share_sum / self.videos
