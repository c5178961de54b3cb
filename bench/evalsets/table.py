"""Any table of prompts and references: CSV, or one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.reading import get, own, rows
from bench.evalsets.samples import Sample


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

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        optional = [n for n in (self.id, self.identity, self.target, self.video) if n]
        needed = [self.prompt, *self.references, *optional]
        folder = self.path.parent
        found = rows(self.path, self.kind, problems, needed)
        for number, (where, row) in enumerate(found, start=1):
            prompt = get(row, self.prompt, str, where, problems)
            names: list[Any] = []
            for column in self.references:
                value = row.get(column)
                names += value if isinstance(value, list) else [value]
            references = [own(folder, name, where, problems) for name in names]
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
                source=where,
            )


def _named(
    row: dict[str, Any], column: str | None, default: str, where: str, problems: list[str]
) -> str:
    """A row's value of a column as text; the default where no column is named."""
    if column is None:
        return default
    if column not in row:
        problems.append(f"{where}: {column!r} is missing")
    return str(row.get(column, default))
