"""Which entries can be told apart on a column: from the best of many, and in every pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from leaderboards import ranking, statistics
from leaderboards.scores import Column


def tied_with_best(
    columns: Sequence[Column],
    means: np.ndarray,
    lows: np.ndarray,
    highs: np.ndarray,
    flipped: statistics.FlippedPairs,
    level: float,
) -> np.ndarray:
    """bool [E, C]: the paired comparison does not tell a mean from the best of its column.

    means, lows, highs: float [E, C]. flipped: of all columns; it stands against the largest
    difference of all pairs, so that the best pays for being picked. Columns without samples are
    told apart by intervals that do not overlap, and where there are none, by their means.
    """
    tied = np.zeros(means.shape, dtype=bool)
    settled = ranking.settle(means)
    for c, column in enumerate(columns):
        there = np.flatnonzero(~np.isnan(means[:, c]))
        if not len(there) or not column.sign:
            continue
        best = int(there[np.argmax(column.sign * settled[there, c])])
        tied[settled[:, c] == settled[best, c], c] = True
        if column.level == "sample":
            tied[there, c] |= flipped.p(c, best)[there] > level
        else:
            low, high = lows[:, c], highs[:, c]
            apart = high < low[best] if column.sign > 0 else low > high[best]
            tied[:, c] |= ~np.isnan(low) & ~np.isnan(low[best]) & ~apart
    return tied


def pairs(
    labels: Sequence[str],
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    span: float | None,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Every pair of entries with values [E, K] on common samples; see `Leaderboard.compare`."""
    names = np.array(labels, dtype=object)
    first, second = np.triu_indices(len(names), 1)
    tests = statistics.paired_tests(
        (values[first] - values[second]).T, clusters, span=span, confidence=confidence, seed=seed
    )
    adjusted = statistics.all_pairs(values[None], clusters, draws=9999, seed=seed)[0, first, second]
    return pd.DataFrame(
        {
            "a": names[first],
            "b": names[second],
            "difference": tests.mean,
            "low": tests.low,
            "high": tests.high,
            "n": tests.n,
            "identities": tests.clusters,
            "p": tests.p,
            "p_adjusted": adjusted,
            "decided": adjusted <= 1 - confidence + 1e-12,
        }
    )
