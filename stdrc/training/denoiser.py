"""The trained module: LTX-2's transformer called on noisy video tokens and clean reference tokens.

It is a thin `nn.Module` around diffusers' transformer (and connectors, where they are trained), so
that DDP and FSDP have one module to wrap. It changes no weight's name, and adds parameters only
where a head for the identity alignment is asked for.
"""

from __future__ import annotations

import re
from typing import Any

from diffusers import LTX2Pipeline, LTX2VideoTransformer3DModel
from torch import Tensor, nn

from stdrc.sequence import TokenSequence

# What a video-only pass with isolated modalities never reaches on its way to the video's velocity.
_NOT_VIDEO = re.compile(r"(^|[._])(audio|a2v|v2a|av_cross_attn)[._]|video_to_audio|audio_to_video")


def pack(latents: Tensor, transformer: LTX2VideoTransformer3DModel) -> Tensor:
    """Latents [B, C, F, H, W] as tokens [B, N, C * patch volume], as the pipeline packs them."""
    config = transformer.config
    return LTX2Pipeline._pack_latents(latents, config.patch_size, config.patch_size_t)


def unpack(
    tokens: Tensor, frames: int, height: int, width: int, transformer: LTX2VideoTransformer3DModel
) -> Tensor:
    """Tokens [B, N, D] as latents [B, C, F, H, W]; the sizes are of the latent."""
    config = transformer.config
    p, pt = config.patch_size, config.patch_size_t
    return LTX2Pipeline._unpack_latents(tokens, frames // pt, height // p, width // p, p, pt)


def is_video_parameter(name: str) -> bool:
    """Whether a parameter of the transformer or the connectors can receive a gradient here."""
    return _NOT_VIDEO.search(name) is None


class Denoiser(nn.Module):
    """Velocity of the video tokens, given text and an optional reference in the sequence.

    Args:
        transformer: diffusers' LTX-2.x transformer.
        connectors: only where they are trained; the text then comes from before them.
        padding_side: the tokenizer's, which LTX-2.0 connectors need to know.
        head, layer: reads the features after block `layer`, for the identity alignment.
    """

    def __init__(
        self,
        transformer: LTX2VideoTransformer3DModel,
        connectors: nn.Module | None = None,
        *,
        padding_side: str = "left",
        head: nn.Module | None = None,
        layer: int = 0,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.connectors = connectors
        self.padding_side = padding_side
        self.head = head
        self._features: Tensor | None = None
        if head is not None:
            transformer.transformer_blocks[layer].register_forward_hook(self._keep_features)

    def _keep_features(self, _block: nn.Module, _inputs: Any, outputs: Any) -> None:
        self._features = outputs[0]  # the second are the audio's

    def forward(
        self,
        video: Tensor,
        sigmas: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        reference: Tensor | None,
        sequence: TokenSequence,
    ) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            video: [B, N, D] noisy video tokens.
            sigmas: [B] their noise levels in 0..1.
            text: [B, L, E].
            text_mask: [B, L] or None where every token counts.
            reference: [B, R, D] clean reference tokens or None.
            sequence: where the N tokens of the video and the R of the reference stand.

        Returns:
            [B, N, D] velocity, noise minus clean; and what the head, where there is one, reads from
            the tokens' features, [B, N + R, E].
        """
        if self.connectors is not None:
            text, _, text_mask = self.connectors(text, text_mask, padding_side=self.padding_side)
            if self.connectors.config.video_connector_num_learnable_registers is not None:
                text_mask = None  # registers have filled the padding: every token counts

        # The audio branch is cut off from the video, so what it holds and reads does not matter.
        config, batch = self.transformer.config, len(video)
        audio_width = (
            config.caption_channels
            if config.use_prompt_embeddings
            else config.audio_cross_attention_dim
        )
        velocity, _ = sequence.velocities(
            self.transformer,
            video,
            reference,
            sigmas,
            audio_hidden_states=video.new_zeros(batch, 1, config.audio_in_channels),
            encoder_hidden_states=text,
            audio_encoder_hidden_states=text.new_zeros(batch, 1, audio_width),
            encoder_attention_mask=text_mask,
            audio_encoder_attention_mask=None,
            audio_num_frames=1,
            isolate_modalities=True,
        )
        read = None
        if self.head is not None:
            read, self._features = self.head(self._features), None
        return velocity, read
