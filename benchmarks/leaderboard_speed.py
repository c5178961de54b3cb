"""How long score rows take to become a full leaderboard with 1,000 bootstrap draws.

    python benchmarks/leaderboard_speed.py

A million rows, 100 entries x 10 columns x 1,000 samples of 200 identities, and 200 entries x 500
samples, each in Parquet and in a run folder's store. "Full" is what the report writes without
figures: means with intervals, places with theirs and P(first), the decided order, paired tests
against the best of every column, the front, and the CSV. Exits with 1 if a million rows take 10 s
or the others 5 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from leaderboards.leaderboard import Leaderboard
from leaderboards.runfolder import create, insert
from leaderboards.tables import board_frame, to_csv


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
    names = [
        "identity.arcface",
        "text.clip",
        "identity.arcface.consistency",
        *(f"quality.{i}" for i in range(columns - 3)),
    ]
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
    db = create(run)
    people = rows[["sample", "identity"]].drop_duplicates()
    videos = rows["entry"] + "/" + rows["sample"]
    once = rows.assign(video=videos)[~videos.duplicated()]
    with db:
        insert(
            db,
            "cells",
            (
                {"cell": e, "label": e, "axes": json.dumps({"entry": e}), "mismatch": 0}
                for e in rows["entry"].unique()
            ),
        )
        insert(
            db,
            "samples",
            ({"sample": s, "identity": i} for s, i in people.itertuples(index=False, name=None)),
        )
        insert(
            db,
            "videos",
            (
                {"video": v, "cell": e, "sample": s, "seed": 0, "status": "done", "seconds": 1.0}
                for v, e, s in zip(once["video"], once["entry"], once["sample"])
            ),
        )
        insert(db, "planned", ({"video": v, "config": "bench"} for v in once["video"]))
        insert(
            db,
            "scores",
            (
                {
                    "video": v,
                    "metric": m,
                    "backend": "synthetic",
                    "version": "1",
                    "value": value,
                    "status": "ok",
                }
                for v, m, value in zip(videos, rows["metric"], rows["value"])
            ),
        )
        insert(
            db,
            "metrics",
            (
                {
                    "metric": m,
                    "backend": "synthetic",
                    "label": m,
                    "higher_is_better": 1,
                    "low": 0.0,
                    "high": 1.0,
                }
                for m in rows["metric"].unique()
            ),
        )
    db.close()


def measure(
    entries: int, columns: int, samples: int, identities: int, draws: int, most: float
) -> bool:
    """Print the times of one size; whether each source took less than `most` seconds."""
    rows = make_rows(entries, columns, samples, identities)
    print(f"{len(rows):,} rows, {entries} entries x {columns} columns, {draws} draws")
    kept = True
    with tempfile.TemporaryDirectory() as scratch:
        table, run = Path(scratch) / "scores.parquet", Path(scratch) / "run"
        rows.to_parquet(table)
        write_store(rows, run)
        directions = dict.fromkeys(rows["metric"].unique(), "higher")
        for name, build in (
            ("Parquet", lambda: Leaderboard.from_table(
                table, directions=directions, draws=draws)),
            ("store", lambda: Leaderboard.from_run(run, draws=draws)),
        ):  # fmt: skip
            start, worked = time.perf_counter(), time.process_time()
            board = build()
            built = time.perf_counter()
            places = board.standings
            placed = time.perf_counter()
            size = len(to_csv(board_frame(board)))
            end, spent = time.perf_counter(), time.process_time() - worked
            print(
                f"  {name:8s} read and intervals {built - start:5.2f} s, places "
                f"{placed - built:5.2f} s, tests and CSV {end - placed:5.2f} s, together "
                f"{end - start:5.2f} s (processor {spent:.2f} s; {size:,} bytes of CSV; first: "
                f"{board.entries[0].label} {places[0].text}, P {places[0].p_first:.2f})"
            )
            kept &= end - start < most
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    kept = [
        measure(100, 10, 1000, 200, draws, 10.0),
        measure(200, 4, 500, 100, draws, 5.0),
    ]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
