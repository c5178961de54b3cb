"""The ablation's training data: the world's clips and three kinds of references, encoded once.

Files of a few hundred clips each, so that a kill costs one of them. References are squares around
the head, as VIP-200K, ConsisID and OpenS2V cut them: of random frames of the clip itself, as they
are (`off`) or perturbed (`on`), or of portraits of the same person in independent scenes (`cross`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from miniature.ablation.plan import CLIPS, REFERENCES
from miniature.autoencoder import to_pixels
from miniature.identity_encoder import load_identity_encoder
from miniature.world import World, WorldClip
from miniature.world.attributes import ClipAttributes
from miniature.world.layouts import head_box
from miniature.world.render import render_portrait
from stdrc.augmentation import ReferenceAugmentation
from stdrc.images import crop_square, letterbox
from stdrc.pipeline import STDRCPipeline
from stdrc.training.checkpoint import save_tensors, whole_file
from stdrc.training.data import TrainingData, seeded
from stdrc.training.objectives import face_coverage, face_crops

#: Clips per file.
GROUP = 250
#: Pixel frames of a clip whose face embeddings are averaged.
EMBEDDED = (0, 4, 8)


def head_crop(frame: np.ndarray, face: np.ndarray) -> Image.Image:
    """The square around the head of uint8 [S, S, 3], as large as the frame; `face` is its box."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = head_box(face.tolist())
    box = (max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1))
    return letterbox(crop_square(frame, box, 0.0), height, width)


def _own_frames(clip: WorldClip, index: int) -> list[Image.Image]:
    order = np.random.default_rng([91, index]).permutation(len(clip.frames))
    return [head_crop(clip.frames[t], clip.boxes[t]) for t in order[:REFERENCES]]


def _perturbed(clip: WorldClip, index: int) -> list[Image.Image]:
    change = ReferenceAugmentation()
    crops = enumerate(_own_frames(clip, index))
    return [change(crop, seeded("ablation", index, k)) for k, crop in crops]


def _other_scenes(clip: WorldClip, index: int) -> list[Image.Image]:
    rng, crops = np.random.default_rng([92, index]), []
    for k in range(REFERENCES):
        scene = ClipAttributes.sample(rng)
        image, box, _ = render_portrait(
            clip.identity, scene, seed=1_000_000 + REFERENCES * index + k
        )
        crops.append(head_crop(image, box))
    return crops


REFERENCES_OF: dict[str, Callable[[WorldClip, int], list[Image.Image]]] = {
    "off": _own_frames,
    "on": _perturbed,
    "cross": _other_scenes,
}


@torch.inference_mode()
def encode(pipe: STDRCPipeline, pixels: Tensor) -> Tensor:
    """[B, 3, T, H, W] in -1..1 to normalised latents [B, C, F, h, w]."""
    vae = pipe.vae
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in pixels.split(16)])
    return pipe._normalize_latents(
        latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    )


def faces_of(boxes: Tensor, frames: int, height: int, width: int) -> Tensor:
    """Share of each latent token inside the face: boxes [B, T, 4] to [B, frames, height, width]."""
    size = {"frames": frames, "height": height, "width": width}
    return torch.stack([face_coverage(box, **size, temporal=4, spatial=8) for box in boxes])


@torch.inference_mode()
def _encode_clips(pipe: STDRCPipeline, clips: list[WorldClip]) -> dict[str, Tensor]:
    pixels = to_pixels(np.stack([clip.frames for clip in clips]))
    boxes = torch.from_numpy(np.stack([clip.boxes for clip in clips])).float()
    latents = encode(pipe, pixels)
    encoder, at = load_identity_encoder(), list(EMBEDDED)
    shown = pixels[:, :, at].transpose(1, 2).flatten(0, 1)
    crops = face_crops(shown, boxes[:, at].flatten(0, 1), encoder.crop_size, 0.25)
    found = F.normalize(encoder(crops), dim=1).unflatten(0, (len(clips), len(at)))
    texts = [pipe.encode_text([clip.caption for clip in clips[i : i + 50]]).video
             for i in range(0, len(clips), 50)]  # fmt: skip
    return {
        "latents": latents.half(),
        "face": faces_of(boxes, *latents.shape[2:]),
        "identities": F.normalize(found.sum(1), dim=1),
        "text": torch.cat(texts),
    }


def _encode_references(
    pipe: STDRCPipeline, clips: list[WorldClip], first: int, arm: str
) -> dict[str, Tensor]:
    images = [
        image for i, clip in enumerate(clips) for image in REFERENCES_OF[arm](clip, first + i)
    ]
    return {
        "latents": encode(pipe, to_pixels(np.stack([np.asarray(i)[None] for i in images]))).half()
    }


def prepare(folder: Path, kind: str, load: Callable[[], STDRCPipeline]) -> dict[str, Tensor]:
    """Encode what is missing of a kind and read all of it.

    Args:
        folder: of the encodings.
        kind: "clips" or an arm.
        load: called where something is missing; gives the pipeline with its frozen parts.

    Returns:
        For clips: latents [N, C, F, h, w], face [N, F, h, w], identities [N, E], text [N, L, D];
        for an arm: latents [N * REFERENCES, C, 1, h, w].
    """
    parts, world = [], World("train", size=CLIPS)
    for first in range(0, CLIPS, GROUP):
        file = folder / f"{kind}-{first:05d}.safetensors"
        if not file.is_file():
            clips = [world[i] for i in range(first, first + GROUP)]
            pipe = load()
            made = (
                _encode_clips(pipe, clips)
                if kind == "clips"
                else _encode_references(pipe, clips, first, kind)
            )
            with whole_file(file) as partial:
                save_tensors(partial, {name: value.contiguous() for name, value in made.items()})
            print(f"{kind}: {first + GROUP} of {CLIPS} clips encoded", flush=True)
        parts.append(load_file(file))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def training_data(folder: Path, arm: str | None, load: Callable[[], STDRCPipeline]) -> TrainingData:
    """What a point of `arm` trains on; None is for the base, which has no references."""
    clips = prepare(folder, "clips", load)
    null_file = folder / "null.safetensors"
    if not null_file.is_file():
        with torch.inference_mode(), whole_file(null_file) as partial:
            save_tensors(partial, {"text": load().encode_text([""]).video[0].contiguous()})
    choices = None
    references = None
    if arm is not None:
        references = prepare(folder, arm, load)["latents"]
        choices = [list(range(i, i + REFERENCES)) for i in range(0, len(references), REFERENCES)]
    return TrainingData(
        latents=clips["latents"],
        text=clips["text"],
        null_text=load_file(null_file)["text"],
        references=references,
        choices=choices,
        face=clips["face"],
        identities=clips["identities"],
        fps=8.0,
        description={"world": "train", "clips": CLIPS, "references": arm},
    )
