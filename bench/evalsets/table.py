"""Any table of prompts and references: CSV, or one JSON object per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.reading import event, get, own, rows
from bench.evalsets.samples import Sample, Shown


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
    video: str | None = Field(
        default=None, description="Column of the finished video's file in a generator's folder."
    )

    timeline: str | None = Field(
        default=None,
        description="Column (of JSONL) of a list of events: start, end and description.",
    )

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        columns = (self.id, self.identity, self.target, self.video, self.timeline)
        optional = [n for n in columns if n]
        needed = [self.prompt, *self.references, *optional]
        folder = self.path.parent
        found = rows(self.path, self.kind, problems, needed)
        for number, (where, row) in enumerate(found, start=1):
            prompt = get(row, self.prompt, str, where, problems)
            names: list[Any] = []
            for column in self.references:
                value = row.get(column)
                names += value if isinstance(value, list) else [value]
            shown = [_shown(name, where, problems) for name in names]
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


def _shown(reference: Any, where: str, problems: list[str]) -> Shown:
    """Who a reference is and when: what a row says of it beside its image."""
    if not isinstance(reference, dict):
        return Shown()
    if unknown := sorted(reference.keys() - {"image", "person", "start", "end"}):
        problems.append(
            f"{where}: a reference has image, person, start and end, and no {unknown[0]!r}"
        )
    try:
        start, end = (
            None if reference.get(key) is None else float(reference[key])
            for key in ("start", "end")
        )
        return Shown(person=str(reference.get("person", "")), start=start, end=end)
    except (TypeError, ValueError):
        problems.append(f"{where}: a reference's start and end are seconds, not {reference!r}")
        return Shown()


def _named(
    row: dict[str, Any], column: str | None, default: str, where: str, problems: list[str]
) -> str:
    """A row's value of a column as text; the default where no column is named."""
    if column is None:
        return default
    if column not in row:
        problems.append(f"{where}: {column!r} is missing")
    return str(row.get(column, default))
