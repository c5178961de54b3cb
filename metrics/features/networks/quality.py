"""Networks of image quality: LAION's aesthetic heads on CLIP, MUSIQ and MANIQA through pyiqa."""

from __future__ import annotations

from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from metrics.errors import MetricsError
from metrics.features.networks.arrays import to_tensor
from metrics.features.networks.loading import file_hash, freeze, load_tensors
from metrics.frames import check_frames

__all__ = ["AestheticHead", "PyIQA"]

_KONIQ_SCALE = 0.8
"""Of MANIQA's Swin blocks as pyiqa runs the KonIQ-10k file; its default, 0.13, is PIPAL's."""


class AestheticHead:
    """LAION's aesthetic predictor on CLIP ViT-L/14 embeddings: a score of about 1 to 10.

    Args:
        weights: ``sa_0_4_vit_l_14_linear.pth``, one linear layer (VBench's), or the five layers of
            the improved predictor, ``sac+logos+ava1-l14-linearMSE.pth`` (OpenS2V-Eval's
            ``aesthetic-model.pth``).
        deep: it is the improved predictor.
        device: where to run.

    Raises:
        MetricsError: the file is damaged or of another network.
    """

    def __init__(self, weights: Path, deep: bool, device: str | torch.device = "cpu") -> None:
        network: nn.Module = nn.Linear(768, 1)
        if deep:  # the dropout between its layers does nothing in use, but counts in their names
            network = nn.ModuleDict(
                {
                    "layers": nn.Sequential(
                        nn.Linear(768, 1024),
                        nn.Dropout(),
                        nn.Linear(1024, 128),
                        nn.Dropout(),
                        nn.Linear(128, 64),
                        nn.Dropout(),
                        nn.Linear(64, 16),
                        nn.Linear(16, 1),
                    )
                }
            )
        load_tensors(network, weights)
        self.version = file_hash(weights)
        freeze(network, device)
        self._layers: nn.Module = network["layers"] if isinstance(network, nn.ModuleDict) else (
            network
        )  # fmt: skip
        self._device = torch.device(device)

    @torch.no_grad()
    def score(self, embeddings: Tensor) -> Tensor:
        """Scores ``[N]`` of CLIP embeddings ``[N, 768]``, which are brought to unit length."""
        rows = embeddings.to(self._device).float()
        return self._layers(rows / rows.norm(dim=-1, keepdim=True)).squeeze(-1).cpu()


class PyIQA:
    """MUSIQ (arXiv 2108.05997) or MANIQA (arXiv 2204.08958) of pyiqa, one frame per forward pass.

    Args:
        network: "musiq" or "maniqa".
        weights: pyiqa's published file.
        longer_side: frames are reduced to it bilinearly, without antialiasing, as VBench does;
            None leaves them.
        device: where to run.

    Raises:
        MetricsError: pyiqa isn't installed, or the file is damaged or of another network.
    """

    def __init__(
        self,
        network: str,
        weights: Path,
        longer_side: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        made = _construct(network)
        load_tensors(made, weights)
        self.version = f"pyiqa{package_version('pyiqa')}-{file_hash(weights)}-{longer_side or 0}"
        if network == "maniqa":
            self.version += f"-scale{_KONIQ_SCALE}"
        self._model = freeze(made, device)
        self._device, self._longer_side = torch.device(device), longer_side

    @torch.no_grad()
    def encode(self, frames: NDArray[np.uint8]) -> Tensor:
        """Scores ``[N, 1]`` of RGB frames, uint8 ``[N, H, W, 3]``."""
        scores = []
        for frame in check_frames(frames):
            image = to_tensor(frame[None], self._device).float()
            height, width = image.shape[-2:]
            if self._longer_side is not None and max(height, width) > self._longer_side:
                scale = self._longer_side / max(height, width)
                size = [int(scale * height), int(scale * width)]
                image = TF.resize(image, size, antialias=False)
            scores.append(self._model(image / 255).reshape(1, 1))
        return torch.cat(scores)


def _construct(network: str) -> Any:
    try:
        if network == "musiq":
            from pyiqa.archs.musiq_arch import MUSIQ

            return MUSIQ(pretrained=False)
        from pyiqa.archs.maniqa_arch import MANIQA

        return MANIQA(pretrained=False, scale=_KONIQ_SCALE)
    except ImportError as error:
        raise MetricsError(
            f"{network} needs pyiqa ({error}); install it with: pip install 'stdrc-bench[quality]'"
        ) from error
