"""What a user of the metrics can mend."""


class MetricsError(ValueError):
    """A one-sentence problem that says what is wrong, where, and what to do."""
