"""OpenS2V-Eval's samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.reading import get, inside, people, read_json
from bench.evalsets.samples import Sample


class OpenS2VSet(EvalSetBase):
    """An OpenS2V-Eval JSON: sample id -> `prompt`, `img_paths`, `class_label`."""

    kind: Literal["opens2v"]
    path: Path = Field(description="The JSON file; image paths are relative to its folder.")

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        data = read_json(self.path, problems)
        if data is None:
            return
        if not isinstance(data, dict):
            problems.append(f"{self.path}: must be a JSON object sample id -> sample")
            return
        text = self.path.read_text(encoding="utf-8-sig")
        for key, entry in data.items():
            at = text.find(json.dumps(key, ensure_ascii=False))
            where = f"{self.path}:{text.count(chr(10), 0, at) + 1}" if at >= 0 else str(self.path)
            if not isinstance(entry, dict):
                problems.append(f"{where}: a sample is an object, not a {type(entry).__name__}")
                continue
            prompt = get(entry, "prompt", str, where, problems)
            names = get(entry, "img_paths", list, where, problems) or []
            references = [inside(self.path.parent, name, where, problems) for name in names]
            if prompt is not None and names and None not in references:
                kept = tuple(r for r in references if r is not None)
                whom = people(entry.get("class_label"), len(kept))
                identity = "+".join(r.stem for r in kept)
                yield Sample(key, prompt, kept, None, identity, (), where, shown=whom)
