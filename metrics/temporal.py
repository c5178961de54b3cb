"""What happens between the frames of a video: flicker, consistency, warping error, motion.

Every quantity is a function of a whole video and a :class:`torchmetrics.Metric` over many. The
metrics take a video in chunks of frames and keep only what the next chunk needs, so memory does
not grow with length: ``update(chunk)`` opens a video, ``update(chunk, start=False)`` goes on with
it. The value is the mean over videos of each video's mean, whatever the chunks and the number of
processes. Formulas are VBench's (arXiv 2311.17982) where it has one, so that numbers compare.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from metrics.errors import MetricsError

__all__ = [
    "METRICS",
    "DynamicDegree",
    "FeatureConsistency",
    "FlowBackend",
    "IdentityConsistency",
    "NeighbourConsistency",
    "TemporalFlicker",
    "WarpingError",
    "dynamic_degree",
    "feature_consistency",
    "motion_magnitudes",
    "neighbour_consistency",
    "temporal_flicker",
    "unoccluded",
    "warp",
    "warping_error",
]

METRICS = {
    "temporal.flicker": {
        "label": "Temporal flickering",
        "higher_is_better": True,
        "range": (0.0, 1.0),
    },
    "temporal.subject_consistency": {
        "label": "Subject consistency",
        "higher_is_better": True,
        "range": (0.0, 1.0),
    },
    "temporal.background_consistency": {
        "label": "Background consistency",
        "higher_is_better": True,
        "range": (0.0, 1.0),
    },
    "temporal.identity_consistency": {
        "label": "Identity between neighbouring frames",
        "higher_is_better": True,
        "range": (-1.0, 1.0),
    },
    "temporal.warping_error": {
        "label": "Warping error",
        "higher_is_better": False,
        "range": (0.0, 1.0),
    },
    "temporal.dynamic_degree": {
        "label": "Dynamic degree",
        "higher_is_better": True,
        "range": (0.0, 1.0),
    },
}

Frames = NDArray[np.uint8]


@runtime_checkable
class FlowBackend(Protocol):
    """Optical flow from one frame to another."""

    name: str
    version: str

    def flow(self, first: Frames, second: Frames) -> Tensor:
        """Flow ``[B, 2, H, W]`` in pixels, x then y, between uint8 frames ``[B, H, W, 3]``.

        What is at ``(x, y)`` in ``first`` is at ``(x, y) + flow`` in ``second``.
        """
        ...


def _check_frames(frames: Frames | Tensor) -> Frames:
    array = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise MetricsError(
            f"frames must be uint8 [frames, height, width, 3], not {array.dtype} of shape "
            f"{array.shape}; convert them first."
        )
    return np.ascontiguousarray(array)


def _check_video(frames: Frames | Tensor) -> Frames:
    array = _check_frames(frames)
    if len(array) < 2:
        raise MetricsError("a video of one frame has no neighbouring frames; give it at least two.")
    return array


def _check_vectors(features: Tensor) -> Tensor:
    features = torch.as_tensor(features).detach()
    if features.ndim != 2 or 0 in features.shape:
        raise MetricsError(
            f"features must be a matrix [frames, dimensions], not of shape "
            f"{tuple(features.shape)}; pass one feature vector a frame."
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
    return float(_flicker_terms(_check_video(frames)).mean())


# --- consistency of features ---------------------------------------------------------------------


def _consistency_terms(features: Tensor, previous: Tensor, first: Tensor) -> Tensor:
    before = torch.cat([previous[None], features[:-1]])
    to_previous = F.cosine_similarity(before, features, dim=1).clamp(min=0)
    to_first = F.cosine_similarity(first[None], features, dim=1).clamp(min=0)
    return (to_previous + to_first) / 2


def feature_consistency(features: Tensor) -> float:
    """VBench's subject (DINO features) and background (CLIP features) consistency.

    The mean over frames i > 0 of ``(max(0, cos(f_{i-1}, f_i)) + max(0, cos(f_0, f_i))) / 2``.

    Args:
        features: one vector a frame, ``[T, D]``, T at least 2; of any length.

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
    return float(_consistency_terms(features[1:], features[0], features[0]).double().mean())


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
            f"present has shape {tuple(present.shape)} for {frames} frames; pass one bool a frame."
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
        embeddings: one vector a frame, ``[T, D]``, T at least 2.
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


