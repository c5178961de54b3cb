"""The page: one folder that opens from disk with no network, made of plain HTML, CSS and
JavaScript.

`index.html` carries the table, the plots and the ablations; `samples.js` beside it carries what the
sample browser shows. Videos are referenced where the run folder has them, or copied in; reference
images are always copied, made small, since they may lie anywhere.
"""

from __future__ import annotations

import html
import io
import json
import os
import shutil
import urllib.parse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from leaderboards.ablations import Ablation, ablations
from leaderboards.errors import LeaderboardError
from leaderboards.figures import colour_axis, guidance_panels
from leaderboards.leaderboard import Leaderboard
from leaderboards.scores import axis_text, records
from leaderboards.tables.data import board_data, number
from leaderboards.tables.text import decimals
from media.errors import UnreadableFileError
from media.files import file_sha256, write_atomic
from media.images import read_image

Media = Literal["link", "copy"]
REFERENCE_SIZE = 480


def asset(name: str) -> str:
    """A file of the page's assets, as text."""
    return (resources.files("leaderboards.page") / "assets" / name).read_text(encoding="utf-8")


def inline_json(data: Any) -> str:
    """JSON that is safe inside a <script> element: no "<" can close it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _url(path: str) -> str:
    return urllib.parse.quote(path)


def _facts(board: Leaderboard) -> str:
    scores = board.scores
    words = [_many(len(board.entries), "entry", "entries")]
    if len(scores.keys):
        words.append(_many(scores.keys["sample"].nunique(), "sample", "samples"))
        if scores.has_identities:
            words.append(_many(scores.keys["identity"].nunique(), "identity", "identities"))
        seeds = scores.keys["seed"].nunique()
        if seeds > 1:
            words.append(f"{seeds} seeds")
    backends = sorted({column.backend for column in board.columns if column.backend})
    if backends:
        words.append("measured by " + ", ".join(backends))
    return " · ".join(words)


def _many(n: int, one: str, more: str) -> str:
    return f"{n:,} {one if n == 1 else more}"


def _data(board: Leaderboard, tables: Sequence[Ablation], files: Sequence[str]) -> dict[str, Any]:
    data = board_data(board)
    for c, column in enumerate(data["columns"]):
        column["decimals"] = decimals(board, c)
    data["axes"] = {axis: [axis_text(v) for v in values] for axis, values in board.axes.items()}
    pair = board.axis_columns()
    if pair:
        data["pair"] = [board.columns.index(column) for column in pair]
    else:
        data["pair"] = [0, min(1, len(board.columns) - 1)]
    data["colour_axis"] = colour_axis(board)
    data["guidance"] = [
        {
            "point": ", ".join(f"{a} {axis_text(v)}" for a, v in point.items()) or "all",
            "text": [axis_text(t) for t in sorted({t for t, _ in grid})],
            "reference": [axis_text(r) for r in sorted({r for _, r in grid})],
            "rows": {f"{axis_text(t)}|{axis_text(r)}": row for (t, r), row in grid.items()},
        }
        for point, grid in guidance_panels(board)
    ]
    data["ablations"] = []
    for table in tables:
        small = board_data(table.board)["entries"]
        data["ablations"].append(
            {
                "axis": table.axis,
                "caption": table.caption,
                "rows": [
                    {
                        "value": axis_text(table.board.entries[i].axes[table.axis]),
                        "mismatch": table.board.entries[i].mismatch,
                        "done": small[i]["done"],
                        "cells": _aligned(board, table.board, small[i]["cells"]),
                    }
                    for i in table.order
                ],
            }
        )
    data["failures"] = [
        {**row, "sample": str(row["sample"]), "entry": str(row["entry"])}
        for row in board.failures()[["entry", "sample", "what", "reason"]].to_dict("records")
    ]
    percent = f"{100 * board.confidence:g} %"
    data["interval_words"] = (
        f"± half of the {percent} interval, {board.interval_method}"
        if np.isfinite(board.lows).any()
        else "no intervals: the means came without samples"
    )
    data["primary_label"] = board.primary.title if board.primary else None
    data["facts"] = _facts(board)
    data["chosen"] = _first_entries(board)
    data["files"] = list(files)
    return data


_NO_CELL = {
    "mean": None, "low": None, "high": None, "n": None, "failed": 0, "rank": 0,
    "best": False, "second": False, "tied": False,
}  # fmt: skip


def _aligned(board: Leaderboard, small: Leaderboard, cells: list[Any]) -> list[Any]:
    """Cells of a smaller board under the columns of the whole one (it may lack some)."""
    by_key = {column.key: cell for column, cell in zip(small.columns, cells)}
    return [by_key.get(column.key, _NO_CELL) for column in board.columns]


def _first_entries(board: Leaderboard, most: int = 3) -> list[int]:
    """Rows whose videos the browser opens with: the best of each value of the colour axis."""
    axis = colour_axis(board)
    if axis is None:
        return list(range(min(most, len(board.entries))))
    seen: dict[str, int] = {}
    for i, entry in enumerate(board.entries):
        seen.setdefault(axis_text(entry.axes.get(axis)), i)
    rest = [i for i in range(len(board.entries)) if i not in seen.values()]
    return sorted([*seen.values(), *rest][:most])


def _safe(path: str) -> PurePosixPath | None:
    """A store's relative path, or None where it is absolute or leaves the run folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        return None
    return pure


