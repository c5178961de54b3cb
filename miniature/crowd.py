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

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from media.files import whole_file
from media.wording import duration
from miniature.world import World
from stdrc.augmentation import ReferenceAugmentation
from stdrc.images import image_tensor
from stdrc.pipeline import STDRCPipeline
from stdrc.training.data import TrainingData, seeded
from stdrc.training.encoding import IDENTITY_FRAMES
from stdrc.training.objectives import crops_for, face_coverage

#: Clips that are drawn, and encoded, at once.
GROUP = 64


class Drawn(NamedTuple):
    """A group of clips as pixels."""

    clips: Tensor  # uint8 [N, T, S, S, 3]
    references: Tensor  # float [N, 2, 3, 1, S, S] in -1..1: the portrait, plain and perturbed
    boxes: Tensor  # float [N, T, 4], NaN where less than half of the face is in the picture
    captions: list[str]


def draw_group(world: World, start: int) -> Drawn:
    """Clips start .. start + GROUP - 1 of a world, as far as it goes."""
    perturb = ReferenceAugmentation()
    numbers = range(start, min(start + GROUP, len(world)))
    clips = [world[i] for i in numbers]
    references = []
    for i, clip in zip(numbers, clips, strict=True):
        plain = Image.fromarray(clip.reference)
        perturbed = perturb(plain, seeded("augmentation", "world", i))
        references.append(torch.stack([image_tensor(plain), image_tensor(perturbed)]))
    whole = np.stack([clip.boxes for clip in clips]).round(2)
    boxes = whole.clip(0, world.resolution)
    boxes[_area(boxes) < 0.5 * _area(whole)] = np.nan
    return Drawn(
        torch.from_numpy(np.stack([clip.frames for clip in clips])),
        torch.stack(references),
        torch.from_numpy(boxes.astype(np.float32)),
        [clip.caption for clip in clips],
    )


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


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
    def latents(self, pixels: Tensor) -> Tensor:
        """[B, 3, T, H, W] in -1..1 to normalised latents [B, C, F, h, w], on the CPU."""
        vae = self.pipe.vae
        found = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float()
        return self.pipe._normalize_latents(
            found, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        ).cpu()

    @torch.no_grad()
    def faces(self, video: Tensor, boxes: Tensor) -> Tensor:
        """[N, E] unit: the mean of a few frames of each clip [N, 3, T, H, W]."""
        frames, of = [], []
        for n, seen in enumerate((~boxes.isnan().any(dim=2)).cpu()):
            at = seen.nonzero().flatten()
            at = at[torch.linspace(0, len(at) - 1, min(IDENTITY_FRAMES, len(at))).long()]
            frames += at.tolist()
            of += [n] * len(at)
        shown = video[of, :, frames].to(self.device)
        crops = crops_for(self.encoder, shown, boxes[of, frames].to(self.device), self.margin)
        found = F.normalize(self.encoder(crops).float(), dim=1).cpu()
        total = found.new_zeros(len(video), found.shape[1]).index_add_(0, torch.tensor(of), found)
        return F.normalize(total, dim=1)

    @torch.no_grad()
    def texts(self, captions: list[str]) -> Tensor:
        """[N, L, D]: what the transformer reads of captions."""
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
        video = drawn.clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        latents = self.latents(video)
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
            "references": self.latents(drawn.references.flatten(0, 1)).unflatten(0, (-1, 2)),
            "boxes": drawn.boxes,
            "face": torch.stack(face),
            "identities": self.faces(video, drawn.boxes),
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
