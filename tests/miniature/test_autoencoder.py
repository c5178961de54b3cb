"""The miniature's autoencoder: closed form against linear algebra, then the decoder's training."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTX2Video

from miniature.autoencoder import (
    DecoderTraining,
    fit_components,
    measure_latents,
    reconstruction_psnr,
    to_pixels,
    train_decoder,
)
from miniature.build import MiniatureConfig, build_vae


def smooth_clips(count: int, seed: int) -> np.ndarray:
    """Coloured waves that drift: [count, 9, 32, 32, 3] with many strong components."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(np.arange(9), np.arange(32), np.arange(32), indexing="ij")
    clips = np.empty((count, 9, 32, 32, 3), np.uint8)
    for clip in clips:
        value = np.zeros((9, 32, 32, 3))
        for _ in range(4):
            ky, kx, speed = rng.normal(0, 0.35, 3)
            wave = np.sin(ky * y + kx * x + speed * t + rng.uniform(0, 6))
            value += wave[..., None] * rng.normal(0, 35, 3)
        clip[:] = np.clip(value + rng.uniform(60, 190, 3), 0, 255)
    return clips


@pytest.fixture(scope="module")
def fitted() -> tuple[AutoencoderKLLTX2Video, dict[str, float]]:
    torch.manual_seed(0)
    vae = build_vae(MiniatureConfig()).eval()
    numbers = fit_components(vae, smooth_clips(24, 0))
    return vae, numbers


def blocks(pixels: torch.Tensor) -> torch.Tensor:
    """[N, 3, 9, H, W] -> [N * 3 * H/8 * W/8, 768]: the pixels that a latent stands for."""
    pixels = torch.cat([pixels[:, :, :1]] * 3 + [pixels], dim=2)
    n, c, t, h, w = pixels.shape
    cut = pixels.reshape(n, c, t // 4, 4, h // 8, 8, w // 8, 8).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return cut.reshape(-1, c * 4 * 64).double()


def test_the_encoder_is_the_principal_components(fitted: tuple) -> None:
    vae, numbers = fitted
    assert numbers["encoder_error"] < 5e-3
    pixels = to_pixels(smooth_clips(24, 0))
    truth = blocks(pixels)
    variance = torch.linalg.eigvalsh(torch.cov(truth.T, correction=0)).flip(0)
    assert numbers["share"] == pytest.approx(float(variance[:48].sum() / variance.sum()), abs=1e-6)
    # Whatever its rotation, a linear decoder of the latents must lose what 48 components lose.
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode().movedim(1, -1).flatten(0, -2).double()
    x = torch.cat([latents, torch.ones(len(latents), 1)], 1)
    left = truth - x @ torch.linalg.lstsq(x, truth).solution
    lost = float(left.square().mean() / (truth - truth.mean(0)).square().mean())
    assert lost == pytest.approx(1 - numbers["share"], rel=0.25, abs=2e-3)


def test_a_latent_knows_only_its_own_block(fitted: tuple) -> None:
    vae, _ = fitted
    pixels = to_pixels(smooth_clips(1, 5))
    other = pixels.clone()
    other[:, :, 5:9, 8:16, 16:24] = 0.3  # the third latent frame's row 1, column 2
    with torch.no_grad():
        moved = (vae.encode(pixels).latent_dist.mode() - vae.encode(other).latent_dist.mode()).abs()
    changed = moved[0].amax(0) > 1e-4
    assert changed[2, 1, 2]
    assert int(changed.sum()) == 1


def test_latents_have_like_variances_and_a_narrow_posterior(fitted: tuple) -> None:
    vae, _ = fitted
    measure_latents(vae, smooth_clips(16, 1))
    deviation = vae.latents_std
    assert 0.4 < float(deviation.min()) < float(deviation.max()) < 2.5
    with torch.no_grad():
        posterior = vae.encode(to_pixels(smooth_clips(1, 2))).latent_dist
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, 0.02))


def test_the_closed_form_decoder_draws_what_it_was_given(fitted: tuple) -> None:
    vae, _ = fitted
    clips = smooth_clips(8, 3)
    boxes = np.tile(np.array([8, 8, 24, 24], np.float32), (8, 9, 1))
    found = reconstruction_psnr(vae, clips, boxes)
    deviation = to_pixels(clips).std()
    flat = 20 * float(torch.log10(2 / deviation))
    assert found["psnr"] > flat + 8  # against painting the mean
    half = vae.half().float()  # as it ships
    assert reconstruction_psnr(half, clips, boxes)["psnr"] == pytest.approx(found["psnr"], abs=0.3)


def test_training_improves_the_decoder_alone_and_knows_its_own_checkpoint(
    fitted: tuple, tmp_path: Path
) -> None:
    vae = copy.deepcopy(fitted[0])
    clips = smooth_clips(12, 0)
    boxes = np.tile(np.array([8, 8, 24, 24], np.float32), (12, 9, 1))
    encoder = {name: value.clone() for name, value in vae.encoder.state_dict().items()}
    before = reconstruction_psnr(vae, clips, boxes)["psnr"]
    training = DecoderTraining(steps=12, batch_size=2, lr=2e-5, ema=0.5)
    lines: list[str] = []
    file = tmp_path / "training.pt"
    train_decoder(vae, clips, boxes, training, checkpoint=file, report=lines.append, every=6)
    assert reconstruction_psnr(vae, clips, boxes)["psnr"] > before
    assert all(torch.equal(encoder[n], v) for n, v in vae.encoder.state_dict().items())
    assert len(lines) == 2
    assert "psnr" in lines[0]
    with pytest.raises(ValueError, match="another training"):
        train_decoder(vae, clips, boxes, DecoderTraining(steps=99), checkpoint=file)