# --- optical flow --------------------------------------------------------------------------------


def _shrink(frames: Frames, short_side: int | None) -> Frames:
    height, width = frames.shape[1:3]
    if short_side is None or min(height, width) <= short_side:
        return frames
    scale = short_side / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def warp(image: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Pull ``image`` back along ``flow``: the value at ``(x, y)`` is read at ``(x, y) + flow``.

    Args:
        image: float ``[B, C, H, W]``.
        flow: pixels ``[B, 2, H, W]``, x then y.

    Returns:
        The bilinearly sampled image ``[B, C, H, W]`` and a bool mask ``[B, 1, H, W]`` of the
        positions that were read inside it.

    Example:
        >>> import torch
        >>> image = torch.arange(4.0).reshape(1, 1, 1, 4)
        >>> flow = torch.zeros(1, 2, 1, 4)
        >>> flow[:, 0] = 1
        >>> pulled, inside = warp(image, flow)
        >>> pulled.flatten().tolist(), inside.flatten().tolist()
        ([1.0, 2.0, 3.0, 3.0], [True, True, True, False])
    """
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device, dtype=flow.dtype),
        torch.arange(width, device=flow.device, dtype=flow.dtype),
        indexing="ij",
    )
    x, y = x + flow[:, 0], y + flow[:, 1]  # [B, H, W]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    # align_corners=True maps pixel centres 0..n-1 to -1..1; one pixel has nowhere else to go.
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    pulled = F.grid_sample(
        image, grid.to(image.dtype), mode="bilinear", padding_mode="border", align_corners=True
    )
    return pulled, inside[:, None]


def unoccluded(forward: Tensor, backward: Tensor) -> Tensor:
    """Where the flow can be trusted, by the test of Ruder et al. 2016 (arXiv 1604.08610, eq. 4, 5).

    A pixel is left out where going there and back does not return to it,
    ``|w + w'|^2 > 0.01 (|w|^2 + |w'|^2) + 0.5``, where it leaves the frame, and on motion
    boundaries, ``|grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002``.

    Args:
        forward: flow ``[B, 2, H, W]`` from the first frames to the second.
        backward: flow ``[B, 2, H, W]`` from the second frames to the first.

    Returns:
        Bool ``[B, 1, H, W]`` over the first frames.

    Example:
        >>> import torch
        >>> right, left = torch.zeros(1, 2, 4, 8), torch.zeros(1, 2, 4, 8)
        >>> right[:, 0], left[:, 0] = 2, -2
        >>> unoccluded(right, left)[0, 0, 0].int().tolist()  # the last two leave the frame
        [1, 1, 1, 1, 1, 1, 0, 0]
    """
    back, inside = warp(backward, forward)
    size = forward.square().sum(dim=1, keepdim=True)  # [B, 1, H, W]
    error = (forward + back).square().sum(dim=1, keepdim=True)
    consistent = error <= 0.01 * (size + back.square().sum(dim=1, keepdim=True)) + 0.5
    edge = F.pad(forward, (0, 1, 0, 1), mode="replicate")
    across = (edge[:, :, :-1, 1:] - forward).square() + (edge[:, :, 1:, :-1] - forward).square()
    smooth = across.sum(dim=1, keepdim=True) <= 0.01 * size + 0.002
    return inside & consistent & smooth


def _warping_terms(frames: Frames, flow: FlowBackend, batch: int) -> Tensor:
    terms = []
    for start in range(0, len(frames) - 1, batch):
        chunk = frames[start : start + batch + 1]
        forward = flow.flow(chunk[:-1], chunk[1:])
        backward = flow.flow(chunk[1:], chunk[:-1])
        images = torch.from_numpy(chunk).to(forward.device).permute(0, 3, 1, 2).float() / 255
        pulled, _ = warp(images[1:], forward)
        mask = unoccluded(forward, backward)
        squares = (pulled - images[:-1]).square().mean(dim=1, keepdim=True)  # [B, 1, H, W]
        seen = mask.flatten(1).sum(dim=1)
        error = (squares * mask).flatten(1).double().sum(dim=1) / seen.clamp(min=1)
        # A cut leaves no pixel to follow: then nothing is explained, and all of the change counts.
        terms.append(torch.where(seen > 0, error, squares.flatten(1).double().mean(dim=1)))
    return torch.cat(terms).cpu()


def warping_error(
    frames: Frames | Tensor, flow: FlowBackend, *, short_side: int | None = 256, batch: int = 8
) -> float:
    """Warping error: what motion does not explain of the change between neighbouring frames.

    The mean over pairs of ``sum(M |f_t - warp(f_{t+1})|^2) / sum(M)`` (Lai et al. 2018, arXiv
    1808.00449), pixels in 0..1 and averaged over the colours, M the unoccluded pixels of
    :func:`unoccluded`. A pair with no unoccluded pixel counts with all of its pixels.

    Args:
        frames: uint8 ``[T, H, W, 3]``, T at least 2.
        flow: the backend; errors of two backends do not compare.
        short_side: frames are reduced to this short side first, so that resolutions compare and
            large ones stay affordable; None leaves them.
        batch: pairs handed to the backend at once.

    Returns:
        Mean squared error, 0 (fully explained) to 1.

    Raises:
        MetricsError: frames of another form, or fewer than two.

    Example:
        >>> import numpy as np
        >>> from metrics.extractors.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> warping_error(still.repeat(3, axis=0), DISFlow())
        0.0
    """
    return float(_warping_terms(_shrink(_check_video(frames), short_side), flow, batch).mean())


def _check_fps(fps: float) -> int:
    """VBench's interval between the frames that it compares, for about 8 a second."""
    if not 0 < fps < float("inf"):
        raise MetricsError(f"fps is {fps}; pass the video's frame rate, a number above 0.")
    return max(1, round(fps / 8))


