"""How much a video moves, and whether its motion explains its change, by optical flow.

Each quantity is a function of a whole video and a metric over many, as in `metrics.temporal`.
Flows of two backends differ, so a score carries the name of its backend.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from media.wording import counted
from metrics.errors import MetricsError, UnknownNameError
from metrics.facts import Backend, register
from metrics.features.models import Models
from metrics.frames import Frames, as_videos, check_frames
from metrics.metric import StreamedMetric
from metrics.temporal import VBENCH


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
        >>> from metrics.features.networks.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> warping_error(still.repeat(3, axis=0), DISFlow())
        0.0
    """
    return float(
        _warping_terms(_shrink(check_frames(frames, least=2), short_side), flow, batch).mean()
    )


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
        >>> from metrics.features.networks.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> motion_magnitudes(still.repeat(3, axis=0), 8.0, DISFlow()).tolist()
        [0.0, 0.0]
    """
    taken = check_frames(frames)[:: _check_fps(fps)]
    if len(taken) < 2:
        raise MetricsError(
            f"a video of {counted(len(frames), 'frame')} at {fps} fps has no two frames an "
            "eighth of a second apart; give it more frames."
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
        >>> from metrics.features.networks.flow import DISFlow
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> dynamic_degree(still.repeat(9, axis=0), 8.0, DISFlow())
        0.0
    """
    magnitudes = motion_magnitudes(frames, fps, flow, short_side=short_side, batch=batch)
    return _moves(int((magnitudes > 1).sum()), len(magnitudes) + 1)


# --- metrics on optical flow ---------------------------------------------------------------------

_FLOWS = (Backend("dis"), Backend("raft", ("raft.large",)))


def _load_flow(models: Models, name: str) -> FlowBackend:
    from metrics.features.networks.flow import DISFlow, RAFTFlow

    if name == "dis":
        return models.shared("flow.dis", DISFlow)
    if name == "raft":
        path = models.weight("raft.large")
        return models.shared("flow.raft", lambda: RAFTFlow(path, device=models.device))
    raise UnknownNameError.among("no optical flow is called", name, ("dis", "raft"))


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
    compared = "two frames an eighth of a second apart"

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
            self._sum += float(magnitudes.sum())
        if self._pairs:
            self.settle(self._value())

    def _value(self) -> float:
        """The open video's value of what was counted."""
        return _moves(self._moving, self._pairs + 1)


@register(
    "motion.magnitude.{flow}",
    label="Motion magnitude",
    formula="mean over pairs, an eighth of a second apart, of the longest 5 % of flow vectors, in "
    "units of dynamic degree's threshold",
    source=VBENCH,
    family="motion",
    backend_quirks={
        "dis": "what temporal.dynamic_degree.dis compares with 1, before it does",
        "raft": "what temporal.dynamic_degree.raft compares with 1, before it does",
    },
    range=(0.0, None),
    cost="flow between frames an eighth of a second apart",
    diagnostic=True,
    frames="all",
    backends=_FLOWS,
)
class MotionMagnitude(DynamicDegree):
    """Mean :func:`motion_magnitudes` of a video, then over videos; each in one or more chunks.

    Args: as :func:`motion_magnitudes`.

    Example:
        >>> import numpy as np
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> metric = MotionMagnitude(flow="dis")
        >>> metric.update(still.repeat(9, axis=0), fps=8.0)
        >>> float(metric.compute())
        0.0
    """

    def _value(self) -> float:
        return self._sum / self._pairs


register(
    "vbench.dynamic_degree",
    label="Dynamic degree (VBench)",
    formula="1 if a quarter of the pairs, an eighth of a second apart, move beyond a threshold",
    source=VBENCH,
    family="motion",
    backend="vbench",
    quirks="RAFT at full size, of torchvision's weights; VBench has the authors' raft-things",
    cost="RAFT at full size between frames an eighth of a second apart",
    diagnostic=True,
    frames="all",
    weights=("raft.large",),
    flow="raft",
    short_side=None,
)(DynamicDegree)


# --- OpenS2V-Eval --------------------------------------------------------------------------------


def _farneback_terms(frames: Frames) -> Tensor:
    """Mean of both flow components between neighbouring frames, signs and all: float64 [T-1]."""
    height, width = frames.shape[1:3]
    size = (16, int(height * (16 / width)))
    if size[1] < 1:
        raise MetricsError(
            f"frames of {width} x {height} pixels are too wide for OpenS2V-Eval's motion, which "
            "reduces the flow to a width of 16; pass frames less than 16 times as wide as high."
        )
    # The script takes RGB frames for BGR ones when it makes them grey.
    grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
    means = []
    for first, second in pairwise(grey):
        flow = cv2.calcOpticalFlowFarneback(
            first, second, np.zeros((height, width, 2), np.float32), 0.5, 3, 15, 3, 5, 1.2, 0
        )
        means.append(cv2.resize(flow, size, interpolation=cv2.INTER_AREA).mean(dtype=np.float64))
    return torch.tensor(means, dtype=torch.float64)


def farneback_motion(frames: Frames | Tensor) -> float:
    """OpenS2V-Eval's motion amplitude before it is cut at 1: how far the picture is carried.

    The absolute mean over neighbouring frames, places and both components of Farneback's flow
    (Farneback 2003, OpenCV's default parameters), reduced to a width of 16 by areas. The
    components keep their signs, so that motion to and fro, or two people who part, cancel out.

    Args:
        frames: uint8 ``[T, H, W, 3]``, T at least 2.

    Returns:
        Pixels per frame, from 0.

    Raises:
        MetricsError: fewer than two frames, another form, or 16 times as wide as high.

    Example:
        >>> import numpy as np
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> round(farneback_motion(still.repeat(3, axis=0)), 3)
        0.0
    """
    return abs(float(_farneback_terms(check_frames(frames, least=2)).mean()))


_FARNEBACK: dict[str, Any] = {
    "source": "OpenS2V-Eval, arXiv 2505.20292",
    "family": "motion",
    "quirks": "signs are kept, so that motion to and fro cancels out; grows with the resolution; a "
    "still video has 0.001 or less, not 0; grey values are made with red and blue exchanged",
    "cost": "Farneback flow between all neighbouring frames at full size",
    "diagnostic": True,
    "frames": "all",
}


@register(
    "motion.farneback",
    label="Motion amplitude (Farneback), pixels per frame",
    formula="|mean over neighbouring frames, places and both components of Farneback's flow|",
    range=(0.0, None),
    **_FARNEBACK,
)
@register(
    "opens2v.motion_amplitude",
    label="MotionAmplitude (OpenS2V-Eval)",
    formula="min(1, motion.farneback), as it enters OpenS2V-Eval's total",
    backend="opens2v",
    most=1.0,
    **_FARNEBACK,
)
class FarnebackMotion(StreamedMetric):
    """Mean :func:`farneback_motion` over videos, each in one or more chunks.

    Args:
        most: a video counts at most this; None sets no bound.
        kwargs: of :class:`metrics.VideoMetric`.

    Example:
        >>> import numpy as np
        >>> still = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> metric = FarnebackMotion()
        >>> metric.update(still.repeat(2, axis=0))
        >>> metric.update(still, start=False)
        >>> round(float(metric.compute()), 3)
        0.0
    """

    settings = ("most",)

    def __init__(self, most: float | None = None, **kwargs: Any) -> None:
        self.most = most
        super().__init__(**kwargs)

    def terms(self, frames: Frames) -> Tensor:
        return _farneback_terms(frames)

    def settle(self, score: float) -> None:
        super().settle(min(abs(score), np.inf if self.most is None else self.most))
