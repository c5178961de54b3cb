"""What `stdrc prepare` reads: the layouts that identity data is published in, and plain lists.

A row names a video and a caption, perhaps a person and a file of boxes. Paths of a row are taken
from the list's folder and may not leave it by their text; links that somebody made there are
followed, since ConsisID's `videos/` is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bench.errors import BenchError
from media.files import natural_order
from media.tables import read_json, read_table, read_text

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_VIDEO = ("video", "video_path", "path", "file", "file_name", "clip")
_CAPTION = ("caption", "cap", "text", "prompt", "face_cap_qwen")
_IDENTITY = ("identity", "person", "person_id", "face_id", "identity_id")


@dataclass(frozen=True)
class Source:
    """A video to prepare.

    Attributes:
        video: its file.
        caption: what happens in it; "" where nothing says it.
        identity: who it is, where that is known.
        boxes: a file of boxes in ConsisID's form, or None.
        problem: why it can't be used, known before it is looked at.
    """

    video: Path
    caption: str
    identity: str = ""
    boxes: Path | None = None
    problem: str = ""

    @property
    def id(self) -> str:
        """A name that is the same in every process and run: of its file's place."""
        digest = hashlib.sha256(str(self.video.absolute()).encode()).hexdigest()[:10]
        return f"{self.video.stem[:40]}-{digest}"


def read_sources(given: str) -> list[Source]:
    """The videos of a folder, a CSV, JSON or JSON-lines file, or a `datasets` set on disk or hub.

    Raises:
        BenchError: nothing there, or nothing in it.
    """
    path = Path(given)
    if path.is_dir():
        found = list(_folder(path))
    elif path.is_file():
        found = list(_table(path))
    else:
        found = list(_dataset(given))
    if not found:
        raise BenchError(
            f"{given} holds no videos; give a folder of them, a CSV, JSON or JSON-lines list with "
            "video and caption, or a data set's name."
        )
    unique = {source.video.absolute(): source for source in reversed(found)}
    return sorted(unique.values(), key=lambda source: source.id)


def _folder(folder: Path) -> Iterator[Source]:
    """Of a folder's own lists, those of its subfolders, or its videos alone."""
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        yield from _dataset(str(folder))
        return
    lists = [p for p in (folder / "metadata.jsonl", folder / "metadata.csv") if p.is_file()]
    lists += natural_order((folder / "captions").glob("*.json"))  # ConsisID, as downloaded
    lists += [p for p in natural_order(folder.glob("*.json")) if _is_list(p)]
    if lists:
        for each in lists:
            yield from _table(each, folder)
        return
    named = folder / "total_train_data.txt"  # ConsisID: a part's folder, and its captions, a line
    if named.is_file():
        for line in read_text(named).split("\n"):
            parts = [part.strip() for part in line.split(",") if part.strip()]
            inner = [p for part in parts if (p := _within(folder, part)) is not None]
            for part in [p for p in inner if p.is_dir()][:1]:
                yield from _folder(part)
        return
    videos = natural_order(p for p in folder.rglob("*") if p.suffix.lower() in VIDEOS)
    for video in videos:
        # One folder per person, as VIP-200K has them; at the top they are nobody's.
        person = video.parent.name if video.parent != folder else ""
        yield Source(video, _caption_beside(video), "" if person == "videos" else person)


def _is_list(path: Path) -> bool:
    rows = read_json(path)
    rows = list(rows.values()) if isinstance(rows, dict) else rows
    if not rows or not isinstance(rows[0], dict):
        return False
    return bool(_value(rows[0], _VIDEO) or isinstance(rows[0].get("metadata"), dict))


def _caption_beside(video: Path) -> str:
    beside = video.with_suffix(".txt")
    return read_text(beside).strip() if beside.is_file() else ""


def _table(path: Path, root: Path | None = None) -> Iterator[Source]:
    root = path.parent if root is None else root
    if path.suffix in (".csv", ".jsonl"):
        for number, row, problem in read_table(path, path.suffix[1:]):  # type: ignore[arg-type]
            where = f"{path.name} line {number}"
            yield Source(path, "", problem=f"{where}: {problem}") if problem else _row(root, row)
        return
    rows = read_json(path)
    if isinstance(rows, dict):  # OpenS2V-5M: a clip's name -> what is known of it
        rows = [{"path": name, **row} for name, row in rows.items() if isinstance(row, dict)]
    for row in rows if isinstance(rows, list) else ():
        yield _row(root, row if isinstance(row, dict) else {})


def _row(root: Path, row: dict[str, Any]) -> Source:
    row = {**row, **(row["metadata"] if isinstance(row.get("metadata"), dict) else {})}
    name, caption = _value(row, _VIDEO), _value(row, _CAPTION)
    caption = caption[0] if isinstance(caption, list) and caption else caption
    tried = [name, f"videos/{PurePosixPath(str(name)).name}"]
    video = next((p for t in tried if (p := _within(root, str(t))) and p.is_file()), None)
    if video is None:
        return Source(root / str(name or "?"), "", problem=f"there is no video {name!r}")
    boxes = root / "refine_bbox_jsons" / f"{video.stem}.json"
    given = boxes if boxes.is_file() else None
    text = caption.strip() if isinstance(caption, str) else ""
    return Source(video, text, str(_value(row, _IDENTITY) or ""), given)


def _value(row: dict[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if row.get(name)), None)


def _within(root: Path, name: str) -> Path | None:
    """`name` under `root`, or None where its text leads out; an absolute one by its end."""
    parts = PurePosixPath(name).parts
    if ".." in parts:
        return None
    if PurePosixPath(name).is_absolute():  # of the machine it was written on
        tails = ("/".join(parts[i:]) for i in range(1, len(parts)))
        return next((root / tail for tail in tails if (root / tail).exists()), None)
    return root / name


def _dataset(name: str) -> Iterator[Source]:
    from datasets import DatasetDict, load_dataset, load_from_disk

    try:
        found = load_from_disk(name) if Path(name).is_dir() else load_dataset(name)
    except (OSError, ValueError, ConnectionError) as error:
        raise BenchError(
            f"There is no folder, file or data set {name} ({str(error).splitlines()[0]})."
        ) from None
    sets = found.values() if isinstance(found, DatasetDict) else [found]
    root = Path(name) if Path(name).is_dir() else Path()
    for rows in sets:
        for column, feature in rows.features.items():
            if type(feature).__name__ == "Video":
                rows = rows.cast_column(column, type(feature)(decode=False))
        for row in rows:
            plain = {k: v["path"] if isinstance(v, dict) else v for k, v in row.items()}
            path = Path(str(_value(plain, _VIDEO) or ""))
            text, who = _value(plain, _CAPTION), _value(plain, _IDENTITY)
            place = path if path.is_absolute() else root / path
            problem = "" if place.is_file() else f"there is no video {str(path)!r}"
            yield Source(place, str(text or ""), str(who or ""), problem=problem)
