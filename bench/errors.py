"""What a user of the bench can mend."""


class BenchError(ValueError):
    """A one-sentence problem that says what is wrong, where, and what to do."""
