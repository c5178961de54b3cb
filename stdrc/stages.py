"""From noise to latents: one stage of denoising, and a second one at twice the size.

The second stage is Lightricks': a trained network enlarges the latents, noise is added back up to
the first of three levels, and the distilled model walks down them. Whether the reference is in the
second stage's sequence too is said by `Upscale.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.utils import STAGE_2_DISTILLED_SIGMA_VALUES
from torch import Tensor

from stdrc.conditions import EncodedReference, EncodedText
from stdrc.decoding import LatentDecoders, VideoSize
from stdrc.errors import STDRCError
from stdrc.guidance import ThreeStreamGuidance
from stdrc.positions import ReferencePlacement
from stdrc.sampling import GuidedVelocity, Sampler, noise_levels
from stdrc.timeline import BlendedVelocity, Event, timed_velocity

_UNGUIDED = ThreeStreamGuidance(1.0, 1.0)


class _Interrupted(Exception):
    """A callback set `pipe._interrupt`: the state reached is the result."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


@dataclass(frozen=True)
class Upscale:
    """A second stage at twice the height and width.

    Args:
        upsampler: enlarges latents; `Upscale.load` reads one.
        reference: "keep" encodes the reference at the full size for the second stage too, "leave"
            goes by the first stage's video alone.
        sigmas: noise levels of the second stage, descending; 0 is added.
        guidance: of the second stage; none, since its levels are the distilled model's.
        reference_latents: of the full size, where those of the first stage are given encoded.
    """

    upsampler: LTX2LatentUpsamplerModel
    reference: Literal["keep", "leave"] = "keep"
    sigmas: tuple[float, ...] = tuple(STAGE_2_DISTILLED_SIGMA_VALUES)
    guidance: ThreeStreamGuidance = _UNGUIDED
    reference_latents: EncodedReference | None = None

    def __post_init__(self) -> None:
        if self.reference not in ("keep", "leave"):
            raise STDRCError(f"Upscale 'reference' is keep or leave, not {self.reference!r}.")

    @classmethod
    def load(cls, path: str | Path, **kwargs: Any) -> Upscale:
        """With the upsampler of a folder or a hub id, its own or in `latent_upsampler/` of it.

        Raises:
            STDRCError: there is none, or it doesn't double height and width alone.
        """
        folder = Path(path)
        inner = not folder.exists() or (folder / "latent_upsampler").is_dir()
        part = {"subfolder": "latent_upsampler"} if inner else {}
        try:
            upsampler = LTX2LatentUpsamplerModel.from_pretrained(
                str(path), use_safetensors=True, **part
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise STDRCError(f"{path} holds no latent upsampler ({reason}).") from error
        config = upsampler.config
        scale = config.rational_spatial_scale if config.use_rational_resampler else 2.0
        if not config.spatial_upsample or config.temporal_upsample or scale != 2.0:
            raise STDRCError(
                f"The upsampler of {path} doesn't double height and width alone; give the spatial "
                "one with a factor of 2."
            )
        return cls(upsampler, **kwargs)


class Stages(LatentDecoders):
    """The denoising methods of `STDRCPipeline`."""

    def _noise(
        self,
        count: int,
        size: VideoSize,
        generator: Any,
        latents: Tensor | None,
        audio: bool,
        audio_latents: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Starting points [B, N, C] of the video and, with `audio`, [B, M, A] of the sound."""
        shared = {"dtype": torch.float32, "device": self._execution_device, "generator": generator}
        latents = self.prepare_latents(
            count,
            self.transformer.config.in_channels,
            size.height,
            size.width,
            size.num_frames,
            latents=latents,
            **shared,
        )
        if not audio:
            if audio_latents is not None:
                raise STDRCError("audio_latents would do nothing: audio is off; set audio=True.")
            return latents, None
        rate = self.audio_sampling_rate / self.audio_hop_length
        rate /= self.audio_vae_temporal_compression_ratio
        sound = self.prepare_audio_latents(
            count,
            num_channels_latents=self.audio_vae.config.latent_channels,
            audio_latent_length=round(size.num_frames / size.frame_rate * rate),
            num_mel_bins=self.audio_vae.config.mel_bins,
            latents=audio_latents,
            **shared,
        )
        return latents, sound

    def _denoise(
        self,
        latents: Tensor,
        sound: Tensor | None,
        size: VideoSize,
        references: EncodedReference | None,
        guidance: ThreeStreamGuidance,
        levels: Tensor,
        timesteps: Tensor,
        *,
        text: EncodedText,
        negative: EncodedText,
        events: Sequence[Event],
        fade: float,
        placement: ReferencePlacement,
        sampler: Sampler,
        attention_kwargs: dict[str, Any] | None,
        callback: tuple[Any, Sequence[str]],
    ) -> tuple[Tensor, Tensor | None]:
        """One stage: latents [B, N, C] at the first noise level to latents without noise."""
        self._num_timesteps = len(timesteps)
        self.memory.denoising(self, latents.device)
        velocity = timed_velocity(
            self.transformer,
            guidance,
            placement,
            size,
            text,
            negative,
            references,
            events,
            fade=fade,
            audio=None if sound is None else (sound.shape[1], sound.shape[2]),
            attention_kwargs=attention_kwargs,
        )
        with self.progress_bar(total=len(timesteps)) as progress:
            after = self._after_step(velocity, timesteps, progress, *callback)
            try:
                x = sampler(velocity, velocity.join(latents, sound), levels, after)
            except _Interrupted as stopped:
                x = stopped.x
        return velocity.split(x)

    def _first_stage(
        self, size: VideoSize, upscale: Upscale, audio: bool, encoded: bool
    ) -> VideoSize:
        """Half the height and width; `encoded` says that its references are given encoded."""
        if encoded and upscale.reference == "keep" and upscale.reference_latents is None:
            raise STDRCError(
                "reference_latents are of the first stage's size; give the second's in "
                "upscale.reference_latents, or leave the reference out of it."
            )
        if audio:
            raise STDRCError("Sound is not enlarged along; leave out audio or upscale.")
        self._check_size(size.height, size.width, downscale=2)
        return replace(
            size,
            height=size.height // 2,
            width=size.width // 2,
            rows=size.rows // 2,
            columns=size.columns // 2,
        )

    def _enlarged(
        self, latents: Tensor, first: VideoSize, size: VideoSize, upscale: Upscale, generator: Any
    ) -> Tensor:
        """The first stage's latents [B, N, C] at twice the size [B, 4 N, C], noised again."""
        mean, std = self.vae.latents_mean, self.vae.latents_std
        small = self._unpack_latents(
            latents,
            first.frames,
            first.rows,
            first.columns,
            self.transformer_spatial_patch_size,
            self.transformer_temporal_patch_size,
        )
        # The upsampler reads latents as the autoencoder makes them.
        small = self._denormalize_latents(small, mean, std, self.vae.config.scaling_factor)
        upsampler = upscale.upsampler.to(latents.device)
        large = upsampler(small.to(upsampler.dtype)).float()
        upsampler.to("cpu")
        if large.shape[-2:] != (size.rows, size.columns):
            raise STDRCError(
                f"The upsampler made {large.shape[-2]} x {large.shape[-1]} latents of "
                f"{first.rows} x {first.columns}; give one with a factor of 2."
            )
        return self.prepare_latents(
            latents=large,
            noise_scale=upscale.sigmas[0],
            generator=generator,
            dtype=torch.float32,
            device=latents.device,
        )

    def _second_stage(
        self,
        latents: Tensor,
        first: VideoSize,
        size: VideoSize,
        upscale: Upscale,
        generator: Any,
        references: Callable[[], EncodedReference | None],
        **how: Any,
    ) -> Tensor:
        """The first stage's latents at twice the size, denoised there."""
        latents = self._enlarged(latents, first, size, upscale, generator)
        levels, timesteps = noise_levels(
            self.scheduler,
            "distilled",
            None,
            upscale.sigmas,
            tokens=latents.shape[1],
            device=latents.device,
        )
        shown = references() if upscale.reference == "keep" else None
        return self._denoise(
            latents, None, size, shown, upscale.guidance, levels, timesteps, **how
        )[0]

    def _after_step(
        self,
        velocity: GuidedVelocity | BlendedVelocity,
        timesteps: Tensor,
        progress: Any,
        callback: Callable[..., dict[str, Tensor] | None] | None,
        inputs: Sequence[str],
    ) -> Callable[[int, Tensor], Tensor]:
        """What the sampler calls after each step: the caller's callback, in diffusers' form."""
        self._interrupt = False

        def after(i: int, x: Tensor) -> Tensor:
            self._current_timestep = timesteps[i]
            if callback is not None:
                video, sound = velocity.split(x)
                state = {"latents": video}
                changed = callback(self, i, timesteps[i], {k: state[k] for k in inputs}) or {}
                x = velocity.join(changed.get("latents", video), sound)
            progress.update()
            if self._interrupt:
                raise _Interrupted(x)
            return x

        return after
