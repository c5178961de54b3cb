"""The miniature: the same pipeline and the same diffusers classes, small enough for a laptop.

`checkpoints/base` reads a prompt and a reference at any placement; `checkpoints/variants` holds a
LoRA for each point of the ablation, named `<placement>-<augmentation>`, with `-identity` where the
identity objectives were on.
"""

from __future__ import annotations

import json
import os
import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stdrc.errors import STDRCError

if TYPE_CHECKING:
    import torch

    from stdrc.pipeline import STDRCPipeline

CHECKPOINTS = Path(__file__).parent / "checkpoints"
#: The variant that `stdrc generate` takes where none is named: all four parts of ST-DRC.
DEFAULT_VARIANT = "tass-on-identity"


class Variant(NamedTuple):
    """A trained point of the ablation.

    Attributes:
        path: its LoRA in safetensors.
        placement: as its metadata has it; a mapping that `ReferencePlacement.parse` takes.
        augmentation: whether its references were perturbed in training.
        identity: whether an identity objective was on, beside the face's weight.
    """

    path: Path
    placement: dict[str, Any] | None
    augmentation: bool
    identity: bool


def checkpoint(name: str = "base") -> Path:
    """Folder of a shipped checkpoint in diffusers format.

    Raises:
        STDRCError: if this checkout ships none of that name.
    """
    folder = CHECKPOINTS / name
    if not (folder / "model_index.json").is_file():
        raise STDRCError(
            f"No trained miniature lies in {CHECKPOINTS}; run `make miniature`, or name another "
            "checkpoint."
        )
    return folder


def random_checkpoint() -> Path:
    """Folder of a miniature with random weights, built once in the user's cache.

    For looking at the whole road without a trained checkpoint: its videos are noise, and nothing
    about identity can be read off them. `STDRC_CACHE` names another cache than ~/.cache/stdrc.
    """
    cache = Path(os.environ.get("STDRC_CACHE", "~/.cache/stdrc")).expanduser()
    folder = cache / "random-miniature-2"
    if not (folder / "model_index.json").is_file():
        from miniature.build import build_components
        from stdrc.pipeline import STDRCPipeline, hide_loading_bars

        hide_loading_bars()
        size = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0}
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        STDRCPipeline(**build_components(), default_size=size).save_pretrained(part)
        try:
            part.rename(folder)
        except OSError:
            if not (folder / "model_index.json").is_file():
                raise
            shutil.rmtree(part)  # another process was first, with the same weights
    return folder


def variants() -> dict[str, Variant]:
    """The shipped variants by name, in alphabetical order; empty where none is trained."""
    found = {}
    for path in sorted((CHECKPOINTS / "variants").glob("*.safetensors")):
        stated = read_metadata(path)
        perturbed = stated.get("augmentation") or {}
        switches = [perturbed.get(k) for k in ("colour", "pose", "layout")]
        objectives = stated.get("identity") or {}
        identity = any(objectives.get(k) for k in ("weight", "alignment"))
        found[path.stem] = Variant(path, stated.get("placement"), any(switches), identity)
    return found


def read_metadata(path: Path) -> dict[str, Any]:
    """What training wrote into a LoRA file; {} if nothing."""
    # The header of a safetensors file: its length in 8 bytes, then JSON. Read without torch, so
    # that listing variants costs nothing.
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return json.loads(header.get("__metadata__", {}).get("stdrc", "{}"))


def find_variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        STDRCError: if there is none; the message names the nearest.
    """
    known = variants()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise STDRCError(
            f"No variant {name!r} is shipped; there are {', '.join(known) or 'none'}.{hint}"
        )
    return known[name]


def load_miniature(
    variant: str | None = DEFAULT_VARIANT, *, dtype: torch.dtype | None = None
) -> STDRCPipeline:
    """The shipped miniature with one of its LoRAs.

    Args:
        variant: None gives the base.
        dtype: to compute in; None: float32, whatever the files are stored in.

    Raises:
        STDRCError: if this checkout ships no base, or no variant of that name.
    """
    import torch

    from stdrc.pipeline import STDRCPipeline

    pipeline = STDRCPipeline.from_pretrained(checkpoint(), dtype=dtype or torch.float32)
    if variant is not None:
        pipeline.load_lora_weights(str(find_variant(variant).path))
    return pipeline
