"""What is compared: entries, columns, and a dense array of values, one slot per entry and sample.

Run folders (`leaderboards.runs`) and anybody's tables (`leaderboards.score_tables`) are read
into `Rows`; `leaderboards.assembly` forms `Scores` of them and refuses what cannot be compared.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from leaderboards.errors import UnknownNameError
from media.wording import some

Level = Literal["sample", "set", "summary"]
OnMixed = Literal["refuse", "blank"]


@dataclass(frozen=True)
class Column:
    """One column of a leaderboard: a metric as measured by one backend.

    `higher_is_better` is None for a column that only informs and takes no part in ranks (the amount
    of motion, say). `low` and `high` are the metric's range where it is known; `level` says what a
    value stands for: one video ("sample"), the whole set of an entry's videos ("set"), or a
    published mean without its samples ("summary"). `family` is what metrics of one kind share;
    a `diagnostic` informs and takes no part in ranks. `anchors` are the worst and the best value
    for a weighted score, where the metric states them.
    """

    key: str
    metric: str
    backend: str = ""
    version: str = ""
    label: str = ""
    higher_is_better: bool | None = True
    low: float | None = None
    high: float | None = None
    level: Level = "sample"
    family: str = ""
    diagnostic: bool = False
    anchors: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """What to print above the column."""
        return self.label or self.key

    @property
    def arrow(self) -> str:
        if self.higher_is_better is None:
            return ""
        return "↑" if self.higher_is_better else "↓"

    @property
    def sign(self) -> float:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        if self.higher_is_better is None:
            return 0.0
        return 1.0 if self.higher_is_better else -1.0


@dataclass(frozen=True)
class Entry:
    """One row of a leaderboard: a cell of a sweep, or somebody's model."""

    key: str
    label: str
    axes: Mapping[str, Any] = field(default_factory=dict)
    mismatch: bool = False
    source: str = ""


