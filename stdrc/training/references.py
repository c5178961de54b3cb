"""The references of a data set: where their pictures come from, what of them is shown, encoded.

What a reference is cut to is the run's `crop`; it is recorded with the result, so that sampling
shows the model the same part of a picture as training did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from media.errors import UserError
from media.video import VideoReader
from stdrc.augmentation import ReferenceAugmentation
from stdrc.errors import STDRCError
from stdrc.images import CROPS, Crop, crop_square, image_tensor, letterbox, open_image
from stdrc.training.config import ClipConfig, TrainConfig
from stdrc.training.data import seeded
from stdrc.training.encoding_cache import EncodingCache
from stdrc.training.folder import Box, ClipEntry, Problem


@dataclass(frozen=True)
class Source:
    """A picture, or a frame of a video, and the part of it that is shown.

    Args:
        path: of the picture or the video.
        frame: number of the video's frame; None: it is a picture.
        box: of the face or the head, as `crop` says; None with crop "none".
    """

    path: Path
    frame: int | None
    crop: Crop
    box: Box | None

    @property
    def cut(self) -> list[Any]:
        """What beside the file makes the picture, for the encoding's name."""
        cut = [] if self.crop == "none" else [self.box, self.crop == "head"]
        return cut if self.frame is None else [self.frame, *(cut or [None, False])]

    def image(self) -> Image.Image:
        """The part that is shown.

        Raises:
            UserError: the file can't be read.
        """
        if self.frame is None:
            whole = open_image(self.path)
        else:
            whole = Image.fromarray(VideoReader(self.path).read([self.frame])[0])
        if self.box is None:
            return whole
        return crop_square(np.asarray(whole), self.box, CROPS[self.crop])


Size = tuple[int, int]  # height and width in pixels
Job = tuple[Path, Source, int, Size]  # the file of an encoding, of what, which variant, how large


def groups(items: Sequence[Any], most: int, shape: Callable[[Any], Any]) -> Iterator[Sequence[Any]]:
    """At most that many items at a time, all of one shape, in the shapes' first order."""
    by_shape: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        by_shape[shape(item)].append(item)
    for same in by_shape.values():
        for start in range(0, len(same), most):
            yield same[start : start + most]


def resolve_crop(config: TrainConfig, entries: Sequence[ClipEntry]) -> Crop:
    """The run's crop. Where the configuration leaves it out: pictures as they are, frames of a
    video cut to the head, or to the face where there are no boxes of heads.

    Raises:
        STDRCError: it is left out and the clips' references differ in kind.
    """
    if config.crop is not None:
        return config.crop
    if config.placement is None:
        return "none"
    frames = [entry for entry in entries if not entry.references]
    if not frames:
        return "none"
    if len(frames) < len(entries):
        raise STDRCError(
            f"{len(entries) - len(frames)} clips have reference pictures and {len(frames)} have "
            "none, so that frames of the video would serve; set crop: none, face or head for all."
        )
    heads = all(any(head is not None for head in entry.heads or ()) for entry in frames)
    return "head" if heads else "face"


def missing_boxes(entry: ClipEntry, crop: Crop) -> list[str]:
    """What a clip lacks for its references to be cut, in words."""
    if not entry.references:
        if entry.boxes is None:
            return ["no boxes, which a reference cut from its frames needs"]
        if crop == "head" and not any(head is not None for head in entry.heads or ()):
            return ["no boxes of heads, which crop: head needs"]
        return []
    if crop != "none" and None in (entry.reference_boxes or (None,)):
        return [f"no reference_boxes for all its references, which crop: {crop} needs"]
    return []


