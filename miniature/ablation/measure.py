"""What a trained point draws and reads; a small JSON file each, so that a kill costs one.

Sampling goes through the pipeline as shipped, with the point's transformer in it. What is measured
stands in `miniature/EXPERIMENT.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import LTX2VideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx2 import apply_split_rotary_emb
from torch import Tensor

from miniature.ablation.data import encode, faces_of, head_crop
from miniature.ablation.plan import (
    BUDGETS,
    PARALLEL,
    PEOPLE,
    REFERENCE_WEIGHTS,
    SAMPLER_STEPS,
    SNAPSHOTS,
    TEXT_WEIGHT,
    Point,
)
from miniature.ablation.training import base_file, frozen_parts, load_transformer, snapshot_file
from miniature.autoencoder import to_pixels
from miniature.judges.attributes import leakage, parse_prompt
from miniature.measure import Judges, clips
from stdrc import ThreeStreamGuidance
from stdrc.positions import ReferencePlacement
from stdrc.sequence import TokenSequence
from stdrc.training.checkpoint import whole_file
from stdrc.training.denoiser import Denoiser, pack
from stdrc.training.objectives import add_noise

BATCH = 16
#: Noise levels at which reading is measured.
LEVELS = (0.7, 0.9)
#: Noise level and people of the attention's picture.
ATTENTION_LEVEL, ATTENTION_PEOPLE = 0.9, 32


@lru_cache(maxsize=1)
def judges() -> Judges:
    return Judges("val", PEOPLE)


@lru_cache(maxsize=1)
def encoded() -> dict[str, Any]:
    """What is the same for every point: texts, references and clips of the test people."""
    pipe, people = frozen_parts(), clips("val", PEOPLE)
    own = [head_crop(clip.reference, clip.reference_box) for clip in people]
    same = [head_crop(clip.frames[4], clip.boxes[4]) for clip in people]
    side = people[0].frames.shape[1]
    latents = encode(pipe, to_pixels(np.stack([clip.frames for clip in people])))
    boxes = torch.from_numpy(np.stack([clip.boxes for clip in people])).float()
    return {
        "text": pipe.encode_text([clip.caption for clip in people]),
        "own": pipe.encode_reference(own, side, side),
        "same": pipe.encode_reference(same, side, side),
        "latents": latents.clone(),
        "face": faces_of(boxes, *latents.shape[2:]),
    }


def _write(file: Path, value: Any) -> None:
    with whole_file(file) as partial:
        partial.write_text(json.dumps(value), encoding="utf-8")


def _rounded(rows: dict[str, list[float]]) -> dict[str, list[float | None]]:
    return {
        name: [None if np.isnan(v) else round(float(v), 4) for v in values]
        for name, values in rows.items()
    }


def generate(
    transformer: LTX2VideoTransformer3DModel, placement: ReferencePlacement, weight: float
) -> np.ndarray:
    """uint8 [people, T, H, W, 3] at one weight of the reference; person i's noise has seed i."""
    pipe, given = frozen_parts(), encoded()
    pipe.register_modules(transformer=transformer)
    guidance = ThreeStreamGuidance(text=TEXT_WEIGHT, reference=weight, parallel=PARALLEL)
    videos = []
    for first in range(0, PEOPLE, BATCH):
        rows = list(range(first, min(first + BATCH, PEOPLE)))
        frames = pipe(
            prompt_embeds=given["text"][rows],
            reference_latents=given["own"][rows],
            placement=placement,
            guidance=guidance,
            seeds=rows,
            num_inference_steps=SAMPLER_STEPS,
        ).frames
        videos.append((np.asarray(frames).clip(0, 1) * 255).round().astype(np.uint8))
    return np.concatenate(videos)


def score(videos: np.ndarray) -> dict[str, list[float | None]]:
    """One value per person for each measure; "leak_*" is NaN where the question can't be asked."""
    judge = judges()
    rows = judge.score(videos)
    seen = judge.attributes.predict(videos)
    for i, clip in enumerate(judge.truth):
        labels = {name: values[i] for name, values in seen.items()}
        found = leakage(parse_prompt(clip.caption), labels, clip.reference_attributes.as_dict())
        for name, value in found.items():
            rows.setdefault(f"leak_{name}", []).append(value)
    return _rounded(rows)


def _measure(
    file: Path, weights: Path, placement: ReferencePlacement, weight: float, about: dict[str, Any]
) -> None:
    if file.is_file():
        return
    judge = judges()
    rows = score(generate(load_transformer(weights), placement, weight))
    scale = {"own": judge.own, "stranger": judge.stranger}
    _write(file, {**about, "w_text": TEXT_WEIGHT, "w_ref": weight, **scale, "rows": rows})
    means = {k: np.nanmean(np.array(rows[k], float)) for k in ("identity", "text", "leak_any")}
    print(file.stem, {k: round(float(v), 3) for k, v in means.items()}, flush=True)


def measure_base(work: Path) -> None:
    """The base draws from text alone."""
    file = work / "results" / "base" / "w0.json"
    _measure(file, base_file(work), ReferencePlacement.tass(), 0.0, {"point": "base"})


def measure_point(work: Path, point: Point, budget: str) -> None:
    """The frontier at a budget and, with the late one, reading over training and attention."""
    step = BUDGETS[budget]
    weights, folder = snapshot_file(work, point, step), work / "results" / point.name
    about = {"point": point.name, "budget": budget, "step": step}
    for weight in REFERENCE_WEIGHTS:
        _measure(folder / f"{budget}-w{weight:g}.json", weights, point.where, weight, about)
    if budget == "late":
        measure_reading(work, point)


