"""Where scores come from: run folders and score tables, read into one array per column.

A run folder's SQLite store and any CSV or Parquet file end in the same `Scores`: entries (cells of
a sweep, or models), columns (a metric measured by one backend), and a dense array of values with
one slot per entry and sample. What may not be compared is found here: two backends, two versions
or two sample sets in one column are refused with the reason, or left blank with the reason noted.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from leaderboards.errors import LeaderboardError

Level = Literal["sample", "set", "summary"]
OnMixed = Literal["refuse", "blank"]

SCHEMA_VERSION = "1"

#: Directions of metric names in wide use, for tables that do not state one. Compared without case
#: and punctuation; a run folder's own `metrics` table always wins.
KNOWN_DIRECTIONS: Mapping[str, bool] = {
    "facecur": True,
    "facearc": True,
    "facesim": True,
    "facesimcur": True,
    "facesimarc": True,
    "clipscore": True,
    "identity": True,
    "text": True,
    "facerate": True,
    "userstudy": True,
    "points": True,
    "subjectconsistency": True,
    "backgroundconsistency": True,
    "temporalflickering": True,
    "ssim": True,
    "psnr": True,
    "fid": False,
    "fvd": False,
    "kid": False,
    "kvd": False,
    "lpips": False,
    "copypaste": False,
    "warpingerror": False,
}

_HIGHER = ("↑", "^")
_LOWER = ("↓",)


@dataclass(frozen=True)
class Column:
    """One column of a leaderboard: a metric as measured by one backend.

    `higher_is_better` is None for a column that only informs and takes no part in ranks (the amount
    of motion, say). `low` and `high` are the metric's range where it is known; `level` says what a
    value stands for: one video ("sample"), the whole set of an entry's videos ("set"), or a
    published mean without its samples ("summary").
    """

    key: str
    metric: str
    backend: str = ""
    version: str = ""
    label: str = ""
    higher_is_better: bool | None = True
    low: float | None = None
    high: float | None = None
    level: Level = "sample"

    @property
    def title(self) -> str:
        """What to print above the column."""
        return self.label or self.key

    @property
    def arrow(self) -> str:
        if self.higher_is_better is None:
            return ""
        return "↑" if self.higher_is_better else "↓"

    @property
    def sign(self) -> float:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        if self.higher_is_better is None:
            return 0.0
        return 1.0 if self.higher_is_better else -1.0


@dataclass(frozen=True)
class Entry:
    """One row of a leaderboard: a cell of a sweep, or somebody's model."""

    key: str
    label: str
    axes: Mapping[str, Any] = field(default_factory=dict)
    mismatch: bool = False
    source: str = ""


