"""The miniature's video autoencoder: principal components in closed form, then a trained decoder.

Drawn faces are nearly linear: 64 principal components of a latent's 4 x 8 x 8 pixels hold 97 % of
their variance, and a convolutional autoencoder trained from random weights needs hours to get as
far. So `fit_components` writes them into the network: every convolution becomes a change of basis
at its centre tap, residual branches start at zero, and each end's last layer is solved by least
squares through the nonlinearity before it. The encoder stays as it is, which is why latents are
final before the decoder's training (`train_decoder`) has begun; that learns what a linear decoder
can't: edges without blocks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Video
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from media.files import whole_file


@dataclass(frozen=True)
class DecoderTraining:
    """Settings of the decoder's training.

    Args:
        steps, batch_size: how long and how many clips per step.
        lr: peak of a cosine with a short warm-up.
        latent_noise: standard deviation of noise added to the latents, in units of theirs: a
            denoiser's latents are never exact.
        face_weight: weight of pixels inside the face box, >= 1.
        edges: weight of finite differences in the loss.
        ema: decay of the averaged weights.
        seed: of the data order and the noise.
    """

    steps: int
    batch_size: int = 4
    lr: float = 2e-4
    latent_noise: float = 0.05
    face_weight: float = 3.0
    edges: float = 0.1
    ema: float = 0.998
    seed: int = 0


def to_pixels(frames: np.ndarray) -> Tensor:
    """uint8 [N, T, H, W, 3] -> float32 [N, 3, T, H, W] in -1..1."""
    return torch.from_numpy(np.asarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


def _patches(pixels: Tensor, size: int) -> Tensor:
    """[N, 3, T, H, W] -> [N, 3 * size^2, T, H/size, W/size], in the autoencoder's own order."""
    n, c, t, h, w = pixels.shape
    cut = pixels.reshape(n, c, t, h // size, size, w // size, size)
    return cut.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def _gather(x: Tensor, frames: int, side: int) -> Tensor:
    """Stack blocks of `frames` x `side` x `side` into channels; the first frame repeats to fill.

    [N, C, T, H, W] -> [N, C * frames * side^2, ceil(T / frames), H/side, W/side].
    """
    x = torch.cat([x[:, :, :1]] * (frames - 1) + [x], dim=2)
    n, c, t, h, w = x.shape
    x = x.reshape(n, c, t // frames, frames, h // side, side, w // side, side)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def _rows(x: Tensor) -> Tensor:
    """[N, C, ...] -> [positions, C] in float64."""
    return x.movedim(1, -1).flatten(0, -2).double()


def _components(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], variances [C] in falling order and orthonormal directions [C, C] of rows [M, C]."""
    mean = x.mean(0)
    variance, basis = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return mean, variance.flip(0).clamp_min(1e-12), basis.flip(1)


def _solve(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [C_y, C_x] and bias [C_y] of the least-squares y ~ x, very slightly ridged."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    gram += 1e-9 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, x.T @ y).T
    return weight, mean_y - weight @ mean_x


def _write(conv: nn.Conv3d, weight: Tensor, bias: Tensor, tap: int) -> None:
    """Make `conv` [out, in, 3, 3, 3] the matrix `weight` at the middle pixel of time tap `tap`."""
    conv.weight.zero_()
    conv.weight[: len(weight), : weight.shape[1], tap, 1, 1] = weight.to(conv.weight)
    conv.bias.zero_()
    conv.bias[: len(bias)] = bias.to(conv.bias)


def _still(module: nn.Module) -> None:
    """Start every residual block under `module` as the identity."""
    for name, layer in module.named_modules():
        if name.endswith("conv2.conv"):
            layer.weight.zero_()
            layer.bias.zero_()


@torch.no_grad()
def fit_components(
    vae: AutoencoderKLLTX2Video,
    frames: np.ndarray,
    *,
    whitening: float = 0.5,
    posterior_std: float = 0.02,
    seed: int = 0,
) -> dict[str, float]:
    """Set the autoencoder to principal components of its blocks of pixels, in place.

    Latents are the leading components, divided by their deviation to the power `whitening` and
    turned by a random rotation, so that channels have similar variances (diffusers' statistics by
    channel then change nothing between components) while strong components stay stronger.

    Args:
        vae: from `build_vae`: one stage of 2 x 2 x 2, one of 2 in time, patches of 4 pixels.
        frames: uint8 [N, 4k + 1, H, W, 3], a few hundred clips.
        whitening: 0 keeps the components' deviations, 1 makes them equal.
        posterior_std: the constant deviation of the posterior, in units of the latents.
        seed: of the rotation.

    Returns:
        "share": of the variance, that the components hold; "encoder_error": relative squared
        error of the encoder's latents against the exact ones.
    """
    pixels = to_pixels(frames)
    channels, size = vae.config.latent_channels, vae.config.patch_size
    patches = _patches(pixels, size)

    # The target: latents of 4 x 2 x 2 patches.
    blocks = _rows(_gather(patches, 4, 2))
    mean, variance, basis = _components(blocks)
    basis, spread = basis[:, :channels], variance[:channels].sqrt()
    share = float(variance[:channels].sum() / variance.sum())
    gain = spread**-whitening
    gain = gain / (spread * gain).square().mean().sqrt()
    turn = torch.linalg.qr(
        torch.randn(
            channels, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
    )[0]
    analysis = turn @ (gain[:, None] * basis.T)  # [channels, block]
    synthesis = (basis / gain) @ turn.T  # [block, channels]
    latents = (blocks - mean) @ analysis.T

    of_patches = _components(_rows(patches))
    _fit_encoder(vae, patches, of_patches, latents, posterior_std)
    found = vae.encode(pixels).latent_dist.mode()
    error = float((_rows(found) - latents).square().mean() / latents.square().mean())
    _fit_decoder(vae, patches, of_patches, found, synthesis)
    return {"share": share, "encoder_error": error}


def _fit_encoder(
    vae: AutoencoderKLLTX2Video,
    patches: Tensor,
    of_patches: tuple[Tensor, Tensor, Tensor],
    latents: Tensor,
    posterior_std: float,
) -> None:
    """Make the encoder give `latents` [positions, C] of `patches`, as closely as it can."""
    patch_mean, _, patch_basis = of_patches
    channels, width = latents.shape[1], patches.shape[1]
    encoder = vae.encoder  # its convolutions look back in time: the present is their last tap
    _still(encoder)
    _write(encoder.conv_in.conv, patch_basis.T, -patch_basis.T @ patch_mean, 2)
    down = encoder.down_blocks[0].downsamplers[0].conv.conv
    kept = down.out_channels
    # Downsamplers add group means of their input; 10 makes those a whisper beside the components.
    _write(down, 10.0 * torch.eye(kept, width), torch.zeros(kept), 2)
    hidden = encoder.down_blocks[0](encoder.conv_in(patches))
    halves = _gather(hidden, 2, 1)
    halves = halves.unflatten(1, (-1, 2))  # [N, C, half, T, H, W]
    both, _ = _solve(_rows(halves.flatten(1, 2)), latents)
    by_half = both.unflatten(1, (-1, 2))
    down = encoder.down_blocks[1].downsamplers[0].conv.conv
    rows = torch.cat([by_half[..., 0], by_half[..., 1]])[: down.out_channels]
    flat = _rows(hidden)
    out = (flat - flat.mean(0)) @ rows.T
    # Far from zero on one side SiLU is all but linear and the norm all but constant.
    scale = 300.0 / out.std()
    bias = -scale * rows @ flat.mean(0) + 3000.0
    _write(down, scale * rows, bias, 2)
    hidden = encoder.mid_block(encoder.down_blocks[1](hidden))
    features = _rows(encoder.conv_act(encoder.norm_out(hidden)))
    weight, bias = _solve(features, latents)
    last = encoder.conv_out.conv
    _write(last, weight, bias, 2)
    last.bias[channels] = 2.0 * math.log(posterior_std)


def _fit_decoder(
    vae: AutoencoderKLLTX2Video,
    patches: Tensor,
    of_patches: tuple[Tensor, Tensor, Tensor],
    found: Tensor,
    synthesis: Tensor,
) -> None:
    """Make the decoder give `patches` of the encoder's latents `found`, by `synthesis`."""
    _, patch_variance, patch_basis = of_patches
    channels, width = found.shape[1], patches.shape[1]
    decoder = vae.decoder
    tap = 2 if decoder.is_causal else 1
    _still(decoder)
    _write(decoder.conv_in.conv, torch.eye(channels), torch.zeros(channels), tap)
    # Gathered channels run (patch, half, frame, row, column) within a block.
    pieces = synthesis.unflatten(0, (width, 2, 2, 2, 2))
    _, _, half_basis = _components(_rows(_gather(patches, 2, 2)))
    first = decoder.up_blocks[0].upsamplers[0].conv.conv
    kept = first.out_channels // 2
    half_basis = half_basis[:, :kept]  # [half block, kept]
    by_half = torch.stack([half_basis.T @ pieces[:, h].flatten(0, 3) for h in range(2)], 1)
    _write(first, by_half.flatten(0, 1), torch.zeros(2 * kept), tap)
    second = decoder.up_blocks[1].upsamplers[0].conv.conv
    room = second.out_channels // 8
    parts = half_basis.unflatten(0, (width, 2, 2, 2)).flatten(1, 3)  # [patch, 8, kept]
    level = patch_variance**-0.25
    level = level / (patch_variance.sqrt() * level).square().mean().sqrt()
    turned = torch.einsum("pi,pej->iej", patch_basis * level, parts)  # [width, 8, kept]
    bias = torch.zeros(room, 8, dtype=torch.float64)
    bias[width:] = 40.0  # the channels left over hold the norm nearly constant
    _write(second, turned.flatten(0, 1), bias.flatten(), tap)
    hidden = decoder.mid_block(decoder.conv_in(found))
    for block in decoder.up_blocks:
        hidden = block(hidden)
    features = _rows(decoder.conv_act(decoder.norm_out(hidden)))
    weight, bias = _solve(features, _rows(patches))
    _write(decoder.conv_out.conv, weight, bias, tap)


def reconstruction_loss(
    prediction: Tensor, target: Tensor, weight: Tensor, edges: float = 0.3
) -> Tensor:
    """Weighted L1 on pixels, and `edges` times that of their finite differences.

    Args:
        prediction, target: [B, 3, T, H, W] in -1..1.
        weight: [B, 1, T, H, W] >= 0.
        edges: small at first: an L1 on differences is satisfied by flat colours until edges are
            roughly in place.
    """
    error = prediction - target
    loss = (weight * error.abs()).mean()
    if edges:
        # The error's own gradient: zero where edges agree, wherever the colours stand.
        loss = loss + edges * (weight[..., 1:, :] * error.diff(dim=-2).abs()).mean()
        loss = loss + edges * (weight[..., 1:] * error.diff(dim=-1).abs()).mean()
        if error.shape[2] > 1:
            loss = loss + edges * (weight[:, :, 1:] * error.diff(dim=2).abs()).mean()
    return loss


def face_weights(boxes: Tensor, height: int, width: int, weight: float) -> Tensor:
    """[B, T, 4] boxes in pixels -> [B, 1, T, H, W], `weight` inside and 1 outside."""
    y = torch.arange(height, device=boxes.device)[:, None] + 0.5
    x = torch.arange(width, device=boxes.device)[None, :] + 0.5
    x0, y0, x1, y1 = boxes[..., None, None].unbind(2)
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return 1.0 + (weight - 1.0) * inside.float()[:, None]


def _batches(
    frames: np.ndarray, boxes: np.ndarray, training: DecoderTraining, start: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Random clips from step `start` on, in an order fixed by the seed."""
    for step in range(start, training.steps):
        rows = np.random.default_rng((training.seed, step)).integers(
            len(frames), size=training.batch_size
        )
        rows.sort()
        yield to_pixels(frames[rows]), torch.from_numpy(boxes[rows]).float()


def train_decoder(
    vae: AutoencoderKLLTX2Video,
    frames: np.ndarray,
    boxes: np.ndarray,
    training: DecoderTraining,
    *,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
    every: int = 50,
) -> None:
    """Train the decoder on the frozen encoder's latents, in place; it ends as its average.

    The loss is L1 on pixels and on their differences along rows, columns and frames (sharp edges,
    no ghosts of the next frame), heavier inside the face box.

    Args:
        vae: after `fit_components`.
        frames: uint8 [N, T, H, W, 3].
        boxes: float [N, T, 4] face boxes in pixels.
        checkpoint: file to resume from and to save to every 200 steps.
        report: receives a line of progress every `every` steps.

    Raises:
        ValueError: the checkpoint is another training's, or a gradient isn't finite.
    """
    decoder = vae.decoder.train()
    average = AveragedModel(decoder, multi_avg_fn=get_ema_multi_avg_fn(training.ema))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=training.lr, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, training.steps))
    parts = {"decoder": decoder, "average": average, "optimizer": optimizer, "schedule": schedule}
    start = _resume(checkpoint, training, parts, report)
    began, running = time.monotonic(), 0.0
    for step, (pixels, box) in enumerate(_batches(frames, boxes, training, start), start):
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + step)
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mode()
            noise = torch.randn(latents.shape, generator=generator)
        output = decoder(latents + training.latent_noise * noise)
        height, width = pixels.shape[-2:]
        weight = face_weights(box, height, width, training.face_weight)
        loss = reconstruction_loss(output, pixels, weight, training.edges)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise ValueError(f"The decoder's gradient is not finite at step {step}.")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        average.update_parameters(decoder)
        running += (output - pixels).detach().square().mean().item()
        done = step + 1
        if done % every == 0:
            psnr = 10 * math.log10(4.0 / (running / every))
            pace = (time.monotonic() - began) / (done - start)
            report(
                f"step {done}/{training.steps}  loss {loss.item():.4f}  psnr {psnr:.2f} dB  "
                f"{pace:.2f} s/step  {pace * (training.steps - done) / 60:.0f} min left"
            )
            running = 0.0
        if checkpoint is not None and (done % 200 == 0 or done == training.steps):
            state = {name: part.state_dict() for name, part in parts.items()}
            with whole_file(checkpoint) as part:
                torch.save({**state, "step": done, "training": asdict(training)}, part)
    decoder.load_state_dict(average.module.state_dict())
    vae.eval()


def _rate(steps: int, step: int) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine down to 2 %."""
    warmup = max(1, steps // 30)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done))


def _resume(
    checkpoint: Path | None,
    training: DecoderTraining,
    parts: dict[str, Any],
    report: Callable[[str], None],
) -> int:
    """Read a checkpoint where there is one; the step to continue with."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    if state["training"] != asdict(training):
        raise ValueError(f"{checkpoint} belongs to another training; delete it to start afresh.")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    report(f"resumed at step {state['step']}")
    return int(state["step"])


@torch.no_grad()
def measure_latents(vae: AutoencoderKLLTX2Video, frames: np.ndarray, batch_size: int = 16) -> None:
    """Store the latents' mean and deviation by channel over `frames` in the autoencoder."""
    total = square = torch.zeros(vae.config.latent_channels, dtype=torch.float64)
    count = 0
    for i in range(0, len(frames), batch_size):
        mode = vae.encode(to_pixels(frames[i : i + batch_size])).latent_dist.mode().double()
        total = total + mode.sum((0, 2, 3, 4))
        square = square + (mode**2).sum((0, 2, 3, 4))
        count += mode.numel() // mode.shape[1]
    mean = total / count
    vae.latents_mean.copy_(mean)
    vae.latents_std.copy_((square / count - mean**2).clamp_min(1e-8).sqrt())


@torch.no_grad()
def reconstruction_psnr(
    vae: AutoencoderKLLTX2Video, frames: np.ndarray, boxes: np.ndarray
) -> dict[str, float]:
    """PSNR in dB over whole frames and inside the face box, and at its first and worst frame."""
    pixels = to_pixels(frames)
    output = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    error = (output - pixels) ** 2  # [N, 3, T, H, W]
    height, width = pixels.shape[-2:]
    face = face_weights(torch.from_numpy(boxes).float(), height, width, 2.0) - 1.0

    def psnr(value: Tensor) -> float:
        return round(10 * math.log10(4.0 / max(float(value), 1e-12)), 2)

    by_frame = [psnr(error[:, :, t].mean()) for t in range(error.shape[2])]
    return {
        "psnr": psnr(error.mean()),
        "psnr_face": psnr((error * face).sum() / (3 * face.sum())),
        "psnr_first_frame": by_frame[0],
        "psnr_worst_frame": min(by_frame),
    }