def _reference(source: Path, folder: Path, made: dict[Path, str | None]) -> str | None:
    """Copy a reference image into the page's folder, made small; None where there is no image."""
    if source not in made:
        made[source] = None
        if source.is_file():
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


def _samples(board: Leaderboard, folder: Path, media: Media) -> dict[str, Any]:
    """What the sample browser shows: slots, and for each slot and entry its video and scores."""
    scores = board.scores
    if scores.root is None or not len(scores.videos) or "rest" in scores.keys.columns:
        return {"slots": [], "media": [], "scores": []}
    about = {str(row["sample"]): row for row in records(scores.samples)}
    several = scores.keys["seed"].nunique() > 1
    made: dict[Path, str | None] = {}
    slots: list[dict[str, Any]] = []
    place: dict[tuple[str, int], int] = {}
    for key in records(scores.keys):
        sample, seed = str(key["sample"]), int(key["seed"])
        place[sample, seed] = len(slots)
        row = about.get(sample, {})
        copies = [_reference(scores.root / ref, folder, made) for ref in row.get("refs", [])]
        slots.append(
            {
                "title": f"{sample}, seed {seed}" if several else sample,
                "identity": str(key["identity"]),
                "prompt": str(row.get("prompt") or ""),
                "refs": [_url(name) if name else None for name in copies],
            }
        )
    rows = {entry.key: i for i, entry in enumerate(board.entries)}
    shown: list[list[Any]] = [[None] * len(rows) for _ in slots]
    up = os.path.relpath(scores.root.absolute(), folder.absolute()).replace(os.sep, "/")
    for video in records(scores.videos):
        if video["entry"] not in rows:
            continue
        k, i = place[str(video["sample"]), int(video["seed"])], rows[video["entry"]]
        status, stored = video["status"], video["path"]
        if status == "done" and isinstance(stored, str) and stored:
            pure = _safe(stored)
            if pure is None:
                raise LeaderboardError(
                    f"the store's video {video['video']} has the path {stored!r}, which leaves the "
                    "run folder: fix the store."
                )
            path = f"{up}/{pure}"
            if media == "copy":
                path = f"videos/{pure.name}"
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.is_file():
                    shutil.copyfile(scores.root / pure, target)
            shown[k][i] = {"path": _url(path)}
        elif status == "failed":
            shown[k][i] = {"reason": f"failed: {video['reason'] or 'no reason was recorded'}"}
        else:
            shown[k][i] = {"reason": "not made yet"}
    values = np.moveaxis(scores.values, 0, 2)  # [E, K, C]
    table = [
        [
            [number(v) for v in values[i, k]] if not np.isnan(values[i, k]).all() else None
            for i in range(len(rows))
        ]
        for k in range(len(slots))
    ]
    return {"slots": slots, "media": shown, "scores": table}


def write_page(
    board: Leaderboard,
    folder: str | Path,
    *,
    title: str | None = None,
    media: Media = "link",
    tables: Sequence[Ablation] | None = None,
) -> Path:
    """Write `index.html`, `samples.js` and the reference images into `folder`; returns the page.

    title: the run folder's name if not given. media: "link" points at the run folder's videos, so
    the page has to stay beside them; "copy" puts them into `folder`, which can then be sent around.
    tables: ablations to show, all of them if not given.
    """
    folder = Path(folder)
    if media not in ("link", "copy"):
        raise LeaderboardError(f"media is {media!r}: give 'link' or 'copy'.")
    root = board.scores.root
    title = title or (root.absolute().name if root else "Leaderboard")
    tables = ablations(board) if tables is None else tables
    beside = ("leaderboard.csv", "leaderboard.parquet", "leaderboard.json", "leaderboard.tex")
    files = [name for name in beside if (folder / name).is_file()]
    samples = _samples(board, folder, media)
    script = f"window.STDRC_SAMPLES={inline_json(samples)};\n"
    write_atomic(folder / "samples.js", script.encode())
    page = asset("page.html")
    for name, text in (
        ("title", html.escape(title)),
        ("css", asset("page.css")),
        ("js", asset("page.js")),
        ("data", inline_json(_data(board, tables, files))),
    ):
        page = page.replace(f"{{{{ {name} }}}}", text)
    return write_atomic(folder / "index.html", page.encode())
