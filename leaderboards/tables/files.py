"""A leaderboard written to files; the same leaderboard gives the same bytes.

Numbers are written with six significant digits, nothing carries a date, and files are written
beside their final name and renamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Leaderboard
from leaderboards.tables.data import to_json
from leaderboards.tables.frame import board_frame, to_csv, to_parquet
from leaderboards.tables.latex import to_latex
from leaderboards.tables.markdown import to_markdown
from media.files import write_atomic

FORMATS = ("csv", "parquet", "json", "md", "tex")


def export(
    board: Leaderboard,
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    sort: str | None = None,
    top: int | None = None,
    intervals: bool = True,
    baseline: str | None = None,
) -> Path:
    """Write the table in the format of the file's ending: .csv, .parquet, .json, .md or .tex.

    CSV, Parquet and JSON hold everything, whatever is chosen; columns, sort, top (see `select`),
    intervals and baseline are for Markdown and LaTeX.

    Raises LeaderboardError where the format is unknown, or a setting is for another format.
    """
    path = Path(path)
    ending = path.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise LeaderboardError(f"{path.name} has an unknown format: use .{', .'.join(FORMATS)}.")
    if ending in ("md", "tex"):
        write = to_markdown if ending == "md" else to_latex
        text = write(board, intervals, columns=columns, sort=sort, top=top, baseline=baseline)
        return write_atomic(path, text.encode())
    if columns or sort or top or baseline or not intervals:
        raise LeaderboardError(
            f"{path.name} holds the whole table: choose columns and rows for .md and .tex."
        )
    if ending == "json":
        return write_atomic(path, to_json(board))
    frame = board_frame(board)
    return write_atomic(path, to_csv(frame) if ending == "csv" else to_parquet(frame))
