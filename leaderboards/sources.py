"""A source of scores, a run folder or a table, as `Rows`."""

from __future__ import annotations

from pathlib import Path

from leaderboards.runs import read_run
from leaderboards.score_tables import read_table
from leaderboards.scores import Rows


def read_source(source: str | Path | Rows) -> Rows:
    """Read a run folder or a table of scores; rows already read are taken as they are."""
    if isinstance(source, Rows):
        return source
    return read_run(source) if Path(source).is_dir() else read_table(source)
