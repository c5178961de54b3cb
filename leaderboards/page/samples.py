"""The sample browser's data: an index of samples, and pieces with videos and scores of entries.

A piece holds so many entries that it stays small; the page loads those of the entries that are on
the screen. Videos are referenced where the run folders have them, or copied in; reference images
are always copied, made small, since they may lie anywhere.
"""

from __future__ import annotations

import io
import os
import shutil
import urllib.parse
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from leaderboards.errors import LeaderboardError
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


def write_samples(
    board: Leaderboard, folder: Path, media: Media, roots: Mapping[str, Path]
) -> None:
    """Write `samples.js` and `samples/<n>.js`; nothing but an empty index without run folders.

    roots: the run folder of each source of entries.
    """
    scores = board.scores
    pieces = folder / "samples"
    for old in pieces.glob("*.js") if pieces.is_dir() else ():
        old.unlink()
    if not roots or not len(scores.videos) or "rest" in scores.keys.columns:
        index: dict[str, Any] = {"slots": [], "spread": [], "per": 1}
    else:
        place = {
            (str(key["sample"]), int(key["seed"])): k for k, key in enumerate(records(scores.keys))
        }
        shown = _media(board, folder, media, roots, place)
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
        index = {
            "slots": _slots(board, folder, roots),
            "spread": _spread(scores.values),
            "per": per,
        }
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


def _slots(board: Leaderboard, folder: Path, roots: Mapping[str, Path]) -> list[dict[str, Any]]:
    scores = board.scores
    about = {str(row["sample"]): row for row in records(scores.samples)}
    several = scores.keys["seed"].nunique() > 1
    made: dict[Path, str | None] = {}
    slots = []
    for key in records(scores.keys):
        sample, seed = str(key["sample"]), int(key["seed"])
        row = about.get(sample, {})
        copies = []
        for ref in row.get("refs") or []:
            found = [root / ref for root in roots.values() if (root / ref).is_file()]
            copies.append(_reference(found[0], folder, made) if found else None)
        slots.append(
            {
                "title": f"{sample}, seed {seed}" if several else sample,
                "identity": str(key["identity"]),
                "prompt": str(row.get("prompt") or ""),
                "refs": [_url(name) if name else "" for name in copies],
            }
        )
    return slots


def _reference(source: Path, folder: Path, made: dict[Path, str | None]) -> str | None:
    """Copy a reference image into the page's folder, made small; None where it is unreadable."""
    if source not in made:
        try:
            name = f"references/{file_sha256(source)[:16]}.png"
            if not (folder / name).is_file():
                image = Image.fromarray(read_image(source))
                image.thumbnail((REFERENCE_SIZE, REFERENCE_SIZE))
                buffer = io.BytesIO()
                image.save(buffer, "png", optimize=False)
                write_atomic(folder / name, buffer.getvalue())
            made[source] = name
        except UnreadableFileError:
            made[source] = None  # the page says that there is no picture to show
    return made[source]


def _safe(path: str) -> PurePosixPath | None:
    """A store's relative path, or None where it is absolute or leaves the run folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        return None
    return pure


def _media(
    board: Leaderboard,
    folder: Path,
    media: Media,
    roots: Mapping[str, Path],
    place: Mapping[tuple[str, int], int],
) -> list[list[Any]]:
    """For each entry and sample the video's address, ["why there is none"], or 0 for nothing."""
    rows = {entry.key: i for i, entry in enumerate(board.entries)}
    shown: list[list[Any]] = [[0] * len(place) for _ in rows]
    up = {
        source: os.path.relpath(root.absolute(), folder.absolute()).replace(os.sep, "/")
        for source, root in roots.items()
    }
    for video in records(board.scores.videos):
        i = rows.get(video["entry"])
        if i is None or board.entries[i].source not in roots:
            continue
        k = place[str(video["sample"]), int(video["seed"])]
        source, status, stored = board.entries[i].source, video["status"], video["path"]
        if status == "done" and isinstance(stored, str) and stored:
            pure = _safe(stored)
            if pure is None:
                raise LeaderboardError(
                    f"the store's video {video['video']} has the path {stored!r}, which leaves the "
                    "run folder: fix the store."
                )
            path = f"{up[source]}/{pure}"
            if media == "copy":
                path = f"videos/{pure.name}"
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.is_file():
                    shutil.copyfile(roots[source] / pure, target)
            shown[i][k] = _url(path)
        elif status == "failed":
            shown[i][k] = [f"failed: {video['reason'] or 'no reason was recorded'}"]
        else:
            shown[i][k] = ["not made yet"]
    return shown
