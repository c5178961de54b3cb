"""Published evaluation protocols as published, including their bugs, so that numbers reproduce.

ConsisID's evaluation (arXiv 2411.17440; the challenge's Face-Cur, Face-Arc, FID and CLIPScore)
and OpenS2V-Eval's FaceSim (arXiv 2505.20292). What they do that one would not expect:

- a frame without a face is *skipped*, so a video gains by hiding the face in hard frames; with no
  face in any frame the script writes 0, which for "FID" is the best value there is;
- "FID" compares two single images: covariances are 0 and what is left is the squared distance of
  Inception features (of pixels in 0..1 that torchvision's network takes to be ImageNet-normalised);
- frames reach CLIP with red and blue exchanged, sampled at ``int(i n / 16)``;
- OpenS2V-Eval drops frames that score exactly 0 from Face-Cur; for Face-Arc its test compares the
  list with 0 instead of the score, so that nothing is dropped there.

The functions take what the models put out (`metrics.features.protocol`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.errors import MetricsError, NoFaceError
from metrics.facts import register
from metrics.features.frames import text_model
from metrics.metric import Result, Video, VideoMetric, cut_prompt

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


# --- metrics -----------------------------------------------------------------------------------

_CONSISID = "ConsisID evaluation, arXiv 2411.17440"
_OPENS2V = "OpenS2V-Eval, arXiv 2505.20292"
_SKIPS = "frames without a face are skipped; without any face the value is 0"
_EXIF = "the script ignores a photograph's EXIF orientation, which is applied here"
_PACK = ("insightface.buffalo_l",)
_COMMON: dict[str, Any] = {
    "family": "identity",
    "needs": ("reference",),
    "modules": ("insightface", "onnxruntime"),
    "cost": "a detection and an embedding per frame, shared by the protocols",
}
_OF_CONSISID = {"source": _CONSISID, "frames": "16, linspace", "backend": "consisid", **_COMMON}
_OF_OPENS2V = {"source": _OPENS2V, "frames": "32, linspace", "backend": "opens2v", **_COMMON}


class _FaceProtocol(VideoMetric):
    """Base of the published protocols on the largest face of each frame."""

    samples = False
    feature: ClassVar[str] = "protocol.faces"

    def prepare(self) -> None:
        self.features = (self.feature,)

    def indices(self, count: int) -> Indices:
        return np.unique(consisid_frames(count))

    def frames(self, count: int) -> Indices:
        """The frames as the script takes them, repeats and all, for a video of ``count``."""
        return consisid_frames(count)

    def vectors(self, values: Sequence[Any]) -> list[Tensor | None]:
        """Embeddings of each frame's face, None without one."""
        return list(values)

    def measure(self, video: Video) -> Result:
        if not video.references:
            raise MetricsError(f"{type(self).__name__} needs a reference; pass an image.")
        picture = video.references[0]
        reference = self.vectors([picture.feature(self.feature)])[0]
        if reference is None:
            raise NoFaceError(
                f"no face was found in {picture.label}; the script gives no number either."
            )
        taken = self.frames(video.count)
        frames = self.vectors(video.get(self.feature, taken))
        found = sum(f is not None for f in frames)
        reason = "" if found else "no sampled frame has a face; the script writes 0 then"
        detail = {"frames": len(frames), "frames_with_face": found}
        return Result(self.value(frames, reference), detail, reason)

    def value(self, frames: Sequence[Tensor | None], reference: Tensor) -> float:
        """The script's formula."""
        return consisid_similarity(frames, reference)


@register(
    "consisid.face_arc",
    label="Face-Arc (ConsisID)",
    formula="mean over frames with a face of max(0, cos(ArcFace of the largest face, reference))",
    quirks=f"{_SKIPS}; {_EXIF}",
    weights=_PACK,
    **_OF_CONSISID,
)
class ConsisIDArc(_FaceProtocol):
    """ConsisID's Face-Arc: :func:`consisid_similarity` of ArcFace embeddings."""

    def vectors(self, values: Sequence[Any]) -> list[Tensor | None]:
        return [None if face is None else face.arcface for face in values]


