"""What models that embed prompts put out: CLIP of frames, X-CLIP of videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


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
    """:func:`metrics.text.clip_score`, None where the model has no frame embeddings"""
    video: float
    """:func:`metrics.text.video_clip_score`, or the video-text model's own"""
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
        """One alignment per video, uint8 ``[B, T, H, W, 3]``, with its own prompt."""
        ...
