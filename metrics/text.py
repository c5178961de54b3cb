"""How well a video shows its prompt, by models that embed both.

CLIP sees single frames: the score is the mean over frames, and beside it that of the mean frame.
X-CLIP sees the video and conditions the text on it, so it gives one number. A prompt longer than
the model's context is cut, and a score of a cut prompt is a score of another prompt: the number of
tokens and the limit come with every value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from metrics.errors import MetricsError

__all__ = [
    "METRICS",
    "CLIPScore",
    "ImageTextModel",
    "TextAlignment",
    "TextFeatures",
    "VideoTextModel",
    "clip_score",
    "text_alignment",
    "video_clip_score",
]

METRICS = {
    "text.clip_score": {
        "label": "CLIP score",
        "higher_is_better": True,
        "range": (0.0, 100.0),
    },
    "text.clip_score_video": {
        "label": "CLIP score of the mean frame",
        "higher_is_better": True,
        "range": (0.0, 100.0),
    },
    "text.xclip_score": {
        "label": "X-CLIP score",
        "higher_is_better": True,
        "range": (0.0, 100.0),
    },
}


@dataclass(frozen=True)
class TextFeatures:
    """Embedded prompts, with what the tokenizer made of them."""

    features: Tensor
    """``[B, D]``"""
    tokens: tuple[int, ...]
    """tokens of each whole prompt, start and end included"""
    limit: int
    """tokens that the model reads; the rest was cut"""

    @property
    def truncated(self) -> tuple[bool, ...]:
        return tuple(count > self.limit for count in self.tokens)


@dataclass(frozen=True)
class TextAlignment:
    """The score of one video against its prompt."""

    frames: float | None
    """:func:`clip_score`, None where the model has no frame embeddings"""
    video: float
    """:func:`video_clip_score`, or the video-text model's own"""
    tokens: int
    limit: int

    @property
    def truncated(self) -> bool:
        return self.tokens > self.limit


@runtime_checkable
class ImageTextModel(Protocol):
    """Embeds frames and prompts in one space: CLIP."""

    name: str
    version: str

    def encode(self, frames: NDArray[np.uint8]) -> Tensor:
        """Features ``[N, D]`` of RGB frames, uint8 ``[N, H, W, 3]``."""
        ...

    def encode_text(self, prompts: list[str]) -> TextFeatures:
        """Features ``[B, D]`` of prompts."""
        ...


@runtime_checkable
class VideoTextModel(Protocol):
    """Compares whole videos with prompts: X-CLIP."""

    name: str
    version: str

    def align(self, videos: NDArray[np.uint8], prompts: list[str]) -> list[TextAlignment]:
        """One alignment a video, uint8 ``[B, T, H, W, 3]``, with its own prompt."""
        ...


