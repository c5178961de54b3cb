"""Ablation tables: one axis of a sweep varied, the others held at a stated point."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Leaderboard
from leaderboards.scores import Entry, axis_text

#: Axes that name trained weights. A training ablation changes them along with what it varies (each
#: placement has its own checkpoint), so they may follow another axis; the table then says so.
FOLLOWERS = ("checkpoint", "variant", "lora", "weights")


@dataclass(frozen=True)
class Ablation:
    """One axis varied at one point of the others.

    Attributes:
        axis: the axis that varies.
        fixed: the other swept axes and the values they are held at.
        following: axes of trained weights that change along with `axis`.
        board: the leaderboard of these entries alone.
        order: row indices into `board.entries`, in the order of the axis' values.
    """

    axis: str
    fixed: Mapping[str, Any]
    following: tuple[str, ...]
    board: Leaderboard
    order: tuple[int, ...]

    @property
    def point(self) -> str:
        """The point in words: "placement tass, text 3"."""
        held = ", ".join(f"{axis} {axis_text(value)}" for axis, value in self.fixed.items())
        return held or "nothing else varied"

    @property
    def caption(self) -> str:
        """What the table shows, in one sentence."""
        words = f"Ablation of {self.axis} at {self.point}" if self.fixed else (
            f"Ablation of {self.axis}; nothing else was varied"
        )  # fmt: skip
        if self.following:
            words += f"; {' and '.join(self.following)} follows {self.axis}"
        return words + "."


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def grid(
    board: Leaderboard, axis: str, at: Mapping[str, Any]
) -> tuple[list[str], list[str], dict[tuple[str, ...], dict[str, Entry]]]:
    """Held axes, axes of weights that may follow, and point of the held ones -> value -> entry.

    Only entries at `at` are taken. One value run with several weights: the one whose training
    matches the setting counts.
    """
    axes = board.axes
    planned = [
        entry for entry in board.planned_entries
        if axis in entry.axes
        and all(n in entry.axes and axis_text(entry.axes[n]) == axis_text(v) for n, v in at.items())
    ]  # fmt: skip
    varied = [name for name, values in axes.items() if len(values) > 1 and name != axis]
    held = [name for name in varied if name not in FOLLOWERS or name in at]
    points: dict[tuple[str, ...], dict[str, Entry]] = {}
    for entry in planned:
        levels = points.setdefault(tuple(_key(entry.axes.get(name)) for name in held), {})
        kept = levels.setdefault(_key(entry.axes[axis]), entry)
        if kept.mismatch and not entry.mismatch:
            levels[_key(entry.axes[axis])] = entry
    return held, [name for name in varied if name not in held], points


def ablation(board: Leaderboard, axis: str, at: Mapping[str, Any] | None = None) -> Ablation:
    """The ablation of `axis`, the other axes held at `at`.

    Axes that `at` leaves open are held where the most values of `axis` were run (the first such
    point in the order of the sweep), so the choice never looks at results.

    Raises LeaderboardError for an unknown axis, a value that no entry has, or a point at which
    fewer than two values of the axis were run.
    """
    axes = board.axes
    if axis not in axes:
        raise LeaderboardError(
            f"no entry has an axis {axis!r}: the axes are {', '.join(axes) or '(none)'}."
        )
    at = dict(at or {})
    for name, value in at.items():
        if name not in axes or name == axis:
            others = ", ".join(a for a in axes if a != axis) or "(none)"
            raise LeaderboardError(f"{name!r} cannot be held fixed: the other axes are {others}.")
        if axis_text(value) not in {axis_text(v) for v in axes[name]}:
            run = ", ".join(axis_text(v) for v in axes[name])
            raise LeaderboardError(f"{name} was never {axis_text(value)}: it was {run}.")
    held, followers, points = grid(board, axis, at)
    if not points or max(map(len, points.values())) < 2:
        where = f" at {at}" if at else ""
        raise LeaderboardError(
            f"{axis} was run with fewer than two values{where}: give another point."
        )
    levels = max(points.values(), key=len)
    chosen = list(levels.values())
    first = chosen[0]
    following = tuple(
        name for name in followers if len({_key(entry.axes.get(name)) for entry in chosen}) > 1
    )
    fixed = {name: first.axes.get(name) for name in (*held, *followers) if name not in following}
    small = board.only([entry.key for entry in chosen])
    values = [_key(value) for value in axes[axis]]
    order = sorted(
        range(len(small.entries)), key=lambda i: values.index(_key(small.entries[i].axes[axis]))
    )
    return Ablation(axis, fixed, following, small, tuple(order))


def ablations(board: Leaderboard, at: Mapping[str, Any] | None = None) -> list[Ablation]:
    """Every axis' ablation, for those that have two values somewhere; see `ablation`.

    `at` is a point to hold the other axes at; an axis' own value in it is left aside.
    """
    out = []
    for axis, values in board.axes.items():
        if len(values) < 2:
            continue
        held = {name: value for name, value in (at or {}).items() if name != axis}
        try:
            out.append(ablation(board, axis, held))
        except LeaderboardError:
            if held:
                raise
            continue  # the axis never varies alone, so there is no table to make
    return out
