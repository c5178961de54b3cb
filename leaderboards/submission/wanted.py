"""What a track asks for: eval.json (2026) or the testset folder (2025), read and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboards.errors import LeaderboardError
from leaderboards.submission.formats import SubmissionFormat
from media.tables import read_json, read_text
from media.wording import some

#: Suffixes of a 2025 test set's reference picture, `idNNN/image.*`.
_PICTURES = (".png", ".webp", ".jpg", ".jpeg")

Event = tuple[float, float, str]


@dataclass(frozen=True)
class Wanted:
    """One video that a track asks for.

    Attributes:
        member: its name in the archive.
        prompt: the text to follow, without white space around it.
        references: the pictures of the person, as paths that need not exist.
        timeline: (start, end, description) in seconds; empty where the track has none.
    """

    member: str
    prompt: str
    references: tuple[Path, ...]
    timeline: tuple[Event, ...] = ()

    @property
    def seconds(self) -> float:
        """Shortest playing time: where the timeline ends, 0 without one."""
        return max((end for _, end, _ in self.timeline), default=0.0)


def read_eval(path: str | Path, format: SubmissionFormat) -> dict[str, Wanted]:
    """What an archive has to hold: member name -> what is asked for there, in order.

    path: eval.json (or the folder that holds it) for 2026; the testset folder for 2025.
    Raises LeaderboardError where it is missing or not in its published form, listing up to eight
    problems with the number of the sample.
    """
    path = Path(path)
    if not format.numbered:
        return _read_testset(path, format)
    if path.is_dir():
        path = path / "eval.json"
    entries = _read_list(path)
    images = path.parent / "images"
    images = images if images.is_dir() else path.parent
    problems: list[str] = []
    wanted = {}
    for number, entry in enumerate(entries, start=1):
        member = f"submission/{number}.mp4"
        where = f"sample {number}"
        if not isinstance(entry, dict):
            problems.append(f"{where} is {_told(entry)}, not an object")
            continue
        read = _read_sequential if format.timeline else _read_facial
        prompt, names, timeline = read(entry, where, problems)
        wanted[member] = Wanted(
            member, prompt.strip(), tuple(images / name for name in names), tuple(timeline)
        )
    if problems:
        raise LeaderboardError(
            f"{path} is not {format.name}'s eval.json: {some(problems, 8, '; ')}. "
            "Give the challenge's own file."
        )
    return wanted


def _read_testset(path: Path, format: SubmissionFormat) -> dict[str, Wanted]:
    if not path.is_dir():
        raise LeaderboardError(
            f"{path} is not a folder: {format.name} wants the testset folder with "
            "idNNN/promptK.txt."
        )
    files = sorted(
        path.glob("id*/prompt*.txt"),
        key=lambda p: [int(n) for n in re.findall(r"\d+", str(p.relative_to(path)))],
    )
    if not files:
        raise LeaderboardError(f"{path} has no idNNN/promptK.txt: give the testset folder.")
    wanted = {}
    for file in files:
        name = file.relative_to(path).with_suffix(".mp4").as_posix()
        pictures = [p for s in _PICTURES if (p := file.parent / f"image{s}").is_file()]
        member = f"submission/{name}"
        wanted[member] = Wanted(member, read_text(file).strip(), tuple(pictures[:1]))
    return wanted


def _read_list(path: Path) -> list[Any]:
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise LeaderboardError(
            f"{path} is {_told(entries)}, not a list of samples: give the challenge's eval.json."
        )
    return entries


def _told(value: Any) -> str:
    """What JSON has there, in a few words."""
    if value is None:
        return "null"
    if isinstance(value, list | dict):
        kind = "list" if isinstance(value, list) else "object"
        return f"an empty {kind}" if not value else f"a{'n' if kind == 'object' else ''} {kind}"
    return ascii(value)[:60]


def _read_facial(
    entry: Mapping[str, Any], where: str, problems: list[str]
) -> tuple[str, list[str], list[Event]]:
    return (_string(entry, "prompt", where, problems), [_string(entry, "img", where, problems)], [])


def _read_sequential(
    entry: Mapping[str, Any], where: str, problems: list[str]
) -> tuple[str, list[str], list[Event]]:
    prompt = _string(entry, "global_prompt", where, problems)
    names = entry.get("img_paths")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        problems.append(f"{where}: img_paths is {_told(names)}, not a list of file names")
        names = []
    captions = entry.get("temporal_captions")
    if not isinstance(captions, list) or not captions:
        problems.append(f"{where}: temporal_captions is {_told(captions)}, not a list of events")
        captions = []
    events = []
    for number, caption in enumerate(captions, start=1):
        event = _event(caption)
        if isinstance(event, str):
            problems.append(f"{where}, event {number}: {event}")
        else:
            events.append(event)
    return prompt, names, events


def _string(entry: Mapping[str, Any], key: str, where: str, problems: list[str]) -> str:
    value = entry.get(key)
    if isinstance(value, str) and value.strip():
        return value
    problems.append(f"{where}: {key} is {_told(value)}, not text" if key in entry else
                    f"{where} has no {key}")  # fmt: skip
    return ""


def _event(caption: Any) -> Event | str:
    """One event of a timeline, an object or [start, end, description]; or what is wrong with it."""
    if isinstance(caption, list) and len(caption) == 3:
        caption = dict(zip(("start", "end", "description"), caption))
    if not isinstance(caption, dict):
        return f"is {_told(caption)}, not start, end and description"
    missing = [key for key in ("start", "end", "description") if key not in caption]
    if missing:
        return f"has no {' and no '.join(missing)}"
    times = []
    for key in ("start", "end"):
        value = caption[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{key} is {_told(value)}, not a number of seconds"
        if not math.isfinite(value):
            return f"{key} is {value}, not a finite number of seconds"
        if value < 0:
            return f"{key} is {value:g} s, before the video begins"
        times.append(float(value))
    if times[1] < times[0]:
        return f"ends at {times[1]:g} s, before its start at {times[0]:g} s"
    if not isinstance(caption["description"], str):
        return f"description is {_told(caption['description'])}, not text"
    return times[0], times[1], caption["description"].strip()


def expected(format: SubmissionFormat, eval: str | Path | None) -> dict[str, Wanted | None]:
    """Member names in order, each with what is asked for there; None where no file says it."""
    if eval is not None:
        return dict(read_eval(eval, format))
    return dict.fromkeys(format.members())
