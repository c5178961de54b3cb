"""The run folder: its tables, stated once, and the one reader of them.

A run folder holds `store.sqlite` (WAL), `manifest.json`, and the videos under `videos/`. Whoever
wants to know something of a run asks `RunFolder`; `bench.store.Store` extends it for writing. A
folder of an older schema is read as it is: views that only this connection sees add what it lacks.

A video that no plan holds any more is *retired*: it stays on disk and in `videos`, and everything
that is asked here passes over it, but for `retired`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from leaderboards.errors import LeaderboardError
from leaderboards.families import known_family
from media.files import whole_file

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 6
STORE = "store.sqlite"

TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE cells(
    cell TEXT PRIMARY KEY, label TEXT,
    axes TEXT,                -- JSON, axis -> value
    mismatch INTEGER);        -- 1: the checkpoint was trained with another placement
CREATE TABLE samples(
    sample TEXT PRIMARY KEY, identity TEXT, prompt TEXT,
    refs TEXT,                -- JSON list of paths; inside the run folder, relative to it
    target TEXT,
    timeline TEXT,            -- JSON list of [start, end, description]
    shown TEXT);              -- JSON list of [person, start, end], one per reference
CREATE TABLE videos(
    video TEXT PRIMARY KEY,   -- its key: the hash of everything that determines it
    cell TEXT, sample TEXT, seed INTEGER,
    status TEXT,              -- 'pending', 'done' or 'failed'
    path TEXT, sha256 TEXT,
    reason TEXT,              -- why it failed; of a done video, a remark
    seconds REAL,             -- it took to generate
    stamp TEXT,               -- size and time of the file whose hash `sha256` is
    environment TEXT);        -- what made it
CREATE TABLE environments(    -- packages, Python, device and commit, as JSON, by their hash
    environment TEXT PRIMARY KEY, what TEXT);
CREATE TABLE planned(         -- the videos of each config's last plan; the rest is retired
    video TEXT, config TEXT, PRIMARY KEY (video, config)) WITHOUT ROWID;
CREATE TABLE scores(
    video TEXT, metric TEXT, backend TEXT, version TEXT, value REAL,
    status TEXT,              -- 'ok', 'failed', 'inapplicable' or 'absent'
    reason TEXT,              -- why there is no value; of an ok score, a remark
    detail TEXT,              -- JSON
    inputs TEXT,              -- hash of the video and of what else the metric was shown
    PRIMARY KEY (video, metric, backend)) WITHOUT ROWID;
CREATE TABLE set_scores(
    cell TEXT, metric TEXT, backend TEXT, version TEXT, value REAL, low REAL, high REAL,
    n INTEGER, status TEXT, reason TEXT, inputs TEXT,
    influences TEXT,          -- JSON list of [identities, effect], to resample the value by
    PRIMARY KEY (cell, metric, backend));
CREATE TABLE metrics(
    metric TEXT, backend TEXT, label TEXT, higher_is_better INTEGER, low REAL, high REAL,
    family TEXT,              -- what metrics of one kind share, such as 'identity'
    level TEXT,               -- 'video' or 'set'
    diagnostic INTEGER,       -- 1: it informs, and takes no part in ranks
    needs TEXT,               -- JSON list, what it is shown: of `metrics.facts.NEEDS`
    anchors TEXT,             -- JSON [worst, best], where the metric states them
    PRIMARY KEY (metric, backend));
CREATE INDEX videos_by_cell ON videos(cell, status);
CREATE INDEX scores_by_metric ON scores(metric, backend, status, value);
"""

