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
    "basics", "table", "weights", "plot", "guidance", "ablations", "samples", "failures", "earlier",
    "start",
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
    tables: ablations to show, all of them if not given. runs: the run folders and tables that the
    board's entries are from, where there are several.

    Raises LeaderboardError where two runs have the same name.
    """
    folder = Path(folder)
    if media not in ("link", "copy"):
        raise LeaderboardError(f"media is {media!r}: choose one of 'link', 'copy'.")
    names = [Path(run).stem if Path(run).is_file() else Path(run).absolute().name for run in runs]
    if twice := [
        name for run, name in zip(runs, names) if names.count(name) > 1 and not Path(run).is_file()
    ]:
        raise LeaderboardError(
            f"two of the runs are called {twice[0]!r}, so their entries would look alike: rename "
            "one."
        )
    root = board.scores.root
    if not names and root is not None:
        names = [root.absolute().name]
    title = title or " and ".join(dict.fromkeys(names)) or "Leaderboard"
    data = page_data(board, ablations(board) if tables is None else tables)
    beside = ("leaderboard.csv", "leaderboard.parquet", "leaderboard.json", "leaderboard.tex")
    data["files"] = [name for name in beside if (folder / name).is_file()]
    write_samples(board, folder, media)
    parts = {
        "title": html.escape(title),
        "css": _asset("page.css"),
        "js": "\n".join(_asset(f"js/{name}.js") for name in SCRIPTS),
        "data": inline_json(data),
    }
    page = re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], _asset("page.html"))
    return write_atomic(folder / "index.html", page.encode())
