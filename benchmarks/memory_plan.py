"""How much of a card generating and training take, from meta and fake tensors; no card is needed.

    python benchmarks/memory_plan.py                                   # LTX-2.3, as published
    python benchmarks/memory_plan.py diffusers/LTX-2.3-Diffusers --size 1088x1920x121
    python benchmarks/memory_plan.py FOLDER --json

The weights of each component, the peak of a pass and of decoding, each memory setting's stages,
what to set on cards of 80, 48 and 24 GB, and a LoRA's training step with and without checkpointing
and with each way of looking at the face. Peaks of sampling count two streams per pass.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from stdrc.footprint import GIB, Footprint, VideoShape, memory_table, recommendation

CARDS = (80, 48, 24)


def plan(checkpoint: str, video: VideoShape) -> dict[str, Any]:
    """All numbers in GiB."""
    table = memory_table(checkpoint, video)
    footprint = Footprint.of(checkpoint)
    table["cards"] = {str(card): recommendation(table, card * GIB) for card in CARDS}
    table["passes"] = {
        "denoising, one stream": footprint.denoising(video) / GIB,
        "decoding": footprint.decoding(video) / GIB,
        "decoding in tiles": footprint.decoding(video, tiled=True) / GIB,
    }
    step = {
        "checkpointing": footprint.training(video) / GIB,
        "no checkpointing": footprint.training(video, checkpointing=False) / GIB,
    }
    face = {
        "identity loss, window of 3 latents": footprint.identity(video, window=3) / GIB,
        "identity loss, whole clip": footprint.identity(video, window=None) / GIB,
    }
    table["training"] = {**step, **face}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default="ltx-2.3")
    parser.add_argument("--size", default="512x768x121", help="HEIGHTxWIDTHxFRAMES")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = plan(args.checkpoint, VideoShape(*map(int, args.size.split("x"))))
    if args.json:
        print(json.dumps(table, indent=2))
        return
    for part in ("weights", "passes", "training"):
        print(part)
        for name, size in table[part].items():
            print(f"  {name:<36} {size:6.1f}")
    print(f"peak with each memory setting, {table['own']:g} of them the card's own")
    for row in table["settings"]:
        stages = ", ".join(f"{name} {peak:.1f}" for name, peak in row["stages"].items())
        print(f"  {row['memory']:<56} {row['peak']:6.1f}   ({stages})")
    for sentence in table["cards"].values():
        print(sentence)


if __name__ == "__main__":
    main()
