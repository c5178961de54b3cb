"""What a training run is told: pydantic models read from YAML.

`TrainConfig.load(path)` reads a file; an unknown key or a bad value is one sentence that names the
file, the key and what is allowed. Paths in a file are relative to that file's folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from media.settings import apply_override, read_yaml, sentences
from stdrc.errors import STDRCError
from stdrc.positions import ReferencePlacement

LORA_TARGETS = {
    "attn1": r"attn1\.(to_q|to_k|to_v|to_out\.0)",
    "attn2": r"attn2\.(to_q|to_k|to_v|to_out\.0)",
    "ff": r"ff\.net\.(0\.proj|2)",
}


#: Folders of clips, or one of them.
Folders = Annotated[
    list[Path], BeforeValidator(lambda given: [given] if isinstance(given, str | Path) else given)
]


class Section(BaseModel):
    """A part of a training file: unknown keys are refused, values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class ClipConfig(Section):
    """The shape clips are brought to: cropped to the aspect, resized, sampled in time."""

    frames: int = Field(
        default=9, ge=1, description="pixel frames, 1 + a multiple of the VAE's factor"
    )
    windows: int = Field(default=1, ge=1, description="clips taken from a video, spread evenly")
    height: int = Field(default=64, ge=8)
    width: int = Field(default=64, ge=8)
    fps: float | None = Field(
        default=None, gt=0, description="frames per second to sample at; none: the video's own"
    )
    buckets: list[str] = Field(
        default=[],
        description="further shapes, HEIGHTxWIDTHxFRAMES: a video takes one that it is long enough "
        "for, the nearest in aspect, then the longest; a step's clips are all of one shape",
    )

    @field_validator("buckets")
    @classmethod
    def _sizes(cls, value: list[str]) -> list[str]:
        for text in value:
            if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", text):
                raise ValueError(f"{text!r} is not HEIGHTxWIDTHxFRAMES, such as 768x512x121")
        return value

    @property
    def shapes(self) -> list[ClipConfig]:
        """The clip's own shape and that of each further bucket, each once."""
        own = self.model_copy(update={"buckets": []})
        sizes = [map(int, text.split("x")) for text in self.buckets]
        further = [
            own.model_copy(update={"height": h, "width": w, "frames": n}) for h, w, n in sizes
        ]
        return list({shape.name: shape for shape in [own, *further]}.values())

    @property
    def name(self) -> str:
        """HEIGHTxWIDTHxFRAMES."""
        return f"{self.height}x{self.width}x{self.frames}"


class AugmentationConfig(Section):
    """Which appearance changes the reference gets, and how many of each are encoded ahead."""

    colour: bool = True
    pose: bool = True
    layout: bool = True
    strength: float = Field(default=1.0, ge=0, le=2)
    variants: int = Field(
        default=4, ge=0, description="augmented variants a reference, beside the plain one"
    )
    plain: bool = Field(default=True, description="keep the plain reference among the choices")

    @property
    def active(self) -> bool:
        return (self.colour or self.pose or self.layout) and self.variants > 0


class LoraConfig(Section):
    """Low-rank adapters on the video branch; peft does the work."""

    rank: int = Field(default=32, ge=1)
    alpha: float | None = Field(default=None, gt=0, description="none: the rank, a scale of 1")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[Literal["attn1", "attn2", "ff"]] = ["attn1", "attn2", "ff"]


