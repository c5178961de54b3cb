"""What a run is made of: one YAML file, in pydantic models that refuse what they do not know.

A bad file is one sentence a problem, each naming the file, the line, the key and what is allowed.
Relative paths are taken from the folder of the file that names them.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bench.errors import BenchError
from media.plugins import declared
from media.wording import did_you_mean


def _on_off(value: Any) -> Any:
    # YAML 1.1 reads the bare words on and off as booleans.
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Switch = Annotated[str, BeforeValidator(_on_off)]


class Model(BaseModel):
    """Unknown keys are errors, and a config does not change after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


# Evaluation sets ---------------------------------------------------------------------------------


class EvalSetBase(Model):
    prefix: dict[str, str] | Path | None = Field(
        default=None,
        description="Words put before every prompt of an identity: a mapping identity -> words, "
        "or a JSON file that holds one.",
    )
    limit: int | None = Field(default=None, ge=1, description="Use only the first so many samples.")


class WorldSet(EvalSetBase):
    """The procedural world's held-out split: drawn faces whose identity is known exactly."""

    kind: Literal["world"]
    identities: int = Field(default=4, ge=1)
    prompts: int = Field(default=3, ge=1, description="Prompts (true clips) of each identity.")
    frames: int = Field(default=9, ge=1)
    image_size: int = Field(default=64, ge=16)
    seed: int = 0


class PhotographSet(EvalSetBase):
    """People cut from the photograph that the insightface package ships, times given prompts."""

    kind: Literal["photograph"]
    people: int = Field(default=2, ge=1, le=6, description="The first so many, from the left.")
    prompts: list[str] = Field(
        default=["a person smiles in front of a green wall", "a person walks left at night"],
        min_length=1,
    )


class IPVG2025Set(EvalSetBase):
    """`idNNN/{image.png|image.webp, prompt1.txt ..}` folders."""

    kind: Literal["ipvg2025"]
    path: Path


class IPVG2026FacialSet(EvalSetBase):
    """`eval.json` with `img` and `prompt`, images beside it in `images/`."""

    kind: Literal["ipvg2026-facial"]
    path: Path


class IPVG2026SequentialSet(EvalSetBase):
    """`eval.json` with `img_paths`, `global_prompt` and `temporal_captions`."""

    kind: Literal["ipvg2026-sequential"]
    path: Path


class ConsisIDSet(EvalSetBase):
    """Face images times a CSV of prompts in a man's and a woman's wording."""

    kind: Literal["consisid"]
    path: Path = Field(description="Folder with the CSV and `eval/face_images/`.")
    prompts: str = Field(
        default="video_caption_eval_old.csv", description="The CSV, inside `path`."
    )
    images: str = Field(
        default="eval/face_images", description="The folder of faces, inside `path`."
    )


class OpenS2VSet(EvalSetBase):
    """An OpenS2V-Eval JSON: sample id -> `prompt`, `img_paths`, `class_label`."""

    kind: Literal["opens2v"]
    path: Path = Field(description="The JSON file; image paths are relative to its folder.")


class TableSet(EvalSetBase):
    """Any CSV or JSONL file with a prompt column and one or more reference columns."""

    kind: Literal["csv", "jsonl"]
    path: Path
    prompt: str = Field(default="prompt", description="Column of the prompt.")
    references: list[str] = Field(
        default=["reference"], description="Columns of the reference images."
    )
    id: str | None = Field(
        default=None, description="Column of the sample's id; its row number if none."
    )
    identity: str | None = Field(default=None, description="Column of the identity's name.")
    target: str | None = Field(
        default=None, description="Column of a true video, where there is one."
    )


class HubSet(EvalSetBase):
    """A data set on the Hugging Face hub (or a folder that `datasets.load_dataset` reads)."""

    kind: Literal["hub"]
    repo: str
    name: str | None = None
    split: str = "test"
    revision: str | None = None
    prompt: str = "prompt"
    references: list[str] = ["image"]
    id: str | None = None
    identity: str | None = None


EvalSetConfig = Annotated[
    PhotographSet
    | WorldSet
    | IPVG2025Set
    | IPVG2026FacialSet
    | IPVG2026SequentialSet
    | ConsisIDSet
    | OpenS2VSet
    | TableSet
    | HubSet,
    Field(discriminator="kind"),
]

# Generators --------------------------------------------------------------------------------------


