"""dlib: HOG detection, landmark predictors and the 128-d face recognition network.

The one backend whose recognition weights install from a package registry (King 2017, "High quality
face recognition with deep metric learning", 99.38 % on LFW). Its embeddings crowd together:
different people often have a cosine of 0.8, so values are compared within this column and never
with another backend's. Its network runs in torch, on a card too and on a CPU in a twelfth of
the wheel's time; descriptors are within 1e-6 of dlib's own and cosines within 2e-7.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.features.face_backends.base import FaceFacts, Faces, Frames, unit_length
from metrics.features.networks.dlib_resnet import DlibResNet
from metrics.frames import check_frames
from metrics.weights import require, short_hash

# Points of the 68-point scheme: corners of each eye's outline, tip of the nose, mouth corners.
_EYES = (slice(36, 42), slice(42, 48))
_NOSE, _MOUTH = 30, (48, 54)


class DlibFaces:
    """dlib's frontal face detector, landmark predictors and recognition network.

    Args:
        detect_size: frames are scaled so that their longer side has this many pixels before
            detection, at most doubled; the detector finds faces from 80 pixels on.
        weights: explicit files, by their name in ``metrics.weights.WEIGHTS``.
        device: where the recognition network runs; detection and alignment are dlib's, on the CPU.

    Raises:
        MetricsError: dlib or a file isn't on this machine.
    """

    name = "dlib"
    crop_size = 150
    facts = FaceFacts(
        detect=("dlib.landmarks5", "dlib.landmarks68", "dlib.recognition"),
        modules=("dlib", "face_recognition_models"),
        cost="HOG detection on the CPU, 0.2 s per frame, a ResNet-29 pass per face",
    )

    def __init__(
        self,
        detect_size: int = 1600,
        weights: Mapping[str, str | Path] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        try:
            import dlib
        except ImportError as error:
            raise MetricsError(
                "the dlib backend needs dlib; install it with: pip install dlib-bin"
            ) from error
        given = weights or {}
        names = ("dlib.landmarks5", "dlib.landmarks68", "dlib.recognition")
        paths = [require(name, given.get(name)) for name in names]
        self._dlib: Any = dlib
        self.detect_size = detect_size
        self._detector = dlib.get_frontal_face_detector()
        try:
            self._five = dlib.shape_predictor(str(paths[0]))
            self._all = dlib.shape_predictor(str(paths[1]))
        except RuntimeError as error:
            raise MetricsError(f"dlib can't read its weights ({error}); install them again.") from (
                error
            )
        self.device = torch.device(device)
        self.network = DlibResNet(paths[2]).to(self.device, memory_format=torch.channels_last)
        hashes = "-".join(short_hash(path)[:6] for path in paths)
        self.version = f"{dlib.__version__}-d{detect_size}-{hashes}"

    @classmethod
    def load(cls, device: str, weights: Mapping[str, str | Path]) -> DlibFaces:
        """Construct it with explicit places of weights, by name."""
        return cls(weights=weights, device=device)

    def detect(self, frames: Frames) -> list[Faces]:
        """Faces of each frame, uint8 ``[T, H, W, 3]`` RGB, largest first.

        Scores are the detector's margin through a logistic function.

        Raises:
            MetricsError: frames of another form.
        """
        check_frames(frames, least=0)
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Frames) -> Faces:
        height, width = frame.shape[:2]
        scale = min(2.0, self.detect_size / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        how = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
        small = np.ascontiguousarray(cv2.resize(frame, size, interpolation=how))
        found, margins, _ = self._detector.run(small, 0, 0.0)
        if not found:
            return Faces.none()
        factors = torch.tensor([width / size[0], height / size[1]])
        corners = [[r.left(), r.top(), r.right() + 1, r.bottom() + 1] for r in found]
        boxes = torch.tensor(corners, dtype=torch.float32) * factors.repeat(2)
        points = np.stack([self._landmarks(frame, box) for box in boxes.tolist()])
        scores = torch.tensor(list(margins), dtype=torch.float32).sigmoid()
        return Faces.sorted(boxes, torch.from_numpy(points), scores)

    def _rectangle(self, box: list[float]) -> Any:
        x0, y0, x1, y1 = (round(v) for v in box)
        return self._dlib.rectangle(x0, y0, x1 - 1, y1 - 1)

    def _landmarks(self, frame: Frames, box: list[float]) -> np.ndarray:
        shape = self._all(np.ascontiguousarray(frame), self._rectangle(box))
        points = np.array([[p.x, p.y] for p in shape.parts()], dtype=np.float32)
        eyes = [points[eye].mean(0) for eye in _EYES]
        return np.stack([*eyes, points[_NOSE], *(points[corner] for corner in _MOUTH)])

    def align(self, frame: Frames, faces: Faces) -> Frames:
        """Chips ``[n, 150, 150, 3]`` aligned by dlib's own five points, padded by a quarter."""
        crops = np.zeros((len(faces), self.crop_size, self.crop_size, 3), dtype=np.uint8)
        image = np.ascontiguousarray(frame)
        for i, box in enumerate(faces.boxes.tolist()):
            shape = self._five(image, self._rectangle(box))
            crops[i] = self._dlib.get_face_chip(image, shape, self.crop_size, 0.25)
        return crops

    @torch.inference_mode()
    def embed(self, crops: Frames) -> Tensor:
        """Embeddings ``[N, 128]`` of chips uint8 ``[N, 150, 150, 3]``, scaled to unit length.

        Raises:
            MetricsError: chips of another form.
        """
        check_frames(crops, least=0)
        if crops.shape[1:3] != (self.crop_size, self.crop_size):
            raise MetricsError(f"dlib embeds chips of 150 x 150 pixels, not {crops.shape[1:3]}.")
        if len(crops) == 0:
            return torch.zeros(0, 128)
        pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        return unit_length(self.network(pixels.permute(0, 3, 1, 2).float()).cpu())