@dataclass(frozen=True)
class Summary:
    """A number that stands for a whole set of videos, with the interval it came with, if any.

    n: how many videos it stands for; planned: how many it was meant to, failed ones included.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None
    planned: int | None = None


@dataclass
class Rows:
    """Scores as they were read, before columns are formed and checked.

    `scores` has the columns entry, sample, seed, metric, backend, version, value (NaN where a video
    has no score); `summaries` has entry, metric, backend, version, value, low, high, n, planned,
    level; `videos` has entry, sample, seed, video, status, path, reason; `failures` has entry,
    sample, seed, metric, reason; `samples` has sample, identity, prompt, refs (a list of paths).
    """

    entries: list[Entry]
    scores: pd.DataFrame
    summaries: pd.DataFrame
    videos: pd.DataFrame
    failures: pd.DataFrame
    samples: pd.DataFrame
    meanings: dict[tuple[str, str], Column] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    face_rate: dict[str, float] = field(default_factory=dict)
    has_identities: bool = True
    root: Path | None = None


@dataclass
class Scores:
    """Scores ready to compare: C columns, E entries, K samples.

    values: float [C, E, K], NaN where there is none. planned: bool [C, E, K], whether the entry was
    meant to have a value there. clusters: int [K], the identity of each sample; samples of one
    identity are not independent. keys: one row per sample slot (sample, seed, rest, identity).
    """

    entries: tuple[Entry, ...]
    columns: tuple[Column, ...]
    values: np.ndarray
    planned: np.ndarray
    keys: pd.DataFrame
    clusters: np.ndarray
    summaries: dict[tuple[int, int], Summary]
    videos: pd.DataFrame
    failures: pd.DataFrame
    samples: pd.DataFrame
    absent: dict[str, str]
    face_rate: dict[str, float]
    notes: list[str]
    has_identities: bool = True
    root: Path | None = None


_SCORES = ["entry", "sample", "seed", "metric", "backend", "version", "value"]
_SUMMARIES = [
    "entry",
    "metric",
    "backend",
    "version",
    "value",
    "low",
    "high",
    "n",
    "planned",
    "level",
]
_VIDEOS = ["entry", "sample", "seed", "video", "status", "path", "reason"]
_FAILURES = ["entry", "sample", "seed", "metric", "reason"]
_SAMPLES = ["sample", "identity", "prompt", "refs"]


# --------------------------------------------------------------------------- run folders


def open_store(run: Path) -> sqlite3.Connection:
    """Open a run folder's store for reading only.

    Raises LeaderboardError where there is no store or its schema is from another version.
    """
    path = Path(run) / "store.sqlite"
    if not path.is_file():
        raise LeaderboardError(
            f"{run} has no store.sqlite: give a run folder that `stdrc bench` has written."
        )
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise LeaderboardError(
            f"{path} is not a store of this program ({error}): give another run folder."
        ) from error
    if row is None or str(row[0]) != SCHEMA_VERSION:
        connection.close()
        found = "none" if row is None else row[0]
        raise LeaderboardError(
            f"{path} has schema version {found}, this program reads version {SCHEMA_VERSION}: "
            "use the version of stdrc that wrote it."
        )
    return connection


def read_run(run: str | Path) -> Rows:
    """Read a run folder: its cells as entries, its scores, failures, samples and videos.

    Raises LeaderboardError where the folder has no readable store.
    """
    run = Path(run)
    connection = open_store(run)
    try:
        entries = [
            Entry(
                key=cell,
                label=label or cell[:8],
                axes=json.loads(axes or "{}"),
                mismatch=bool(mismatch),
                source=run.name,
            )
            for cell, label, axes, mismatch in connection.execute(
                "SELECT cell, label, axes, mismatch FROM cells ORDER BY rowid"
            )
        ]
        videos = pd.read_sql_query(
            "SELECT cell AS entry, sample, seed, video, status, path, reason FROM videos "
            "ORDER BY rowid",
            connection,
        )
        samples = pd.read_sql_query(
            "SELECT sample, identity, prompt, refs FROM samples ORDER BY rowid", connection
        )
        scores = pd.read_sql_query(
            "SELECT v.cell AS entry, v.sample, v.seed, s.metric, s.backend, s.version, s.value, "
            "s.status, s.reason FROM scores s JOIN videos v ON v.video = s.video",
            connection,
        )
        # The share of sampled frames with a face, as the identity metrics' details count them.
        rates = connection.execute(
            "SELECT v.cell, AVG(r.rate) FROM videos v JOIN (SELECT video, AVG(1.0 * "
            "json_extract(detail, '$.frames_with_face') / json_extract(detail, '$.frames')) AS rate"
            " FROM scores WHERE metric LIKE 'identity.%' AND detail LIKE '%frames_with_face%' "
            "GROUP BY video) r ON r.video = v.video WHERE r.rate IS NOT NULL GROUP BY v.cell"
        ).fetchall()
        sets = pd.read_sql_query(
            "SELECT cell AS entry, metric, backend, version, value, low, high, n, status, reason "
            "FROM set_scores ORDER BY rowid",
            connection,
        )
        meanings = {
            (metric, backend): Column(
                key=metric,
                metric=metric,
                backend=backend,
                label=label or metric,
                higher_is_better=None if higher is None else bool(higher),
                low=low,
                high=high,
            )
            for metric, backend, label, higher, low, high in connection.execute(
                "SELECT metric, backend, label, higher_is_better, low, high FROM metrics "
                "ORDER BY rowid"
            )
        }
    finally:
        connection.close()
    if not entries:
        raise LeaderboardError(f"{run} has no cells yet: let `stdrc bench` plan the run first.")

    samples["refs"] = [json.loads(refs) if refs else [] for refs in samples["refs"]]
    blank = (samples["identity"].fillna("") == "").to_numpy()
    samples["identity"] = samples["identity"].where(~blank, samples["sample"])
    gone = scores["status"].eq("absent")
    absent = dict(zip(scores.loc[gone, "metric"], scores.loc[gone, "reason"].fillna("")))
    scores = scores[~gone]
    bad = scores["status"].ne("ok") | scores["value"].isna()
    failures = scores.loc[bad, _FAILURES].copy()
    scores = scores.assign(value=scores["value"].astype(float).mask(bad))
    gone = sets["status"].eq("absent")
    absent |= dict(zip(sets.loc[gone, "metric"], sets.loc[gone, "reason"].fillna("")))
    sets = sets[sets["status"].eq("ok") & sets["value"].notna()].assign(
        level="set", planned=sets["n"]
    )
    return Rows(
        entries=entries,
        scores=scores[_SCORES].reset_index(drop=True),
        summaries=sets[_SUMMARIES].reset_index(drop=True),
        videos=videos,
        failures=failures.reset_index(drop=True),
        samples=samples,
        meanings=meanings,
        absent=absent,
        face_rate={cell: float(rate) for cell, rate in rates},
        has_identities=not blank.any(),
        root=run,
    )


# --------------------------------------------------------------------------- tables


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def split_direction(header: str) -> tuple[str, bool | None]:
    """Split a header such as "FID v", "Face-Cur ^" or "FVD ↓" into name and direction.

    The direction is True where higher is better, False where lower is, None where the header does
    not say.
    """
    text = header.strip()
    if text.endswith(_HIGHER):
        return text[:-1].rstrip(), True
    if text.endswith(_LOWER) or re.search(r"\sv$", text):
        return text[:-1].rstrip(), False
    return text, None


def known_direction(metric: str) -> bool | None:
    """Direction of a metric that goes by a widely used name; None where the name is unknown."""
    plain = _plain(metric)
    if plain in KNOWN_DIRECTIONS:
        return KNOWN_DIRECTIONS[plain]
    return next(
        (KNOWN_DIRECTIONS[_plain(p)] for p in metric.split(".") if _plain(p) in KNOWN_DIRECTIONS),
        None,
    )


def read_frame(source: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Load a CSV or Parquet file, or take a frame as it is; returns it with its name."""
    if isinstance(source, pd.DataFrame):
        return source.copy(), "table"
    path = Path(source)
    if not path.is_file():
        raise LeaderboardError(f"{path} does not exist: give a CSV or Parquet file of scores.")
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return pd.read_parquet(path), path.stem
        if path.suffix.lower() in {".csv", ".tsv"}:
            frame = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
            return frame, path.stem
    except (ValueError, OSError) as error:
        raise LeaderboardError(f"{path} could not be read as a table: {error}") from error
    raise LeaderboardError(f"{path} is neither .csv, .tsv nor .parquet: convert it to one of them.")


