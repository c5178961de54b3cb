"""Features of faces: where they are, how they look, whose they are; for every face backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.features.base import Networks, feature
from metrics.features.face_backends import detector_of
from metrics.features.face_backends.base import FaceBackend, Faces
from metrics.frames import Frames


@feature("faces.{backend}")
def faces(networks: Networks, backend: str) -> FacesFeature:
    return FacesFeature(networks.backend(backend))


@feature("embeddings.{backend}")
def embeddings(networks: Networks, backend: str) -> EmbeddingsFeature:
    found = networks.backend(backend)
    # A backend that the caller has made detects by itself, whatever its name.
    return EmbeddingsFeature(found, "" if networks.own(backend) else detector_of(backend))


@feature("crops.{backend}")
def crops(networks: Networks, backend: str) -> CropsFeature:
    return CropsFeature(networks.backend(backend))


class FacesFeature:
    """The faces of each frame, as :class:`~metrics.features.face_backends.base.Faces`."""

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

    def __init__(self, backend: FaceBackend, detector: str = "") -> None:
        self.backend = backend
        self.name = f"embeddings.{backend.name}"
        self.version = backend.version
        self.requires: tuple[str, ...] = (f"faces.{detector or backend.name}",)

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
