"""Why the miniature's pictures show blocks, and what does not help: guidance, steps, decoders.

    python benchmarks/miniature_blocks.py [--people 32] [--decoder-steps 300]
    python benchmarks/miniature_blocks.py --checkpoint FOLDER    # a base, as a training leaves it

*Blocks* is the mean absolute difference of luma across the borders of the latents' 8 x 8 pixels
over that inside them, 1 in pictures without blocks; *sharpness* the mean absolute difference of
neighbouring pixels of faces aligned by the judge, in 0..255; *distance* the mean absolute
difference of those faces' features to the true clip's, frame by frame, in the first stages of the
identity encoder, which is no judge. People are of the validation split. With `--decoder-steps` the
decoder is also trained on what the sampler makes of noised training clips, to draw the true clip
of it (8 minutes for the latents, 1.5 s per step).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from miniature import DEFAULT_VARIANT
from miniature.autoencoder import _rate, face_weights, reconstruction_loss, to_pixels
from miniature.identity_encoder import load_identity_encoder
from miniature.measure import Judges, load
from miniature.world import World, WorldClip
from stdrc import ThreeStreamGuidance
from stdrc.pipeline import STDRCPipeline
from stdrc.training.denoiser import pack

SIDE = 8  # pixels per latent
#: Text's weight, reference's, steps, `parallel`; the last is the model card's.
SETTINGS = ((1, 1, 6, 1), (2, 3, 6, 0), (4, 6, 6, 0), (3, 6, 16, 0), (3, 6, 6, 0))


def frames_of(video: Tensor) -> np.ndarray:
    """[N, 3, T, H, W] in -1..1 -> uint8 [N, T, H, W, 3]."""
    return ((video.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()


def blocks(videos: np.ndarray) -> float:
    luma = videos.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    ratios = []
    for axis in (2, 3):
        gaps = np.abs(np.diff(luma, axis=axis))
        border = np.arange(gaps.shape[axis]) % SIDE == SIDE - 1
        across, inside = (gaps.compress(at, axis=axis).mean() for at in (border, ~border))
        ratios.append(across / inside)
    return float(np.mean(ratios))


class Measures:
    """A row of the table, from videos of the people."""

    def __init__(self, people: int) -> None:
        self.judges, self.features = Judges("val", people), load_identity_encoder().body[:3]
        self.truth = [self.faces(clip.frames) for clip in self.judges.truth]

    def faces(self, frames: np.ndarray) -> dict[int, np.ndarray]:
        """The aligned face of each frame that shows one."""
        found = zip(frames, self.judges.faces.detect(frames))
        crops = {i: self.judges.faces.align(frame, faces) for i, (frame, faces) in enumerate(found)}
        return {i: crop[0] for i, crop in crops.items() if len(crop)}

    @torch.no_grad()
    def distance(self, a: list[np.ndarray], b: list[np.ndarray]) -> float:
        x, y = (
            torch.from_numpy(np.stack(c)).permute(0, 3, 1, 2).float() / 127.5 - 1 for c in (a, b)
        )
        total = 0.0
        for stage in self.features:
            x, y = stage(x), stage(y)
            total += float((x - y).abs().mean()) / len(self.features)
        return total

    def show(self, name: str, videos: np.ndarray) -> None:
        scores, judges = self.judges.score(videos), self.judges
        identity = np.mean(scores["identity"]) - judges.stranger
        drawn = [self.faces(video) for video in videos]
        pairs = [
            (found[i], true[i])
            for found, true in zip(drawn, self.truth)
            for i in found.keys() & true.keys()
        ]
        sharp = np.mean([np.abs(np.diff(face.mean(-1), axis=1)).mean() for face, _ in pairs])
        print(
            f"| {name} | {identity / (judges.own - judges.stranger):.3f} "
            f"| {np.mean(scores['text']):.1f} | {np.mean(scores['background']):.2f} "
            f"| {np.mean(scores['motion']):.2f} | {blocks(videos):.2f} | {sharp:.1f} "
            f"| {self.distance(*map(list, zip(*pairs))):.3f} |",
            flush=True,
        )


def sample(
    pipe: STDRCPipeline,
    clips: list[WorldClip],
    setting: tuple[float, float, int, float],
    **more: object,
) -> Tensor:
    """Latents [N, C, T, H, W] of the clips' captions and references."""
    text, reference, steps, parallel = setting
    guidance = ThreeStreamGuidance(text=text, reference=reference, parallel=parallel)
    found = []
    for first in range(0, len(clips), 8):
        part = clips[first : first + 8]
        found.append(
            pipe(
                [clip.caption for clip in part],
                reference=[clip.reference for clip in part],
                guidance=guidance,
                seeds=list(range(first, first + len(part))),
                output_type="latent",
                **({"num_inference_steps": steps} | more),
            ).frames
        )
    return torch.cat(found)


