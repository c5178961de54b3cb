"""What a user of the bench can fix."""

from media import errors
from media.errors import UserError


class BenchError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(BenchError, errors.UnknownNameError):
    """A name that this package doesn't know."""


class TooManyFailuresError(BenchError):
    """A run stopped itself because more of it failed than it may; what is done is kept."""
