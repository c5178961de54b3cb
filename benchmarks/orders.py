"""A run's order under every scheme, as docs/leaderboards.md shows it.

    python benchmarks/orders.py runs/quick --top 12

Prints two Markdown tables: each scheme's agreement with mean identity and how much it decides, and
the entries in the default order with their places under the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from leaderboards import Leaderboard
from leaderboards.errors import LeaderboardError
from leaderboards.ranking import SCHEMES, shared_ranks
from leaderboards.scores import axis_text
from leaderboards.tables.text import swept_axes


def by_name(board: Leaderboard, badness: np.ndarray) -> dict[str, int]:
    """Entry -> place by what is better where smaller."""
    places = shared_ranks(badness)
    return {entry.key: int(place) for entry, place in zip(board.entries, places)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--top", type=int, default=None, help="rows of the second table")
    options = parser.parse_args(arguments)
    board = Leaderboard.from_run(options.run, on_mixed="blank")
    identity = board.primary
    if identity is None:
        raise LeaderboardError(f"{options.run} has no column to hold the orders against.")
    c = board.columns.index(identity)
    alone = by_name(board, -identity.sign * board.means[:, c])
    everything = by_name(board, board.ranks.sum(axis=1).astype(float))
    keys = [entry.key for entry in board.entries]

    def tau(places: dict[str, int]) -> float:
        return float(kendalltau([places[k] for k in keys], [alone[k] for k in keys]).statistic)

    pairs = len(keys) * (len(keys) - 1) // 2
    print(f"| by | tau with identity | places in the interval | open | decided pairs of {pairs} |")
    print("|---|---|---|---|---|")
    print(f"| sum over all {len(board.columns)} columns | {tau(everything):.2f} | | | |")
    orders = {"all columns": everything, "identity alone": alone}
    for scheme in (*SCHEMES, identity.key):
        try:
            other = Leaderboard.from_run(options.run, on_mixed="blank", rank=scheme)
        except LeaderboardError as error:
            print(f"{scheme}: {error}", file=sys.stderr)
            continue
        found = [(e.key, s) for e, s in zip(other.entries, other.standings) if s.place is not None]
        orders[f"`{scheme}`"] = places = {key: standing.place for key, standing in found}
        inside, still = (
            np.mean([last - first + 1 for first, last in ends])
            for ends in ([(s.low, s.high) for _, s in found], [(s.first, s.last) for _, s in found])
        )
        print(
            f"| `{scheme}` | {tau(places):.2f} | {inside:.1f} | {still:.1f} | {other.ahead.sum()} |"
        )
    others = [name for name in ("`score`", "identity alone", "all columns") if name in orders]
    shown = [board.columns[k] for k in board.scheme.columns]
    heads = ["place", "entry", "interval", "open", "P(first)", *others, *(x.title for x in shown)]
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    axes = swept_axes(board)
    for i, (entry, standing) in enumerate(zip(board.entries[: options.top], board.standings)):
        named = " ".join(f"{axis} {axis_text(entry.axes.get(axis))}" for axis in axes)
        cells = [
            standing.place, named, f"[{standing.low}, {standing.high}]", standing.text,
            f"{standing.p_first:.2f}", *(orders[name].get(entry.key, "–") for name in others),
            *(f"{board.means[i, k]:.3g}" for k in board.scheme.columns),
        ]  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
