"""The report of a run: every table, ablation, figure and the page, in `run/leaderboard/`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leaderboards.ablations import Ablation, ablations
from leaderboards.effects import Effect, effects_frame, every_effect
from leaderboards.figures import ablation_figure, file_name, guidance_figure, identity_text_figure
from leaderboards.leaderboard import Leaderboard
from leaderboards.page import write_page
from leaderboards.tables import (
    ablation_frame,
    ablation_latex,
    board_frame,
    earlier_frame,
    effects_latex,
    export,
    to_csv,
    to_json,
    to_parquet,
)
from leaderboards.tables.picture import write_picture
from leaderboards.tables.text import PRINTED
from media.files import write_atomic


def load(*sources: str | Path, **settings: Any) -> Leaderboard:
    """The leaderboard of runs, and of tables of scores beside them, as the report shows it.

    Cells that cannot be compared are left blank.

    A long run should not end in a refused table; what was left blank, and why, is in the board's
    notes, which every export carries.
    """
    return Leaderboard.from_sources(sources, **{"on_mixed": "blank", **settings})


def write_ablations(
    board: Leaderboard,
    tables: list[Ablation],
    found: list[Effect],
    folder: Path,
    picture: bool = False,
) -> list[Path]:
    """Write effects.csv and .tex, and `ablation_<axis>.csv` and `.tex` of each; returns the paths.

    picture: write effects.pdf and .png too, which needs LaTeX.
    """
    paths = []
    if found:
        paths.append(write_atomic(folder / "effects.csv", to_csv(effects_frame(found))))
    if picture:
        paths += write_picture(effects_latex(board, found, document=True), folder / "effects.tex")
    elif any(effect.where == "marginal" for effect in found):
        paths.append(write_atomic(folder / "effects.tex", effects_latex(board, found).encode()))
    for table in tables:
        name = f"ablation_{file_name(table.axis)}"
        paths.append(write_atomic(folder / f"{name}.csv", to_csv(ablation_frame(table))))
        paths.append(write_atomic(folder / f"{name}.tex", ablation_latex(table).encode()))
    return paths


def write_figures(
    board: Leaderboard, tables: list[Ablation], folder: Path, shows: bytes
) -> list[Path]:
    """Write the figures that the table has columns and axes for; returns the paths.

    Drawing takes longer than everything else together, so figures of unchanged numbers are kept:
    `figures/drawn.json` names the files and the hash of what they show. shows: the board as JSON.
    """
    shown = hashlib.sha256(shows)
    for table in tables:
        shown.update(table.caption.encode() + to_json(table.board))
    record = folder / "drawn.json"
    if record.is_file():
        drawn = json.loads(record.read_text())
        kept = [folder / name for name in drawn["files"]]
        if drawn["shows"] == shown.hexdigest() and all(path.is_file() for path in kept):
            return kept
    paths = []
    if board.axis_columns() is not None:
        paths += identity_text_figure(board, folder)
    paths += guidance_figure(board, folder)
    for table in tables:
        paths += ablation_figure(table, folder)
    drawn = {"shows": shown.hexdigest(), "files": [path.name for path in paths]}
    write_atomic(record, (json.dumps(drawn, indent=1) + "\n").encode())
    return paths


def write_report(
    run: str | Path,
    board: Leaderboard | None = None,
    folder: str | Path | None = None,
    more: Sequence[str | Path] = (),
) -> list[Path]:
    """Write everything that a run's scores have to say, and return the paths.

    run: the run folder, or the first of several sources. board: their leaderboard, where the caller
    has it already. folder: where to, `run/leaderboard` if not given. more: further run folders and
    tables of scores beside the first. The same stores give the same bytes.

    Raises LeaderboardError where a run has no readable store.
    """
    sources = [Path(run), *map(Path, more)]
    board = load(*sources) if board is None else board
    folder = sources[0] / "leaderboard" if folder is None else Path(folder)
    runs = sources if len(sources) > 1 else ()
    tables = ablations(board)
    frame, shows = board_frame(board), to_json(board)
    written = {"csv": to_csv(frame), "parquet": to_parquet(frame), "json": shows}
    paths = [write_atomic(folder / f"leaderboard.{kind}", b) for kind, b in written.items()]
    paths += [export(board, folder / f"leaderboard.{e}", top=PRINTED) for e in ("md", "tex")]
    earlier = folder / "earlier.csv"
    earlier.unlink(missing_ok=True)
    if board.earlier:
        paths.append(write_atomic(earlier, to_csv(earlier_frame(board))))
    paths += write_ablations(board, tables, every_effect(board), folder)
    paths += write_figures(board, tables, folder / "figures", shows)
    paths.append(write_page(board, folder, tables=tables, runs=runs))
    return paths


def pair_sentences(board: Leaderboard, most: int = 12) -> list[str]:
    """One sentence per pair of entries and column with samples that counts in the order.

    Where none of them counts, each that is not a diagnostic is told.

    "Identity (dlib): ours is better than theirs, +0.031 [+0.010, +0.052], p = 0.012 over 8
    samples of 4 identities." p stands against the largest difference of all pairs.
    """
    out = []
    sampled = [c for c in board.columns if c.level == "sample" and c.sign and not c.diagnostic]
    counted = [c for c in sampled if board.columns.index(c) in board.scheme.columns]
    for column in (counted or sampled) if len(board.entries) > 1 else ():
        for row in board.compare(column.key).to_dict("records"):
            a, b = row["a"], row["b"]
            if column.sign * row["difference"] < 0:
                a, b, row["difference"] = b, a, -row["difference"]
                row["low"], row["high"] = -row["high"], -row["low"]
            told = f"{a} is better than {b}" if row["decided"] else f"{a} over {b} is not decided"
            if math.isnan(row["low"]):
                few = f"{row['identities']} identities are too few for an interval."
                one = "all samples are of one identity, which tells nothing of others."
                why = one if row["identities"] == 1 else few
                out.append(f"{column.title}: {told}, {row['difference']:+.3g}; {why}")
                continue
            out.append(
                f"{column.title}: {told}, {row['difference']:+.3g} [{row['low']:+.3g}, "
                f"{row['high']:+.3g}], p = {row['p_adjusted']:.3g} over {row['n']} samples of "
                f"{row['identities']} identities."
            )
    if len(out) > most:
        out[most:] = [f"{len(out) - most} more pairs: 'stdrc leaderboard compare RUN --column C'."]
    return out
