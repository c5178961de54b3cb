"""Writing to a run folder: `leaderboards.runfolder` states its tables and reads them.

One process writes at a time and holds `lock.json`; any number may read while it does. A file stands
under its final name only when it is complete. What is known of it is written before, and that it is
done after: after a kill at any moment, `adopt` finds the files that were not yet said to be done,
and nothing is done twice.

Each config's last plan says which videos are of the run. What no plan holds any more, because an
input changed or the sweep did, is retired: kept, and passed over by every table, until a plan has
it again or `clean` removes it.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import hashlib
import itertools
import json
import os
import socket
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from bench.errors import BenchError
from bench.evalsets import Sample
from bench.keys import canonical
from bench.scoring import item_of
from bench.sweep import Cell, Task
from leaderboards.runfolder import (
    SCHEMA_VERSION,
    STORE,
    UPGRADES,
    MetricRow,
    RunFolder,
    create,
    insert,
)
from media.files import file_sha256, write_atomic
from media.wording import did_you_mean

#: A full disk, a quota that is used up, a file larger than it may be.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: A folder, or a whole disk, that may only be read.
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Store(RunFolder):
    """A run folder, open for reading or for writing.

    Args:
        folder: the run folder; made if missing when writing.
        write: take the lock and write; otherwise only read.
        wait: seconds to wait for another process' lock; None waits without end, 0 not at all.

    Raises:
        BenchError: if another process writes to it, it is from a newer version, or is not a run.
    """

    error: ClassVar[type[ValueError]] = BenchError

    def __init__(self, folder: Path, *, write: bool = False, wait: float | None = 0) -> None:
        self._lock: FileLock | None = None
        self._environments: set[str] = set()
        if not write:
            super().__init__(folder)
            return
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BenchError(
                f"The run folder {self.folder} cannot be made ({error.strerror}); choose another."
            ) from None
        self._acquire(wait)
        try:
            self._connect_to_write()
        except BaseException:
            self._release()
            raise

    # Opening and closing -------------------------------------------------------------------------

    def _acquire(self, wait: float | None) -> None:
        self._lock = FileLock(self.folder / ".lock")
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            # Somebody who asks `held` has the lock for a moment; that is not another writer.
            self._lock.acquire(timeout=-1 if wait is None else max(wait, 1.0), poll_interval=0.02)
            (self.folder / "lock.json").write_text(json.dumps(holder))
        except Timeout:
            raise BenchError(
                f"The run folder {self.folder} is in use by {self.holder() or 'another process'}; "
                "wait for it (--wait), or choose another folder (--run)."
            ) from None
        except OSError as error:
            if error.errno not in DENIED:
                raise
            raise BenchError(
                f"The run folder {self.folder} cannot be written to ({error.strerror}); copy it to "
                "where you may write, or choose another (--run)."
            ) from None

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
        # Shared, so that those who ask do not see each other; `_acquire` waits for a moment.
        try:
            with (self.folder / ".lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # never written to
        return False

    def _connect_to_write(self) -> None:
        for part in self.folder.glob(f".{STORE}.*.part*"):
            part.unlink()  # of a start that was killed
        try:
            self.db = create(self.folder)
            try:
                version = self._open()
                if version is not None and version < SCHEMA_VERSION:
                    self._upgrade(version)
                self._add_views()
            except BaseException:
                self.db.close()
                raise
        except sqlite3.DatabaseError as error:
            if "is full" in str(error) or "disk I/O" in str(error):
                raise  # the runner says what to do
            raise BenchError(
                f"{self.folder / STORE} cannot be opened as a store ({error})."
            ) from None

    def _upgrade(self, version: int) -> None:
        """From an older schema; all videos of schema 1 count as planned by the last config."""
        try:
            config = self.manifest()["config"]["name"]
        except BenchError:  # killed before it wrote one; the next plan, whose ever, takes over
            config = ""
        self.db.execute("BEGIN IMMEDIATE")
        with self.db:
            for schema in range(version, SCHEMA_VERSION):
                for statement in UPGRADES[schema].split(";\n"):
                    self.db.execute(statement)
            if version == 1:
                self.db.execute("INSERT INTO planned SELECT video, ? FROM videos", (config,))
            self._set_meta("schema_version", str(SCHEMA_VERSION))

    def close(self) -> None:
        """Close the file and let go of the lock."""
        super().close()
        self._release()

    # Meta and manifest ---------------------------------------------------------------------------

    def set_meta(self, key: str, value: str) -> None:
        with self.db:
            self._set_meta(key, value)

    def _set_meta(self, key: str, value: str) -> None:
        insert(self.db, "meta", [{"key": key, "value": value}])

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """`manifest.json`, whole or not at all."""
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        write_atomic(self.folder / "manifest.json", text)

    # Planning ------------------------------------------------------------------------------------

    def register_plan(
        self,
        config: str,
        cells: Iterable[Cell],
        samples: Sequence[Sample],
        tasks: Iterable[Task],
        *,
        add: bool = False,
    ) -> None:
        """Take over a config's plan: its new videos are pending, those it no longer has retired.

        A known cell gets its new label, which depends on what else is swept.

        Args:
            config: the config's name; several may share a run folder.
            cells, samples, tasks: what it plans.
            add: keep what the same config planned before (a search plans cell by cell).

        Raises:
            BenchError: if another config of this folder has a sample under the same id and another
                prompt, or other videos in one of the cells.
        """
        listed = list(tasks)
        with self.db:
            if not add:
                self.db.execute("DELETE FROM planned WHERE config IN (?, '')", (config,))
            self._refuse_clashes(config, samples, listed)
            named = (
                {"cell": c.id, "label": c.label, "axes": canonical(c.axes), "mismatch": c.mismatch}
                for c in cells
            )
            insert(self.db, "cells", named)
            insert(self.db, "samples", map(self._sample, samples))
            made = (
                {"video": t.key, "cell": t.cell, "sample": t.sample.id, "seed": t.settings.seed}
                | {"status": "pending"}
                for t in listed
            )
            insert(self.db, "videos", made, known="IGNORE")
            insert(self.db, "planned", ({"video": t.key, "config": config} for t in listed))

    def _refuse_clashes(self, config: str, samples: Sequence[Sample], tasks: list[Task]) -> None:
        others = {
            (cell, sample, seed): (video, other)
            for cell, sample, seed, video, other in self.db.execute(
                "SELECT v.cell, v.sample, v.seed, v.video, p.config FROM planned p "
                "JOIN videos v ON v.video = p.video WHERE p.config != ?",
                (config,),
            )
        }
        theirs = {sample: other for (_, sample, _), (_, other) in others.items()}
        prompts = dict(self.db.execute("SELECT sample, prompt FROM samples"))
        for s in samples:
            if s.id in theirs and prompts[s.id] != s.prompt:
                raise BenchError(
                    f"{s.source or s.id}: the sample {s.id!r} stands in {self.folder} with another "
                    f"prompt, planned by {theirs[s.id]!r}; choose another run folder (--run)."
                )
        for t in tasks:
            video, other = others.get((t.cell, t.sample.id, t.settings.seed), (t.key, ""))
            if video != t.key:
                raise BenchError(
                    f"{self.folder} has other videos of the cell {t.cell}, planned by {other!r}: "
                    "two entries cannot have the same name; give each generator its own "
                    "generator.name, or choose another run folder (--run)."
                )

    def _sample(self, sample: Sample) -> dict[str, Any]:
        timeline = [[e.start, e.end, e.description] for e in sample.timeline]
        return {
            "sample": sample.id,
            "identity": sample.identity,
            "prompt": sample.prompt,
            "refs": json.dumps([self._relative(r) for r in sample.references]),
            "target": self._relative(sample.target) if sample.target else None,
            "timeline": canonical(timeline) if timeline else None,
            "shown": canonical(item_of(sample, self.folder).whom),
        }

    def _relative(self, path: Path) -> str:
        """Relative to the run folder where it lies inside, so that the folder can be moved."""
        full, home = path.absolute(), self.folder.absolute()
        return full.relative_to(home).as_posix() if full.is_relative_to(home) else str(full)

    def register_metrics(self, metrics: Iterable[MetricRow]) -> None:
        """Say what each column means."""
        same = ("metric", "backend", "label", "higher_is_better", "low", "high", "family")
        rows = (
            {name: getattr(m, name) for name in same}
            | {"level": "video" if m.per_video else "set", "diagnostic": m.diagnostic}
            | {"needs": json.dumps(m.needs)}
            | {"anchors": json.dumps(m.anchors) if m.anchors else None}
            for m in metrics
        )
        with self.db:
            insert(self.db, "metrics", rows)

    def clean(self) -> tuple[int, int]:
        """Remove what is retired, files and rows; (videos, bytes)."""
        gone = self.videos(retired=True)
        size = 0
        for row in gone:
            path = self.video_path(row.video)
            if path.is_file():
                size += path.stat().st_size
                path.unlink()
        with self.db:
            self.db.executemany("DELETE FROM scores WHERE video = ?", ((r.video,) for r in gone))
            self.db.executemany("DELETE FROM videos WHERE video = ?", ((r.video,) for r in gone))
            for table in ("set_scores", "cells"):
                self.db.execute(f"DELETE FROM {table} WHERE cell NOT IN (SELECT cell FROM videos)")
            self.db.execute("DELETE FROM samples WHERE sample NOT IN (SELECT sample FROM videos)")
        return len(gone), size

    # Videos --------------------------------------------------------------------------------------

    def video_path(self, key: str) -> Path:
        """Where a video's file lies (or will)."""
        return self.folder / "videos" / key[:2] / f"{key}.mp4"

    def prepare(
        self,
        key: str,
        sha256: str,
        seconds: float | None,
        remark: str,
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        """What will be known of a file that is about to be written, for `adopt` after a kill.

        `environment` is what made it: packages, Python, device, commit.
        """
        what = canonical(environment) if environment else ""
        made_by = hashlib.sha256(what.encode()).hexdigest()[:12] if what else None
        with self.db:
            if made_by is not None and made_by not in self._environments:
                row = {"environment": made_by, "what": what}
                insert(self.db, "environments", [row], known="IGNORE")
                self._environments.add(made_by)
            self.db.execute(
                "UPDATE videos SET sha256 = ?, seconds = ?, reason = ?, environment = ? "
                "WHERE video = ?",
                (sha256, seconds, remark or None, made_by, key),
            )

    def finish(self, key: str, sha256: str, seconds: float | None, remark: str = "") -> None:
        """A video's file stands at `video_path`; scores of what stood there before are dropped."""
        path = self.video_path(key)
        with self.db:
            (before,) = self.db.execute(
                "SELECT sha256 FROM videos WHERE video = ?", (key,)
            ).fetchone() or (None,)
            self.db.execute(
                "UPDATE videos SET status = 'done', path = ?, sha256 = ?, reason = ?, "
                "seconds = ?, stamp = ?, environment = CASE WHEN sha256 = ? THEN environment END "
                "WHERE video = ?",
                (
                    path.relative_to(self.folder).as_posix(),
                    sha256,
                    remark or None,
                    seconds,
                    file_stamp(path),
                    sha256,
                    key,
                ),
            )
            if before != sha256:
                self._forget_scores(key)

    def _forget_scores(self, key: str) -> None:
        """Drop what was said of a video that is no longer what it was, and of its cell."""
        self.db.execute("DELETE FROM scores WHERE video = ?", (key,))
        self.db.execute(
            "DELETE FROM set_scores WHERE cell = (SELECT cell FROM videos WHERE video = ?)", (key,)
        )

    def fail(self, key: str, reason: str, trace: str = "") -> None:
        """A video could not be made; it is not tried again unless asked for.

        Its last error stands whole in `logs/videos/`.
        """
        path = self.folder / "logs" / "videos" / f"{key}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {reason}\n{trace}")
        with self.db:
            self.db.execute(
                "UPDATE videos SET status = 'failed', reason = ? WHERE video = ?", (reason, key)
            )

    def retry_failed(self) -> None:
        """Make failed videos pending again, and drop failed scores."""
        with self.db:
            self.db.execute(
                "UPDATE videos SET status = 'pending', reason = NULL WHERE status = 'failed' "
                "AND video IN (SELECT video FROM planned)"
            )
            for table in ("scores", "set_scores"):
                self.db.execute(f"DELETE FROM {table} WHERE status = 'failed'")

    def adopt(self) -> int:
        """Bring rows in line with the files; how many finished files were found without a row.

        A pending video whose file is complete is done, with what was remarked on that file. A done
        one without its file, or whose file is not what was written there, is pending again. Files
        are read again only where their size or time changed.
        """
        root = self.folder / "videos"
        present = {p.stem: p for p in root.glob("??/*.mp4")} if root.is_dir() else {}
        for part in root.glob("??/.*.part"):
            part.unlink(missing_ok=True)  # what a killed process had begun to write
        adopted, lost = 0, []
        rows = self.db.execute(
            "SELECT video, status, sha256, stamp, seconds, reason FROM videos"
        ).fetchall()
        for key, status, sha256, stamp, seconds, remark in rows:
            path = present.get(key)
            if status == "pending" and path is not None:
                found = file_sha256(path)
                known = (seconds, remark or "") if found == sha256 else (None, "")
                self.finish(key, found, *known)
                adopted += 1
            elif status == "done" and path is None:
                lost.append(key)
            elif status == "done" and path is not None and stamp != (now := file_stamp(path)):
                if sha256 is not None and file_sha256(path) != sha256:
                    lost.append(key)
                else:
                    with self.db:
                        self.db.execute("UPDATE videos SET stamp = ? WHERE video = ?", (now, key))
        self.lose(lost)
        return adopted

    def lose(self, keys: Iterable[str]) -> None:
        """Videos whose files are gone, or are not what was written, are pending again."""
        with self.db:
            for key in keys:
                self.video_path(key).unlink(missing_ok=True)
                self.db.execute(
                    "UPDATE videos SET status = 'pending', path = NULL, sha256 = NULL, "
                    "seconds = NULL, reason = NULL WHERE video = ?",
                    (key,),
                )
                self._forget_scores(key)

    def stamp(self, key: str) -> str | None:
        """Size and time that a video's file had when it was written; None if they are not known."""
        row = self.db.execute("SELECT stamp FROM videos WHERE video = ?", (key,)).fetchone()
        return row[0] if row else None

    def environments(self) -> dict[str, Any]:
        """Hash -> what made some of the videos: packages, Python, device, commit."""
        rows = self.db.execute("SELECT environment, what FROM environments ORDER BY rowid")
        return {key: json.loads(what) for key, what in rows}

    # Scores --------------------------------------------------------------------------------------

    def add_scores(self, scores: Iterable[tuple[Any, str | None]]) -> None:
        """Write `metrics.scores.Score`s (key: the video), each with the hash of its inputs.

        None in its place: it is to be tried again at the next start.
        """
        rows = (
            _row(s, inputs)
            | {"video": s.key}
            | {"detail": json.dumps(dict(s.detail), sort_keys=True, default=float)
                if s.detail else None}
            for s, inputs in scores
        )  # fmt: skip
        with self.db:
            insert(self.db, "scores", rows)

    def add_set_scores(self, scores: Iterable[tuple[Any, str | None]]) -> None:
        """Write `metrics.scores.SetScore`s (group: the cell), each with the hash of its inputs."""
        rows = (
            _row(s, inputs)
            | {"cell": s.group, "low": s.low, "high": s.high, "n": s.n}
            | {"influences": json.dumps(s.influences) if s.influences else None}
            for s, inputs in scores
        )
        with self.db:
            insert(self.db, "set_scores", rows)

    def scored(self, metric: MetricRow) -> dict[str, tuple[str, str | None]]:
        """Video -> (version, inputs) of its score by a metric; failed scores count, absent don't.

        Inputs are None for scores from before they were recorded.
        """
        return self._scored("video", "scores", metric)

    def set_scored(self, metric: MetricRow) -> dict[str, tuple[str, str | None]]:
        """The same of set-level metrics, by cell."""
        return self._scored("cell", "set_scores", metric)

    def _scored(self, key: str, table: str, metric: MetricRow) -> dict[str, tuple[str, str | None]]:
        rows = self.db.execute(
            f"SELECT {key}, version, inputs FROM {table} WHERE metric = ? AND backend = ? "
            "AND status IN ('ok', 'failed', 'inapplicable')",
            (metric.metric, metric.backend),
        )
        return {of: (version, inputs) for of, version, inputs in rows}

    def forget_metrics(self, names: Iterable[str]) -> None:
        """Drop all scores of metrics; they are computed again.

        Raises:
            BenchError: naming a metric, or a pattern, that nothing here was scored by.
        """
        known = sorted({m.metric for m in self.metrics()})
        for name in names:
            found = fnmatch.filter(known, name)
            if not found:
                raise BenchError(
                    f"{self.folder} has no scores of the metric {name!r}; it has "
                    f"{', '.join(known)}.{did_you_mean(name, known)}"
                )
            with self.db:
                for table, metric in itertools.product(("scores", "set_scores"), found):
                    self.db.execute(f"DELETE FROM {table} WHERE metric = ?", (metric,))

    def to_retry(self) -> bool:
        """Whether a score failed by what another try may not meet."""
        return any(
            self.db.execute(
                f"SELECT 1 FROM {table} WHERE status = 'failed' AND inputs IS NULL LIMIT 1"
            ).fetchone()
            for table in ("scores", "set_scores")
        )

    def drop_scores(self, which: Iterable[tuple[str, str, str]]) -> None:
        """Remove scores by video, metric and backend."""
        with self.db:
            self.db.executemany(
                "DELETE FROM scores WHERE video = ? AND metric = ? AND backend = ?", which
            )

    def drop_set_scores(self, which: Iterable[tuple[str, str, str]]) -> None:
        """Remove set-level scores by cell, metric and backend."""
        gone = list(which)  # it may ask the same tables
        with self.db:
            self.db.executemany(
                "DELETE FROM set_scores WHERE cell = ? AND metric = ? AND backend = ?", gone
            )


def _row(score: Any, inputs: str | None) -> dict[str, Any]:
    """What the rows of a score per video and of a set-level score have in common."""
    same = ("metric", "backend", "version", "value", "status")
    return {name: getattr(score, name) for name in same} | {
        "reason": score.reason or None,
        "inputs": inputs,
    }


def file_stamp(path: Path) -> str | None:
    """Size and time of a file; while they stay, so do its bytes."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return f"{stat.st_size} {stat.st_mtime_ns}"