#: Schema -> what makes it the next one. Each also stands for views on a store that may not be
#: written to, see `_AS_VIEWS`.
UPGRADES = {
    1: """
ALTER TABLE videos ADD COLUMN stamp TEXT;
ALTER TABLE scores ADD COLUMN inputs TEXT;
ALTER TABLE set_scores ADD COLUMN inputs TEXT;
ALTER TABLE metrics ADD COLUMN family TEXT;
ALTER TABLE metrics ADD COLUMN level TEXT;
ALTER TABLE metrics ADD COLUMN diagnostic INTEGER;
ALTER TABLE metrics ADD COLUMN needs TEXT;
CREATE TABLE planned(video TEXT, config TEXT, PRIMARY KEY (video, config)) WITHOUT ROWID;
DELETE FROM meta WHERE key LIKE 'set:%';
""",
    # What has no influences yet is scored again by the next start, from features that are kept.
    2: """
ALTER TABLE set_scores ADD COLUMN influences TEXT;
UPDATE set_scores SET inputs = NULL;
UPDATE meta SET value = '' WHERE key = 'complete';
""",
    3: """
ALTER TABLE videos ADD COLUMN environment TEXT;
CREATE TABLE environments(environment TEXT PRIMARY KEY, what TEXT);
""",
    4: "ALTER TABLE metrics ADD COLUMN anchors TEXT;\n",
    5: "ALTER TABLE samples ADD COLUMN shown TEXT;",
}

_AS_VIEWS = {
    1: """
CREATE TEMP VIEW planned AS SELECT video, '' AS config FROM videos;
CREATE TEMP VIEW metrics AS SELECT rowid, metric, backend, label, higher_is_better, low, high,
    NULL AS family, NULL AS level, NULL AS diagnostic, NULL AS needs, NULL AS anchors
    FROM main.metrics;
""",
    2: "CREATE TEMP VIEW set_scores AS SELECT rowid, *, NULL AS influences FROM main.set_scores;",
    4: """
CREATE TEMP VIEW IF NOT EXISTS metrics AS SELECT rowid, *, NULL AS anchors FROM main.metrics;
""",
    5: "CREATE TEMP VIEW samples AS SELECT rowid, *, NULL AS shown FROM main.samples;",
}

_CURRENT = """
CREATE TEMP VIEW current_videos AS SELECT rowid AS place, * FROM videos
    WHERE video IN (SELECT video FROM planned);
CREATE TEMP VIEW current_cells AS SELECT rowid AS place, * FROM cells
    WHERE cell IN (SELECT cell FROM current_videos);
"""


def runs_near(path: Path) -> list[str]:
    """Run folders beside a path that is not there, and in `runs/`, for a message."""
    near = {path.parent, Path("runs")}
    return sorted({str(found.parent) for place in near for found in place.glob(f"*/{STORE}")})


def parts(folder: Path) -> list[Path]:
    """Run folders of those who share a run (`stdrc bench --share`), one per process."""
    return sorted(folder.parent.glob(f"{folder.name}-part-*"))


@dataclass(frozen=True)
class CellRow:
    """A cell that is planned: one setting of every axis."""

    cell: str
    label: str
    axes: Mapping[str, Any]
    mismatch: bool


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
    reason: str | None = None


@dataclass(frozen=True)
class SampleRow:
    """What a video was generated from; paths are as they stand in the store."""

    sample: str
    identity: str
    prompt: str
    references: tuple[str, ...]
    target: str | None
    timeline: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class MetricRow:
    """What a column of scores means.

    Attributes:
        version: of everything in the metric that a value depends on; it stands with each score.
        higher_is_better: None where a value is neither good nor bad.
        low, high: range; None where there is no bound.
        per_video: False for metrics of a whole cell.
        family: what metrics of one kind share.
        diagnostic: it informs, and takes no part in ranks.
        needs: what it is shown beside the video: of "reference", "prompt", "target", "timeline",
            "people" (references of several) and "times" (of references).
        anchors: (worst, best) for a weighted score; None where the metric states none.
    """

    metric: str
    backend: str
    version: str
    label: str
    higher_is_better: bool | None = None
    low: float | None = None
    high: float | None = None
    per_video: bool = True
    family: str = ""
    diagnostic: bool = False
    needs: tuple[str, ...] = ()
    anchors: tuple[float, float] | None = None


_FAILED = (
    "FROM (SELECT metric, reason FROM scores WHERE status = 'failed' AND video IN "
    "(SELECT video FROM planned) UNION ALL SELECT metric, reason FROM set_scores "
    "WHERE status = 'failed' AND cell IN (SELECT cell FROM current_cells))"
)


