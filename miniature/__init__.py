"""The miniature: the same pipeline and the same diffusers classes, small enough for a laptop.

`checkpoints/base` reads a prompt and a reference at any placement; `checkpoints/variants` holds a
LoRA for each point of the ablation, named `<placement>-<augmentation>`, with `-identity` where the
identity objectives were on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from media.files import whole_folder
from miniature.errors import MiniatureError

if TYPE_CHECKING:
    import torch

    from stdrc.pipeline import STDRCPipeline

CHECKPOINTS = Path(__file__).parent / "checkpoints"
#: What `stdrc generate` takes where no variant is named: all four parts of ST-DRC.
DEFAULT_VARIANT = "tass-on-identity"


def checkpoint(name: str = "base") -> Path:
    """Folder of a shipped checkpoint in diffusers format.

    Raises:
        MiniatureError: if this checkout ships none of that name.
    """
    folder = CHECKPOINTS / name
    if not (folder / "model_index.json").is_file():
        raise MiniatureError(
            f"There is no trained miniature in {CHECKPOINTS}; run `make miniature`, or name "
            "another checkpoint."
        )
    return folder


def random_checkpoint() -> Path:
    """Folder of a miniature with random weights, built once in the user's cache.

    For trying the whole pipeline without a trained checkpoint: its videos are noise and say nothing
    about identity. `STDRC_CACHE` names a cache other than ~/.cache/stdrc.
    """
    cache = Path(os.environ.get("STDRC_CACHE", "~/.cache/stdrc")).expanduser()
    folder = cache / "random-miniature-2"
    if not (folder / "model_index.json").is_file():
        from miniature.build import build_components
        from stdrc.pipeline import STDRCPipeline, hide_loading_bars

        hide_loading_bars()
        size = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0}
        with whole_folder(folder, keep=True) as part:  # another process may be first
            STDRCPipeline(**build_components(), default_size=size).save_pretrained(part)
    return folder


def variants() -> dict[str, Path]:
    """The shipped LoRAs by name, the default first; empty where none is trained.

    `stdrc.variants.read_variant` says what each was trained with.
    """
    files = (CHECKPOINTS / "variants").glob("*.safetensors")
    return {f.stem: f for f in sorted(files, key=lambda f: (f.stem != DEFAULT_VARIANT, f.stem))}


def load_miniature(
    variant: str | None = DEFAULT_VARIANT, *, dtype: torch.dtype | None = None
) -> STDRCPipeline:
    """The shipped miniature with one of its LoRAs.

    Args:
        variant: None gives the base.
        dtype: to compute in; None: float32, whatever the files are stored in.

    Raises:
        UserError: if this checkout ships no base, or no variant of that name.
    """
    import torch

    from bench.checkpoints import shipped_lora
    from stdrc.pipeline import STDRCPipeline

    pipeline = STDRCPipeline.from_pretrained(checkpoint(), dtype=dtype or torch.float32)
    if variant is not None:
        pipeline.load_lora_weights(str(shipped_lora("miniature", variant)))
    return pipeline
