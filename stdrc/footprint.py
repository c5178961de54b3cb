"""How much memory a checkpoint takes, without its numbers: weights counted, passes run on shapes.

Weights are counted on the meta device. Passes run on fake tensors, which have shapes, types and
lifetimes and no storage, as sampling and training call them; what is alive is added up operator by
operator. The transformer's blocks are alike, so that two of them stand for all. What a library
allocates inside an operator (cuDNN's workspaces) and what an allocator can't give back is left out.
"""

from __future__ import annotations

import importlib
import json
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from stdrc.errors import STDRCError
from stdrc.memory import TEXT_SIDE, Memory
from stdrc.positions import ReferencePlacement
from stdrc.published import PUBLISHED, Configs
from stdrc.sequence import TokenSequence

GIB = 2**30
#: Tokens of a prompt, after padding, as LTX-2.x reads it.
PROMPT_TOKENS = 1024
#: Bytes a number of the transformer's linear weights takes, and what stays in 16 bits beside.
_STORED = {"fp8": 1.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}
#: What CUDA itself, its kernels and fragments take of a card.
RESERVED = 3 * GIB // 2


class _Peak(TorchDispatchMode):
    """Counts the bytes of live storages while it is on.

    Attributes:
        live, peak: bytes made since it was entered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [t.untyped_storage() for t in _tensors((args, kwargs or {}))]
        out = func(*args, **(kwargs or {}))
        self._known.update(before)  # what came from outside isn't ours
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._known.add(storage)
                self.live += (size := storage.nbytes())
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, size)
        return out

    def _freed(self, size: int) -> None:
        self.live -= size


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, tree)
    return found


@dataclass(frozen=True)
class VideoShape:
    """Of the videos: pixels, frames, frames per second."""

    height: int = 512
    width: int = 768
    num_frames: int = 121
    fps: float = 24.0

    def __str__(self) -> str:
        return f"{self.height} x {self.width} x {self.num_frames}"


@dataclass
class Footprint:
    """The networks of a checkpoint as fake tensors, and what they take.

    Args:
        configs: component -> (class, config).
        name: what messages call it.
    """

    configs: Configs
    name: str
    dtype: torch.dtype = torch.bfloat16
    _modules: dict[tuple[str, bool], nn.Module] = field(default_factory=dict, init=False)
    _mode: FakeTensorMode = field(
        default_factory=lambda: FakeTensorMode(allow_non_fake_inputs=True), init=False
    )

    @classmethod
    def of(cls, checkpoint: str | Path, dtype: torch.dtype = torch.bfloat16) -> Footprint:
        """Of a folder, a hub id of which only configs are fetched, or "ltx-2.3".

        Raises:
            STDRCError: there is none.
        """
        name = str(checkpoint)
        if name in PUBLISHED:
            return cls(PUBLISHED[name], name, dtype)
        folder = Path(name)
        if not folder.is_dir():
            folder = _fetched_configs(name)
        index = folder / "model_index.json"
        if not index.is_file():
            raise STDRCError(
                f"{name} is not a checkpoint in diffusers format: it has no model_index.json."
            )
        configs: Configs = {}
        for part, entry in json.loads(index.read_text()).items():
            path = folder / part / "config.json"
            if isinstance(entry, list) and entry[1] and path.is_file():
                configs[part] = (entry[1], json.loads(path.read_text()))
        return cls(configs, name, dtype)

    def module(self, part: str) -> nn.Module:
        """A component on the meta device, whole."""
        if (part, True) not in self._modules:
            with torch.device("meta"), _default_dtype(self.dtype):
                self._modules[part, True] = _build(*self.configs[part])
        return self._modules[part, True]

    def fake(self, part: str, blocks: int = 2) -> nn.Module:
        """A component of fake tensors, frozen; of the transformer `blocks` blocks."""
        if (part, False) not in self._modules:
            name, config = self.configs[part]
            if part == "transformer":
                config = {**config, "num_layers": blocks}
            with self._mode, torch.device("cpu"), _default_dtype(self.dtype):
                module = _build(name, config)
            self._modules[part, False] = module.eval().requires_grad_(False)
        return self._modules[part, False]

    # Weights

    def weights(self, part: str, stored: str = "auto") -> int:
        """Bytes of a component's weights.

        Args:
            part: its name.
            stored: as `Memory.transformer` says; for the transformer.
        """
        module = self.module(part)
        total = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
        if part != "transformer" or stored not in _STORED:
            return total
        linear = sum(
            m.weight.nbytes
            for name, m in module.named_modules()
            if isinstance(m, nn.Linear) and "norm" not in name and "proj_out" not in name
        )
        return int(total - linear + linear * _STORED[stored] / self.dtype.itemsize)

    # Passes

    @contextmanager
    def counting(self) -> Iterator[_Peak]:
        """Within it, tensors are fake and what is alive of them is counted."""
        with self._mode, _Peak() as peak:
            yield peak

    def latents(self, video: VideoShape) -> tuple[int, int, int]:
        """Frames, rows and columns of a video's latents."""
        vae: Any = self.module("vae")
        frames = (video.num_frames - 1) // vae.temporal_compression_ratio + 1
        space = vae.spatial_compression_ratio
        return frames, video.height // space, video.width // space

    def _tokens(self, video: VideoShape, references: int) -> TokenSequence:
        frames, rows, columns = self.latents(video)
        return TokenSequence.of(
            self.fake("transformer").rope,
            ReferencePlacement.tass() if references else None,
            references=references,
            frames=frames,
            height=rows,
            width=columns,
            fps=video.fps,
            device="cpu",
        )

    def denoising(self, video: VideoShape, *, references: int = 1, batch: int = 1) -> int:
        """Peak bytes of one pass of the transformer, beside the weights.

        Args:
            batch: samples times streams that share the pass.
        """
        transformer = self.fake("transformer")
        self.module("vae")  # made before anything is counted
        config: Any = transformer.config
        with self.counting() as peak, torch.no_grad():
            sequence = self._tokens(video, references)
            extra = sequence.coords.shape[2] - sequence.tokens
            width = config.audio_cross_attention_dim
            sequence.velocities(
                transformer,
                torch.zeros(batch, sequence.tokens, config.in_channels, dtype=self.dtype),
                torch.zeros(batch, extra, config.in_channels, dtype=self.dtype) if extra else None,
                torch.ones(batch),
                audio_hidden_states=torch.zeros(
                    batch, 1, config.audio_in_channels, dtype=self.dtype
                ),
                encoder_hidden_states=torch.zeros(
                    batch, PROMPT_TOKENS, config.cross_attention_dim, dtype=self.dtype
                ),
                audio_encoder_hidden_states=torch.zeros(
                    batch, PROMPT_TOKENS, width, dtype=self.dtype
                ),
                audio_num_frames=1,
                isolate_modalities=True,
            )
        return peak.peak

    def decoding(self, video: VideoShape, *, tiled: bool = False) -> int:
        """Peak bytes of decoding one video, the result included."""
        vae: Any = self.fake("vae")
        shape = (1, vae.config.latent_channels, *self.latents(video))
        vae.use_tiling = tiled
        with self.counting() as peak, torch.no_grad():
            vae.decode(torch.zeros(shape, dtype=self.dtype), return_dict=False)
        vae.use_tiling = False
        return peak.peak

    def encoding_text(self) -> int:
        """Peak bytes of encoding one prompt, beside the weights: every layer's hidden states."""
        text = self.configs["connectors"][1]
        layers = int(text["text_proj_in_factor"])
        states = PROMPT_TOKENS * int(text["caption_channels"]) * layers * self.dtype.itemsize
        # The stack, its flattened copy, and the normalised one that the connectors make.
        return 3 * states

    def training(self, video: VideoShape, *, rank: int = 32, checkpointing: bool = True) -> int:
        """Peak bytes of a LoRA's training step of one sample, beside the frozen weights.

        Counted are the pass, its gradients, and 16 bytes per trained number (itself, its gradient
        and AdamW's two moments in float32). Blocks add up, so that two sizes give all.
        """
        blocks = len(self.module("transformer").transformer_blocks)  # type: ignore[arg-type]
        small, large = (self._step(video, rank, checkpointing, n) for n in (2, 4))
        return small + (large - small) // 2 * (blocks - 2)

    def _step(self, video: VideoShape, rank: int, checkpointing: bool, blocks: int) -> int:
        from peft import LoraConfig

        from stdrc.training.denoiser import Denoiser

        name, config = self.configs["transformer"]
        with torch.device("meta"), _default_dtype(self.dtype):
            transformer: Any = _build(name, {**config, "num_layers": blocks})
            transformer.requires_grad_(False)
            where = r"transformer_blocks\.\d+\.(attn1|attn2|ff)\."
            names = r".*(to_[qkv]|to_out\.0|proj|net\.2)"
            transformer.add_adapter(LoraConfig(r=rank, target_modules=where + names))
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        with self._mode:
            model = Denoiser(_faked(transformer).train())  # type: ignore[arg-type]
        channels, width = transformer.config.in_channels, transformer.config.cross_attention_dim
        self.fake("transformer"), self.module("vae")  # made before anything is counted
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        with self.counting() as peak:
            sequence = self._tokens(video, 1)
            extra = sequence.coords.shape[2] - sequence.tokens
            velocity, _ = model(
                torch.zeros(1, sequence.tokens, channels, dtype=self.dtype),
                torch.ones(1),
                torch.zeros(1, PROMPT_TOKENS, width, dtype=self.dtype),
                None,
                torch.zeros(1, extra, channels, dtype=self.dtype),
                sequence,
            )
            velocity.float().square().mean().backward()
        return peak.peak + trained * 16

    def identity(self, video: VideoShape, *, window: int | None) -> int:
        """Peak bytes of an identity loss: decoding with gradients, a window or the whole clip."""
        vae: Any = self.fake("vae")
        frames, rows, columns = self.latents(video)
        (vae.enable_gradient_checkpointing if window else vae.disable_gradient_checkpointing)()
        shape = (1, vae.config.latent_channels, window or frames, rows, columns)
        with self.counting() as peak:
            latents = torch.zeros(shape, dtype=self.dtype, requires_grad=True)
            vae.decode(latents, return_dict=False)[0].float().mean().backward()
        return peak.peak

    def fits(self, memory: Memory, video: VideoShape, *, batch: int = 2) -> dict[str, int]:
        """Bytes on the card in each stage of generating, weights included.

        Args:
            batch: streams that share a pass; two under guidance.
        """
        text = sum(self.weights(part) for part in TEXT_SIDE if part in self.configs)
        streamed = memory.text == "group"
        stays = text if memory.text == "keep" and memory.offload != "model" else 0
        transformer = self.weights("transformer", memory.transformer)
        others = {
            part: self.weights(part)
            for part in self.configs
            if part not in (*TEXT_SIDE, "transformer")
        }
        beside = sum(others.values())
        tiled = memory.tiles(height=video.height, width=video.width, num_frames=video.num_frames)
        decoding = self.decoding(video, tiled=tiled)
        if memory.offload == "model":
            return {
                "text": self._largest(text) + self.encoding_text(),
                "denoising": transformer + self.denoising(video, batch=batch),
                "decoding": others["vae"] + decoding,
            }
        blocks = getattr(self.module("transformer"), "transformer_blocks", [0])
        held = transformer * 3 // len(blocks) if memory.offload == "group" else transformer
        at_work = self._largest(text) // 40 if streamed else text
        resident = beside + (0 if memory.offload == "group" else transformer)
        turns = transformer if memory.text == "free" and memory.offload == "none" else 0
        return {
            "text": resident - turns + at_work + self.encoding_text(),
            "denoising": beside + held + stays + self.denoising(video, batch=batch),
            "decoding": resident + stays + decoding,
        }

    def _largest(self, text: int) -> int:
        return max((self.weights(p) for p in TEXT_SIDE if p in self.configs), default=text)


