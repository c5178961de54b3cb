"""What a user of the miniature can fix."""

from media import errors
from media.errors import UserError


class MiniatureError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(MiniatureError, errors.UnknownNameError):
    """A name that this package doesn't know."""
