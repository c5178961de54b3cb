"""The face and the networks of ConsisID's and OpenS2V-Eval's protocols, as published.

One detection per frame serves Face-Arc, Face-Cur and "FID". The formulas on top of these features
are in `metrics.protocols`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from metrics.features.base import Networks, feature
from metrics.features.face_backends.base import Faces, align_five_points, pad_grey
from metrics.frames import Frames
from metrics.weights import short_hash


class FaceAnalyser(Protocol):
    """Detection and ArcFace recognition on BGR images: InsightFace's ``FaceAnalysis``."""

    def detect(self, image_bgr: Frames) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Boxes ``[n, 4]`` and five landmarks ``[n, 5, 2]``, in pixels."""
        ...

    def embed(self, crops_bgr: Sequence[Frames]) -> NDArray[np.floating]:
        """Embeddings ``[N, 512]`` of crops of 112 pixels, not normalised."""
        ...


class InsightFaceAnalyser:
    """A pack of InsightFace at ``det_size`` 320, the protocols' setting.

    Raises:
        MetricsError: the folder is not a pack that can be loaded.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from metrics.features.face_backends.insightface import open_pack

        self._app = open_pack(folder, device, detect_size=320)

    def detect(self, image_bgr: Frames) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        boxes, points = self._app.det_model.detect(image_bgr)
        return np.asarray(boxes)[:, :4], np.asarray(points).reshape(-1, 5, 2)

    def embed(self, crops_bgr: Sequence[Frames]) -> NDArray[np.floating]:
        return np.asarray(self._app.models["recognition"].get_feat(list(crops_bgr)))


@dataclass(frozen=True)
class ProtocolFace:
    """The largest face of an image as the protocols see it."""

    arcface: Tensor  # [512], as the recognition model puts it out
    aligned: Frames  # uint8 [224, 224, 3] RGB


class ProtocolFaces:
    """Largest face of each frame with its ArcFace embedding and aligned crop.

    One detection per frame serves Face-Arc, Face-Cur and "FID", and ArcFace sees the faces of a
    batch of frames at once.
    """

    def __init__(self, analyser: FaceAnalyser) -> None:
        self.analyser = analyser

    def __call__(self, frames: Sequence[Frames] | Frames) -> list[ProtocolFace | None]:
        """The face of each frame, uint8 ``[H, W, 3]`` RGB; None without one."""
        found = [self._largest(frame) for frame in frames]
        present = [f for f in found if f is not None]
        if not present:
            return [None] * len(found)
        arcface = torch.from_numpy(np.asarray(self.analyser.embed([f[0] for f in present])))
        faces = iter(ProtocolFace(e, f[1]) for e, f in zip(arcface, present, strict=True))
        return [None if f is None else next(faces) for f in found]

    def _largest(self, frame: Frames) -> tuple[Frames, Frames] | None:
        """The crops for ArcFace (112, BGR) and for the other networks (224, RGB)."""
        image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), dtype=np.uint8)
        source, left, top = image, 0, 0
        boxes, points = self.analyser.detect(source)
        if len(boxes) == 0:
            source, left, top = pad_grey(image)
            boxes, points = self.analyser.detect(source)
            if len(boxes) == 0:
                return None
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        # sorted(...)[-1]: of equally large faces the last
        best = int(len(areas) - 1 - np.argmax(areas[::-1]))
        landmarks = points[best].astype(np.float64)
        # ArcFace's crop is cut from the padded image, the aligned face from the image itself.
        arcface = _crop(source, landmarks, 112)
        aligned = _crop(image, landmarks - np.array([left, top]), 224)
        return arcface, np.ascontiguousarray(aligned[..., ::-1])


