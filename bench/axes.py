"""The axes of a sweep, each stated once: its type, its range, what it means.

Guidance's axes are the fields of `stdrc.ThreeStreamGuidance`: a number that is added there is an
axis of YAML files, of Python and of `stdrc generate`, and reaches the pipeline, without being named
anywhere else. None means that the generator's default holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from bench.yaml_models import Model, Switch, found_under
from stdrc import guidance as _guidance

GUIDANCE: dict[str, FieldInfo] = vars(_guidance.ThreeStreamGuidance)["__pydantic_fields__"]

if TYPE_CHECKING:

    class _Guidance(Model):
        def __getattr__(self, axis: str) -> Any: ...

else:

    def _optional(info: FieldInfo) -> tuple[Any, Any]:
        checked = Annotated[(info.annotation, Field(), *info.metadata)]
        return checked | None, Field(default=None, description=info.description)

    _Guidance = create_model(
        "_Guidance",
        __base__=Model,
        __module__=__name__,
        **{name: _optional(info) for name, info in GUIDANCE.items()},
    )


class AxisFile(Model):
    """A value of an axis that names a file; tables call it by its last two names."""

    path: str = Field(description="A file, a folder or a hub id.")

    def under(self, base: Path) -> Any:
        """The same with a path that is there read from the folder `base`."""
        return self.model_copy(update={"path": found_under(base, self.path)})

    @property
    def short(self) -> str:
        return "/".join(PurePath(self.path).parts[-2:]).removesuffix(".safetensors")


class Lora(AxisFile):
    """One of several LoRAs on a cell's checkpoint."""

    file: str | None = Field(default=None, description="Which file of a folder or repository.")
    strength: float = Field(default=1.0, allow_inf_nan=False)

    def __str__(self) -> str:
        name = self.short if self.file is None else f"{self.short}/{PurePath(self.file).stem}"
        return name if self.strength == 1 else f"{name}={self.strength:g}"


class SecondStage(AxisFile):
    """The spatial latent upsampler of a second stage: height and width are this stage's, and the
    first one's are half of them."""

    reference: Literal["keep", "leave"] = Field(
        default="keep", description="Whether the second stage is shown the reference too."
    )

    def __str__(self) -> str:
        return f"{self.short} {self.reference}"


class Axes(_Guidance):
    """A value for each axis that is named; an axis that is not keeps the generator's default."""

    checkpoint: str | None = Field(default=None, description="a trained variant, by its name")
    placement: str | dict[str, Any] | None = Field(
        default=None,
        description="where the reference stands: tass, overlap, strata, spatial, far, or "
        "ReferencePlacement's arguments; default: as trained",
    )
    loras: tuple[Lora, ...] | None = Field(
        default=None,
        description="LoRAs beside the trained variant, each with path, file and strength",
    )
    augmentation: Switch | None = Field(
        default=None, description="which trained variant: 'on', 'off', 'no-pose', ..."
    )
    crop: Literal["none", "face", "head"] | None = Field(
        default=None,
        description="what of a reference is shown: the whole picture, the face or the head",
    )
    schedule: Literal["dev", "distilled"] | None = Field(
        default=None, description="noise levels: the checkpoint's own, or a distilled model's"
    )
    upscale: SecondStage | None = Field(
        default=None,
        description="a second stage at twice the height and width of the first: path of a latent "
        "upsampler, and whether the reference is kept there",
    )
    steps: int | None = Field(default=None, ge=1, description="denoising steps")
    height: int | None = Field(default=None, ge=2, description="pixels")
    width: int | None = Field(default=None, ge=2, description="pixels")
    num_frames: int | None = Field(
        default=None, ge=1, description="frames: 8k+1 for LTX-2.3, 4k+1 for the miniature"
    )
    frame_rate: float | None = Field(default=None, gt=0, description="frames per second")
    negative_prompt: str | None = Field(default=None, description="what 'no text' means")
    timeline: Literal["joined", "blended"] | None = Field(
        default=None,
        description="how a sample's timeline is generated: 'joined', one prompt that says the "
        "times, or 'blended', a prompt for each event, which costs a step's passes for each; "
        "default: by the sample's prompt alone",
    )
    # By a factory: pydantic copies a default deeply for each of a plan's cells.
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Any other argument of the pipeline, in a sweep 'args.NAME'.",
    )


