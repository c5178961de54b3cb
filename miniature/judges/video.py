"""The miniature's video features: what its Frechet video distance compares."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from miniature.judges.networks import VideoNet, fit_clips, load_weights, weights_version


class MiniatureVideo:
    """Features of clips of the procedural world.

    They are the last hidden layer of a net that names background, motion, expression, light and
    hat, and that notices blur, noise, disorder, freezing and a change of person.

    Args:
        device: where the network runs.

    Raises:
        MetricsError: missing weights.
    """

    name = "miniature"
    dimensions = 256

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.version = weights_version("video")
        self.net = load_weights(VideoNet(), "video", device)

    @torch.inference_mode()
    def encode(self, clips: np.ndarray) -> Tensor:
        """Features of clips uint8 [B, T, H, W, 3]: float [B, 256] on the CPU.

        Clips of other than nine frames are sampled at ``linspace(0, T - 1, 9)``.

        Raises:
            MetricsError: clips of another type or shape.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(fit_clips(clips)))
        parts = [self.net.features(part.to(self.device)).cpu() for part in pixels.split(32)]
        return torch.cat(parts) if parts else torch.empty(0, self.dimensions)
