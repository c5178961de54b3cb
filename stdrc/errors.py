"""What a user of the generator can mend."""


class STDRCError(ValueError):
    """A one-sentence problem that says what is wrong, where, and what to do."""
