"""Intervals and tests that respect identities: the studentised cluster bootstrap and its relatives.

Videos of one identity share a face and are not independent, so whole identities are resampled. The
interval is the bootstrap-t (Efron 1981; Hall 1988): each draw's mean is divided by that draw's own
cluster-robust standard error. A percentile interval covers too rarely with few identities; this one
was measured to cover 93-97 % (benchmarks/validity.py). All columns share one set of draws, so that
a thousand columns cost a few matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import stats

from leaderboards.errors import LeaderboardError

Test = Literal["bootstrap", "wilcoxon"]

#: With fewer identities than this, resampling has too few distinct draws to read 2.5 % tails from;
#: the interval is then Student's t on the same cluster-robust standard error.
MIN_CLUSTERS = 6


@dataclass(frozen=True)
class Means:
    """Means of P columns with their intervals; every array is [P].

    n counts values, clusters counts identities; se is the cluster-robust standard error. With one
    identity there is no interval (NaN). p is the two-sided p value of "the mean is 0".
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    se: np.ndarray
    n: np.ndarray
    clusters: np.ndarray
    p: np.ndarray
    method: str


@lru_cache(maxsize=8)
def resampling_weights(clusters: int, draws: int, seed: int) -> np.ndarray:
    """How often each of `clusters` appears in each of `draws` resamples: [draws, clusters]."""
    rng = np.random.default_rng([seed, clusters, draws])
    picks = rng.integers(0, clusters, size=(draws, clusters))
    picks += np.arange(draws)[:, None] * clusters
    counts = np.bincount(picks.ravel(), minlength=draws * clusters)
    weights = counts.reshape(draws, clusters).astype(np.float64)
    weights.setflags(write=False)
    return weights


