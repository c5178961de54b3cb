"""From axes to cells, from cells to jobs: what will be generated, in which order, at which cost.

A cell is one setting of every axis; a cell, a sample and a seed make a video. Keys are hashes of
all that determines the video, so that the same work is never planned twice, now or in a later run.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import config as cfg
from bench.axes import FILE_AXES, Settings, axis_value, plain_axes
from bench.errors import BenchError
from bench.evalsets import EvalSet, Sample
from bench.generators import Generator
from bench.keys import canonical
from leaderboards.runfolder import unique_labels


@dataclass(slots=True)
class Cell:
    """One setting of every axis, resolved by the generator.

    Attributes:
        names, values: the axes that are set. A million cells share their names, and the settings
            of one take ten times the space.
        label: what tables call it among a plan's cells.
    """

    digest: str
    names: tuple[str, ...]
    values: tuple[Any, ...]
    weights: Mapping[str, str]
    mismatch: bool
    passes: int
    fps: float
    stage: str
    label: str = ""

    @property
    def id(self) -> str:
        """16 hex digits."""
        return self.digest[:16]

    @property
    def settings(self) -> Settings:
        return Settings.unchecked(dict(zip(self.names, self.values)))

    @property
    def axes(self) -> dict[str, Any]:
        return plain_axes(dict(zip(self.names, self.values)))


@dataclass(frozen=True, slots=True)
class Task:
    """One video to make."""

    key: str
    cell: str
    sample: Sample
    settings: Settings
    fps: float


@dataclass(frozen=True, slots=True)
class Job:
    """Videos of one cell and seed that are generated as one batch; `passes` of the model each.

    Attributes:
        name: the same for what is left of a job as for the whole.
    """

    tasks: tuple[Task, ...]
    stage: str
    passes: int = 0
    name: str = ""

    @property
    def settings(self) -> Settings:
        return self.tasks[0].settings


def expand(sweep: cfg.Sweep) -> Iterator[dict[str, Any]]:
    """Every combination of axis values, in the order of the file; may repeat itself.

    With neither grid, list nor ablations there is one cell: the base.
    """
    excluded = [{k: axis_value(k, v) for k, v in rule.items()} for rule in sweep.exclude]
    base = {k: v for k, v in sweep.base if v is not None and k != "args"}
    base |= {f"args.{name}": value for name, value in sweep.base.args.items()}
    parts: list[Iterable[dict[str, Any]]] = []
    if sweep.grid:
        # Each value is read once, not once per cell: 100,000 cells have a few hundred values.
        axes = [[axis_value(a, v) for v in values] for a, values in sweep.grid.items()]
        names = tuple(sweep.grid)
        parts.append(dict(zip(names, combination)) for combination in itertools.product(*axes))
    if sweep.list:
        parts.append([{k: axis_value(k, v) for k, v in cell.items()} for cell in sweep.list])
    for ablation in sweep.ablations.values():
        parts.append([{}])
        for axis, values in ablation.items():
            parts.append([{axis: axis_value(axis, v)} for v in values])
    for axes_of_cell in itertools.chain(*parts) if parts else [{}]:
        cell = {**base, **axes_of_cell}
        if not excluded or not any(
            all(cell.get(k) == v for k, v in rule.items()) for rule in excluded
        ):
            yield cell


def repeated(sweep: cfg.Sweep) -> list[str]:
    """The axes of the grid, and the seeds, that name a value twice: perhaps another was meant."""
    named = {axis: [repr(axis_value(axis, v)) for v in vs] for axis, vs in sweep.grid.items()}
    named["seeds"] = [repr(seed) for seed in sweep.seeds]
    return [name for name, values in named.items() if len(set(values)) < len(values)]


@dataclass(frozen=True)
class Plan:
    """What a run consists of; nothing of it depends on what is already done."""

    generator: Generator
    cells: tuple[Cell, ...]
    samples: EvalSet
    seeds: tuple[int, ...]
    batch_size: int
    shard: tuple[int, int] = (1, 1)
    _contents: dict[tuple[str, int], str] = field(default_factory=dict)  # (sample, seed)

    @property
    def videos(self) -> int:
        """Videos of the whole sweep, all shards together."""
        return len(self.cells) * len(self.samples) * len(self.seeds)

    def in_shard(self) -> int:
        """Videos of this shard."""
        return sum(len(job.tasks) for job in self.jobs())

    @property
    def passes(self) -> int:
        """Model passes of the whole sweep."""
        # Only a timeline makes samples differ in cost.
        passes: dict[str | None, int] = {}
        cells: dict[str | None, Cell] = {}
        for cell in self.cells:
            way = cell.axes.get("timeline")
            passes[way] = passes.get(way, 0) + cell.passes
            cells[way] = cell
        each = sum(
            total * self.generator.repeats(sample, cells[way].settings)
            for way, total in passes.items()
            for sample in self.samples
        )
        return each * len(self.seeds)

    @property
    def varied(self) -> tuple[str, ...]:
        """Axes with more than one value, in the order of `Settings`."""
        return varied_axes(self.cells)

    def jobs(self) -> Iterator[Job]:
        """This shard's jobs: a stage (checkpoint) at a time, then block of samples, cell, seed.

        Cells of one stage follow each other within a block of samples, so that all cells grow
        evenly and what was encoded for a sample is used up before the next block needs memory.
        """
        stages: dict[str, list[Cell]] = {}
        for cell in self.cells:
            stages.setdefault(cell.stage, []).append(cell)
        size = self.batch_size
        blocks = [self.samples[i : i + size] for i in range(0, len(self.samples), size)]
        total = len(self.cells) * len(blocks) * len(self.seeds)
        index, count = self.shard
        first, last = (index - 1) * total // count, index * total // count
        number = 0
        for stage, cells in stages.items():
            for block, cell, seed in itertools.product(blocks, cells, self.seeds):
                if first <= number < last:
                    tasks = tuple(self.task(cell, sample, seed) for sample in block)
                    yield Job(tasks, stage, cell.passes, tasks[0].key)
                number += 1

    def task(self, cell: Cell, sample: Sample, seed: int) -> Task:
        """The video of a cell, a sample and a seed."""
        place = (sample.id, seed)
        if place not in self._contents:
            self._contents[place] = self.generator.content(sample, seed)
        text = f"{cell.digest} {seed} {self._contents[place]}"
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return Task(key, cell.id, sample, cell.settings.replace(seed=seed), cell.fps)


def varied_axes(cells: Collection[Cell]) -> tuple[str, ...]:
    """Names of the axes that do not have the same value everywhere."""
    sets = dict.fromkeys(cell.names for cell in cells)
    names = dict.fromkeys(itertools.chain.from_iterable(sets))
    constant, first = set(names), next((cell.axes for cell in cells), {})
    for axes in (cell.axes for cell in cells):
        constant -= {name for name in constant if axes.get(name) != first.get(name)}
        if not constant:
            break
    return tuple(name for name in names if name not in constant)


def plan(
    config: cfg.BenchConfig,
    samples: EvalSet,
    generator: Generator,
    *,
    limit: int | None = None,
    shard: tuple[int, int] = (1, 1),
) -> Plan:
    """Cells of a sweep, resolved, without repeats.

    Args:
        config: the run.
        samples: its evaluation set.
        generator: fills in defaults, picks checkpoints and hashes them.
        limit: how many of the first samples to use.
        shard: (which, of how many), from 1: a contiguous part of the ordered jobs.

    Raises:
        BenchError: naming every setting that the generator refuses, or if no cell is left.
    """
    if limit is not None:
        if limit < 1:
            raise BenchError(f"--limit is at least 1 sample, not {limit}.")
        samples = EvalSet(samples[:limit], name=samples.name)
    if not 1 <= shard[0] <= shard[1]:
        raise BenchError(f"A shard is I/N with 1 <= I <= N, not {shard[0]}/{shard[1]}.")
    if not generator.enhances and any(sample.enhance for sample in samples):
        raise BenchError(
            f"evalset.enhance does nothing in the generator {generator.name}, which has no "
            "language model of its own; leave it out."
        )
    with _without_collection():
        return _plan(config, samples, generator, shard)


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for cycles meanwhile: a million cells have none, and it takes its time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _plan(
    config: cfg.BenchConfig, samples: EvalSet, generator: Generator, shard: tuple[int, int]
) -> Plan:
    made = hashlib.sha256(f"[{canonical([*generator.identity(), config.video.crf])},".encode())
    found: dict[str, Cell] = {}
    shared: dict[Any, Any] = {}  # what many cells have in common, kept once
    problems: dict[str, None] = {}
    for axes in expand(config.sweep):
        try:
            generator.refuse_unread(tuple(axes))
            resolved = generator.resolve(
                Settings.unchecked(axes), allow_mismatch=config.sweep.allow_mismatch
            )
        except ValueError as error:  # BenchError, STDRCError: what a user can fix
            problems[str(error)] = None
            continue
        given = resolved.settings.given()
        names, weights = tuple(given), resolved.weights
        of_cell = made.copy()
        text = canonical([plain_axes(given), dict(weights), resolved.fps])
        of_cell.update(text[1:].encode())
        digest = of_cell.hexdigest()
        if digest not in found:
            found[digest] = Cell(
                digest=digest,
                names=shared.setdefault(names, names),
                values=tuple(given.values()),
                weights=shared.setdefault(frozenset(weights.items()), weights),
                mismatch=resolved.mismatch,
                passes=resolved.passes,
                fps=resolved.fps,
                stage=shared.setdefault(resolved.stage, resolved.stage),
            )
    if problems:
        raise BenchError("\n".join(problems))
    if not found:
        raise BenchError("The sweep has no cell left; 'exclude' leaves out all of them.")
    varied = varied_axes(found.values())
    labels = {digest: _label(cell, varied, generator.name) for digest, cell in found.items()}
    for digest, label in unique_labels(labels).items():
        found[digest].label = label
    return Plan(
        generator=generator,
        cells=tuple(found.values()),
        samples=samples,
        seeds=tuple(dict.fromkeys(config.sweep.seeds)),
        batch_size=config.engine.batch_size,
        shard=shard,
    )


_FILES = frozenset(FILE_AXES)


def _label(cell: Cell, names: Sequence[str], generator: str) -> str:
    axes = dict(zip(cell.names, cell.values))
    if not _FILES.isdisjoint(names):
        # One that names files is left out where there is none; a label says so.
        axes = dict.fromkeys(FILE_AXES, "none") | cell.axes
    words = [_word(name, axes[name]) for name in names if name in axes]
    return " ".join(words) or generator


def _word(name: str, value: Any) -> str:
    if value.__class__ is float:
        return f"{name.removeprefix('args.')}={value:g}"
    if name in ("placement", "checkpoint", "order", "schedule", "timeline"):
        return value if isinstance(value, str) else canonical(value)
    if isinstance(value, tuple):  # as tables print it
        value = json.dumps(value)
    return f"{name.removeprefix('args.')}={value}"
