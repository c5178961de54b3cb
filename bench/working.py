"""What a run is at, for those who look at it from outside: a note beside its store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_NAME = "working.json"


def note(folder: Path, what: Iterable[Mapping[str, Any]]) -> None:
    """Leave word of what is at work; of nothing, where nothing is."""
    path = folder / _NAME
    if noted := list(what):
        part = path.with_suffix(".part")
        part.write_text(json.dumps(noted))
        part.replace(path)
    else:
        path.unlink(missing_ok=True)


def noted(folder: Path) -> list[dict[str, Any]]:
    """What was noted last: worker, sample, cell, and since when (seconds since 1970)."""
    try:
        found: list[dict[str, Any]] = json.loads((folder / _NAME).read_text())
    except (OSError, ValueError):
        return []
    return found
