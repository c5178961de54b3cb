"""What each axis of a sweep changes: paired differences against a named baseline.

Both videos of a pair show the same sample, so differences are taken person by person. It is taken
marginally, averaged over every point of the other axes at which both values were run, and at the
best point, where the leaderboard's first entry stands; where the grid is full, interactions too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from leaderboards import families, ranking, statistics
from leaderboards.ablations import FOLLOWERS, grid
from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Leaderboard
from leaderboards.scores import Column, axis_text

Where = Literal["marginal", "best point", "interaction"]

#: Baselines that say "without it"; where an axis has none of them, its first value is the baseline.
WITHOUT = ("off", "none")

#: Told beside the families' columns where it is there: what was copied, which no family counts.
COPIED = "leakage.attributes.any"


@dataclass(frozen=True)
class Effect:
    """A paired difference on one column: value minus baseline.

    low, high and p are of the sign-flip test (`statistics.paired_tests`); p_holm is corrected over
    the values and columns that one axis was tested with. points counts the points of the other axes
    that were averaged. decided: p_holm at the leaderboard's level. baseline_mean: the baseline's
    mean over the same points; NaN for an interaction.
    """

    axis: str
    value: str
    baseline: str
    where: Where
    at: str
    column: Column
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    points: int
    n: int
    identities: int
    decided: bool
    baseline_mean: float

    def text(self) -> str:
        """ "Identity +0.030 [0.012, 0.048]", with decimals that follow the interval."""
        places = self.decimals
        ends = f" [{self.low:.{places}f}, {self.high:.{places}f}]" if np.isfinite(self.low) else ""
        return f"{self.column.title} {self.difference:+.{places}f}{ends}"

    @property
    def decimals(self) -> int:
        """Decimals that follow the interval's width."""
        width = abs(self.high - self.low if np.isfinite(self.high - self.low) else self.difference)
        # Equal on every person: there is no spread for the decimals to follow.
        return max(0, int(np.ceil(-np.log10(width))) + 1) if width > 1e-9 else 2


def effect_columns(board: Leaderboard) -> list[int]:
    """The columns to report effects on: those with samples that stand for their families, and what
    was copied beside the family of copying."""
    found = []
    for family in families.FAMILIES:
        found.append(ranking.primary(family, board.columns, board.means))
        if family == "copying":
            found += [c for c, column in enumerate(board.columns) if column.metric == COPIED]
    return [
        c
        for c in found
        if c is not None
        and board.columns[c].level == "sample"
        and not ranking.constant(board.means[:, c])
    ]


def baseline_of(board: Leaderboard, axis: str, given: Mapping[str, Any]) -> Any:
    """The value that the others of an axis are compared with: given, "off", or the first."""
    values = board.axes[axis]
    if axis in given:
        wanted = axis_text(given[axis])
        for value in values:
            if axis_text(value) == wanted:
                return value
        run = ", ".join(map(axis_text, values))
        raise LeaderboardError(f"{axis} was never {wanted}: choose the baseline among {run}.")
    return next((value for value in values if axis_text(value) in WITHOUT), values[0])


def effects(
    board: Leaderboard,
    axis: str,
    baselines: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
) -> list[Effect]:
    """Every value of `axis` against its baseline, marginally and at the best point.

    baselines: axis to value; "off" or the axis' first value where it is not named. columns: keys,
    metrics or labels; those that stand for the families where None.

    Raises LeaderboardError for an unknown axis, value or column, or a column without samples.
    """
    if axis not in board.axes:
        raise LeaderboardError(
            f"no entry has an axis {axis!r}: the axes are {', '.join(board.axes) or '(none)'}."
        )
    chosen = _columns(board, columns)
    base = baseline_of(board, axis, baselines or {})
    held, _, points = grid(board, axis, {})
    index = {entry.key: i for i, entry in enumerate(board.entries)}
    cells = {
        point: {axis_text(entry.axes[axis]): index[entry.key] for entry in levels.values()}
        for point, levels in points.items()
    }
    best = next(
        (
            (point, board.entries[i])
            for i in range(len(board.entries))
            for point, levels in cells.items()
            if i in levels.values() and len(levels) > 1
        ),
        None,
    )
    out: list[Effect] = []
    places: list[tuple[Where, str, list[tuple[str, ...]]]] = [("marginal", "", list(cells))]
    if best is not None and len(cells) > 1:
        at = ", ".join(f"{name} {axis_text(best[1].axes.get(name))}" for name in held)
        places.append(("best point", at, [best[0]]))
    others = [value for value in board.axes[axis] if axis_text(value) != axis_text(base)]
    for where, at, where_points in places:
        tested = []
        for value in others:
            name, against = axis_text(value), axis_text(base)
            pairs = [
                (cells[p][name], cells[p][against])
                for p in where_points
                if name in cells[p] and against in cells[p]
            ]
            signed = [((first, 1.0), (second, -1.0)) for first, second in pairs]
            tested += _tested(board, axis, name, against, where, at, chosen, signed)
        out += _holm(board, tested)
    return out