def _check(frame_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
    frame_features = torch.as_tensor(frame_features).detach()
    text_features = torch.as_tensor(text_features).detach().reshape(-1)
    if frame_features.ndim != 2 or 0 in frame_features.shape:
        raise MetricsError(
            f"frame features must be a matrix [frames, dimensions], not of shape "
            f"{tuple(frame_features.shape)}; pass one feature vector a frame."
        )
    if frame_features.shape[1] != len(text_features):
        raise MetricsError(
            f"frames have {frame_features.shape[1]} dimensions and the text has "
            f"{len(text_features)}; both must come from the same model, the text of one prompt."
        )
    text_features = text_features.to(frame_features.device)
    if not (torch.isfinite(frame_features).all() and torch.isfinite(text_features).all()):
        raise MetricsError("features hold NaN or infinite values; look at what they are of.")
    return frame_features.float(), text_features.float()


def clip_score(frame_features: Tensor, text_features: Tensor) -> float:
    """CLIP score: ``max(0, mean_i 100 cos(f_i, t))`` over a video's frames.

    As torchmetrics' CLIPScore of the frames, each with the prompt (Hessel et al. 2021, arXiv
    2104.08718, without its factor of 2.5 and clamped over the video rather than each frame).

    Args:
        frame_features: ``[T, D]``, of any length.
        text_features: ``[D]`` or ``[1, D]``.

    Returns:
        0 to 100.

    Raises:
        MetricsError: other shapes, NaN.

    Example:
        >>> import torch
        >>> frames = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> clip_score(frames, torch.tensor([1.0, 0.0]))
        50.0
    """
    frames, text = _check(frame_features, text_features)
    return max(0.0, float(F.cosine_similarity(frames, text[None], dim=1).double().mean() * 100))


def video_clip_score(frame_features: Tensor, text_features: Tensor) -> float:
    """CLIP score of the mean frame: ``max(0, 100 cos(mean_i f_i / |f_i|, t))``.

    Averaging takes out what changes from frame to frame, so it is never below the frames' score
    by more than rounding where that is positive.

    Args, raises: as :func:`clip_score`.

    Returns:
        0 to 100.

    Example:
        >>> import torch
        >>> frames = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> round(video_clip_score(frames, torch.tensor([1.0, 0.0])), 3)
        70.711
    """
    frames, text = _check(frame_features, text_features)
    mean = F.normalize(frames, dim=1).mean(dim=0)
    return max(0.0, float(F.cosine_similarity(mean, text, dim=0).double() * 100))


def text_alignment(
    model: ImageTextModel | VideoTextModel, frames: NDArray[np.uint8], prompt: str
) -> TextAlignment:
    """Score one video against its prompt with any text model.

    Args:
        model: CLIP or a video-text model.
        frames: RGB, uint8 ``[T, H, W, 3]``.
        prompt: the whole prompt; what the model cuts shows in ``tokens`` and ``limit``.

    Returns:
        The scores, 0 to 100, with the token count.

    Example:
        >>> import numpy as np, torch
        >>> class Colours:  # embeds a frame as its mean colour, and three words
        ...     name, version = "colours", "1"
        ...     def encode(self, frames):
        ...         return torch.from_numpy(frames).float().mean(dim=(1, 2))
        ...     def encode_text(self, prompts):
        ...         words = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}
        ...         return TextFeatures(torch.tensor([words[p] for p in prompts]), (1,), 1)
        >>> red = np.zeros((2, 4, 4, 3), dtype=np.uint8)
        >>> red[..., 0] = 255
        >>> text_alignment(Colours(), red, "red")
        TextAlignment(frames=100.0, video=100.0, tokens=1, limit=1)
    """
    if isinstance(model, VideoTextModel):
        return model.align(frames[None], [prompt])[0]
    features = model.encode(frames)
    text = model.encode_text([prompt])
    return TextAlignment(
        clip_score(features, text.features),
        video_clip_score(features, text.features),
        text.tokens[0],
        text.limit,
    )


class CLIPScore(Metric):
    """Mean of :func:`text_alignment` over videos, each with its prompt.

    ``truncated`` counts the prompts that were cut.

    Args:
        model: CLIP or a video-text model.
        of: ``"frames"`` for the mean over frames, ``"video"`` for the mean frame or the video-text
            model's score.

    Raises:
        MetricsError: ``"frames"`` asked of a model without frame embeddings, at ``update``.

    Example:
        >>> import numpy as np, torch
        >>> class Colours:
        ...     name, version = "colours", "1"
        ...     def encode(self, frames):
        ...         return torch.from_numpy(frames).float().mean(dim=(1, 2))
        ...     def encode_text(self, prompts):
        ...         words = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}
        ...         return TextFeatures(torch.tensor([words[p] for p in prompts]), (1,), 1)
        >>> red = np.zeros((2, 4, 4, 3), dtype=np.uint8)
        >>> red[..., 0] = 255
        >>> metric = CLIPScore(Colours())
        >>> metric.update(red, "red")
        >>> metric.update(red, "blue")
        >>> float(metric.compute())
        50.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    score_sum: Tensor
    videos: Tensor
    truncated: Tensor

    def __init__(
        self,
        model: ImageTextModel | VideoTextModel,
        of: Literal["frames", "video"] = "frames",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if of not in ("frames", "video"):
            raise MetricsError(f"of is {of!r}; use 'frames' or 'video'.")
        self.model, self.of = model, of
        self.add_state("score_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("videos", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("truncated", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, frames: NDArray[np.uint8], prompt: str) -> None:
        """Add one video, RGB uint8 ``[T, H, W, 3]``, and its prompt."""
        alignment = text_alignment(self.model, frames, prompt)
        score = alignment.frames if self.of == "frames" else alignment.video
        if score is None:
            raise MetricsError(
                f"{self.model.name} has no score for single frames; use CLIPScore(..., of='video')."
            )
        self.score_sum += score
        self.videos += 1
        self.truncated += int(alignment.truncated)

    def compute(self) -> Tensor:
        if self.videos == 0:
            raise MetricsError("CLIPScore has seen no video; update it first.")
        return self.score_sum / self.videos