@register(
    "consisid.face_cur",
    label="Face-Cur (ConsisID)",
    formula="the same with CurricularFace on faces aligned at 224 and resized to 112",
    quirks=f"{_SKIPS}; {_EXIF}",
    weights=(*_PACK, "curricularface.ir101"),
    **_OF_CONSISID,
)
class ConsisIDCur(_FaceProtocol):
    """ConsisID's Face-Cur: :func:`consisid_similarity` of CurricularFace embeddings."""

    feature = "protocol.curricular"


@register(
    "consisid.fid",
    label="FID (ConsisID)",
    formula="mean over frames with a face of |Inception(aligned face) - Inception(reference)|^2",
    quirks="not a Frechet distance: single images have no covariance; pixels aren't normalised; "
    f"a video without any face gets 0, the best value; {_EXIF}",
    weights=(*_PACK, "inception.imagenet"),
    range=(0.0, None),
    higher_is_better=False,
    **{**_OF_CONSISID, "family": "distribution"},
)
class ConsisIDFid(_FaceProtocol):
    """ConsisID's "FID": :func:`consisid_fid`."""

    feature = "protocol.inception"

    def value(self, frames: Sequence[Tensor | None], reference: Tensor) -> float:
        return consisid_fid(frames, reference)


@register(
    "opens2v.facesim_arc",
    label="FaceSim-Arc (OpenS2V-Eval)",
    formula="mean over frames with a face of max(0, cos(ArcFace of the largest face, reference))",
    quirks=_SKIPS + "; frames that score 0 stay in the mean, since the script's test for them "
    "compares the list",
    weights=_PACK,
    **_OF_OPENS2V,
)
class OpenS2VArc(ConsisIDArc):
    """OpenS2V-Eval's FaceSim-Arc: :func:`opens2v_similarity` of ArcFace embeddings."""

    drop_zeros: ClassVar[bool] = False

    def indices(self, count: int) -> Indices:
        return np.unique(opens2v_frames(count))

    def frames(self, count: int) -> Indices:
        return opens2v_frames(count)

    def value(self, frames: Sequence[Tensor | None], reference: Tensor) -> float:
        return opens2v_similarity(frames, reference, drop_zeros=self.drop_zeros)


@register(
    "opens2v.facesim_cur",
    label="FaceSim-Cur (OpenS2V-Eval)",
    formula="the same with CurricularFace on faces aligned at 224 and resized to 112",
    quirks=_SKIPS + "; frames that score exactly 0 are dropped as well",
    weights=(*_PACK, "curricularface.ir101"),
    **_OF_OPENS2V,
)
class OpenS2VCur(OpenS2VArc):
    """OpenS2V-Eval's FaceSim-Cur: :func:`opens2v_similarity` of CurricularFace embeddings."""

    feature = "protocol.curricular"
    drop_zeros = True

    def vectors(self, values: Sequence[Any]) -> list[Tensor | None]:
        return list(values)


@register(
    "consisid.clip_score",
    label="CLIPScore (ConsisID)",
    formula="mean over frames of 100 cos(CLIP ViT-B/32 of the frame, of the prompt)",
    source=_CONSISID,
    family="text",
    backend="consisid",
    quirks="frames are given in BGR order and sampled at int(i n / 16), never the last; the "
    "prompt is cut at 77 tokens",
    range=(-100.0, 100.0),
    frames="16, int(i n / 16)",
    cost="a CLIP pass per frame",
    needs=("prompt",),
    weights=("clip.vit_b32",),
)
class ConsisIDClip(VideoMetric):
    """ConsisID's CLIPScore: :func:`clip_score_bgr`."""

    samples = False
    features = ("clip.bgr",)

    def indices(self, count: int) -> Indices:
        return np.unique(clip_frames(count))

    def measure(self, video: Video) -> Result:
        text = text_model(self.models, "clip").encode_text([self.prompt_of(video)])
        rows = torch.stack(video.get("clip.bgr", clip_frames(video.count)))
        value = clip_score_bgr(rows, text.features.float().cpu())
        tokens, limit = text.tokens[0], text.limit
        detail = {"tokens": tokens, "token_limit": limit}
        return Result(value, detail, cut_prompt(tokens, limit))
