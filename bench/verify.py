"""Whether a run folder still is what was written: the store's pages, the files' bytes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.store import Store
from leaderboards.runfolder import STORE
from media.files import file_sha256


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes:
        files: finished videos that were read.
        damaged: key -> what is wrong with a finished video's file.
        problems: whatever else is wrong, each with how to repair it.
    """

    files: int
    damaged: dict[str, str]
    problems: tuple[str, ...]


def verify(folder: Path, *, repair: bool = False) -> Verdict:
    """Read everything a run folder holds, and compare.

    Args:
        folder: the run folder.
        repair: make damaged videos pending, and remove their files, so that the run's command
            makes them again; otherwise nothing is written.

    Raises:
        BenchError: if it is not a run folder, or its store cannot be opened at all.
    """
    problems = []
    damaged: dict[str, str] = {}
    with Store(folder, write=repair) as store:
        try:
            found = [str(row[0]) for row in store.db.execute("PRAGMA quick_check")]
            rows = store.videos() + store.videos(retired=True)
        except sqlite3.DatabaseError as error:
            found, rows = [str(error)], []
        if found != ["ok"]:
            problems.append(
                f"{folder / STORE} is damaged ({found[0]}); move it, its -wal and its -shm away "
                "and give the run's command again: the videos are taken up by their names, and "
                "scored again."
            )
        try:
            store.manifest()
        except BenchError as error:
            problems.append(str(error))
        done = [row for row in rows if row.status == "done"]
        for row in done:
            path = store.video_path(row.video)
            size = (store.stamp(row.video) or "").partition(" ")[0]
            if not path.is_file():
                damaged[row.video] = f"{path} is missing"
            elif size and path.stat().st_size != int(size):
                damaged[row.video] = f"{path} has {path.stat().st_size} bytes, not {size}"
            elif row.sha256 and file_sha256(path, {}) != row.sha256:
                damaged[row.video] = f"{path} is not what was written there (its SHA-256 differs)"
        if repair:
            store.lose(damaged)
        known = {row.video for row in rows}
        for path in sorted((folder / "videos").glob("??/*.mp4")) if rows else ():
            if path.stem not in known:
                problems.append(f"{path} belongs to no row of the store; remove it.")
    return Verdict(len(done), damaged, tuple(problems))
