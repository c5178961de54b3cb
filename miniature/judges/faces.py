"""The miniature's face backend: detection, alignment and identity of drawn faces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.features.face_backends.base import FaceFacts, Faces, Frames
from metrics.frames import check_frames
from miniature.judges.alignment import align_face
from miniature.judges.networks import (
    CROP,
    FRAME,
    Detector,
    Embedder,
    fit_frame,
    load_weights,
    weights_version,
)


class MiniatureFaces:
    """A `FaceBackend` for the procedural world, trained on identities that no generator saw.

    It knows one face per frame, as the world draws them, and only drawn ones. Frames of another
    size are scaled to 64 x 64; boxes and landmarks come back in the frame's own pixels. A frame
    that is twice as wide as high, or more times, is looked at as squares side by side, each with
    one face or none.

    Args:
        device: where the networks run.
        threshold: a frame has a face where the detector's confidence is at least this, 0..1.

    Raises:
        MetricsError: a threshold outside 0..1, or missing weights.

    Example:
        >>> import numpy as np
        >>> faces = MiniatureFaces()
        >>> [len(found) for found in faces.detect(np.zeros((1, 64, 64, 3), np.uint8))]
        [0]
    """

    name = "miniature"
    crop_size = CROP
    facts = FaceFacts(
        detect=("miniature.detector", "miniature.embedder"),
        cost="two small networks; drawn faces only",
        quirks="knows drawn faces only",
        by_default=False,
        # The card's means of strangers' true clips and of the person's own.
        anchors={"identity.miniature": (0.0054, 0.847)},
    )

    def __init__(self, device: str | torch.device = "cpu", threshold: float = 0.5) -> None:
        if not 0 <= threshold <= 1:
            raise MetricsError(f"The detection threshold is {threshold}; choose one in 0..1.")
        self.device, self.threshold = torch.device(device), threshold
        # 2: wide frames are looked at as squares.
        self.version = f"{weights_version('detector', 'embedder')}-2"
        self._detector = load_weights(Detector(), "detector", device)
        self._embedder = load_weights(Embedder(), "embedder", device)

    @classmethod
    def load(cls, device: str, weights: Mapping[str, str | Path]) -> MiniatureFaces:
        """Construct it with explicit places of weights, by name."""
        return cls(device)

    @torch.inference_mode()
    def detect(self, frames: Frames) -> list[Faces]:
        """The face of each frame, or none: uint8 [T, H, W, 3]; of wide frames, of each square."""
        check_frames(frames, least=0)
        if not len(frames):
            return []
        height, width = frames.shape[1:3]
        if width > height and width % height == 0:
            squares = np.split(frames, width // height, axis=2)
            return [_beside(row, height) for row in zip(*map(self.detect, squares), strict=True)]
        small = frames
        if (height, width) != (FRAME, FRAME):
            small = np.stack([fit_frame(frame) for frame in frames])
        scale = torch.tensor([width / FRAME, height / FRAME])
        found: list[Faces] = []
        for part in torch.from_numpy(np.ascontiguousarray(small)).split(64):
            boxes, landmarks, logits = (x.cpu() for x in self._detector(part.to(self.device)))
            boxes = boxes.clamp(0, FRAME) * scale.repeat(2)
            landmarks = landmarks.clamp(0, FRAME) * scale
            for box, points, score in zip(boxes, landmarks, logits.sigmoid()):
                if score < self.threshold:
                    found.append(Faces.none())
                else:
                    found.append(Faces(box[None], points[None], score[None]))
        return found

    def align(self, frame: Frames, faces: Faces) -> Frames:
        """Upright crops uint8 [n, 48, 48, 3] of the faces of one frame [H, W, 3]."""
        crops = np.zeros((len(faces), CROP, CROP, 3), np.uint8)
        for i, points in enumerate(faces.landmarks.numpy()):
            crops[i] = align_face(frame, points)
        return crops

    @torch.inference_mode()
    def embed(self, crops: Frames) -> Tensor:
        """Identity of aligned crops uint8 [N, 48, 48, 3]: float [N, 128], unit length."""
        check_frames(crops, least=0)
        pixels = torch.from_numpy(np.ascontiguousarray(crops))
        parts = [self._embedder(part.to(self.device)).cpu() for part in pixels.split(128)]
        return torch.cat(parts) if parts else torch.empty(0, 128)


def _beside(squares: tuple[Faces, ...], side: int) -> Faces:
    """The faces of squares side by side, in the whole frame's pixels."""
    right = [torch.tensor([side * k, 0]) for k in range(len(squares))]
    return Faces.sorted(
        torch.cat([f.boxes + x.repeat(2) for f, x in zip(squares, right, strict=True)]),
        torch.cat([f.landmarks + x for f, x in zip(squares, right, strict=True)]),
        torch.cat([f.scores for f in squares]),
    )
