"""Contact sheets of clips, the reference first: ``python -m miniature.world.sheet``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from miniature.world.render import WorldClip
from miniature.world.world import World


def contact_sheet(clips: Iterable[WorldClip], zoom: int = 1, gap: int = 2) -> np.ndarray:
    """One row per clip: its reference, a gap, its frames; uint8 [H, W, 3] on white."""
    rows = []
    for clip in clips:
        blank = np.full((clip.frames.shape[1], 3 * gap, 3), 255, np.uint8)
        row = np.concatenate([clip.reference, blank, *clip.frames], axis=1)
        rows.append(np.pad(row, ((0, gap), (0, 0), (0, 0)), constant_values=255))
    sheet = np.concatenate(rows)
    size = (sheet.shape[1] * zoom, sheet.shape[0] * zoom)
    return np.asarray(cv2.resize(sheet, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def main() -> None:
    """Write a sheet of test clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "sheet.png")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    world = World("test", size=options.clips, seed=options.seed)
    Image.fromarray(contact_sheet(world)).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
