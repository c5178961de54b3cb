"""Frontiers of two points compared at a matched level, with intervals over people and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

#: A frontier's values [weights, people]: what is matched, and what is compared; NaN for missing.
Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """A mean with its 95 % interval and two-sided p of "it is 0".

    `shared` is the range of the matched measure, the mean over seeds. With one seed the interval is
    over people alone. NaN where the frontiers share too little.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    shared: tuple[float, float]


def polyline(rows: Rows, peak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over people, sorted by what is matched, up to the weight with the highest `peak` mean.

    Args:
        rows: matched and compared values [weights, people], weights ascending.
        peak: [weights, people], what more weight is spent for.
    """
    last = int(np.nanmean(peak, axis=1).argmax()) + 1
    x, y = (np.nanmean(values[:last], axis=1) for values in rows)
    order = np.argsort(x)
    return x[order], y[order]


def gap(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], least: float
) -> tuple[float, float, float]:
    """Mean of first minus second over the range both reach, and that range.

    The difference is NaN where the range is shorter than `least`.
    """
    low = max(first[0][0], second[0][0])
    high = min(first[0][-1], second[0][-1])
    if high - low < least:
        return np.nan, low, high
    at = np.linspace(low, high, 101)
    return float((np.interp(at, *first) - np.interp(at, *second)).mean()), low, high


def compare(
    first: Sequence[tuple[Rows, np.ndarray]],
    second: Sequence[tuple[Rows, np.ndarray]],
    least: float,
) -> Difference:
    """First minus second at a matched level, seed by seed.

    Args:
        first, second: for each seed the rows and the peak's values, see `polyline`; the same seeds
            and people in both.
        least: shortest shared range for which the question can be asked.

    Returns:
        The mean over seeds; its variance is the sum of two jackknives, over people and over seeds,
        and the interval Student's with Satterthwaite's degrees of freedom.
    """
    people, seeds = first[0][1].shape[1], len(first)

    def gaps(keep: np.ndarray) -> np.ndarray:
        lines = [
            [polyline((x[:, keep], y[:, keep]), peak[:, keep]) for (x, y), peak in side]
            for side in (first, second)
        ]
        return np.array([gap(a, b, least) for a, b in zip(*lines, strict=True)])

    everyone = np.arange(people)
    whole = gaps(everyone)
    mean, low, high = whole.mean(axis=0)
    shared = (float(low), float(high))
    if np.isnan(mean):
        return Difference(np.nan, np.nan, np.nan, 1.0, seeds, shared)
    without = np.array([gaps(np.delete(everyone, i))[:, 0].mean() for i in everyone])
    variances = [(_jackknife(without), people - 1)]
    if seeds > 1:
        others = np.array([np.delete(whole[:, 0], i).mean() for i in range(seeds)])
        variances.append((_jackknife(others), seeds - 1))
    low, high, p = _student(float(mean), variances)
    return Difference(float(mean), low, high, p, seeds, shared)


def _student(mean: float, variances: Sequence[tuple[float, int]]) -> tuple[float, float, float]:
    """95 % interval and p from independent variances, each with its degrees of freedom."""
    total = sum(variance for variance, _ in variances)
    if np.isnan(total):
        return np.nan, np.nan, 1.0
    if total == 0:
        return mean, mean, float(mean == 0)
    freedom = total**2 / sum(variance**2 / free for variance, free in variances)
    half = float(stats.t.ppf(0.975, freedom) * total**0.5)
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / total**0.5, freedom))


def _jackknife(estimates: np.ndarray) -> float:
    """Variance of an estimate from its values with one unit left out at a time."""
    count = len(estimates)
    return float((count - 1) / count * ((estimates - estimates.mean()) ** 2).sum())


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval over people and seeds of values [seeds, people], NaN for missing."""

    def total(keep_seeds: np.ndarray, keep: np.ndarray) -> float:
        return float(np.nanmean(values[np.ix_(keep_seeds, keep)], axis=1).mean())

    seeds, people = np.arange(len(values)), np.arange(values.shape[1])
    mean = total(seeds, people)
    parts: list[tuple[float, int]] = [
        (
            _jackknife(np.array([total(seeds, np.delete(people, i)) for i in people])),
            len(people) - 1,
        )
    ]
    if len(seeds) > 1:
        left = [total(np.delete(seeds, i), people) for i in seeds]
        parts.append((_jackknife(np.array(left)), len(seeds) - 1))
    return (mean, *_student(mean, parts)[:2])
