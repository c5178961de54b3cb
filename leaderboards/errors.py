"""What a user of the leaderboards can fix."""

from media.errors import UserError


class LeaderboardError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""