def _cluster_sums(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts per cluster, [G, P] each, of values [K, P] with NaN for missing."""
    order = np.argsort(clusters, kind="stable")
    sorted_clusters = clusters[order]
    starts = np.flatnonzero(np.r_[True, sorted_clusters[1:] != sorted_clusters[:-1]])
    values = values[order]
    there = np.isfinite(values)
    sums = np.add.reduceat(np.where(there, values, 0.0), starts, axis=0)
    counts = np.add.reduceat(there.astype(np.float64), starts, axis=0)
    return sums, counts


def cluster_means(
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Means:
    """Mean of each column with a bootstrap-t interval over clusters.

    values: float [K, P], NaN where a sample has no value. clusters: int [K]. draws: resamples;
    confidence in (0, 1). A column of NaN gives NaN. Raises LeaderboardError on a confidence outside
    (0, 1) or fewer than 100 draws.
    """
    if not 0 < confidence < 1:
        raise LeaderboardError(f"confidence is {confidence}: give a number between 0 and 1.")
    if draws < 100:
        raise LeaderboardError(f"{draws} bootstrap draws cannot show a tail: give 100 or more.")
    values = np.asarray(values, dtype=np.float64)
    size = values.shape[1]
    nan = np.full(size, np.nan)
    out = {name: nan.copy() for name in ("mean", "low", "high", "se", "p")}
    n = np.zeros(size, dtype=np.int64)
    groups = np.zeros(size, dtype=np.int64)
    method = "bootstrap-t over identities"
    if not len(values):
        return Means(**out, n=n, clusters=groups, method=method)
    sums, counts = _cluster_sums(values, np.asarray(clusters))
    # Clusters without any value in a column do not belong to its resamples: columns are taken
    # together by the set of clusters that they have, which is nearly always one set.
    patterns = np.packbits(counts > 0, axis=0)
    _, pattern = np.unique(patterns, axis=1, return_inverse=True)
    pattern = pattern.ravel()
    small = False
    for which in range(int(pattern.max()) + 1 if size else 0):
        members = np.flatnonzero(pattern == which)
        there = counts[:, members[0]] > 0
        g = int(there.sum())
        if g == 0:
            continue
        for block in np.array_split(members, max(1, math.ceil(len(members) / 256))):
            result = _means_of_block(
                sums[np.ix_(there, block)], counts[np.ix_(there, block)], draws, confidence, seed
            )
            for name, array in zip(("mean", "low", "high", "se", "p"), result):
                out[name][block] = array
        n[members] = counts[:, members].sum(axis=0).astype(np.int64)
        groups[members] = g
        small |= 1 < g < MIN_CLUSTERS
    if small:
        method = f"Student's t over identities (fewer than {MIN_CLUSTERS})"
    return Means(**out, n=n, clusters=groups, method=method)


def _means_of_block(
    sums: np.ndarray, counts: np.ndarray, draws: int, confidence: float, seed: int
) -> tuple[np.ndarray, ...]:
    g = len(sums)
    total = counts.sum(axis=0)  # [P]
    mean = sums.sum(axis=0) / total
    if g == 1:
        nan = np.full_like(mean, np.nan)
        return mean, nan, nan, nan, nan
    residual = sums - mean * counts  # [G, P], adds up to 0 over clusters
    scale = g / (g - 1)
    se = np.sqrt(scale * (residual**2).sum(axis=0)) / total
    # Equal values leave only rounding noise in the residuals; that is no spread at all.
    se[se <= 1e-13 * np.abs(mean)] = 0.0
    tail = (1 - confidence) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(se > 0, np.abs(mean) / se, np.where(mean == 0, 0.0, np.inf))
    if g < MIN_CLUSTERS:
        half = stats.t.ppf(1 - tail, g - 1) * se
        return mean, mean - half, mean + half, se, 2 * stats.t.sf(t, g - 1)
    weights = resampling_weights(g, draws, seed)  # [B, G]
    wide = np.concatenate([residual, residual**2], axis=1)
    same = bool((counts == counts[:, :1]).all())
    drawn = weights @ wide
    drawn_residual, drawn_squares = np.split(drawn, 2, axis=1)  # [B, P]
    if same:  # every column has the same counts: one column of them is enough
        drawn_total = weights @ counts[:, :1]
        drawn_count_squares = weights @ counts[:, :1] ** 2
    else:
        drawn_total, drawn_count_squares = weights @ counts, weights @ counts**2
    shift = drawn_residual / drawn_total  # [B, P]: the draw's mean minus the mean
    drawn_cross = weights @ (residual * counts)
    squares = drawn_squares - 2 * shift * drawn_cross + shift**2 * drawn_count_squares
    drawn_se = np.sqrt(scale * np.maximum(squares, 0.0)) / drawn_total
    # A draw of identities that are all alike has no spread to divide by, so it says nothing about
    # t; it is left out. (Below the floor only rounding noise is left of a spread.)
    told = drawn_se > 1e-5 * se
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(told, shift / drawn_se, np.nan)
    ratio.sort(axis=0)  # NaN last
    kept = told.sum(axis=0)  # [P]
    lower, upper = _quantiles(ratio, kept, tail)
    with np.errstate(invalid="ignore"):
        low = np.where(se > 0, mean - upper * se, mean)
        high = np.where(se > 0, mean - lower * se, mean)
    exceed = np.array(
        [
            np.searchsorted(ratio[: kept[p], p], -t[p], side="right")
            + kept[p]
            - np.searchsorted(ratio[: kept[p], p], t[p], side="left")
            for p in range(len(t))
        ]
    )
    p_value = np.where(t == 0, 1.0, np.minimum((1 + exceed) / (kept + 1), 1.0))
    # Without any spread, a mean other than 0 is certain as far as these samples tell.
    p_value = np.where((se == 0) & (mean != 0), 1 / (draws + 1), p_value)
    return mean, low, high, se, p_value


def _quantiles(ordered: np.ndarray, kept: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Tail quantiles of the first kept [P] of ordered draws [B, P], as order statistics."""
    below = np.clip(np.floor((kept + 1) * tail).astype(int) - 1, 0, None)
    above = np.maximum(kept - 1 - below, 0)
    each = np.arange(ordered.shape[1])
    return ordered[below, each], ordered[above, each]


def wilcoxon_p(differences: np.ndarray, clusters: np.ndarray) -> float:
    """Two-sided Wilcoxon signed-rank p value of paired differences [K], one value per cluster.

    Differences are averaged within a cluster first, since the test wants independent pairs.
    """
    sums, counts = _cluster_sums(np.asarray(differences, float)[:, None], np.asarray(clusters))
    there = counts[:, 0] > 0
    means = sums[there, 0] / counts[there, 0]
    if len(means) == 0 or np.all(means == 0):
        return 1.0
    return float(stats.wilcoxon(means).pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down adjusted p values of p [M]; NaN stays NaN and does not count."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    there = np.flatnonzero(~np.isnan(p))
    order = there[np.argsort(p[there], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted


def paired_tests(
    differences: np.ndarray,
    clusters: np.ndarray,
    *,
    test: Test = "bootstrap",
    draws: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Means:
    """Test M paired differences [K, M] against 0, samples of one cluster taken together.

    test: "bootstrap" (two-sided bootstrap-t; its p cannot fall below 1/(draws + 1)) or "wilcoxon"
    (signed ranks of the clusters' mean differences; the interval stays the bootstrap's).
    """
    if test not in ("bootstrap", "wilcoxon"):
        raise LeaderboardError(f"the test {test!r} is unknown: give 'bootstrap' or 'wilcoxon'.")
    means = cluster_means(differences, clusters, draws=draws, confidence=confidence, seed=seed)
    if test == "wilcoxon":
        p = np.array([wilcoxon_p(column, clusters) for column in np.asarray(differences).T])
        p[means.n == 0] = np.nan
        means = Means(**{**means.__dict__, "p": p})
    return means


def krippendorff_alpha(
    ratings: np.ndarray, level: Literal["nominal", "interval"] = "nominal"
) -> float:
    """Krippendorff's alpha: 1 is perfect agreement between raters, 0 what chance gives.

    ratings: float [raters, units], NaN where a rater did not see a unit; units with fewer than two
    ratings say nothing and are left out. level: the distance between two ratings, 0/1 for
    "nominal", squared for "interval". Krippendorff, Content Analysis (2004), chapter 11: one minus
    observed over expected disagreement, from the coincidence matrix. NaN where no unit has two
    ratings; 1.0 where all ratings are alike, as nothing ever disagreed.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    there = ~np.isnan(ratings)
    ratings = ratings[:, there.sum(axis=0) >= 2]
    if not ratings.size:
        return math.nan
    kinds = np.unique(ratings[~np.isnan(ratings)])
    counts = np.stack([(ratings == kind).sum(axis=0) for kind in kinds]).astype(float)  # [V, U]
    pairable = counts.sum(axis=0)  # [U]
    coincidence = (counts / (pairable - 1)) @ counts.T
    coincidence -= np.diag((counts / (pairable - 1)).sum(axis=1))
    totals = coincidence.sum(axis=1)
    gap = kinds[:, None] - kinds[None, :]
    distance = (gap != 0).astype(float) if level == "nominal" else gap**2
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    if expected == 0:
        return 1.0
    return float(1 - (coincidence * distance).sum() / expected)
