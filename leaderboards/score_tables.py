"""Tables of scores made by anybody, long or wide (CSV, Parquet, a data frame), as `Rows`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leaderboards.errors import LeaderboardError
from leaderboards.runfolder import runs_near
from leaderboards.runs import UNSCORED, without_absent
from leaderboards.scores import SCORES, SUMMARIES, VIDEOS, Column, Entry, Rows, plain_name

#: Directions of metric names in wide use, for tables that do not state one. Compared without case
#: and punctuation; a run folder's own `metrics` table always wins.
KNOWN_DIRECTIONS: Mapping[str, bool] = {
    **dict.fromkeys((
        "facecur", "facearc", "facesim", "facesimcur", "facesimarc", "clipscore", "identity",
        "text", "facerate", "userstudy", "points", "subjectconsistency", "backgroundconsistency",
        "temporalflickering", "ssim", "psnr",
    ), True),
    **dict.fromkeys(("fid", "fvd", "kid", "kvd", "lpips", "copypaste", "warpingerror"), False),
}  # fmt: skip

_HIGHER = ("↑", "^")
_LOWER = ("↓",)


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
    names = map(plain_name, (metric, *metric.split(".")))
    return next((KNOWN_DIRECTIONS[name] for name in names if name in KNOWN_DIRECTIONS), None)


def read_frame(source: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Load a CSV or Parquet file, or take a frame as it is; returns it with its name."""
    if isinstance(source, pd.DataFrame):
        return source.copy(), "table"
    path = Path(source)
    if not path.is_file():
        runs = runs_near(path)
        known = f" Runs that are there: {', '.join(runs)}." if runs else ""
        raise LeaderboardError(
            f"{path} does not exist: give a run folder, or a CSV or Parquet file of scores.{known}"
        )
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return pd.read_parquet(path), path.stem
        if path.suffix.lower() in {".csv", ".tsv"}:
            return _read_text(path, "\t" if path.suffix.lower() == ".tsv" else ","), path.stem
    except (ValueError, OSError) as error:
        raise LeaderboardError(f"{path} could not be read as a table: {error}") from error
    raise LeaderboardError(f"{path} is neither .csv, .tsv nor .parquet: convert it to one of them.")


#: Columns whose cells are names: 001 is not 1, and an entry may be called NaN.
_NAMES = {
    "entry", "team", "model", "method", "name", "label", "sample", "identity", "prompt", "metric",
    "backend", "version", "status", "reason", "source", "video", "reference",
}  # fmt: skip
_MISSING = ["", "NaN", "nan", "NA", "N/A", "n/a", "None", "none", "null", "NULL", "<NA>", "#N/A"]
#: An apostrophe that keeps a spreadsheet from taking what follows for a formula.
_DEFUSED = r"^'(?='*[=+\-@\t\r])"


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    """A CSV whose names come back as they were written; the other columns as pandas reads them."""
    about: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig"}
    header = [str(name) for name in pd.read_csv(path, nrows=0, **about).columns]
    texts = {
        name
        for name in header
        if name.strip() in _NAMES
        or name.startswith("axis:")
        or name.endswith(("_backend", "_version", "_direction"))
    }
    frame = pd.read_csv(
        path,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values={name: _MISSING for name in header if name not in texts},
        **about,
    )
    for name in texts:
        cells = frame[name].mask(frame[name] == "")
        if cells.str.startswith("'").any():
            cells = cells.str.replace(_DEFUSED, "", regex=True)
        if name.startswith("axis:"):  # 3 is a number, 003 a name
            numbers = pd.to_numeric(cells, errors="coerce")
            if all(pd.isna(c) or f"{n:g}" == c for n, c in zip(numbers, cells)):
                cells = numbers
        frame[name] = cells
    frame.columns = [re.sub(_DEFUSED, "", str(name)) for name in frame.columns]
    return frame


_LONG = {"metric", "value"}
_ABOUT = {
    "entry", "label", "sample", "seed", "identity", "prompt", "n", "failed", "pending", "face_rate",
    "rank", "rank_sum", "weighted_score", "pareto", "place_low", "place_high", "place_first",
    "place_last", "p_first", "status", "reason", "mismatch", "source", "video", "reference",
}  # fmt: skip
_SUFFIXES = (
    "low", "high", "n", "failed", "backend", "version", "rank", "tied_with_best", "direction",
    "weight", "worst", "best",
)  # fmt: skip
#: How `<metric>_direction` says whether higher is better.
DIRECTIONS: Mapping[bool | None, str] = {True: "higher", False: "lower", None: "none"}