def measure_reading(work: Path, point: Point) -> None:
    """Errors with four references over training, and at its end where attention goes."""
    for step in SNAPSHOTS:
        file = work / "results" / point.name / f"reading-{step:04d}.json"
        if not file.is_file():
            transformer = load_transformer(snapshot_file(work, point, step))
            found = reading(transformer, point.where)
            _write(file, {"point": point.name, "step": step, "error": found})
    file = work / "results" / point.name / "attention.json"
    if not file.is_file():
        transformer = load_transformer(snapshot_file(work, point, SNAPSHOTS[-1]))
        _write(file, attention(transformer, point.where))


def _velocities(
    transformer: LTX2VideoTransformer3DModel,
    placement: ReferencePlacement,
    level: float,
    reference: Tensor | None,
    people: int,
) -> tuple[Tensor, Tensor]:
    """Predicted and true velocity [people, N, C] of the test clips noised to `level`."""
    given, denoiser = encoded(), Denoiser(transformer).eval()
    latents = given["latents"][:people]
    noise = torch.randn(given["latents"].shape, generator=torch.Generator().manual_seed(5))[:people]
    sigmas = torch.full((people,), level)
    video = pack(add_noise(latents, noise, sigmas), transformer)
    frames, height, width = latents.shape[2:]
    sequence = TokenSequence.of(
        transformer.rope, None if reference is None else placement,
        frames=frames, height=height, width=width, fps=8.0,
    )  # fmt: skip
    text = given["text"].video
    found = [
        denoiser(
            video[i : i + BATCH], sigmas[i : i + BATCH], text[i : min(i + BATCH, people)], None,
            None if reference is None else reference[i : min(i + BATCH, people)], sequence,
        )[0]
        for i in range(0, people, BATCH)
    ]  # fmt: skip
    return torch.cat(found), pack(noise - latents, transformer)


@torch.no_grad()
def reading(
    transformer: LTX2VideoTransformer3DModel, placement: ReferencePlacement
) -> dict[str, dict[str, list[float | None]]]:
    """Squared error of the clean latents inside the face, by noise level and reference, per person.

    References: the person's own of another scene, a stranger's, none, and a frame of the clip.
    """
    given = encoded()
    own = given["own"].tokens[:, 0]
    references = {"own": own, "stranger": own.roll(1, 0), "none": None}
    references["same"] = given["same"].tokens[:, 0]
    weight = pack(given["face"][:, None], transformer).mean(dim=2)  # [B, N]
    found: dict[str, dict[str, list[float | None]]] = {}
    for level in LEVELS:
        rows: dict[str, list[float]] = {}
        for name, reference in references.items():
            velocity, target = _velocities(transformer, placement, level, reference, PEOPLE)
            squared = (velocity - target).square().mean(dim=2) * level**2
            rows[name] = ((squared * weight).sum(1) / weight.sum(1)).tolist()
        found[f"{level:g}"] = _rounded(rows)
    return found


@contextmanager
def _watched(transformer: LTX2VideoTransformer3DModel, seen: list[Tensor]) -> Iterator[None]:
    """Within the block every self-attention of the video leaves its weights [B, H, Q, K]."""

    def look(attention: Any, _: Any, given: dict[str, Any]) -> None:
        states, rotary = given["hidden_states"], given["query_rotary_emb"]
        query = apply_split_rotary_emb(attention.norm_q(attention.to_q(states)), rotary)
        key = apply_split_rotary_emb(attention.norm_k(attention.to_k(states)), rotary)
        query, key = (x.unflatten(2, (attention.heads, -1)).transpose(1, 2) for x in (query, key))
        seen.append((query @ key.mT / query.shape[-1] ** 0.5).softmax(-1))

    hooks = [
        block.attn1.register_forward_pre_hook(look, with_kwargs=True)
        for block in transformer.transformer_blocks
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def attention(
    transformer: LTX2VideoTransformer3DModel, placement: ReferencePlacement
) -> dict[str, Any]:
    """Where video tokens look in the reference, mean over people and heads.

    Returns:
        "to_reference": [blocks][tokens] the mass that each video token puts on the reference, and
        "received": [blocks][reference tokens] the share of that mass that each of them gets;
        "offset": [blocks][15][15] that share by row and column of the reference token less those of
        the video token.
    """
    maps: list[Tensor] = []
    reference = encoded()["own"].tokens[:, 0]
    with _watched(transformer, maps):
        _velocities(transformer, placement, ATTENTION_LEVEL, reference, ATTENTION_PEOPLE)
    blocks = len(transformer.transformer_blocks)
    frames, height, width = encoded()["latents"].shape[2:]
    tokens = frames * height * width
    rows, columns = (
        x.flatten()
        for x in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    )
    down = rows[None, :] - rows.repeat(frames)[:, None] + height - 1
    right = columns[None, :] - columns.repeat(frames)[:, None] + width - 1
    cell = (down * (2 * width - 1) + right).flatten()
    found: dict[str, Any] = {"to_reference": [], "received": [], "offset": []}
    for block in range(blocks):
        mass = torch.cat(maps[block::blocks])[:, :, :tokens, tokens:].mean((0, 1))
        share = mass / mass.sum()
        offset = torch.zeros((2 * height - 1) * (2 * width - 1)).index_add(0, cell, share.flatten())
        found["to_reference"].append([round(v, 5) for v in mass.sum(1).tolist()])
        found["received"].append([round(v, 5) for v in share.sum(0).tolist()])
        found["offset"].append(
            [
                [round(v, 5) for v in row]
                for row in offset.unflatten(0, (2 * height - 1, -1)).tolist()
            ]
        )
    return found
