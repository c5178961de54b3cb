"""facenet-pytorch: MTCNN detection, whose weights the package ships, and InceptionResnetV1.

MTCNN (arXiv 1604.02878) finds boxes and five landmarks. The recognition network (FaceNet, arXiv
1503.03832, trained on VGGFace2) needs a file that the package would download; without it this
backend still detects, and `embed` says which file is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as package_version
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.features.face_backends.base import FaceFacts, Faces, Frames, unit_length
from metrics.frames import check_frames
from metrics.weights import find, require, short_hash


class FacenetFaces:
    """MTCNN and InceptionResnetV1.

    Args:
        device: where the networks run.
        detect_size: frames whose longer side is larger are scaled down to this many pixels
            before detection (crops are always cut from the full frame); None detects at full size.
        min_face: smallest face in pixels that MTCNN looks for, at detection size.
        weights: file of the recognition network; by default it is looked for where
            :mod:`metrics.weights` says.
    """

    name = "facenet"
    crop_size = 160
    facts = FaceFacts(
        detect=("facenet.mtcnn",),
        embed=("facenet.vggface2",),
        modules=("facenet_pytorch",),
        cost="an MTCNN pass per frame, a small ResNet pass per face",
    )

    def __init__(
        self,
        device: str | torch.device = "cpu",
        detect_size: int | None = 640,
        min_face: int = 20,
        weights: str | Path | None = None,
    ) -> None:
        from facenet_pytorch import MTCNN

        self.device = torch.device(device)
        self.detect_size = detect_size
        self._weights = weights
        self._network: torch.nn.Module | None = None
        self._mtcnn = MTCNN(
            keep_all=True, min_face_size=min_face, device=self.device, post_process=False
        ).eval()
        # torch pools channels-last planes several at once, others one number at a time.
        for network in (self._mtcnn.rnet, self._mtcnn.onet):
            network.to(memory_format=torch.channels_last)
        package = package_version("facenet-pytorch")
        path = find("facenet.vggface2", weights)
        recognition = short_hash(path) if path else "detection"
        self.version = f"{package}-d{detect_size or 0}m{min_face}-{recognition}"

    @classmethod
    def load(cls, device: str, weights: Mapping[str, str | Path]) -> FacenetFaces:
        """Construct it with explicit places of weights, by name."""
        return cls(device, weights=weights.get("facenet.vggface2"))

    @torch.inference_mode()
    def detect(self, frames: Frames) -> list[Faces]:
        """Faces of each frame, uint8 ``[T, H, W, 3]`` RGB, largest first.

        Raises:
            MetricsError: frames of another form.
        """
        check_frames(frames, least=0)
        height, width = frames.shape[1:3]
        scale = min(1.0, (self.detect_size or max(height, width)) / max(height, width))
        if scale < 1:
            size = (round(width * scale), round(height * scale))
            frames = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
        if min(frames.shape[1:3]) < self._mtcnn.min_face_size:
            return [Faces.none() for _ in frames]  # MTCNN's pyramid would have no level
        factors = torch.tensor([width / frames.shape[2], height / frames.shape[1]])
        found = []
        for boxes, scores, points in zip(*self._mtcnn.detect(frames, landmarks=True), strict=True):
            if boxes is None:
                found.append(Faces.none())
                continue
            found.append(
                Faces.sorted(
                    torch.as_tensor(np.asarray(boxes, dtype=np.float32)) * factors.repeat(2),
                    torch.as_tensor(np.asarray(points, dtype=np.float32)) * factors,
                    torch.as_tensor(np.asarray(scores, dtype=np.float32)),
                )
            )
        return found

    def align(self, frame: Frames, faces: Faces) -> Frames:
        """Box crops ``[n, 160, 160, 3]`` as facenet-pytorch's ``extract_face`` cuts them."""
        crops = np.zeros((len(faces), self.crop_size, self.crop_size, 3), dtype=np.uint8)
        height, width = frame.shape[:2]
        for i, box in enumerate(faces.boxes.tolist()):
            x0, y0 = max(int(box[0]), 0), max(int(box[1]), 0)
            x1, y1 = min(int(box[2]), width), min(int(box[3]), height)
            if x1 > x0 and y1 > y0:
                size = (self.crop_size, self.crop_size)
                crops[i] = cv2.resize(frame[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
        return crops

    @torch.inference_mode()
    def embed(self, crops: Frames) -> Tensor:
        """Embeddings ``[N, 512]`` of unit length of crops uint8 ``[N, 160, 160, 3]``.

        Raises:
            MetricsError: the recognition weights aren't here, or the crops have another form.
        """
        check_frames(crops, least=0)
        network = self.recognition()
        if len(crops) == 0:
            return torch.zeros(0, 512)
        pixels = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float()
        return unit_length(network((pixels - 127.5) / 128.0).float().cpu())

    def recognition(self) -> torch.nn.Module:
        """The network of embeddings, of pixels (p - 127.5) / 128.

        Raises:
            MetricsError: its weights aren't here, or are of another network.
        """
        if self._network is None:
            from facenet_pytorch import InceptionResnetV1

            path = require("facenet.vggface2", self._weights)
            network = InceptionResnetV1(pretrained=None, classify=False, num_classes=None)
            state = torch.load(path, map_location="cpu", weights_only=True)
            # The published file carries the classifier of its training set as well.
            state = {k: v for k, v in state.items() if not k.startswith("logits.")}
            try:
                network.load_state_dict(state)
            except RuntimeError as error:
                raise MetricsError(
                    f"{path} doesn't fit InceptionResnetV1 ({str(error).splitlines()[-1].strip()})"
                    "; pass facenet-pytorch's vggface2 file."
                ) from error
            self._network = network.to(self.device).eval()
        return self._network
