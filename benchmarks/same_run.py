"""Whether two runs of one config hold the same videos and the same scores, to the last digit.

    python benchmarks/same_run.py BEFORE AFTER

Videos are matched by their cell's label, sample and seed, and compared by the hash of their bytes;
scores and set-level scores of a metric and backend, by value, status and interval. Prints a row per
metric, and exits with 1 where anything differs. Folders of earlier versions are read as they are.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from pathlib import Path

import pandas as pd

from leaderboards.runfolder import STORE

PLANNED = "JOIN planned USING (video)"
QUERIES = {
    "videos": "SELECT DISTINCT label, sample, seed, sha256, videos.status FROM videos "
    "JOIN cells USING (cell) {planned} WHERE videos.status != 'pending'",
    "scores": "SELECT DISTINCT label, sample, seed, metric, backend, value, scores.status "
    "FROM scores JOIN videos USING (video) JOIN cells USING (cell) {planned}",
    "set_scores": "SELECT label, metric, backend, value, low, high, n, status FROM set_scores "
    "JOIN cells USING (cell)",
}
COUNTS = ["differ", "only_before", "only_after"]
NAMES = ("label", "sample", "seed", "metric", "backend")


def table(run: Path, name: str) -> pd.DataFrame:
    """Rows of the videos that the run's plan holds, one per name."""
    place = (run / STORE).absolute().as_uri()
    with sqlite3.connect(f"{place}?mode=ro", uri=True) as db:
        known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'planned'").fetchone()
        found = pd.read_sql(QUERIES[name].format(planned=PLANNED if known else ""), db)
    return found.set_index([column for column in NAMES if column in found])


def compare(before: Path, after: Path, name: str) -> pd.DataFrame:
    """Per metric and backend, or of all videos: rows, those that differ, those of one side only."""
    old, new = table(before, name), table(after, name)
    both = old.index.intersection(new.index)
    a, b = old.loc[both], new.loc[both]
    differ = ((a != b) & ~(a.isna() & b.isna())).any(axis=1)
    rows = pd.DataFrame({"differ": differ, "only_before": False, "only_after": False}, index=both)
    if "value" in a:
        rows["largest"] = (a["value"] - b["value"]).abs()
    missing = pd.DataFrame({"only_before": True}, index=old.index.difference(both))
    added = pd.DataFrame({"only_after": True}, index=new.index.difference(both))
    every = pd.concat([rows, missing, added]).reset_index()
    every["of"] = name if "metric" not in every else every["metric"] + " " + every["backend"]
    groups = every.groupby("of")
    counted = groups[COUNTS].sum().assign(rows=groups.size())
    return counted.assign(largest=groups["largest"].max()) if "largest" in every else counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    found = pd.concat([compare(given.before, given.after, name) for name in QUERIES])
    print("| | rows | differ | only before | only after | largest difference |")
    print("|---|---|---|---|---|---|")
    for name, row in found.iterrows():
        cells = [row["rows"], *(int(row[count]) for count in COUNTS)]
        cells.append("" if pd.isna(row["largest"]) else f"{row['largest']:.3g}")
        print("|", " | ".join(map(str, [name, *cells])), "|")
    wrong = int(found[COUNTS].to_numpy().sum())
    print(f"\n{'Everything is the same.' if not wrong else f'{wrong} rows are not the same.'}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
