"""LPIPS behind :class:`metrics.leakage.PerceptualDistance`, with its backbone from a local file.

The package lpips ships the linear weights on top; the network below them is torchvision's, whose
weights no package carries. Without that file the distance is absent, not random.
"""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.errors import MetricsError
from metrics.features.networks.arrays import batches, to_tensor
from metrics.features.networks.loading import file_hash, freeze, read_tensors, require_file
from metrics.frames import check_frames

_PUBLISHED = "alexnet-owt-7be5be79.pth"


class LPIPS:
    """Learned perceptual distance of image pairs (Zhang et al. 2018, arXiv 1801.03924).

    On AlexNet, the authors' advice for a metric.

    Args:
        weights: state dict of torchvision's AlexNet.
        batch_size: pairs per forward pass.
        device: where to run.

    Raises:
        MetricsError: the file is absent or of another network.
    """

    name = "lpips_alex"

    def __init__(
        self, weights: str | Path, *, batch_size: int = 32, device: str | torch.device = "cpu"
    ) -> None:
        path = require_file(weights, f"LPIPS's backbone ({_PUBLISHED} of torchvision)")
        model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        stored = read_tensors(path)
        # slice2.3.weight is features.3.weight: the slices keep torchvision's numbers.
        backbone = {
            key: stored.get(f"features.{key.partition('.')[2]}") for key in model.net.state_dict()
        }
        lacking = [key for key, tensor in backbone.items() if tensor is None]
        if lacking:
            raise MetricsError(
                f"{path} lacks {len(lacking)} tensors of LPIPS's alex; pass torchvision's "
                f"{_PUBLISHED}."
            )
        try:
            model.net.load_state_dict(backbone, strict=True)
        except RuntimeError as error:
            raise MetricsError(
                f"{path} does not fit LPIPS's alex; pass torchvision's {_PUBLISHED}."
            ) from error
        self._model = freeze(model, device)
        self._device = torch.device(device)
        self._batch_size = batch_size
        self.version = f"{installed('lpips')}-{file_hash(path)}"

    @torch.no_grad()
    def distance(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Tensor:
        """Distance ``[B]`` of uint8 RGB ``[B, H, W, 3]`` to uint8 RGB ``[B, H, W, 3]``."""
        first, second = check_frames(first), check_frames(second)
        if first.shape != second.shape:
            raise MetricsError(
                f"images of {first.shape} and {second.shape} make no pairs; resize them first."
            )
        parts = []
        for a, b in zip(
            batches(first, self._batch_size), batches(second, self._batch_size), strict=True
        ):
            pair = [to_tensor(x, self._device).float() / 127.5 - 1 for x in (a, b)]
            parts.append(self._model(*pair).flatten())
        return torch.cat(parts)