def _magnitudes(first: Frames, second: Frames, flow: FlowBackend) -> Tensor:
    lengths = flow.flow(first, second).norm(dim=1).flatten(1)  # [B, H * W]
    top = max(1, int(lengths.shape[1] * 0.05))
    return lengths.topk(top, dim=1).values.double().mean(dim=1).cpu()


def motion_magnitudes(
    frames: Frames | Tensor,
    fps: float,
    flow: FlowBackend,
    *,
    short_side: int | None = 256,
    batch: int = 8,
) -> Tensor:
    """Length of the largest 5 % of flow vectors between frames an eighth of a second apart.

    In units of VBench's threshold for motion, 6 pixels at a short side of 256 (more below 8 frames
    a second: times 8 / fps), so that 1 is the threshold whatever the resolution.

    Args:
        frames: uint8 ``[T, H, W, 3]``; every ``max(1, round(fps / 8))``-th is used.
        fps: frames per second of the video.
        flow, short_side, batch: as in :func:`warping_error`.

    Returns:
        float64 ``[pairs]``, from 0.

    Raises:
        MetricsError: fewer than two frames an interval apart, or a frame rate that is not positive.

    Example:
        >>> import numpy as np
        >>> from metrics.extractors.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> motion_magnitudes(still.repeat(3, axis=0), 8.0, DISFlow()).tolist()
        [0.0, 0.0]
    """
    taken = _check_frames(frames)[:: _check_fps(fps)]
    if len(taken) < 2:
        raise MetricsError(
            f"a video of {len(frames)} frame(s) at {fps} fps has no two frames an eighth of a "
            "second apart; give it more frames."
        )
    taken = _shrink(taken, short_side)
    threshold = _motion_threshold(taken, fps)
    parts = []
    for start in range(0, len(taken) - 1, batch):
        chunk = taken[start : start + batch + 1]
        parts.append(_magnitudes(chunk[:-1], chunk[1:], flow) / threshold)
    return torch.cat(parts)


def _motion_threshold(frames: Frames, fps: float) -> float:
    return max(1.0, 8.0 / fps) * 6.0 * min(frames.shape[1:3]) / 256.0


def _moves(moving_pairs: int, frames: int) -> float:
    # VBench: a quarter of the frames must move; Python's rounding, halves to even, as there.
    return float(moving_pairs >= round(4 * (frames / 16)))