class OptimizerConfig(Section):
    """AdamW, also with 8-bit moments (bitsandbytes, a card); Adafactor where memory counts; Muon
    (with AdamW) from random weights on."""

    name: Literal["adamw", "adamw8bit", "adafactor", "muon"] = "adamw"
    lr: float = Field(default=2e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: int = Field(default=100, ge=0, description="steps of linear warm-up")
    final: float = Field(default=0.0, ge=0, le=1, description="share of lr left at the last step")


class DropoutConfig(Section):
    """Probabilities with which a sample loses its text, its reference, or both."""

    text: float = Field(default=0.1, ge=0, le=1)
    reference: float = Field(default=0.1, ge=0, le=1)
    both: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _sum(self) -> DropoutConfig:
        if self.text + self.reference + self.both > 1:
            raise ValueError("text, reference and both must add up to at most 1")
        return self


class NoiseConfig(Section):
    """How noise levels are drawn; see `stdrc.training.noise`."""

    name: Literal["shifted", "logit_normal", "uniform"] = "shifted"
    mean: float = Field(
        default=0.0, description="of logit_normal; `shifted` takes it from the token count"
    )
    std: float = Field(default=1.0, gt=0)
    uniform: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share drawn uniformly; none: 0.1 for `shifted`, else 0",
    )
    min_tokens: int = 1024
    max_tokens: int = 4096
    min_shift: float = 0.95
    max_shift: float = 2.05


