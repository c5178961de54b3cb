"""InsightFace: SCRFD detection and ArcFace recognition through onnxruntime.

The library's own models (SCRFD arXiv 2105.04714, ArcFace arXiv 1801.07698) from a pack on disk,
`buffalo_l` or `antelopev2`. The library downloads packs by itself; this backend never lets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.features.face_backends.base import (
    FaceFacts,
    Faces,
    Frames,
    align_five_points,
    unit_length,
)
from metrics.frames import check_frames
from metrics.weights import require, short_hash


def onnx_providers(device: str) -> list[str]:
    """onnxruntime's execution providers for a device: CUDA where asked for, then the CPU.

    Raises:
        MetricsError: CUDA is asked for and this onnxruntime has none.
    """
    import onnxruntime

    if not str(device).startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise MetricsError(
            "this onnxruntime can't use CUDA; pip install onnxruntime-gpu, or score with --device "
            "cpu."
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def open_pack(folder: Path, device: str, detect_size: int, threshold: float = 0.5) -> Any:
    """InsightFace's ``FaceAnalysis`` on a pack's folder, with detection and recognition only.

    Raises:
        MetricsError: the folder holds no detection or no recognition model that can be loaded.
    """
    from insightface.app import FaceAnalysis

    providers = onnx_providers(device)
    try:
        app = FaceAnalysis(
            name=str(folder), allowed_modules=["detection", "recognition"], providers=providers
        )
    except Exception as error:  # onnxruntime and the library raise types of their own
        raise MetricsError(
            f"{folder} can't be loaded as an InsightFace pack ({type(error).__name__}: {error}); "
            "download it again."
        ) from error
    if "recognition" not in app.models:
        raise MetricsError(f"{folder} holds no recognition model; use a whole InsightFace pack.")
    index = 0 if str(device).startswith("cuda") else -1
    app.prepare(ctx_id=index, det_thresh=threshold, det_size=(detect_size, detect_size))
    return app


class InsightFaces:
    """An InsightFace pack.

    Args:
        device: "cpu" or "cuda".
        pack: "buffalo_l" or "antelopev2".
        detect_size: side of the square that frames are fitted into for detection.
        weights: the pack's folder; by default it is looked for where `metrics.weights` says.

    Raises:
        MetricsError: the pack isn't on this machine or can't be loaded.
    """

    name = "insightface"
    crop_size = 112
    facts = FaceFacts(
        detect=("insightface.buffalo_l",),
        modules=("insightface", "onnxruntime"),
        cost="an SCRFD pass per frame, a ResNet-50 pass per face",
    )

    def __init__(
        self,
        device: str = "cpu",
        pack: str = "buffalo_l",
        detect_size: int = 640,
        weights: str | Path | None = None,
    ) -> None:
        folder = require(f"insightface.{pack}", weights)
        self._app = open_pack(folder, device, detect_size)
        package = package_version("insightface")
        self.version = f"{package}-{pack}-d{detect_size}-{short_hash(folder)}"

    @classmethod
    def load(cls, device: str, weights: Mapping[str, str | Path]) -> InsightFaces:
        """Construct it with explicit places of weights, by name."""
        return cls(device, weights=weights.get("insightface.buffalo_l"))

    def detect(self, frames: Frames) -> list[Faces]:
        """Faces of each frame, uint8 ``[T, H, W, 3]`` RGB, largest first."""
        check_frames(frames, least=0)
        found = []
        for frame in frames:
            boxes, points = self._app.det_model.detect(np.ascontiguousarray(frame[..., ::-1]))
            if len(boxes) == 0:
                found.append(Faces.none())
                continue
            boxes, points = torch.from_numpy(boxes), torch.from_numpy(points)
            found.append(Faces.sorted(boxes[:, :4], points, boxes[:, 4]))
        return found

    def align(self, frame: Frames, faces: Faces) -> Frames:
        """Crops ``[n, 112, 112, 3]`` aligned by five points."""
        return align_five_points(frame, faces, self.crop_size)

    def embed(self, crops: Frames) -> Tensor:
        """Embeddings ``[N, 512]`` of unit length of crops uint8 ``[N, 112, 112, 3]``."""
        check_frames(crops, least=0)
        if len(crops) == 0:
            return torch.zeros(0, 512)
        features = self._app.models["recognition"].get_feat([c[..., ::-1] for c in crops])
        return unit_length(torch.from_numpy(np.asarray(features)).float())