class RunFolder:
    """A run folder, open for reading; also while another process writes to it.

    Raises:
        LeaderboardError: if the folder holds no store, or one that this version cannot read.
    """

    error: ClassVar[type[ValueError]] = LeaderboardError

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / STORE
        if not path.is_file():
            if shared := parts(self.folder):
                raise self.error(
                    f"{self.folder} is shared by {len(shared)} processes and not merged yet; "
                    f"'stdrc bench merge {self.folder} {self.folder}-part-*' puts it together."
                )
            raise self.error(
                f"{self.folder} is not a run folder (it has no {STORE}); name one that "
                "'stdrc bench CONFIG' made."
            )
        self.db = _read_only(path)
        try:
            version = self._open()
            if version is None:
                raise self.error(
                    f"{path} is empty: its run was killed before it began; start it again."
                )
            self._add_views(version)
        except sqlite3.DatabaseError as error:
            self.db.close()
            raise self.error(f"{path} cannot be opened as a store ({error}).") from None
        except BaseException:
            self.db.close()
            raise

    def _add_views(self, version: int = SCHEMA_VERSION) -> None:
        """What every question here is asked of; seen by this connection alone."""
        lacking = (views for schema, views in _AS_VIEWS.items() if schema >= version)
        self.db.executescript("".join(lacking) + _CURRENT)

    def _open(self) -> int | None:
        """The store's schema version; None if it has no tables yet."""
        version = self._version()
        if version is not None and not 1 <= version <= SCHEMA_VERSION:
            raise self.error(
                f"{self.folder / STORE} was written by another version (schema version {version}, "
                f"this one knows 1 to {SCHEMA_VERSION}); update stdrc-bench, or choose another run "
                "folder."
            )
        return version

    def _version(self) -> int | None:
        found = self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
        value = self.meta("schema_version") if found else None
        return int(value) if value is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    # What the run is -----------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """A value of `meta`, if there is one."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    @property
    def has_manifest(self) -> bool:
        """Whether a run was started here; folders put together by hand have no manifest."""
        return (self.folder / "manifest.json").is_file()

    def manifest(self) -> dict[str, Any]:
        """The manifest of the last start: config, seeds, checkpoints, metrics, packages, machine.

        Raises:
            LeaderboardError: if there is none.
        """
        path = self.folder / "manifest.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(data, dict):
                raise ValueError("it is not a JSON object")
        except (OSError, ValueError) as error:
            raise self.error(f"{path} cannot be read ({error}); run the config again.") from None
        return data

    def cells(self) -> list[CellRow]:
        """The planned cells, in the order of planning; no two have the same label."""
        rows = self.db.execute(
            "SELECT cell, label, axes, mismatch FROM current_cells ORDER BY place"
        ).fetchall()
        labels = unique_labels({cell: label or cell[:8] for cell, label, _, _ in rows})
        return [CellRow(c, labels[c], json.loads(axes or "{}"), bool(m)) for c, _, axes, m in rows]

    def metrics(self) -> list[MetricRow]:
        """What the columns of scores mean; versions stand with the scores."""
        rows = self.db.execute(
            "SELECT metric, backend, label, higher_is_better, low, high, family, level, "
            "diagnostic, needs, anchors FROM metrics ORDER BY rowid"
        )
        return [
            MetricRow(
                metric,
                backend,
                "",
                label or metric,
                None if higher is None else bool(higher),
                low,
                high,
                level != "set",
                family or known_family(metric)[0],
                bool(diag) if family else known_family(metric)[1],
                tuple(json.loads(needs or "[]")),
                tuple(json.loads(anchors)) if anchors else None,
            )
            for metric, backend, label, higher, low, high, family, level, diag, needs, anchors in (
                rows
            )
        ]

    def samples(self) -> dict[str, SampleRow]:
        """Sample -> what its videos are generated from."""
        return {
            sample: SampleRow(
                sample,
                identity or "",
                prompt or "",
                tuple(json.loads(refs or "[]")),
                target,
                tuple((float(a), float(b), str(what)) for a, b, what in json.loads(times or "[]")),
            )
            for sample, identity, prompt, refs, target, times in self.db.execute(
                "SELECT sample, identity, prompt, refs, target, timeline FROM samples "
                "ORDER BY rowid"
            )
        }

    def videos(self, cell: str | None = None, *, retired: bool = False) -> list[VideoRow]:
        """Planned videos of one cell or of all, by cell, sample and seed; or the retired ones."""
        source = "videos WHERE video NOT IN (SELECT video FROM planned)"
        if not retired:
            source = "current_videos WHERE true"
        where, values = ("AND cell = ?", (cell,)) if cell is not None else ("", ())
        rows = self.db.execute(
            "SELECT video, cell, sample, seed, status, path, sha256, reason "
            f"FROM {source} {where} ORDER BY cell, sample, seed",
            values,
        )
        return [VideoRow(*row) for row in rows]

    # Tables for statistics -----------------------------------------------------------------------

    def frame(self, table: str) -> pd.DataFrame:
        """A table of `FRAMES` of what is planned, as a data frame."""
        import pandas as pd

        return pd.read_sql_query(FRAMES[table], self.db)

    def face_rates(self) -> dict[str, float]:
        """Cell -> share of sampled frames with a face, as its identity metrics counted them."""
        rows = self.db.execute(
            "SELECT v.cell, AVG(r.rate) FROM current_videos v JOIN (SELECT video, AVG(1.0 * "
            "json_extract(detail, '$.frames_with_face') / json_extract(detail, '$.frames')) AS "
            "rate FROM scores WHERE metric LIKE 'identity.%' AND detail LIKE '%frames_with_face%' "
            "GROUP BY video) r ON r.video = v.video WHERE r.rate IS NOT NULL GROUP BY v.cell"
        )
        return {cell: float(rate) for cell, rate in rows}

    # How far it is -------------------------------------------------------------------------------

    def statuses(self) -> dict[str, str]:
        """Video -> 'pending', 'done' or 'failed'; retired ones too."""
        return dict(self.db.execute("SELECT video, status FROM videos"))

    def counts(self) -> dict[str, int]:
        """Planned videos by status."""
        return dict(self.db.execute("SELECT status, COUNT(*) FROM current_videos GROUP BY status"))

    def retired(self) -> list[tuple[str, int, int]]:
        """(cell label, videos, bytes on disk) of what no plan holds any more."""
        found: dict[str, list[int]] = {}
        labels = dict(self.db.execute("SELECT cell, label FROM cells"))
        for row in self.videos(retired=True):
            entry = found.setdefault(row.cell, [0, 0])
            entry[0] += 1
            if row.path and (path := self.folder / row.path).is_file():
                entry[1] += path.stat().st_size
        return [(labels.get(cell) or cell[:8], n, size) for cell, (n, size) in found.items()]

    def retired_means(self) -> list[tuple[str, int, dict[tuple[str, str], float]]]:
        """(cell label, videos made, (metric, backend) -> mean over them) of what is retired."""
        gone = "v.video NOT IN (SELECT video FROM planned) AND v.status = 'done'"
        counts = self.db.execute(
            "SELECT c.cell, c.label, COUNT(*) FROM videos v JOIN cells c ON c.cell = v.cell "
            f"WHERE {gone} GROUP BY c.cell ORDER BY c.rowid"
        ).fetchall()
        means: dict[str, dict[tuple[str, str], float]] = {}
        # A million scores are not worth a look where nothing is retired; CROSS keeps the order.
        for cell, metric, backend, mean in counts and self.db.execute(
            "SELECT v.cell, s.metric, s.backend, AVG(s.value) FROM videos v CROSS JOIN scores s "
            f"ON s.video = v.video WHERE {gone} AND s.status = 'ok' GROUP BY v.cell, 2, 3"
        ):
            means.setdefault(cell, {})[metric, backend] = mean
        labels = unique_labels({cell: label or cell[:8] for cell, label, _ in counts})
        return [(labels[cell], n, means.get(cell, {})) for cell, _, n in counts]

    def cell_counts(self, limit: int | None = None) -> list[tuple[CellRow, dict[str, int]]]:
        """(cell, videos by status) of each planned cell, in the order of planning."""
        cells = self.cells()[:limit]
        counts: dict[str, dict[str, int]] = {row.cell: {} for row in cells}
        for cell, status, n in self.db.execute(
            "SELECT cell, status, COUNT(*) FROM current_videos GROUP BY cell, status"
        ):
            if cell in counts:
                counts[cell][status] = n
        return [(row, counts[row.cell]) for row in cells]

    def cell_total(self) -> int:
        """How many cells are planned."""
        return int(self.db.execute("SELECT COUNT(*) FROM current_cells").fetchone()[0])

    def metric_counts(self) -> list[tuple[str, str, dict[str, int], float | None]]:
        """(metric, backend, scores by status, mean of those that are ok), by metric."""
        # Looking a million scores' videos up takes a second; without retired ones nobody needs to.
        (n,) = self.db.execute(
            "SELECT COUNT(*) FROM videos WHERE video NOT IN (SELECT video FROM planned)"
        ).fetchone()
        where = "WHERE video IN (SELECT video FROM planned)" if n else ""
        found: dict[tuple[str, str], tuple[dict[str, int], float | None]] = {}
        for metric, backend, status, n, mean in self.db.execute(
            f"SELECT metric, backend, status, COUNT(*), AVG(value) FROM scores {where} "
            "GROUP BY metric, backend, status"
        ):
            counts, old = found.get((metric, backend), ({}, None))
            found[metric, backend] = ({**counts, status: n}, mean if status == "ok" else old)
        return [(m, b, counts, mean) for (m, b), (counts, mean) in sorted(found.items())]

    def failures(self, limit: int = 10) -> list[tuple[str, str, str]]:
        """(cell label, sample, reason) of failed videos."""
        found = self.db.execute(
            "SELECT c.label, v.sample, v.reason FROM current_videos v JOIN cells c ON "
            "c.cell = v.cell WHERE v.status = 'failed' ORDER BY c.rowid, v.sample, v.seed"
        )
        return found.fetchmany(limit)

    def score_failures(self, limit: int = 10) -> list[tuple[str, str, int]]:
        """(metric, reason, scores) of what has no score, the most frequent first."""
        found = self.db.execute(f"SELECT metric, reason, COUNT(*) {_FAILED} GROUP BY 1, 2")
        return sorted(found, key=lambda row: (-row[2], *row))[:limit]

    def failed_scores(self) -> int:
        """How many scores of planned videos and cells failed."""
        return int(self.db.execute(f"SELECT COUNT(*) {_FAILED}").fetchone()[0])

    def mean_seconds(self) -> float | None:
        """Mean time that a video took to generate, if any was timed."""
        return self.db.execute("SELECT AVG(seconds) FROM videos WHERE seconds > 0").fetchone()[0]

    def mean_bytes(self, most: int = 200) -> float | None:
        """Mean size of finished videos' files: the first by their keys, which are hashes."""
        rows = self.db.execute(
            "SELECT path FROM videos WHERE status = 'done' ORDER BY video LIMIT ?", (most,)
        )
        files = [path for (name,) in rows if (path := self.folder / name).is_file()]
        return sum(path.stat().st_size for path in files) / len(files) if files else None

    def mean(self, cell: str, metric: str) -> float | None:
        """Mean of a metric over a cell's videos (or its set-level value); None without scores."""
        row = self.db.execute(
            "SELECT AVG(s.value) FROM current_videos v JOIN scores s ON s.video = v.video "
            "WHERE v.cell = ? AND s.metric = ? AND s.status = 'ok'",
            (cell, metric),
        ).fetchone()
        if row[0] is None:
            row = self.db.execute(
                "SELECT value FROM set_scores WHERE cell = ? AND metric = ? AND status = 'ok'",
                (cell, metric),
            ).fetchone()
        return row[0] if row else None