class VariantConfig(Model):
    """One trained LoRA. What it was trained with is read from the file, which training writes it
    into; where a file says nothing, it is said here."""

    path: Path = Field(description="A .safetensors LoRA, or a whole checkpoint's folder.")
    placement: str | dict[str, Any] | None = Field(default=None, description="None: the file's.")
    augmentation: Switch | None = Field(default=None, description="None: the file's.")


class STDRCConfig(Model):
    """The ST-DRC pipeline, on a checkpoint that a plug-in declares or on any of LTX-2."""

    kind: Literal["stdrc"]
    checkpoint: str = Field(
        default="miniature",
        description="One that a plug-in declares ('miniature'; 'random', its untrained twin), a "
        "folder, or a hub id.",
    )
    variants: dict[str, VariantConfig] = Field(
        default={}, description="Trained variants by name; a declared checkpoint brings its own."
    )
    train: Literal["refuse", "missing"] = Field(
        default="refuse", description="A variant without a checkpoint is refused, or trained."
    )
    train_config: Path | None = Field(
        default=None, description="The `stdrc train` file for `train: missing`."
    )
    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda', 'cuda:1'.")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = Field(default=1, ge=1, description="CPU threads of one generating worker.")
    strict: bool = Field(
        default=False,
        description="Whether a prompt that is longer than the model reads fails its videos; "
        "otherwise their rows say so.",
    )


class FolderConfig(Model):
    """A folder of finished videos, of any model."""

    kind: Literal["folder"]
    path: Path
    pattern: str = Field(
        default="{sample}.mp4",
        description="Where a sample's video lies; {sample}, {identity}, {index} (from 1) and "
        "{seed} stand for themselves.",
    )
    name: str = "folder"


class DiffusersConfig(Model):
    """Another diffusers pipeline that makes videos of a prompt and an image."""

    kind: Literal["diffusers"]
    checkpoint: str = Field(description="A folder or hub id in diffusers' format.")
    image_argument: str | None = Field(
        default="image", description="The pipeline's argument for it."
    )
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class CustomConfig(Model):
    """Your own model: an importable factory of a `bench.generators.Generator`."""

    kind: Literal["custom"]
    factory: str = Field(description="'package.module:name'", pattern=r"^[\w.]+:\w+$")
    args: dict[str, Any] = {}


GeneratorConfig = Annotated[
    STDRCConfig | FolderConfig | DiffusersConfig | CustomConfig, Field(discriminator="kind")
]

# Sweeps ------------------------------------------------------------------------------------------

Weight = Annotated[float, Field(allow_inf_nan=False)]


class Axes(Model):
    """A value for each axis that is named; an axis that is not keeps the generator's default."""

    checkpoint: str | None = None
    placement: str | dict[str, Any] | None = None
    augmentation: Switch | None = None
    text: Weight | None = None
    reference: Weight | None = None
    order: Literal["text_first", "reference_first", "joint"] | None = None
    rescale: float | None = Field(default=None, ge=0, le=1)
    interval: tuple[float, float] | None = None
    parallel: float | None = Field(default=None, ge=0, le=1)
    steps: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=2)
    width: int | None = Field(default=None, ge=2)
    num_frames: int | None = Field(default=None, ge=1)
    frame_rate: float | None = Field(default=None, gt=0)
    negative_prompt: str | None = None
    args: dict[str, Any] = Field(default={}, description="Any other argument of the pipeline.")


Values = Annotated[list[Any], Field(min_length=1)]


class Sweep(Model):
    """Which cells: a grid, a list and named ablations, all on top of `base`, less `exclude`."""

    base: Axes = Axes()
    grid: dict[str, Values] = Field(default={}, description="Axis -> values; their product.")
    list: typing.List[dict[str, Any]] = Field(  # noqa: UP006  (the field hides the builtin)
        default=[], description="Cells one by one, each a mapping axis -> value."
    )
    ablations: dict[str, dict[str, Values]] = Field(
        default={}, description="Name -> {axis: values}; every axis alone is varied from the base."
    )
    exclude: typing.List[dict[str, Any]] = Field(  # noqa: UP006
        default=[], description="Cells that match all of a mapping's values are left out."
    )
    seeds: typing.List[int] = Field(default=[0], min_length=1)  # noqa: UP006
    allow_mismatch: bool = Field(
        default=False,
        description="Run a placement on a checkpoint that was trained with another, and mark it.",
    )


class Metrics(Model):
    names: Literal["all"] | list[str] = Field(
        default="all", description="Names, patterns such as temporal.*, or families."
    )
    plugins: list[str] = Field(
        default_factory=list, description="Metrics of one's own, module:Class each."
    )
    device: str = "cpu"
    num_frames: int = Field(default=16, ge=1)


