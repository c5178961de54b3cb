"""What a video is conditioned on, after the encoders: text and reference images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncodedText:
    """Prompts after the text encoder and the connectors: all that the transformer reads of them.

    Args:
        video: [B, L, D] embeddings for the video stream.
        audio: [B, L, D_audio] embeddings for the audio stream.
        mask: [B, L] 1 where a token counts.
        remarks: for each prompt what of it was not read, in words; "" where all was.
    """

    video: Tensor
    audio: Tensor
    mask: Tensor
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.remarks:
            object.__setattr__(self, "remarks", ("",) * len(self.video))

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, index: int | slice | Sequence[int]) -> EncodedText:
        if isinstance(index, int):
            index = [index]
        remarks = tuple(
            self.remarks[index] if isinstance(index, slice) else [self.remarks[i] for i in index]
        )
        return EncodedText(self.video[index], self.audio[index], self.mask[index], remarks)

    @classmethod
    def cat(cls, parts: Sequence[EncodedText]) -> EncodedText:
        """Batches one behind the other."""
        return cls(
            torch.cat([p.video for p in parts]),
            torch.cat([p.audio for p in parts]),
            torch.cat([p.mask for p in parts]),
            tuple(remark for p in parts for remark in p.remarks),
        )


@dataclass(frozen=True)
class EncodedReference:
    """Reference images after the autoencoder.

    Args:
        tokens: [B, K, h*w, C] normalised latents, K references a sample.
        height, width: the latent size h, w in patches' latents, which must be the video's.
    """

    tokens: Tensor
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int | slice | Sequence[int]) -> EncodedReference:
        if isinstance(index, int):
            index = [index]
        return EncodedReference(self.tokens[index], self.height, self.width)

    @classmethod
    def cat(cls, parts: Sequence[EncodedReference]) -> EncodedReference:
        """Batches one behind the other; every part has the same size and number of references."""
        return cls(torch.cat([p.tokens for p in parts]), parts[0].height, parts[0].width)
