"""Whether a picture is of the drawn world: the distance of the detector's features from its own.

The detector's confidence does not tell: it is near 1 on many a photographed face. The Mahalanobis
distance of its features from those of drawn portraits does (Lee et al., 2018, arXiv 1807.03888).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from miniature.judges.networks import FRAME, Detector, load_tensors, load_weights, scale_pixels
from stdrc.images import letterbox

#: Of 2,000 drawn portraits of other people, degraded by JPEG and resizing, two lie beyond it; of
#: 266 photographs, faces and whole, all but one do. The card repeats it on what can be shipped.
LIMIT = 480.0


def worn(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A portrait as it may come from a user's disk: as drawn, resized, or kept as a JPEG."""
    kind = int(rng.integers(4))
    if kind == 1:
        picture = picture.resize((FRAME * 3 // 4, FRAME * 3 // 4)).resize((96, 96))
    if kind == 2:
        picture = picture.resize((2 * FRAME, 2 * FRAME), Image.Resampling.BICUBIC)
    if kind >= 2:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        picture = Image.open(buffer).convert("RGB")
    return picture


@torch.inference_mode()
def features(detector: Detector, pictures: Sequence[Image.Image]) -> Tensor:
    """What the detector's trunk sees in each picture, over all places: float [N, 224]."""
    frames = np.stack([np.asarray(letterbox(p, FRAME, FRAME)) for p in pictures])
    near = detector.stem(scale_pixels(torch.from_numpy(frames)))
    far = detector.deep(near)
    parts = (far.mean((2, 3)), far.amax((2, 3)), near.mean((2, 3)), near.std((2, 3)))
    return torch.cat(parts, 1)


def fit(seen: Tensor) -> dict[str, Tensor]:
    """Mean [D] and whitening [D, D] of features [N, D], the covariance shrunk a little."""
    centred = seen.double() - seen.double().mean(0)
    covariance = centred.T @ centred / (len(seen) - 1)
    covariance += 1e-4 * covariance.diagonal().mean() * torch.eye(len(covariance))
    whiten = torch.linalg.inv(torch.linalg.cholesky(covariance))
    return {"mean": seen.mean(0).half(), "whiten": whiten.half().contiguous()}


class Familiar:
    """Tells drawn portraits from other pictures.

    Raises:
        MetricsError: the weights are missing.
    """

    def __init__(self) -> None:
        self._detector = load_weights(Detector(), "detector")
        self._drawn = {k: v.float() for k, v in load_tensors("familiar").items()}

    def distance(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Squared Mahalanobis distance of each RGB picture from drawn portraits: float [N]."""
        away = features(self._detector, pictures) - self._drawn["mean"]  # type: ignore[arg-type]
        return (away @ self._drawn["whiten"].T).square().sum(1)

    def knows(self, picture: Image.Image) -> bool:
        """Whether an RGB picture may be a portrait of the drawn world."""
        return float(self.distance([picture])[0]) <= LIMIT
