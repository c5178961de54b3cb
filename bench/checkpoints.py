"""Checkpoints by name: those that plug-ins declare, and the LoRAs that come with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UnknownNameError
from media.plugins import declared, load
from media.wording import did_you_mean

if TYPE_CHECKING:
    from stdrc.variants import Variant


def checkpoint_source(checkpoint: str) -> str:
    """Where a checkpoint lies: a plug-in's folder if it declares the name, else what was given."""
    target = declared("CHECKPOINTS").get(checkpoint)
    return checkpoint if target is None else str(load(target)())


def shipped_variants(checkpoint: str) -> dict[str, Variant]:
    """The LoRAs that a declared checkpoint brings, the default first; {} for any other."""
    target = declared("VARIANTS").get(checkpoint)
    if target is None:
        return {}
    from stdrc.variants import read_variant

    return {name: read_variant(path) for name, path in load(target)().items()}


def shipped_lora(checkpoint: str, variant: str | None) -> Path | None:
    """The LoRA of a declared checkpoint that `variant` names; its default where that is None.

    Raises:
        UnknownNameError: a variant is named, and the checkpoint brings none of that name.
    """
    target = declared("VARIANTS").get(checkpoint)
    known: dict[str, Path] = {} if target is None else load(target)()
    if variant is None:
        return next(iter(known.values()), None)
    if variant not in known:
        hint = did_you_mean(variant, known)
        raise UnknownNameError(
            f"The checkpoint {checkpoint!r} has no variant {variant!r}; "
            f"{'choose one of ' + ', '.join(known) if known else 'it brings none'}.{hint}"
        )
    return known[variant]


def remarks(
    checkpoint: str, texts: Sequence[str], references: Sequence[Path], crop: str | None
) -> list[str]:
    """What a declared checkpoint says of texts and pictures that it was not taught.

    Args:
        crop: what of the pictures it is shown.
    """
    target = declared("REMARKS").get(checkpoint)
    if target is None:
        return []
    from stdrc.images import crop_to_face, open_image

    pictures = {path.name: open_image(path) for path in references}
    if crop not in (None, "none"):
        from bench.crops import detector

        boxes = detector(crop).boxes
        pictures = {name: crop_to_face(image, boxes) for name, image in pictures.items()}
    found: list[str] = load(target)(texts, pictures)
    return found