_LONG = {"metric", "value"}
_ABOUT = {
    "entry", "label", "sample", "seed", "identity", "prompt", "n", "failed", "pending", "face_rate",
    "rank", "rank_sum", "tie_group", "pareto", "status", "reason", "mismatch", "source",
}  # fmt: skip
_SUFFIXES = ("low", "high", "n", "failed", "backend", "version", "rank", "tied_with_best")


def read_table(
    source: str | Path | pd.DataFrame,
    *,
    entry: str | None = None,
    backend: str = "",
    directions: Mapping[str, bool | str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Rows:
    """Read a table of scores made by anybody.

    Four shapes are understood. Long, a score a row: columns entry, metric, value and, where the
    samples are known, sample (with identity, seed, backend, version, status, reason); without
    sample the row is a published mean (with low, high, n). Wide, a video or an entry a row: columns
    entry, optionally sample, identity, seed, and one column a metric, whose header may end in an
    arrow ("FID v", "Face-Cur ^", "FVD ↓"); `<metric>_low`, `_high`, `_n` and `_backend` belong
    to it, and columns called `axis:<name>` are axes. `leaderboard.csv` reads back.

    entry: name of the only entry, where the table has no such column. backend: what measured the
    columns that do not say. directions: metric to True/"higher", False/"lower" or "none". ranges:
    metric to (lowest, highest).

    Raises LeaderboardError naming the column, and the line where there is one.
    """
    frame, name = read_frame(source)
    if frame.empty:
        raise LeaderboardError(f"{name} has no rows: give a table with at least one score.")
    frame.columns = [str(column).strip() for column in frame.columns]
    if "entry" not in frame.columns:
        for other in ("team", "model", "method", "name"):
            if other in frame.columns:
                frame = frame.rename(columns={other: "entry"})
                break
        else:
            if entry is None:
                raise LeaderboardError(
                    f"{name} has no column 'entry' (or team, model, method): add it, or name the "
                    "only entry with entry=."
                )
            frame["entry"] = entry
    if frame["entry"].isna().any():
        line = int(np.flatnonzero(frame["entry"].isna())[0]) + 2
        raise LeaderboardError(f"{name}, line {line}: the entry's name is empty; fill it in.")
    frame["entry"] = frame["entry"].astype(str)
    found: dict[str, bool] = {}
    wide = not _LONG.issubset(frame.columns)
    long = _melt(frame, name, found) if wide else frame
    long = _tidy(long, name, backend)

    words: dict[str, bool | None] = {"higher": True, "lower": False, "none": None}
    stated: dict[str, bool | None] = {}
    for metric, value in (directions or {}).items():
        if not isinstance(value, bool) and str(value).lower() not in words:
            raise LeaderboardError(
                f"the direction of {metric!r} is {value!r}: give 'higher', 'lower' or 'none'."
            )
        stated[metric] = value if isinstance(value, bool) else words[str(value).lower()]
    if wide:  # our own export ranks every column but those without a direction
        ranked = {c[:-5] for c in frame.columns if c.endswith("_rank")}
        for metric in ranked & set(long["metric"].unique()) - set(stated):
            if (frame[f"{metric}_rank"] == 0).all():
                stated[metric] = None
    if "higher_is_better" in long.columns:
        marked = long.dropna(subset=["higher_is_better"]).drop_duplicates("metric")
        found |= {m: bool(h) for m, h in zip(marked["metric"], marked["higher_is_better"])}
    meanings: dict[tuple[str, str], Column] = {}
    for metric, measured in long[["metric", "backend"]].drop_duplicates().itertuples(index=False):
        higher = stated.get(metric, found.get(metric, known_direction(metric)))
        if higher is None and metric not in stated:
            raise LeaderboardError(
                f"{name}: nothing says whether a higher {metric!r} is better; end the header in "
                "' ^' or ' v', or pass directions={...: 'higher'}."
            )
        low, high = (ranges or {}).get(metric, (None, None))
        meanings[metric, measured] = Column(
            metric, metric, measured, label=metric, higher_is_better=higher, low=low, high=high
        )

    axes = [column for column in frame.columns if column.startswith("axis:")]
    first = frame.drop_duplicates("entry")
    entries = [
        Entry(
            key=row["entry"],
            label=str(row["label"]) if "label" in row and pd.notna(row["label"]) else row["entry"],
            axes={a[5:]: row[a] for a in axes if pd.notna(row[a])},
            mismatch=bool(row["mismatch"]) if "mismatch" in row else False,
            source=name,
        )
        for row in first.to_dict("records")
    ]
    rates = first.dropna(subset=["face_rate"]) if "face_rate" in first and wide else first[:0]
    has_samples = "sample" in long.columns
    scores = long[long["sample"].notna()] if has_samples else long[:0].assign(sample=None)
    means = long[long["sample"].isna()] if has_samples else long
    if not wide and len(scores) and len(means):
        raise LeaderboardError(
            f"{name} has rows with and without a sample: split scores and means into two tables."
        )
    scores = scores.assign(sample=scores["sample"].astype(str))
    bad = scores["value"].isna()
    reasons = scores["reason"] if "reason" in scores else pd.Series("", index=scores.index)
    failures = scores.loc[bad, ["entry", "sample", "seed", "metric"]].assign(reason=reasons[bad])
    has_identities = "identity" in scores.columns and bool(scores["identity"].notna().all())
    about = scores.drop_duplicates("sample")
    samples = pd.DataFrame(
        {
            "sample": about["sample"],
            "identity": about["identity"].astype(str) if has_identities else about["sample"],
            "prompt": about["prompt"].fillna("") if "prompt" in about else "",
        }
    ).reset_index(drop=True)
    samples["refs"] = [[] for _ in range(len(samples))]
    means = means[means["value"].notna()]
    return Rows(
        entries=entries,
        scores=scores[_SCORES].reset_index(drop=True),
        summaries=means[_SUMMARIES].reset_index(drop=True),
        videos=pd.DataFrame(columns=_VIDEOS),
        failures=failures.reset_index(drop=True),
        samples=samples,
        meanings=meanings,
        face_rate={row["entry"]: float(row["face_rate"]) for row in rates.to_dict("records")},
        has_identities=has_identities or not len(scores),
    )


def _melt(frame: pd.DataFrame, name: str, found: dict[str, bool]) -> pd.DataFrame:
    """One column a metric -> one row a score; directions seen in headers are added to `found`."""
    headers = {column: split_direction(column) for column in frame.columns}
    names = {plain for plain, _ in headers.values()}

    def belongs(column: str) -> bool:
        stem, _, suffix = column.rpartition("_")
        return (suffix in _SUFFIXES and stem in names) or (
            column.endswith("_tied_with_best") and column[: -len("_tied_with_best")] in names
        )

    metrics = [
        column
        for column, (plain, _) in headers.items()
        if plain not in _ABOUT and not column.startswith("axis:") and not belongs(plain)
    ]
    if not metrics:
        raise LeaderboardError(f"{name} has no column of scores: add at least one metric.")
    about = [c for c in ("entry", "sample", "seed", "identity", "prompt") if c in frame.columns]
    parts = []
    for column in metrics:
        plain, higher = headers[column]
        if higher is not None:
            found[plain] = higher
        part = frame[about].copy()
        part["metric"] = plain
        part["value"] = frame[column]
        for suffix in ("low", "high", "n", "failed", "backend", "version"):
            if f"{plain}_{suffix}" in frame.columns:
                part[suffix] = frame[f"{plain}_{suffix}"]
        if "n" not in part and "n" in frame.columns and "sample" not in frame.columns:
            part["n"] = frame["n"]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _tidy(long: pd.DataFrame, name: str, backend: str) -> pd.DataFrame:
    """Fill the optional columns of a long table and check that values are numbers."""
    long = long.copy()
    for column, default in (("backend", backend), ("version", "")):
        long[column] = default if column not in long else long[column].fillna(default).astype(str)
    long.loc[long["backend"] == "", "backend"] = backend
    if "seed" not in long:
        long["seed"] = 0
    long["seed"] = pd.to_numeric(long["seed"]).fillna(0).astype(int)
    for column in ("value", "low", "high", "n", "failed"):
        if column not in long:
            long[column] = math.nan
        if long[column].dtype.kind in "fiu":
            continue
        numbers = pd.to_numeric(long[column], errors="coerce")
        wrong = numbers.isna() & long[column].notna() & (long[column].astype(str) != "")
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise LeaderboardError(
                f"{name}, {column} of {long['metric'].iloc[at]!r} for "
                f"{long['entry'].iloc[at]!r}: {long[column].iloc[at]!r} is not a number; mend it "
                "or leave it empty."
            )
        long[column] = numbers
    if "status" in long:
        long = long[long["status"].fillna("ok") != "absent"].copy()
        long.loc[long["status"].fillna("ok") != "ok", "value"] = math.nan
    long.loc[~np.isfinite(long["value"].to_numpy(float)), "value"] = math.nan
    long["planned"] = long["n"] + long["failed"].fillna(0)
    long["level"] = "summary"
    return long


# --------------------------------------------------------------------------- forming columns


def combine(parts: Sequence[Rows]) -> Rows:
    """Put several sources side by side; entries that share a key are told apart by their source."""
    if not parts:
        raise LeaderboardError("there is nothing to compare: give at least one run or table.")
    if len(parts) == 1:
        return parts[0]
    seen: set[str] = set()
    renamed: list[Rows] = []
    for number, part in enumerate(parts):
        clash = {e.key for e in part.entries} & seen
        names = {e.key: f"{e.source or number}/{e.key}" if e.key in clash else e.key
                 for e in part.entries}  # fmt: skip
        if len(set(names.values()) | seen) < len(names) + len(seen):
            twice = sorted(set(names.values()) & seen)[0]
            raise LeaderboardError(
                f"the entry {twice!r} is in two sources of the same name: give each run once."
            )
        seen |= set(names.values())
        frames = {
            kind: getattr(part, kind).assign(entry=getattr(part, kind)["entry"].map(names))
            for kind in ("scores", "summaries", "videos", "failures")
        }
        entries = [
            replace(e, key=names[e.key], label=f"{e.source}: {e.label}" if clash else e.label)
            for e in part.entries
        ]
        rates = {names[key]: rate for key, rate in part.face_rate.items()}
        renamed.append(replace(part, entries=entries, face_rate=rates, **frames))
    meanings: dict[tuple[str, str], Column] = {}
    for part in renamed:
        for key, column in part.meanings.items():
            other = meanings.setdefault(key, column)
            if other.higher_is_better != column.higher_is_better:
                raise LeaderboardError(
                    f"the sources disagree on whether a higher {key[0]!r} is better: mend the "
                    "direction in one of them."
                )

    def stack(kind: str) -> pd.DataFrame:
        frames = [getattr(part, kind) for part in renamed]
        return pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)

    samples = stack("samples")
    pairs = samples[["sample", "identity"]].drop_duplicates()
    twice_ = pairs["sample"].duplicated()
    if twice_.any() and all(part.has_identities for part in renamed):
        sample = pairs.loc[twice_, "sample"].iloc[0]
        raise LeaderboardError(
            f"sample {sample!r} has different identities in the sources: they are not the same "
            "sample set, so compare them in separate leaderboards."
        )
    return Rows(
        entries=[entry for part in renamed for entry in part.entries],
        scores=stack("scores"),
        summaries=stack("summaries"),
        videos=stack("videos"),
        failures=stack("failures"),
        samples=samples.drop_duplicates("sample").reset_index(drop=True),
        meanings=meanings,
        absent={m: r for part in renamed for m, r in part.absent.items()},
        face_rate={k: v for part in renamed for k, v in part.face_rate.items()},
        has_identities=all(part.has_identities for part in renamed),
        root=next((part.root for part in renamed if part.root), None),
    )


def group_by(rows: Rows, axis: str) -> Rows:
    """Pool the cells that share a value of `axis` into one entry each.

    A sample then counts once for each combination of the other axes; those combinations become part
    of its key, so that an unbalanced sweep is noticed as a different sample set.
    Raises LeaderboardError where no entry has that axis.
    """
    axes = sorted({name for entry in rows.entries for name in entry.axes})
    if axis not in axes:
        raise LeaderboardError(
            f"no entry has an axis {axis!r}: the axes are {', '.join(axes) or '(none)'}."
        )
    if len(rows.summaries):
        kept = rows.summaries["entry"].nunique()
        rows = replace(rows, summaries=rows.summaries[:0])
        note = {"set-level scores": f"cannot be pooled over an axis ({kept} entries had some)"}
    else:
        note = {}
    pooled: dict[str, list[Entry]] = {}
    rest: dict[str, str] = {}
    for entry in rows.entries:
        if axis not in entry.axes:
            continue
        pooled.setdefault(f"{axis}={axis_text(entry.axes[axis])}", []).append(entry)
        others = {k: v for k, v in entry.axes.items() if k != axis}
        rest[entry.key] = json.dumps(others, sort_keys=True)
    new = {entry.key: key for key, members in pooled.items() for entry in members}

    def move(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame[frame["entry"].isin(list(new))]
        return frame.assign(rest=frame["entry"].map(rest), entry=frame["entry"].map(new))

    rates: dict[str, list[float]] = {}
    for key, rate in rows.face_rate.items():
        if key in new:
            rates.setdefault(new[key], []).append(rate)
    return replace(
        rows,
        entries=[
            Entry(
                key,
                axis_text(members[0].axes[axis]),
                {axis: members[0].axes[axis]},
                any(m.mismatch for m in members),
                members[0].source,
            )
            for key, members in pooled.items()
        ],
        scores=move(rows.scores),
        videos=move(rows.videos),
        failures=move(rows.failures),
        face_rate={key: float(np.mean(some)) for key, some in rates.items()},
        absent=rows.absent | note,
    )


def axis_text(value: Any) -> str:
    """An axis value as people write it: 3 rather than 3.0, on/off rather than true/false."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def assemble(rows: Rows, on_mixed: OnMixed = "refuse", trust_published: bool = False) -> Scores:
    """Form the columns, refuse what cannot be compared, and lay the values out densely.

    on_mixed: "refuse" raises LeaderboardError listing every mixed column; "blank" keeps, in each
    such column, the entries that agree with the majority, and notes why the others are blank.
    trust_published: let means that came without samples stand in a column beside measured ones.
    """
    position = {entry.key: i for i, entry in enumerate(rows.entries)}
    problems: list[str] = []
    labels = {entry.key: entry.label for entry in rows.entries}
    scores = rows.scores
    pairs = pd.concat(
        [
            scores[["entry", "metric", "backend", "version"]]
            .drop_duplicates()
            .assign(level="sample"),
            rows.summaries[["entry", "metric", "backend", "version", "level"]].drop_duplicates(),
        ],
        ignore_index=True,
    )
    columns: list[Column] = []
    dropped: set[tuple[str, str]] = set()  # (entry, metric)
    for metric, group in pairs.groupby("metric", sort=False):
        metric = str(metric)
        levels = {
            str(entry): tuple(sorted(set(part["level"])))
            for entry, part in group.groupby("entry", sort=False)
        }
        if len(set(levels.values())) > 1 and not trust_published:
            out = [e for e, level in levels.items() if level != ("sample",)]
            problems.append(
                f"column {metric!r} would put means published without their samples "
                f"({_some(out, labels)}) beside measured ones, so nobody can tell whether the "
                "sample "
                "sets agree: pass trust_published=True if you know that they do."
            )
            dropped |= {(e, metric) for e in out}
            group = group[~group["entry"].isin(out)]
        versions = {
            str(entry): frozenset(zip(part["backend"], part["version"]))
            for entry, part in group.groupby("entry", sort=False)
        }
        kinds = list(dict.fromkeys(versions.values()))
        counts = {kind: sum(v == kind for v in versions.values()) for kind in kinds}
        chosen = max(kinds, key=lambda kind: counts[kind])
        if len(kinds) > 1:
            out = [e for e, kind in versions.items() if kind != chosen]
            told = "; ".join(
                f"{_backends(kind)} for "
                f"{_some([e for e, v in versions.items() if v == kind], labels)}"
                for kind in kinds
            )
            problems.append(
                f"column {metric!r} would mix backends or versions ({told}): score all "
                "entries with "
                "one backend."
            )
            dropped |= {(e, metric) for e in out}
            group = group[~group["entry"].isin(out)]
        several = len({b for b, _ in chosen}) > 1
        for backend in sorted({b for b, _ in chosen}):
            found = sorted({v for b, v in chosen if b == backend})
            if len(found) > 1:
                problems.append(
                    f"column {metric!r} mixes versions {', '.join(map(repr, found))} of {backend}: "
                    "score all videos with one version."
                )
                continue
            meaning = rows.meanings.get((metric, backend))
            if meaning is None:
                higher = known_direction(metric)
                if higher is None:
                    raise LeaderboardError(
                        f"the store does not say whether a higher {metric!r} ({backend}) is "
                        "better: "
                        "score again with this version of stdrc."
                    )
                meaning = Column(metric, metric, backend, label=metric, higher_is_better=higher)
            kinds_here = set(group.loc[group["backend"] == backend, "level"])
            level: Level = "sample" if "sample" in kinds_here else group["level"].iloc[0]
            label = f"{meaning.label} ({backend})" if several else meaning.label
            columns.append(
                replace(
                    meaning,
                    key=f"{metric}@{backend}" if several else metric,
                    version=found[0],
                    label=label,
                    level=level,
                )
            )
    # The order of rows must not show in the table: columns stand as their meanings do.
    stated = {pair: i for i, pair in enumerate(rows.meanings)}
    columns.sort(key=lambda c: stated.get((c.metric, c.backend), len(stated)))
    slot = {(c.metric, c.backend): i for i, c in enumerate(columns)}

    # Keys of samples: sample and seed, and after pooling the other axes too.
    parts = ["sample", "seed"] + (["rest"] if "rest" in scores.columns else [])
    both = pd.concat([scores[parts], rows.videos[parts]] if len(rows.videos) else [scores[parts]])
    code = np.zeros(len(both), dtype=np.int64)
    for part in parts:
        found_codes, uniques = pd.factorize(both[part])
        code = code * max(len(uniques), 1) + found_codes
    code, _ = pd.factorize(code)
    keys = both.iloc[np.unique(code, return_index=True)[1]].reset_index(drop=True)
    # Sorted, so that the order in which scores arrived does not show in the resampling either.
    order = keys.sort_values(parts, kind="stable").index.to_numpy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    code, keys = place[code], keys.iloc[order].reset_index(drop=True)
    keys = keys.merge(rows.samples[["sample", "identity"]], on="sample", how="left")
    keys["identity"] = keys["identity"].fillna(keys["sample"])
    clusters = pd.factorize(keys["identity"], sort=True)[0]

    shape = (len(columns), len(rows.entries), len(keys))
    values = np.full(shape, np.nan)
    planned = np.zeros(shape, dtype=bool)
    column_code = _lookup(scores, ["metric", "backend"], slot)
    entry_code = scores["entry"].map(position).to_numpy() if len(scores) else np.zeros(0, int)
    keep = column_code >= 0
    if dropped:
        gone_codes = _lookup(scores, ["entry", "metric"], dict.fromkeys(dropped, 1))
        keep &= gone_codes < 0
    at = (column_code[keep], entry_code[keep].astype(int), code[: len(scores)][keep])
    flat = np.ravel_multi_index(at, shape) if keep.any() else np.zeros(0, np.int64)
    count = np.bincount(flat, minlength=1)
    if count.max() > 1:
        c, e, k = np.unravel_index(int(count.argmax()), shape)
        raise LeaderboardError(
            f"entry {rows.entries[e].key!r} has sample {keys['sample'].iloc[k]!r} twice in column "
            f"{columns[c].key!r}: keep one of the two, or tell them apart by a seed."
        )
    values.reshape(-1)[flat] = scores["value"].to_numpy(float)[keep]
    planned.reshape(-1)[flat] = True
    if len(rows.videos):
        video_entry = rows.videos["entry"].map(position).to_numpy().astype(int)
        has = np.asarray(planned.any(axis=2))  # [C, E]
        planned[:, video_entry, code[len(scores) :]] |= has[:, video_entry]

    summaries: dict[tuple[int, int], Summary] = {}
    for row in records(rows.summaries):
        index = slot.get((row["metric"], row["backend"]))
        if index is None or (row["entry"], row["metric"]) in dropped:
            continue
        low, high = (float(row[end]) if pd.notna(row[end]) else math.nan for end in ("low", "high"))
        n, planned_n = (int(row[c]) if pd.notna(row[c]) else None for c in ("n", "planned"))
        summaries[position[row["entry"]], index] = Summary(
            float(row["value"]), low, high, n, planned_n
        )
    problems += _sample_sets(rows, columns, values, planned, summaries, keys)
    if problems and on_mixed == "refuse":
        raise LeaderboardError(" ".join(problems))
    notes = [f"{p[0].upper()}{p[1:]} Those cells are blank here." for p in problems]
    if not rows.has_identities and len(keys):
        notes.append(
            "Some samples name no identity; each of them counts as an identity of its own in the "
            "intervals and tests."
        )
    return Scores(
        entries=tuple(rows.entries),
        columns=tuple(columns),
        values=values,
        planned=planned,
        keys=keys,
        clusters=clusters,
        summaries=summaries,
        videos=rows.videos,
        failures=rows.failures,
        samples=rows.samples,
        absent=rows.absent,
        face_rate=rows.face_rate,
        notes=notes,
        has_identities=rows.has_identities,
        root=rows.root,
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as plain dictionaries."""
    return frame.to_dict("records")  # type: ignore[return-value]


def _lookup(
    frame: pd.DataFrame, names: list[str], table: Mapping[tuple[str, str], int]
) -> np.ndarray:
    """Map two string columns through a table of pairs to ints, -1 where the pair is not in it."""
    if not len(frame):
        return np.zeros(0, dtype=np.int64)
    (a, first), (b, second) = (pd.factorize(frame[name]) for name in names)
    grid = np.array([[table.get((x, y), -1) for y in second] for x in first], dtype=np.int64)
    return grid[a, b]


def _sample_sets(
    rows: Rows,
    columns: list[Column],
    values: np.ndarray,
    planned: np.ndarray,
    summaries: dict[tuple[int, int], Summary],
    keys: pd.DataFrame,
) -> list[str]:
    """Find entries whose sample set differs from the majority's in a column, and blank them."""
    problems = []
    labels = {entry.key: entry.label for entry in rows.entries}
    for c, column in enumerate(columns):
        if column.level == "sample":
            present = np.flatnonzero(planned[c].any(axis=1))
            sets = {int(e): planned[c, e].tobytes() for e in present}
            kinds = list(dict.fromkeys(sets.values()))
            if len(kinds) < 2:
                continue
            chosen = max(kinds, key=lambda kind: sum(s == kind for s in sets.values()))
            out = [e for e, kind in sets.items() if kind != chosen]
            kept = next(e for e, kind in sets.items() if kind == chosen)
            differ = np.flatnonzero(planned[c, out[0]] != planned[c, kept])
            example = keys["sample"].iloc[int(differ[0])]
            problems.append(
                f"column {column.key!r} would mix sample sets: "
                f"{_some([rows.entries[e].key for e in out], labels)} differ(s) from the "
                f"{len(sets) - len(out)} other entries in {len(differ)} samples, such as "
                f"{example!r}: score all entries on the same samples."
            )
            for e in out:
                values[c, e] = np.nan
                planned[c, e] = False
        else:
            sizes = {
                e: s.planned
                for (e, index), s in summaries.items()
                if index == c and s.planned is not None
            }
            if len(set(sizes.values())) < 2:
                continue
            chosen_n = max(sizes.values(), key=lambda n: (sum(m == n for m in sizes.values()), n))
            out = [e for e, n in sizes.items() if n != chosen_n]
            named = ", ".join(f"{labels[rows.entries[e].key]}: N={sizes[e]}" for e in out[:3])
            problems.append(
                f"column {column.key!r} would mix sets of different size ({named}, the others "
                f"N={chosen_n}), and such a score depends on N: use the same samples."
            )
            for e in out:
                del summaries[e, c]
    return problems


def _backends(kind: frozenset[tuple[str, str]]) -> str:
    return ", ".join(
        (backend or "an unstated backend") + (f" {version}" if version else "")
        for backend, version in sorted(kind)
    )


def _some(entries: Sequence[Any], labels: Mapping[str, str], most: int = 3) -> str:
    names = [repr(labels.get(e, e)) for e in entries[:most]]
    more = f" and {len(entries) - most} more" if len(entries) > most else ""
    return ", ".join(names) + more
