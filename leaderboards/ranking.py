"""Ways to order entries: the challenge's rank sum, a weighted score, the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from leaderboards.errors import LeaderboardError
from leaderboards.scores import Column


def challenge_ranks(means: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
    """Rank entries on each metric, 1 is best; ties share the better rank, a missing mean is worst.

    means: float [E, C], NaN where missing. Returns int [E, C], 0 throughout a column without a
    direction; phase 1 of the challenge adds each row up, and the smallest sum wins.
    """
    ranks = np.zeros(means.shape, dtype=np.int64)
    for c, column in enumerate(columns):
        if column.higher_is_better is None:
            continue
        badness = -column.sign * means[:, c]
        ranks[:, c] = rankdata(np.where(np.isnan(badness), np.inf, badness), method="min")
    return ranks


def shared_ranks(badness: np.ndarray) -> np.ndarray:
    """Competition ranks of numbers [E] where smaller is better; NaN comes last."""
    return rankdata(np.where(np.isnan(badness), np.inf, badness), method="min").astype(np.int64)


def normalised_scores(
    means: np.ndarray, columns: Sequence[Column], weights: Mapping[str, float] | None = None
) -> np.ndarray:
    """Weighted mean of metrics clipped to their ranges and scaled to 0..1, as OpenS2V-Eval does.

    means: float [E, C]. weights: column key to weight, all 1 where None; columns that are not
    named do not count. A missing mean counts 0, the worst. Returns float [E] in 0..1.
    Raises LeaderboardError for an unknown column, a weight that is not positive, or a column
    without a finite range.
    """
    known = {c.key: i for i, c in enumerate(columns) if c.higher_is_better is not None}
    weights = dict.fromkeys(known, 1.0) if weights is None else dict(weights)
    total = np.zeros(len(means))
    for key, weight in weights.items():
        if key not in known:
            raise LeaderboardError(
                f"there is no column {key!r} to weigh: the columns are {', '.join(known)}."
            )
        if not weight > 0:
            raise LeaderboardError(f"the weight of {key!r} is {weight}: give a positive number.")
        column = columns[known[key]]
        low, high = column.low, column.high
        if (
            low is None
            or high is None
            or not (np.isfinite(low) and np.isfinite(high) and low < high)
        ):
            raise LeaderboardError(
                f"column {key!r} has no finite range to scale by: give one with ranges=, or "
                "leave the "
                "column out of the weights."
            )
        scaled = (np.clip(means[:, known[key]], low, high) - low) / (high - low)
        total += weight * np.nan_to_num(scaled if column.higher_is_better else 1 - scaled)
    return total / sum(weights.values())


def pareto_front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points [E] are not beaten: no other is at least as good on both and better on one.

    Higher is better on both axes (negate one that is not); a NaN is never on the front.
    """
    better = (x[:, None] >= x) & (y[:, None] >= y) & ((x[:, None] > x) | (y[:, None] > y))
    return np.isfinite(x) & np.isfinite(y) & ~better.any(axis=0)
