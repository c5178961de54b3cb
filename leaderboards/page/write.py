"""The page's files: `index.html` with tables and plots, `samples.js` and its pieces, pictures.

The page opens from the disk, without a server, and asks for nothing outside its folder and the run
folders beside it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from leaderboards.ablations import Ablation, ablations
from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Leaderboard
from leaderboards.page.data import inline_json, page_data
from leaderboards.page.samples import Media, write_samples
from media.files import write_atomic

#: In the order in which they are put together; each is a part of one function.
SCRIPTS = (
    "basics", "table", "weights", "plot", "guidance", "ablations", "samples", "failures", "start"
)  # fmt: skip


def _asset(name: str) -> str:
    return (resources.files("leaderboards.page") / "assets" / name).read_text(encoding="utf-8")


def write_page(
    board: Leaderboard,
    folder: str | Path,
    *,
    title: str | None = None,
    media: Media = "link",
    tables: Sequence[Ablation] | None = None,
    runs: Sequence[str | Path] = (),
) -> Path:
    """Write `index.html`, the samples and the reference images into `folder`; returns the page.

    title: the run folder's name if not given. media: "link" points at the run folders' videos, so
    the page has to stay beside them; "copy" puts them into `folder`, which can then be sent around.
    tables: ablations to show, all of them if not given. runs: the run folders that the board's
    entries are from, where there are several.

    Raises LeaderboardError where two runs have the same name, or a video's path leaves its run.
    """
    folder = Path(folder)
    if media not in ("link", "copy"):
        raise LeaderboardError(f"media is {media!r}: choose one of 'link', 'copy'.")
    roots = {Path(run).absolute().name: Path(run) for run in runs}
    if len(roots) < len(runs):
        names = sorted(Path(run).absolute().name for run in runs)
        twice = next(name for name in names if names.count(name) > 1)
        raise LeaderboardError(
            f"two of the runs are called {twice!r}, so their entries would look alike: rename one."
        )
    root = board.scores.root if not runs else None
    if root is not None:
        roots = {root.absolute().name: root}
    title = title or " and ".join(roots) or "Leaderboard"
    data = page_data(board, ablations(board) if tables is None else tables)
    beside = ("leaderboard.csv", "leaderboard.parquet", "leaderboard.json", "leaderboard.tex")
    data["files"] = [name for name in beside if (folder / name).is_file()]
    # An entry's source is its run's name, as the folder was given; "." has none.
    by_source = {e.source: root for e in board.entries} if root is not None else roots
    write_samples(board, folder, media, by_source)
    parts = {
        "title": html.escape(title),
        "css": _asset("page.css"),
        "js": "\n".join(_asset(f"js/{name}.js") for name in SCRIPTS),
        "data": inline_json(data),
    }
    page = re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], _asset("page.html"))
    return write_atomic(folder / "index.html", page.encode())
