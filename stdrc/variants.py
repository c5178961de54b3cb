"""What a trained LoRA says of its own training, read without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

#: Key of the JSON that training writes into a LoRA's safetensors metadata.
METADATA_KEY = "stdrc"


@dataclass(frozen=True)
class Variant:
    """A trained point of an ablation.

    Attributes:
        path: its LoRA in safetensors.
        placement: as its metadata has it; a mapping that `ReferencePlacement.parse` takes.
        augmentation: whether its references were perturbed in training.
        identity: whether an identity objective was on, beside the face's weight.
        crop: what its references were cut to, where it says.
    """

    path: Path
    placement: dict[str, Any] | None
    augmentation: bool
    identity: bool
    crop: str | None = None


def read_lora_metadata(path: str | Path) -> dict[str, Any]:
    """What training wrote into a LoRA file: placement, augmentation, data, steps; {} if nothing."""
    with safe_open(str(path), framework="numpy") as file:
        return json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))


def read_variant(path: Path) -> Variant:
    """The variant that a LoRA file holds, by its metadata."""
    stated = read_lora_metadata(path)
    perturbed = stated.get("augmentation") or {}
    objectives = stated.get("identity") or {}
    return Variant(
        path,
        stated.get("placement"),
        augmentation=any(perturbed.get(kind) for kind in ("colour", "pose", "layout")),
        identity=any(objectives.get(kind) for kind in ("weight", "alignment")),
        crop=stated.get("crop"),
    )
