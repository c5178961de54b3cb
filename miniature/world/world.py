"""A world is a list of clips: a split, a size and a seed fix every one of them.

Identities of the splits are disjoint ranges of seeds, and some pairs of attributes are kept out of
train and validation (`ClipAttributes.held_out`); a quarter of the test clips show such pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miniature.errors import MiniatureError, UnknownNameError
from miniature.world.attributes import ClipAttributes
from miniature.world.identity import Identity
from miniature.world.render import WorldClip, render_clip

if TYPE_CHECKING:
    from datasets import Dataset

# First identity seed of each split, and how many it has. The judges' identities are their own, so
# that no judge has seen anyone whom the generator is trained or tested on.
SPLITS: dict[str, tuple[int, int]] = {
    "train": (0, 100_000),
    "val": (100_000, 10_000),
    "test": (110_000, 10_000),
    "judges": (200_000, 100_000),
    "judges_val": (300_000, 10_000),
    "encoder": (400_000, 100_000),
}


class World:
    """Clips of drawn faces, rendered when asked for; `world[i]` is a `WorldClip`.

    Args:
        split: "train", "val" or "test"; "judges", "judges_val" and "encoder" are the identities
            that the frozen judges and the generator's identity encoder learn from.
        size: number of clips.
        seed: another seed gives other clips of the same split.
        clips_per_identity: how many consecutive clips show one identity.
        frames, resolution, fps: shape of the clips.

    Raises:
        MiniatureError: an unknown split, a size or shape that can't be, or more identities than the
            split has.

    Example:
        >>> clip = World(split="test", size=8)[0]
        >>> clip.frames.shape
        (9, 64, 64, 3)
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 2000,
        seed: int = 0,
        clips_per_identity: int = 1,
        frames: int = 9,
        resolution: int = 64,
        fps: float = 8.0,
    ) -> None:
        if split not in SPLITS:
            raise UnknownNameError.among("World has no split", split, SPLITS)
        if min(size, clips_per_identity, frames) < 1:
            raise MiniatureError(
                f"World needs size, clips_per_identity and frames of at least 1, not {size}, "
                f"{clips_per_identity} and {frames}."
            )
        first, count = SPLITS[split]
        needed = -(-size // clips_per_identity)
        if needed > count:
            raise MiniatureError(
                f"World split {split!r} has {count} identities but size {size} needs {needed}; "
                "lower size or raise clips_per_identity."
            )
        self.split, self.size, self.seed = split, size, seed
        self.clips_per_identity = clips_per_identity
        self.frames, self.resolution, self.fps = frames, resolution, fps
        self._first = first

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[WorldClip]:
        return (self[i] for i in range(self.size))

    def identity(self, index: int) -> Identity:
        """Who is seen in clip `index`."""
        return Identity.from_seed(self._first + index // self.clips_per_identity)

    def attributes(self, index: int) -> ClipAttributes:
        """The scene of clip `index`."""
        rng = np.random.default_rng([7154, self._first, self.seed, index])
        if self.split == "test":
            return ClipAttributes.sample(rng, held_out=bool(rng.random() < 0.25))
        if self.split in ("train", "val"):
            return ClipAttributes.sample(rng, held_out=False)
        return ClipAttributes.sample(rng)

    def __getitem__(self, index: int) -> WorldClip:
        if not 0 <= index < self.size:
            raise IndexError(f"clip {index} of a world of {self.size}")
        return render_clip(
            self.identity(index),
            self.attributes(index),
            frames=self.frames,
            size=self.resolution,
            seed=self.seed * 1_000_003 + index,
            fps=self.fps,
        )

    def to_dataset(self, cache_dir: str | Path | None = None) -> Dataset:
        """Every clip as a row of a Hugging Face `datasets.Dataset`.

        Columns: `frames` uint8 [T, S, S, 3], `reference` (an image), `caption`, `identity`, `boxes`
        [T, 4], `landmarks` [T, 5, 2], `fps`, and one column for each attribute.

        Args:
            cache_dir: where `datasets` keeps the table; its own default where None.
        """
        import datasets

        side = self.resolution
        features = datasets.Features(
            {
                "frames": datasets.Array4D((self.frames, side, side, 3), "uint8"),
                "reference": datasets.Image(),
                "caption": datasets.Value("string"),
                "identity": datasets.Value("string"),
                "boxes": datasets.Array2D((self.frames, 4), "float32"),
                "landmarks": datasets.Array3D((self.frames, 5, 2), "float32"),
                "fps": datasets.Value("float32"),
                **{name: datasets.Value("string") for name in ClipAttributes().as_dict()},
            }
        )
        return datasets.Dataset.from_generator(
            _rows,
            features=features,
            cache_dir=None if cache_dir is None else str(cache_dir),
            gen_kwargs={
                "split": self.split,
                "size": self.size,
                "seed": self.seed,
                "clips_per_identity": self.clips_per_identity,
                "frames": self.frames,
                "resolution": self.resolution,
                "fps": self.fps,
            },
        )


def _rows(**settings: Any) -> Iterator[dict[str, Any]]:
    for clip in World(**settings):
        yield {
            "frames": clip.frames,
            "reference": clip.reference,
            "caption": clip.caption,
            "identity": clip.identity.name,
            "boxes": clip.boxes.astype(np.float32),
            "landmarks": clip.landmarks.astype(np.float32),
            "fps": clip.fps,
            **clip.attributes.as_dict(),
        }
