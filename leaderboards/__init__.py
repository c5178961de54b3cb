"""From scores to what people publish: ranked tables, ablations, a page, votes, submission archives.

>>> from leaderboards import Leaderboard, bradley_terry, pack_submission, check_submission
"""

from leaderboards.ablations import Ablation, ablation, ablations
from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Cell, Leaderboard
from leaderboards.scores import Column, Entry
from leaderboards.submission import FORMATS, check_submission, pack_submission
from leaderboards.votes import bradley_terry, read_votes, vote_points

__all__ = [
    "FORMATS",
    "Ablation",
    "Cell",
    "Column",
    "Entry",
    "Leaderboard",
    "LeaderboardError",
    "ablation",
    "ablations",
    "bradley_terry",
    "check_submission",
    "pack_submission",
    "read_votes",
    "vote_points",
]
