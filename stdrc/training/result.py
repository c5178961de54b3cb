"""What a run leaves behind: a LoRA that `pipe.load_lora_weights` takes, or a diffusers checkpoint.

Both say how they were made. A LoRA carries it under the safetensors metadata key "stdrc"; a full
checkpoint in `stdrc.json` in its folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model_state_dict
from torch import Tensor, nn

from stdrc.errors import STDRCError
from stdrc.training.checkpoint import check_finite, save_tensors, whole_file, whole_folder
from stdrc.training.config import LORA_TARGETS, LoraConfig, TrainConfig

LORA_NAME = "pytorch_lora_weights.safetensors"
CHECKPOINT_NAME = "checkpoint"

#: Parts of a run's config that its result states as they are.
STATED = {
    "augmentation", "seed", "mode", "clip", "batch_size", "accumulation", "optimizer", "dropout",
    "noise", "face_weight", "pixels", "identity", "ema",
}  # fmt: skip


def add_lora(transformer: LTX2VideoTransformer3DModel, lora: LoraConfig) -> None:
    """Freeze the transformer and put adapters on its video branch.

    Only `attn1`, `attn2` and `ff` of each block: the audio branch has layers of the same kind under
    other names, which the pattern does not match.
    """
    parts = "|".join(LORA_TARGETS[target] for target in lora.targets)
    transformer.requires_grad_(False)
    transformer.add_adapter(
        PeftLoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha or lora.rank,
            lora_dropout=lora.dropout,
            target_modules=rf"(.*\.)?transformer_blocks\.\d+\.({parts})",
            init_lora_weights=True,
        )
    )


def git_commit(folder: Path | None = None) -> str | None:
    """The commit this code stands at, "+changes" where files differ; None outside a checkout."""
    folder = folder or Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True, text=True, check=True, timeout=10,
    )  # fmt: skip
    return done.stdout.strip()


def weights_fingerprint(module: nn.Module, *, skip: str | None = None) -> str:
    """A hash of a module's weights: names, shapes and up to 1,024 evenly spread values of each.

    Reading billions of weights whole takes minutes, and two checkpoints that differ at all differ
    in nearly every tensor. Names that start with `skip` don't count. 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if skip is not None and name.startswith(skip):
            continue
        flat = tensor.detach().reshape(-1)
        picked = flat[:: max(1, len(flat) // 1024)].float().cpu().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + picked.tobytes())
    return digest.hexdigest()[:16]


def describe(
    config: TrainConfig,
    *,
    step: int,
    data: Mapping[str, Any],
    base_hash: str | None,
    processes: int = 1,
) -> dict:
    """What a result says about itself; plain data."""
    base = Path(config.base)
    return {
        # A run of several placements was made for none in particular.
        "placement": None if config.mixed_placements else config.placement,
        "mixed_placements": (
            [config.placement, *config.mixed_placements] if config.mixed_placements else []
        ),
        "crop": data.get("crop", config.crop),
        "data": dict(data),
        "steps": step,
        "commit": git_commit(),
        # A result is given away; where a folder lay is nobody's business.
        "base": base.name if base.is_dir() else config.base,
        "base_hash": base_hash,
        "lora": config.lora.model_dump(mode="json") if config.mode == "lora" else None,
        "processes": processes,
        **config.model_dump(mode="json", include=STATED),
    }


def save_lora(
    path: Path,
    transformer: LTX2VideoTransformer3DModel,
    weights: Mapping[str, Tensor],
    about: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a LoRA in diffusers' layout.

    Args:
        weights: trained parameters as `Denoiser` names them ("transformer.…lora_A.default.weight").
        dtype: of the file.

    Raises:
        STDRCError: the weights aren't finite, or the disk won't take them.
    """
    check_finite(weights, f"The LoRA {path.name}")
    prefix = "transformer."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    adapter = get_peft_model_state_dict(transformer, state_dict=own)
    if not adapter:
        raise STDRCError("There is no LoRA weight to save; was the run made with mode: lora?")
    peft = transformer.peft_config["default"]
    scale = peft.lora_alpha / peft.r
    # The scale goes into B, since not every loader reads where alpha would be written.
    tensors = {
        prefix + name: (tensor * scale if "lora_B" in name else tensor).to(dtype)
        for name, tensor in adapter.items()
    }
    metadata = {
        "stdrc": json.dumps(about, sort_keys=True),
        "lora_adapter_metadata": json.dumps(
            {
                f"{prefix}r": peft.r,
                f"{prefix}lora_alpha": peft.r,
                f"{prefix}target_modules": peft.target_modules,
            }
        ),
    }
    with whole_file(path) as partial:
        save_tensors(partial, tensors, metadata)
    return path


def save_full(
    folder: Path,
    modules: Mapping[str, nn.Module],
    weights: Mapping[str, Tensor],
    about: Mapping[str, Any],
    base: Path | None,
    *,
    dtype: Any = None,
) -> Path:
    """Write a checkpoint folder: trained components, `stdrc.json`, and the rest of a local base.

    With a local base the folder is a whole pipeline for `STDRCPipeline.from_pretrained`; with a hub
    id it holds the trained components alone, to be passed to the base's `from_pretrained`.

    Args:
        modules: "transformer" and, where trained, "connectors"; they give their configuration.
        weights: all parameters of `modules` as `Denoiser` names them.
        dtype: what weights are stored as; none: as they are.

    Raises:
        STDRCError: the weights aren't finite, or the disk won't take them.
    """
    check_finite(weights, f"The checkpoint {folder.name}")
    with whole_folder(folder) as partial:
        if base is not None:
            for part in sorted(base.iterdir()):
                if part.name in modules or part.name.startswith(".") or part.name == "stdrc.json":
                    continue
                copy = shutil.copytree if part.is_dir() else shutil.copy2
                copy(part, partial / part.name)
        for name, module in modules.items():
            prefix = f"{name}."
            state = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            if dtype is not None:
                state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
            target = partial / name
            target.mkdir()
            module.save_config(target)
            save_tensors(target / "diffusion_pytorch_model.safetensors", state)
        index = partial / "model_index.json"
        if index.is_file():
            _state_in_index(index, about)
        (partial / "stdrc.json").write_text(
            json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    return folder


def _state_in_index(index: Path, about: Mapping[str, Any]) -> None:
    """Let `STDRCPipeline` find the placement and size where it keeps its own settings."""
    settings = json.loads(index.read_text(encoding="utf-8"))
    settings["_class_name"] = "STDRCPipeline"
    settings["placement"] = about["placement"]
    settings["crop"] = about["crop"]
    clip = about["clip"]
    settings["default_size"] = {
        "height": clip["height"],
        "width": clip["width"],
        "num_frames": clip["frames"],
        **({"frame_rate": clip["fps"]} if clip["fps"] else {}),
    }
    index.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