class CurricularEmbedder:
    """Face-Cur's embeddings: aligned faces are resized to 112 and scaled to -1..1.

    Args:
        network: of images ``[N, 3, 112, 112]``, IR-101.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], device: str | torch.device = "cpu"
    ) -> None:
        self.network = network
        self.device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, aligned: Frames) -> Tensor:
        """Embeddings ``[N, 512]`` of unit length of uint8 ``[N, 224, 224, 3]`` RGB."""
        small = np.stack([cv2.resize(crop, (112, 112)) for crop in aligned])
        pixels = torch.from_numpy(small).to(self.device).permute(0, 3, 1, 2).float()
        features = self.network(pixels.div(255).sub(0.5).div(0.5)).float().cpu()
        return features / features.norm(dim=-1, keepdim=True)


def _crop(image: Frames, landmarks: NDArray[np.floating], size: int) -> Frames:
    points = torch.from_numpy(landmarks[None])
    return align_five_points(image, Faces(torch.zeros(1, 4), points, torch.ones(1)), size)[0]


class ConsisIDInception:
    """torchvision's Inception-v3 as ConsisID's "FID" calls it.

    Aligned faces are resized to 299 by Pillow and given as 0..1, although the network expects
    ImageNet-normalised input; 2048 pooled features.

    Args:
        path: torchvision's ``inception_v3_google-0cc3c7bd.pth``.
        device: where the network runs.
        engine: what runs it; see `metrics.features.networks.engine`.

    Raises:
        MetricsError: the file is damaged or of another network.
    """

    def __init__(
        self, path: Path, device: str | torch.device = "cpu", engine: str = "torch"
    ) -> None:
        from torchvision.models import inception_v3

        from metrics.features.networks.engine import compiled
        from metrics.features.networks.loading import load_tensors

        network = inception_v3(weights=None, init_weights=False, transform_input=True)
        load_tensors(network, path)
        network.fc = torch.nn.Identity()
        network.eval().requires_grad_(False).to(device)
        self.network = compiled(network, (3, 299, 299), engine, device)
        self.device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, aligned: Frames) -> Tensor:
        """Features ``[N, 2048]`` of uint8 ``[N, 224, 224, 3]`` RGB."""
        resized = [
            np.asarray(Image.fromarray(crop).resize((299, 299), Image.Resampling.BILINEAR))
            for crop in aligned
        ]
        pixels = torch.from_numpy(np.stack(resized)).to(self.device).permute(0, 3, 1, 2)
        return self.network(pixels.float() / 255).float().cpu()


class ProtocolFacesFeature:
    """:class:`~metrics.protocols.ProtocolFace` of each frame, or None."""

    name = "protocol.faces"
    requires: tuple[str, ...] = ()

    def __init__(self, faces: ProtocolFaces, version: str) -> None:
        self.faces, self.version = faces, version

    def compute(
        self, frames: Frames, given: Mapping[str, Sequence[Any]]
    ) -> list[ProtocolFace | None]:
        return self.faces(frames)

    def pack(self, values: Sequence[ProtocolFace | None]) -> dict[str, Tensor]:
        found = [v for v in values if v is not None]
        return {
            "present": torch.tensor([v is not None for v in values]),
            "arcface": torch.stack([v.arcface for v in found]) if found else torch.zeros(0, 512),
            "aligned": torch.from_numpy(
                np.stack([v.aligned for v in found]) if found else np.zeros((0, 224, 224, 3), "u1")
            ),
        }

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[ProtocolFace | None]:
        found = iter(
            ProtocolFace(e, a.numpy())
            for e, a in zip(tensors["arcface"], tensors["aligned"], strict=True)
        )
        return [next(found) if there else None for there in tensors["present"].tolist()]


class AlignedFeature:
    """A vector ``[D]`` of each frame's aligned protocol face, or None, by a model of such faces."""

    requires: tuple[str, ...] = ("protocol.faces",)
    late = True
    batch = 16
    """faces per forward pass: as fast on a CPU as more, and Inception's activations stay small"""

    def __init__(self, name: str, model: Callable[[Frames], Tensor], version: str) -> None:
        self.name, self.model, self.version = name, model, version

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Tensor | None]:
        faces: Sequence[ProtocolFace | None] = given["protocol.faces"]
        found = [f.aligned for f in faces if f is not None]
        starts = range(0, len(found), self.batch)
        rows = (row for i in starts for row in self.model(np.stack(found[i : i + self.batch])))
        return [None if f is None else next(rows) for f in faces]

    def pack(self, values: Sequence[Tensor | None]) -> dict[str, Tensor]:
        found = [v for v in values if v is not None]
        return {
            "present": torch.tensor([v is not None for v in values]),
            "rows": torch.stack(found) if found else torch.zeros(0, 0),
        }

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Tensor | None]:
        rows = iter(tensors["rows"])
        return [next(rows) if there else None for there in tensors["present"].tolist()]


@feature("protocol.faces")
def protocol_faces(networks: Networks) -> ProtocolFacesFeature:
    from importlib.metadata import version

    pack = networks.weight("insightface.buffalo_l")
    faces = ProtocolFaces(InsightFaceAnalyser(pack, networks.device))
    return ProtocolFacesFeature(faces, f"{version('insightface')}-{short_hash(pack)}")


@feature("protocol.curricular")
def curricular(networks: Networks) -> AlignedFeature:
    from metrics.features.face_backends.curricularface import load_ir101
    from metrics.features.networks.engine import compiled, engine_version

    path = networks.weight("curricularface.ir101")
    network = load_ir101(path, networks.device)
    run = compiled(network, (3, 112, 112), networks.engine, networks.device)
    embedder = CurricularEmbedder(run, networks.device)
    faces = networks.version("protocol.faces")
    version = f"{faces}-{short_hash(path)}{engine_version(networks.engine)}"
    return AlignedFeature("protocol.curricular", embedder, version)


@feature("protocol.inception")
def inception(networks: Networks) -> AlignedFeature:
    from metrics.features.networks.engine import engine_version

    path = networks.weight("inception.imagenet")
    faces = networks.version("protocol.faces")
    version = f"{faces}-{short_hash(path)}{engine_version(networks.engine)}"
    network = ConsisIDInception(path, networks.device, networks.engine)
    return AlignedFeature("protocol.inception", network, version)
