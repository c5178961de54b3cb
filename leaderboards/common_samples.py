"""One set of samples for all entries, with failures in it.

Entries are compared on the same samples. What an entry failed on, or scored infinite, counts as the
metric's worst value, never as a gift; or, where that is asked for, it counts for nobody. Samples
that a metric does not apply to, and such as are still to be made, count for nobody either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from leaderboards import families
from leaderboards.scores import Column, Scores, Summary


@dataclass(frozen=True)
class Common:
    """Scores on common samples.

    Attributes:
        values: float [C, E, K], NaN outside the common samples of a column and where an entry does
            not take part in it.
        worst: float [C], what a failed sample counts in each column; NaN where none failed.
        summaries: (entry, column) -> set-level and published values, failures counted.
        notes: what a reader of the means must know.
    """

    values: np.ndarray
    worst: np.ndarray
    summaries: dict[tuple[int, int], Summary]
    notes: list[str]


def worst_value(column: Column, seen: np.ndarray) -> float:
    """The worst value of a column: the end of its range, else its worst anchor, else the worst of
    the values seen [...]; NaN where it has no direction or no value.
    """
    if not column.sign:
        return math.nan
    end = column.low if column.sign > 0 else column.high
    if end is not None and math.isfinite(end):
        return float(end)
    anchors = column.anchors or families.known_anchors(column.metric)
    if anchors is not None:
        return anchors[0]
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        return math.nan
    return float(seen.min() if column.sign > 0 else seen.max())


def common_samples(scores: Scores, drop: bool = False) -> Common:
    """Bring all entries onto one set of samples per column.

    drop: a sample that any entry failed on counts for nobody, rather than as the worst value.
    """
    values = np.where(np.isfinite(scores.values), scores.values, np.nan)
    shape = values.shape
    used = np.zeros((shape[0], shape[2]), dtype=bool)
    worst = np.full(shape[0], np.nan)
    dropped: dict[str, int] = {}
    for c, column in enumerate(scores.columns):
        planned, there = scores.planned[c], np.isfinite(values[c])
        present = planned.any(axis=1)
        if not present.any():
            continue
        used[c] = planned.any(axis=0)
        started = present & (planned & ~scores.pending).any(axis=1)
        used[c] &= ~(scores.pending & planned)[started].any(axis=0)
        # Without a worst value, as in a column without direction, there is nothing to count.
        end = worst_value(column, values[c][:, used[c]])
        if drop or math.isnan(end):
            some = (there & used[c]).any(axis=1)
            before = int(used[c].sum())
            used[c] &= there[some].all(axis=0)
            if before > used[c].sum():
                dropped[column.title] = before - int(used[c].sum())
        failed = started[:, None] & used[c] & ~there
        if failed.any() and not drop:
            worst[c] = end
            values[c][failed] = end
        values[c][:, ~used[c]] = np.nan
        values[c][~started] = np.nan
    notes = _notes(scores.columns, worst, dropped, drop)
    summaries = _sets(scores, drop, notes)
    return Common(values, worst, summaries, notes)


def _sets(scores: Scores, drop: bool, notes: list[str]) -> dict[tuple[int, int], Summary]:
    """Summaries, sets that failed videos are missing from counted as the worst value.

    A set-level score depends on the number of videos, so what is left of a set is not compared.
    """
    out = dict(scores.summaries)
    for c, column in enumerate(scores.columns):
        cells = {e: s for (e, j), s in out.items() if j == c}
        # A published mean says itself what it made of failures, unless it is blank for them.
        short = [
            e
            for e, s in sorted(cells.items())
            if s.short and (column.level == "set" or math.isnan(s.value))
        ]
        if not short or drop or not column.sign:
            continue
        end = worst_value(column, np.array([s.value for s in cells.values()]))
        named = ", ".join(
            f"{scores.entries[e].label}: N={cells[e].n} of {cells[e].planned}" for e in short[:3]
        )
        notes.append(
            f"{column.title} would mix sets of different size ({named}"
            f"{', ...' if len(short) > 3 else ''}); those cells are blank here, and in the order "
            f"they count {end:.4g}, the worst value."
        )
        for e in short:
            out[e, c] = replace(cells[e], value=end, low=math.nan, high=math.nan, influences=())
    return out


def set_effects(scores: Scores, summaries: Mapping[tuple[int, int], Summary]) -> np.ndarray:
    """float [C, E, G]: what one more of an identity adds to a set-level score, by its influences.

    NaN where a score has none, or some of an identity that no sample is of.
    """
    identity = dict(zip(scores.keys["identity"], scores.clusters))
    groups = len(set(identity.values()))
    out = np.full((len(scores.columns), len(scores.entries), groups), np.nan)
    for (e, c), summary in summaries.items():
        people = {person for group, _ in summary.influences for person in group}
        if people and people <= identity.keys():
            out[c, e] = 0.0
            for group, effect in summary.influences:
                out[c, e, [identity[person] for person in group]] = effect / math.sqrt(len(group))
    return out


def _notes(
    columns: Sequence[Column], worst: np.ndarray, dropped: dict[str, int], drop: bool
) -> list[str]:
    notes = []
    counted = [
        f"{column.title} {end:.4g}" for column, end in zip(columns, worst) if not math.isnan(end)
    ]
    if counted:
        notes.append(
            f"What an entry failed on counts as the metric's worst value ({', '.join(counted)})."
        )
    if dropped:
        told = ", ".join(f"{title}: {n}" for title, n in dropped.items())
        why = "" if drop else " (no worst value is known)"
        notes.append(f"Samples that some entry failed on are left out for all{why} ({told}).")
    if drop and any(column.level == "set" for column in columns):
        notes.append("Set-level scores are each entry's own videos', failed ones left out.")
    return notes
