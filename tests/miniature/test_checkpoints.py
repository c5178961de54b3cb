"""The shipped miniature: whole, small enough, and it looks at the picture it is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.generators import Settings
from bench.generators.stdrc import STDRCConfig, STDRCGenerator
from miniature import CHECKPOINTS, DEFAULT_VARIANT, load_miniature, variants
from miniature.judges.faces import MiniatureFaces
from miniature.world import World
from stdrc import ReferencePlacement, ThreeStreamGuidance
from stdrc.pipeline import STDRCPipeline
from stdrc.variants import read_lora_metadata, read_variant

PLACEMENTS = ("tass", "overlap", "strata", "spatial", "far")


def test_every_point_of_the_ablation_is_there_and_says_what_it_is() -> None:
    found = variants()
    assert set(found) == {
        *(f"{p}-{switch}" for p in PLACEMENTS for switch in ("on", "off")),
        "tass-on-identity",
    }
    assert next(iter(found)) == DEFAULT_VARIANT
    trainings = []
    for name, path in found.items():
        variant = read_variant(path)
        placement, augmentation = name.split("-")[:2]
        assert ReferencePlacement.parse(variant.placement).name == placement
        assert variant.augmentation == (augmentation == "on")
        about = read_lora_metadata(path)
        if not variant.identity:  # made for the best picture, from other references
            trainings.append(
                (about["steps"], about["seed"], about["base_hash"], about["data"]["clips"])
            )
        assert (about["identity"]["weight"] > 0) == name.endswith("-identity") == variant.identity
    assert all(t == trainings[0] for t in trainings)  # the same for every point
    assert sum(f.stat().st_size for f in CHECKPOINTS.rglob("*") if f.is_file()) < 40e6


def test_an_ablation_of_placement_and_augmentation_varies_nothing_else() -> None:
    generator = STDRCGenerator(STDRCConfig(kind="stdrc", checkpoint="miniature"))
    for name in variants():
        if name.endswith("-identity"):
            assert generator.resolve(Settings(checkpoint=name)).stage == name
        else:
            placement, augmentation = name.split("-")
            settings = Settings(placement=placement, augmentation=augmentation)
            assert generator.resolve(settings).stage == name


@pytest.fixture(scope="module")
def miniature() -> STDRCPipeline:
    pipe = load_miniature()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_face_is_more_like_its_own_reference_than_like_anothers(
    miniature: STDRCPipeline,
) -> None:
    clips = list(World("test", size=6))
    videos = miniature(
        [clip.caption for clip in clips],
        reference=[clip.reference for clip in clips],
        guidance=ThreeStreamGuidance(text=2.0, reference=6.0),
        seeds=list(range(6)),
        num_inference_steps=8,
    ).frames
    faces = MiniatureFaces()

    def embed(frames: np.ndarray) -> torch.Tensor:
        crops = [c for f, at in zip(frames, faces.detect(frames)) for c in faces.align(f, at)[:1]]
        return torch.nn.functional.normalize(faces.embed(np.stack(crops)), dim=1).mean(dim=0)

    people = torch.stack([embed(clip.reference[None]) for clip in clips])
    shown = torch.stack([embed((np.asarray(v) * 255).round().astype(np.uint8)) for v in videos])
    likeness = shown @ people.T
    own = likeness.diagonal().mean()
    others = (likeness.sum() - likeness.trace()) / 30
    assert own > others + 0.1
