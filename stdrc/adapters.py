"""LoRAs on the pipeline, and what they were trained with: the reference's place and its crop.

diffusers loads, activates and fuses adapters; here each one's own statement goes with it, so that
no LoRA runs with a reference where it has never seen one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import LTX2Pipeline
from diffusers.utils import logging

from stdrc.errors import STDRCError
from stdrc.lora import read_lora
from stdrc.memory import Memory
from stdrc.positions import ReferencePlacement

logger = logging.get_logger(__name__)

#: LoRAs whose silence about their placement was remarked on; once is enough.
_SILENT: set[str] = set()
#: What training states and sampling takes from there.
_STATED = ("placement", "crop")


class TrainedAdapters(LTX2Pipeline):
    """The LoRA methods of `STDRCPipeline`."""

    memory: Memory
    _about: dict[str, dict[str, Any]]  # adapter -> what its file states
    _before_fusing: dict[str, Any] | None

    def load_lora_weights(
        self, pretrained_model_name_or_path_or_dict, adapter_name=None, hotswap=False, **kwargs
    ):
        """Load a LoRA of any maker beside those already loaded, and its placement with it.

        Files of diffusers, ltx-trainer, ComfyUI, PEFT and Kohya are read with the scale that they
        state. Unlike in diffusers, adapters loaded before stay active.

        Args:
            pretrained_model_name_or_path_or_dict: a safetensors file, a folder, a hub id, or
                tensors by name.
            adapter_name: none: diffusers numbers them.
            hotswap: as in diffusers.
            kwargs: as in diffusers (`weight_name`, `revision`, `cache_dir`, ...).

        Raises:
            STDRCError: if not all of the file fits (see `stdrc.lora.read_lora`), or if it was
                trained with another placement or crop than a LoRA that is active. Nothing is
                loaded then.
        """
        peft = {k: kwargs.pop(k) for k in ("low_cpu_mem_usage",) if k in kwargs}
        kwargs.pop("use_safetensors", None)  # always
        modules = {"transformer": self.transformer, "connectors": self.connectors}
        modules = {name: module for name, module in modules.items() if module is not None}
        lora = read_lora(pretrained_model_name_or_path_or_dict, modules, **kwargs)
        active = [] if hotswap else self.get_active_adapters()
        self.agreed({**{name: self._about.get(name, {}) for name in active}, lora.name: lora.about})
        before = set(self._adapters())
        super().load_lora_weights(lora.tensors, adapter_name=adapter_name, hotswap=hotswap, **peft)
        for name in set(self._adapters()) - before or {adapter_name}:
            self._about[name] = lora.about
            self.memory.keep_lora(self, name, lora.tensors)
        for module in modules.values():
            here = [n for n in self._adapters() if n in getattr(module, "peft_config", {})]
            if keep := [n for n in here if n in active or n not in before]:
                module.set_adapter(keep)
        if not lora.about and lora.name not in _SILENT:
            _SILENT.add(lora.name)
            logger.warning(
                "%s doesn't say which reference placement it was trained with; the reference is "
                "placed as '%s' unless a call says otherwise.",
                lora.name,
                self.trained_placement or ReferencePlacement.tass(),
            )

    def load_loras(self, loras: Sequence[str | Path | Mapping[str, Any]]) -> None:
        """Load several LoRAs at their strengths, in place of those that are loaded.

        Args:
            loras: each a file or hub id, or {"path", "file" (in a folder or repository),
                "strength" (1 where it is left out)}.

        Raises:
            STDRCError: an unknown key, a strength that is not a number, or what `load_lora_weights`
                raises.
        """
        self.unload_lora_weights()
        strengths: dict[str, float] = {}
        for number, given in enumerate(loras):
            asked = dict(given) if isinstance(given, Mapping) else {"path": given}
            if unknown := sorted(set(asked) - {"path", "file", "strength"}):
                raise STDRCError(
                    f"Unknown key {unknown[0]!r} in a LoRA; known are path, file, strength."
                )
            if "path" not in asked:
                raise STDRCError("A LoRA needs its path, a file or a hub id.")
            strength = asked.get("strength", 1.0)
            if isinstance(strength, bool) or not isinstance(strength, int | float):
                raise STDRCError(f"A LoRA's strength is a number, not {strength!r}.")
            name = f"lora_{number}"
            self.load_lora_weights(asked["path"], name, weight_name=asked.get("file"))
            strengths[name] = float(strength)
        if strengths:
            self.set_adapters(list(strengths), list(strengths.values()))

    def _adapters(self) -> list[str]:
        return sorted({name for names in self.get_list_adapters().values() for name in names})

    @staticmethod
    def agreed(about: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What LoRAs state of their training together.

        Raises:
            STDRCError: two of them state different things; one reference can't be both.
        """
        agreed: dict[str, Any] = {}
        for key in _STATED:
            said = {name: each[key] for name, each in about.items() if each.get(key)}
            if key == "placement":
                said = {name: ReferencePlacement.parse(p) for name, p in said.items()}
            if len(set(said.values())) > 1:
                each = ", ".join(f"{name} with '{value}'" for name, value in said.items())
                raise STDRCError(
                    f"These LoRAs were trained with different {key}s of the reference: {each}; "
                    "activate those that agree."
                )
            agreed[key] = next(iter(said.values()), None)
        return agreed

    def set_adapters(self, adapter_names, adapter_weights=None):
        """As diffusers'.

        Raises:
            STDRCError: if two of them were trained with different placements or crops.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self.agreed({name: self._about.get(name, {}) for name in names})
        super().set_adapters(adapter_names, adapter_weights)

    def delete_adapters(self, adapter_names):
        """As diffusers', and forgets what they stated."""
        super().delete_adapters(adapter_names)
        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            self._about.pop(name, None)

    def unload_lora_weights(self):
        """As diffusers', and forgets what the LoRAs stated; what a fused one did stays."""
        super().unload_lora_weights()
        self._about.clear()

    def fuse_lora(self, components=("transformer",), lora_scale=1.0, adapter_names=None, **kwargs):
        """As diffusers'; from now on the checkpoint is one that was trained as the LoRA was."""
        names = self.get_active_adapters() if adapter_names is None else adapter_names
        agreed = self.agreed({name: self._about.get(name, {}) for name in names})
        super().fuse_lora(
            components=list(components),
            lora_scale=lora_scale,
            adapter_names=adapter_names,
            **kwargs,
        )
        if self._before_fusing is None:
            self._before_fusing = {key: self.config.get(key) for key in _STATED}
        for key, value in agreed.items():
            if value is not None:
                self.register_to_config(**{key: _plain(value)})

    def unfuse_lora(self, components=("transformer",), **kwargs):
        """As diffusers', and the checkpoint is again what it was."""
        super().unfuse_lora(components=list(components), **kwargs)
        if self._before_fusing is not None:
            self.register_to_config(**self._before_fusing)
            self._before_fusing = None

    def _trained(self, key: str) -> Any:
        active = {name: self._about.get(name, {}) for name in self.get_active_adapters()}
        stated = self.agreed(active)[key]
        return self.config.get(key) if stated is None else stated

    @property
    def trained_placement(self) -> ReferencePlacement | None:
        """The placement the active LoRAs, or else the checkpoint, say they were trained with."""
        stated = self._trained("placement")
        return ReferencePlacement.parse(stated) if stated else None

    @property
    def trained_crop(self) -> str | None:
        """How the active LoRAs', or else the checkpoint's, references were cut in training."""
        return self._trained("crop")


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ReferencePlacement) else value
