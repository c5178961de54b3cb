"""What the identity loss costs through the VAE's decoder and through a matrix in its place.

    python benchmarks/identity_loss_cost.py [--clips 16] [--frames 3]

Forward and backward of the loss alone, on clips of unseen people, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from miniature import checkpoint
from miniature.ablation.data import encode
from miniature.autoencoder import to_pixels
from miniature.identity_encoder import load_identity_encoder
from miniature.world import World
from stdrc.pipeline import STDRCPipeline, hide_loading_bars
from stdrc.training.config import IdentityConfig
from stdrc.training.linear_decoder import LinearDecoder
from stdrc.training.objectives import IdentityLoss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    hide_loading_bars()
    pipe = STDRCPipeline.from_pretrained(checkpoint(), dtype=torch.float32, transformer=None)
    clips = list(World("val", size=given.clips + 48))
    with torch.no_grad():
        latents = encode(pipe, to_pixels(np.stack([clip.frames for clip in clips])))
    asked = IdentityConfig(weight=1.0, frames=given.frames, samples=given.clips, margin=0.25)
    plain = IdentityLoss(pipe.vae, load_identity_encoder(), asked)
    matrix = LinearDecoder.fit(plain.decode, latents[given.clips :], temporal=4, spatial=8)
    linear = IdentityLoss(pipe.vae, load_identity_encoder(), asked, matrix)
    clean = latents[: given.clips]
    boxes = torch.from_numpy(np.stack([c.boxes for c in clips[: given.clips]])).float()
    print(f"the matrix holds {100 * matrix.share:.2f} % of what the decoder draws")
    for name, loss in (("decoder", plain), ("matrix", linear)):
        taken = []
        for _ in range(given.repeats + 1):  # the first one also embeds the truth
            guess = (clean + 0.3 * torch.randn_like(clean)).requires_grad_()
            start = time.perf_counter()
            value = loss(
                guess, clean, torch.zeros(given.clips), boxes, torch.arange(given.clips),
                torch.Generator().manual_seed(0),
            )  # fmt: skip
            assert value is not None
            value.backward()
            taken.append(time.perf_counter() - start)
        seconds = statistics.median(taken[1:])
        print(f"{name}: {seconds:.2f} s for {given.clips} clips, {given.frames} frames each")


if __name__ == "__main__":
    main()
