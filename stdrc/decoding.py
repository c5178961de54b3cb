"""From latents to frames and sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stdrc.encoders import ConditionEncoders


@dataclass(frozen=True)
class VideoSize:
    """In pixels, and what of it is left in the latents."""

    height: int
    width: int
    num_frames: int
    frame_rate: float
    frames: int
    rows: int
    columns: int


class LatentDecoders(ConditionEncoders):
    """The decoding methods of `STDRCPipeline`."""

    def _decode(
        self,
        latents: Tensor,
        size: VideoSize,
        generator: Any,
        decode_timestep: float,
        decode_noise_scale: float | None,
        output_type: str,
    ) -> Any:
        """[B, N, C] normalised latents to frames, one sample per pass."""
        latents = self._unpack_latents(
            latents,
            size.frames,
            size.rows,
            size.columns,
            self.transformer_spatial_patch_size,
            self.transformer_temporal_patch_size,
        )
        mean, std = self.vae.latents_mean, self.vae.latents_std
        factor = self.vae.config.scaling_factor
        if output_type == "latent":
            return self._denormalize_latents(latents, mean, std, factor)
        videos = []
        for i, sample in enumerate(latents.split(1)):
            timestep = None
            if self.vae.config.timestep_conditioning:
                scale = decode_timestep if decode_noise_scale is None else decode_noise_scale
                source = generator[i] if isinstance(generator, list) else generator
                noise = torch.randn(
                    sample.shape, generator=source, device=source.device if source else None
                )
                sample = (1 - scale) * sample + scale * noise.to(sample)
                timestep = torch.tensor([decode_timestep], device=sample.device, dtype=sample.dtype)
            sample = self._denormalize_latents(sample, mean, std, factor).to(self.vae.dtype)
            self.vae.use_tiling = self.memory.tiles(
                height=size.height, width=size.width, num_frames=size.num_frames
            )
            try:
                videos.append(self.vae.decode(sample, timestep, return_dict=False)[0])
            finally:
                self.vae.use_tiling = False  # a reference is encoded whole
        return self.video_processor.postprocess_video(torch.cat(videos), output_type=output_type)

    def _decode_audio(self, sound: Tensor, output_type: str) -> Tensor:
        """[B, M, A] normalised latents to a waveform [B, channels, samples]."""
        vae = self.audio_vae
        sound = self._denormalize_audio_latents(sound, vae.latents_mean, vae.latents_std)
        mel_bins = vae.config.mel_bins // self.audio_vae_mel_compression_ratio
        sound = self._unpack_audio_latents(sound, sound.shape[1], num_mel_bins=mel_bins)
        if output_type == "latent":
            return sound
        return self.vocoder(vae.decode(sound.to(vae.dtype), return_dict=False)[0])
