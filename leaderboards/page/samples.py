"""The sample browser's data: an index of samples, and pieces with videos and scores of entries.

A piece holds so many entries that it stays small; the page loads those of the entries that are on
the screen. Videos are referenced where they lie, or copied in; reference images are always copied,
made small. What is not there is said in its place, and in a warning.
"""

from __future__ import annotations

import io
import os
import shutil
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from leaderboards.leaderboard import Leaderboard
from leaderboards.page.data import inline_json
from leaderboards.scores import records
from leaderboards.tables.data import number
from media.errors import UnreadableFileError
from media.files import file_sha256, write_atomic
from media.images import read_image

Media = Literal["link", "copy"]
REFERENCE_SIZE = 480

#: Videos in a piece, about: some hundred bytes each.
PIECE = 20_000


def write_samples(board: Leaderboard, folder: Path, media: Media) -> None:
    """Write `samples.js` and `samples/<n>.js`; nothing but an empty index without videos.

    Warns of videos and reference images that are not where the run or table says.
    """
    scores = board.scores
    pieces = folder / "samples"
    for old in pieces.glob("*.js") if pieces.is_dir() else ():
        old.unlink()
    if not len(scores.videos) or "rest" in scores.keys.columns:
        index: dict[str, Any] = {"slots": [], "spread": [], "per": 1}
    else:
        place = {
            (str(key["sample"]), int(key["seed"])): k for k, key in enumerate(records(scores.keys))
        }
        shown = _media(board, folder, media, place)
        per = max(1, PIECE // max(1, len(place)))
        values = np.moveaxis(scores.values, 0, 2)  # [E, K, C]
        for n, start in enumerate(range(0, len(board.entries), per)):
            rows = range(start, min(start + per, len(board.entries)))
            piece = [
                {
                    "media": shown[i],
                    "scores": [
                        [number(v) for v in values[i, k]] if np.isfinite(values[i, k]).any() else 0
                        for k in range(len(place))
                    ],
                }
                for i in rows
            ]
            text = f"STDRC_PIECE({n},{inline_json(piece)});\n"
            write_atomic(pieces / f"{n}.js", text.encode())
        index = {"slots": _slots(board, folder), "spread": _spread(scores.values), "per": per}
    text = f"window.STDRC_SAMPLES={inline_json(index)};\n"
    write_atomic(folder / "samples.js", text.encode())


def _spread(values: np.ndarray) -> list[list[float | None]]:
    """For each column and sample how far entries disagree: the standard deviation, [C][K]."""
    there = np.isfinite(values)
    count = there.sum(axis=1)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=1) / count
        squares = (np.where(there, values - mean[:, None], 0.0) ** 2).sum(axis=1)
        spread = np.where(count > 1, np.sqrt(squares / count), np.nan)
    return [[number(v) for v in column] for column in spread]


def _url(path: str) -> str:
    return urllib.parse.quote(path)


def _warn(what: str, missing: Sequence[str]) -> None:
    if missing:
        some = f"1 {what}" if len(missing) == 1 else f"{len(missing)} {what}s, the first"
        warnings.warn(f"The page cannot show {some}: {missing[0]}", stacklevel=4)


def _slots(board: Leaderboard, folder: Path) -> list[dict[str, Any]]:
    scores = board.scores
    about = {str(row["sample"]): row for row in records(scores.samples)}
    several = scores.keys["seed"].nunique() > 1
    made: dict[Path, str | list[str]] = {}
    slots = []
    for key in records(scores.keys):
        sample, seed = str(key["sample"]), int(key["seed"])
        row = about.get(sample, {})
        copies = [_reference(Path(ref), folder, made) for ref in row.get("refs") or []]
        slots.append(
            {
                "title": f"{sample}, seed {seed}" if several else sample,
                "identity": str(key["identity"]),
                "prompt": str(row.get("prompt") or ""),
                "refs": [_url(one) if isinstance(one, str) else one for one in copies],
            }
        )
    gone = [f"{path}: {why[0]}" for path, why in made.items() if isinstance(why, list)]
    _warn("reference image", gone)
    return slots


def _reference(source: Path, folder: Path, made: dict[Path, str | list[str]]) -> str | list[str]:
    """Copy a reference image into the page's folder, made small; ["why not"] where it cannot be."""
    if source not in made:
        try:
            if not source.is_file():
                raise UnreadableFileError(f"{source} was not found.")
            name = f"references/{file_sha256(source)[:16]}.png"
            if not (folder / name).is_file():
                image = Image.fromarray(read_image(source))
                image.thumbnail((REFERENCE_SIZE, REFERENCE_SIZE))
                buffer = io.BytesIO()
                image.save(buffer, "png", optimize=False)
                write_atomic(folder / name, buffer.getvalue())
            made[source] = name
        except UnreadableFileError:
            why = "is not readable as an image" if source.is_file() else "was not found"
            made[source] = [f"The reference image {why}."]
    return made[source]


def _media(
    board: Leaderboard, folder: Path, media: Media, place: Mapping[tuple[str, int], int]
) -> list[list[Any]]:
    """For each entry and sample the video's address, ["why there is none"], or 0 for nothing."""
    rows = {entry.key: i for i, entry in enumerate(board.entries)}
    shown: list[list[Any]] = [[0] * len(place) for _ in rows]
    gone = []
    for video in records(board.scores.videos):
        i = rows.get(video["entry"])
        if i is None:
            continue
        k = place[str(video["sample"]), int(video["seed"])]
        if video["status"] == "failed":
            shown[i][k] = [f"failed: {video['reason'] or 'no reason was recorded'}"]
        elif video["status"] != "done" or not video["path"]:
            shown[i][k] = ["not made yet"]
        elif not (path := Path(video["path"])).is_file():
            why = "is a folder of frames, which a page cannot play"
            shown[i][k] = [f"The video {why if path.is_dir() else 'was not found'}."]
            gone.append(f"{path}: {shown[i][k][0]}")
        else:
            shown[i][k] = _url(_copy(path, folder) if media == "copy" else _beside(path, folder))
    _warn("video", gone)
    return shown


def _beside(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder.absolute()).replace(os.sep, "/")


def _copy(path: Path, folder: Path) -> str:
    """Copy a video into the page's folder under a name that no other video has."""
    name = f"videos/{file_sha256(path)[:32]}{path.suffix}"
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file():
        shutil.copyfile(path, target)
    return name
