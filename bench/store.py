"""The run folder: a SQLite file in WAL mode, the videos beside it, a manifest and logs.

One process writes at a time and holds `lock.json`; any number may read while it does. A file stands
under its final name only when it is complete, and a row follows its file: after a kill at any
moment, `adopt` finds the files whose rows were not yet written, and nothing is done twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators import canonical
from bench.sweep import Cell, Task

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS cells(cell TEXT PRIMARY KEY, label TEXT, axes TEXT, mismatch INTEGER);
CREATE TABLE IF NOT EXISTS samples(
    sample TEXT PRIMARY KEY, identity TEXT, prompt TEXT, refs TEXT, target TEXT, timeline TEXT);
CREATE TABLE IF NOT EXISTS videos(
    video TEXT PRIMARY KEY, cell TEXT, sample TEXT, seed INTEGER, status TEXT, path TEXT,
    sha256 TEXT, reason TEXT, seconds REAL);
CREATE TABLE IF NOT EXISTS scores(
    video TEXT, metric TEXT, backend TEXT, version TEXT, value REAL, status TEXT, reason TEXT,
    detail TEXT, PRIMARY KEY (video, metric, backend)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_scores(
    cell TEXT, metric TEXT, backend TEXT, version TEXT, value REAL, low REAL, high REAL, n INTEGER,
    status TEXT, reason TEXT, PRIMARY KEY (cell, metric, backend));
CREATE TABLE IF NOT EXISTS metrics(
    metric TEXT, backend TEXT, label TEXT, higher_is_better INTEGER, low REAL, high REAL,
    PRIMARY KEY (metric, backend));
CREATE INDEX IF NOT EXISTS videos_by_cell ON videos(cell, status);
CREATE INDEX IF NOT EXISTS scores_by_metric ON scores(metric, backend, status, value);
"""


@dataclass(frozen=True)
class Column:
    """What a column of scores means."""

    metric: str
    backend: str
    version: str
    label: str
    higher_is_better: bool | None = None
    low: float | None = None
    high: float | None = None
    per_video: bool = True


@dataclass(frozen=True)
class VideoRow:
    """A row of `videos`."""

    video: str
    cell: str
    sample: str
    seed: int
    status: str
    path: str | None
    sha256: str | None