@torch.no_grad()
def spin(pipe: STDRCPipeline, video: Tensor) -> Tensor:
    """Coded and decoded once more with the blocks' borders in the middle of what were blocks."""
    half = SIDE // 2
    moved = F.pad(video, (half, half, half, half, 0, 0), mode="replicate")
    again = pipe.vae.decode(pipe.vae.encode(moved).latent_dist.mode()).sample
    return again[..., half:-half, half:-half]


def redrawn(pipe: STDRCPipeline, count: int) -> tuple[Tensor, np.ndarray, Tensor]:
    """What three steps make of training clips noised by 0.2 to 0.75; frames and face boxes."""
    world, rng = World("train", size=count), np.random.default_rng(0)
    latents, frames, boxes = [], [], []
    for first in range(0, count, 8):
        clips = [world[i] for i in range(first, min(first + 8, count))]
        frames.append(np.stack([clip.frames for clip in clips]))
        boxes.append(np.stack([clip.boxes for clip in clips]))
        with torch.no_grad():
            clean = pipe.vae.encode(to_pixels(frames[-1])).latent_dist.mode()
        vae = pipe.vae
        scaled = pipe._normalize_latents(
            clean, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        tokens, level = pack(scaled, pipe.transformer), float(rng.uniform(0.2, 0.75))
        noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(first))
        start = (1 - level) * tokens + level * noise
        levels = [level, 0.6 * level, 0.3 * level]
        more = {"schedule": "distilled", "sigmas": levels, "latents": start}
        latents.append(sample(pipe, clips, SETTINGS[-1], num_inference_steps=None, **more))
    return torch.cat(latents), np.concatenate(frames), torch.from_numpy(np.concatenate(boxes))


def train_decoder(pipe: STDRCPipeline, steps: int, pairs: int) -> None:
    """Batches of four: one true clip's latents with noise, three of the sampler's."""
    vae, (latents, frames, boxes) = pipe.vae, redrawn(pipe, pairs)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=2e-4, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(steps, step))
    for step in range(steps):
        rows = np.random.default_rng((7, step)).integers(len(latents), size=4)
        pixels, given = to_pixels(frames[rows]), latents[rows].clone()
        with torch.no_grad():
            clean = vae.encode(pixels[:1]).latent_dist.mode()
            given[:1] = clean + 0.15 * torch.randn_like(clean)
        weight = face_weights(boxes[rows].float(), *pixels.shape[-2:], 3.0)
        reconstruction_loss(vae.decoder(given), pixels, weight, 0.1).backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--checkpoint", type=Path, help="a base alone; default: as shipped")
    parser.add_argument("--decoder-steps", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=960, help="clips that the decoder sees")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.checkpoint:
        pipe = STDRCPipeline.from_pretrained(given.checkpoint, dtype=torch.float32)
    else:
        pipe = load(DEFAULT_VARIANT)
    measures = Measures(given.people)
    clips = measures.judges.truth

    @torch.no_grad()
    def decode(latents: Tensor) -> Tensor:
        return torch.cat([pipe.vae.decode(part).sample for part in latents.split(8)])

    print("| | normalised identity | text | background | motion | blocks | sharpness | distance |")
    print("|---|---|---|---|---|---|---|---|")
    true = np.stack([clip.frames for clip in clips])
    measures.show("the true clips", true)
    with torch.no_grad():
        known = torch.cat([pipe.vae.encode(to_pixels(v[None])).latent_dist.mode() for v in true])
    measures.show("the autoencoder's own", frames_of(decode(known)))
    for setting in SETTINGS:
        latents = sample(pipe, clips, setting)
        text, reference, steps, parallel = setting
        name = f"w_text {text}, w_ref {reference}, {steps} steps, parallel {parallel}"
        measures.show(name, frames_of(decode(latents)))
    spun = torch.cat([spin(pipe, video) for video in decode(latents).split(8)])
    measures.show("the last, coded again half a block aside", frames_of(spun))
    if given.decoder_steps:
        train_decoder(pipe, given.decoder_steps, given.pairs)
        name = f"the last, decoder trained {given.decoder_steps} steps on such latents"
        measures.show(name, frames_of(decode(latents)))


if __name__ == "__main__":
    main()
