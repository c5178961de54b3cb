"""Features of whole clips: one vector per video, by a video network, for FVD and KVD.

Published Frechet video distances take 16 *consecutive* frames; frames spread over a clip give
another quantity. `Window` says which frames, at which stride and with which crop, and stands in
the feature's name, so that two windows never share a cache entry or a score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from media.plugins import load
from metrics.errors import MetricsError, UnknownNameError
from metrics.features.base import Networks, feature
from metrics.frames import Frames


@dataclass(frozen=True)
class Window:
    """Which frames of a video, and which part of them, a video network sees.

    Attributes:
        frames: how many, the first at the video's start; fewer where the video has fewer.
        stride: takes every stride-th frame of the video; 1 takes consecutive ones.
        short_side: frames are resized to this short side and cropped to the square in the middle,
            as cd-fvd and common_metrics do; 0 leaves them to the network, which squeezes them
            into a square whole.
    """

    frames: int = 16
    stride: int = 1
    short_side: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1 or self.stride < 1 or self.short_side < 0:
            raise MetricsError(
                f"the window of {self.frames} frames at stride {self.stride} and short side "
                f"{self.short_side} is empty; use numbers from 1 (0 for no crop)."
            )

    @classmethod
    def parse(cls, text: str) -> Window:
        """The window that `str` writes, ``frames x stride x short side``."""
        frames, stride, side = text.split("x")
        return cls(int(frames), int(stride), int(side))

    def __str__(self) -> str:
        return f"{self.frames}x{self.stride}x{self.short_side}"

    def indices(self, count: int) -> NDArray[np.int64]:
        """The frames of a video of ``count``, ascending.

        Example:
            >>> Window(frames=4, stride=2).indices(100).tolist(), Window().indices(3).tolist()
            ([0, 2, 4, 6], [0, 1, 2])
        """
        return np.arange(0, min(count, self.frames * self.stride), self.stride, dtype=np.int64)

    def words(self) -> str:
        """For a score's reason: frames, stride and crop."""
        which = "consecutive frames" if self.stride == 1 else f"frames at stride {self.stride}"
        side = f"short side {self.short_side}, centre crop" if self.short_side else "not cropped"
        return f"the first {self.frames} {which}, {side}"


@dataclass(frozen=True)
class VideoEncoder:
    """A video network that distances between sets can stand on.

    Attributes:
        load: constructs it; has ``version`` and ``encode(videos uint8 [B, T, H, W, 3]) -> [B, D]``.
        window: what its protocol shows it.
        weights, source, cost, quirks, by_default: see :class:`metrics.facts.MetricInfo`.
    """

    load: Callable[[Networks], Any]
    window: Window = Window()
    weights: tuple[str, ...] = ()
    source: str = ""
    cost: str = "one pass of the video network"
    quirks: str = ""
    by_default: bool = True


ENCODERS: dict[str, VideoEncoder] = {}
_Load = TypeVar("_Load", bound=Callable[..., Any])


def video_encoder(name: str, **facts: Any) -> Callable[[_Load], _Load]:
    """Register what loads a video network, ``load(networks)``; gives ``fvd.NAME`` and ``kvd.NAME``.

    Args:
        name: of the network.
        facts: fields of :class:`VideoEncoder`.
    """

    def decorate(load: _Load) -> _Load:
        ENCODERS[name] = VideoEncoder(load, **facts)
        return load

    return decorate


def crop_short_side(frames: Frames, side: int) -> Frames:
    """Resize to a short side of ``side`` with antialiasing and cut the square in the middle.

    As cd-fvd's loader does, rounding down to bytes included.

    Args:
        frames: uint8 ``[T, H, W, 3]``.

    Returns:
        uint8 ``[T, side, side, 3]``.
    """
    height, width = frames.shape[1:3]
    scale = side / min(height, width)
    size = [side, int(np.ceil(width * scale))] if height < width else [
        int(np.ceil(height * scale)), side
    ]  # fmt: skip
    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    resized = F.interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)
    top, left = (resized.shape[2] - side) // 2, (resized.shape[3] - side) // 2
    square = resized[:, :, top : top + side, left : left + side]
    return (square * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


class ClipVector:
    """The vector of a video's window by a video network."""

    def __init__(self, name: str, encoder: Any, window: Window) -> None:
        self.name, self.encoder, self.window = name, encoder, window
        self.version = f"{window}-{encoder.version}"
        self.asked = window.frames

    def indices(self, count: int) -> NDArray[np.int64]:
        return self.window.indices(count)

    def encode(self, frames: Frames) -> Tensor:
        if self.window.short_side:
            frames = crop_short_side(frames, self.window.short_side)
        return self.encoder.encode(frames[None]).float().cpu()[0]


@feature("clip.{encoder}.{window}")
def clip_vector(networks: Networks, encoder: str, window: str) -> ClipVector:
    if encoder not in ENCODERS:
        raise UnknownNameError.among("no video network is called", encoder, ENCODERS)
    load = ENCODERS[encoder].load
    network = networks.shared(f"video.{encoder}", lambda: load(networks))
    return ClipVector(f"clip.{encoder}.{window}", network, Window.parse(window))


def _own(name: str, made: str, weights: str, **facts: Any) -> None:
    """Register a network of `metrics.features.networks.video`."""

    def build(networks: Networks) -> Any:
        path, network = networks.weight(weights), load(f"metrics.features.networks.video:{made}")
        return network(path, device=networks.device)

    video_encoder(name, weights=(weights,), **facts)(build)


_CD_FVD: dict[str, Any] = {"window": Window(short_side=256)}
_DEBIASED = "content-debiased FVD, arXiv 2404.12391"
_own(
    "i3d",
    "I3D",
    "i3d.torchscript",
    source="FVD, arXiv 1812.01717; StyleGAN-V's detector, cd-fvd's frames",
    **_CD_FVD,
)
_own(
    "videomae_base",
    "VideoMAE",
    "videomae.base",
    source=f"{_DEBIASED}, with VideoMAE-base",
    quirks="not cd-fvd's network, which is videomae_v2",
    **_CD_FVD,
)
_own("videomae_v2", "VideoMAEv2", "videomae.v2", source=_DEBIASED, **_CD_FVD)
_own(
    "vjepa2",
    "VJEPA2",
    "vjepa2.ssv2",
    source="V-JEPA 2, arXiv 2506.09985, with the attentive probe of Something-Something",
    quirks="frames are squeezed or cropped by the checkpoint's own preprocessing",
)
