"""Any table of prompts and references: CSV, or one JSON object per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.reading import event, get, own, rows, whom
from bench.evalsets.samples import Sample, Shown


class Columns(EvalSetBase):
    """Which column holds what."""

    prompt: str = Field(default="prompt", description="Column of the prompt.")
    references: list[str] = Field(
        default=["reference"],
        description="Columns of the reference images; NAME_person, NAME_start and NAME_end beside "
        "one, where there are, say whom it shows, and from which second to which.",
    )
    id: str | None = Field(
        default=None, description="Column of the sample's id; its row number if none."
    )
    identity: str | None = Field(default=None, description="Column of the identity's name.")
    target: str | None = Field(
        default=None, description="Column of a true video, where there is one."
    )
    video: str | None = Field(
        default=None, description="Column of the finished video's file in a generator's folder."
    )

    timeline: str | None = Field(
        default=None,
        description="Column (not of CSV) of a list of events: start, end and description.",
    )

    def needed(self) -> list[str]:
        """The columns that there have to be."""
        columns = (self.id, self.identity, self.target, self.video, self.timeline)
        return [self.prompt, *self.references, *(n for n in columns if n)]

    def samples_of(
        self, found: Iterable[tuple[str, dict[str, Any]]], folder: Path, problems: list[str]
    ) -> Iterator[Sample]:
        """The samples of rows, each with its place; paths start at the folder."""
        for number, (where, row) in enumerate(found, start=1):
            prompt = get(row, self.prompt, str, where, problems)
            names: list[Any] = []
            for n, column in enumerate(self.references):
                value = _about(row, column)
                if n and value == "":  # fewer people than in other rows
                    continue
                names += value if isinstance(value, list) else [value]
            shown = [whom(name, where, problems) for name in names]
            names = [n.get("image") if isinstance(n, dict) else n for n in names]
            references = [own(folder, name, where, problems) for name in names]
            told = row.get(self.timeline) if self.timeline else None
            events = [event(e, where, problems) for e in told or ()]
            target = None
            if self.target and row.get(self.target):
                target = own(folder, row[self.target], where, problems)
            if prompt is None or None in references:
                continue
            kept = tuple(r for r in references if r is not None)
            yield Sample(
                id=_named(row, self.id, str(number), where, problems),
                prompt=prompt,
                references=kept,
                target=target,
                video=_named(row, self.video, "", where, problems),
                identity=_named(row, self.identity, kept[0].stem if kept else "", where, problems),
                timeline=tuple(e for e in events if e is not None),
                shown=tuple(shown) if any(s != Shown() for s in shown) else (),
                source=where,
            )


class TableSet(Columns):
    """Any CSV or JSONL file with a prompt column and one or more reference columns."""

    kind: Literal["csv", "jsonl"]
    path: Path

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        found = rows(self.path, self.kind, problems, self.needed())
        return self.samples_of(found, self.path.parent, problems)


class ListedSet(Columns):
    """Samples written in the config itself, each as a row of a JSONL table."""

    kind: Literal["list"]
    samples: list[dict[str, Any]] = Field(min_length=1)
    folder: Path = Field(default=Path(), description="Where relative paths of images start.")

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        listed = ((f"evalset.samples[{n}]", row) for n, row in enumerate(self.samples))
        return self.samples_of(listed, self.folder, problems)


def _about(row: Mapping[str, Any], column: str) -> Any:
    """A reference's cell, with who it shows and when, where columns beside it say so."""
    value = row.get(column)
    told = {
        key: row[beside]
        for key in ("person", "start", "end")
        if (beside := f"{column}_{key}") in row and row[beside] not in (None, "")
    }
    return {"image": value, **told} if told and isinstance(value, str) else value


def _named(
    row: dict[str, Any], column: str | None, default: str, where: str, problems: list[str]
) -> str:
    """A row's value of a column as text; the default where no column is named."""
    if column is None:
        return default
    if column not in row:
        problems.append(f"{where}: {column!r} is missing")
    return str(row.get(column, default))
