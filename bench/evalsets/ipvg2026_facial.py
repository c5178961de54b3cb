"""The facial track of the identity-preserving video generation challenge of 2026."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from bench.evalsets.base import EvalSetBase
from bench.evalsets.reading import get, inside, json_entries
from bench.evalsets.samples import Sample


def eval_json(path: Path) -> tuple[Path, Path]:
    """The eval.json of a 2026 folder (or the file itself), and the folder of its images."""
    file = path / "eval.json" if path.is_dir() or path.suffix != ".json" else path
    images = file.parent / "images"
    return file, images if images.is_dir() else file.parent


class IPVG2026FacialSet(EvalSetBase):
    """`eval.json` with `img` and `prompt`, images beside it in `images/`."""

    kind: Literal["ipvg2026-facial"]
    path: Path

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        file, images = eval_json(self.path)
        for number, (where, entry) in enumerate(json_entries(file, problems), start=1):
            name = get(entry, "img", str, where, problems)
            prompt = get(entry, "prompt", str, where, problems)
            reference = inside(images, name, where, problems) if name is not None else None
            if prompt is not None and reference is not None:
                yield Sample(str(number), prompt, (reference,), None, reference.stem, (), where)
