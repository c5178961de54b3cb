"""What guidance's parallel part and the number of steps do to the miniature.

    python benchmarks/projected_guidance.py [--people 64] [--threads 2]

Guidance adds to the conditional prediction something along it, which is contrast, and something
across it. `ThreeStreamGuidance(parallel=)` keeps a share of the first. People of the validation
split, on which `miniature.measure` takes its settings from here.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from metrics.frechet import frechet_distance
from miniature import DEFAULT_VARIANT
from miniature.judges.video import MiniatureVideo
from miniature.measure import Judges, Point, generate, load_base

#: (parallel, steps, w_text, w_ref)
ROWS = (
    (1.0, 12, 3.0, 4.0),
    (1.0, 6, 3.0, 4.0),
    (1.0, 6, 2.0, 6.0),
    (0.5, 6, 3.0, 4.0),
    (0.0, 12, 3.0, 4.0),
    (0.0, 8, 3.0, 4.0),
    (0.0, 6, 3.0, 4.0),
    (0.0, 4, 3.0, 4.0),
    (0.0, 6, 3.0, 6.0),
    (0.0, 6, 2.0, 4.0),
    (0.0, 6, 2.0, 6.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=64)
    parser.add_argument("--variant", default=DEFAULT_VARIANT)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    load_base()
    judges, video = Judges("val", given.people), MiniatureVideo()
    frames = np.stack([clip.frames for clip in judges.truth])
    truth = video.encode(frames)
    spread = frames.std(axis=(1, 2, 3)).mean()
    print("parallel  steps  w_text  w_ref  identity  background  motion   text   FVD  contrast")
    for parallel, steps, text, reference in ROWS:
        point = Point(given.variant, "val", given.people, text, reference, steps, parallel)
        made = generate(point)
        found = {name: float(np.nanmean(rows)) for name, rows in judges.score(made).items()}
        identity = (found["identity"] - judges.stranger) / (judges.own - judges.stranger)
        distance = frechet_distance(video.encode(made), truth)
        contrast = made.std(axis=(1, 2, 3)).mean() / spread
        print(
            f"{parallel:8g}  {steps:5d}  {text:6g}  {reference:5g}  {identity:8.3f}  "
            f"{found['background']:10.3f}  {found['motion']:6.3f}  {found['text']:5.1f}  "
            f"{distance:4.1f}  {contrast:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
