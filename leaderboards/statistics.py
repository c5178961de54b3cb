"""Intervals and tests that respect identities.

Videos of one identity share a face and are not independent, so whole identities are resampled,
flipped and counted. Which interval a mean gets depends on what covers (benchmarks/validity.py):

- columns of few values (yes or no, three grades): Clopper and Pearson (1934), with the effective
  number of trials of Korn and Graubard (1998) where an identity has several samples;
- fewer than 20 identities, or few of them that differ: Student's t on the cluster-robust error,
  on the side of the longer tail as far as its correction for skew (Johnson, JASA 1978) reaches;
- otherwise the bootstrap-t (Efron 1981; Hall 1988): each draw's mean is divided by that draw's own
  standard error.

Paired differences are tested by flipping the signs of whole identities. The means of all subsets of
identities invert that test (Hartigan, JASA 1969), so p value and interval cannot contradict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from leaderboards.errors import LeaderboardError

#: With fewer identities than this, draws are too few and too alike to read 2.5 % tails from.
MIN_BOOTSTRAP = 20

#: How many comparisons of entries a test makes at most: a thousand and more get fewer flips.
MOST_COMPARISONS = 2 * 10**9

#: A column with at most this many values is counted, not averaged.
MAX_FEW = 5

BOOTSTRAP_T = "bootstrap-t"
STUDENT = f"Student's t widened for skew (fewer than {MIN_BOOTSTRAP} identities that differ)"
CLOPPER_PEARSON = "Clopper-Pearson (few values)"


@dataclass(frozen=True)
class Means:
    """Means of P columns with their intervals; every array is [P].

    n counts values, clusters counts identities; se is the cluster-robust standard error. With one
    identity there is no interval (NaN). method names each interval, "" where there is none.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    se: np.ndarray
    n: np.ndarray
    clusters: np.ndarray
    method: np.ndarray


@dataclass(frozen=True)
class Differences:
    """Mean paired differences of M pairs, each tested against 0; every array is [M].

    p: two-sided p value of the sign-flip test. The interval holds exactly the differences that the
    test does not reject, widened in columns of few values; it holds 0 if and only if p is above 1
    minus the confidence. NaN where so few identities (five and fewer at 95 %) cannot reject
    anything.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    n: np.ndarray
    clusters: np.ndarray


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


@lru_cache(maxsize=8)
def subsets(clusters: int, draws: int, seed: int) -> np.ndarray:
    """Subsets of `clusters` that are not empty, as 0 and 1: [B, clusters].

    All 2^clusters - 1 of them where those are at most `draws`, else `draws` random ones.
    """
    if clusters < 63 and 2**clusters - 1 <= draws:
        numbers = np.arange(1, 2**clusters)
        chosen = (numbers[:, None] >> np.arange(clusters)) & 1
    else:
        rng = np.random.default_rng([seed, clusters, draws, 1])
        chosen = rng.integers(0, 2, size=(draws, clusters), dtype=np.int8)
        chosen[~chosen.any(axis=1), 0] = 1
    out = chosen.astype(np.float64)
    out.setflags(write=False)
    return out


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts per cluster, [G, P] each, of values [K, P] with NaN for missing."""
    order = np.argsort(clusters, kind="stable")
    sorted_clusters = clusters[order]
    starts = np.flatnonzero(np.r_[True, sorted_clusters[1:] != sorted_clusters[:-1]])
    values = values[order]
    there = np.isfinite(values)
    sums = np.add.reduceat(np.where(there, values, 0.0), starts, axis=0)
    counts = np.add.reduceat(there.astype(np.float64), starts, axis=0)
    return sums, counts