#: In the order in which labels and tables show them.
AXIS_NAMES: tuple[str, ...] = (
    *("checkpoint", "placement", "augmentation", "loras"),
    *GUIDANCE,
    *("steps", "height", "width", "num_frames", "frame_rate", "negative_prompt", "crop"),
    *("schedule", "upscale", "timeline"),
)
#: Axes whose values name files.
FILE_AXES = ("loras", "upscale")
#: Axes that another argument of the pipeline has the name of, and those that are none: they pick
#: weights, or say what is made of a sample.
_ARGUMENTS = {"steps": "num_inference_steps"}
_NO_ARGUMENTS = ("checkpoint", "augmentation", "timeline", *FILE_AXES)
_NAMED = frozenset(AXIS_NAMES)
_PLACES = {name: place for place, name in enumerate(AXIS_NAMES)}.__getitem__


class Settings(Axes):
    """One cell of a sweep, and a seed.

    Example:
        >>> Settings(text=3, steps=20, args={"decode_timestep": 0.05}).axes()
        {'text': 3.0, 'steps': 20, 'args.decode_timestep': 0.05}
    """

    seed: int = Field(default=0, description="same seed, same video")

    @classmethod
    def of(cls, axes: Mapping[str, Any]) -> Settings:
        """Axis values as settings; `args.NAME` goes to the pipeline's other arguments."""
        if not any(name.startswith("args.") for name in axes):
            return cls(**axes)
        own = {k: v for k, v in axes.items() if not k.startswith("args.")}
        return cls(**own, args={k[5:]: v for k, v in axes.items() if k.startswith("args.")})

    @classmethod
    def unchecked(cls, given: Mapping[str, Any]) -> Settings:
        """The same of values that were checked: from the file, or of `given`."""
        if not given.keys() <= _NAMED:
            args = {name[5:]: value for name, value in given.items() if name not in _NAMED}
            given = {**{k: v for k, v in given.items() if k in _NAMED}, "args": args}
        return _DEFAULTS.replace(**given)

    def given(self) -> dict[str, Any]:
        """What is set, `args.NAME` among it; everything but the seed, which makes no new cell."""
        names, values = _in_order(frozenset(self.__pydantic_fields_set__)), self.__dict__
        given = {name: value for name in names if (value := values[name]) is not None}
        for name in sorted(self.args) if self.args else ():
            given[f"args.{name}"] = self.args[name]
        return given

    def axes(self) -> dict[str, Any]:
        """What is set, as plain data."""
        return plain_axes(self.given())

    def guidance(self) -> dict[str, Any]:
        """The arguments of `ThreeStreamGuidance` that are set."""
        found = {name: getattr(self, name) for name in GUIDANCE}
        return {name: value for name, value in found.items() if value is not None}

    def arguments(self) -> dict[str, Any]:
        """What is set, as arguments of `STDRCPipeline`; the checkpoint was picked before."""
        found = {
            _ARGUMENTS.get(name, name): value
            for name in AXIS_NAMES
            if name not in GUIDANCE
            and name not in _NO_ARGUMENTS
            and (value := getattr(self, name)) is not None
        }
        if given := self.guidance():
            found["guidance"] = _guidance.ThreeStreamGuidance(**given)
        return {**found, **self.args}

    def replace(self, **changes: Any) -> Settings:
        """The same with other values, which are not checked again."""
        # model_copy, a third as long: a plan of many cells lives here.
        new, put = self.__new__(type(self)), object.__setattr__
        put(new, "__dict__", {**self.__dict__, **changes})
        put(new, "__pydantic_fields_set__", {*self.__pydantic_fields_set__, *changes})
        put(new, "__pydantic_extra__", None)
        put(new, "__pydantic_private__", None)
        return new


@lru_cache
def _in_order(names: frozenset[str]) -> list[str]:
    """Those of the names that are axes, in the axes' order; the cells of a sweep share them."""
    return sorted(names & _NAMED, key=_PLACES)


_DEFAULTS = Settings()


def plain_axes(given: dict[str, Any]) -> dict[str, Any]:
    """Axis values as tables show them, files by their names.

    By name, so that the same weights elsewhere are the same cell; their hashes tell the rest.
    """
    if given.keys().isdisjoint(FILE_AXES):
        return given
    shown = {name: str(value) if name == "upscale" else value for name, value in given.items()}
    if "loras" in shown:
        shown["loras"] = " + ".join(map(str, shown["loras"])) or "none"
    return shown


def axis_value(axis: str, value: Any) -> Any:
    """`value` as the axis' type has it: `3` becomes `3.0` for a weight, `True` becomes `"on"`."""
    return value if axis.startswith("args.") else getattr(Axes(**{axis: value}), axis)
