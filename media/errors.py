"""What a user can fix: one base for the errors of all packages, and the cases a caller tells apart.

Each package derives its own error from `UserError`, so that a caller catches one class and the
command line knows one.
"""

from collections.abc import Iterable
from typing import Self

from media.wording import did_you_mean


class UserError(ValueError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(UserError):
    """A name that isn't known: of a metric, a placement, a checkpoint, a key of a file."""

    @classmethod
    def among(cls, lead: str, name: str, known: Iterable[str]) -> Self:
        """The error of a name that isn't one of those known; says which are, and the nearest.

        >>> print(UnknownNameError.among("There is no split", "tran", ["train", "test"]))
        There is no split 'tran'; choose one of train, test. Did you mean 'train'?
        """
        known = tuple(known)
        return cls(f"{lead} {name!r}; choose one of {', '.join(known)}.{did_you_mean(name, known)}")


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
