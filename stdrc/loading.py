"""What is settled before weights are read: which checkpoint, which precision, which device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from media.wording import did_you_mean
from stdrc.errors import STDRCError, UnknownNameError, WeightsMissingError

#: How weights are saved -> how they are computed with. Half precision as float16 is storage: LTX-2
#: overflows in it. Eight bits are storage too, of weights that were bfloat16.
_COMPUTED_IN = {
    "BF16": torch.bfloat16,
    "F16": torch.float32,
    "F32": torch.float32,
    "F64": torch.float32,
    "F8_E4M3": torch.bfloat16,
    "F8_E5M2": torch.bfloat16,
}


#: LTX-2.5's DFR, decoding by diffusion and upsampling, as diffusers names them.
_PASSES = (
    "LTX2DFRPipeline",
    "LTX2DFRTemporalRefinePipeline",
    "LTX2LatentUpsamplePipeline",
    "LTX2VideoDiffusionDecodePipeline",
)


def check_checkpoint(name: str) -> None:
    """Refuse what can't be an LTX-2.x checkpoint, before anything is read or fetched.

    Args:
        name: a folder in diffusers format or a hub id.

    Raises:
        STDRCError: there is none, or it holds another model.
    """
    folder = Path(name)
    if folder.exists():
        index = folder / "model_index.json"
        if not index.is_file():
            raise STDRCError(
                f"{folder} is not a checkpoint in diffusers format: it has no model_index.json."
            )
        kind = json.loads(index.read_text()).get("_class_name", "")
        if not str(kind).startswith(("LTX2", "STDRC")):
            raise STDRCError(f"{folder} holds a {kind}; ST-DRC needs an LTX-2.x checkpoint.")
        if kind in _PASSES:
            raise STDRCError(
                f"{folder} holds a {kind}, a pass over latents that another pipeline made; a "
                "reference has no place in it, so give the LTX-2.x checkpoint itself."
            )
    elif name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise WeightsMissingError(
            f"There is no checkpoint at {name}; give a folder in diffusers format or a hub id "
            "such as diffusers/LTX-2.3-Diffusers."
        )


def without_weights(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The modules of a checkpoint that LoRAs act on, by name, without memory for their weights.

    Args:
        checkpoint: a folder in diffusers format, or the hub id of one that is in the cache.
    """
    from accelerate import init_empty_weights
    from diffusers import LTX2VideoTransformer3DModel
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

    kinds = {"transformer": LTX2VideoTransformer3DModel, "connectors": LTX2TextConnectors}
    modules: dict[str, nn.Module] = {}
    for name, kind in kinds.items():
        config = kind.load_config(checkpoint, subfolder=name)
        with init_empty_weights():
            modules[name] = kind.from_config(config)
    return modules


def saved_dtype(folder: Path, *, variant: str | None = None) -> torch.dtype:
    """The type to compute with: the one that most of the transformer's numbers are saved in.

    Args:
        folder: of the checkpoint.
        variant: as diffusers' `from_pretrained` takes it ("fp16": files named *.fp16.*).

    Returns:
        bfloat16 or float32; float32 where there is no transformer.
    """
    files = sorted((folder / "transformer").glob("*.safetensors"))
    if variant is not None:
        files = [file for file in files if f".{variant}" in file.name]
    counts: dict[str, int] = {}
    for file in files[:1]:  # all parts of one are saved alike
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                part = weights.get_slice(key)
                size = torch.Size(part.get_shape()).numel()
                counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + size
    return computed_in(counts)


def computed_in(counts: Mapping[str, int]) -> torch.dtype:
    """The type to compute with, from how many numbers are saved in which type of safetensors."""
    counts = {kind: size for kind, size in counts.items() if kind in _COMPUTED_IN}
    return _COMPUTED_IN[max(counts, key=lambda kind: counts[kind])] if counts else torch.float32


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device that a name means.

    Args:
        name: "auto" (a card if there is one), "cpu", "cuda", "cuda:1", "mps", ...

    Raises:
        STDRCError: there is no such device here, or the name is unknown.
    """
    kinds = ("auto", "cpu", "cuda", "mps", "xpu")
    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if found is None else found
    try:
        device = torch.device(name)
    except RuntimeError:
        kind = str(name).partition(":")[0].lower()
        hint = did_you_mean("cuda" if kind in ("gpu", "nvidia") else kind, kinds)
        raise UnknownNameError(
            f"There is no device {str(name)!r}; choose one of {', '.join(kinds)}.{hint}"
        ) from None
    if device.type in ("cpu", "meta"):
        return device
    backend = getattr(torch, device.type, None)
    if backend is None or not hasattr(backend, "is_available") or not backend.is_available():
        raise STDRCError(
            f"The device {str(name)!r} is asked for and this machine has none; "
            "use device auto or cpu."
        )
    if (device.index or 0) >= backend.device_count():
        raise STDRCError(
            f"The device {str(name)!r} is asked for and this machine has {device.type}:0 to "
            f"{device.type}:{backend.device_count() - 1}; choose one of them."
        )
    return device
