"""The kernel distance between two sets of features: KID and KVD, with an interval over people.

The estimate is the unbiased squared maximum mean discrepancy, for sets of any size. What counts as
a sample is a *video*: frames of one video are alike, so pairs within a video are left out as the
pair of a sample with itself is. So are pairs of a video with its own true one, and of two videos
made after the same: they share person, prompt and scene. The interval resamples people, or videos
where nobody is named.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.clusters import Clusters, Interval, labels
from metrics.errors import MetricsError
from metrics.frechet import GROUPS, check_pair, finite


def _kernel(x: Tensor, y: Tensor, degree: int, gamma: float | None, coefficient: float) -> Tensor:
    scale = 1.0 / x.shape[1] if gamma is None else gamma
    return (x @ y.T * scale + coefficient) ** degree


class _Pairs(NamedTuple):
    """Kernel values and which pairs count ``[N, M]``, 0 where one does not."""

    values: Tensor
    pairs: Tensor

    def mean(self) -> Tensor:
        return self.values.sum() / self.pairs.sum()


def _pairs(kernel: Tensor, same: Tensor) -> _Pairs:
    same = same.to(kernel.device)
    return _Pairs(kernel.masked_fill(same, 0.0), (~same).to(kernel.dtype))


class _Sums(NamedTuple):
    """The three sums of a kernel distance: within x, within y and across."""

    x: _Pairs
    y: _Pairs
    across: _Pairs

    @classmethod
    def of(
        cls,
        x: Tensor,
        y: Tensor,
        kernel: tuple[int, float | None, float],
        videos: tuple[Tensor, Tensor],
        targets: tuple[Tensor | None, Tensor | None],
    ) -> _Sums:
        tx, ty = (
            torch.full((len(z),), -1) if t is None else labels(t, len(z), f"{name}_targets")
            for z, t, name in ((x, targets[0], "x"), (y, targets[1], "y"))
        )

        def paired(a: Tensor, b: Tensor) -> Tensor:
            return (a[:, None] == b[None]) & (a >= 0)[:, None]

        def within(z: Tensor, of: Tensor, t: Tensor) -> _Pairs:
            return _pairs(_kernel(z, z, *kernel), (of[:, None] == of[None]) | paired(t, t))

        return cls(
            within(x, videos[0], tx),
            within(y, videos[1], ty),
            _pairs(_kernel(x, y, *kernel), paired(tx, ty)),
        )

    def distance(self) -> float:
        for name, within in (("x", self.x), ("y", self.y)):
            if not within.pairs.any():
                raise MetricsError(
                    f"the {len(within.pairs)} samples of {name} are of one video or target, and "
                    "this distance needs at least 2; add videos."
                )
        return finite(self.x.mean() + self.y.mean() - 2 * self.across.mean())


def kernel_distance(
    x: Tensor,
    y: Tensor,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coefficient: float = 1.0,
    x_videos: Tensor | None = None,
    y_videos: Tensor | None = None,
    x_targets: Tensor | None = None,
    y_targets: Tensor | None = None,
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
        x_targets, y_targets: which true video a sample was made after, or is of; -1 for none.
            Samples of one target are alike beyond their distributions, within a set as across:
            their pairs are left out, as Gretton et al. leave out (x_i, y_i) of pairs (eq. 4).

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
    x, y = check_pair(x, y)
    of = labels(x_videos, len(x), "x_videos"), labels(y_videos, len(y), "y_videos")
    sums = _Sums.of(x, y, (degree, gamma, coefficient), of, (x_targets, y_targets))
    return sums.distance()


def jedi_distance(x: Tensor, y: Tensor) -> float:
    """JEDi's distance of features: 100 times the biased squared MMD with ``(a.b / D)^2``.

    As its published code has it (arXiv 2410.05203), pairs of a sample with itself included; above 0
    for two samples of one distribution.

    Args:
        x: features ``[N, D]``; computed in float64.
        y: features ``[M, D]`` of the same extractor.

    Raises:
        MetricsError: NaN, infinite or too large features, or different dimensions.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> round(jedi_distance(x, x), 6), round(jedi_distance(x, 2 * x), 6)
        (0.0, 800.0)
    """
    x, y = check_pair(x, y)
    means = [_kernel(a, b, 2, None, 0.0).mean() for a, b in ((x, x), (y, y), (x, y))]
    return 100 * finite(means[0] + means[1] - 2 * means[2])


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
    x_targets: Tensor | None = None,
    y_targets: Tensor | None = None,
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
        x, y, degree, gamma, coefficient, x_videos, y_videos, x_targets, y_targets: as in
            :func:`kernel_distance`.
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
    x, y = check_pair(x, y)
    vx, vy = labels(x_videos, len(x), "x_videos"), labels(y_videos, len(y), "y_videos")
    sums = _Sums.of(x, y, (degree, gamma, coefficient), (vx, vy), (x_targets, y_targets))
    value = sums.distance()
    people = Clusters.of(vx, vy, x_people, y_people)
    if people.fewest < 3:
        return Interval(value, None, None)

    def weighted(wx: Tensor, wy: Tensor) -> Tensor:
        """Distances ``[R]`` with each person ``[R, people]`` so often in the sets."""
        wx, wy = wx.to(x), wy.to(x)
        return (
            _resampled(*sums.x, people.x, people.x, wx, wx, wx.shape[1])
            + _resampled(*sums.y, people.y, people.y, wy, wy, wy.shape[1])
            - 2 * _resampled(*sums.across, people.x, people.y, wx, wy, people.shared)
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
