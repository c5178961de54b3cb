"""The file of votes: written by many at once, read with care.

A vote names a sample, the entry shown on the left, the one on the right, and the winner: an entry's
name, "draw", or "both bad". Further columns, where there are any: the question that was asked, the
seed and the identity of the videos, the rater, the seconds the pair was on the screen, the answer
that an attention check expects, and the time.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from leaderboards.errors import LeaderboardError

DRAW = "draw"
BOTH_BAD = "both bad"
COLUMNS = ("sample", "left", "right", "winner")
#: The columns that `VoteFile` writes.
HEADER = (
    "sample", "seed", "identity", "question", "left", "right", "winner", "rater", "seconds",
    "check", "time",
)  # fmt: skip

#: What a rater is asked, by the name that stands in the file: what the 2026 challenge judges, and
#: the one question of 2025's study.
QUESTIONS: Mapping[str, str] = {
    "overall": "Which video is better?",
    "identity": "In which video is the person more like the picture?",
    "quality": "Which video looks better, whoever is in it?",
    "motion": "In which video is the motion more natural and lively?",
    "prompt": "Which video follows the text more closely?",
    "timeline": "Which video follows the times of the actions more closely?",
}


def read_votes(
    source: str | Path | pd.DataFrame | Sequence[str | Path],
    question: str | None = None,
    least_checks: float = 0.7,
) -> pd.DataFrame:
    """Read and check votes: columns sample, left, right, winner, and where given the others.

    source: a CSV of votes, several of them, or a frame. question: keep the votes on this one.
    least_checks: share of the attention checks that a rater has to pass for the votes to count.
    What is left out is said in `votes.attrs["notes"]`: a last line that a crash cut short, raters
    who failed their checks. The checks themselves are not votes.

    Raises LeaderboardError naming the line of the first broken vote, or where none is left.
    """
    notes: list[str] = []
    if isinstance(source, pd.DataFrame):
        notes += source.attrs.get("notes", [])
        votes = _checked(source.copy(), "votes")
    else:
        paths = [source] if isinstance(source, str | Path) else list(source)
        parts = []
        for path in map(Path, paths):
            if not path.is_file():
                raise LeaderboardError(f"{path} does not exist: give a CSV of votes.")
            whole, note = whole_lines(path.read_bytes(), path)
            notes += [note] if note else []
            parts.append(_checked(_parsed(whole, path), str(path)))
        votes = pd.concat(parts, ignore_index=True)
    votes.attrs["notes"] = notes
    votes = _attentive(votes, least_checks)
    if question is not None:
        if question not in set(votes["question"]):
            asked = ", ".join(sorted(set(votes["question"])))
            raise LeaderboardError(f"no vote answers {question!r}: the questions are {asked}.")
        notes = votes.attrs["notes"]
        votes = votes[votes["question"] == question].reset_index(drop=True)
        votes.attrs["notes"] = notes
    return votes


def _parsed(data: bytes, path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=list(COLUMNS))
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise LeaderboardError(
            f"{path} is not a CSV of votes ({error}): fix or remove that line."
        ) from error


def _checked(votes: pd.DataFrame, name: str) -> pd.DataFrame:
    missing = [column for column in COLUMNS if column not in votes.columns]
    if missing:
        raise LeaderboardError(
            f"{name} has no column {', '.join(missing)}: votes have sample, left, right and winner."
        )
    for column in {*HEADER, *COLUMNS} & set(votes.columns):
        votes[column] = votes[column].astype(str).str.strip()
    if "question" not in votes:
        votes["question"] = "overall"
    votes["question"] = votes["question"].replace("", "overall")
    draws = (DRAW, BOTH_BAD)
    for broken, why in (
        ((votes[list(COLUMNS)] == "").any(axis=1), "a field is empty"),
        (votes["left"] == votes["right"], "left and right are the same entry"),
        (
            ~(votes["winner"].isin(draws) | votes["winner"].eq(votes["left"])
              | votes["winner"].eq(votes["right"])),
            "the winner is neither of the two nor 'draw' nor 'both bad'",
        ),
        (votes["left"].isin(draws) | votes["right"].isin(draws),
         "no entry can be called 'draw' or 'both bad'"),
    ):  # fmt: skip
        if broken.any():
            line = int(np.flatnonzero(broken)[0]) + 2
            raise LeaderboardError(f"{name}, line {line}: {why}; fix or remove that vote.")
    if votes.empty:
        raise LeaderboardError(f"{name} has no votes yet: collect some with `leaderboard vote`.")
    return votes.reset_index(drop=True)


def outcome(votes: pd.DataFrame) -> np.ndarray:
    """What left got: 1 for a win, 0.5 for a draw or both bad, 0 for a loss. float [V]."""
    even = votes["winner"].isin((DRAW, BOTH_BAD))
    return np.where(even, 0.5, (votes["winner"] == votes["left"]).astype(float))


def one_question(votes: pd.DataFrame) -> None:
    """Refuse votes on several questions, whose sum would answer none of them."""
    asked = sorted(set(votes["question"]))
    if len(asked) > 1:
        raise LeaderboardError(
            f"the votes answer {len(asked)} questions: choose one of {', '.join(asked)}."
        )


def _attentive(votes: pd.DataFrame, least: float) -> pd.DataFrame:
    """Without attention checks, and without raters who failed too many; no checks, no failure."""
    notes = list(votes.attrs["notes"])
    if "check" not in votes or not votes["check"].ne("").any():
        return votes
    shown = votes["check"].ne("")
    passed = votes["check"].eq(votes["winner"])
    out = ~shown
    for rater, checks in passed[shown].groupby(votes.loc[shown, "rater"]):
        if checks.mean() < least:
            theirs = votes["rater"].eq(rater) & ~shown
            out &= ~theirs
            notes.append(
                f"Left out: {int(theirs.sum())} votes of {rater}, who passed {int(checks.sum())} "
                f"of {len(checks)} attention checks (at least {least:.0%} are wanted)."
            )
    kept = votes[out].reset_index(drop=True)
    if kept.empty:
        raise LeaderboardError(
            "no vote is left without the raters who failed their attention checks: "
            + " ".join(notes)
        )
    kept.attrs["notes"] = notes
    return kept


def whole_lines(data: bytes, path: Path) -> tuple[bytes, str | None]:
    """The votes that were written to their end, and a note on one that was not.

    A line break inside quotes does not end a vote. A last line without a line break counts if it
    has all fields (people's editors leave it out).
    """
    if not data:
        return data, None
    end = len(data) if data.endswith(b"\n") else data.rfind(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:  # inside quotes: the vote began further up
        end = data.rfind(b"\n", 0, end - 1) + 1
    if end == len(data):
        return data, None
    last = _fields(data[end:])
    head = _fields(data[: data.find(b"\n") + 1]) if end else last
    told = dict(zip(head, last))
    sides = (told.get("left"), told.get("right"), DRAW, BOTH_BAD)
    if end:
        complete = told.get("winner") in sides
    else:  # the header itself, and not a part of ours
        complete = set(COLUMNS) <= set(head) and (
            tuple(head) == HEADER or not ",".join(HEADER).startswith(",".join(head))
        )
    if complete and len(last) == len(head) and data.count(b'"', end) % 2 == 0:
        return data + b"\n", None
    line = data.count(b"\n", 0, end) + 1
    return data[:end], (
        f"{path}, line {line}: the last vote was cut short and is left out "
        f"({data[end : end + 40].decode('utf-8', 'replace')!r})."
    )


def _fields(line: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(line.decode("utf-8-sig", "replace"))), [])


class VoteFile:
    """A CSV of votes that several processes may append to.

    A vote counts only once it is on the disk; a line that a crash cut short is removed before the
    next vote is written, and `notes` says so.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[str] = []

    @contextmanager
    def _locked(self) -> Iterator[io.FileIO]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with io.FileIO(self.path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def append(self, vote: Mapping[str, str]) -> None:
        """Write one vote and wait until it is on the disk. vote: a value for columns of HEADER.

        Raises LeaderboardError where the file has other columns: it is somebody else's, or older.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = {**dict.fromkeys(HEADER, ""), "time": now, **vote}
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        with self._locked() as file:
            file.seek(0)
            data = file.readall()
            whole, note = whole_lines(data, self.path)
            if note:
                file.truncate(len(whole))
                self.notes.append(note)
            elif len(whole) > len(data):
                buffer.write("\n")
            if not whole:
                writer.writerow(HEADER)
            else:
                head = _fields(whole[: whole.find(b"\n")])
                if tuple(head) != HEADER:
                    raise LeaderboardError(
                        f"{self.path} has the columns {', '.join(head)}, not {', '.join(HEADER)}: "
                        "name another file with --votes; several are counted together."
                    )
            writer.writerow([row[name] for name in HEADER])
            left = memoryview(buffer.getvalue().encode())
            while left:  # a raw write may take a part of it
                left = left[file.write(left) :]
            os.fsync(file.fileno())

    def given(self, rater: str) -> set[tuple[str, str, str, frozenset[str]]]:
        """Sample, seed, question and entries of the votes that a rater has given already."""
        if not self.path.is_file():
            return set()
        whole, _ = whole_lines(self.path.read_bytes(), self.path)
        if whole.count(b"\n") < 2:
            return set()
        votes = _checked(_parsed(whole, self.path), str(self.path))
        for name in ("rater", "seed"):
            if name not in votes:
                votes[name] = ""
        mine = votes[votes["rater"] == rater]
        return {
            (sample, seed, question, frozenset((left, right)))
            for sample, seed, question, left, right in zip(
                mine["sample"], mine["seed"], mine["question"], mine["left"], mine["right"]
            )
        }
