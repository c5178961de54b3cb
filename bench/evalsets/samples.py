"""One thing to generate, and a checked sequence of them.

An evaluation set is checked as a whole: every problem is listed at once, with the file and line
where it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from media.errors import UnreadableImageError
from media.images import image_size

if TYPE_CHECKING:
    from datasets import Dataset

_SHOWN = 50  # problems listed before "and N more"


@dataclass(frozen=True)
class Event:
    """One entry of a timeline: what happens from `start` to `end`, in the data set's own unit."""

    start: float
    end: float
    description: str


@dataclass(frozen=True)
class Shown:
    """Who a reference is, and between which seconds it counts; None: from the start, to the end."""

    person: str = ""
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Sample:
    """One thing to generate.

    Attributes:
        id: unique within the set; also how the run folder names it.
        prompt: the text, with the identity's prefix already in front of it.
        references: image files, in the data set's order.
        target: a true video of the same identity and prompt, where one exists.
        identity: whose face it is; samples that share it are one person.
        timeline: what happens when, for sequential-action sets.
        source: file (and line) it was read from, for messages.
        index: its place in the evaluation set, from 1; the set says it.
        video: the file of a finished video, in whichever folder, where the data set names one.
        shown: one per reference, where they are several people or count at some time only.
        enhance: the generator's own language model rewrites the prompt; scores go by the prompt as
            it is here, and the video's row keeps what was read instead.
    """

    id: str
    prompt: str
    references: tuple[Path, ...] = ()
    target: Path | None = None
    identity: str = ""
    timeline: tuple[Event, ...] = ()
    source: str = field(default="", compare=False)
    index: int = field(default=0, compare=False)
    video: str = field(default="", compare=False)
    shown: tuple[Shown, ...] = ()
    enhance: bool = False


class EvalSet(Sequence[Sample]):
    """Checked samples, in order.

    Raises:
        BenchError: if there are none, an id is duplicated, or a file is missing or unreadable.
    """

    def __init__(self, samples: Iterable[Sample], *, name: str, problems: Iterable[str] = ()):
        self.name = name
        self._samples = tuple(replace(s, index=i) for i, s in enumerate(samples, start=1))
        found = list(problems)
        first: dict[str, Sample] = {}
        for sample in self._samples:
            found += _check(sample)
            if sample.id in first:
                found.append(
                    f"{sample.source}: the sample id {sample.id!r} is duplicated "
                    f"(first at {first[sample.id].source})"
                )
            first.setdefault(sample.id, sample)
        if not found and not self._samples:
            found.append("it has no samples")
        if found:
            more = f"\n  ... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            listing = "\n  ".join(found[:_SHOWN])
            count = "a problem" if len(found) == 1 else f"{len(found)} problems"
            raise BenchError(f"The evaluation set {name} has {count}:\n  {listing}{more}")

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    @property
    def identities(self) -> tuple[str, ...]:
        """Identities in order of first appearance."""
        return tuple(dict.fromkeys(s.identity for s in self._samples))

    def to_dataset(self) -> Dataset:
        """The set as a Hugging Face `datasets.Dataset`, one row per sample, paths as strings."""
        from datasets import Dataset

        return Dataset.from_list(
            [
                {
                    "id": s.id,
                    "prompt": s.prompt,
                    "references": [str(r) for r in s.references],
                    "target": str(s.target) if s.target else None,
                    "identity": s.identity,
                    "timeline": [
                        {"start": e.start, "end": e.end, "description": e.description}
                        for e in s.timeline
                    ],
                }
                for s in self._samples
            ]
        )


def _check(sample: Sample) -> list[str]:
    problems = []
    where = sample.source or f"sample {sample.id}"
    if not sample.prompt.strip():
        problems.append(f"{where}: the prompt is empty")
    if not re.fullmatch(r"[\w][\w./@+-]*", sample.id) or ".." in sample.id:
        problems.append(
            f"{where}: {sample.id!r} cannot be a sample's id; use letters, digits and ._-/"
        )
    for path in (*sample.references, *([sample.target] if sample.target else [])):
        if not path.is_file():
            problems.append(f"{where}: there is no file {path}")
        elif path.stat().st_size == 0:
            problems.append(f"{where}: the file {path} is empty")
    for path in sample.references:
        if path.is_file() and path.stat().st_size and (why := _unreadable_image(path)):
            problems.append(f"{where}: {path} cannot be read as an image ({why})")
    for event in sample.timeline:
        if not (0 <= event.start < math.inf and 0 <= event.end < math.inf):
            problems.append(
                f"{where}: an event goes from {event.start} to {event.end} seconds; both have to "
                "be numbers from 0 on"
            )
        elif event.start > event.end:
            problems.append(f"{where}: an event ends ({event.end}) before it starts")
    for shown in sample.shown:
        if not 0 <= (shown.start or 0.0) < (math.inf if shown.end is None else shown.end):
            problems.append(
                f"{where}: a reference counts from {shown.start} to {shown.end} seconds; it has to "
                "start at 0 or later and end after that"
            )
    return problems


def _unreadable_image(path: Path) -> str:
    try:
        width, height = image_size(path)  # from the header only
    except UnreadableImageError as error:
        return str(error)
    return "" if width and height else "it has no pixels"
