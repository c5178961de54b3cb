"""Any other diffusers pipeline that takes a prompt and an image and returns `.frames`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bench.axes import Settings
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators.base import Frames, Generator, GeneratorConfig, Resolved, pick_device
from bench.keys import checkpoint_hash

_NAMES = {"steps": "num_inference_steps", "text": "guidance_scale"}  # axis -> their argument
_SHARED = ("height", "width", "num_frames", "negative_prompt")


class DiffusersConfig(GeneratorConfig):
    """Another diffusers pipeline that makes videos of a prompt and an image."""

    kind: Literal["diffusers"]
    checkpoint: str = Field(description="A folder or hub id in diffusers' format.")
    image_argument: str | None = Field(
        default="image", description="The pipeline's argument for it."
    )
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def make(self) -> Generator:
        return DiffusersGenerator(self)

    def local_paths(self, base: Path) -> dict[str, Any]:
        local = base / Path(self.checkpoint).expanduser()
        return {"checkpoint": str(local)} if local.exists() else {}


class DiffusersGenerator(Generator):
    """Any diffusers pipeline that takes a prompt and an image and returns `.frames`."""

    axes: ClassVar[frozenset[str] | None] = frozenset({*_NAMES, *_SHARED, "frame_rate", "args"})

    def __init__(self, config: DiffusersConfig) -> None:
        self.config, self.name = config, f"diffusers:{config.checkpoint}"
        self._pipe: Any = None

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        import torch
        from diffusers import DiffusionPipeline
        from PIL import Image

        from media.images import read_image

        device = pick_device(self.config.device)
        if self._pipe is None:
            dtype = getattr(torch, self.config.dtype)
            pipe = DiffusionPipeline.from_pretrained(self.config.checkpoint, dtype=dtype)
            self._pipe = pipe.to(device)
        arguments = {name: getattr(settings, name) for name in _SHARED}
        arguments |= {theirs: getattr(settings, ours) for ours, theirs in _NAMES.items()}
        arguments = {k: v for k, v in arguments.items() if v is not None} | settings.args
        videos = []
        for sample in samples:
            if self.config.image_argument:
                if len(sample.references) != 1:
                    raise BenchError(
                        f"{sample.id} has {len(sample.references)} references, and the pipeline "
                        "takes one image."
                    )
                pixels = read_image(sample.references[0])
                arguments[self.config.image_argument] = Image.fromarray(pixels)
            noise = torch.Generator("cpu").manual_seed(settings.seed)
            out = self._pipe(prompt=sample.prompt, generator=noise, output_type="np", **arguments)
            videos.append(out.frames[0])
        return videos

    def identity(self) -> Sequence[Any]:
        # Its weights' hash tells one from another, and whether it is shown the reference.
        return ["diffusers", self.version, *filter(None, [self.config.image_argument])]

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        set_by = {theirs: f"the axis {ours!r}" for ours, theirs in _NAMES.items()}
        set_by |= {name: f"the axis {name!r}" for name in _SHARED}
        set_by |= {"prompt": "the evaluation set", "generator": "sweep.seeds"}
        set_by |= {"output_type": "nothing: frames are always arrays"}
        if self.config.image_argument:
            set_by[self.config.image_argument] = "the evaluation set"
        for name in settings.args:
            if name in set_by:
                raise BenchError(f"args.{name} would overrule {set_by[name]}; use that instead.")
        return Resolved(
            settings,
            {"checkpoint": checkpoint_hash(self.config.checkpoint), "dtype": self.config.dtype},
            passes=(settings.steps or 0) * 2,
            fps=settings.frame_rate or 8.0,
        )