@dataclass(frozen=True)
class Summary:
    """A number that stands for a whole set of videos, with the interval it came with, if any.

    n: how many videos it stands for; planned: how many it was meant to, failed ones included.
    influences: (identities, effect) of groups of identities: the value plus the sum of effect * z
    is the value of a resample, where z is the sum of how often each identity of the group is drawn,
    less 1, over the root of their number. Empty where its source does not say.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None
    planned: int | None = None
    influences: tuple[tuple[tuple[str, ...], float], ...] = ()

    @property
    def short(self) -> bool:
        """Whether failed videos are missing from it."""
        return self.n is not None and self.planned is not None and self.n < self.planned


@dataclass(frozen=True)
class Earlier:
    """What a cell made under an earlier plan of its run and no plan has any more: kept, not ranked.

    means: (metric, backend) to the mean over the `videos` that were made, whichever samples these
    are of.
    """

    label: str
    source: str
    videos: int
    means: Mapping[tuple[str, str], float]


@dataclass
class Rows:
    """Scores as they were read, before columns are formed and checked.

    `scores` has the columns entry, sample, seed, metric, backend, version, value (NaN where a video
    has no score); `summaries` has entry, metric, backend, version, value, low, high, n, planned,
    level, influences (as in `Summary`); `videos` has entry, sample, seed, video, status, path
    (absolute, "" where there is none), reason; `failures` has entry, sample, seed, metric, reason;
    `samples` has sample, identity, prompt, refs (a list of absolute paths); `ranks` are the orders
    that the sources declare, as arguments of `ranking.Ranking`; `unfit` are the (metric, sample)
    that a metric does not apply to, such as samples without a prompt; `earlier` is what earlier
    plans of the runs made.
    """

    entries: list[Entry]
    scores: pd.DataFrame
    summaries: pd.DataFrame
    videos: pd.DataFrame
    failures: pd.DataFrame
    samples: pd.DataFrame
    meanings: dict[tuple[str, str], Column] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    face_rate: dict[str, float] = field(default_factory=dict)
    has_identities: bool = True
    root: Path | None = None
    ranks: tuple[Mapping[str, Any], ...] = ()
    unfit: frozenset[tuple[str, str]] = frozenset()
    earlier: tuple[Earlier, ...] = ()


@dataclass
class Scores:
    """Scores ready to compare: C columns, E entries, K samples.

    values: float [C, E, K], NaN where there is none. planned: bool [C, E, K], whether the entry was
    meant to have a value there. pending: bool [E, K], videos that are still to be made. clusters:
    int [K], the identity of each sample; samples of one identity are not independent. keys: one row
    per sample slot (sample, seed, rest, identity).
    """

    entries: tuple[Entry, ...]
    columns: tuple[Column, ...]
    values: np.ndarray
    planned: np.ndarray
    pending: np.ndarray
    keys: pd.DataFrame
    clusters: np.ndarray
    summaries: dict[tuple[int, int], Summary]
    videos: pd.DataFrame
    failures: pd.DataFrame
    samples: pd.DataFrame
    absent: dict[str, str]
    face_rate: dict[str, float]
    notes: list[str]
    has_identities: bool = True
    root: Path | None = None

    def reordered(self, order: Sequence[int]) -> Scores:
        """The same scores with entries in another order."""
        place = {old: new for new, old in enumerate(order)}
        return replace(
            self,
            entries=tuple(self.entries[i] for i in order),
            values=self.values[:, order],
            planned=self.planned[:, order],
            pending=self.pending[order],
            summaries={(place[i], j): s for (i, j), s in self.summaries.items()},
        )


def video_counts(scores: Scores, sizes: np.ndarray) -> list[dict[str, int]]:
    """For each entry its videos "planned", "done", "failed" and "pending".

    A table without videos counts samples: done is any with a value, failed those without; sizes
    [E, C] stand in where there are only published means.
    """
    found: dict[Any, int] = {}
    if len(scores.videos):
        found = scores.videos.groupby(["entry", "status"]).size().to_dict()
    seen = {entry for entry, _ in found}
    out = []
    for i, entry in enumerate(scores.entries):
        if entry.key in seen:
            counts = {s: int(found.get((entry.key, s), 0)) for s in ("done", "failed", "pending")}
        else:
            planned = scores.planned[:, i].any(axis=0)
            done = np.isfinite(scores.values[:, i]).any(axis=0)
            counts = {"done": int(done.sum()), "failed": int((planned & ~done).sum()), "pending": 0}
            if not planned.any():
                known = sizes[i][np.isfinite(sizes[i])]
                counts["done"] = int(known.max()) if len(known) else 0
        out.append({"planned": sum(counts.values()), **counts})
    return out


SCORES = ["entry", "sample", "seed", "metric", "backend", "version", "value"]
SUMMARIES = ["entry", "metric", "backend", "version", "value", "low", "high", "n", "planned"]
SUMMARIES += ["level", "influences"]
VIDEOS = ["entry", "sample", "seed", "video", "status", "path", "reason"]
FAILURES = ["entry", "sample", "seed", "metric", "reason"]


def axis_text(value: Any) -> str:
    """An axis value as people write it: 3 rather than 3.0, on/off rather than true/false."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def key_named(name: str, labels: Mapping[str, str], of: str = "") -> str:
    """The entry with this key, label, or unambiguous beginning of a key, of key -> label.

    Raises UnknownNameError for a name that none or several have; `of` says what has the entries.
    """
    for found in (
        [key for key in labels if key == name],
        [key for key, label in labels.items() if label == name],
        [key for key in labels if key.startswith(name)],
    ):
        if found:
            break
    if len(found) != 1:
        what = "names several entries" if found else "is not an entry"
        known = some([f"{label} ({key[:8]})" for key, label in labels.items()], 12)
        raise UnknownNameError(f"{name!r} {what}{of}: choose one of {known}.")
    return found[0]


def plain_name(name: str) -> str:
    """A metric's name without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as plain dictionaries."""
    return frame.to_dict("records")  # type: ignore[return-value]
