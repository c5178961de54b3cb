"""From prompts and pictures to what the transformer reads, apart from sampling.

A sweep over guidance or placements encodes each prompt and each reference once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from diffusers.pipelines.ltx2.utils import (
    LTX2_5_T2V_DEFAULT_SYSTEM_PROMPT,
    T2V_DEFAULT_SYSTEM_PROMPT,
)
from diffusers.utils import logging
from torch import Tensor

from stdrc.adapters import TrainedAdapters
from stdrc.conditions import EncodedReference, EncodedText, not_whole
from stdrc.errors import STDRCError
from stdrc.images import Crop, ReferenceImage, reference_pixels
from stdrc.timeline import Reference, shown_when

logger = logging.get_logger(__name__)


class ConditionEncoders(TrainedAdapters):
    """The encoding methods of `STDRCPipeline`."""

    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str], *, strict: bool = False) -> EncodedText:
        """Prompts to what the transformer reads, each unique one encoded once.

        One prompt per pass, so that an embedding never depends on what else is in the batch.

        Args:
            prompts: one or B of them. Of one that is longer than the tokenizer's limit the rest is
                not read; that is warned about and kept in `remarks`.
            strict: such a prompt is refused instead.

        Raises:
            STDRCError: if `strict` and a prompt is too long, or without a text encoder.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if self.text_encoder is None or self.connectors is None:
            raise STDRCError(
                "This pipeline was loaded without its text side; give prompt_embeds and "
                "negative_prompt_embeds that another one encoded."
            )
        device = self._execution_device
        with self.memory.encoding_text(self, device):
            return self._encode_each(prompts, device, strict)

    def _encode_each(
        self, prompts: Sequence[str], device: torch.device, strict: bool
    ) -> EncodedText:
        encoded: dict[str, EncodedText] = {}
        for prompt in dict.fromkeys(prompts):
            remark = self._cut(prompt)
            if remark and strict:
                raise not_whole(remark)
            if remark:
                logger.warning("%s.", remark)
            embeds, mask, _, _ = self.encode_prompt(
                [prompt],
                do_classifier_free_guidance=False,
                max_sequence_length=self.prompt_limit,
                device=device,
            )
            video, audio, mask = self.connectors(
                embeds, mask, padding_side=self.tokenizer.padding_side
            )
            encoded[prompt] = EncodedText(video, audio, mask, (remark,))
        return EncodedText.cat([encoded[prompt] for prompt in prompts])

    @torch.no_grad()
    def rewrite_prompt(
        self, prompt: str, *, seed: int = 10, max_new_tokens: int | None = None
    ) -> str:
        """A prompt made longer by the checkpoint's language model, as diffusers' LTX-2 offers it:
        by the text encoder, or by LTX-2.5's own `prompt_enhancer`.

        Args:
            seed: of the sampling of words; diffusers' default.
            max_new_tokens: none: diffusers' own, 512 and 600.

        Raises:
            STDRCError: this checkpoint has no processor, which the model is asked through, or
                memory settings bring the model layer by layer, where diffusers moves all of it.
        """
        if self.processor is None:
            raise STDRCError(
                "Prompts can't be enhanced: this checkpoint has no processor; leave it out."
            )
        if self.memory.text == "group":
            raise STDRCError(
                "Prompts can't be enhanced with memory.text: group, as diffusers puts the whole "
                "language model on the card for it; use text: free."
            )
        dedicated = self.prompt_enhancer is not None
        system = LTX2_5_T2V_DEFAULT_SYSTEM_PROMPT if dedicated else T2V_DEFAULT_SYSTEM_PROMPT
        device = self._execution_device
        with self.memory.encoding_text(self, device):
            return self.enhance_prompt(
                prompt, system, max_new_tokens=max_new_tokens, seed=seed, device=device
            )[0]

    @property
    def prompt_limit(self) -> int:
        """Tokens of a prompt that the model reads."""
        return min(self.tokenizer_max_length, 1024)

    def _cut(self, prompt: str) -> str:
        """What is lost of a prompt, in words; "" where nothing is."""
        tokens = self.tokenizer(prompt.strip(), truncation=False).input_ids
        if len(tokens) <= self.prompt_limit:
            return ""
        lost = self.tokenizer.decode(tokens[self.prompt_limit :][:8], skip_special_tokens=True)
        return (
            f"the prompt has {len(tokens)} tokens and the model reads {self.prompt_limit}; what "
            f"follows from {lost.strip()!r} on is not read"
        )

    @torch.no_grad()
    def encode_reference(
        self,
        references: Sequence[ReferenceImage | Sequence[ReferenceImage]],
        height: int,
        width: int,
        *,
        crop: Crop | None = None,
        boxes: Any = None,
        downscale: int = 1,
    ) -> EncodedReference:
        """Reference images to clean latent tokens.

        Args:
            references: one entry per sample, an image or several; the same number everywhere.
                An image may be a `Reference`, which says when it is shown.
            height, width: the video's size in pixels.
            crop: "none", "face" or "head"; none: as the checkpoint was trained. One that doesn't
                say takes the whole picture, or the face where there are boxes.
            boxes: of what `crop` says: a detector, called as detector(uint8 [H, W, 3]) -> [n, 4]
                x0, y0, x1, y1 in pixels; or a box for each image, nested as `references` are.
            downscale: the reference is encoded at 1/downscale of the video's size, for placements
                with that factor.

        Raises:
            STDRCError: sizes, images or boxes that can't be used, or boxes that nothing is cut to.
        """
        self._check_size(height, width)
        samples = [list(r) if isinstance(r, list | tuple) else [r] for r in references]
        times = [tuple(shown_when(r) for r in sample) for sample in samples]
        samples = [[r.image if isinstance(r, Reference) else r for r in s] for s in samples]
        counts = {len(sample) for sample in samples}
        if len(counts) != 1 or 0 in counts:
            raise STDRCError(
                "Every sample of a batch takes the same number of references, at least one; "
                f"given: {sorted(counts)}."
            )
        if any(its != times[0] for its in times):
            raise STDRCError(
                "The references of a batch are shown at different times; generate samples whose "
                "references change at other times apart."
            )
        crop = self._resolve_crop(crop, boxes)
        found = _nested(boxes, samples)
        self._check_size(height, width, downscale=downscale)
        size = (height // downscale, width // downscale)
        tokens = [
            torch.cat(
                [
                    self._encode_image(reference_pixels(image, *size, crop=crop, boxes=box))
                    for image, box in zip(sample, its)
                ]
            )
            for sample, its in zip(samples, found)
        ]
        scale = self.vae_spatial_compression_ratio
        rows, columns = (side // scale for side in size)
        return EncodedReference(torch.stack(tokens), rows, columns, times[0])

    def _resolve_crop(self, crop: Crop | None, boxes: Any) -> Crop:
        trained = self.trained_crop
        if crop is not None and crop not in get_args(Crop):
            raise STDRCError(f"The crop is 'none', 'face' or 'head', not {crop!r}.")
        if None not in (crop, trained) and crop != trained:
            logger.warning(
                "This checkpoint was trained on references cut to '%s'; '%s' is another picture "
                "than it has seen.",
                trained,
                crop,
            )
        resolved = crop or trained or ("none" if boxes is None else "face")
        why = "" if crop else ", as the checkpoint was trained"
        if resolved == "none" and boxes is not None:
            raise STDRCError(
                f"The face boxes or detector would do nothing: the crop is 'none'{why}; leave them "
                "out or set the crop."
            )
        if resolved != "none" and boxes is None:
            raise STDRCError(
                f"The reference is cut to the {resolved}{why}, and nothing says where it is; "
                "give a detector or boxes."
            )
        return resolved  # type: ignore[return-value]  # one of them by now

    def _encode_image(self, pixels: Tensor) -> Tensor:
        """[3, 1, H, W] in -1..1 -> [1, h*w, C], the mode of the posterior, normalised."""
        pixels = pixels[None].to(device=self._execution_device, dtype=self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode().float()
        latents = self._normalize_latents(
            latents, self.vae.latents_mean, self.vae.latents_std, self.vae.config.scaling_factor
        )
        return self._pack_latents(
            latents, self.transformer_spatial_patch_size, self.transformer_temporal_patch_size
        )

    def _check_size(
        self, height: int, width: int, num_frames: int | None = None, *, downscale: int = 1
    ) -> None:
        unit = self.vae_spatial_compression_ratio * self.transformer_spatial_patch_size * downscale
        for name, value in (("height", height), ("width", width)):
            if value <= 0 or value % unit:
                near = max(unit, round(value / unit) * unit)
                raise STDRCError(
                    f"The {name} must be a multiple of {unit} pixels, not {value}; use {near}."
                )
        if num_frames is not None:
            unit = self.vae_temporal_compression_ratio
            if num_frames < 1 or (num_frames - 1) % unit:
                near = max(0, round((num_frames - 1) / unit)) * unit + 1
                raise STDRCError(
                    f"The number of frames must be {unit}k+1, not {num_frames}; use {near}."
                )


def _nested(boxes: Any, samples: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """A detector, or a box, for each image of each sample."""
    if boxes is None or callable(boxes):
        return [[boxes] * len(sample) for sample in samples]
    found = []
    for i, sample in enumerate(samples):
        its = boxes[i] if len(boxes) == len(samples) else None
        if its is not None and len(sample) == 1 and torch.as_tensor(its).ndim == 1:
            its = [its]
        if its is None or len(its) != len(sample):
            raise STDRCError(
                f"Sample {i + 1} has {len(sample)} references and needs as many boxes, nested as "
                "the references are."
            )
        found.append(list(its))
    return found
