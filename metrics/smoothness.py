"""VBench's motion smoothness: whether every other frame is what lies between its neighbours."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.errors import MetricsError
from metrics.facts import register
from metrics.features.networks.loading import file_hash, load_torchscript
from metrics.frames import Frames
from metrics.metric import StreamedMetric
from metrics.temporal import VBENCH

__all__ = ["AMT", "MotionSmoothness"]


class AMT:
    """Frame interpolation by a scripted AMT (Li et al. 2023, arXiv 2304.09790).

    Args:
        network: TorchScript called with two images ``[1, 3, H, W]`` in 0..1, H and W multiples of
            16, and a time ``[1, 1, 1, 1]``; gives the image between.
        version: of its file.
        device: where it runs.
    """

    def __init__(self, network: Any, version: str, device: str | torch.device = "cpu") -> None:
        self.network, self.version = network, version
        self.device = torch.device(device)
        self._half = torch.full((1, 1, 1, 1), 0.5, device=self.device)

    @torch.no_grad()
    def between(self, first: Frames, second: Frames) -> Frames:
        """The frame between two, uint8 ``[H, W, 3]``, cut to bytes as VBench does."""
        height, width = first.shape[:2]
        down, across = -height % 16, -width % 16
        pad = (across // 2, across - across // 2, down // 2, down - down // 2)
        images = [
            F.pad(self._image(frame), pad, mode="replicate") if any(pad) else self._image(frame)
            for frame in (first, second)
        ]
        found = self.network(*images, self._half)
        found = found["imgt_pred"] if isinstance(found, dict) else found
        if not isinstance(found, Tensor) or found.shape != images[0].shape:
            raise MetricsError(
                "the scripted AMT gives no image of the size of its input; script it as "
                "docs/metrics.md says."
            )
        top, left = pad[2], pad[0]
        inside = found[0, :, top : top + height, left : left + width]
        return (inside * 255).permute(1, 2, 0).cpu().numpy().clip(0, 255).astype(np.uint8)

    def _image(self, frame: Frames) -> Tensor:
        return torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None] / 255


@register(
    "motion.smoothness",
    label="Motion smoothness",
    formula="mean over every other frame of (255 - mean |f_i - AMT(f_i-1, f_i+1)|) / 255",
    source=VBENCH,
    family="motion",
    backend="amt",
    quirks="a still video scores 1; the last frame of an even number is not looked at; VBench "
    "reduces frames where a card's memory is short, which is not done here",
    cost="an AMT-S pass at full size for every other frame",
    frames="all",
    weights=("amt.torchscript",),
)
class MotionSmoothness(StreamedMetric):
    """VBench's motion smoothness over videos, each in one or more chunks, 0 to 1.

    Args:
        interpolator: what makes the frame between; by default the scripted AMT of this machine.
        kwargs: of :class:`metrics.VideoMetric`.

    Example:
        >>> import numpy as np
        >>> class Mean:  # stands for AMT
        ...     version = "1"
        ...     def between(self, first, second):
        ...         return ((first.astype(int) + second) // 2).astype(np.uint8)
        >>> metric = MotionSmoothness(Mean())
        >>> ramp = np.arange(0, 60, 20, dtype=np.uint8)[:, None, None, None]
        >>> metric.update(np.broadcast_to(ramp, (3, 8, 8, 3)))
        >>> float(metric.compute())
        1.0
    """

    settings = ("interpolator_version",)
    compared = "frame between two others"

    def __init__(self, interpolator: Any = None, **kwargs: Any) -> None:
        self._given: Any = interpolator
        super().__init__(**kwargs)

    @property
    def interpolator(self) -> Any:
        """What makes the frame between two."""
        return self.models.own(self._given) or self.models.shared("amt", self._load)

    def _load(self) -> AMT:
        path = self.models.weight("amt.torchscript")
        network = load_torchscript(path, self.models.device)
        return AMT(network, file_hash(path), self.models.device)

    def prepare(self) -> None:
        if self._given is not None:
            self._given = self.models.add("amt.own", self._given)
        self.interpolator_version = str(self.interpolator.version)

    def chunk(self, frames: Frames) -> None:
        if self._previous is not None and self._previous.shape[1:] != frames.shape[1:]:
            super().join(frames)  # refuses another size
        held = frames if self._previous is None else np.concatenate([self._previous, frames])
        last = (len(held) - 1) // 2 * 2  # an even place, counted from an even frame of the video
        for i in range(0, last, 2):
            between = self.interpolator.between(held[i], held[i + 2])
            self._sum += 1 - float(cv2.absdiff(held[i + 1], between).mean()) / 255
            self._terms += 1
        self._previous = held[last:].copy()
        if self._terms:
            self.settle(self._sum / self._terms)
