"""What a user can fix: one base for the errors of all packages, and the cases a caller tells apart.

Each package derives its own error from `UserError`, so that a caller catches one class and the
command line knows one.
"""


class UserError(ValueError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(UserError):
    """A name that nothing bears: a metric, a placement, a checkpoint, a key of a file."""


class WeightsMissingError(UserError):
    """Weights that aren't on this machine; the message has the command that gets them."""


class NoFaceError(UserError):
    """A picture or a video in which no face was found."""


class UnreadableFileError(UserError):
    """A file that is missing, damaged, or of another kind than it is read as."""


class UnreadableVideoError(UnreadableFileError):
    """A video that can't be read, or breaks off."""


class UnreadableImageError(UnreadableFileError):
    """A picture that can't be read."""


class UnreadableTableError(UnreadableFileError):
    """A CSV, JSON or JSON lines file that can't be read; the message names the line."""
