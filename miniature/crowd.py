"""A crowd: many clips of the world for the base's last training, encoded as they are drawn.

A training folder of this many clips takes longer to write, read and encode one by one than a card
takes to train on it. Here processes draw, batches are encoded, and only the result is written.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from media.files import whole_file
from media.wording import duration
from miniature.world import World, WorldClip
from stdrc.augmentation import ReferenceAugmentation
from stdrc.images import image_tensor
from stdrc.pipeline import STDRCPipeline
from stdrc.training.config import ClipConfig
from stdrc.training.data import TrainingData, seeded
from stdrc.training.encoding import embed_faces, encode_pixels
from stdrc.training.folder import frame_to_clip
from stdrc.training.objectives import face_coverage

#: Clips that are drawn, and encoded, at once.
GROUP = 64


class Drawn(NamedTuple):
    """A group of clips as pixels."""

    clips: Tensor  # float [N, 3, T, S, S] in -1..1
    references: Tensor  # float [N, 2, 3, 1, S, S] in -1..1: the portrait, plain and perturbed
    boxes: Tensor  # float [N, T, 4], NaN where less than half of the face is in the picture
    captions: list[str]


def draw_group(world: World, start: int) -> Drawn:
    """Clips start .. start + GROUP - 1 of a world, as far as it goes."""
    perturb = ReferenceAugmentation()
    numbers = range(start, min(start + GROUP, len(world)))
    clips, side = [world[i] for i in numbers], world.resolution
    shape = ClipConfig(frames=world.frames, height=side, width=side, fps=world.fps)
    references = []
    for i, clip in zip(numbers, clips, strict=True):
        plain = Image.fromarray(clip.reference)
        perturbed = perturb(plain, seeded("augmentation", "world", i))
        references.append(torch.stack([image_tensor(plain), image_tensor(perturbed)]))
    framed = [frame_to_clip(clip.frames, _boxes(clip), shape) for clip in clips]
    return Drawn(
        torch.stack([pixels for pixels, _ in framed]),
        torch.stack(references),
        torch.stack([boxes for _, boxes in framed if boxes is not None]),
        [clip.caption for clip in clips],
    )


def _boxes(clip: WorldClip) -> list[tuple[float, ...] | None]:
    """As a training folder says them, to the hundredth of a pixel."""
    return [tuple(round(float(v), 2) for v in box) for box in clip.boxes]


def _drawn(world: World) -> Iterator[Drawn]:
    """All groups of a world in order, drawn by every core."""
    starts = range(0, len(world), GROUP)
    # A fork of a process whose threads compute may wait for a lock that nobody holds any more.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawn, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(partial(draw_group, world), starts)


class CrowdEncoder:
    """Encodes groups of clips with a pipeline's autoencoder and text side.

    Args:
        pipe: on the device to encode on.
        encoder: embeds the true faces.
        margin: of its crops.
    """

    def __init__(self, pipe: STDRCPipeline, encoder: nn.Module, margin: float) -> None:
        self.pipe, self.encoder, self.margin = pipe, encoder, margin
        self.device = pipe.vae.device

    @torch.no_grad()
    def texts(self, captions: list[str]) -> Tensor:
        """[N, L, D]: what the transformer reads of captions, all in one pass, where `encode_text`
        takes them one by one."""
        pipe = self.pipe
        embeds, mask, _, _ = pipe.encode_prompt(
            captions,
            do_classifier_free_guidance=False,
            max_sequence_length=pipe.prompt_limit,
            device=self.device,
        )
        read, _, _ = pipe.connectors(embeds, mask, padding_side=pipe.tokenizer.padding_side)
        return read.float().cpu()

    def encode(self, drawn: Drawn) -> dict[str, Tensor]:
        """The rows of `TrainingData` that a group fills; references [N, 2, C, 1, h, w]."""
        latents = encode_pixels(self.pipe, drawn.clips)
        references = encode_pixels(self.pipe, drawn.references.flatten(0, 1))
        _, _, frames, height, width = latents.shape
        temporal, spatial, _ = self.pipe.transformer.config.vae_scale_factors
        face = [
            face_coverage(
                boxes, frames=frames, height=height, width=width,
                temporal=temporal, spatial=spatial,
            )
            for boxes in drawn.boxes
        ]  # fmt: skip
        return {
            "latents": latents,
            "references": references.unflatten(0, (-1, 2)),
            "boxes": drawn.boxes,
            "face": torch.stack(face),
            "identities": embed_faces(self.encoder, drawn.clips, drawn.boxes, self.margin),
            "text": self.texts(drawn.captions),
        }


def encode_crowd(world: World, encoder: CrowdEncoder, path: Path) -> None:
    """Draw and encode a whole world into one file, with progress."""
    began, groups = time.monotonic(), []
    for drawn in _drawn(world):
        groups.append(encoder.encode(drawn))
        done = min(len(groups) * GROUP, len(world))
        if len(groups) % 10 == 0 or done == len(world):
            left = duration((time.monotonic() - began) * (len(world) / done - 1))
            print(f"drawn and encoded {done}/{len(world)} clips, {left} left", flush=True)
    rows = {name: torch.cat([group[name] for group in groups]) for name in groups[0]}
    rows["null"] = encoder.texts([""])[0]
    with whole_file(path) as part:
        save_file(rows, part)


def read_crowd(path: Path, fps: float) -> TrainingData:
    """What `encode_crowd` wrote, as training data: each clip may take its plain reference or its
    perturbed one."""
    rows = load_file(path)
    count = len(rows["latents"])
    return TrainingData(
        latents=rows["latents"],
        text=rows["text"],
        null_text=rows["null"],
        references=rows["references"].flatten(0, 1),
        choices=[[2 * i, 2 * i + 1] for i in range(count)],
        face=rows["face"],
        boxes=rows["boxes"],
        identities=rows["identities"],
        fps=fps,
        description={
            "clips": count,
            "identities": count,
            "references": 2 * count,
            "crop": "none",
            "fps": fps,
        },
    )
