"""How long a million score rows take to become a full leaderboard with 1,000 bootstrap draws.

    python benchmarks/leaderboard_speed.py

The rows are those of a table: 100 entries x 10 columns x 1,000 samples of 200 identities, in
Parquet and in a run folder's store. "Full" is what the report writes without figures: means with
intervals, ranks, paired tests against the best of every column, tie groups, the front, and the CSV.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from leaderboards.leaderboard import Leaderboard
from leaderboards.tables.formats import to_csv

SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE cells(cell TEXT PRIMARY KEY, label TEXT, axes TEXT, mismatch INTEGER);
CREATE TABLE samples(sample TEXT PRIMARY KEY, identity TEXT, prompt TEXT, refs TEXT, target TEXT,
    timeline TEXT);
CREATE TABLE videos(video TEXT PRIMARY KEY, cell TEXT, sample TEXT, seed INTEGER, status TEXT,
    path TEXT, sha256 TEXT, reason TEXT, seconds REAL);
CREATE TABLE scores(video TEXT, metric TEXT, backend TEXT, version TEXT, value REAL, status TEXT,
    reason TEXT, detail TEXT, PRIMARY KEY (video, metric, backend)) WITHOUT ROWID;
CREATE TABLE set_scores(cell TEXT, metric TEXT, backend TEXT, version TEXT, value REAL, low REAL,
    high REAL, n INTEGER, status TEXT, reason TEXT, PRIMARY KEY (cell, metric, backend));
CREATE TABLE metrics(metric TEXT, backend TEXT, label TEXT, higher_is_better INTEGER, low REAL,
    high REAL, PRIMARY KEY (metric, backend));
"""


def make_rows(entries: int, columns: int, samples: int, identities: int) -> pd.DataFrame:
    """Long rows of synthetic scores with an entry, an identity and a noise part."""
    rng = np.random.default_rng(0)
    e, c, k = (
        a.ravel()
        for a in np.meshgrid(*(np.arange(n) for n in (entries, columns, samples)), indexing="ij")
    )
    person = k % identities
    value = (
        0.5
        + 0.002 * e
        + rng.normal(0, 0.05, (columns, identities))[c, person]
        + rng.normal(0, 0.1, len(e))
    )
    names = ["identity.arcface", "text.clip", *(f"quality.{i}" for i in range(columns - 2))]
    return pd.DataFrame(
        {
            "entry": np.array([f"entry{i:03d}" for i in range(entries)])[e],
            "sample": np.array([f"sample{i:05d}" for i in range(samples)])[k],
            "identity": np.array([f"id{i:04d}" for i in range(identities)])[person],
            "metric": np.array(names)[c],
            "backend": "synthetic",
            "value": value,
        }
    )


def write_store(rows: pd.DataFrame, run: Path) -> None:
    """The same rows as a run folder's store."""
    run.mkdir()
    db = sqlite3.connect(run / "store.sqlite")
    db.executescript(SCHEMA)
    db.execute("INSERT INTO meta VALUES ('schema_version', '1')")
    db.executemany(
        "INSERT INTO cells VALUES (?, ?, ?, 0)",
        ((e, e, json.dumps({"entry": e})) for e in rows["entry"].unique()),
    )
    people = rows[["sample", "identity"]].drop_duplicates()
    db.executemany(
        "INSERT INTO samples VALUES (?, ?, '', '[]', NULL, NULL)",
        people.itertuples(index=False, name=None),
    )
    videos = rows["entry"] + "/" + rows["sample"]
    once = ~videos.duplicated()
    db.executemany(
        "INSERT INTO videos VALUES (?, ?, ?, 0, 'done', NULL, NULL, NULL, 1.0)",
        zip(videos[once], rows["entry"][once], rows["sample"][once]),
    )
    db.executemany(
        "INSERT INTO scores VALUES (?, ?, 'synthetic', '1', ?, 'ok', '', '{}')",
        zip(videos, rows["metric"], rows["value"]),
    )
    db.executemany(
        "INSERT INTO metrics VALUES (?, 'synthetic', ?, 1, 0.0, 1.0)",
        ((m, m) for m in rows["metric"].unique()),
    )
    db.commit()
    db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=100)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--identities", type=int, default=200)
    parser.add_argument("--draws", type=int, default=1000)
    o = parser.parse_args()
    rows = make_rows(o.entries, o.columns, o.samples, o.identities)
    print(f"{len(rows):,} rows, {o.entries} entries x {o.columns} columns, {o.draws} draws")
    with tempfile.TemporaryDirectory() as scratch:
        table, run = Path(scratch) / "scores.parquet", Path(scratch) / "run"
        rows.to_parquet(table)
        write_store(rows, run)
        directions = dict.fromkeys(rows["metric"].unique(), "higher")
        for name, build in (
            ("Parquet", lambda: Leaderboard.from_table(
                table, directions=directions, draws=o.draws)),
            ("store", lambda: Leaderboard.from_run(run, draws=o.draws)),
        ):  # fmt: skip
            start, worked = time.perf_counter(), time.process_time()
            board = build()
            built = time.perf_counter()
            frame = board.to_frame()
            size = len(to_csv(frame))
            end, spent = time.perf_counter(), time.process_time() - worked
            print(
                f"  {name:8s} read and intervals {built - start:5.2f} s, tests and CSV "
                f"{end - built:5.2f} s, together {end - start:5.2f} s (processor {spent:.2f} s; "
                f"{size:,} bytes of CSV)"
            )


if __name__ == "__main__":
    main()