def _blocks(counts: np.ndarray, most: int = 256) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(clusters [G] that are there, columns) for columns that have the same clusters.

    Clusters without any value in a column do not belong to its resamples, so columns are taken
    together by the set of clusters that they have, which is nearly always one set.
    """
    patterns = np.packbits(counts > 0, axis=0)
    _, pattern = np.unique(patterns, axis=1, return_inverse=True)
    pattern = pattern.ravel()
    for which in range(int(pattern.max()) + 1 if len(pattern) else 0):
        members = np.flatnonzero(pattern == which)
        there = counts[:, members[0]] > 0
        if there.any():
            for block in np.array_split(members, math.ceil(len(members) / most)):
                yield there, block


def _check(draws: int, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise LeaderboardError(f"confidence is {confidence}: give a number between 0 and 1.")
    if draws < 100:
        raise LeaderboardError(f"{draws} bootstrap draws cannot show a tail: give 100 or more.")


def few_values(
    values: np.ndarray, low: float | None = None, high: float | None = None
) -> tuple[float, float] | None:
    """(lowest, highest) possible value of a column that holds few distinct ones; None elsewhere.

    values: float [...], NaN for missing. low, high: the metric's range, where known. A column
    counts as one of few values if all lie on the two ends of the range, or if at most five distinct
    ones recur four times on average.
    """
    found = values[np.isfinite(values)]
    distinct = np.unique(found)
    if not len(distinct) or len(distinct) > MAX_FEW:
        return None
    known = None
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        known = (float(low), float(high))
        if np.isin(distinct, known).all():
            return known
    if len(distinct) < 2 or len(found) < 4 * len(distinct):
        return None
    return known or (float(distinct[0]), float(distinct[-1]))


def cluster_means(
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    ends: np.ndarray | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Means:
    """Mean of each column with an interval over clusters; see the module for which.

    values: float [K, P], NaN where a sample has no value. clusters: int [K]. ends: float [P, 2],
    lowest and highest value of columns of few values, NaN elsewhere. draws: resamples; confidence
    in (0, 1). A column of NaN gives NaN. Raises LeaderboardError on a confidence outside (0, 1) or
    fewer than 100 draws.
    """
    _check(draws, confidence)
    values = np.asarray(values, dtype=np.float64)
    size = values.shape[1]
    ends = np.full((size, 2), np.nan) if ends is None else np.asarray(ends, dtype=np.float64)
    out = {name: np.full(size, np.nan) for name in ("mean", "low", "high", "se")}
    n, groups = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    method = np.full(size, "", dtype=object)
    if not len(values):
        return Means(**out, n=n, clusters=groups, method=method)
    sums, counts = cluster_sums(values, np.asarray(clusters))
    for there, block in _blocks(counts):
        g = int(there.sum())
        n[block], groups[block] = counts[:, block].sum(axis=0).astype(np.int64), g
        part_sums, part_counts = sums[np.ix_(there, block)], counts[np.ix_(there, block)]
        mean, se, residual = _robust_error(part_sums, part_counts)
        out["mean"][block] = mean
        if g == 1:
            continue
        out["se"][block] = se
        few = np.isfinite(ends[block]).all(axis=1)
        if few.any():
            out["low"][block[few]], out["high"][block[few]] = _clopper_pearson(
                part_sums[:, few], part_counts[:, few], ends[block[few]], confidence
            )
            method[block[few]] = CLOPPER_PEARSON
        if few.all():
            continue
        rest = block[~few]
        half = stats.t.ppf((1 + confidence) / 2, g - 1) * se[~few]
        shift = _skew_shift(residual[:, ~few], se[~few], confidence)
        low = mean[~few] - half + np.minimum(shift, 0.0)
        high = mean[~few] + half + np.maximum(shift, 0.0)
        method[rest] = STUDENT
        if g >= MIN_BOOTSTRAP:
            drawn_low, drawn_high, told = _bootstrap_t(
                mean[~few], se[~few], residual[:, ~few], part_counts[:, ~few], draws, confidence,
                seed,
            )  # fmt: skip
            # Where draws without any spread are common, too few identities differ to resample.
            sure = told >= 0.9
            low, high = np.where(sure, drawn_low, low), np.where(sure, drawn_high, high)
            method[rest[sure]] = BOOTSTRAP_T
        out["low"][rest], out["high"][rest] = low, high
    return Means(**out, n=n, clusters=groups, method=method)


def _robust_error(
    sums: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [P], cluster-robust standard error [P], and residual sums per cluster [G, P]."""
    g = len(sums)
    total = counts.sum(axis=0)
    mean = sums.sum(axis=0) / total
    residual = sums - mean * counts  # adds up to 0 over clusters
    if g == 1:
        return mean, np.full_like(mean, np.nan), residual
    se = np.sqrt(g / (g - 1) * (residual**2).sum(axis=0)) / total
    # Equal values leave only rounding noise in the residuals; that is not spread.
    se[se <= 1e-13 * np.abs(mean)] = 0.0
    return mean, se, residual


