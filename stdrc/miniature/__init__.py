"""The miniature: the same pipeline and the same diffusers classes, small enough for a laptop.

`checkpoints/base` is a text-to-video model; `checkpoints/variants` holds an ST-DRC LoRA for each
point of the ablation, named `<placement>-<augmentation>`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stdrc.errors import STDRCError

if TYPE_CHECKING:
    from stdrc.pipeline import STDRCPipeline

CHECKPOINTS = Path(__file__).parent / "checkpoints"
#: The variant that `stdrc generate` takes where none is named.
DEFAULT_VARIANT = "tass-on"


@dataclass(frozen=True)
class Variant:
    """A trained point of the ablation.

    Args:
        name: such as "tass-on".
        path: its LoRA in safetensors.
        metadata: what training wrote: placement, augmentation, data, steps, seed, commit.
    """

    name: str
    path: Path
    metadata: dict[str, Any]

    @property
    def placement(self) -> str:
        return self.name.split("-")[0]

    @property
    def augmentation(self) -> bool:
        return self.name.split("-")[1] == "on"


def base_checkpoint() -> Path:
    """Folder of the shipped text-to-video base.

    Raises:
        STDRCError: if this checkout ships none.
    """
    folder = CHECKPOINTS / "base"
    if not (folder / "model_index.json").is_file():
        raise STDRCError(
            f"No trained miniature lies in {CHECKPOINTS}; run `make miniature`, or name another "
            "checkpoint."
        )
    return folder


def variants() -> dict[str, Variant]:
    """The shipped variants by name, in alphabetical order; empty where none is trained."""
    found = {}
    for path in sorted((CHECKPOINTS / "variants").glob("*.safetensors")):
        found[path.stem] = Variant(path.stem, path, _metadata(path))
    return found


def _metadata(path: Path) -> dict[str, Any]:
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


def load_miniature(variant: str | None = DEFAULT_VARIANT) -> STDRCPipeline:
    """The shipped miniature with one of its LoRAs; None gives the text-to-video base."""
    from stdrc.pipeline import STDRCPipeline

    pipeline = STDRCPipeline.from_pretrained(base_checkpoint())
    if variant is not None:
        pipeline.load_lora_weights(str(find_variant(variant).path))
    return pipeline
