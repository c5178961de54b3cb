"""Finished videos of any model, found by a pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from bench.axes import Settings
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators.base import Frames, Generator, GeneratorConfig
from bench.keys import canonical
from media.files import file_sha256

_PATTERN = {"sample", "identity", "index", "seed"}


class FolderConfig(GeneratorConfig):
    """A folder of finished videos, of any model."""

    kind: Literal["folder"]
    path: Path
    pattern: str = Field(
        default="{sample}.mp4",
        description="Where a sample's video lies; {sample}, {identity}, {index} (its place in the "
        "evaluation set, from 1) and {seed} stand for themselves.",
    )
    name: str = "folder"

    def make(self) -> Generator:
        return FolderGenerator(self)


class FolderGenerator(Generator):
    """Finished videos of any model; a file's hash is all that a video's key holds of its sample.

    So a replaced file is another video, and a replaced reference is the same video, scored again
    by the metrics that look at references.
    """

    axes: ClassVar[frozenset[str] | None] = frozenset()

    def __init__(self, config: FolderConfig) -> None:
        self.folder, self.pattern, self.name = config.path, config.pattern, config.name
        if not self.folder.is_dir():
            raise BenchError(
                f"generator.path: there is no folder {self.folder}; name the one with the videos."
            )
        unknown = set(re.findall(r"\{(.*?)\}", self.pattern)) - _PATTERN
        if unknown:
            raise BenchError(
                f"generator.pattern: unknown {{{sorted(unknown)[0]}}}; known are "
                f"{', '.join(f'{{{p}}}' for p in sorted(_PATTERN))}."
            )

    def find(self, sample: Sample, seed: int) -> Path:
        """The file of a sample."""
        return self.folder / self.pattern.format(
            sample=sample.id,
            identity=sample.identity,
            index=sample.index,
            seed=seed,
        )

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        paths = [self.find(sample, settings.seed) for sample in samples]
        for path in paths:
            if not path.is_file():
                raise BenchError(f"There is no video {path}.")
        return paths

    def content(self, sample: Sample, seed: int) -> str:
        path = self.find(sample, seed)
        return canonical([sample.id, file_sha256(path) if path.is_file() else "missing"])
