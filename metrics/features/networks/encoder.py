"""What the networks of frames and of videos have in common: inputs checked, a batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.features.networks.arrays import batches, check_videos
from metrics.frames import check_frames


class Encoder(ABC):
    """A frozen network that gives one row of features per frame, or per video.

    Args:
        network: in evaluation mode, on ``device``.
        device: where it runs.
        batch_size: frames or videos per forward pass.
    """

    name: str
    version: str
    frames = 0
    """least number of frames of a video; 0 where single frames are encoded"""

    def __init__(self, network: Any, device: str | torch.device, batch_size: int) -> None:
        self._model = network
        self._device = torch.device(device)
        self._batch_size = batch_size

    @torch.no_grad()
    def encode(self, inputs: NDArray[np.uint8]) -> Tensor:
        """Features ``[N, D]``, not normalised, of RGB frames, uint8 ``[N, H, W, 3]``, or videos,
        uint8 ``[N, T, H, W, 3]``.

        Raises:
            MetricsError: another type or shape, or fewer frames than the network takes.
        """
        checked = (
            check_videos(inputs, self.frames, self.name) if self.frames else check_frames(inputs)
        )
        return torch.cat([self._embed(part) for part in batches(checked, self._batch_size)])

    @abstractmethod
    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        """Features of one batch."""


def short_name(source: str | Path) -> str:
    """A folder's own name, or a hub id."""
    folder = Path(source)
    return folder.name if folder.is_dir() else str(source)
