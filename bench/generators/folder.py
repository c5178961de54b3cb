"""Finished videos of any model: named by a table, found by a pattern, or listed."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from bench.axes import Settings
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators.base import Frames, Generator, GeneratorConfig, Resolved
from bench.keys import canonical
from media.files import natural_order
from media.video import VIDEO_SUFFIXES, VideoReader, find_videos, is_frame_folder, video_sha256

_PATTERN = {"sample", "identity", "index", "seed"}


class FolderConfig(GeneratorConfig):
    """A folder of finished videos, of any model."""

    may_hang: ClassVar[bool] = False
    kind: Literal["folder"]
    path: Path
    pattern: str = Field(
        default="{sample}",
        description="Where a sample's video lies, with or without its ending, or a folder of "
        "frames; {sample}, {identity}, {index} (its place in the evaluation set, from 1) and "
        "{seed} stand for themselves. A sample whose table names its video needs none.",
    )
    videos: dict[str, str] = Field(
        default={}, description="Sample -> its video, where no pattern tells."
    )
    fps: float = Field(
        default=24, gt=0, description="Frames per second of folders of frames; files say theirs."
    )
    name: str = "folder"

    def make(self) -> FolderGenerator:
        return FolderGenerator(self)


def finished(
    folder: Path, match: str, samples: Sequence[Sample], *, name: str = "folder", fps: float = 24.0
) -> FolderConfig:
    """The settings under which a folder's videos are found.

    Args:
        match: a pattern, or "order": the n-th file by natural order is the n-th sample's.

    Raises:
        BenchError: the folder does not exist, or by order another number of videos than samples.
    """
    if not folder.is_dir():
        raise BenchError(f"{name}: there is no folder {folder}; check the path.")
    if match != "order":
        return FolderConfig(kind="folder", path=folder, pattern=match, fps=fps, name=name)
    files = find_videos(folder)
    if len(files) != len(samples):
        raise BenchError(
            f"{name}: {folder} has {len(files)} videos for {len(samples)} samples, so their order "
            "can't say which is whose; use a pattern, or a column 'video' in the table."
        )
    listed = {s.id: f.relative_to(folder).as_posix() for s, f in zip(samples, files)}
    return FolderConfig(kind="folder", path=folder, videos=listed, fps=fps, name=name)


class Matched(NamedTuple):
    """Which video of a folder is which sample's.

    Attributes:
        found: sample's id -> its video.
        missing: samples without one, and what was looked for.
        unused: videos in the folder that belong to no sample.
    """

    found: dict[str, Path]
    missing: dict[str, Path]
    unused: list[Path]

    def nothing(self, folder: Path) -> str:
        """That no sample has a video, where it was looked for, and what to do."""
        there = ", ".join(path.name for path in self.unused[:3]) or "nothing"
        return (
            f"None of the {len(self.missing)} samples has a video in {folder}: looked for "
            f"{next(iter(self.missing.values())).name} with any ending and so on, and there is "
            f"{there}. Name the videos by the samples' ids (a table's column 'id', else the row's "
            "number) or in its column 'video', or give a pattern, such as --match "
            "'clip_{index:03d}', or --match order."
        )


class FolderGenerator(Generator):
    """Finished videos of any model; a file's hash is all that a video's key holds of its sample.

    So a replaced file is another video, and a replaced reference is the same video, scored again
    by the metrics that look at references.
    """

    axes: ClassVar[frozenset[str] | None] = frozenset()

    def __init__(self, config: FolderConfig) -> None:
        self.folder, self.pattern, self.name = config.path, config.pattern, config.name
        self.videos, self.fps = config.videos, config.fps
        if not self.folder.is_dir():
            raise BenchError(
                f"generator.path: there is no folder {self.folder}; name the one with the videos."
            )
        unknown = set(re.findall(r"\{(.*?)[}:!]", self.pattern)) - _PATTERN
        if unknown:
            raise BenchError(
                f"generator.pattern: unknown {{{sorted(unknown)[0]}}}; known are "
                f"{', '.join(f'{{{p}}}' for p in sorted(_PATTERN))}."
            )

    def find(self, sample: Sample, seed: int) -> Path:
        """The file of a sample, or its folder of frames; where there is none, what was looked for.

        Raises:
            BenchError: the pattern can't be filled in, or two videos bear the sample's name.
        """
        name = self.videos.get(sample.id) or sample.video
        if not name:
            about = {"sample": sample.id, "identity": sample.identity}
            try:
                name = self.pattern.format(**about, index=sample.index, seed=seed)
            except (ValueError, LookupError) as error:
                raise BenchError(
                    f"generator.pattern: {self.pattern!r} can't be filled in ({error}); write, for "
                    "example, {sample} or {index:03d}."
                ) from None
        path = self.folder / os.path.expanduser(name)
        candidates = [path, *(path.with_name(path.name + end) for end in VIDEO_SUFFIXES)]
        there = [p for p in candidates if p.is_file() or is_frame_folder(p)]
        if len(there) > 1:
            raise BenchError(
                f"{there[0]} and {there[1].name} both bear the name of the sample {sample.id}; "
                "remove one, or name the ending in the pattern."
            )
        return there[0] if there else path

    def matched(self, samples: Iterable[Sample], seed: int = 0) -> Matched:
        """Which video is which sample's.

        Raises:
            BenchError: two samples have one video.
        """
        asked = {sample.id: self.find(sample, seed) for sample in samples}
        found = {name: path for name, path in asked.items() if path.exists()}
        if found:
            path, times = Counter(found.values()).most_common(1)[0]
            if times > 1:
                raise BenchError(
                    f"{path} would be the video of {times} samples; each needs one of its own."
                )
        taken = {path.resolve() for path in found.values()}
        unused = [p for p in find_videos(self.folder) if p.resolve() not in taken]
        missing = {name: path for name, path in asked.items() if name not in found}
        return Matched(found, missing, natural_order(unused))

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        return Resolved(settings, fps=self.fps)

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        made: list[Frames | Path] = []
        for path in (self.find(sample, settings.seed) for sample in samples):
            if not path.exists():
                raise BenchError(f"There is no video {path}.")
            made.append(path)
            if path.is_dir():
                reader = VideoReader(path)
                made[-1] = reader.read(range(len(reader)))
        return made

    def content(self, sample: Sample, seed: int) -> str:
        path = self.find(sample, seed)
        return canonical([sample.id, video_sha256(path) if path.exists() else "missing"])
