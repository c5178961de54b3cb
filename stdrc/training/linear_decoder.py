"""A linear stand-in for a video autoencoder's decoder, for losses that look at pixels.

Some autoencoders are nearly linear, such as one made of principal components of blocks of
pixels, with little added. There one matrix draws a clip in a fraction of the decoder's time
(`benchmarks/identity_loss_cost.py`), so the identity loss can look at every sample instead of a
few. The matrix is fitted to the decoder itself, and refused where it fits it badly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stdrc.errors import STDRCError

#: Share of the decoder's variance below which the stand-in is refused.
LEAST_SHARE = 0.95


class LinearDecoder(nn.Module):
    """Each latent draws its own block of pixels, by one matrix for all.

    Latent frame 0 is pixel frame 0, latent frame k > 0 the `temporal` frames up to k * temporal.

    Args:
        weight: [C + 1, temporal * 3 * spatial * spatial]; the last row is the constant.
        temporal, spatial: frames and pixels per latent.
        share: of the decoder's variance that it explains, where it was fitted.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, temporal: int, spatial: int, share: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.temporal, self.spatial, self.share = temporal, spatial, share

    @classmethod
    @torch.no_grad()
    def fit(
        cls, decode: Callable[[Tensor], Tensor], latents: Tensor, temporal: int, spatial: int
    ) -> LinearDecoder:
        """The least-squares matrix from latents to what `decode` makes of them.

        The last quarter of the latents is kept out of the fit, for the share.

        Args:
            decode: latents [1, C, F, H, W] -> pixels [1, T, 3, H * spatial, W * spatial].
            latents: [N, C, F, H, W], N >= 2.

        Raises:
            STDRCError: the decoder is not nearly linear, or there is one clip only.
        """
        if len(latents) < 2:
            raise STDRCError(
                "A linear decoder is fitted to two clips or more; set identity.decoder: vae and "
                "pixels.weight: 0."
            )
        held_out = max(1, len(latents) // 4)
        gram = target = torch.zeros((), dtype=torch.float64, device=latents.device)
        for latent in latents[:-held_out]:
            rows = _rows(latent[None]).flatten(0, 3).double()
            blocks = _blocks(decode(latent[None]), temporal, spatial).flatten(0, 3).double()
            gram = gram + rows.T @ rows
            target = target + rows.T @ blocks
        gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
        fitted = cls(torch.linalg.solve(gram, target).to(latents), temporal, spatial, 0.0)
        true = torch.cat([decode(latent[None]) for latent in latents[-held_out:]])
        error = (fitted(latents[-held_out:]) - true).square().mean()
        fitted.share = 1 - float(error / (true - true.mean()).square().mean())
        if fitted.share < LEAST_SHARE:
            raise STDRCError(
                f"A linear decoder holds {100 * max(0.0, fitted.share):.0f} % of what this VAE "
                f"draws, and {100 * LEAST_SHARE:.0f} % are needed; set identity.decoder: vae and "
                "pixels.weight: 0."
            )
        return fitted

    def difference(self, latents: Tensor) -> Tensor:
        """What a difference of latents [B, C, F, H, W] draws: `forward` without its constant."""
        return self(latents) - self(torch.zeros_like(latents[:1]))

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [B, C, F, H, W] as pixels [B, T, 3, H * spatial, W * spatial]."""
        batch, _, frames, height, width = latents.shape
        blocks = _rows(latents) @ self.weight
        pixels = blocks.unflatten(4, (self.temporal, 3, self.spatial, self.spatial))
        # [B, F, H, W, t, 3, s, s] -> [B, F, t, 3, H, s, W, s]
        pixels = pixels.permute(0, 1, 4, 5, 2, 6, 3, 7)
        pixels = pixels.reshape(
            batch, frames * self.temporal, 3, height * self.spatial, width * self.spatial
        )
        return pixels[:, self.temporal - 1 :]


def _rows(latents: Tensor) -> Tensor:
    """[B, C, F, H, W] -> [B, F, H, W, C + 1], with a 1 behind."""
    rows = latents.permute(0, 2, 3, 4, 1)
    return torch.cat([rows, rows.new_ones(*rows.shape[:-1], 1)], dim=-1)


def _blocks(pixels: Tensor, temporal: int, spatial: int) -> Tensor:
    """[B, T, 3, H, W] -> [B, F, H / s, W / s, t * 3 * s * s]; the first frame fills its latent."""
    pixels = torch.cat([pixels[:, :1]] * (temporal - 1) + [pixels], dim=1)
    blocks = pixels.unflatten(1, (-1, temporal))
    blocks = blocks.unflatten(5, (-1, spatial)).unflatten(4, (-1, spatial))
    # [B, F, t, 3, h, s, w, s] -> [B, F, h, w, t, 3, s, s]
    return blocks.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)
