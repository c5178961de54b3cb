"""How long score rows take to become a full leaderboard with 1,000 bootstrap draws, and a report.

    python benchmarks/leaderboard_speed.py
    python benchmarks/leaderboard_speed.py --report 10000

A million rows, 100 entries x 10 columns x 1,000 samples of 200 identities, and 200 entries x 500
samples, each in Parquet and in a run folder's store. "Full" is what the report writes without
figures: means with intervals, places with theirs and P(first), the decided order, paired tests
against the best of every column, the front, and the CSV. Exits with 1 if a million rows take 10 s
or the others 5 s. `--report` writes everything that `stdrc leaderboard report` does, the page and
the figures too, of a sweep of so many entries over eight people; exits with 1 if that takes 120 s.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from leaderboards.leaderboard import Leaderboard
from leaderboards.report import write_report
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
        + min(0.002, 0.4 / entries) * e
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


def sweep_axes(number: int) -> dict[str, object]:
    """Settings of entry `number` of a sweep over axes of 4, 10, 10 and any number of values."""
    rest, placement = divmod(number, 4)
    rest, text = divmod(rest, 10)
    steps, reference = divmod(rest, 10)
    placements = ("tass", "overlap", "spatial", "far")
    return {
        "placement": placements[placement],
        "text": 1.0 + text / 2,
        "reference": 1.0 + reference / 2,
        "steps": 4 + steps,
    }


def filled(
    names: str, rows: Iterable[Iterable[object]], **same: object
) -> Iterator[dict[str, object]]:
    """Rows by the names of their columns, and what is the same in all of them."""
    return ({**dict(zip(names.split(), row)), **same} for row in rows)


def write_store(rows: pd.DataFrame, run: Path, sweep: bool = False) -> None:
    """The same rows as a run folder's store; sweep: the entries are settings of a grid."""
    run.mkdir()
    db = create(run)
    people = rows[["sample", "identity"]].drop_duplicates()
    videos = rows["entry"] + "/" + rows["sample"]
    once = rows.assign(video=videos)[~videos.duplicated()]
    named = [
        (e, sweep_axes(i) if sweep else {"entry": e}) for i, e in enumerate(rows["entry"].unique())
    ]
    shown = ((e, " ".join(map(str, axes.values())), json.dumps(axes)) for e, axes in named)
    made = zip(once["video"], once["entry"], once["sample"])
    scored = zip(videos, rows["metric"], rows["value"])
    columns = ((m, m) for m in rows["metric"].unique())
    of: dict[str, object] = {"backend": "synthetic"}
    meaning = {"higher_is_better": 1, "low": 0.0, "high": 1.0}
    with db:
        insert(db, "cells", filled("cell label axes", shown, mismatch=0))
        insert(db, "samples", filled("sample identity", people.itertuples(index=False)))
        insert(db, "videos", filled("video cell sample", made, seed=0, status="done", seconds=1.0))
        insert(db, "planned", filled("video", zip(once["video"]), config="bench"))
        insert(db, "scores", filled("video metric value", scored, **of, version="1", status="ok"))
        insert(db, "metrics", filled("metric label", columns, **meaning, **of))
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


def measure_report(entries: int, most: float) -> bool:
    """Print the time of a whole report; whether it took less than `most` seconds."""
    rows = make_rows(entries, 5, 8, 8)
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        write_store(rows, run, sweep=True)
        start, worked = time.perf_counter(), time.process_time()
        paths = write_report(run)
        spent, cpu = time.perf_counter() - start, time.process_time() - worked
        size = sum(path.stat().st_size for path in (run / "leaderboard").rglob("*.*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{entries:,} entries x 8 samples x 5 columns: {len(paths)} files, {size / 1e6:.0f} MB, "
        f"in {spent:.1f} s (processor {cpu:.1f} s, {peak:.1f} GiB)"
    )
    return spent < most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--report", type=int, metavar="N", help="a report of N entries instead")
    options = parser.parse_args()
    draws = options.draws
    if options.report:
        return int(not measure_report(options.report, 120.0))
    kept = [measure(100, 10, 1000, 200, draws, 10.0), measure(200, 4, 500, 100, draws, 5.0)]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
