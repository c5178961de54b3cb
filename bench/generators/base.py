"""What a generator is: samples and settings in, frames or files out.

`Generator.generate` is all that a model needs to enter the sweeps and the leaderboards; the rest
has defaults, and the bench asks for nothing that is not declared here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from bench.axes import Settings
from bench.errors import BenchError, UnknownNameError
from bench.evalsets import Sample
from bench.keys import canonical
from bench.yaml_models import Model
from media.files import file_sha256

Frames = Any  # [T, H, W, 3]: uint8, or float in 0..1; an array, CPU tensor or list of PIL images


@dataclass(frozen=True)
class Remarked:
    """A generated video, and what is to be known of it: its row in the run folder says it."""

    video: Any
    remark: str


class Resolved(NamedTuple):
    """What a generator makes of settings.

    Attributes:
        settings: with every default filled in, so that equal videos have equal keys.
        weights: what was hashed -> its hash; part of each video's key.
        mismatch: the placement is not the one that the checkpoint was trained with.
        passes: model passes per video; 0 if none.
        fps: frames per second of the file.
        stage: settings that share a stage need nothing loaded or swapped between them.
    """

    settings: Settings
    weights: Mapping[str, str] = MappingProxyType({})
    mismatch: bool = False
    passes: int = 0
    fps: float = 8.0
    stage: str = ""


class Generator(ABC):
    """A model of one's own.

    Construction must be cheap; load weights at the first `generate`.

    Attributes:
        name: what tables call it.
        version: change it when the same settings would give another video.
        made_with: what a config gives its class, part of what tells it from others.
        enhances: whether it can rewrite prompts (`evalset.enhance`).
        axes: the axes that it reads; a sweep over another is refused, because its cells would be
            the same videos under other names. "args" stands for every `args.NAME`. None: all.
        may_train: whether `resolve` may train what it lacks; False while a plan is only looked at.

    Example:
        >>> import numpy as np
        >>> class Grey(Generator):
        ...     name = "grey"
        ...     def generate(self, samples, settings):
        ...         return [np.full((9, 64, 64, 3), 128, np.uint8) for _ in samples]
        >>> from bench.evalsets import Sample
        >>> Grey().generate([Sample("1", "a face")], Settings(seed=0))[0].shape
        (9, 64, 64, 3)
    """

    name: str = ""
    version: str = "1"
    made_with: Mapping[str, Any] = MappingProxyType({})
    enhances: ClassVar[bool] = False
    axes: ClassVar[frozenset[str] | None] = None
    may_train: bool = True

    @abstractmethod
    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        """One video per sample, in order: its frames, or the path of a finished MP4.

        An exception fails these samples (after the batch was tried in halves) and nothing else.
        The same sample, settings and seed must give the same video whatever the batch.
        """

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        """Fill in defaults and say what the video depends on; called while planning.

        Raises:
            BenchError: if no video can be made with these settings.
        """
        return Resolved(settings, passes=settings.steps or 0, fps=settings.frame_rate or 8.0)

    def unprepared(
        self, tasks: Iterable[tuple[Sample, Settings]]
    ) -> Sequence[tuple[Sample, Settings]]:
        """Those of a run's videos that something is to be made for first, once for all workers."""
        return ()

    def prepare(self, tasks: Iterable[tuple[Sample, Settings]]) -> None:  # noqa: B027
        """Make it, and keep it where every worker finds it; called in one of them.

        A video that it can't be made for fails on its own later, when it is generated.
        """

    def repeats(self, sample: Sample, settings: Settings) -> int:
        """How many times the passes that `resolve` states this sample's video takes."""
        return 1

    def check(self, settings: Sequence[Settings]) -> None:  # noqa: B027  (most have nothing to)
        """Find cheaply what would fail every video of a cell; called before any is generated.

        Raises:
            BenchError: naming what is wrong; nothing is generated then.
        """

    def identity(self) -> Sequence[Any]:
        """What tells this generator from others in a video's key."""
        return [self.name, self.version, *filter(None, [dict(self.made_with)])]

    def content(self, sample: Sample, seed: int) -> str:
        """What of a sample determines its video, as text; part of the video's key."""
        references = [file_sha256(path) for path in sample.references]
        timeline = [[e.start, e.end, e.description] for e in sample.timeline]
        # Left out where there is none, so that the keys of other samples stay what they were.
        shown = [[[s.person, s.start, s.end] for s in sample.shown]] if sample.shown else []
        enhanced = ["enhanced"] if sample.enhance else []
        return canonical([sample.id, sample.prompt, references, timeline, *shown, *enhanced])

    def refuse_unread(self, names: Sequence[str]) -> None:
        """Raise where an axis would do nothing.

        Raises:
            BenchError: naming it and the axes that are read.
        """
        if self.axes is None:
            return
        for name in names:
            if name.partition(".")[0] not in self.axes:
                reads = ", ".join(sorted(self.axes)) or "none"
                raise BenchError(
                    f"The axis {name!r} does nothing in the generator {self.name}; remove it from "
                    f"the sweep (it reads: {reads})."
                )


class GeneratorConfig(Model):
    """Settings of one kind of generator.

    A kind is a subclass with a field `kind: Literal["..."]`, named in
    `bench.generators.GENERATORS`.

    Attributes:
        may_hang: whether `generate` runs a model, which may hang, or take its process down with
            it; then it gets a process of its own.
        several_gpus: whether it may use more than one GPU.
    """

    may_hang: ClassVar[bool] = True
    several_gpus: ClassVar[bool] = False
    kind: str

    @abstractmethod
    def make(self) -> Generator:
        """The generator.

        Raises:
            BenchError: if it cannot be made.
        """

    def local_paths(self, base: Path) -> dict[str, Any]:
        """Fields that may be a path as well as a name, read from the folder `base`."""
        return {}


def refuse_overruled(
    args: Mapping[str, Any], allowed: Sequence[str], set_by: Mapping[str, str]
) -> None:
    """Raise for an argument of the pipeline that is set otherwise, or that it does not take.

    Args:
        args: name -> value, as given.
        allowed: names that reach the pipeline as they are given.
        set_by: names that do not, and what to use instead.

    Raises:
        BenchError: naming the argument.
    """
    for name in args:
        if name in set_by:
            raise BenchError(f"args.{name} would be overruled; use {set_by[name]}.")
        if name not in allowed:
            raise UnknownNameError.among(
                "args: the pipeline takes no argument", name, sorted(allowed)
            )


def pick_device(name: str) -> str:
    """The device that a name means, "auto" being the one that this machine has.

    Raises:
        STDRCError: there is no such device here.
    """
    from stdrc import loading

    return str(loading.pick_device(name))
