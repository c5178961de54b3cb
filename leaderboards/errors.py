"""What a user of the leaderboards can fix."""

from media import errors
from media.errors import UserError


class LeaderboardError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(LeaderboardError, errors.UnknownNameError):
    """A name that this package doesn't know."""


class UnreadableVideoError(LeaderboardError, errors.UnreadableVideoError):
    """A submission's video that can't be played to its last frame."""


class UnrankableError(LeaderboardError):
    """A table that lacks what the wished order needs: a column, its direction or its range."""


class IncompleteEntryError(LeaderboardError):
    """An entry that lacks videos which a submission wants, or has other ones."""


class ScoresMovedError(LeaderboardError):
    """Re-encoding for a submission moved a score by more than the tolerance."""