class IdentityConfig(Section):
    """Identity objectives: 1 - cos between the faces of the decoded prediction and of the true clip
    (`weight`), and between what the model's inner features say of the face and the true face
    (`alignment`)."""

    weight: float = Field(default=0.0, ge=0)
    max_sigma: float = Field(default=0.5, gt=0, le=1, description="only below this noise level")
    frames: int = Field(default=2, ge=1, description="pixel frames per sample")
    samples: int = Field(
        default=4, ge=1, description="samples per batch that are decoded, of those with a reference"
    )
    decoder: Literal["vae", "linear"] = Field(
        default="vae",
        description="what decodes; linear: a matrix fitted to the VAE's decoder at the start, for "
        "autoencoders that are nearly linear",
    )
    window: int | None = Field(
        default=None,
        ge=3,
        description="latents that are decoded around the frames looked at, with checkpointing; "
        "none: the whole clip, which takes 45 GiB at LTX-2.3's default size",
    )
    rollout: int = Field(
        default=0,
        ge=0,
        description="further samples per batch whose face is looked at after the model's own steps "
        "down from high noise, where nothing but the reference tells who is seen",
    )
    rollout_steps: int = Field(default=3, ge=1, description="own steps before that look")
    rollout_from: tuple[float, float] = Field(
        default=(0.9, 0.97), description="noise levels the own steps start at"
    )
    rollout_to: tuple[float, float] = Field(
        default=(0.1, 0.8), description="noise levels they end at, where the look is taken"
    )
    margin: float = Field(
        default=0.2, ge=0, description="added to the face box on each side, in box sizes"
    )
    alignment: float = Field(
        default=0.0,
        ge=0,
        description="weight of 1 - cos between the true face and what a small head reads of it "
        "from the features of face and reference tokens; the head is discarded afterwards",
    )
    layer: int | None = Field(
        default=None,
        ge=0,
        description="block whose output the head reads; none: two thirds of the way",
    )
    encoder: str | None = Field(
        default=None,
        description="facenet, curricularface (which needs landmarks), a plug-in's, such as "
        "'miniature', or the path of a TorchScript file; none: passed in Python",
    )

    @field_validator("rollout_from", "rollout_to")
    @classmethod
    def _levels(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= 1:
            raise ValueError("it should be two noise levels in 0..1, the lower first")
        return value

    @model_validator(mode="after")
    def _downwards(self) -> IdentityConfig:
        if self.rollout_to[1] > self.rollout_from[0]:
            raise ValueError("rollout_to must lie below rollout_from")
        if self.rollout and not self.weight:
            raise ValueError("rollout needs a weight")
        return self


class PixelsConfig(Section):
    """The velocity's error as the decoder would draw it, for autoencoders that are nearly linear.

    A latent's channels differ in how much they draw, and an error of one channel shows most at the
    borders of the pixels that a latent draws. The least error by any such measure is at the same
    velocity; it says which errors a small model makes sooner."""

    weight: float = Field(
        default=0.0, ge=0, le=1, description="share in the flow-matching loss; the rest is channels"
    )
    edges: float = Field(
        default=1.0, ge=0, description="weight of the differences between neighbouring pixels"
    )


class EmaConfig(Section):
    """An exponential moving average of the trained weights; it is what the result holds."""

    decay: float = Field(default=0.999, ge=0, lt=1)
    warmup: bool = Field(default=True, description="decay = min(decay, (1 + step) / (10 + step))")


class SampleConfig(Section):
    """Strips drawn every `sample_every` steps."""

    count: int = Field(default=4, ge=1)
    steps: int = Field(default=20, ge=2)
    text_guidance: float = 3.0
    reference_guidance: float = 1.5


class ValidationConfig(SampleConfig):
    """Clips that are not trained on, drawn and scored every `every` steps."""

    data: Folders = Field(min_length=1, description="folders, laid out as the training's")
    every: int = Field(default=500, ge=1, description="steps; the last step is scored, too")
    count: int = Field(default=8, ge=1, description="how many of the first clips")
    metrics: list[str] = Field(
        default=["identity.*", "copy_paste.*", "text.*"],
        description="the suite's, by names, patterns, families or presets",
    )


class CacheConfig(Section):
    """Where latents and text embeddings lie once encoded."""

    folder: Path | None = Field(default=None, description="none: <output>/cache")
    in_memory_gb: float = Field(
        default=4.0, ge=0, description="above this size they are read as needed"
    )
    batch_size: int = Field(default=8, ge=1)
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"


class TrainConfig(Section):
    """A whole run. The keys a file must have are `base` and `output` (and `data`, from the CLI)."""

    base: str = Field(description="folder or hub id of a diffusers LTX-2.x pipeline")
    output: Path
    data: Folders = []
    layout: Literal["auto", "trainer", "consisid"] = "auto"
    clip: ClipConfig = ClipConfig()
    placement: Any = Field(default="tass", validate_default=True)
    crop: Literal["none", "face", "head"] | None = Field(
        default=None,
        description="what references are cut to, by boxes of faces or heads; it is recorded and "
        "is sampling's default; left out: pictures are taken whole, and frames of a clip that has "
        "no pictures are cut to the head or the face",
    )
    mixed_placements: list[Any] = Field(
        default=[],
        description="further placements: each step takes one of these or `placement` at random, "
        "for a base from which placements are then trained apart",
    )
    augmentation: AugmentationConfig = AugmentationConfig()
    mode: Literal["lora", "full"] = "lora"
    base_weights: Literal["saved", "int8", "nf4"] = Field(
        default="saved",
        description="how the frozen base is held: as it is saved, or in eight or four bits (QLoRA; "
        "a card and bitsandbytes)",
    )
    train_connectors: bool = False
    lora: LoraConfig = LoraConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: int = Field(default=8, ge=1)
    accumulation: int = Field(default=1, ge=1)
    steps: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)
    dropout: DropoutConfig = DropoutConfig()
    noise: NoiseConfig = NoiseConfig()
    face_weight: float = Field(default=1.0, ge=1)
    pixels: PixelsConfig = PixelsConfig()
    identity: IdentityConfig = IdentityConfig()
    ema: EmaConfig | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: bool = False
    compile: bool = Field(
        default=False, description="torch.compile the transformer's blocks; pays off in long runs"
    )
    checkpoint_every: int = Field(default=500, ge=0, description="0: only at the end")
    keep_checkpoints: int = Field(default=2, ge=1)
    save_dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    sample_every: int = Field(default=0, ge=0, description="0: never")
    samples: SampleConfig = SampleConfig()
    validation: ValidationConfig | None = None
    log_every: int = Field(default=10, ge=1)
    log_dir: Path | None = Field(default=None, description="TensorBoard; none: <output>/logs")
    trackers: list[Literal["wandb", "mlflow", "comet_ml", "aim", "trackio"]] = Field(
        default=[], description="further trackers that receive the same numbers, through accelerate"
    )
    cache: CacheConfig = CacheConfig()
    on_nan: Literal["stop", "skip"] = "stop"
    max_skipped: int = Field(default=10, ge=1, description="skipped steps in a row before stopping")
    on_bad_data: Literal["stop", "skip"] = "stop"

    @field_validator("augmentation", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        # YAML reads a bare `off` as false, and `on` as true.
        if value is False or value == "off" or value is None:
            return {"colour": False, "pose": False, "layout": False, "variants": 0}
        return {} if value is True or value == "on" else value

    @field_validator("placement")
    @classmethod
    def _placement(cls, value: Any) -> Any:
        if value is None or value == "none":
            return None
        return ReferencePlacement.parse(value).to_dict()

    @field_validator("mixed_placements")
    @classmethod
    def _placements(cls, value: list[Any]) -> list[Any]:
        return [ReferencePlacement.parse(v).to_dict() for v in value]

    @model_validator(mode="after")
    def _mixed_with_one(self) -> TrainConfig:
        if self.base_weights != "saved" and self.mode != "lora":
            raise ValueError(
                f"base_weights: {self.base_weights} needs mode: lora; weights of so few bits can't "
                "be trained"
            )
        if self.validation is not None and self.train_connectors:
            raise ValueError(
                "validation goes without train_connectors: its prompts are encoded once, before "
                "the first step"
            )
        if self.mixed_placements and self.placement is None:
            raise ValueError("mixed_placements needs a placement; it is none")
        if len({p.downscale for p in self.reference_placements}) > 1:
            raise ValueError("mixed_placements needs one downscale for all placements")
        return self

    @property
    def reference_placements(self) -> list[ReferencePlacement]:
        """Every placement of the run; empty for plain text-to-video."""
        if self.placement is None:
            return []
        return [ReferencePlacement.parse(p) for p in (self.placement, *self.mixed_placements)]

    @property
    def reference_downscale(self) -> int:
        """The references' size is the video's divided by this; the same for all placements."""
        return next((p.downscale for p in self.reference_placements), 1)

    @property
    def logs(self) -> Path:
        return self.log_dir or self.output / "logs"

    @property
    def cache_folder(self) -> Path:
        return self.cache.folder or self.output / "cache"

    @classmethod
    def load(
        cls, path: str | Path, overrides: Sequence[str] = (), *, folder: Path | None = None
    ) -> TrainConfig:
        """Read a YAML file.

        Args:
            overrides: `key=value` with dotted keys and YAML values.
            folder: where relative paths start; the file's own folder if None.

        Raises:
            STDRCError: the file is missing or isn't YAML, or a key or value is wrong.
        """
        path = Path(path)
        wants = "a training config is keys and values, as those that 'stdrc configs' lists"
        raw, node = read_yaml(path, wants, STDRCError)
        for override in overrides:
            apply_override(raw, override, STDRCError)
        start = path.parent if folder is None else folder
        # A value that was overridden is not the one in the file's line.
        node = None if overrides else node
        return cls.from_dict(raw, source=str(path), folder=start, node=node)

    @classmethod
    def from_dict(
        cls,
        raw: Mapping[str, Any],
        *,
        source: str = "training config",
        folder: Path | None = None,
        node: yaml.Node | None = None,
    ) -> TrainConfig:
        """Check plain data; relative paths are taken from `folder`, lines of `source` from `node`.

        Raises:
            STDRCError: naming `source`, each wrong key, and what is allowed there.
        """
        try:
            config = cls.model_validate(dict(raw))
        except ValidationError as error:
            raise STDRCError(sentences(error, cls, source, node)) from None
        return config if folder is None else config._resolved(folder)

    def _resolved(self, folder: Path) -> TrainConfig:
        def place(path: Path | None) -> Path | None:
            return path if path is None or path.is_absolute() else folder / path

        config = self.model_copy(deep=True)
        config.data = [place(p) for p in self.data]  # type: ignore[misc]
        config.output = place(self.output)  # type: ignore[assignment]
        config.log_dir = place(self.log_dir)
        if config.validation is not None:
            config.validation.data = [place(p) for p in config.validation.data]  # type: ignore[misc]
        config.cache.folder = place(self.cache.folder)
        named = self.identity.encoder
        if named is not None and (folder / named).is_file():
            config.identity.encoder = str(folder / named)
        if not Path(self.base).is_absolute() and (folder / self.base).is_dir():
            config.base = str(folder / self.base)
        return config