def dynamic_degree(
    frames: Frames | Tensor,
    fps: float,
    flow: FlowBackend,
    *,
    short_side: int | None = 256,
    batch: int = 8,
) -> float:
    """VBench's dynamic degree of one video: 1 if it moves, 0 if not.

    It moves if at least ``round(frames / 4)`` neighbouring pairs of the sampled frames exceed the
    threshold of :func:`motion_magnitudes`. VBench takes the flow of RAFT at full resolution:
    ``short_side=None`` and the backend ``raft`` are that.

    Args, raises: as :func:`motion_magnitudes`.

    Returns:
        0.0 or 1.0; the score of a set is the share of videos that move.

    Example:
        >>> import numpy as np
        >>> from metrics.extractors.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> dynamic_degree(still.repeat(9, axis=0), 8.0, DISFlow())
        0.0
    """
    magnitudes = motion_magnitudes(frames, fps, flow, short_side=short_side, batch=batch)
    return _moves(int((magnitudes > 1).sum()), len(magnitudes) + 1)


# --- metrics over many videos --------------------------------------------------------------------


class _MeanOverVideos(Metric):
    """Mean over videos of a value that is known, and refined, while a video streams in.

    The state always includes the open video at its value so far: nothing is to be closed, and
    states of several processes add up at any moment.
    """

    is_differentiable = False
    full_state_update = False

    score_sum: Tensor
    videos: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("score_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("videos", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self._open()

    def _open(self) -> None:
        """Forget the video at hand."""
        self._score: float | None = None
        self._sum, self._terms = 0.0, 0

    def _set(self, score: float) -> None:
        if self._score is None:
            self.videos += 1
        self.score_sum += score - (self._score or 0.0)
        self._score = score

    def _extend(self, terms: Tensor) -> None:
        """Add to the terms of which the video's score is the mean."""
        if len(terms):
            self._sum += float(terms.double().sum())
            self._terms += len(terms)
            self._set(self._sum / self._terms)

    def _begin(self, start: bool, previous: object) -> None:
        if start:
            self._open()
        elif previous is None:
            raise MetricsError("there is no open video to go on with; pass start=True first.")

    def reset(self) -> None:
        super().reset()
        self._open()

    def compute(self) -> Tensor:
        if self.videos == 0:
            raise MetricsError(
                f"{type(self).__name__} has seen no video of two frames or more; update it first."
            )
        return self.score_sum / self.videos


class TemporalFlicker(_MeanOverVideos):
    """Mean :func:`temporal_flicker` over videos, each in one or more chunks.

    Example:
        >>> import numpy as np
        >>> metric = TemporalFlicker()
        >>> metric.update(np.zeros((2, 4, 4, 3), dtype=np.uint8))
        >>> metric.update(np.full((1, 4, 4, 3), 51, dtype=np.uint8), start=False)
        >>> round(float(metric.compute()), 6)
        0.9
    """

    higher_is_better = True

    def _open(self) -> None:
        super()._open()
        self._previous: Frames | None = None

    def update(self, frames: Frames | Tensor, start: bool = True) -> None:
        """Add uint8 ``[T, H, W, 3]``; ``start=False`` goes on with the last video."""
        array = _check_frames(frames)
        self._begin(start, self._previous)
        if self._previous is not None:
            if self._previous.shape != array[0].shape:
                raise MetricsError(
                    f"the chunk's frames are {array.shape[1:]} and the video's are "
                    f"{self._previous.shape}; pass start=True for another video."
                )
            self._extend(_flicker_terms(np.stack([self._previous, array[0]])))
        self._extend(_flicker_terms(array))
        self._previous = array[-1].copy()  # not a view, which would keep the chunk alive


class FeatureConsistency(_MeanOverVideos):
    """Mean :func:`feature_consistency` over videos, each in one or more chunks.

    Example:
        >>> import torch
        >>> metric = FeatureConsistency()
        >>> metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> metric.update(torch.tensor([[0.0, 2.0]]), start=False)
        >>> float(metric.compute())
        0.5
    """

    higher_is_better = True

    def _open(self) -> None:
        super()._open()
        self._first: Tensor | None = None
        self._previous: Tensor | None = None

    def update(self, features: Tensor, start: bool = True) -> None:
        """Add features ``[T, D]``; ``start=False`` goes on with the last video."""
        features = _check_vectors(features)
        self._begin(start, self._previous)
        if self._first is None or self._previous is None:
            self._first = self._previous = features[0].clone()
            features = features[1:]
        if len(features):
            self._extend(_consistency_terms(features, self._previous, self._first))
            self._previous = features[-1].clone()


class IdentityConsistency(_MeanOverVideos):
    """Mean :func:`neighbour_consistency` (its ``value``) over videos, each in one or more chunks.

    ``share`` tells which part of the pairs had both faces.

    Example:
        >>> import torch
        >>> metric = IdentityConsistency()
        >>> metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> metric.update(torch.zeros(1, 2), torch.tensor([False]), start=False)
        >>> float(metric.compute()), float(metric.share)
        (0.5, 0.5)
    """

    higher_is_better = True

    pairs: Tensor
    pairs_present: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("pairs", "pairs_present"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _open(self) -> None:
        super()._open()
        self._previous: tuple[Tensor, Tensor] | None = None

    def update(self, embeddings: Tensor, present: Tensor | None = None, start: bool = True) -> None:
        """Add embeddings ``[T, D]``; ``start=False`` goes on with the last video."""
        embeddings, present = _check_embeddings(embeddings, present)
        self._begin(start, self._previous)
        if self._previous is not None:
            embeddings = torch.cat([self._previous[0], embeddings])
            present = torch.cat([self._previous[1], present])
        cosines = F.cosine_similarity(embeddings[:-1], embeddings[1:], dim=1).cpu()
        both = present[:-1] & present[1:]
        self._extend(cosines * both)
        self.pairs += len(both)
        self.pairs_present += int(both.sum())
        self._previous = embeddings[-1:].clone(), present[-1:].clone()

    @property
    def share(self) -> Tensor:
        """Share of neighbouring pairs in which both frames have a face, 0 to 1."""
        return self.pairs_present / self.pairs


class WarpingError(_MeanOverVideos):
    """Mean :func:`warping_error` over videos, each in one or more chunks.

    Example:
        >>> import numpy as np
        >>> from metrics.extractors.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> metric = WarpingError(DISFlow())
        >>> metric.update(still.repeat(2, axis=0))
        >>> metric.update(still, start=False)
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = False

    def __init__(
        self, flow: FlowBackend, short_side: int | None = 256, batch: int = 8, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.flow, self.short_side, self.batch = flow, short_side, batch

    def _open(self) -> None:
        super()._open()
        self._previous: Frames | None = None

    def update(self, frames: Frames | Tensor, start: bool = True) -> None:
        """Add uint8 ``[T, H, W, 3]``; ``start=False`` goes on with the last video."""
        array = _shrink(_check_frames(frames), self.short_side)
        self._begin(start, self._previous)
        if self._previous is not None:
            array = np.concatenate([self._previous, array])
        if len(array) > 1:
            self._extend(_warping_terms(array, self.flow, self.batch))
        self._previous = array[-1:].copy()


class DynamicDegree(_MeanOverVideos):
    """Share of videos that move by :func:`dynamic_degree`, each in one or more chunks.

    Example:
        >>> import numpy as np
        >>> from metrics.extractors.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> metric = DynamicDegree(DISFlow())
        >>> metric.update(still.repeat(5, axis=0), fps=8.0)
        >>> metric.update(still.repeat(4, axis=0), fps=8.0, start=False)
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = True

    def __init__(
        self, flow: FlowBackend, short_side: int | None = 256, batch: int = 8, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.flow, self.short_side, self.batch = flow, short_side, batch

    def _open(self) -> None:
        super()._open()
        self._previous: Frames | None = None
        self._seen, self._pairs, self._moving = 0, 0, 0

    def update(self, frames: Frames | Tensor, fps: float, start: bool = True) -> None:
        """Add uint8 ``[T, H, W, 3]``; ``start=False`` goes on with the last video."""
        array = _check_frames(frames)
        step = _check_fps(fps)
        self._begin(start, self._previous)
        taken = array[-self._seen % step :: step]  # every step-th of the video, across chunks
        self._seen += len(array)
        if not len(taken):
            return
        taken = _shrink(taken, self.short_side)
        if self._previous is not None:
            taken = np.concatenate([self._previous, taken])
        threshold = _motion_threshold(taken, fps)
        for begin in range(0, len(taken) - 1, self.batch):
            chunk = taken[begin : begin + self.batch + 1]
            magnitudes = _magnitudes(chunk[:-1], chunk[1:], self.flow) / threshold
            self._pairs += len(magnitudes)
            self._moving += int((magnitudes > 1).sum())
        if self._pairs:
            self._set(_moves(self._moving, self._pairs + 1))
        self._previous = taken[-1:].copy()
