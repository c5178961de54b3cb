"""LoRA files of every maker, read into one form and checked against the model before it is touched.

The names in use for LTX-2.x are diffusers' (`transformer.`), the ones of Lightricks' trainer and
ComfyUI (`diffusion_model.`), PEFT's (`base_model.model.`), none at all (`transformer_blocks.`), and
Kohya's (`lora_unet_...`, `lora_down`, `lora_up`, `.alpha`). All become diffusers' names with the
scale alpha / rank folded into B, which `load_lora_weights` takes as it is. A loader that skips what
it doesn't know runs the bare base under the LoRA's name, so anything left over is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import LTX2Pipeline
from huggingface_hub import hf_hub_download, list_repo_files
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stdrc.errors import STDRCError, WeightsMissingError
from stdrc.variants import METADATA_KEY

#: File names that folders and repositories hold a LoRA under: diffusers', PEFT's.
FILE_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")

_KEY = re.compile(
    r"(?P<module>.+?)\.(?:lora[_.](?P<side>A|B|down|up)(?:\.(?!weight$|bias$)\w+)?"
    r"(?:\.(?P<kind>weight|bias))?|(?P<alpha>alpha))"
)
_SIDE = {"A": "A", "down": "A", "B": "B", "up": "B"}


@dataclass(frozen=True)
class LoraFile:
    """A LoRA that fits.

    Attributes:
        name: what to call it in a message.
        tensors: diffusers' names, "transformer.{module}.lora_A.weight" [r, in] and lora_B
            [out, r], for a scale of 1.
        about: what training wrote into it (see `stdrc.variants`); {} where it says nothing.
    """

    name: str
    tensors: dict[str, Tensor]
    about: dict[str, Any]


def read_lora(
    source: str | Path | Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    *,
    weight_name: str | None = None,
    **hub: Any,
) -> LoraFile:
    """Read a LoRA and check that all of it fits.

    Args:
        source: a safetensors file, a folder, a hub id, or tensors by name.
        modules: "transformer" and, where there are any, "connectors".
        weight_name: the file in a folder or repository.
        hub: `revision`, `cache_dir` and the like, as `hf_hub_download` takes them.

    Raises:
        STDRCError: nothing there, not safetensors, a key that fits nothing, a module of which half
            is missing, shapes of another model, or numbers that aren't finite.
    """
    metadata: dict[str, str] = {}
    config: dict[str, Any] = {}
    if isinstance(source, Mapping):
        name, given = "The LoRA", dict(source)
    else:
        path = locate_lora(source, weight_name, **hub)
        name = str(source) if path.parent == Path(source) or path == Path(source) else path.name
        try:
            with safe_open(path, framework="pt") as file:
                given = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        except SafetensorError as error:
            raise STDRCError(f"{name} is not a safetensors file ({error}).") from None
        config = _config_beside(source, path, given, hub)
    stated = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    config = {**config, **stated} if stated else config
    reading = _Reading(name, modules, config)
    return LoraFile(name, reading.read(given), json.loads(metadata.get(METADATA_KEY, "{}")))


def locate_lora(source: str | Path, weight_name: str | None = None, **hub: Any) -> Path:
    """The safetensors file of a LoRA: a file itself, in a folder, or in a hub repository.

    Raises:
        STDRCError: there is none, or several and no `weight_name`.
    """
    path = Path(source)
    if path.is_file():
        return path
    names = FILE_NAMES if weight_name is None else (weight_name,)
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        return path / _only([p.name for p in path.iterdir()], source, weight_name)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(source)):
        raise STDRCError(
            f"There is no LoRA at {source}; give a safetensors file, a folder or a hub id."
        )
    try:
        for name in names:
            try:
                return Path(hf_hub_download(str(source), name, **hub))
            except EntryNotFoundError:
                continue
        listed = list_repo_files(
            str(source), **{k: hub[k] for k in ("revision", "token") if k in hub}
        )
        return Path(hf_hub_download(str(source), _only(listed, source, weight_name), **hub))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise WeightsMissingError(
            f"The LoRA {source} is not on this machine and could not be fetched; download it with "
            f"'hf download {source}', or give a file."
        ) from error


def _only(names: Iterable[str], source: str | Path, weight_name: str | None) -> str:
    found = sorted(name for name in names if name.endswith(".safetensors"))
    if weight_name is None and len(found) == 1:
        return found[0]
    listed = f"it has {', '.join(found)}" if found else "it has no safetensors file"
    missing = f"{source} has no {weight_name}" if weight_name else f"Which LoRA of {source}?"
    raise STDRCError(f"{missing}; {listed}; name one of them (weight_name, or file in a config).")


def _config_beside(
    source: str | Path, path: Path, given: Iterable[str], hub: dict[str, Any]
) -> dict[str, Any]:
    """PEFT keeps alpha in adapter_config.json beside the weights; as metadata names it."""
    if not any(key.startswith("base_model.model.") for key in given):
        return {}
    beside = path.with_name("adapter_config.json")
    if not beside.is_file() and not Path(source).exists():
        try:
            beside = Path(hf_hub_download(str(source), "adapter_config.json", **hub))
        except EntryNotFoundError:
            return {}
    if not beside.is_file():
        return {}
    read = json.loads(beside.read_text(encoding="utf-8"))
    return {f"transformer.{key}": value for key, value in read.items()}


class _Reading:
    """One file's tensors on their way to diffusers' names."""

    def __init__(
        self, name: str, modules: Mapping[str, nn.Module], config: Mapping[str, Any]
    ) -> None:
        self.name, self.config = name, config
        self.targets = {
            f"{part}.{path}": module.get_base_layer()
            if isinstance(module, BaseTunerLayer)
            else module
            for part, whole in modules.items()
            for path, module in whole.named_modules()
            if isinstance(module, nn.Linear | BaseTunerLayer)
            and not re.search(r"\.(base_layer$|lora_)", path)
        }
        self.flat = {
            path.removeprefix("transformer.").replace(".", "_"): path
            for path in self.targets
            if path.startswith("transformer.")
        }

    def read(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Diffusers' names to tensors, the scale in B."""
        found: dict[str, dict[str, Tensor]] = {}
        strangers = []
        for key, tensor in given.items():
            match = _KEY.fullmatch(key)
            target = self._target(match["module"]) if match else None
            if match is None or target is None:
                strangers.append(key)
                continue
            part = "alpha" if match["alpha"] else _SIDE[match["side"]]
            part += ".bias" if match["kind"] == "bias" else ""
            if part in found.setdefault(target, {}):
                raise STDRCError(f"{self.name} has {target} twice, under two names ({key}).")
            found[target][part] = tensor
        if strangers or not found:
            first = (
                f"{len(strangers)} of {len(given)} keys fit nothing, first {strangers[0]!r}"
                if (strangers)
                else "it is empty"
            )
            raise STDRCError(
                f"{self.name} is not a LoRA of this checkpoint: {first}; nothing of it was loaded."
            )
        self._expected(found)
        tensors = {}
        for target, parts in found.items():
            self._check(target, parts)
            scale = self._scale(target, parts)
            for side in ("A", "B", "B.bias"):
                if side in parts:
                    value = parts[side]
                    if scale != 1 and side != "A":
                        value = value.float() * scale
                    letter, _, bias = side.partition(".")
                    tensors[f"{target}.lora_{letter}.{bias or 'weight'}"] = value
        return tensors

    def _target(self, module: str) -> str | None:
        """The module a key's path means, "transformer.{path}" or "connectors.{path}"."""
        path = module.removeprefix("base_model.model.").removeprefix("model.diffusion_model.")
        if path in self.targets:
            return path
        for kohya in ("lora_unet_", "lora_transformer_"):
            if path.startswith(kohya):
                return self.flat.get(path.removeprefix(kohya))
        if not path.startswith("text_embedding_projection."):
            path = f"diffusion_model.{path.removeprefix('diffusion_model.')}"
        # diffusers knows what Lightricks' names mean; its own come out as they went in.
        renamed = LTX2Pipeline.lora_state_dict({f"{path}.lora_A.weight": torch.empty(0)})
        target = next(iter(renamed)).removesuffix(".lora_A.weight")
        return target if target in self.targets else None

    def _check(self, target: str, parts: Mapping[str, Tensor]) -> None:
        for side in ("A", "B"):
            if side not in parts:
                raise STDRCError(
                    f"{self.name} is incomplete: {target} has no lora_{side}; "
                    "nothing of it was loaded."
                )
        a, b = parts["A"], parts["B"]
        weight = self.targets[target].weight
        if (
            a.ndim != 2
            or b.ndim != 2
            or (len(b), a.shape[1], len(a)) != (*weight.shape, b.shape[1])
        ):
            raise STDRCError(
                f"{self.name} is of a model of another size: {target} is {tuple(weight.shape)} "
                f"here, and its A and B are {tuple(a.shape)} and {tuple(b.shape)}."
            )
        for part in parts.values():
            if not bool(torch.isfinite(part).all()):
                raise STDRCError(f"{self.name} holds numbers that are not finite, in {target}.")

    def _settings(self, component: str) -> dict[str, Any]:
        prefix = f"{component}."
        return {k.removeprefix(prefix): v for k, v in self.config.items() if k.startswith(prefix)}

    def _scale(self, target: str, parts: Mapping[str, Tensor]) -> float:
        """alpha / rank: of the module's own key, else of the file's settings, else 1."""
        rank = len(parts["A"])
        if "alpha" in parts:
            return float(parts["alpha"]) / rank
        component, _, path = target.partition(".")
        settings = self._settings(component)
        if not settings:
            return 1.0
        if settings.get("use_dora"):
            raise STDRCError(f"{self.name} is a DoRA, which is not a LoRA; merge it into a base.")
        alphas = settings.get("alpha_pattern") or {}
        alpha = alphas.get(get_pattern_key(list(alphas), path), settings.get("lora_alpha", rank))
        return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)

    def _expected(self, found: Iterable[str]) -> None:
        """Modules that the file's settings name and that it has no weights for."""
        for component in ("transformer", "connectors"):
            settings = self._settings(component)
            if not settings.get("target_modules") or settings["target_modules"] == "all-linear":
                continue
            names = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
            config = LoraConfig(**{k: settings[k] for k in names if settings.get(k)})
            prefix = f"{component}."
            wanted = {
                path
                for path in self.targets
                if path.startswith(prefix)
                and check_target_module_exists(config, path.removeprefix(prefix))
            }
            if missing := sorted(wanted - set(found)):
                raise STDRCError(
                    f"{self.name} is incomplete: it says that it trains {len(wanted)} modules of "
                    f"the {component} and has no weights for {len(missing)}, first {missing[0]}."
                )
