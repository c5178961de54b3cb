"""A data set on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.cached import digest, write_once
from bench.evalsets.reading import get
from bench.evalsets.samples import Sample
from media.errors import UnreadableImageError
from media.images import read_image


class HubSet(EvalSetBase):
    """A data set on the Hugging Face hub (or a folder that `datasets.load_dataset` reads)."""

    kind: Literal["hub"]
    repo: str
    name: str | None = None
    split: str = "test"
    revision: str | None = None
    prompt: str = "prompt"
    references: list[str] = Field(default=["image"])
    id: str | None = None
    identity: str | None = None

    @property
    def title(self) -> str:
        return self.repo

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        import datasets
        from PIL import Image

        try:
            rows = datasets.load_dataset(
                self.repo, self.name, split=self.split, revision=self.revision
            )
        except (
            Exception
        ) as error:  # datasets raises a different class for each way to be unreadable
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            problems.append(f"{self.repo}: cannot be loaded ({first}); name an id or a folder")
            return
        needed = [self.prompt, *self.references, *(c for c in (self.id, self.identity) if c)]
        if missing := [name for name in needed if name not in rows.column_names]:
            problems.append(
                f"{self.repo}: has no column {', '.join(map(repr, missing))}; "
                f"its columns are {', '.join(map(repr, rows.column_names))}"
            )
            return
        key = digest("read_image", self.repo, self.name, self.split, rows._fingerprint)
        folder = cache / f"hub-{key}"

        def fill(part: Path) -> None:
            found = len(problems)
            for index, row in enumerate(rows):
                for i, column in enumerate(self.references):
                    try:
                        pixels = read_image(row[column])
                    except UnreadableImageError as error:
                        problems.append(f"{self.repo}[{index}]: {column!r}: {error}")
                        continue
                    Image.fromarray(pixels).save(part / f"{index}-{i}.png")
            if len(problems) > found:
                raise UnreadableImageError("said above")  # half a set isn't kept

        try:
            write_once(folder, fill)
        except UnreadableImageError:
            return
        for index, row in enumerate(rows):
            where = f"{self.repo}[{index}]"
            prompt = get(row, self.prompt, str, where, problems)
            if prompt is None:
                continue
            yield Sample(
                id=str(row[self.id]) if self.id else str(index),
                prompt=prompt,
                references=tuple(folder / f"{index}-{i}.png" for i in range(len(self.references))),
                identity=str(row[self.identity]) if self.identity else str(index),
                source=where,
            )
