"""What a user of the bench can fix."""

from media import errors
from media.errors import UserError


class BenchError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(BenchError, errors.UnknownNameError):
    """A name that this package doesn't know."""


class TooManyFailuresError(BenchError):
    """A run that stopped because too much of it failed; finished work is kept."""
