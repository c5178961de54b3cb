"""What a run is made of: one YAML file, in pydantic models that refuse what they do not know.

A bad file gives one sentence per problem, naming the file, the line, the key and what is allowed.
Relative paths are taken from the folder of the file that names them.
"""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from bench.axes import AXIS_NAMES, FILE_AXES, Axes, AxisFile
from bench.errors import BenchError
from bench.evalsets import EvalSetBase, evalset_models
from bench.generators import GeneratorConfig, generator_models
from bench.yaml_models import Model, found_under
from media.settings import apply_override, read_yaml, sentences
from media.wording import did_you_mean

if TYPE_CHECKING:
    AnyEvalSet: TypeAlias = EvalSetBase
    AnyGenerator: TypeAlias = GeneratorConfig
else:
    AnyEvalSet = Annotated[reduce(or_, evalset_models()), Field(discriminator="kind")]
    AnyGenerator = Annotated[reduce(or_, generator_models()), Field(discriminator="kind")]

# Sweeps ------------------------------------------------------------------------------------------

MOST_CELLS = 5_000_000
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
    seeds: typing.List[Annotated[int, Field(ge=0, lt=2**63)]] = Field(  # noqa: UP006
        default=[0], min_length=1
    )
    allow_mismatch: bool = Field(
        default=False,
        description="Run a placement on a checkpoint that was trained with another, and mark it.",
    )


class Metrics(Model):
    names: Literal["all"] | list[str] = Field(
        default="all",
        description="Names, patterns such as temporal.*, families, or presets such as opens2v.",
    )
    plugins: list[str] = Field(
        default_factory=list, description="Metrics of one's own, module:Class each."
    )
    device: str = Field(default="auto", description="A card where there is one, by auto.")
    num_frames: int = Field(default=16, ge=1)
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads of scoring; the generator's if none. The last bits of a score "
        "depend on them.",
    )
    engine: Literal["torch", "torch-float16", "openvino"] = Field(
        default="torch",
        description="What runs IR-101 and Inception of the protocols: openvino on a CPU, "
        "torch-float16 in half precision on a card.",
    )


class EngineConfig(Model):
    kind: Literal["local", "ray"] = "local"
    batch_size: int = Field(default=1, ge=1)
    workers: int | None = Field(
        default=None,
        ge=1,
        description="How many processes generate; local: 1 if none, ray: all GPUs (or CPUs).",
    )
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float | None = Field(
        default=None, ge=0, description="ray: 1 where there are GPUs."
    )
    address: str | None = Field(default=None, description="ray: a running cluster's, or 'auto'.")
    score_workers: int = Field(
        default=0, ge=0, description="ray: how many workers score; the driver does if none."
    )
    place_s: float = Field(
        default=60,
        gt=0,
        description="ray: seconds after which it is said that workers find no place; the run ends "
        "if no node could hold one.",
    )
    placement: Literal["pack", "spread", "strict_pack", "strict_spread"] | None = Field(
        default=None,
        description="ray: reserve all workers' places at once (a placement group), on few nodes or "
        "on many; the run ends if there is no room in place_s. Each finds its own place if none.",
    )
    retries: int = Field(
        default=3, ge=0, description="How often a video whose worker was lost is tried again."
    )
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds that a video may take, the loading of weights before a worker's first "
        "included; ten times the median so far (at least 60) if none. What takes longer is ended, "
        "tried once more, and failed.",
    )
    max_failures: int | float | None = Field(
        default=None,
        ge=0,
        description="Stop the run when more videos failed: a number, or below 1 a share of those "
        "that were to be made.",
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
    evalset: AnyEvalSet
    generator: AnyGenerator
    sweep: Sweep = Sweep()
    metrics: Metrics = Metrics()
    engine: EngineConfig = EngineConfig()
    video: Video = Video()
    rank: Rank | None = None
    trackers: list[Literal["tensorboard", "wandb"]] = Field(
        default=[], description="What progress and scores are written to, in the run folder."
    )
    tune: Tune | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> BenchConfig:
        check_axes(self.sweep)
        engine = self.engine
        if engine.score_workers and engine.kind != "ray":
            raise ValueError("engine.score_workers needs engine.kind: ray")
        if engine.placement and (engine.kind != "ray" or not engine.workers):
            raise ValueError("engine.placement needs engine.kind: ray, and engine.workers")
        if (engine.gpus_per_worker or 0) > 1 and not self.generator.several_gpus:
            raise ValueError(
                f"engine.gpus_per_worker: the generator {self.generator.kind} uses one GPU, and "
                f"{engine.gpus_per_worker:g} would be held; leave it at 1"
            )
        return self

    @property
    def folder(self) -> Path:
        return Path("runs") / self.name if self.run is None else self.run.expanduser()


def check_axes(sweep: Sweep) -> None:
    """Every axis name and value of a sweep, checked once per value rather than once per cell.

    Raises:
        ValueError: naming the place, the value and what is allowed.
    """
    cells = math.prod(map(len, sweep.grid.values()))
    if cells > MOST_CELLS:
        raise ValueError(
            f"sweep.grid: has {cells:,} cells, and a run at most {MOST_CELLS:,}; give the axes "
            "fewer values, or vary each alone (sweep.ablations)"
        )
    places: list[tuple[str, str, list[Any]]] = [
        (f"sweep.grid.{axis}", axis, values) for axis, values in sweep.grid.items()
    ]
    places += [(f"sweep.base.args.{n}", f"args.{n}", [v]) for n, v in sweep.base.args.items()]
    for name, axes in sweep.ablations.items():
        places += [(f"sweep.ablations.{name}.{axis}", axis, v) for axis, v in axes.items()]
    for field in ("list", "exclude"):
        for i, cell in enumerate(getattr(sweep, field)):
            places += [(f"sweep.{field}[{i}].{axis}", axis, [v]) for axis, v in cell.items()]
    for place, axis, values in places:
        if axis.startswith("args.") and len(axis) > 5:
            for value in values:
                try:
                    json.dumps(value, allow_nan=False)
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{place}: {value!r} is not a finite number, a string, a boolean, null, "
                        "or a list or mapping of them"
                    ) from None
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
                said = error.errors()[0]["msg"].replace("Input should", "should", 1)
                raise ValueError(f"{place}: {value!r} {said}") from None


