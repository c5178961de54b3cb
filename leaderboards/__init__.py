"""From scores to what people publish: ranked tables, ablations, a page, votes, submission archives.

Names are imported when they are first used, so that a command line that only wants an error class
does not wait for pandas.

>>> from leaderboards import Leaderboard, bradley_terry, pack_submission, check_submission
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from leaderboards.errors import LeaderboardError

if TYPE_CHECKING:
    from leaderboards.ablations import Ablation, ablation
    from leaderboards.leaderboard import Cell, Leaderboard
    from leaderboards.scores import Column, Entry
    from leaderboards.submission import FORMATS, check_submission, pack_submission
    from leaderboards.votes import agreement, bradley_terry, read_votes, vote_points

_HOMES = {
    "Ablation": "ablations",
    "Cell": "leaderboard",
    "Column": "scores",
    "Entry": "scores",
    "FORMATS": "submission",
    "Leaderboard": "leaderboard",
    "ablation": "ablations",
    "agreement": "votes",
    "bradley_terry": "votes",
    "check_submission": "submission",
    "pack_submission": "submission",
    "read_votes": "votes",
    "vote_points": "votes",
}

__all__ = [
    "FORMATS",
    "Ablation",
    "Cell",
    "Column",
    "Entry",
    "Leaderboard",
    "LeaderboardError",
    "ablation",
    "agreement",
    "bradley_terry",
    "check_submission",
    "pack_submission",
    "read_votes",
    "vote_points",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'leaderboards' has no attribute {name!r}")
    return getattr(import_module(f"leaderboards.{_HOMES[name]}"), name)
