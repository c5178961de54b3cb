"""The miniature's text-video judge: do a prompt and a clip belong together?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.features.networks.text import TextAlignment
from miniature.judges.networks import TextVideoNet, fit_clips, load_weights, weights_version
from miniature.words import split_words, vocabulary

_LENGTH = 40


@lru_cache
def _index() -> dict[str, int]:
    return {word: i + 2 for i, word in enumerate(vocabulary())}


def vocabulary_size() -> int:
    """Number of tokens: padding 0, unknown 1, and the words."""
    return len(_index()) + 2


def tokenize(texts: Sequence[str]) -> Tensor:
    """Lower-case words as int64 [N, 40], 0 where padded; unknown words are 1, punctuation is left
    out, and what follows the fortieth word is dropped."""
    index = _index()
    tokens = torch.zeros(len(texts), _LENGTH, dtype=torch.int64)
    for row, text in enumerate(texts):
        words = [index.get(word, 1) for word in split_words(text)[:_LENGTH]]
        tokens[row, : len(words)] = torch.tensor(words, dtype=torch.int64)
    return tokens


class MiniatureTextVideo:
    """CLIP-style embeddings of prompts and clips of the procedural world.

    Example:
        >>> judge = MiniatureTextVideo()
        >>> judge.encode_text(["a person moves left in front of a green wall"]).shape
        torch.Size([1, 128])
    """

    name = "miniature"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.version = weights_version("text")
        self._net = load_weights(TextVideoNet(vocabulary_size()), "text", device)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed prompts: float [N, 128] on the CPU, unit length."""
        return self._net.encode_text(tokenize(texts).to(self.device)).cpu()

    @torch.inference_mode()
    def encode_video(self, clips: np.ndarray) -> Tensor:
        """Embed clips uint8 [B, T, H, W, 3]: float [B, 128] on the CPU, unit length.

        Raises:
            MetricsError: clips of another type or shape.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(fit_clips(clips)))
        parts = [self._net.encode_video(part.to(self.device)).cpu() for part in pixels.split(32)]
        return torch.cat(parts) if parts else torch.empty(0, 128)

    def align(self, videos: np.ndarray, prompts: list[str]) -> list[TextAlignment]:
        """Score clips uint8 [B, T, H, W, 3], each against its own prompt: 100 x cosine, at
        least 0.

        Raises:
            MetricsError: clips of another type or shape, or another number of prompts than clips.
        """
        if len(videos) != len(prompts):
            raise MetricsError(f"{len(videos)} clips need as many prompts, not {len(prompts)}.")
        cosines = (self.encode_video(videos) * self.encode_text(prompts)).sum(1).clamp(min=0)
        return [
            TextAlignment(None, 100 * float(cosine), len(split_words(prompt)), _LENGTH)
            for cosine, prompt in zip(cosines, prompts)
        ]
