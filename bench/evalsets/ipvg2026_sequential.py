"""The sequential-action track of the challenge of 2026: prompts with a timeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from bench.evalsets.base import EvalSetBase
from bench.evalsets.ipvg2026_facial import eval_json
from bench.evalsets.reading import event, get, inside, json_entries, people, whom
from bench.evalsets.samples import Sample


class IPVG2026SequentialSet(EvalSetBase):
    """`eval.json` with `img_paths`, `global_prompt` and `temporal_captions`.

    In one of your own, an entry of `img_paths` may be an object: image, person, start and end.
    """

    kind: Literal["ipvg2026-sequential"]
    path: Path

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        file, images = eval_json(self.path)
        for number, (where, entry) in enumerate(json_entries(file, problems), start=1):
            names = get(entry, "img_paths", list, where, problems) or []
            prompt = get(entry, "global_prompt", str, where, problems)
            captions = get(entry, "temporal_captions", list, where, problems) or []
            shown = tuple(whom(name, where, problems) for name in names)
            if all(isinstance(name, str) for name in names):  # as published
                shown = people(entry.get("class_label"), len(names))
            files = [name.get("image") if isinstance(name, dict) else name for name in names]
            references = [inside(images, file, where, problems) for file in files]
            events = [found for c in captions if (found := event(c, where, problems))]
            if entry and not names:
                problems.append(f"{where}: 'img_paths' is empty")
            if prompt is not None and names and None not in references:
                kept = tuple(r for r in references if r is not None)
                about = kept[0].stem, tuple(events), where
                yield Sample(str(number), prompt, kept, None, *about, shown=shown)
