"""A paper's ablation table: what each value of each axis changes against its baseline, paired."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from leaderboards.effects import Effect
from leaderboards.errors import LeaderboardError
from leaderboards.leaderboard import Leaderboard
from leaderboards.tables import text as t
from leaderboards.tables.latex import Layout, Metric, signed, width_of


def effects_latex(board: Leaderboard, found: Sequence[Effect], document: bool = False) -> str:
    """Marginal effects as one booktabs table, a block of rows per axis.

    The first row of a block is the baseline with its means; the others are mean paired differences
    from it with their intervals, bold where Holm's correction over the axis leaves them decided.
    document: wrap it so that it compiles alone. Six columns, or five or four if those fit a page.

    Raises LeaderboardError where there are no marginal effects.
    """
    shown = [effect for effect in found if effect.where == "marginal"]
    if not shown:
        raise LeaderboardError("no axis varies at a point of the others, so no effect can be told.")
    keys = list(dict.fromkeys(effect.column.key for effect in shown))
    for most in (6, 5, 4):
        layout, short = _layout(board, shown, keys[:most])
        if layout.fits:
            break
    columns = [board.columns.index(board.column(key)) for key in keys[:most]]
    people = max(effect.identities for effect in shown)
    points = sorted({effect.points for effect in shown})
    caption = [
        "Ablations. The first row of each block is the baseline; below it are mean paired "
        f"differences from it over {people} identities, averaged over "
        f"{' to '.join(map(str, dict.fromkeys((points[0], points[-1]))))} points of the other axes,"
        f" with {100 * board.confidence:g} % intervals by flipping the signs of whole identities.",
        "Bold: decided after Holm's correction over the values and columns of an axis.",
        f"{t.key_of(board, columns, short)}.",
    ]
    return layout.latex(" ".join(caption), "tab:ablations", document)


def _layout(
    board: Leaderboard, shown: Sequence[Effect], keys: Sequence[str]
) -> tuple[Layout, list[str]]:
    columns = [board.columns.index(board.column(key)) for key in keys]
    short = t.short_names(board, columns)
    metrics = [Metric.of(board.columns[c], name) for c, name in zip(columns, short)]
    axes: list[str] = []
    values: list[str] = []
    rules: list[int] = []
    for axis, block in itertools.groupby(shown, key=lambda effect: effect.axis):
        effects = list(block)
        rules.append(len(axes))
        names = list(dict.fromkeys(effect.value for effect in effects))
        axes += [axis] + [""] * len(names)
        values += [effects[0].baseline, *names]
        for key, metric in zip(keys, metrics):
            of = {effect.value: effect for effect in effects if effect.column.key == key}
            places = max((effect.decimals for effect in of.values()), default=2)
            # With another value the baseline stands at other points where the grid has holes.
            means = np.array([effect.baseline_mean for effect in of.values()])
            same = len(means) and np.ptp(means) < 10.0**-places
            mean = f"{means[0]:.{places}f}" if same else "–"
            metric.add(signed(mean), width_of(mean), "")
            for name in names:
                _add(metric, of.get(name), places)
    lead = [("Axis", "l", axes), ("Value", "l", values)]
    return Layout(metrics, lead, [], True, rules[1:]), short


def _add(metric: Metric, effect: Effect | None, places: int) -> None:
    if effect is None:
        return metric.add("--", width_of("–"), "")
    # Adding 0 takes the sign off a zero.
    middle, low, high = (
        round(x, places) + 0.0 for x in (effect.difference, effect.low, effect.high)
    )
    change = f"{middle:+.{places}f}" if middle else f"{0:.{places}f}"
    mean = rf"\textbf{{\boldmath {signed(change)}}}" if effect.decided else signed(change)
    ends = f"[{low:.{places}f}, {high:.{places}f}]" if np.isfinite(low) else ""
    return metric.add(mean, width_of(change), ends)
