"""How a pipeline fits a card: what is on it when, in which precision, decoded in which pieces.

diffusers has the mechanisms (hooks that move whole models or blocks, layerwise casting, tiled
decoding); here they get one set of names, an order that works together, and words where one can't.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from stdrc.errors import STDRCError, one_sentence

if TYPE_CHECKING:
    import torch

#: What encodes prompts and is not needed while a video is denoised.
TEXT_SIDE = ("text_encoder", "connectors")
#: The networks that a pipeline which only encodes prompts is loaded without.
NOT_TEXT = ("transformer", "vae", "audio_vae", "vocoder")
#: What LTX-2.5 has beside: a language model of its own, and what says how long a video should be.
NOT_ASKED = ("prompt_enhancer", "duration_head")
#: Video pixels from which `tiling: auto` decodes in tiles: two of LTX-2.3's default videos, which
#: take about 6.5 GiB at once. By size alone, so that a video doesn't depend on the card.
TILED_FROM = 2 * 512 * 768 * 121


def _backend(value: str) -> str:
    if value == "auto":
        return value
    from diffusers.models.attention_dispatch import AttentionBackendName

    known = sorted(str(backend.value) for backend in AttentionBackendName)
    if value not in known:
        shown = [name for name in known if not name.startswith("_")]
        raise ValueError(f"must be one of auto, {', '.join(shown)}")
    return value


@one_sentence("Memory")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Memory:
    """What of the model is on the card, and in which precision.

    `text`, `offload` and `compile` change no video beyond rounding; `transformer`, `tiling` and
    `attention` do, slightly, and are part of a video's key where they act.

    Raises:
        STDRCError: naming the field, what it takes and what was given.

    Example:
        >>> Memory(transformer="fp8", text="free").acting(height=512, width=768, num_frames=121)
        {'transformer': 'fp8'}
    """

    text: Annotated[
        Literal["keep", "free", "group"],
        Field(
            description="the text encoder and connectors: on the card always (keep), in turn with "
            "the transformer (free), or a layer at a time (group)"
        ),
    ] = "keep"
    offload: Annotated[
        Literal["none", "model", "group"],
        Field(
            description="all else: on the card always (none), the model at work alone (model), "
            "or the transformer a block at a time (group)"
        ),
    ] = "none"
    transformer: Annotated[
        Literal["auto", "bf16", "fp8", "int8", "nf4"],
        Field(
            description="the transformer's weights: as all others (auto), bfloat16, stored as "
            "float8 and cast a layer at a time (fp8), or eight or four bits by bitsandbytes "
            "(int8, nf4)"
        ),
    ] = "auto"
    tiling: Annotated[
        Literal["auto", "on", "off"],
        BeforeValidator(lambda v: {True: "on", False: "off"}.get(v, v)),  # YAML's bare on and off
        Field(
            description="decoding in overlapping tiles, whose seams differ slightly; auto: videos "
            "of more than twice 512 x 768 x 121 pixels"
        ),
    ] = "auto"
    attention: Annotated[
        str,
        AfterValidator(_backend),
        Field(description="one of diffusers' attention backends; auto: PyTorch's own choice"),
    ] = "auto"
    compile: Annotated[
        Literal["none", "blocks"],
        Field(description="blocks: the transformer's blocks are compiled at the first step"),
    ] = "none"

    @classmethod
    def low(cls) -> Memory:
        """For a card of 24 GB, and the same videos: blocks and layers come to it in turn."""
        return cls(text="group", offload="group")

    @classmethod
    def parse(cls, given: Memory | Mapping[str, Any] | str | None) -> Memory:
        """From a mapping of fields, "low", or None for the defaults.

        Raises:
            STDRCError: it is none of them.
        """
        if given is None:
            return cls()
        if isinstance(given, Memory):
            return given
        if given == "low":
            return cls.low()
        if not isinstance(given, Mapping):
            raise STDRCError(f"Memory is 'low' or a mapping of settings, not {given!r}.")
        return cls(**given)

    def tiles(self, *, height: int, width: int, num_frames: int) -> bool:
        """Whether a video of that size is decoded in tiles."""
        return self.tiling == "on" or (
            self.tiling == "auto" and height * width * num_frames > TILED_FROM
        )

    def acting(self, *, height: int, width: int, num_frames: int) -> dict[str, str]:
        """Settings that change a video of that size by more than rounding."""
        found = {
            "transformer": "" if self.transformer == "auto" else self.transformer,
            "tiling": "on" if self.tiles(height=height, width=width, num_frames=num_frames) else "",
            "attention": "" if self.attention == "auto" else self.attention,
        }
        return {name: value for name, value in found.items() if value}

    def loading(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` that the settings need.

        Raises:
            STDRCError: eight or four bits without a card or without bitsandbytes.
        """
        if (name := self.transformer) not in ("int8", "nf4"):
            return {}
        import torch
        from diffusers import PipelineQuantizationConfig
        from diffusers.utils import is_bitsandbytes_available

        if not torch.cuda.is_available():
            raise STDRCError(f"transformer: {name} needs a CUDA card; use fp8 or auto here.")
        if not is_bitsandbytes_available():
            raise STDRCError(
                f"transformer: {name} needs bitsandbytes; pip install bitsandbytes, or use fp8."
            )
        four: dict[str, Any] = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": torch.bfloat16,
        }
        return {
            "quantization_config": PipelineQuantizationConfig(
                quant_backend="bitsandbytes_4bit" if name == "nf4" else "bitsandbytes_8bit",
                quant_kwargs=four if name == "nf4" else {"load_in_8bit": True},
                components_to_quantize=["transformer"],
            )
        }

    def place(self, pipe: Any, device: torch.device) -> None:
        """Put a pipeline's parts where they belong; once, after loading.

        Raises:
            STDRCError: a combination that diffusers refuses, or an attention backend that is not
                installed.
        """
        import torch

        transformer = pipe.transformer
        if transformer is not None and self.transformer == "bf16":
            transformer.to(torch.bfloat16)
        elif transformer is not None and self.transformer == "fp8":
            transformer.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=transformer.dtype
            )
        try:
            if transformer is not None and self.attention != "auto":
                transformer.set_attention_backend(self.attention)
            self._offload(pipe, device)
        except (RuntimeError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise STDRCError(f"These memory settings can't be used here: {reason}") from error
        if transformer is not None and self.compile == "blocks":
            transformer.compile_repeated_blocks()

    def keep_lora(self, pipe: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Give a LoRA back its own precision, which PEFT takes from the weights that it is on.

        Args:
            name: of the adapter, just loaded.
            tensors: of its file, "transformer.{module}.lora_A.weight" and so on.
        """
        if self.transformer != "fp8":
            return
        for key, value in tensors.items():
            component, _, path = key.partition(".")
            if component == "transformer":
                module, _, part = path.rpartition(".lora_")
                side, _, kind = part.partition(".")
                layer = getattr(pipe.transformer.get_submodule(module), f"lora_{side}")[name]
                parameter = getattr(layer, kind)
                parameter.data = value.to(parameter.device, pipe.transformer.dtype)

    def _offload(self, pipe: Any, device: torch.device) -> None:
        import torch

        if self.offload == "model":
            pipe.enable_model_cpu_offload(device=device)
            return
        for name, module in pipe.components.items():
            if not isinstance(module, torch.nn.Module):
                continue
            if name in TEXT_SIDE and self.text == "group":
                _by_group(module, device, "leaf_level")
            elif name == "transformer" and self.offload == "group":
                _by_group(module, device, "block_level")
            elif self.text == "keep" or name not in (*TEXT_SIDE, "transformer"):
                module.to(device)  # with `text: free` the transformer comes when it is its turn
            elif self.text == "group" and name == "transformer":
                module.to(device)

    @contextmanager
    def encoding_text(self, pipe: Any, device: torch.device) -> Iterator[None]:
        """Within it the text side is on the card, alone where `text: free` has them take turns."""
        turns = self.text == "free" and self.offload != "model"
        here = [m for name in TEXT_SIDE if (m := getattr(pipe, name, None)) is not None]
        try:
            if turns:
                if self.offload == "none" and pipe.transformer is not None:
                    pipe.transformer.to("cpu")
                for module in here:
                    module.to(device)
            yield
        finally:
            if turns:
                for module in here:
                    module.to("cpu")
                release_memory()

    def denoising(self, pipe: Any, device: torch.device) -> None:
        """Bring the transformer back, if prompts were encoded in its place."""
        if self.text == "free" and self.offload == "none":
            pipe.transformer.to(device)


def _by_group(module: torch.nn.Module, device: torch.device, kind: str) -> None:
    """A module's blocks or layers on the card one after the other, the next one on its way."""
    import torch
    from diffusers.hooks import apply_group_offloading

    blocks = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type=kind,
        use_stream=device.type == "cuda",
        low_cpu_mem_usage=True,  # pinned as they go: all of Gemma pinned at once is 23 GiB of RAM
        **blocks,
    )


def release_memory() -> None:
    """Give unused GPU memory back, if torch is in use at all."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
