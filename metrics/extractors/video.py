"""Video models for FVD: the I3D TorchScript detector, and VideoMAE of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, VideoMAEForVideoClassification, VideoMAEModel

from metrics.errors import MetricsError
from metrics.extractors.arrays import (
    IMAGENET,
    batches,
    check_videos,
    evenly,
    feature_rows,
    normalise,
    resize_square,
    to_tensor,
)
from metrics.extractors.loading import (
    file_hash,
    freeze,
    load_pretrained,
    load_processor,
    load_torchscript,
    model_hash,
    require_file,
)

__all__ = ["I3D", "VideoMAE"]


class I3D:
    """I3D trained on Kinetics-400, as StyleGAN-V's TorchScript ``i3d_torchscript.pt``: 400-d.

    Frames are resized to 224 x 224, bilinearly and whole, and scaled to -1..1, as cd-fvd and
    StyleGAN-V do before calling it with ``rescale=False, resize=False, return_features=True``.

    Args:
        weights: the TorchScript file.
        batch_size: videos a forward pass.
        device: where to run.

    Raises:
        MetricsError: the file is absent or no TorchScript.
    """

    name = "i3d"
    frames = 10
    """least number of frames: below it the detector's temporal pooling has nothing left"""

    def __init__(
        self, weights: str | Path, *, batch_size: int = 4, device: str | torch.device = "cpu"
    ) -> None:
        path = require_file(weights, "the I3D detector (i3d_torchscript.pt)")
        self._model = load_torchscript(path, device)
        self.version = file_hash(path)
        self._device = torch.device(device)
        self._batch_size = batch_size

    @torch.no_grad()
    def encode(self, videos: NDArray[np.uint8]) -> Tensor:
        """Features ``[B, 400]`` of RGB videos, uint8 ``[B, T, H, W, 3]``, T at least 10."""
        parts = []
        for part in batches(check_videos(videos, self.frames, self.name), self._batch_size):
            frames = to_tensor(part, self._device).flatten(0, 1).float()  # [B*T, 3, H, W]
            frames = resize_square(frames, 224) / 127.5 - 1
            batch = frames.unflatten(0, part.shape[:2]).transpose(1, 2)  # [B, 3, T, 224, 224]
            features = self._model(
                batch.contiguous(), rescale=False, resize=False, return_features=True
            )
            parts.append(feature_rows(features, len(part), self.name))
        return torch.cat(parts)


class VideoMAE:
    """VideoMAE (Tong et al. 2022, arXiv 2203.12602): the mean over its tokens.

    A fine-tuned checkpoint's final norm is applied, so that features are those its classifier
    sees, as cd-fvd takes them. cd-fvd's own network is VideoMAE-v2 ViT-g, which transformers
    lacks: numbers of the two do not compare, and the name says which checkpoint this is.

    Args:
        source: a folder, or a hub id in the cache, for example
            ``MCG-NJU/videomae-base-finetuned-kinetics``.
        batch_size: videos a forward pass.
        device: where to run.

    Raises:
        MetricsError: the files are not on this machine or lack a tensor.
    """

    def __init__(
        self,
        source: str | Path = "MCG-NJU/videomae-base-finetuned-kinetics",
        *,
        batch_size: int = 4,
        device: str | torch.device = "cpu",
    ) -> None:
        config = load_processor(AutoConfig, source)
        if "VideoMAEForVideoClassification" in (config.architectures or []):
            whole = load_pretrained(VideoMAEForVideoClassification, source)
            network, self._norm = whole.videomae, whole.fc_norm
            self.version = model_hash(whole)
        else:
            network, self._norm = load_pretrained(VideoMAEModel, source), None
            self.version = model_hash(network)
        folder = Path(source)
        self.name = f"videomae:{folder.name if folder.is_dir() else source}"
        self.frames: int = config.num_frames
        self._size: int = config.image_size
        self._model = freeze(network, device)
        if self._norm is not None:
            freeze(self._norm, device)
        self._device = torch.device(device)
        self._batch_size = batch_size

    @torch.no_grad()
    def encode(self, videos: NDArray[np.uint8]) -> Tensor:
        """Features ``[B, D]`` of RGB videos, uint8 ``[B, T, H, W, 3]``.

        ``frames`` of the T frames are taken, evenly from the first to the last.
        """
        parts = []
        for part in batches(check_videos(videos, self.frames, self.name), self._batch_size):
            taken = part[:, evenly(part.shape[1], self.frames)]
            frames = to_tensor(taken, self._device).flatten(0, 1).float() / 255  # [B*T, 3, H, W]
            frames = normalise(resize_square(frames, self._size), IMAGENET)
            tokens = self._model(frames.unflatten(0, taken.shape[:2])).last_hidden_state
            features = tokens.mean(dim=1)  # [B, D]
            parts.append(features if self._norm is None else self._norm(features))
        features = torch.cat(parts)
        if not torch.isfinite(features).all():
            raise MetricsError(f"{self.name} gave NaN or infinite features; check its weights.")
        return features
