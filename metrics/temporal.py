"""What happens between the frames of a video: flicker, consistency, warping error, motion.

Every quantity is a function of a whole video and a :class:`torchmetrics.Metric` over many. The
metrics take a video in chunks of frames: ``update(chunk)`` opens a video, ``update(chunk,
start=False)`` goes on with it. The value is the mean over videos of each video's mean, whatever
the chunks and the number of processes. Formulas are VBench's (arXiv 2311.17982) where it has one,
so that numbers compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.errors import MetricsError
from metrics.faces import FaceBackend, recognisers
from metrics.facts import Backend, register
from metrics.features.models import Models
from metrics.frames import Frames, as_videos, dimensions
from metrics.identity import OURS, FaceMetric, best_faces
from metrics.metric import ChunkedMetric, Result, StreamedMetric, Video

__all__ = [
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


@register(
    "temporal.subject_consistency",
    label="Subject consistency",
    formula="mean over i > 0 of (max(0, cos(f_i-1, f_i)) + max(0, cos(f_0, f_i))) / 2, DINO "
    "ViT-B/16",
    source=VBENCH,
    family="temporal",
    backend="dino",
    quirks="a still video scores 1",
    cost="a DINO ViT-B/16 pass for every frame",
    frames="all",
    weights=("dino.vitb16",),
    model="dino.vitb16",
)
@register(
    "temporal.background_consistency",
    label="Background consistency",
    formula="mean over i > 0 of (max(0, cos(f_i-1, f_i)) + max(0, cos(f_0, f_i))) / 2, CLIP "
    "ViT-B/32",
    source=VBENCH,
    family="temporal",
    backend="clip",
    quirks="a still video scores 1; frames reach CLIP resized without antialiasing, as VBench's do",
    cost="a CLIP ViT-B/32 pass for every frame",
    frames="all",
    weights=("clip.vit_b32",),
    model="clip.vbench",
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
        self,
        frames: Any,
        present: Tensor | None = None,
        reference: Any = None,
        start: bool = True,
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
        return Result(found.value, detail, self.short(video))

    @property
    def share(self) -> Tensor:
        """Share of neighbouring pairs in which both frames have a face, 0 to 1."""
        return self.share_sum / self.videos


# --- metrics on optical flow ---------------------------------------------------------------------

_FLOWS = (Backend("dis"), Backend("raft", ("raft.large",)))


def _load_flow(models: Models, name: str) -> FlowBackend:
    from metrics.extractors.flow import DISFlow, RAFTFlow

    if name == "dis":
        return models.shared("flow.dis", DISFlow)
    if name == "raft":
        path = models.weight("raft.large")
        return models.shared("flow.raft", lambda: RAFTFlow(path, device=models.device))
    raise MetricsError(f"no optical flow is called {name!r}; choose 'dis' or 'raft'.")


class _FlowMetric(StreamedMetric):
    """Base of the metrics that follow motion between frames.

    Args:
        flow: "dis", "raft", or a backend of one's own.
        short_side: frames are reduced to this short side first; None leaves them.
        batch: pairs handed to the backend at once.
        kwargs: of :class:`metrics.VideoMetric`.
    """

    settings = ("flow_version", "short_side")

    def __init__(
        self,
        flow: str | FlowBackend = "dis",
        short_side: int | None = 256,
        batch: int = 8,
        **kwargs: Any,
    ) -> None:
        self._flow: Any = flow
        self.short_side, self.batch = short_side, batch
        super().__init__(**kwargs)

    def prepare(self) -> None:
        if not isinstance(self._flow, str):
            self._flow = self.models.add(f"flow.{self._flow.name}", self._flow)
        self.flow_version = str(self.flow.version)

    @property
    def flow(self) -> FlowBackend:
        """What follows the motion."""
        return self.models.own(self._flow) or _load_flow(self.models, self._flow)

    def prepared(self, frames: Frames) -> Frames:
        return _shrink(frames, self.short_side)


@register(
    "temporal.warping_error.{flow}",
    label="Warping error",
    formula="mean squared difference of each frame to its warped neighbour, unoccluded pixels",
    source="Lai et al. 2018, arXiv 1808.00449",
    family="temporal",
    backend_quirks={
        "dis": "by OpenCV's DIS flow, short side 256; errors of two flows don't compare",
        "raft": "by RAFT, short side 256; errors of two flows don't compare",
    },
    higher_is_better=False,
    cost="flow both ways between all neighbouring frames",
    frames="all",
    backends=_FLOWS,
)
class WarpingError(_FlowMetric):
    """Mean :func:`warping_error` over videos, each in one or more chunks.

    Args: as :func:`warping_error`.

    Example:
        >>> import numpy as np
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> metric = WarpingError(flow="dis")
        >>> metric.update(still.repeat(2, axis=0))
        >>> metric.update(still, start=False)
        >>> float(metric.compute())
        0.0
    """

    def terms(self, frames: Frames) -> Tensor:
        return _warping_terms(frames, self.flow, self.batch)


@register(
    "temporal.dynamic_degree.{flow}",
    label="Dynamic degree",
    formula="1 if a quarter of the pairs, an eighth of a second apart, move beyond a threshold",
    source=VBENCH,
    family="motion",
    backend_quirks={
        "dis": "by OpenCV's DIS flow at short side 256; VBench has RAFT at full size",
        "raft": "by RAFT at short side 256; VBench has RAFT at full size",
    },
    cost="flow between frames an eighth of a second apart",
    diagnostic=True,
    frames="all",
    backends=_FLOWS,
)
class DynamicDegree(_FlowMetric):
    """Share of videos that move by :func:`dynamic_degree`, each in one or more chunks.

    Args: as :func:`dynamic_degree`.

    Example:
        >>> import numpy as np
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> metric = DynamicDegree(flow="dis")
        >>> metric.update(still.repeat(5, axis=0), fps=8.0)
        >>> metric.update(still.repeat(4, axis=0), fps=8.0, start=False)
        >>> float(metric.compute())
        0.0
    """

    needs_fps: ClassVar[bool] = True

    def _open(self) -> None:
        super()._open()
        self._seen, self._pairs, self._moving = 0, 0, 0

    def update(self, frames: Any, fps: float, start: bool = True) -> None:  # type: ignore[override]
        """Add a video or a batch at ``fps`` frames per second; ``start=False`` goes on."""
        for number, video in enumerate(as_videos(frames)):
            self.begin(start or number > 0)
            self.chunk(video, fps)

    def chunk(self, frames: Frames, fps: float = 8.0) -> None:
        step = _check_fps(fps)
        taken = frames[-self._seen % step :: step]  # every step-th of the video, across chunks
        self._seen += len(frames)
        if not len(taken):
            return
        taken = self.join(self.prepared(taken))
        threshold = _motion_threshold(taken, fps)
        for begin in range(0, len(taken) - 1, self.batch):
            part = taken[begin : begin + self.batch + 1]
            magnitudes = _magnitudes(part[:-1], part[1:], self.flow) / threshold
            self._pairs += len(magnitudes)
            self._moving += int((magnitudes > 1).sum())
        if self._pairs:
            self.settle(_moves(self._moving, self._pairs + 1))
