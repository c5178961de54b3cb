"""What a video is conditioned on, after the encoders: text and reference images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stdrc.errors import STDRCError


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

    def whole(self) -> EncodedText:
        """Itself.

        Raises:
            STDRCError: a prompt was not read whole.
        """
        for remark in filter(None, self.remarks):
            raise not_whole(remark)
        return self

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


def not_whole(remark: str) -> STDRCError:
    """The error of a prompt that has to be read whole, from what was not."""
    return STDRCError(f"{remark[:1].upper()}{remark[1:]}; shorten it.")


@dataclass(frozen=True)
class EncodedReference:
    """Reference images after the autoencoder.

    Args:
        tokens: [B, K, h*w, C] normalised latents, K references per sample.
        height, width: the latent size h, w in patches' latents, which must be the video's.
        times: for each of the K references when it is shown, in seconds; None, and left out:
            always.
    """

    tokens: Tensor
    height: int
    width: int
    times: tuple[tuple[float, float] | None, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int | slice | Sequence[int]) -> EncodedReference:
        if isinstance(index, int):
            index = [index]
        return replace(self, tokens=self.tokens[index])

    @classmethod
    def cat(cls, parts: Sequence[EncodedReference]) -> EncodedReference:
        """Batches one behind the other; every part has the same size, number of references, times.

        Raises:
            STDRCError: references that are shown at different times.
        """
        if any(part.times != parts[0].times for part in parts):
            raise STDRCError(
                "The references of a batch are shown at different times; generate samples whose "
                "references change at other times apart."
            )
        return replace(parts[0], tokens=torch.cat([p.tokens for p in parts]))


def references_per_sample(reference: Any, count: int) -> list[Any]:
    """One entry per sample, from one image for all, several for one prompt, or one entry each.

    Raises:
        STDRCError: an empty list, or one of another length.
    """
    if not isinstance(reference, list | tuple):
        return [reference] * count
    if not reference:
        raise STDRCError("The list of references is empty; give an image, or None for none.")
    if count == 1:
        nested = len(reference) == 1 and isinstance(reference[0], list | tuple)
        return [reference[0]] if nested else [list(reference)]
    if len(reference) != count:
        raise STDRCError(f"{count} prompts need one reference or {count}, not {len(reference)}.")
    return list(reference)
