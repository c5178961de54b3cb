"""What a user of the miniature can fix."""

from media.errors import UserError


class MiniatureError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""
