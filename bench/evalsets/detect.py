"""Which kind of evaluation set a path is, for commands that take any."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from bench.evalsets import evalset
from bench.evalsets.base import EvalSetBase
from media.tables import read_json, read_table


def evalset_at(path: Path) -> EvalSetBase:
    """The settings of the evaluation set at a path.

    Args:
        path: a CSV or JSONL table (columns prompt, reference and, where there are, id, identity,
            target, video, timeline), an eval.json of one of the known layouts or its folder, or a
            folder of idNNN/ folders.

    Raises:
        UnreadableTableError: the file does not exist, or it can't be read.
    """
    if path.is_dir() and not (path / "eval.json").is_file():
        return evalset("ipvg2025", path=path)
    kinds: dict[str, Literal["csv", "jsonl"]] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl"}
    if kind := kinds.get(path.suffix.lower()):
        top = next(iter(read_table(path, kind, ("prompt",))), None)
        has = top.values if top is not None else {}
        columns = {n: n for n in ("id", "identity", "target", "video", "timeline") if n in has}
        many = [n for n in has if re.fullmatch(r"reference(_?\d+)?", n)]
        return evalset(kind, path=path, **columns, **({"references": many} if many else {}))
    file = path / "eval.json" if path.is_dir() else path
    content = read_json(file)
    if isinstance(content, dict):
        return evalset("opens2v", path=file)
    first = content[0] if isinstance(content, list) and content else {}
    if isinstance(first, dict) and "img_paths" in first:
        return evalset("ipvg2026-sequential", path=file)
    return evalset("ipvg2026-facial", path=file)