#: Settings from the fastest to the smallest, in the order in which they are tried.
LADDER: tuple[Memory, ...] = (
    Memory(),
    Memory(text="free"),
    Memory(text="group"),
    Memory(text="group", transformer="fp8"),
    Memory(text="group", offload="group"),
    Memory(text="group", offload="group", transformer="fp8"),
)


def memory_table(checkpoint: str | Path, video: VideoShape) -> dict[str, Any]:
    """What a checkpoint takes of a card with each of `LADDER`, in GiB, as plain data."""
    footprint = Footprint.of(checkpoint)
    rows = []
    for memory in LADDER:
        stages = {k: (v + RESERVED) / GIB for k, v in footprint.fits(memory, video).items()}
        rows.append({"memory": described(memory), "peak": max(stages.values()), "stages": stages})
    return {
        "checkpoint": footprint.name,
        "video": str(video),
        "own": RESERVED / GIB,
        "weights": {part: footprint.weights(part) / GIB for part in footprint.configs},
        "settings": rows,
    }


def recommendation(table: Mapping[str, Any], card: float | None) -> str:
    """The first settings of a table that fit a card of that many bytes, in one sentence."""
    if card is None:
        return "There is no CUDA card here; --card names one's GiB."
    for row in table["settings"]:
        if row["peak"] * GIB <= card:
            return f"A card of {card / GIB:.0f} GiB: set memory to {row['memory']}."
    least = min(row["peak"] for row in table["settings"])
    return (
        f"A card of {card / GIB:.0f} GiB holds none of these settings, which need {least:.1f} or "
        "more; make smaller or shorter videos."
    )