#: What `RunFolder.frame` gives: the columns of each table for statistics.
FRAMES: Mapping[str, str] = {
    "videos": "SELECT cell AS entry, sample, seed, video, status, path, reason, place "
    "FROM current_videos ORDER BY place",
    "samples": "SELECT sample, identity, prompt, refs, timeline, target, shown FROM samples "
    "WHERE sample IN (SELECT sample FROM current_videos) ORDER BY rowid",
    # A number in place of three texts: a million of each take seconds to become Python's.
    "scores": "SELECT v.place, s.metric, s.backend, s.version, s.value, s.status, s.reason "
    "FROM scores s JOIN current_videos v ON v.video = s.video",
    "set_scores": "SELECT cell AS entry, metric, backend, version, value, low, high, n, status, "
    "reason, influences FROM set_scores WHERE cell IN (SELECT cell FROM current_cells) "
    "ORDER BY rowid",
}


def _read_only(path: Path) -> sqlite3.Connection:
    """A connection to a store that others may write to, or where nobody can.

    Where the folder cannot be written to, SQLite cannot make the index of a write-ahead log, and
    nobody else writes either, so that the file is read as it stands. A transaction that a kill cut
    off is rolled back by whoever opens the store next, which takes the right to write.
    """
    if os.access(path, os.W_OK) and path.with_name(f"{path.name}-journal").is_file():
        whole = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
        # Where it can't be, the first question to the read-only connection says why.
        with closing(whole), suppress(sqlite3.OperationalError):
            whole.execute("SELECT 1 FROM sqlite_master").fetchone()
    uri = f"{path.absolute().as_uri()}?mode=ro"
    log = path.with_name(f"{path.name}-wal")
    if not os.access(path.parent, os.W_OK) and not (log.is_file() and log.stat().st_size):
        uri += "&immutable=1"
    return sqlite3.connect(uri, uri=True)


NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3"}
)


def on_network(folder: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether a folder lies on a network file system, which several machines may see."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return False  # not Linux
    place = folder.resolve()
    kinds = {Path(line[1]): line[2] for line in lines if place.is_relative_to(line[1])}
    kind = kinds[max(kinds, key=lambda mount: len(mount.parts))] if kinds else ""
    return kind in NETWORK or kind.startswith("fuse.sshfs")


def create(folder: str | Path) -> sqlite3.Connection:
    """A connection for writing to the store of a folder, its tables made if there are none.

    A new store gets its name when it has its tables and its kind of journal, so that a kill leaves
    none or a whole one.
    """
    path = Path(folder) / STORE
    # A write-ahead log's index is memory that the processes of one machine share.
    journal = f"PRAGMA journal_mode={'DELETE' if on_network(path.parent) else 'WAL'}"
    if not path.is_file() or not path.stat().st_size:
        with whole_file(path) as part, closing(sqlite3.connect(part)) as db:
            with db:
                db.executescript(f"BEGIN; {TABLES}")
                insert(db, "meta", [{"key": "schema_version", "value": str(SCHEMA_VERSION)}])
            # Last: what a full disk keeps in a write-ahead log, closing leaves behind unsaid.
            db.execute(journal)
    db = sqlite3.connect(path)
    try:
        db.execute(journal)
        db.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def insert(
    db: sqlite3.Connection, table: str, rows: Iterable[Mapping[str, Any]], known: str = "REPLACE"
) -> None:
    """Add rows, all with the same columns, to a table; `known` says what becomes of known ones."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    names = tuple(first)
    marks = ", ".join(f":{name}" for name in names)
    statement = f"INSERT OR {known} INTO {table}({', '.join(names)}) VALUES ({marks})"
    db.execute(statement, first)
    db.executemany(statement, rows)


def unique_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Key -> label, where two keys share one with as much of the key as tells them apart.

    Example:
        >>> unique_labels({"a1b2c3": "tass", "a1b9c3": "tass", "ffff00": "far"})
        {'a1b2c3': 'tass [a1b2]', 'a1b9c3': 'tass [a1b9]', 'ffff00': 'far'}
    """
    uses, found = Counter(labels.values()), dict(labels)
    sharing: dict[str, list[str]] = {}
    for key, label in labels.items():
        if uses[label] > 1:
            sharing.setdefault(label, []).append(key)
    for label, keys in sharing.items():
        length = _apart(keys)
        found |= {key: f"{label} [{key[:length]}]" for key in keys}
    return found


def _apart(keys: Sequence[str]) -> int:
    """How many leading characters, 4 at least, tell keys apart."""
    longest = max(map(len, keys))
    return next((n for n in range(4, longest) if len({k[:n] for k in keys}) == len(keys)), longest)
