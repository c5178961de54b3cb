"""The kernel distance between two sets of features: KID and KVD, with an interval over people.

The estimate is the unbiased squared maximum mean discrepancy, for sets of any size. What counts as
a sample is a *video*: frames of one video are alike, so pairs within a video are left out as the
pair of a sample with itself is, and the interval resamples people, or videos where nobody is named.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metrics.clusters import Clusters, Interval, labels
from metrics.errors import MetricsError
from metrics.frechet import GROUPS, check_features, finite


def _kernel(x: Tensor, y: Tensor, degree: int, gamma: float | None, coefficient: float) -> Tensor:
    scale = 1.0 / x.shape[1] if gamma is None else gamma
    return (x @ y.T * scale + coefficient) ** degree


def _check_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = check_features(x, "x"), check_features(y, "y")
    if x.shape[1] != y.shape[1]:
        raise MetricsError(
            f"x has {x.shape[1]} dimensions and y has {y.shape[1]}; both must come from the same "
            "extractor."
        )
    return x, y.to(x.device)


def _within(kernel: Tensor, videos: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel values and pairs ``[N, N]``, 0 within a video."""
    same = (videos[:, None] == videos[None]).to(kernel.device)
    return kernel.masked_fill(same, 0.0), (~same).to(kernel.dtype)


def _mean_within(kernel: Tensor, videos: Tensor, name: str) -> Tensor:
    values, pairs = _within(kernel, videos)
    count = pairs.sum()
    if count == 0:
        raise MetricsError(
            f"the {len(videos)} samples of {name} are of one video and this distance needs at "
            "least 2; add videos."
        )
    return values.sum() / count


def kernel_distance(
    x: Tensor,
    y: Tensor,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coefficient: float = 1.0,
    x_videos: Tensor | None = None,
    y_videos: Tensor | None = None,
) -> float:
    """Kernel distance, the unbiased squared maximum mean discrepancy of KID and KVD.

    ``mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)`` with
    ``k(a, b) = (gamma a.b + coefficient)^degree`` (Binkowski et al. 2018, arXiv 1801.01401, eq. 4;
    Gretton et al. 2012). All pairs are used: no subsets, no randomness.

    Args:
        x: features ``[N, D]``; computed in float64.
        y: features ``[M, D]`` of the same extractor.
        degree, gamma, coefficient: the polynomial kernel; ``gamma=None`` is 1 / D, as in KID.
        x_videos, y_videos: which video each sample is of, ``[N]`` and ``[M]``; ``i != j`` then
            stands for samples of different videos. By default each is of its own.

    Returns:
        The estimate. Its expectation is 0 for equal distributions whatever the sample counts, so
        it may come out below 0.

    Raises:
        MetricsError: fewer than two videos, NaN, infinite or too large features, or different
            dimensions.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> round(kernel_distance(x, x + 1), 6)
        4.111111
    """
    x, y = _check_pair(x, y)
    kernel = (degree, gamma, coefficient)
    within = sum(
        _mean_within(_kernel(z, z, *kernel), labels(videos, len(z), f"{name}_videos"), name)
        for z, videos, name in ((x, x_videos, "x"), (y, y_videos, "y"))
    )
    return finite(within - 2 * _kernel(x, y, *kernel).mean())


def kernel_distance_interval(
    x: Tensor,
    y: Tensor,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coefficient: float = 1.0,
    x_videos: Tensor | None = None,
    y_videos: Tensor | None = None,
    x_people: Tensor | None = None,
    y_people: Tensor | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """:func:`kernel_distance` with a percentile bootstrap interval over people.

    People are drawn with replacement, and whoever is in both sets is drawn in both. A person drawn
    twice makes no pairs with itself beyond those within the person, which the unbiased estimate
    must leave out as it leaves out the diagonal; so resampling is a matter of multinomial weights
    on sums of the kernel per person. Near 0, where the statistic is degenerate, the interval is
    wider than it says.

    Args:
        x, y, degree, gamma, coefficient, x_videos, y_videos: as in :func:`kernel_distance`.
        x_people, y_people: who each sample shows; by default its video stands for a person.
        confidence: share of resampled values between the bounds, in (0, 1).
        resamples: number of bootstrap resamples.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        The value on the whole sets, the lower and upper bound, and influences as of
        :func:`metrics.frechet_interval`; no bounds below three videos or three people in a set.

    Raises:
        MetricsError: as :func:`kernel_distance`, or a confidence outside (0, 1).

    Example:
        >>> import torch
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> value, low, high, _ = kernel_distance_interval(x, x + 1)
        >>> low < value < high
        True
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise MetricsError(
            f"confidence is {confidence} and resamples {resamples}; use a confidence between 0 and "
            "1 and at least one resample."
        )
    x, y = _check_pair(x, y)
    kernel = (degree, gamma, coefficient)
    vx, vy = labels(x_videos, len(x), "x_videos"), labels(y_videos, len(y), "y_videos")
    kx, ky, kxy = (_kernel(a, b, *kernel) for a, b in ((x, x), (y, y), (x, y)))
    value = finite(_mean_within(kx, vx, "x") + _mean_within(ky, vy, "y") - 2 * kxy.mean())
    people = Clusters.of(vx, vy, x_people, y_people)
    if people.fewest < 3:
        return Interval(value, None, None)
    parts_x, parts_y = _within(kx, vx), _within(ky, vy)

    def weighted(wx: Tensor, wy: Tensor) -> Tensor:
        """Distances ``[R]`` with each person ``[R, people]`` so often in the sets."""
        wx, wy = wx.to(x), wy.to(x)
        return (
            _resampled(*parts_x, people.x, people.x, wx, wx, wx.shape[1])
            + _resampled(*parts_y, people.y, people.y, wy, wy, wy.shape[1])
            - 2 * _resampled(kxy, torch.ones_like(kxy), people.x, people.y, wx, wy, people.shared)
        )

    values = weighted(*people.draw(np.random.default_rng(seed), resamples))
    values = values[torch.isfinite(values)]  # a draw of one person alone leaves no pairs
    if not len(values):
        return Interval(value, None, None)
    tail = (1 - confidence) / 2
    bounds = torch.quantile(values, torch.tensor([tail, 1 - tail]).to(values))
    kinds = people.jackknife(GROUPS, lambda stay: weighted(*people.counts(stay)).tolist())
    found = people.labelled(kinds[0] + kinds[1], vx if x_people is None else x_people)
    return Interval(value, float(bounds[0]), float(bounds[1]), found)


def _resampled(
    kernel: Tensor,
    pairs: Tensor,
    rows: Tensor,
    columns: Tensor,
    wx: Tensor,
    wy: Tensor,
    shared: int,
) -> Tensor:
    """Weighted means of the kernel ``[R]``, for weights of people ``[R, people]``.

    Rows and columns of the first ``shared`` numbers are of the same person.
    """
    a = torch.nn.functional.one_hot(rows, wx.shape[1]).to(kernel)  # [N, people]
    b = torch.nn.functional.one_hot(columns, wy.shape[1]).to(kernel)
    sums, counts = a.T @ kernel @ b, a.T @ pairs @ b  # [people, people]
    same = torch.eye(*sums.shape).to(sums)
    same[shared:, shared:] = 0
    means = [
        (wx @ (z * (1 - same)) * wy).sum(dim=1) + wx @ (z * same).sum(dim=1) for z in (sums, counts)
    ]
    return means[0] / means[1]
