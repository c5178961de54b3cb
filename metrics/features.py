"""What the suite computes once a frame, whatever number of metrics asks for it.

A feature turns a batch of frames into one value a frame. Features may build on others (embeddings
on faces), and know how to be written to the cache and read back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from media.files import whole_file
from media.video import DECODER
from metrics.faces.base import FaceBackend, Faces, Frames
from metrics.protocols import ProtocolFace, ProtocolFaces

__all__ = [
    "AlignedFeature",
    "CropsFeature",
    "EmbeddingsFeature",
    "FacesFeature",
    "Feature",
    "FeatureCache",
    "FrameFeature",
    "PixelsFeature",
    "ProtocolFacesFeature",
]


class Feature(Protocol):
    """One value a frame."""

    name: str
    version: str
    requires: tuple[str, ...]
    """Names of the features that `compute` builds on."""

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Any]:
        """A value for each frame of uint8 ``[N, H, W, 3]``; ``given`` holds what is required."""
        ...

    def pack(self, values: Sequence[Any]) -> dict[str, Tensor]:
        """Values as tensors, for the cache."""
        ...

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """The values that `pack` packed."""
        ...


class FacesFeature:
    """The faces of each frame, as :class:`~metrics.faces.base.Faces`."""

    requires: tuple[str, ...] = ()

    def __init__(self, backend: FaceBackend) -> None:
        self.backend = backend
        self.name = f"faces.{backend.name}"
        self.version = backend.version

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Faces]:
        return self.backend.detect(frames)

    def pack(self, values: Sequence[Faces]) -> dict[str, Tensor]:
        return {
            "counts": torch.tensor([len(v) for v in values]),
            "boxes": torch.cat([v.boxes for v in values]),
            "landmarks": torch.cat([v.landmarks for v in values]),
            "scores": torch.cat([v.scores for v in values]),
        }

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Faces]:
        counts = tensors["counts"].tolist()
        parts = (tensors[k].split(counts) for k in ("boxes", "landmarks", "scores"))
        return [Faces(*part) for part in zip(*parts, strict=True)]


class EmbeddingsFeature:
    """Identity embeddings ``[n, D]`` of the faces of each frame, in the order of the faces."""

    def __init__(self, backend: FaceBackend) -> None:
        self.backend = backend
        self.name = f"embeddings.{backend.name}"
        self.version = backend.version
        self.requires: tuple[str, ...] = (f"faces.{backend.name}",)

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Tensor]:
        faces: Sequence[Faces] = given[self.requires[0]]
        crops = [self.backend.align(frame, found) for frame, found in zip(frames, faces)]
        counts = [len(c) for c in crops]
        if sum(counts) == 0:
            return [torch.zeros(0, 0) for _ in crops]
        return list(self.backend.embed(np.concatenate(crops)).split(counts))

    def pack(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        filled = [v for v in values if len(v)]
        return {
            "counts": torch.tensor([len(v) for v in values]),
            "rows": torch.cat(filled) if filled else torch.zeros(0, 0),
        }

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return list(tensors["rows"].split(tensors["counts"].tolist()))


class CropsFeature:
    """Aligned crops uint8 ``[n, S, S, 3]`` of the faces of each frame."""

    def __init__(self, backend: FaceBackend) -> None:
        self.backend = backend
        self.name = f"crops.{backend.name}"
        self.version = backend.version
        self.requires: tuple[str, ...] = (f"faces.{backend.name}",)

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Frames]:
        return [self.backend.align(f, found) for f, found in zip(frames, given[self.requires[0]])]

    def pack(self, values: Sequence[Frames]) -> dict[str, Tensor]:
        return {
            "counts": torch.tensor([len(v) for v in values]),
            "crops": torch.from_numpy(np.concatenate(values)),
        }

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Frames]:
        return [c.numpy() for c in tensors["crops"].split(tensors["counts"].tolist())]


class FrameFeature:
    """A vector ``[D]`` a frame, from a model with ``encode(frames) -> [N, D]``.

    Args:
        bgr: give the model frames with red and blue exchanged, as ConsisID's CLIPScore does.
    """

    requires: tuple[str, ...] = ()

    def __init__(self, name: str, model: Any, version: str, bgr: bool = False) -> None:
        self.name, self.model, self.version, self.bgr = name, model, version, bgr

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Tensor]:
        if self.bgr:
            frames = np.ascontiguousarray(frames[..., ::-1])
        return list(self.model.encode(frames).float().cpu())

    def pack(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"rows": torch.stack(list(values))}

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return list(tensors["rows"])


class PixelsFeature:
    """The frames themselves, for models that see a whole clip; never written to the cache."""

    name = "pixels"
    version = "1"
    requires: tuple[str, ...] = ()
    cached = False

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Frames]:
        return list(frames)

    def pack(self, values: Sequence[Frames]) -> dict[str, Tensor]:
        return {"frames_rgb": torch.from_numpy(np.stack(values))}

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Frames]:
        return list(tensors["frames_rgb"].numpy())


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

    def __init__(self, name: str, model: Callable[[Frames], Tensor], version: str) -> None:
        self.name, self.model, self.version = name, model, version

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Tensor | None]:
        faces: Sequence[ProtocolFace | None] = given["protocol.faces"]
        found = [f.aligned for f in faces if f is not None]
        rows = iter(self.model(np.stack(found)) if found else ())
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


class FeatureCache:
    """Features on disk, by the video's hash, its decoder, and the feature's name and version.

    Args:
        folder: made when the first feature is written; safe to share between processes, since a
            file is written beside its final name and renamed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def _path(self, sha256: str, name: str, version: str) -> Path:
        key = hashlib.sha256(f"{name}\0{version}\0{DECODER}".encode()).hexdigest()[:16]
        return self.folder / sha256[:2] / sha256 / f"{name}-{key}.safetensors"

    def load(self, sha256: str, name: str, version: str) -> dict[str, Tensor]:
        """What is stored, or nothing. A damaged file counts as nothing and is computed again."""
        path = self._path(sha256, name, version)
        if not path.is_file():
            return {}
        try:
            return load_file(path)
        except Exception:  # safetensors raises its own type; the file is rewritten on store
            path.unlink(missing_ok=True)
            return {}

    def store(self, sha256: str, name: str, version: str, tensors: dict[str, Tensor]) -> None:
        """Write ``tensors`` under that key, replacing what was there."""
        path = self._path(sha256, name, version)
        with whole_file(path) as part:
            save_file({k: v.contiguous() for k, v in tensors.items()}, part)