class ReferenceEncoder:
    """Encodes the references of clips, each distinct one once.

    Args:
        config: the run.
        crop: see `resolve_crop`.
        cache: where encodings are kept.
        encode: pixels [B, 3, 1, H, W] in -1..1 to latents on the CPU.
        vae: hash of the autoencoder's weights.
        dtype: that latents are kept in.
        say: called with a line about what is being done.
        problems: where pictures that can't be read are noted.
    """

    def __init__(
        self,
        config: TrainConfig,
        crop: Crop,
        cache: EncodingCache,
        *,
        encode: Callable[[Tensor], Tensor],
        vae: str,
        dtype: torch.dtype,
        say: Callable[[str], None],
        problems: list[Problem],
    ) -> None:
        self.config, self.crop, self.cache = config, crop, cache
        self.encode, self.vae, self.dtype = encode, vae, dtype
        self.say, self.problems = say, problems

    def run(
        self, entries: Sequence[ClipEntry], clips: Sequence[int], shapes: Sequence[ClipConfig]
    ) -> tuple[list[Path], list[list[int]]]:
        """Files of all references' latents, and for each clip which of them it may take.

        Args:
            entries: all of the data.
            clips: the entry of each clip.
            shapes: the shape of each clip, whose size its references have.
        """
        augmentation, d = self.config.augmentation, self.config.reference_downscale
        lend = augmentation.pose and augmentation.active
        used = sorted(set(clips))
        own = {i: self._sources(entries[i]) for i in used}
        # Another clip of the same person is a change of pose too.
        of = {i: entries[i].identity if lend and entries[i].identity else i for i in used}
        sizes: dict[str | int, set[Size]] = defaultdict(set)
        for i, shape in zip(clips, shapes, strict=True):
            sizes[of[i]].add((shape.height // d, shape.width // d))
        rows: dict[Path, int] = {}
        jobs: list[Job] = []
        lent: dict[tuple[str | int, Size], list[int]] = defaultdict(list)
        for i in used:
            for size in sorted(sizes[of[i]]):
                for source in own[i]:
                    for variant in self._variants():
                        path = self._path(source, variant, size)
                        if path not in rows:
                            rows[path] = len(rows)
                            jobs.append((path, source, variant, size))
                        lent[of[i], size].append(rows[path])
        broken = self._encode(jobs)
        files = list(rows)
        good = [r for r in range(len(files)) if r not in broken]
        renumbered = {row: number for number, row in enumerate(good)}
        choices = []
        for i, shape in zip(clips, shapes, strict=True):
            may = lent[of[i], (shape.height // d, shape.width // d)]
            may = sorted(set(may)) if lend and entries[i].identity else may
            choices.append([renumbered[r] for r in may if r in renumbered])
        return [files[r] for r in good], choices

    def _variants(self) -> list[int]:
        """0 is the plain reference; 1, 2, ... are augmented."""
        augmentation = self.config.augmentation
        if not augmentation.active:
            return [0]
        return list(range(0 if augmentation.plain else 1, augmentation.variants + 1))

    def _sources(self, entry: ClipEntry) -> list[Source]:
        """The pictures a clip's references are made of: files, or frames of the video."""
        cut = self.crop != "none"
        if entry.references:
            boxes = entry.reference_boxes if cut else None
            boxes = boxes or (None,) * len(entry.references)
            return [Source(p, None, self.crop, b) for p, b in zip(entry.references, boxes)]
        faces = entry.boxes or ()
        shown = entry.heads or () if self.crop == "head" else faces
        seen = [i for i, (face, box) in enumerate(zip(faces, shown)) if face and box]
        count = 1
        if self.config.augmentation.active and self.config.augmentation.pose:
            count = 1 + self.config.augmentation.variants  # other frames are other poses
        at = np.linspace(0, len(seen) - 1, min(count, len(seen))).round().astype(int)
        picked = dict.fromkeys(seen[int(k)] for k in at)
        return [Source(entry.video, i, self.crop, shown[i] if cut else None) for i in picked]

    def _path(self, source: Source, variant: int, size: Size) -> Path:
        made: dict[str, Any] = {"file": self.cache.file_hash(source.path), "crop": source.cut}
        if variant:
            made["augmentation"] = self.config.augmentation.model_dump(
                exclude={"variants", "plain"}
            )
        return self.cache.path(
            kind="reference",
            variant=variant,
            vae=self.vae,
            dtype=self.config.cache.dtype,
            height=size[0],
            width=size[1],
            **made,
        )

    def _encode(self, jobs: Sequence[Job]) -> set[int]:
        """Encode what is missing; returns the numbers of the jobs whose image cannot be read."""
        missing = [n for n, (path, *_) in enumerate(jobs) if not self.cache.has(path)]
        if missing:
            self.say(f"encoding {len(missing)} of {len(jobs)} references")
        settings = self.config.augmentation
        augment = ReferenceAugmentation(
            settings.colour, settings.pose, settings.layout, settings.strength
        )
        broken: set[int] = set()
        reported: set[Path] = set()
        last: tuple[Source, Image.Image] | None = None  # variants of one source come in a row
        size = 4 * self.config.cache.batch_size
        for group in groups(missing, size, lambda n: jobs[n][3]):
            pixels, paths = [], []
            for n in group:
                path, source, variant, (height, width) = jobs[n]
                try:
                    if last is None or last[0] != source:
                        last = source, source.image()
                except UserError as problem:
                    broken.add(n)
                    if source.path not in reported:
                        self.problems.append(Problem.of(source.path, problem))
                        reported.add(source.path)
                    continue
                shown = letterbox(last[1], height, width)
                if variant:
                    # The file's name under which it is kept is all that its randomness hangs on.
                    shown = augment(shown, seeded("augmentation", path.stem))
                pixels.append(image_tensor(shown))
                paths.append(path)
            if pixels:
                encoded = self.encode(torch.stack(pixels))
                for path, latent in zip(paths, encoded, strict=True):
                    self.cache.put(path, {"latents": latent.to(self.dtype)})
        return broken
