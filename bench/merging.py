"""Shards of one run put together: what one of them has done, and can show, is taken over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import config as cfg
from bench.errors import BenchError
from bench.runner import Runner, Summary
from bench.store import Store
from leaderboards.runfolder import STORE, VideoRow
from media.files import file_sha256, whole_file

#: What of a config its videos follow from; where it runs, and what it is scored by, may differ.
_MAKES_VIDEOS = ("evalset", "generator", "sweep", "video")
_WHERE = ("device", "threads")


def merge_shards(
    folder: Path, shards: Sequence[Path], *, prefer: Path | None = None, **stand_ins: Any
) -> tuple[Summary, list[str]]:
    """Put shards of one run together in `folder`, score whole cells, and report.

    Args:
        folder: the run folder to fill; may already hold some of the shards.
        shards: run folders of parts of one config.
        prefer: the shard, or `folder`, whose video is kept where two differ.
        stand_ins: passed to `Runner`.

    Returns:
        How it ended, and what could not be taken over, a sentence each.

    Raises:
        BenchError: if the shards belong to different runs, disagree, or videos are missing.
    """
    if not shards:
        raise BenchError("Name the shards' run folders: stdrc bench merge RUN SHARD [SHARD ...].")
    if prefer is not None and prefer not in (folder, *shards):
        raise BenchError(f"--prefer names one of the folders that are merged, not {prefer}.")
    remarks, started = [], []
    for shard in shards:
        with Store(shard) as store:
            if store.has_manifest or store.counts():
                started.append((shard, store.manifest()))
            else:
                remarks.append(f"{shard} was never started; it is left out.")
    if not started:
        raise BenchError(f"None of the shards was started ({remarks[0]})")
    first = started[0][1]
    for shard, manifest in started:
        for part, mine, other in _compared(manifest, first):
            if mine != other:
                raise BenchError(
                    f"{shard} is not a shard of the same run as {shards[0]}: their {part} differ."
                )
    # The preferred one first, since what is there is kept.
    order = sorted((shard for shard, _ in started), key=lambda shard: shard != prefer)
    with Store(folder, write=True) as store:
        for shard in order:
            if shard.resolve() != folder.resolve():
                remarks += merge(store, shard, prefer)[1]
    config = cfg.parse_config(first["config"], str(shards[0] / "manifest.json"))
    config = config.model_copy(update={"run": folder})
    return Runner(config, limit=first["limit"], **stand_ins).run(generate=False), remarks


def _compared(manifest: dict[str, Any], first: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(what, this one's, the first one's) of all that videos follow from."""

    def makes(config: dict[str, Any], part: str) -> Any:
        found = config[part]
        return {k: v for k, v in found.items() if k not in _WHERE} if part == "generator" else found

    pairs = [
        (f"config ({part})", makes(manifest["config"], part), makes(first["config"], part))
        for part in _MAKES_VIDEOS
    ]
    return [*pairs, *((part, manifest[part], first[part]) for part in ("limit", "checkpoints"))]


def merge(store: Store, other: Path, prefer: Path | None = None) -> tuple[int, list[str]]:
    """Take over what another run folder has done.

    Returns:
        How many videos came, and what could not be taken, a sentence each: a file whose bytes are
        not those that its row was written for.

    Raises:
        BenchError: if it is not a run folder, is being written to, or has another video under a
            key of `store`, and none of them is preferred.
    """
    came, remarks, bad = 0, [], []
    with Store(other, write=True) as source:  # its lock: nobody writes while it is read
        mine = {row.video: row for row in store.videos() + store.videos(retired=True)}
        for row in source.videos():
            if row.status != "done":
                continue
            old = mine.get(row.video)
            if old is not None and old.status == "done" and old.sha256 == row.sha256:
                continue
            if wrong := _wrong(source, row):
                remarks.append(
                    f"{wrong}; its video is left out. 'stdrc bench verify {other} --repair' and "
                    "the run's command make it again."
                )
                bad.append(row.video)
            elif old is None or old.status != "done" or prefer == other:
                _take(source.video_path(row.video), store.video_path(row.video))
                came += 1
                if old is not None and old.status == "done":
                    store.finish(row.video, row.sha256 or "", None)
            elif prefer is None:
                raise BenchError(
                    f"{other} and {store.folder} have different videos under the key {row.video}; "
                    "they come from different machines or versions (--prefer FOLDER chooses one)."
                )
    store.db.execute("ATTACH DATABASE ? AS other", (str(other / STORE),))
    try:
        with store.db:
            for table in ("cells", "samples", "metrics", "scores", "planned", "environments"):
                store.db.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM other.{table}")
            store.db.execute(
                "INSERT INTO videos SELECT * FROM other.videos WHERE true "
                "ON CONFLICT(video) DO UPDATE SET status = excluded.status, "
                "path = excluded.path, sha256 = excluded.sha256, reason = excluded.reason, "
                "seconds = excluded.seconds, stamp = excluded.stamp, "
                "environment = excluded.environment WHERE videos.status != 'done'"
            )
    finally:
        store.db.execute("DETACH DATABASE other")
    store.lose(key for key in bad if key not in mine or mine[key].status != "done")
    return came, remarks


def _wrong(source: Store, row: VideoRow) -> str:
    """Why a finished video cannot be taken; empty if it can."""
    path = source.video_path(row.video)
    if not path.is_file():
        return f"{path} is missing"
    if file_sha256(path, {}) != row.sha256:
        return f"{path} is not what was written there"
    return ""


def _take(source: Path, target: Path) -> None:
    """A second name for a finished file where the disk allows it, else a copy."""
    with whole_file(target) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
