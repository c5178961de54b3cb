"""CurricularFace: the IR-101 network whose published file ConsisID and OpenS2V-Eval measure with.

The network is that of the published weights (CurricularFace, arXiv 2004.00288; an ArcFace-style
residual network of 49 units), with the names of its tensors, so that the file loads strictly.
Detection and landmarks are InsightFace's, as in the protocols that use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from metrics.errors import MetricsError
from metrics.features.face_backends.base import FaceBackend, FaceFacts, Faces, Frames, unit_length
from metrics.frames import check_frames
from metrics.weights import require, short_hash

IR101_UNITS = (3, 13, 30, 3)
"""Residual units of 64, 128, 256 and 512 channels; each stage's first halves the picture."""


class _Unit(nn.Module):
    """Pre-activation residual unit of two 3 x 3 convolutions."""

    def __init__(self, channels: int, depth: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.Identity()
        if channels != depth:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels, depth, 1, stride, bias=False), nn.BatchNorm2d(depth)
            )
        elif stride > 1:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, depth, 3, 1, 1, bias=False),
            nn.BatchNorm2d(depth),
            nn.PReLU(depth),
            nn.Conv2d(depth, depth, 3, stride, 1, bias=False),
            nn.BatchNorm2d(depth),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_layer(x) + self.res_layer(x)


class ImprovedResNet(nn.Module):
    """The "IR" network of CurricularFace: images ``[N, 3, 112, 112]`` in -1..1 to ``[N, 512]``.

    Args:
        units: residual units of each of the four stages.
    """

    def __init__(self, units: Sequence[int] = IR101_UNITS) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        body: list[nn.Module] = []
        channels = 64
        for depth, count in zip((64, 128, 256, 512), units, strict=True):
            for k in range(count):
                body.append(_Unit(channels, depth, 2 if k == 0 else 1))
                channels = depth
        self.body = nn.Sequential(*body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512, affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


def load_ir101(path: Path, device: str | torch.device = "cpu") -> ImprovedResNet:
    """The network with the published weights, every tensor of them.

    Raises:
        MetricsError: the file is damaged or is of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises one of a dozen types
        raise MetricsError(
            f"{path} can't be read as weights ({type(error).__name__}); download it again."
        ) from error
    with torch.device("meta"):
        network = ImprovedResNet()
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise MetricsError(
            f"{path} isn't the IR-101 network of CurricularFace "
            f"({str(error).splitlines()[-1].strip()}); use the file that ConsisID publishes."
        ) from error
    return network.to(device).eval().requires_grad_(False)


class CurricularFaces:
    """IR-101 on faces that another backend finds and aligns to ArcFace's five points.

    Args:
        detector: the backend that detects and aligns to 112 pixels: InsightFace.
        device: where the network runs.
        weights: the published file; by default it is looked for where `metrics.weights` says.

    Raises:
        MetricsError: the file isn't on this machine or is of another network.
    """

    name = "curricularface"
    crop_size = 112
    facts = FaceFacts(
        detect=("insightface.buffalo_l",),
        embed=("curricularface.ir101",),
        modules=("insightface", "onnxruntime"),
        cost="an SCRFD pass per frame, an IR-101 pass per face",
        detector="insightface",
    )

    def __init__(
        self,
        detector: FaceBackend,
        device: str | torch.device = "cpu",
        weights: str | Path | None = None,
    ) -> None:
        path = require("curricularface.ir101", weights)
        if detector.crop_size != self.crop_size:
            raise MetricsError(
                f"CurricularFace needs crops of 112 pixels; {detector.name} makes "
                f"{detector.crop_size}."
            )
        self.device = torch.device(device)
        self.detector = detector
        self.network = load_ir101(path, self.device)
        self.version = f"{short_hash(path)}-{detector.version}"

    @classmethod
    def load(
        cls, device: str, weights: Mapping[str, str | Path], detector: FaceBackend
    ) -> CurricularFaces:
        """Construct it with explicit places of weights, by name."""
        return cls(detector, device, weights.get("curricularface.ir101"))

    def detect(self, frames: Frames) -> list[Faces]:
        """Faces as the detector finds them."""
        return self.detector.detect(frames)

    def align(self, frame: Frames, faces: Faces) -> Frames:
        """Crops ``[n, 112, 112, 3]`` aligned by five points."""
        return self.detector.align(frame, faces)

    @torch.inference_mode()
    def embed(self, crops: Frames) -> Tensor:
        """Embeddings ``[N, 512]`` of unit length of crops uint8 ``[N, 112, 112, 3]``."""
        check_frames(crops, least=0)
        if len(crops) == 0:
            return torch.zeros(0, 512)
        pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        pixels = pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        return unit_length(self.network(pixels).float().cpu())