def interactions(
    board: Leaderboard,
    baselines: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
) -> list[Effect]:
    """How much a value's effect differs between values of another axis, where the grid is full.

    The difference of differences against both baselines, averaged over the other axes; corrected
    over everything that a pair of axes was tested with.
    """
    chosen = _columns(board, columns)
    varied = [
        axis for axis, values in board.axes.items() if len(values) > 1 and axis not in FOLLOWERS
    ]
    entries = {
        tuple(axis_text(entry.axes.get(axis)) for axis in varied): i
        for i, entry in reversed(list(enumerate(board.entries)))
    }
    values = {axis: [axis_text(v) for v in board.axes[axis]] for axis in varied}
    if any(point not in entries for point in itertools.product(*values.values())):
        return []
    out = []
    for first, second in itertools.combinations(varied, 2):
        bases = [axis_text(baseline_of(board, axis, baselines or {})) for axis in (first, second)]
        rest = [axis for axis in varied if axis not in (first, second)]
        tested: list[Effect] = []
        for a, b in itertools.product(values[first], values[second]):
            if a == bases[0] or b == bases[1]:
                continue
            corners = (
                (a, b, 1.0), (bases[0], b, -1.0), (a, bases[1], -1.0), (bases[0], bases[1], 1.0)
            )  # fmt: skip
            signed = []
            for point in itertools.product(*(values[axis] for axis in rest)):
                where = dict(zip(rest, point))
                placed = [({**where, first: x, second: y}, sign) for x, y, sign in corners]
                signed.append(
                    tuple((entries[tuple(at[n] for n in varied)], sign) for at, sign in placed)
                )
            tested += _tested(
                board, f"{first} x {second}", f"{a}, {b}", ", ".join(bases), "interaction", "",
                chosen, signed,
            )  # fmt: skip
        out += _holm(board, tested)
    return out


def _columns(board: Leaderboard, names: Sequence[str] | None) -> list[int]:
    if names is None:
        return effect_columns(board)
    found = [board.column(name) for name in names]
    for column in found:
        if column.level != "sample":
            raise LeaderboardError(
                f"{column.key} has no samples to pair: choose columns with a value per video."
            )
    return [board.columns.index(column) for column in found]


def _tested(
    board: Leaderboard, axis: str, value: str, baseline: str, where: Where, at: str,
    columns: Iterable[int], signed: Sequence[tuple[tuple[int, float], ...]],
) -> list[Effect]:  # fmt: skip
    """Effects on columns of signed sums of entries, averaged over points; not yet corrected."""
    out = []
    for c in columns:
        parts = np.array([sum(sign * board.common[c, i] for i, sign in one) for one in signed])
        there = np.isfinite(parts).any(axis=1) if len(parts) else np.zeros(0, dtype=bool)
        if not there.any():
            continue
        several = len(signed[0]) > 2 or there.sum() > 1
        test = board.paired(c, parts[there].mean(axis=0)[None], averaged=several)
        below = [board.common[c, one[1][0]] for one, kept in zip(signed, there) if kept]
        out.append(
            Effect(
                axis, value, baseline, where, at, board.columns[c], float(test.mean[0]),
                float(test.low[0]), float(test.high[0]), float(test.p[0]), float("nan"),
                int(there.sum()), int(test.n[0]), int(test.clusters[0]), False,
                float(np.nanmean(below)) if len(signed[0]) == 2 else float("nan"),
            )
        )  # fmt: skip
    return out


def _holm(board: Leaderboard, tested: Sequence[Effect]) -> list[Effect]:
    adjusted = statistics.holm(np.array([effect.p for effect in tested]))
    level = 1 - board.confidence + 1e-12
    return [
        replace(effect, p_holm=float(p), decided=bool(p <= level))
        for effect, p in zip(tested, adjusted)
    ]


def every_effect(
    board: Leaderboard,
    baselines: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
) -> list[Effect]:
    """Effects of every axis that varies, then interactions.

    Raises LeaderboardError as `effects` does, and for a baseline of an axis that nothing has.
    """
    for axis in baselines or {}:
        if axis not in board.axes:
            raise LeaderboardError(
                f"no entry has an axis {axis!r}: the axes are {', '.join(board.axes) or '(none)'}."
            )
    out = []
    for axis, values in board.axes.items():
        if len(values) > 1 and axis not in FOLLOWERS:
            out += effects(board, axis, baselines, columns)
    return out + interactions(board, baselines, columns)


def effects_frame(found: Sequence[Effect]) -> pd.DataFrame:
    """One row per effect, columns by key."""
    return pd.DataFrame([{**vars(effect), "column": effect.column.key} for effect in found])


def effect_sentences(found: Sequence[Effect]) -> list[str]:
    """One sentence per value of an axis, as for a paper, of marginal effects; then interactions.

    "augmentation on against off, over 12 points of the other axes and 64 identities: Identity
    -0.030 [-0.044, -0.016]; not decided (Holm): Text-video similarity +0.2 [-0.1, 0.5]."
    """
    out = []
    marginal = [effect for effect in found if effect.where == "marginal"]
    for (axis, value, baseline), group in itertools.groupby(
        marginal, key=lambda effect: (effect.axis, effect.value, effect.baseline)
    ):
        some = list(group)
        points = max(effect.points for effect in some)
        over = f"over {points} points of the other axes and " if points > 1 else "over "
        decided = [effect.text() for effect in some if effect.decided]
        open_ = [effect.text() for effect in some if not effect.decided]
        told = ", ".join(decided)
        if open_:
            told += f"{'; ' if told else ''}not decided (Holm): {', '.join(open_)}"
        people = max(effect.identities for effect in some)
        out.append(f"{axis} {value} against {baseline}, {over}{people} identities: {told}.")
    crossed = [effect for effect in found if effect.where == "interaction"]
    decided = [
        f"{effect.axis} ({effect.value}): {effect.text()}" for effect in crossed if effect.decided
    ]
    if crossed:
        told = "; ".join(decided) if decided else "none is decided"
        out.append(f"Interactions: {told}.")
    return out
