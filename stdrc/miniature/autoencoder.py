"""Training of the miniature's video autoencoder: reconstruct drawn clips, faces first.

The loss is L1 on pixels and on their differences along rows, columns and frames (sharp edges, no
ghosts of the next frame), heavier inside the face box, plus a small KL term that keeps the latents
near a unit Gaussian. Latent statistics are measured at the end and stored in the checkpoint, as
diffusers expects.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Video
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@dataclass(frozen=True)
class AutoencoderTraining:
    """Settings of one stage.

    Args:
        steps, batch_size: how long and how wide.
        lr: peak of a one-cycle cosine with a short warm-up.
        frames: latent-aligned clip length per sample (1, 5, 9); a random stretch is taken.
        face_weight: weight of pixels inside the face box, >= 1.
        edges: weight of finite differences in the loss.
        kl_weight: of the KL divergence to a unit Gaussian, a mean over latent elements.
        ema: decay of the averaged weights.
        seed: of the data order and the posterior's noise.
    """

    steps: int
    batch_size: int = 8
    lr: float = 1e-3
    frames: int = 9
    face_weight: float = 3.0
    edges: float = 0.3
    kl_weight: float = 1e-4
    ema: float = 0.998
    seed: int = 0


def reconstruction_loss(
    prediction: Tensor, target: Tensor, weight: Tensor, edges: float = 0.3
) -> Tensor:
    """Weighted L1 on pixels, and `edges` times that of their finite differences.

    Args:
        prediction, target: [B, 3, T, H, W] in -1..1.
        weight: [B, 1, T, H, W] >= 0.
        edges: small at first: an L1 on differences is content with flat colours until edges stand
            about right.
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


def batches(
    frames: np.ndarray, boxes: np.ndarray, training: AutoencoderTraining, start: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Random stretches of random clips from step `start` on, in an order fixed by the seed."""
    clips, length = frames.shape[:2]
    for step in range(start, training.steps):
        rng = np.random.default_rng((training.seed, step))
        rows = rng.integers(clips, size=training.batch_size)
        first = rng.integers(length - training.frames + 1, size=training.batch_size)
        cut = [slice(f, f + training.frames) for f in first]
        pixels = np.stack([frames[r, c] for r, c in zip(rows, cut)])
        box = np.stack([boxes[r, c] for r, c in zip(rows, cut)])
        yield (
            torch.from_numpy(pixels).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0,
            torch.from_numpy(box).float(),
        )


def train_autoencoder(
    vae: AutoencoderKLLTX2Video,
    frames: np.ndarray,
    boxes: np.ndarray,
    training: AutoencoderTraining,
    *,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
    every: int = 50,
) -> AutoencoderKLLTX2Video:
    """Train in place and return the averaged model.

    Args:
        vae: the autoencoder.
        frames: uint8 [N, T, H, W, 3].
        boxes: float [N, T, 4] face boxes in pixels.
        checkpoint: file to resume from and to save to every 200 steps.
        report: receives a line of progress every `every` steps.
    """
    vae.train()
    average = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(training.ema))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=training.lr, betas=(0.9, 0.95))
    warmup = max(1, training.steps // 30)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, training.steps - warmup)
        return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    start = 0
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["training"] != asdict(training):
            raise ValueError(
                f"{checkpoint} belongs to another training; delete it to start afresh."
            )
        vae.load_state_dict(state["vae"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        start = state["step"]
        report(f"resumed at step {start}")
    began, running = time.monotonic(), 0.0
    for step, (pixels, box) in enumerate(batches(frames, boxes, training, start), start):
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + step)
        posterior = vae.encode(pixels).latent_dist
        output = vae.decode(posterior.sample(generator)).sample
        height, width = pixels.shape[-2:]
        weight = face_weights(box, height, width, training.face_weight)
        loss = reconstruction_loss(output, pixels, weight, training.edges)
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1.0 - posterior.logvar).mean()
        (loss + training.kl_weight * kl).backward()
        norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise ValueError(f"The autoencoder's gradient is not finite at step {step}.")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        average.update_parameters(vae)
        running += (output - pixels).detach().pow(2).mean().item()
        done = step + 1
        if done % every == 0:
            psnr = 10 * math.log10(4.0 / (running / every))
            pace = (time.monotonic() - began) / (done - start)
            report(
                f"step {done}/{training.steps}  loss {loss.item():.4f}  kl {float(kl):.2f}  "
                f"psnr {psnr:.2f} dB  {pace:.2f} s/step  "
                f"{pace * (training.steps - done) / 60:.0f} min left"
            )
            running = 0.0
        if checkpoint is not None and (done % 200 == 0 or done == training.steps):
            state = {
                "vae": vae.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": done,
                "training": asdict(training),
            }
            beside = checkpoint.with_suffix(".tmp")
            torch.save(state, beside)
            os.replace(beside, checkpoint)
    trained = average.module
    assert isinstance(trained, AutoencoderKLLTX2Video)
    return trained.eval()


@torch.no_grad()
def measure_latents(vae: AutoencoderKLLTX2Video, frames: np.ndarray, batch_size: int = 16) -> None:
    """Store the latents' mean and deviation by channel over `frames` in the autoencoder."""
    total = square = torch.zeros(vae.config.latent_channels, dtype=torch.float64)
    count = 0
    for i in range(0, len(frames), batch_size):
        pixels = torch.from_numpy(frames[i : i + batch_size]).permute(0, 4, 1, 2, 3)
        mode = vae.encode(pixels.float() / 127.5 - 1.0).latent_dist.mode().double()
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
    """PSNR in dB over whole frames and inside the face box, by latent frame as well as in all."""
    pixels = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
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


def write_report(path: Path, numbers: dict[str, float]) -> None:
    """Numbers as JSON, written beside the final name and renamed."""
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n")
    os.replace(beside, path)