class EngineConfig(Model):
    kind: Literal["local", "ray"] = "local"
    batch_size: int = Field(default=1, ge=1)
    workers: int | None = Field(
        default=None, ge=1, description="ray: how many; all GPUs (or CPUs) if none."
    )
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float | None = Field(
        default=None, ge=0, description="ray: 1 where there are GPUs."
    )
    address: str | None = Field(default=None, description="ray: a running cluster's, or 'auto'.")
    retries: int = Field(
        default=3, ge=0, description="ray: how often a lost worker's job is tried again."
    )


class Video(Model):
    crf: int = Field(
        default=12, ge=0, le=51, description="x264's constant rate factor; 0 is lossless."
    )


class Tune(Model):
    """Search of guidance weights: the best `objective` whose `subject_to` stays near its best."""

    objective: str = Field(description="The metric to improve.")
    subject_to: str = Field(description="The metric that may not suffer.")
    tolerance: float = Field(
        default=0.02, ge=0, lt=1, description="How much of its best it may lose."
    )
    text: tuple[float, float] = (1.0, 6.0)
    reference: tuple[float, float] = (0.0, 4.0)
    step: float = Field(default=0.5, gt=0)
    trials: int = Field(default=20, ge=1)
    seed: int = 0


class Rank(Model):
    """What the leaderboard is ordered by."""

    by: str | None = Field(
        default=None,
        description="families (the default), ipvg2025, score, opens2v, or one column.",
    )
    weights: dict[str, float] | None = Field(
        default=None, description="For score: family or column -> weight."
    )
    anchors: dict[str, tuple[float, float]] | None = Field(
        default=None, description="For score: column -> [worst, best], which count 0 and 1."
    )
    missing: Literal["worst", "drop"] = Field(
        default="worst",
        description="A failed sample counts as the metric's worst value, or for no entry.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Rank:
        from leaderboards.ranking import Ranking

        Ranking(**self.model_dump())
        return self


class BenchConfig(Model):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    run: Path | None = Field(default=None, description="The run folder; runs/NAME if none.")
    evalset: EvalSetConfig
    generator: GeneratorConfig
    sweep: Sweep = Sweep()
    metrics: Metrics = Metrics()
    engine: EngineConfig = EngineConfig()
    video: Video = Video()
    rank: Rank | None = None
    tune: Tune | None = None

    @model_validator(mode="after")
    def _known_axes(self) -> BenchConfig:
        check_axes(self.sweep)
        return self

    @property
    def folder(self) -> Path:
        return self.run if self.run is not None else Path("runs") / self.name


AXIS_NAMES = tuple(name for name in Axes.model_fields if name != "args")


def check_axes(sweep: Sweep) -> None:
    """Every axis name and value of a sweep, checked once a value rather than once a cell.

    Raises:
        ValueError: naming the place, the value and what is allowed.
    """
    places: list[tuple[str, str, list[Any]]] = [
        (f"sweep.grid.{axis}", axis, values) for axis, values in sweep.grid.items()
    ]
    for name, axes in sweep.ablations.items():
        places += [(f"sweep.ablations.{name}.{axis}", axis, v) for axis, v in axes.items()]
    for field in ("list", "exclude"):
        for i, cell in enumerate(getattr(sweep, field)):
            places += [(f"sweep.{field}[{i}].{axis}", axis, [v]) for axis, v in cell.items()]
    for place, axis, values in places:
        if axis.startswith("args.") and len(axis) > 5:
            continue
        if axis not in AXIS_NAMES:
            raise ValueError(
                f"{place}: unknown axis {axis!r}; the axes are {', '.join(AXIS_NAMES)}, and "
                f"'args.NAME' for any other argument.{did_you_mean(axis, AXIS_NAMES)}"
            )
        for value in values:
            try:
                Axes(**{axis: value})
            except ValidationError as error:
                raise ValueError(f"{place}: {value!r}: {error.errors()[0]['msg']}") from None


def axis_value(axis: str, value: Any) -> Any:
    """`value` as the axis' type has it: `3` becomes `3.0` for a weight, `True` becomes `"on"`."""
    return value if axis.startswith("args.") else getattr(Axes(**{axis: value}), axis)


# Reading -----------------------------------------------------------------------------------------


def load_config(path: Path, base: Path | None = None) -> BenchConfig:
    """The run described by a YAML file; relative paths in it start at `base`, or at its folder.

    Raises:
        BenchError: if the file cannot be read or does not describe a run; every problem is listed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}); name a YAML file.") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise BenchError(f"{path}{line}: not valid YAML ({problem}).") from None
    if not isinstance(data, dict):
        raise BenchError(f"{path}: a run is a mapping with at least name, evalset and generator.")
    if twice := _repeated_key(node):
        raise BenchError(f"{path}:{twice[1]}: the key {twice[0]!r} stands twice in one mapping.")
    return parse_config(data, str(path), node=node, base=path.parent if base is None else base)


def parse_config(
    data: dict[str, Any], source: str, *, node: yaml.Node | None = None, base: Path | None = None
) -> BenchConfig:
    """The run described by plain data; `source` is what messages call it."""
    try:
        config = BenchConfig.model_validate(data)
    except ValidationError as error:
        lines = [_sentence(source, e, node) for e in error.errors()]
        raise BenchError("\n".join(lines)) from None
    return _anchor(config, base) if base is not None else config


def config_json(config: BenchConfig) -> dict[str, Any]:
    """The resolved config as plain data, defaults included; `parse_config` reads it back."""
    data: dict[str, Any] = json.loads(config.model_dump_json())
    return data


def _anchor(config: BenchConfig, base: Path) -> BenchConfig:
    """Relative input paths start at the config's folder; the run folder at the caller's."""

    def fix(model: BaseModel) -> BaseModel:
        update: dict[str, Any] = {}
        for name in type(model).model_fields:
            value = getattr(model, name)
            if isinstance(value, Path) and not (isinstance(model, BenchConfig) and name == "run"):
                update[name] = base / value
            elif isinstance(value, BaseModel):
                update[name] = fix(value)
            elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
                update[name] = {k: fix(v) for k, v in value.items()}
        if isinstance(model, STDRCConfig | DiffusersConfig):
            local = base / model.checkpoint
            if model.checkpoint not in declared("CHECKPOINTS") and local.exists():
                update["checkpoint"] = str(local)
        return model.model_copy(update=update) if update else model

    return typing.cast(BenchConfig, fix(config))


def _sentence(source: str, error: Any, node: yaml.Node | None) -> str:
    tags = {"world", "ipvg2025", "ipvg2026-facial", "ipvg2026-sequential", "consisid", "opens2v"}
    tags |= {"csv", "jsonl", "hub", "stdrc", "folder", "diffusers", "custom"}
    location = list(error["loc"])
    # pydantic puts a union's tag into the location; it is no key of the file.
    keys = [part for i, part in enumerate(location) if not (i == 1 and part in tags)]
    line = _line(node, keys)
    place = f"{source}:{line}" if line else source
    dotted = ".".join(str(k) for k in keys)
    if error["type"] == "extra_forbidden":
        allowed = _allowed(location)
        name = str(keys[-1])
        listing = f"; known are {', '.join(allowed)}" if allowed else ""
        return f"{place}: {dotted}: unknown key {name!r}{listing}.{did_you_mean(name, allowed)}"
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    if error["type"] == "missing":
        return f"{place}: {dotted}: is missing."
    if not dotted:
        return f"{place}: {message}."
    shown = error.get("input")
    given = "" if isinstance(shown, dict | list) else f" (it is {shown!r})"
    return f"{place}: {dotted}: {message[:1].lower()}{message[1:]}{given}."


def _allowed(location: list[Any]) -> list[str]:
    """Field names of the model that an unknown key was given to."""
    models: list[Any] = [BenchConfig]
    for part in location[:-1]:
        found: list[Any] = []
        for model in models:
            fields = getattr(model, "model_fields", {})
            if part in fields:
                found += _models_in(fields[part].annotation)
            else:  # a union's tag, or a key of a mapping of models
                kind = fields.get("kind")
                tagged = kind is not None and part in typing.get_args(kind.annotation)
                found += [model] if tagged or kind is None else []
        models = found
    return sorted({name for m in models for name in getattr(m, "model_fields", {})})


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.GenericAlias) or typing.get_args(annotation):
        return [m for a in typing.get_args(annotation) for m in _models_in(a)]
    return []


def _line(node: yaml.Node | None, keys: list[Any]) -> int | None:
    """Line, from 1, of the deepest part of `keys` that stands in the file."""
    line: int | None = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(key)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _repeated_key(node: yaml.Node | None) -> tuple[str, int] | None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                return str(key.value), key.start_mark.line + 1
            seen.add(key.value)
            if found := _repeated_key(value):
                return found
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            if found := _repeated_key(value):
                return found
    return None
