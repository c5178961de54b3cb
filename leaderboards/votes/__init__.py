"""People's votes on pairs of videos: collected blind, counted, fitted, and how far raters agree."""

from leaderboards.votes.strengths import agreement, bradley_terry, read_votes, vote_points

__all__ = ["agreement", "bradley_terry", "read_votes", "vote_points"]
