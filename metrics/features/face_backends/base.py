"""What every face backend is: the faces of a frame, the protocol, and the geometry they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.errors import MetricsError
from metrics.frames import Frames

ARCFACE_POINTS = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float64,
)
"""Where ArcFace (arXiv 1801.07698) puts eyes, nose and mouth corners in a crop of 112 pixels."""


@dataclass(frozen=True)
class Faces:
    """The faces of one frame, largest box first.

    Attributes:
        boxes: float ``[n, 4]``, x0 y0 x1 y1 in pixels.
        landmarks: float ``[n, 5, 2]``, x y of eye, eye, nose, mouth corner, mouth corner, the
            image's left one first.
        scores: float ``[n]``, the detector's confidence in 0..1.
    """

    boxes: Tensor
    landmarks: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        n = len(self.boxes)
        shapes = (self.boxes.shape, self.landmarks.shape, self.scores.shape)
        if shapes != ((n, 4), (n, 5, 2), (n,)):
            raise MetricsError(
                "faces need boxes [n, 4], landmarks [n, 5, 2] and scores [n], not "
                + ", ".join(str(tuple(shape)) for shape in shapes)
                + "."
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def areas(self) -> Tensor:
        """Areas of the boxes in square pixels, ``[n]``."""
        size = (self.boxes[:, 2:] - self.boxes[:, :2]).clamp_min(0)
        return size[:, 0] * size[:, 1]

    def select(self, order: Tensor | Sequence[int]) -> Faces:
        """These faces only, in this order."""
        index = torch.as_tensor(order, dtype=torch.long)
        return Faces(self.boxes[index], self.landmarks[index], self.scores[index])

    @classmethod
    def none(cls) -> Faces:
        """No faces."""
        return cls(torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0))

    @classmethod
    def sorted(cls, boxes: Tensor, landmarks: Tensor, scores: Tensor) -> Faces:
        """Faces in the order that backends have to return: the largest box first."""
        faces = cls(boxes.float(), landmarks.float(), scores.float())
        return faces.select(faces.areas.argsort(descending=True, stable=True))


@dataclass(frozen=True)
class FaceFacts:
    """What a face backend says of itself before it is loaded.

    Attributes:
        detect: weights that detection needs, by their name in ``metrics.weights.WEIGHTS``.
        embed: weights that embeddings need beyond those.
        modules: Python modules beyond the package's dependencies.
        cost: per video, in words.
        quirks: for every metric that stands on it.
        detector: the backend whose detector and crops it takes, so that one detection serves both;
            empty where it has its own. Metrics of detection and of crops are the other's.
        by_default: see :class:`metrics.facts.MetricInfo`.
        anchors: see :class:`metrics.facts.Backend`.
    """

    detect: tuple[str, ...] = ()
    embed: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cost: str = ""
    quirks: str = ""
    detector: str = ""
    by_default: bool = True
    anchors: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)


@runtime_checkable
class FaceBackend(Protocol):
    """Finds faces, aligns them and turns them into identity embeddings.

    A class that is declared as a backend also has ``facts``, a :class:`FaceFacts`, and a class
    method ``load(device, weights)`` that constructs it; one that takes another's detector is given
    that backend as well, ``load(device, weights, detector)``.
    """

    name: str
    """"dlib", "facenet", "insightface", "curricularface" or a plug-in's; the score's column."""
    version: str
    """Changes whenever numbers may change: package version and weight hash."""
    crop_size: int
    """Height and width of an aligned crop in pixels."""

    def detect(self, frames: Frames) -> list[Faces]:
        """Faces of each frame, uint8 ``[T, H, W, 3]`` RGB."""
        ...

    def align(self, frame: Frames, faces: Faces) -> Frames:
        """Crops uint8 ``[n, crop_size, crop_size, 3]`` of the faces of one frame ``[H, W, 3]``."""
        ...

    def embed(self, crops: Frames) -> Tensor:
        """Embeddings ``[N, D]`` of unit length of aligned crops ``[N, S, S, 3]``."""
        ...


def similarity_transform(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray:
    """Rotation, scale and translation that take ``source`` nearest to ``target`` (least squares).

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point
    patterns"; what InsightFace's ``norm_crop`` estimates with scikit-image.

    Args:
        source: ``[n, 2]`` points.
        target: ``[n, 2]`` points.

    Returns:
        Matrix ``[2, 3]`` for ``cv2.warpAffine``.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    variance = (a**2).sum() / len(a)
    if variance == 0:
        raise MetricsError("the landmarks of a face all lie on one point; it can't be aligned.")
    u, sizes, vt = np.linalg.svd(b.T @ a / len(a))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])  # no mirroring
    rotation = (u * signs) @ vt
    scale = (sizes * signs).sum() / variance
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def align_five_points(frame: Frames, faces: Faces, size: int) -> Frames:
    """Crops ``[n, size, size, 3]`` with the five landmarks where ArcFace expects them."""
    crops = np.zeros((len(faces), size, size, 3), dtype=np.uint8)
    template = ARCFACE_POINTS * (size / 112)
    for i, points in enumerate(faces.landmarks.numpy()):
        matrix = similarity_transform(points, template)
        crops[i] = cv2.warpAffine(frame, matrix, (size, size), borderValue=0.0)
    return crops


def pad_grey(image: Frames, share: float = 0.25) -> tuple[Frames, int, int]:
    """Surround an image with mid grey, ``share`` of its height above and below and of its width
    left and right, and say by how many pixels: ``(image, left, top)``.

    Detectors trained on whole scenes miss a face that fills the picture; ConsisID's evaluation
    pads such images this way.
    """
    top, left = int(image.shape[0] * share), int(image.shape[1] * share)
    padded = cv2.copyMakeBorder(
        image, top, top, left, left, cv2.BORDER_CONSTANT, value=(128, 128, 128)
    )
    return np.asarray(padded, dtype=np.uint8), left, top


def unit_length(embeddings: Tensor) -> Tensor:
    """Rows of length 1; a zero row is an error, not a direction.

    Raises:
        MetricsError: a row is zero, NaN or infinite.
    """
    norms = embeddings.norm(dim=-1, keepdim=True)
    if not torch.isfinite(norms).all() or (norms == 0).any():
        raise MetricsError("a face embedding is zero or not finite; look at the crop it is of.")
    return embeddings / norms