class Store:
    """A run folder, open for reading or for writing.

    Args:
        folder: the run folder; made if missing when writing.
        write: take the lock and write; otherwise only read.
        wait: seconds to wait for another process' lock; None waits without end, 0 not at all.

    Raises:
        BenchError: if another process writes to it, it is from a newer version, or is no run.
    """

    def __init__(self, folder: Path, *, write: bool = False, wait: float | None = 0) -> None:
        self.folder = Path(folder)
        self._lock: FileLock | None = None
        if write:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BenchError(
                    f"The run folder {self.folder} cannot be made ({error}); choose another."
                ) from None
            self._acquire(wait)
        elif not (self.folder / "store.sqlite").is_file():
            raise BenchError(
                f"{self.folder} is no run folder (it has no store.sqlite); name one that "
                "'stdrc bench CONFIG' made."
            )
        try:
            self._connect(write)
        except BaseException:
            self._release()
            raise

    # Opening and closing -------------------------------------------------------------------------

    def _acquire(self, wait: float | None) -> None:
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=-1 if wait is None else wait)
        except Timeout:
            raise BenchError(
                f"The run folder {self.folder} is in use by {self.holder() or 'another process'}; "
                "wait for it (--wait), or choose another folder (--run)."
            ) from None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (self.folder / "lock.json").write_text(json.dumps(holder))

    def _release(self) -> None:
        if self._lock is not None:
            (self.folder / "lock.json").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def holder(self) -> str:
        """Who writes to the folder, in words; empty if nobody does."""
        try:
            data = json.loads((self.folder / "lock.json").read_text())
            return f"process {data['pid']} on {data['host']} since {data['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def held(self) -> bool:
        """Whether a process holds the lock now; a killed one's `lock.json` may still lie there."""
        if self._lock is not None:
            return True
        probe = FileLock(self.folder / ".lock")
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:
            return False  # a folder that cannot be written to is not written to
        probe.release()
        return False

    def _connect(self, write: bool) -> None:
        path = self.folder / "store.sqlite"
        if write:
            self.db = sqlite3.connect(path)
        else:
            self.db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            version = self._version()
            if version is not None and version > SCHEMA_VERSION:
                raise BenchError(
                    f"{path} was written by a newer version (schema {version}, this one knows "
                    f"{SCHEMA_VERSION}); update stdrc-bench or choose another run folder."
                )
            if write:
                self.db.execute("PRAGMA journal_mode=WAL")
                self.db.execute("PRAGMA synchronous=NORMAL")
                if version is None:
                    self.db.executescript(_SCHEMA)
                    self.set_meta("schema_version", str(SCHEMA_VERSION))
            elif version is None:
                raise BenchError(f"{path} is empty; start the run first.")
        except sqlite3.DatabaseError as error:
            self.db.close()
            raise BenchError(f"{path} cannot be opened as a store ({error}).") from None
        except BenchError:
            self.db.close()
            raise

    def _version(self) -> int | None:
        found = self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
        value = self.meta("schema_version") if found else None
        return int(value) if value is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let go of the lock."""
        self.db.close()
        self._release()

    # Meta and manifest ---------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str) -> None:
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """`manifest.json`, whole or not at all."""
        part = self.folder / ".manifest.json.part"
        part.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(part, self.folder / "manifest.json")

    def manifest(self) -> dict[str, Any]:
        """The manifest of the last start.

        Raises:
            BenchError: if there is none.
        """
        path = self.folder / "manifest.json"
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BenchError(f"{path}: cannot be read ({error}); run the config again.") from None
        return data

    # Planning ------------------------------------------------------------------------------------

    def register_cells(self, cells: Iterable[Cell]) -> None:
        """Add cells; a known one gets its new label (which depends on what else is swept)."""
        with self.db:
            self.db.executemany(
                "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?)",
                ((c.id, c.label, canonical(c.axes), int(c.mismatch)) for c in cells),
            )

    def register_samples(self, samples: Iterable[Sample]) -> None:
        """Add samples.

        Raises:
            BenchError: if an id already stands for another prompt.
        """
        with self.db:
            for s in samples:
                row = self.db.execute(
                    "SELECT prompt FROM samples WHERE sample = ?", (s.id,)
                ).fetchone()
                if row and row[0] != s.prompt:
                    raise BenchError(
                        f"{s.source or s.id}: the sample {s.id!r} stands in {self.folder} with "
                        "another prompt; choose another run folder (--run)."
                    )
                timeline = [[e.start, e.end, e.description] for e in s.timeline]
                self.db.execute(
                    "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        s.id,
                        s.identity,
                        s.prompt,
                        json.dumps([self._relative(r) for r in s.references]),
                        self._relative(s.target) if s.target else None,
                        canonical(timeline) if timeline else None,
                    ),
                )

    def _relative(self, path: Path) -> str:
        """Relative to the run folder where it lies inside, so that the folder can be moved."""
        full, home = path.absolute(), self.folder.absolute()
        return full.relative_to(home).as_posix() if full.is_relative_to(home) else str(full)

    def register_tasks(self, tasks: Iterable[Task]) -> None:
        """Add videos as pending; known ones stay as they are."""
        with self.db:
            self.db.executemany(
                "INSERT OR IGNORE INTO videos(video, cell, sample, seed, status) "
                "VALUES (?, ?, ?, ?, 'pending')",
                ((t.key, t.cell, t.sample.id, t.settings.seed) for t in tasks),
            )

    def register_metrics(self, columns: Iterable[Column]) -> None:
        """Say what each column means."""
        with self.db:
            self.db.executemany(
                "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (
                        c.metric,
                        c.backend,
                        c.label,
                        None if c.higher_is_better is None else int(c.higher_is_better),
                        c.low,
                        c.high,
                    )
                    for c in columns
                ),
            )

    # Videos --------------------------------------------------------------------------------------

    def video_path(self, key: str) -> Path:
        """Where a video's file lies (or will)."""
        return self.folder / "videos" / key[:2] / f"{key}.mp4"

    def finish(self, key: str, sha256: str, seconds: float | None) -> None:
        """A video's file stands at `video_path`."""
        path = self.video_path(key).relative_to(self.folder).as_posix()
        with self.db:
            self.db.execute(
                "UPDATE videos SET status = 'done', path = ?, sha256 = ?, reason = NULL, "
                "seconds = ? WHERE video = ?",
                (path, sha256, seconds, key),
            )

    def fail(self, key: str, reason: str) -> None:
        """A video could not be made; it is not tried again unless asked for."""
        with self.db:
            self.db.execute(
                "UPDATE videos SET status = 'failed', reason = ? WHERE video = ?", (reason, key)
            )

    def retry_failed(self) -> int:
        """Make failed videos pending again; how many."""
        with self.db:
            return self.db.execute(
                "UPDATE videos SET status = 'pending', reason = NULL WHERE status = 'failed'"
            ).rowcount

    def adopt(self) -> int:
        """Mark as done the pending videos whose file is complete, and done ones without a file as
        pending; how many were adopted."""
        root = self.folder / "videos"
        present = {p.stem: p for p in root.glob("??/*.mp4")} if root.is_dir() else {}
        for part in root.glob("??/.*.part"):
            part.unlink(missing_ok=True)  # what a killed process had begun to write
        status = dict(self.db.execute("SELECT video, status FROM videos"))
        adopted = [key for key in present if status.get(key) == "pending"]
        for key in adopted:
            with open(present[key], "rb") as file:
                self.finish(key, hashlib.file_digest(file, "sha256").hexdigest(), None)
        lost = [key for key, s in status.items() if s == "done" and key not in present]
        with self.db:
            for key in lost:
                self.db.execute(
                    "UPDATE videos SET status = 'pending', path = NULL, sha256 = NULL "
                    "WHERE video = ?",
                    (key,),
                )
                self.db.execute("DELETE FROM scores WHERE video = ?", (key,))
        return len(adopted)

    def statuses(self) -> dict[str, str]:
        """Video -> 'pending', 'done' or 'failed'."""
        return dict(self.db.execute("SELECT video, status FROM videos"))

    def videos(self, cell: str | None = None) -> list[VideoRow]:
        """Rows of `videos`, of one cell or of all, in the order of sample and seed."""
        where, values = ("WHERE cell = ?", (cell,)) if cell is not None else ("", ())
        rows = self.db.execute(
            "SELECT video, cell, sample, seed, status, path, sha256 FROM videos "
            f"{where} ORDER BY cell, sample, seed",
            values,
        )
        return [VideoRow(*row) for row in rows]

    def mean_seconds(self) -> float | None:
        """Mean time that a video took to generate, if any was timed."""
        row = self.db.execute("SELECT AVG(seconds) FROM videos WHERE seconds > 0").fetchone()
        return row[0]

    # Scores --------------------------------------------------------------------------------------

    def add_scores(self, scores: Iterable[Any]) -> None:
        """Write `metrics.suite.Score`s (key: the video)."""
        with self.db:
            self.db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        s.key,
                        s.metric,
                        s.backend,
                        s.version,
                        s.value,
                        s.status,
                        s.reason or None,
                        json.dumps(dict(s.detail), sort_keys=True, default=float)
                        if s.detail
                        else None,
                    )
                    for s in scores
                ),
            )

    def add_set_scores(self, scores: Iterable[Any]) -> None:
        """Write `metrics.suite.SetScore`s (group: the cell)."""
        with self.db:
            self.db.executemany(
                "INSERT OR REPLACE INTO set_scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        s.group,
                        s.metric,
                        s.backend,
                        s.version,
                        s.value,
                        s.low,
                        s.high,
                        s.n,
                        s.status,
                        s.reason or None,
                    )
                    for s in scores
                ),
            )

    def unscored(self, columns: Sequence[Column]) -> set[str]:
        """Videos that are done and lack a score of one of the columns, at its present version."""
        wanted = [c for c in columns if c.per_video]
        done = {row[0] for row in self.db.execute("SELECT video FROM videos WHERE status = 'done'")}
        missing: set[str] = set()
        for c in wanted:
            have = {
                row[0]
                for row in self.db.execute(
                    "SELECT video FROM scores WHERE metric = ? AND backend = ? AND version = ? "
                    "AND status IN ('ok', 'failed')",
                    (c.metric, c.backend, c.version),
                )
            }
            missing |= done - have
        return missing

    def mean(self, cell: str, metric: str) -> float | None:
        """Mean of a metric over a cell's videos (or its set-level value); None without scores."""
        row = self.db.execute(
            "SELECT AVG(s.value) FROM videos v JOIN scores s ON s.video = v.video "
            "WHERE v.cell = ? AND s.metric = ? AND s.status = 'ok'",
            (cell, metric),
        ).fetchone()
        if row[0] is None:
            row = self.db.execute(
                "SELECT value FROM set_scores WHERE cell = ? AND metric = ? AND status = 'ok'",
                (cell, metric),
            ).fetchone()
        return row[0] if row else None

    # Reading while it runs -----------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Videos by status."""
        return dict(self.db.execute("SELECT status, COUNT(*) FROM videos GROUP BY status"))

    def cell_counts(self, limit: int | None = None) -> list[tuple[str, str, bool, dict[str, int]]]:
        """(cell, label, mismatch, videos by status) of each cell, in the order of planning."""
        counts: dict[str, dict[str, int]] = {}
        bound = (-1 if limit is None else limit,)
        for cell, status, n in self.db.execute(
            "SELECT cell, status, COUNT(*) FROM videos WHERE cell IN "
            "(SELECT cell FROM cells ORDER BY rowid LIMIT ?) GROUP BY cell, status",
            bound,
        ):
            counts.setdefault(cell, {})[status] = n
        rows = self.db.execute(
            "SELECT cell, label, mismatch FROM cells ORDER BY rowid LIMIT ?", bound
        )
        return [(c, label, bool(m), counts.get(c, {})) for c, label, m in rows]

    def cell_total(self) -> int:
        """How many cells there are."""
        return int(self.db.execute("SELECT COUNT(*) FROM cells").fetchone()[0])

    def metric_counts(self) -> list[tuple[str, str, dict[str, int], float | None]]:
        """(metric, backend, scores by status, mean of those that are ok), by metric."""
        found: dict[tuple[str, str], tuple[dict[str, int], float | None]] = {}
        for metric, backend, status, n, mean in self.db.execute(
            "SELECT metric, backend, status, COUNT(*), AVG(value) FROM scores "
            "GROUP BY metric, backend, status"
        ):
            counts, old = found.get((metric, backend), ({}, None))
            found[metric, backend] = ({**counts, status: n}, mean if status == "ok" else old)
        return [(m, b, counts, mean) for (m, b), (counts, mean) in sorted(found.items())]

    def failures(self, limit: int = 10) -> list[tuple[str, str, str]]:
        """(cell label, sample, reason) of failed videos."""
        return list(
            self.db.execute(
                "SELECT c.label, v.sample, v.reason FROM videos v JOIN cells c ON c.cell = v.cell "
                "WHERE v.status = 'failed' ORDER BY c.rowid, v.sample, v.seed LIMIT ?",
                (limit,),
            )
        )

    # Merging -------------------------------------------------------------------------------------

    def merge(self, other: Path) -> int:
        """Take over what another run folder has done; how many videos came.

        Raises:
            BenchError: if it is no run folder, is being written to, or disagrees about a video.
        """
        with Store(other, write=True) as source:  # its lock: nobody writes while it is read
            rows = source.videos()
            mine = {row.video: row for row in self.videos()}
            came = 0
            for row in rows:
                old = mine.get(row.video)
                if row.status != "done" or row.path is None:
                    continue
                if old and old.status == "done":
                    if old.sha256 != row.sha256:
                        raise BenchError(
                            f"{other} and {self.folder} have different videos under the key "
                            f"{row.video}; they come from different machines or versions."
                        )
                    continue
                _take(other / row.path, self.video_path(row.video))
                came += 1
        self.db.execute("ATTACH DATABASE ? AS other", (str(other / "store.sqlite"),))
        try:
            with self.db:
                for table in ("cells", "samples", "metrics", "scores"):
                    self.db.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM other.{table}")
                self.db.execute(
                    "INSERT INTO videos SELECT * FROM other.videos WHERE true "
                    "ON CONFLICT(video) DO UPDATE SET status = excluded.status, "
                    "path = excluded.path, sha256 = excluded.sha256, reason = excluded.reason, "
                    "seconds = excluded.seconds WHERE videos.status != 'done'"
                )
        finally:
            self.db.execute("DETACH DATABASE other")
        return came


def _take(source: Path, target: Path) -> None:
    """A second name for a finished file where the disk allows it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    os.replace(part, target)
    if part.exists():  # rename does nothing between two names of one file
        part.unlink()


def duration(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    head = f"{hours}:{rest // 60:02d}" if hours else f"{rest // 60}"
    return f"{head}:{rest % 60:02d}"