def card_memory() -> int | None:
    """Bytes of this machine's first CUDA card; None where there is none."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def described(memory: Memory) -> str:
    """Settings as YAML writes them, those that aren't defaults."""
    from dataclasses import asdict

    plain = asdict(Memory())
    given = [f"{k}: {v}" for k, v in asdict(memory).items() if v != plain[k]]
    return "{" + ", ".join(given) + "}"


def _build(name: str, config: dict[str, Any]) -> nn.Module:
    for library in ("diffusers", "diffusers.pipelines.ltx2", "transformers"):
        cls = getattr(importlib.import_module(library), name, None)
        if cls is not None:
            break
    else:
        raise STDRCError(f"Neither diffusers nor transformers has a {name}.")
    from transformers.initialization import no_init_weights

    plain = {key: value for key, value in config.items() if not key.startswith("_")}
    if library == "transformers":
        with no_init_weights():
            module = cls(cls.config_class(**plain))
        module.tie_weights()
        return module
    with no_init_weights():
        return cls.from_config(plain)


def _faked(module: nn.Module) -> nn.Module:
    """A module of the meta device with its parameters and buffers on a device that can compute."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                empty = torch.empty(p.shape, dtype=p.dtype, device="cpu")
                part._parameters[name] = nn.Parameter(empty, requires_grad=p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device="cpu")
    return module


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _fetched_configs(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json"]))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise STDRCError(
            f"The configs of {name} are not on this machine and could not be fetched; give a "
            f"folder, a hub id, or {', '.join(PUBLISHED)}."
        ) from error
