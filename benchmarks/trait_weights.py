"""What the miniature's judge of faces goes by: normalised identity with some traits a stranger's.

    python benchmarks/trait_weights.py [--people 48]

Everybody's true clip is drawn once more with one group of traits taken from another person.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from miniature.measure import Judges
from miniature.world import World
from miniature.world.render import render_clip

LARGE = {
    "skin": ("skin",),
    "outline of the face": ("outline", "half_width", "half_height", "jaw"),
    "hair style": ("hair_style",),
    "hair colour": ("hair_color",),
    "beard": ("beard",),
    "glasses": ("glasses", "glasses_color"),
}
SMALL = {
    "eyes": ("eye_color", "eye_spacing", "eye_width", "eye_height", "eye_tilt"),
    "brows": ("brow_thickness", "brow_lift", "brow_tilt"),
    "nose": ("nose_length", "nose_width"),
    "mouth": ("mouth_width", "lip_thickness", "lip_color"),
    "ears, blush, freckles, moles": ("ear_size", "blush", "freckles", "moles"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    judges, world = Judges("val", given.people), World("val", size=given.people)

    def score(traits: tuple[str, ...]) -> float:
        clips = []
        for i in range(given.people):
            own, other = world.identity(i), world.identity((i + 7) % given.people)
            mixed = replace(own, **{trait: getattr(other, trait) for trait in traits})
            clips.append(render_clip(mixed, world.attributes(i), seed=i).frames)
        found = np.mean(judges.score(np.stack(clips))["identity"])
        return float((found - judges.stranger) / (judges.own - judges.stranger))

    groups = {
        **LARGE,
        **SMALL,
        "all of the large ones": tuple(trait for group in LARGE.values() for trait in group),
        "all of the small ones": tuple(trait for group in SMALL.values() for trait in group),
    }
    print("| a stranger's | normalised identity |\n|---|---|")
    for name, traits in groups.items():
        print(f"| {name} | {score(traits):.3f} |", flush=True)


if __name__ == "__main__":
    main()
