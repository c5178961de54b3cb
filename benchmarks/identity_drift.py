"""Whom a model means on its way from noise to a video: identity of the clean guess by noise level.

    python benchmarks/identity_drift.py [--checkpoint FOLDER] [--variant NAME] [--people 24]

Videos of unseen people are generated, and what each step takes for the clean latents is decoded,
its face found, and compared with the reference by the judge and by the encoder of the identity
loss. A model that is true to its reference ends no lower than it begins.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from miniature import checkpoint, variants
from miniature.identity_encoder import load_identity_encoder
from miniature.measure import Judges
from stdrc import ThreeStreamGuidance
from stdrc.pipeline import STDRCPipeline, hide_loading_bars
from stdrc.training.denoiser import unpack
from stdrc.training.objectives import decode_video, face_crops

STEPS = 12


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped base")
    parser.add_argument("--variant", help="a shipped LoRA on it; none: the base alone, with tass")
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--weights", nargs="+", default=["1,1", "3,4"], help="w_text,w_ref")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    hide_loading_bars()
    pipe = STDRCPipeline.from_pretrained(given.checkpoint or checkpoint(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if given.variant:
        pipe.load_lora_weights(str(variants()[given.variant]))
    judges, encoder = Judges("val", given.people), load_identity_encoder()

    def encode(frames: np.ndarray) -> Tensor:
        """[T, 128] of the identity loss's encoder, zero where the judge's detector finds no face"""
        out = torch.zeros(len(frames), 128)
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        for i, faces in enumerate(judges.faces.detect(frames)):
            if len(faces.boxes):
                box = torch.as_tensor(faces.boxes[:1]).float()
                out[i] = encoder(face_crops(pixels[i : i + 1], box, encoder.crop_size, 0.25))[0]
        return out

    known = torch.stack([encode(clip.reference[None])[0] for clip in judges.truth])

    def similarity(videos: list[np.ndarray]) -> tuple[float, float]:
        by_judge = [judges.embed(v) @ r for v, r in zip(videos, judges.references)]
        by_encoder = [encode(v) @ r for v, r in zip(videos, known)]
        return float(torch.cat(by_judge).mean()), float(torch.cat(by_encoder).mean())

    def draw(tokens: Tensor) -> list[np.ndarray]:
        latents = unpack(tokens, 3, 8, 8, pipe.transformer)
        videos = [decode_video(pipe.vae, z[None])[0] for z in latents]
        return [((v.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, 3).numpy() for v in videos]

    print("| w_text, w_ref | noise level | judge | loss's encoder |\n|---|---|---|---|")
    true = similarity([clip.frames for clip in judges.truth])
    print(f"| the true clips | | {true[0]:.3f} | {true[1]:.3f} |", flush=True)
    for weights in given.weights:
        text, reference = map(float, weights.split(","))
        path: list[Tensor] = []

        def keep(_pipe: STDRCPipeline, _step: int, _time: Tensor, state: dict, path=path) -> dict:
            path.append(state["latents"])
            return {}

        start = torch.randn(given.people, 192, 48, generator=torch.Generator().manual_seed(9))
        pipe(
            [clip.caption for clip in judges.truth],
            reference=[clip.reference for clip in judges.truth],
            placement=None if given.variant else "tass",
            guidance=ThreeStreamGuidance(text, reference),
            latents=start,
            num_inference_steps=STEPS,
            callback_on_step_end=keep,
        )
        levels = pipe.scheduler.sigmas.tolist()
        for i, (before, after) in enumerate(pairwise([start, *path])):
            if i % 2 and i < STEPS - 1:
                continue
            velocity = (after - before) / (levels[i + 1] - levels[i])
            judge, loss = similarity(draw(before - levels[i] * velocity))
            print(f"| {weights} | {levels[i]:.2f} | {judge:.3f} | {loss:.3f} |", flush=True)


if __name__ == "__main__":
    main()