def _skew_shift(residual: np.ndarray, se: np.ndarray, confidence: float) -> np.ndarray:
    """How far skew moves the ends of Student's t, [P] of residuals per cluster [G, P].

    The first Edgeworth term of Johnson's modified t: ``G1 se / sqrt(G) (1/6 + t^2 / 3)``, with the
    sample skewness G1. Few clusters show too little of a tail, so both ends together, the moved and
    the unmoved, cover where either alone falls short.
    """
    g = len(residual)
    if g < 3:
        return np.zeros_like(se)
    spread = np.sqrt((residual**2).mean(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = (residual**3).mean(axis=0) / spread**3 * math.sqrt(g * (g - 1)) / (g - 2)
    t = stats.t.ppf((1 + confidence) / 2, g - 1)
    return np.where(se > 0, skew * se / math.sqrt(g) * (1 / 6 + t**2 / 3), 0.0)


def _with_ends(
    sums: np.ndarray, counts: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts per cluster [G, P] and two more clusters of average size, one at each end."""
    size = counts.mean(axis=0)
    return np.vstack([sums, low * size, high * size]), np.vstack([counts, size, size])


def _clopper_pearson(
    sums: np.ndarray, counts: np.ndarray, ends: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Exact binomial limits of means [P] within ends [P, 2], from effective trials.

    Single samples of a yes-or-no column are trials as they are. Elsewhere the samples are worth
    fewer trials by the design effect (Korn and Graubard 1998), at most all of them. It is estimated
    with one more cluster at each end, since clusters that are all alike show no spread.
    """
    low, high = ends.T
    width = high - low
    total = counts.sum(axis=0)
    share = np.clip((sums.sum(axis=0) / total - low) / width, 0.0, 1.0)
    wide_sums, wide_counts = _with_ends(sums, counts, low, high)
    mean, se, _ = _robust_error(wide_sums, wide_counts)
    wide_share = (mean - low) / width
    g = len(sums)
    variance = (se / width) ** 2 * (g + 1) / (g + 2)
    effect = variance * wide_counts.sum(axis=0) / (wide_share * (1 - wide_share))
    tail = (1 + confidence) / 2
    trials = np.minimum(total / effect, total)
    hits = share * trials
    # An end that nothing lies beyond is the end itself.
    with np.errstate(invalid="ignore"):
        lower = np.where(hits > 0, stats.beta.ppf(1 - tail, hits, trials - hits + 1), 0.0)
        upper = np.where(hits < trials, stats.beta.ppf(tail, hits + 1, trials - hits), 1.0)
    return low + lower * width, low + upper * width


def _bootstrap_t(
    mean: np.ndarray,
    se: np.ndarray,
    residual: np.ndarray,
    counts: np.ndarray,
    draws: int,
    confidence: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bootstrap-t limits of means [P] from residual sums and counts per cluster [G, P], and the
    share of draws that say something."""
    g = len(residual)
    weights = resampling_weights(g, draws, seed)  # [B, G]
    drawn = weights @ np.concatenate([residual, residual**2, residual * counts], axis=1)
    drawn_residual, drawn_squares, drawn_cross = np.split(drawn, 3, axis=1)  # [B, P]
    # Where every column has the same counts, one column of them is enough.
    one = counts[:, :1] if bool((counts == counts[:, :1]).all()) else counts
    drawn_total, drawn_count_squares = weights @ one, weights @ one**2
    shift = drawn_residual / drawn_total  # [B, P]: the draw's mean minus the mean
    squares = drawn_squares - 2 * shift * drawn_cross + shift**2 * drawn_count_squares
    drawn_se = np.sqrt(g / (g - 1) * np.maximum(squares, 0.0)) / drawn_total
    # A draw of identities that are all alike has no spread to divide by, so it says nothing about
    # t; it is left out. (Below the floor only rounding noise is left of a spread.)
    told = drawn_se > 1e-5 * se
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(told, shift / drawn_se, np.nan)
    ratio.sort(axis=0)  # NaN last
    kept = told.sum(axis=0)  # [P]
    tail = (1 - confidence) / 2
    below = np.clip(np.floor((kept + 1) * tail).astype(int) - 1, 0, None)
    above = np.maximum(kept - 1 - below, 0)
    each = np.arange(ratio.shape[1])
    low, high = mean - ratio[above, each] * se, mean - ratio[below, each] * se
    return np.minimum(low, mean), np.maximum(high, mean), kept / draws


# --------------------------------------------------------------------------- paired differences


def paired_tests(
    differences: np.ndarray,
    clusters: np.ndarray,
    *,
    span: float | None = None,
    draws: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Differences:
    """Test M paired differences [K, M] against 0 by flipping the signs of whole clusters.

    The test is exact (all flips) where there are at most `draws` of them, that is up to 13
    clusters; else its p value cannot fall below 2 / (draws + 1). span: the largest possible
    difference of a column of few values; its interval is widened by Bonett and Price (2012), never
    across 0. Raises LeaderboardError as `cluster_means` does.
    """
    _check(draws, confidence)
    differences = np.asarray(differences, dtype=np.float64)
    size = differences.shape[1]
    out = {name: np.full(size, np.nan) for name in ("mean", "low", "high", "p")}
    n, groups = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    if not len(differences):
        return Differences(**out, n=n, clusters=groups)
    sums, counts = cluster_sums(differences, np.asarray(clusters))
    tail = (1 - confidence) / 2
    for there, block in _blocks(counts):
        part_sums, part_counts = sums[np.ix_(there, block)], counts[np.ix_(there, block)]
        g = len(part_sums)
        total = part_counts.sum(axis=0)
        mean = part_sums.sum(axis=0) / total
        chosen = subsets(g, draws, seed)  # [B, G]
        subset_sums = chosen @ part_sums  # [B, M]
        # What cancels out leaves rounding noise, which must not look like a side.
        subset_sums[np.abs(subset_sums) <= 1e-12 * np.abs(part_sums).sum(axis=0)] = 0.0
        means = subset_sums / (chosen @ part_counts)
        flips = len(chosen) + 1
        sides = [1 + (means <= 0).sum(axis=0), 1 + (means >= 0).sum(axis=0)]
        p = np.minimum(2 * np.minimum(*sides) / flips, 1.0)
        k = math.floor(flips * tail + 1e-9)
        if k:
            means.partition([k - 1, len(means) - k], axis=0)
            low, high = means[k - 1], means[-k]
            if span is not None and g > 1:
                wide = _bonett_price(part_sums, part_counts, span, confidence)
                low = np.where((low > 0) & (wide[0] <= 0), low, np.minimum(low, wide[0]))
                high = np.where((high < 0) & (wide[1] >= 0), high, np.maximum(high, wide[1]))
            out["low"][block], out["high"][block] = low, high
        out["mean"][block], out["p"][block] = mean, p
        n[block], groups[block] = total.astype(np.int64), g
    return Differences(**out, n=n, clusters=groups)


def _bonett_price(
    sums: np.ndarray, counts: np.ndarray, span: float, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of mean differences [M] after adding one identity at each end of what is possible."""
    ends = np.full(sums.shape[1], span)
    wide_sums, wide_counts = _with_ends(sums, counts, -ends, ends)
    mean, se, _ = _robust_error(wide_sums, wide_counts)
    half = stats.t.ppf((1 + confidence) / 2, len(sums) + 1) * se
    return np.maximum(mean - half, -span), np.minimum(mean + half, span)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down adjusted p values of p [M]; NaN stays NaN and does not count."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    there = np.flatnonzero(~np.isnan(p))
    order = there[np.argsort(p[there], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def affordable(draws: int, entries: int) -> int:
    """How many draws of all pairs of entries to take: 99 at least, enough for a level of 1 %.

    >>> affordable(2000, 200), affordable(2000, 2000), affordable(2000, 10_000)
    (2000, 500, 99)
    """
    return min(draws, max(99, MOST_COMPARISONS // max(1, entries) ** 2))


#: Numbers of a block of pairs, so few that they stay in a core's own cache.
_BLOCK = 2**15


class FlippedPairs:
    """|t| of every pair of entries in every column, against the largest when signs are flipped.

    The signs of whole clusters are flipped for all pairs at once, and a pair's |t| stands against
    the largest of all pairs (Westfall and Young 1993), so that the best of many equal entries pays
    for its luck.

    Args:
        values: float [C, E, K]; an entry has a value in all samples of a column that any other has,
            or in none, and then takes no part.
        clusters: int [K].
        draws: flips, fewer of them with thousands of entries (`affordable`); all where there are no
            more than so many.

    Attributes:
        largest: float [C, B], the largest |t| of each flip; the first flips nothing.
    """

    def __init__(
        self, values: np.ndarray, clusters: np.ndarray, *, draws: int = 1999, seed: int = 0
    ) -> None:
        c, e, k = values.shape
        self._entries, self._parts = e, [np.zeros((0, 0))] * c
        self._members = [np.flatnonzero(np.isfinite(one).any(axis=1)) for one in values]
        self._seen: list[np.ndarray] = [np.zeros(0, np.float32)] * c
        self.largest = np.zeros((c, 1))
        if not (c and k):
            return
        sums, _ = cluster_sums(values.reshape(c * e, k).T, np.asarray(clusters))
        signs = _signs(len(sums), affordable(draws, e), seed)
        sums = sums.reshape(len(sums), c, e)
        self.largest = np.zeros((c, len(signs)))
        for j, members in enumerate(self._members):
            part = sums[:, j, members]
            if len(members):  # differences stay, rounding gets less
                part = part - part.mean(axis=1, keepdims=True)
            self._parts[j] = part
            drawn = np.ascontiguousarray((signs @ part).T.astype(np.float32))  # [members, B]
            self._seen[j] = drawn[:, 0].copy()
            self.largest[j] = self._largest(j, drawn)

    def _scale(self, j: int, first: slice, second: slice) -> np.ndarray:
        """1 over the norms of some members' differences from others; 0 where they are the same."""
        part = self._parts[j]
        one, other = part[:, first], part[:, second]
        both = (one**2).sum(axis=0)[:, None] + (other**2).sum(axis=0)
        norms = both - 2 * (one.T @ other)
        with np.errstate(divide="ignore"):
            scale = np.where(norms > 1e-12 * both, 1 / np.sqrt(np.maximum(norms, 1e-300)), 0.0)
        return scale.astype(np.float32)

    def _largest(self, j: int, drawn: np.ndarray) -> np.ndarray:
        members, flips = drawn.shape
        largest = np.zeros(flips, np.float32)
        rows = max(16, _BLOCK // flips)
        buffer = np.empty((rows, flips), np.float32)
        for start in range(0, members, rows):
            stop = min(start + rows, members)
            scale = self._scale(j, slice(0, stop), slice(start, stop))
            for i in range(stop - 1):
                begin = max(start, i + 1)
                t = np.subtract(drawn[begin:stop], drawn[i], out=buffer[: stop - begin])
                np.abs(t, out=t)
                t *= scale[i, begin - start :, None]
                np.maximum(largest, t.max(axis=0), out=largest)
        return largest

    def told(self, column: int, level: float, largest: np.ndarray | None = None) -> np.ndarray:
        """bool [E, E]: p values of a column that are at most `level`; see `p`."""
        out = np.zeros((self._entries, self._entries), dtype=bool)
        members, seen = self._members[column], self._seen[column]
        ordered = np.sort(self.largest[column] if largest is None else largest)
        most = int(level * len(ordered) + 1e-9)  # so many may be as large
        least = ordered[-most - 1] if most < len(ordered) else -np.inf
        for start in range(0, len(members), 32):
            rows = slice(start, start + 32)
            t = np.abs(seen[rows, None] - seen) * self._scale(column, rows, slice(None))
            out[np.ix_(members[rows], members)] = t.astype(np.float64) * (1 - 1e-5) > least
        return out

    def p(self, column: int, entry: int, largest: np.ndarray | None = None) -> np.ndarray:
        """Adjusted p values [E] of an entry against each; 1 against itself, NaN without values.

        largest: float [B], what |t| stands against; the column's own where not given.
        """
        out = np.full(self._entries, np.nan)
        members = self._members[column]
        at = np.flatnonzero(members == entry)
        if len(at):
            i = int(at[0])
            seen = np.abs(self._seen[column] - self._seen[column][i])
            scale = self._scale(column, slice(i, i + 1), slice(None))[0]
            seen = (seen * scale).astype(np.float64)
            ordered = np.sort(self.largest[column] if largest is None else largest)
            beyond = len(ordered) - np.searchsorted(ordered, seen * (1 - 1e-5), side="left")
            out[members] = beyond / len(ordered)
        return out


def _signs(clusters: int, draws: int, seed: int) -> np.ndarray:
    """Signs of clusters, [B, clusters]: all that tell |t| apart, or so many drawn by lot.

    The whole set of signs and its negative give the same |t|, so the first cluster is never
    flipped, and the first row is what was seen.
    """
    exact = clusters < 63 and 2 ** (clusters - 1) <= draws
    chosen = np.zeros((2 ** (clusters - 1) if exact else draws + 1, clusters))
    if exact:
        chosen[:, 1:] = (np.arange(len(chosen))[:, None] >> np.arange(clusters - 1)) & 1
    else:
        chosen[1:, 1:] = np.random.default_rng([seed, clusters, draws, 2]).integers(
            0, 2, (draws, clusters - 1), dtype=np.int8
        )
    return 1 - 2 * chosen


def all_pairs(
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    joint: bool = False,
    draws: int = 1999,
    seed: int = 0,
) -> np.ndarray:
    """Adjusted p values of every pair of entries in every column, [C, E, E], 1 on the diagonal.

    As `FlippedPairs`. joint: against the largest over all columns too.
    """
    flipped = FlippedPairs(values, clusters, draws=draws, seed=seed)
    largest = flipped.largest.max(axis=0) if joint and len(values) else None
    return np.array(
        [[flipped.p(c, e, largest) for e in range(values.shape[1])] for c in range(values.shape[0])]
    ).reshape(values.shape[0], values.shape[1], values.shape[1])
