"""People's votes on pairs of videos: collected blind, counted, fitted, and how far raters agree."""

from leaderboards.votes.agreement import agreement, krippendorff_alpha, left_share
from leaderboards.votes.ballots import QUESTIONS, VoteFile, read_votes
from leaderboards.votes.plan import VotePlan, plan_votes
from leaderboards.votes.strengths import bradley_terry, rater_spread, vote_points

__all__ = [
    "QUESTIONS",
    "VoteFile",
    "VotePlan",
    "agreement",
    "bradley_terry",
    "krippendorff_alpha",
    "left_share",
    "plan_votes",
    "rater_spread",
    "read_votes",
    "vote_points",
]
