"""Latents as the generator draws them, with the true clip known: what its decoder learns to mend.

A denoiser's latents are off in a way of their own: blocks that don't meet, contrast that guidance
drove too far. Starting from a true clip under half its noise keeps where everything is, so what the
generator makes of it can be held against the clip itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from diffusers import LTX2Pipeline
from torch import Tensor

from stdrc.guidance import ThreeStreamGuidance
from stdrc.pipeline import STDRCPipeline
from stdrc.positions import ReferencePlacement
from stdrc.training.denoiser import Denoiser, pack, sequence_coords, unpack
from stdrc.training.objectives import add_noise

#: Captions and reference images [64, 64, 3] of some rows.
Described = Callable[[np.ndarray], tuple[Sequence[str], Sequence[np.ndarray]]]


class Redraw:
    """Noises clips and lets the generator draw them again.

    A third of the batches stay as they are, a third are drawn plainly, a third under guidance.

    Args:
        pipe: the generator, with the autoencoder whose latents these are.
        described: what the generator is told about rows of the data.
        placement: of the reference.
        levels: lowest and highest noise level to start from.
        steps: of the way down.
        guidance: highest weights; each batch draws its own between 1 and these.
    """

    def __init__(
        self,
        pipe: STDRCPipeline,
        described: Described,
        placement: str = "tass",
        levels: tuple[float, float] = (0.3, 0.75),
        steps: int = 4,
        guidance: tuple[float, float] = (3.0, 6.0),
    ) -> None:
        self.pipe, self.described = pipe, described
        self.placement = ReferencePlacement.parse(placement)
        self.levels, self.steps, self.guidance = levels, steps, guidance
        self.denoiser = Denoiser(pipe.transformer).eval().requires_grad_(False)
        self._null = pipe.encode_text([""]).video

    @torch.no_grad()
    def __call__(self, rows: np.ndarray, latents: Tensor, generator: torch.Generator) -> Tensor:
        """Latents [B, C, F, H, W] of the autoencoder, drawn again."""
        kind, high, text, reference = torch.rand(4, generator=generator).tolist()
        if kind < 1 / 3:
            return latents
        weights = ThreeStreamGuidance(1.0, 1.0)
        if kind > 2 / 3:
            most_text, most_reference = self.guidance
            weights = ThreeStreamGuidance(
                1 + (most_text - 1) * text, 1 + (most_reference - 1) * reference
            )
        low, top = self.levels
        levels = torch.linspace(low + (top - low) * high, 0, self.steps + 1)
        vae, transformer = self.pipe.vae, self.pipe.transformer
        clean = self.pipe._normalize_latents(
            latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        noise = torch.randn(clean.shape, generator=generator)
        noisy = add_noise(clean, noise, levels[:1].expand(len(clean)))
        drawn = self._walk(pack(noisy, transformer), levels, *self.described(rows), weights, clean)
        frames, height, width = clean.shape[2:]
        return LTX2Pipeline._denormalize_latents(
            unpack(drawn, frames, height, width, transformer),
            vae.latents_mean, vae.latents_std, vae.config.scaling_factor,
        )  # fmt: skip

    def _walk(
        self,
        video: Tensor,
        levels: Tensor,
        captions: Sequence[str],
        images: Sequence[np.ndarray],
        weights: ThreeStreamGuidance,
        clean: Tensor,
    ) -> Tensor:
        """Euler steps from the first of `levels` to the last, on packed latents."""
        size = dict(zip(("frames", "height", "width"), clean.shape[2:], strict=True))
        fps = self.pipe.config.default_size["frame_rate"]
        transformer, side = self.pipe.transformer, images[0].shape[0]
        together, alone = (
            sequence_coords(transformer, **size, fps=fps, placement=placement)
            for placement in (self.placement, None)
        )
        reference = self.pipe.encode_reference(list(images), side, side).tokens[:, 0]
        text = self.pipe.encode_text(list(captions)).video
        null = self._null.expand(len(video), -1, -1)
        for above, below in pairwise(levels.tolist()):
            sigmas = torch.full((len(video),), above)
            velocity = torch.zeros_like(video)
            for stream, share in weights.coefficients().items():
                velocity += share * self.denoiser(
                    video, sigmas, text if stream.has_text else null, None,
                    reference if stream.has_reference else None,
                    *(together if stream.has_reference else alone),
                )[0]  # fmt: skip
            video = video + (below - above) * velocity
        return video
