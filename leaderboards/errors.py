"""What a user of the leaderboards can mend."""


class LeaderboardError(ValueError):
    """A one-sentence problem that says what is wrong, where, and what to do."""
