"""What a user of the metrics can fix."""

from media.errors import UserError


class MetricsError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""