# Reading -----------------------------------------------------------------------------------------


def load_config(path: Path, base: Path | None = None, overrides: Sequence[str] = ()) -> BenchConfig:
    """The run described by a YAML file; relative paths in it start at `base`, or at its folder.

    `overrides` are `key=value` with dotted keys and YAML values.

    Raises:
        BenchError: if the file cannot be read or does not describe a run; every problem is listed.
    """
    wants = "a run is a mapping with at least name, evalset and generator"
    data, node = read_yaml(path, wants, BenchError)
    for override in overrides:
        apply_override(data, override, BenchError)
    # A value that was overridden is not the one in the file's line.
    shown = None if overrides else node
    return parse_config(data, str(path), node=shown, base=path.parent if base is None else base)


def parse_config(
    data: dict[str, Any], source: str, *, node: yaml.Node | None = None, base: Path | None = None
) -> BenchConfig:
    """The run described by plain data; `source` is what messages call it."""
    try:
        config = BenchConfig.model_validate(data)
    except ValidationError as error:
        raise BenchError(sentences(error, BenchConfig, source, node)) from None
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
                update[name] = base / value.expanduser()
            elif isinstance(value, BaseModel):
                update[name] = fix(value)
            elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
                update[name] = {k: fix(v) for k, v in value.items()}
        if isinstance(model, GeneratorConfig):
            update |= model.local_paths(base)
        if isinstance(model, Sweep):
            update |= {n: _anchor_axes(getattr(model, n), base) for n in type(model).model_fields}
        return model.model_copy(update=update) if update else model

    return typing.cast(BenchConfig, fix(config))


def _anchor_axes(value: Any, base: Path, axis: str = "") -> Any:
    """A part of a sweep with the files that its axes name read from the folder `base`."""
    if isinstance(value, AxisFile):
        return value.under(base)
    if isinstance(value, Axes):
        found = {name: _anchor_axes(getattr(value, name), base, name) for name in FILE_AXES}
        return value.model_copy(update=found)
    if isinstance(value, Mapping):
        if axis and isinstance(value.get("path"), str):
            return {**value, "path": found_under(base, value["path"])}
        return {k: _anchor_axes(v, base, k if k in FILE_AXES else axis) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_anchor_axes(each, base, axis) for each in value)
    return value
