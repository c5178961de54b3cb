"""Published evaluation protocols to the letter, flaws included, so that their numbers reproduce.

ConsisID's evaluation (arXiv 2411.17440; the challenge's Face-Cur, Face-Arc, FID and CLIPScore)
and OpenS2V-Eval's FaceSim (arXiv 2505.20292). What they do that one would not expect:

- a frame without a face is *skipped*, so a video gains by hiding the face in hard frames; with no
  face in any frame the script writes 0, which for "FID" is the best value there is;
- "FID" compares two single images: covariances are 0 and what is left is the squared distance of
  Inception features (of pixels in 0..1 that torchvision's network takes to be ImageNet-normalised);
- frames reach CLIP with red and blue exchanged, sampled at ``int(i n / 16)``;
- OpenS2V-Eval drops frames that score exactly 0 from Face-Cur; for Face-Arc its test compares the
  list with 0 instead of the score, so that nothing is dropped there.

The functions take what the models put out; the classes below them are the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from metrics.faces.base import Faces, Frames, align_five_points, pad_grey

__all__ = [
    "ConsisIDInception",
    "CurricularEmbedder",
    "FaceAnalyser",
    "InsightFaceAnalyser",
    "ProtocolFace",
    "ProtocolFaces",
    "clip_frames",
    "clip_score_bgr",
    "consisid_fid",
    "consisid_frames",
    "consisid_similarity",
    "opens2v_frames",
    "opens2v_similarity",
]

Indices = NDArray[np.int64]


def consisid_frames(count: int) -> Indices:
    """The 16 frames of ConsisID's face metrics, ``linspace(0, count - 1, 16)`` rounded down."""
    return np.linspace(0, count - 1, 16).astype(np.int64)


def opens2v_frames(count: int) -> Indices:
    """The 32 frames of OpenS2V-Eval's FaceSim, ``linspace(0, count - 1, 32)`` rounded down."""
    return np.linspace(0, count - 1, 32).astype(np.int64)


def clip_frames(count: int) -> Indices:
    """The 16 frames of ConsisID's CLIPScore, ``int(i * count / 16)``; the last is never taken."""
    return np.array([int(i * count / 16) for i in range(16)], dtype=np.int64)


def consisid_similarity(frames: Sequence[Tensor | None], reference: Tensor) -> float:
    """ConsisID's Face-Cur or Face-Arc of a video.

    ``mean over frames with a face of max(0, cos(frame, reference))``; 0 without such a frame.

    Args:
        frames: embedding ``[D]`` of each sampled frame's largest face, None without one.
        reference: ``[D]``.

    Returns:
        0 to 1.

    Example:
        >>> e = torch.tensor([1.0, 0.0])
        >>> consisid_similarity([e, None, -e], e)
        0.5
    """
    scores = _clamped(frames, reference)
    return float(np.mean(scores)) if scores else 0.0


def opens2v_similarity(
    frames: Sequence[Tensor | None], reference: Tensor, *, drop_zeros: bool
) -> float:
    """OpenS2V-Eval's FaceSim of a video.

    Args:
        frames, reference: as in :func:`consisid_similarity`.
        drop_zeros: leave out frames that score exactly 0, as the script does for Face-Cur and
            means to, but doesn't, for Face-Arc.

    Returns:
        0 to 1.

    Example:
        >>> e = torch.tensor([1.0, 0.0])
        >>> opens2v_similarity([e, None, -e], e, drop_zeros=True)
        1.0
    """
    scores = [s for s in _clamped(frames, reference) if s != 0.0 or not drop_zeros]
    return float(np.mean(scores)) if scores else 0.0


def _clamped(frames: Sequence[Tensor | None], reference: Tensor) -> list[float]:
    cosine = torch.nn.functional.cosine_similarity
    return [max(0.0, cosine(reference, f, dim=-1).item()) for f in frames if f is not None]


def consisid_fid(frames: Sequence[Tensor | None], reference: Tensor) -> float:
    """ConsisID's "FID" of a video: mean squared distance of Inception features to the reference's.

    Args:
        frames: features ``[2048]`` of each sampled frame's aligned face, None without a face.
        reference: ``[2048]``, of the reference's aligned face.

    Returns:
        0 upwards; 0 also where no frame has a face.

    Example:
        >>> consisid_fid([torch.tensor([3.0, 4.0]), None], torch.zeros(2))
        25.0
    """
    distances = [float((f - reference).square().sum()) for f in frames if f is not None]
    return float(np.mean(distances)) if distances else 0.0


def clip_score_bgr(image_features: Tensor, text_features: Tensor, scale: float = 100.0) -> float:
    """ConsisID's CLIPScore: mean logit, ``scale`` times the cosine, *not* clamped at 0.

    Args:
        image_features: ``[T, D]`` of frames that were given to CLIP with red and blue exchanged.
        text_features: ``[D]`` or ``[1, D]``.
        scale: the model's logit scale; 100 for OpenAI's weights.

    Returns:
        ``-scale`` to ``scale``.
    """
    cosines = torch.nn.functional.cosine_similarity(
        image_features, text_features.reshape(1, -1), dim=-1
    )
    return float(scale * cosines.mean())


# --- models ----------------------------------------------------------------------------------


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
        MetricsError: the folder is no pack that can be loaded.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from metrics.faces.insightface import open_pack

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

    One detection a frame serves Face-Arc, Face-Cur and "FID", and ArcFace sees the faces of a
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
        image = np.ascontiguousarray(frame[..., ::-1])
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

    def __init__(self, network: torch.nn.Module, device: str | torch.device = "cpu") -> None:
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

    Raises:
        MetricsError: the file is damaged or of another network.
    """

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        from torchvision.models import inception_v3

        from metrics.extractors.loading import load_tensors

        network = inception_v3(weights=None, init_weights=False, transform_input=True)
        load_tensors(network, path)
        network.fc = torch.nn.Identity()
        self.network = network.eval().requires_grad_(False).to(device)
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
