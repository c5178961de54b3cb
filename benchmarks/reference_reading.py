"""What a reference tells a model: the error of its clean prediction on faces of unseen people.

    python benchmarks/reference_reading.py [--checkpoint FOLDER] [--placement tass] [--people 96]

For each noise level the squared error of the predicted clean latents inside the face box, with the
person's own reference, with another person's, and with none; the same noise in all three. A model
that reads its reference has the first below the other two. This moves long before generated videos
do, so it is what to watch during a training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from miniature import checkpoint
from miniature.ablation.data import encode
from miniature.autoencoder import to_pixels
from miniature.world import World
from stdrc.pipeline import STDRCPipeline, hide_loading_bars
from stdrc.positions import ReferencePlacement
from stdrc.sequence import TokenSequence
from stdrc.training.denoiser import Denoiser, pack
from stdrc.training.objectives import add_noise, face_coverage

LEVELS = (0.5, 0.7, 0.85, 0.95)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped base")
    parser.add_argument("--placement", default="tass")
    parser.add_argument("--people", type=int, default=96)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    hide_loading_bars()
    pipe = STDRCPipeline.from_pretrained(given.checkpoint or checkpoint(), dtype=torch.float32)
    transformer = pipe.transformer
    clips = list(World("val", size=given.people))
    latents = encode(pipe, to_pixels(np.stack([c.frames for c in clips])))
    _, _, frames, height, width = latents.shape
    size = {"frames": frames, "height": height, "width": width}
    face = torch.stack(
        [
            face_coverage(torch.from_numpy(c.boxes).float(), **size, temporal=4, spatial=8)
            for c in clips
        ]
    )
    weight = pack(face[:, None], transformer).mean(dim=2)  # [B, N]
    side = clips[0].frames.shape[1]
    own = pipe.encode_reference([c.reference for c in clips], side, side).tokens[:, 0]
    text = pipe.encode_text([c.caption for c in clips]).video
    place = ReferencePlacement.parse(given.placement)
    together = TokenSequence.of(transformer.rope, place, **size, fps=clips[0].fps)
    alone = together.video
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    denoiser = Denoiser(transformer).eval()

    def error(level: float, reference: Tensor | None) -> float:
        sigmas = torch.full((given.people,), level)
        noisy = pack(add_noise(latents, noise, sigmas), transformer)
        target = pack(noise - latents, transformer)
        sequence = alone if reference is None else together
        velocity = torch.cat(
            [
                denoiser(
                    noisy[i : i + 16], sigmas[i : i + 16], text[i : i + 16], None,
                    None if reference is None else reference[i : i + 16], sequence,
                )[0]
                for i in range(0, given.people, 16)
            ]
        )  # fmt: skip
        squared = (velocity - target).square().mean(dim=2) * level**2
        return float((squared * weight).sum() / weight.sum())

    print("| noise level | own reference | another person's | none |\n|---|---|---|---|")
    for level in LEVELS:
        found = [error(level, r) for r in (own, own.roll(1, 0), None)]
        print(f"| {level:g} | " + " | ".join(f"{value:.4f}" for value in found) + " |", flush=True)


if __name__ == "__main__":
    main()
