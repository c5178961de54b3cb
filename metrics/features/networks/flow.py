"""Optical flow behind :class:`metrics.motion.FlowBackend`: OpenCV's DIS and torchvision's RAFT.

DIS needs no weights and runs anywhere; RAFT is what the published motion metrics use. Their flows
differ, so a score carries the name of its backend and the two never share a column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.optical_flow import raft_large, raft_small

from metrics.features.networks.loading import file_hash, load_tensors, require_file


class DISFlow:
    """Dense inverse search (Kroeger et al. 2016), as OpenCV has it; on the CPU, without weights.

    Args:
        preset: OpenCV's trade of speed and quality.

    Example:
        >>> import cv2, numpy as np
        >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        >>> first = cv2.GaussianBlur(noise, (0, 0), 3)
        >>> second = np.roll(first, 2, axis=1)  # two pixels to the right
        >>> flow = DISFlow().flow(first[None], second[None])
        >>> tuple(flow.shape), round(float(flow[0, 0, 24:40, 24:40].mean()))
        ((1, 2, 64, 64), 2)
    """

    name = "dis"

    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "medium") -> None:
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        self._flow: Any = cv2.DISOpticalFlow.create(presets[preset])
        self._preset = preset
        self.version = f"opencv-{cv2.__version__}-{preset}"

    def __reduce__(self) -> tuple[Any, ...]:
        # OpenCV's object can't be copied, and torchmetrics copies metrics with all they hold.
        return DISFlow, (self._preset,)

    def flow(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Tensor:
        """Flow in pixels ``[B, 2, H, W]`` from ``first`` to ``second``, uint8 ``[B, H, W, 3]``."""
        flows = []
        for a, b in zip(first, second, strict=True):
            height, width = a.shape[:2]
            # DIS has a smallest size; replicated borders move like the border itself.
            pad = (0, max(0, 32 - height), 0, max(0, 32 - width))
            grey = [
                cv2.copyMakeBorder(
                    cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), *pad, cv2.BORDER_REPLICATE
                )
                for image in (a, b)
            ]
            flows.append(self._flow.calc(grey[0], grey[1], None)[:height, :width])
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)


class RAFTFlow:
    """RAFT (Teed and Deng 2020, arXiv 2003.12039) from torchvision, with weights from a file.

    Args:
        weights: a state dict as torchvision publishes it, for example
            ``raft_large_C_T_SKHT_V2-ff5fadd5.pth``, or the same as safetensors.
        architecture: ``raft_large`` or ``raft_small``.
        updates: refinement steps; VBench runs 20.
        device: where to run.

    Raises:
        MetricsError: the file is absent or does not fit the architecture.
    """

    name = "raft"

    def __init__(
        self,
        weights: str | Path,
        *,
        architecture: Literal["raft_large", "raft_small"] = "raft_large",
        updates: int = 20,
        device: str | torch.device = "cpu",
    ) -> None:
        published = {
            "raft_large": "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
            "raft_small": "raft_small_C_T_V2-01064c6d.pth",
        }
        path = require_file(weights, f"RAFT's weights ({published[architecture]} of torchvision)")
        model = {"raft_large": raft_large, "raft_small": raft_small}[architecture](weights=None)
        load_tensors(model, path)
        self._model = model.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)
        self._updates = updates
        self.version = f"{architecture}-{file_hash(path)}-{updates}"

    @torch.no_grad()
    def flow(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Tensor:
        """Flow in pixels ``[B, 2, H, W]`` from ``first`` to ``second``, uint8 ``[B, H, W, 3]``."""
        height, width = first.shape[1:3]
        # RAFT works at 1/8 with a pyramid of four more halvings: sides of at least 128.
        pad_y = max(128, -(-height // 8) * 8) - height
        pad_x = max(128, -(-width // 8) * 8) - width
        sides = (pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2)
        pair = []
        for frames in (first, second):
            images = torch.from_numpy(np.require(frames, requirements=["C", "W"])).to(self._device)
            images = images.permute(0, 3, 1, 2).float() / 127.5 - 1
            pair.append(F.pad(images, sides, mode="replicate"))
        flow = self._model(*pair, num_flow_updates=self._updates)[-1]  # [B, 2, H', W']
        return flow[:, :, sides[2] : sides[2] + height, sides[0] : sides[0] + width]