def read_table(
    source: str | Path | pd.DataFrame,
    *,
    entry: str | None = None,
    backend: str = "",
    directions: Mapping[str, bool | str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Rows:
    """Read a table of scores made by anybody.

    Four shapes are understood. Long, one score per row: columns entry, metric, value and, where the
    samples are known, sample (with identity, seed, backend, version, status, reason); without
    sample the row is a published mean (with low, high, n). Wide, one video or entry per row:
    columns entry, optionally sample, identity, seed, and one column per metric, whose header may
    end in an arrow ("FID v", "Face-Cur ^", "FVD ↓"); `<metric>_low`, `_high`, `_n`, `_backend` and
    `_direction` (higher, lower or none is better) belong to it, and columns called `axis:<name>`
    are axes. With samples, the columns video and reference hold paths, absolute or from the table's
    folder, of what the page shows and people vote on. `leaderboard.csv` reads back. Names are taken
    as they are written: 001, NaN, None.

    entry: name of the only entry, where the table has no such column. backend: what measured the
    columns that do not say. directions: metric to True/"higher", False/"lower" or "none". ranges:
    metric to (lowest, highest).

    Raises LeaderboardError naming the column, and the line where there is one.
    """
    frame, name = _with_entries(*read_frame(source), entry)
    found: dict[str, bool] = {}
    wide = not _LONG.issubset(frame.columns)
    long = _melt(frame, name, found) if wide else frame
    absent: dict[str, str] = {}
    unfit: set[tuple[str, str]] = set()
    if {"sample", "status", "reason"} <= set(long.columns):
        long, absent, unfit = without_absent(long)
    long = _tidy(long, name, backend)
    stated = _stated(directions or {})
    first = frame.drop_duplicates("entry")
    if wide:  # our own export ranks every column but those without a direction
        ranked = {c[:-5] for c in frame.columns if c.endswith("_rank")}
        for metric in ranked & set(long["metric"].unique()) - set(stated):
            if (frame[f"{metric}_rank"] == 0).all():
                stated[metric] = None
        said = {value: key for key, value in DIRECTIONS.items()}
        for metric in long["metric"].unique():
            word = first[f"{metric}_direction"].iloc[0] if f"{metric}_direction" in first else None
            if word in said and metric not in (directions or {}):
                stated[metric] = said[word]
    if "higher_is_better" in long.columns:
        marked = long.dropna(subset=["higher_is_better"]).drop_duplicates("metric")
        found |= {m: bool(h) for m, h in zip(marked["metric"], marked["higher_is_better"])}
    meanings = _meanings(long, name, stated, found, ranges or {})
    rates = first.dropna(subset=["face_rate"]) if "face_rate" in first and wide else first[:0]
    has_samples = "sample" in long.columns
    scores = long[long["sample"].notna()] if has_samples else long[:0].assign(sample=None)
    means = long[long["sample"].isna()] if has_samples else long
    if not wide and len(scores) and len(means):
        raise LeaderboardError(
            f"{name} has rows with and without a sample: split scores and means into two tables."
        )
    scores = scores.assign(sample=scores["sample"].astype(str))
    folder = Path() if isinstance(source, pd.DataFrame) else Path(source).parent
    bad = scores["value"].isna()
    reasons = scores["reason"] if "reason" in scores else pd.Series("", index=scores.index)
    failures = scores.loc[bad, ["entry", "sample", "seed", "metric"]].assign(reason=reasons[bad])
    samples, has_identities = _samples(scores, folder)
    # A blank mean with failures in it counts as the worst; without, the entry has none.
    means = means[means["value"].notna() | (means["failed"].fillna(0) > 0)]
    none = pd.Series([()] * len(means), index=means.index, dtype=object)
    return Rows(
        entries=_entries(first, name),
        scores=scores[SCORES].reset_index(drop=True),
        summaries=means.assign(influences=none)[SUMMARIES].reset_index(drop=True),
        videos=_videos(scores, name, folder),
        failures=failures.reset_index(drop=True),
        samples=samples,
        meanings=meanings,
        absent=absent,
        unfit=frozenset((metric, str(sample)) for metric, sample in unfit),
        face_rate={row["entry"]: float(row["face_rate"]) for row in rates.to_dict("records")},
        has_identities=has_identities or not len(scores),
    )


def _with_entries(frame: pd.DataFrame, name: str, entry: str | None) -> tuple[pd.DataFrame, str]:
    """The frame with a filled column `entry`, and its name."""
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
    return frame, name


def _stated(directions: Mapping[str, bool | str]) -> dict[str, bool | None]:
    """Directions that the caller gave, as True, False or None."""
    words = {word: higher for higher, word in DIRECTIONS.items()}
    stated: dict[str, bool | None] = {}
    for metric, value in directions.items():
        if not isinstance(value, bool) and str(value).lower() not in words:
            raise LeaderboardError(
                f"the direction of {metric!r} is {value!r}: give 'higher', 'lower' or 'none'."
            )
        stated[metric] = value if isinstance(value, bool) else words[str(value).lower()]
    return stated


def _meanings(
    long: pd.DataFrame,
    name: str,
    stated: Mapping[str, bool | None],
    found: Mapping[str, bool],
    ranges: Mapping[str, tuple[float, float]],
) -> dict[tuple[str, str], Column]:
    """(metric, backend) -> what it means: as stated, as the table marks it, or by its name."""
    meanings: dict[tuple[str, str], Column] = {}
    for metric, measured in long[["metric", "backend"]].drop_duplicates().itertuples(index=False):
        higher = stated.get(metric, found.get(metric, known_direction(metric)))
        if higher is None and metric not in stated:
            raise LeaderboardError(
                f"{name}: nothing says whether a higher {metric!r} is better; end the header in "
                "' ^' or ' v', or pass directions={...: 'higher'}."
            )
        low, high = ranges.get(metric, (None, None))
        meanings[metric, measured] = Column(
            metric, metric, measured, label=metric, higher_is_better=higher, low=low, high=high
        )
    return meanings


def _entries(first: pd.DataFrame, name: str) -> list[Entry]:
    """Entries of a table, given the first row of each."""
    axes = [column for column in first.columns if column.startswith("axis:")]
    return [
        Entry(
            key=row["entry"],
            label=str(row["label"]) if "label" in row and pd.notna(row["label"]) else row["entry"],
            axes={a[5:]: row[a] for a in axes if pd.notna(row[a])},
            mismatch=bool(row["mismatch"]) if "mismatch" in row else False,
            source=name,
        )
        for row in first.to_dict("records")
    ]


def _path(folder: Path, text: str) -> str:
    return str((folder / Path(text.strip()).expanduser()).absolute())


def _given(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows that have something in a column; none where the table lacks the column."""
    if column not in frame:
        return frame[:0].assign(**{column: ""})
    return frame[frame[column].notna() & (frame[column].astype(str).str.strip() != "")]


def _videos(scores: pd.DataFrame, name: str, folder: Path) -> pd.DataFrame:
    """The video of each entry and sample, as the column `video` has it."""
    named = _given(scores, "video").drop_duplicates(["entry", "sample", "seed", "video"])
    twice = named[named.duplicated(["entry", "sample", "seed"])]
    if len(twice):
        raise LeaderboardError(
            f"{name} names two videos of sample {twice['sample'].iloc[0]!r} of "
            f"{twice['entry'].iloc[0]!r}: keep one, or tell them apart by a column seed."
        )
    paths = [_path(folder, str(video)) for video in named["video"]]
    return named.assign(video=paths, path=paths, status="done", reason="")[VIDEOS].reset_index(
        drop=True
    )


def _samples(scores: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, bool]:
    """What a table says of its samples, and whether it names the identity of each of them.

    A sample without an identity is one of its own; the others keep theirs.
    """
    about = scores.drop_duplicates("sample")
    named = about["identity"] if "identity" in about else pd.Series(None, about.index, dtype=object)
    blank = named.isna() | (named.astype(str).str.strip() == "")
    samples = pd.DataFrame(
        {
            "sample": about["sample"],
            "identity": named.astype(str).mask(blank, about["sample"]),
            "prompt": about["prompt"].fillna("") if "prompt" in about else "",
        }
    ).reset_index(drop=True)
    shown = _given(scores, "reference").drop_duplicates("sample")
    refs = {s: [_path(folder, str(ref))] for s, ref in zip(shown["sample"], shown["reference"])}
    samples["refs"] = [refs.get(sample, []) for sample in samples["sample"]]
    samples["timeline"] = [[] for _ in range(len(samples))]
    return samples, not blank.any()


def _melt(frame: pd.DataFrame, name: str, found: dict[str, bool]) -> pd.DataFrame:
    """One column per metric -> one row per score; directions in headers are added to `found`."""
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
    about = [
        c
        for c in ("entry", "sample", "seed", "identity", "prompt", "video", "reference")
        if c in frame.columns
    ]
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
                f"{long['entry'].iloc[at]!r}: {long[column].iloc[at]!r} is not a number; fix it "
                "or leave it empty."
            )
        long[column] = numbers
    if "status" in long:
        long = long[~long["status"].isin(UNSCORED)].copy()
        long.loc[long["status"].fillna("ok") != "ok", "value"] = math.nan
    long.loc[~np.isfinite(long["value"].to_numpy(float)), "value"] = math.nan
    long["planned"] = long["n"] + long["failed"].fillna(0)
    long["level"] = "summary"
    return long
