"""Wording that several messages share."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """A question with the nearest known names, to follow a sentence; empty where none is near.

    >>> did_you_mean("tas", ["tass", "overlap"])
    " Did you mean 'tass'?"
    """
    near = get_close_matches(name, list(known), n=most, cutoff=0.6 if most == 1 else 0.4)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def some(words: Sequence[str], most: int, between: str = ", ") -> str:
    """The first few of several words and how many more there are.

    >>> some(["a", "b", "c"], 2), some(["a is gone", "b is empty"], 1, "; ")
    ('a, b and 1 more', 'a is gone; and 1 more')
    """
    more = f"{between.strip(' ,')} and {len(words) - most} more" if len(words) > most else ""
    return between.join(words[:most]) + more


def counted(number: int, thing: str) -> str:
    """A number of things, of which one has no s.

    >>> counted(1, "video"), counted(0, "video"), counted(12_000, "cell")
    ('1 video', '0 videos', '12000 cells')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as `m:ss`, from an hour on as `h:mm:ss`.

    >>> duration(65), duration(3725.4)
    ('1:05', '1:02:05')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


@contextmanager
def warnings_said() -> Iterator[None]:
    """Say what a library warns its users of in one line each, on the error output."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"warning: {message}", file=sys.stderr)
