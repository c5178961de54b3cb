"""Image models for consistency and FID: DINO, and Inception as TorchScript."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from transformers import ViTModel

from metrics.features.networks.arrays import IMAGENET, feature_rows, normalise, to_tensor
from metrics.features.networks.encoder import Encoder, short_name
from metrics.features.networks.loading import (
    file_hash,
    freeze,
    load_pretrained,
    load_torchscript,
    model_hash,
    require_file,
)


class DINO(Encoder):
    """DINO (Caron et al. 2021, arXiv 2104.14294) class tokens, as VBench's subject consistency.

    Frames are resized to a short side of 224, bilinearly and without antialiasing as VBench does,
    not cropped; positions are interpolated for the aspect ratio.

    Args:
        source: a folder, or a hub id in the cache: ``facebook/dino-vitb16`` is VBench's.
        size: short side in pixels.
        batch_size, device: see :class:`Encoder`.

    Raises:
        MetricsError: the files are not on this machine or lack a tensor.
    """

    def __init__(
        self,
        source: str | Path = "facebook/dino-vitb16",
        *,
        size: int = 224,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
    ) -> None:
        network = load_pretrained(ViTModel, source, add_pooling_layer=False)
        super().__init__(freeze(network, device), device, batch_size)
        self.name = f"dino:{short_name(source)}"
        self.version = f"{size}-{model_hash(network)}"
        self._size = size

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        images = to_tensor(part, self._device).float()
        images = TF.resize(images, [self._size], antialias=False) / 255
        output = self._model(normalise(images, IMAGENET), interpolate_pos_encoding=True)
        return output.last_hidden_state[:, 0]


class ScriptedInception(Encoder):
    """Inception-v3 of FID, as NVIDIA's TorchScript detector ``inception-2015-12-05.pt``.

    It resizes by itself and gives 2048 features with ``return_features=True``.

    Args:
        weights: the TorchScript file.
        batch_size, device: see :class:`Encoder`.

    Raises:
        MetricsError: the file is absent or is not TorchScript.
    """

    name = "inception"

    def __init__(
        self, weights: str | Path, *, batch_size: int = 32, device: str | torch.device = "cpu"
    ) -> None:
        path = require_file(weights, "the FID detector (inception-2015-12-05.pt)")
        super().__init__(load_torchscript(path, device), device, batch_size)
        self.version = file_hash(path)

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        features = self._model(to_tensor(part, self._device), return_features=True)
        return feature_rows(features, len(part), self.name)
