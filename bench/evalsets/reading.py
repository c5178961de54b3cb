"""Reading the files of evaluation sets: a problem is noted with file and line, and reading goes on.

Data sets of other people may name no path that is absolute or leaves their folder (`inside`); one's
own tables may name any (`own`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeVar

from bench.evalsets.samples import Event, Shown
from media import files, tables
from media.errors import UnreadableTableError, UserError

IMAGES = (".png", ".webp", ".jpg", ".jpeg")


def inside(folder: Path, name: object, where: str, problems: list[str]) -> Path | None:
    """`folder / name`, unless the name is not a path that stays inside the folder."""
    if not isinstance(name, str) or not name.strip():
        problems.append(f"{where}: a path is missing")
        return None
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "\\" in name:
        problems.append(f"{where}: the path {name!r} is absolute; it must be relative to {folder}")
        return None
    if ".." in PurePosixPath(name).parts:
        problems.append(f"{where}: the path {name!r} leaves its folder; remove '..'")
        return None
    try:
        return files.inside(folder, name)  # a link inside the folder must not lead out of it either
    except UserError as error:
        problems.append(f"{where}: {error}")
        return None


def own(folder: Path, name: object, where: str, problems: list[str]) -> Path | None:
    """The path that a table names: absolute, from `~`, or from its folder."""
    if not isinstance(name, str) or not name.strip():
        problems.append(f"{where}: a path is missing")
        return None
    return folder / os.path.expanduser(name)


def read_text(path: Path, problems: list[str]) -> str | None:
    """A text file's content."""
    try:
        return tables.read_text(path)
    except UnreadableTableError as error:
        problems.append(str(error))
        return None


def read_json(path: Path, problems: list[str]) -> Any:
    """A JSON file's value."""
    try:
        return tables.read_json(path)
    except UnreadableTableError as error:
        problems.append(str(error))
        return None


def json_entries(path: Path, problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Objects of a JSON list, each with the place (file:line) where it begins."""
    text = read_text(path, problems)
    if text is None:
        return []
    decoder = json.JSONDecoder()
    space = re.compile(r"\s*")

    def skip(position: int) -> int:
        match = space.match(text, position)
        return match.end() if match else position

    def line(position: int) -> int:
        return text.count("\n", 0, position) + 1

    position = skip(0)
    if text[position : position + 1] != "[":
        problems.append(f"{path}:{line(position)}: must be a JSON list of samples")
        return []
    entries: list[tuple[str, dict[str, Any]]] = []
    position = skip(position + 1)
    while text[position : position + 1] != "]":
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{error.lineno}: not valid JSON ({error.msg})")
            return entries
        where = f"{path}:{line(position)}"
        if isinstance(value, dict):
            entries.append((where, value))
        else:
            problems.append(f"{where}: a sample is an object, not a {type(value).__name__}")
            entries.append((where, {}))
        position = skip(end)
        if text[position : position + 1] == ",":
            position = skip(position + 1)
        elif text[position : position + 1] != "]":
            problems.append(f"{path}:{line(position)}: not valid JSON (expected ',' or ']')")
            return entries
    return entries


T = TypeVar("T")


def get(
    entry: Mapping[str, Any], key: str, kind: type[T], where: str, problems: list[str]
) -> T | None:
    value = entry.get(key)
    if isinstance(value, kind):
        return value
    if entry:  # an entry that is not an object was already reported
        found = "is missing" if key not in entry else f"must be a {kind.__name__}"
        problems.append(f"{where}: {key!r} {found}")
    return None


def is_folder(path: Path, problems: list[str]) -> bool:
    if path.is_dir():
        return True
    problems.append(f"{path}: the folder does not exist")
    return False


def rows(
    path: Path, kind: Literal["csv", "jsonl"], problems: list[str], needed: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a table, each with the place (file:line) where it begins."""
    try:
        for row in tables.read_table(path, kind, needed):
            where = f"{path}:{row.line}"
            if row.problem:
                problems.append(f"{where}: {row.problem}")
            else:
                yield where, row.values
    except UnreadableTableError as error:
        problems.append(str(error))


def event(caption: object, where: str, problems: list[str]) -> Event | None:
    """One entry of a timeline: an object with start, end and description, or [start, end, text]."""
    if isinstance(caption, list | tuple) and len(caption) == 3:
        caption = dict(zip(("start", "end", "description"), caption))
    try:
        found: Any = caption
        return Event(float(found["start"]), float(found["end"]), str(found["description"]))
    except (TypeError, KeyError, ValueError):
        problems.append(f"{where}: an event has start, end and description, not {caption!r}")
        return None


def whom(reference: Any, where: str, problems: list[str]) -> Shown:
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


def people(labels: object, count: int) -> tuple[Shown, ...]:
    """Who several pictures show: each another one, by its class; one picture needs no name."""
    if count < 2:
        return ()
    if not isinstance(labels, list) or len(labels) != count:
        labels = ["reference"] * count
    alone = [labels.count(label) == 1 for label in labels]
    return tuple(
        Shown(str(label) if single else f"{label} {n}")
        for n, (label, single) in enumerate(zip(labels, alone), 1)
    )
