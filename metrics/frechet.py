"""The Frechet distance between two sets of features, the arithmetic of FID and FVD.

The distance between the Gaussians fitted to the sets is
``|mu_x - mu_y|^2 + tr(S_x) + tr(S_y) - 2 tr((S_x S_y)^(1/2))``
(Dowson and Landau 1982; Heusel et al. 2017, arXiv 1706.08500). The matrix square root is never
formed: for any factors with ``S_x = A^T A`` and ``S_y = B^T B`` the last trace is the nuclear norm
of ``A B^T``. With fewer samples than dimensions the centred, scaled samples are such a factor and
everything stays as small as the sets; otherwise a factor comes from the covariance's eigenvalues.
"""

from __future__ import annotations

import math
import warnings

import torch
from scipy import stats
from torch import Tensor

from media.wording import counted
from metrics.clusters import Clusters, Interval, labels
from metrics.errors import MetricsError

GROUPS = 20
"""Most groups of people of which each is left out once for an interval."""


HALF = (torch.float16, torch.bfloat16)


def finite(value: Tensor | float) -> float:
    """The value of a distance.

    Raises:
        MetricsError: the features were too large for it.
    """
    value = float(value)
    if not math.isfinite(value):
        raise MetricsError(
            f"the distance came out as {value}: the features are too large for float64; scale them "
            "down."
        )
    return value


def check_features(features: Tensor, name: str, least: int = 2) -> Tensor:
    """Return ``features`` as a finite float64 matrix ``[N, D]``.

    Features of half precision are converted like all others, and a warning says that the rounding
    they were made with stays in the distance.

    Raises:
        MetricsError: ``features`` is not a matrix, has fewer than ``least`` rows or no columns,
            or holds a NaN or an infinity.
    """
    features = torch.as_tensor(features)
    if features.ndim != 2 or features.shape[1] == 0 or features.is_complex():
        raise MetricsError(
            f"{name} must be a real matrix [samples, dimensions], not of shape "
            f"{tuple(features.shape)} and type {features.dtype}; pass one feature vector per row."
        )
    if len(features) < least:
        raise MetricsError(
            f"{name} has {counted(len(features), 'sample')} and this distance needs at "
            f"least {least}; add videos."
        )
    if features.dtype in HALF:
        warnings.warn(
            f"{name} is of type {features.dtype} and is converted to float64 before anything is "
            "computed, but its values were rounded when they were made, which moves distances by "
            "about 1e-4; run the extractor in float32.",
            stacklevel=2,
        )
    if features.device.type == "mps":  # has no float64
        features = features.cpu()
    features = features.detach().to(torch.float64)
    bad = (~torch.isfinite(features)).any(dim=1)
    if bad.any():
        raise MetricsError(
            f"{name} has NaN or infinite values in {int(bad.sum())} of {len(bad)} rows, first in "
            f"row {int(bad.nonzero()[0])}; leave those samples out."
        )
    return features


def check_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets by `check_features`, on the device of the first.

    Raises:
        MetricsError: as there, or they are of different dimensions.
    """
    x, y = check_features(x, "x"), check_features(y, "y")
    if x.shape[1] != y.shape[1]:
        raise MetricsError(
            f"x has {x.shape[1]} dimensions and y has {y.shape[1]}; both must come from the same "
            "extractor."
        )
    return x, y.to(x.device)


def check_ddof(ddof: int, samples: int, name: str) -> None:
    """Raise :class:`MetricsError` unless ``ddof`` is 0 or 1 and ``samples`` allows it."""
    if ddof not in (0, 1):
        raise MetricsError(
            f"ddof is {ddof!r}; use 1 (divide by N-1: torch-fidelity, clean-fid) or 0 (divide by "
            "N: cd-fvd, StyleGAN-V)."
        )
    if samples < 2:
        raise MetricsError(
            f"{name} has {counted(samples, 'sample')} and a covariance needs at least 2; "
            "add videos."
        )


def covariance_factor(covariance: Tensor) -> Tensor:
    """A factor ``F [r, D]`` with ``F^T F = covariance``, from the eigenvalues.

    Eigenvalues within rounding of zero are dropped, so that the factor of a rank-deficient
    covariance has as many rows as its rank: the square root would turn a rounding error of 1e-16
    in each of them into 1e-8.

    Args:
        covariance: symmetric positive semi-definite float64 ``[D, D]``.
    """
    finite(covariance.abs().max())
    values, vectors = torch.linalg.eigh(covariance)  # [D], [D, D], ascending
    rounding = torch.finfo(values.dtype).eps * len(values) * values.abs().max()
    keep = values > rounding
    return (vectors[:, keep] * values[keep].sqrt()).T  # [r, D]


def _factor(centred: Tensor, ddof: int) -> Tensor:
    """A factor of the covariance of ``centred [N, D]``, with ``min(N, rank)`` rows."""
    samples, dimensions = centred.shape
    if samples <= dimensions:
        return centred / (samples - ddof) ** 0.5
    return covariance_factor(centred.T @ centred / (samples - ddof))


def _combine(mean_x: Tensor, factor_x: Tensor, mean_y: Tensor, factor_y: Tensor) -> float:
    shift = (mean_x - mean_y).square().sum()
    spread = factor_x.square().sum() + factor_y.square().sum()  # tr(S_x) + tr(S_y)
    finite(shift + spread)  # before LAPACK sees it
    if len(factor_x) and len(factor_y):
        overlap = torch.linalg.svdvals(factor_x @ factor_y.T).sum()  # tr((S_x S_y)^(1/2))
        spread = spread - 2 * overlap
    # The trace part is never negative (Bures distance), the difference may be by a rounding.
    return finite(shift + spread.clamp(min=0))


def frechet_distance(x: Tensor, y: Tensor, *, ddof: int = 1) -> float:
    """Frechet distance between Gaussians fitted to two sets of features.

    It depends on the numbers of samples (fewer samples, larger distance) and on the extractor:
    compare values only where both agree.

    Args:
        x: features ``[N, D]`` of any floating or integer type; computed in float64.
        y: features ``[M, D]`` of the same extractor.
        ddof: 1 divides the covariances by N-1 as torch-fidelity, clean-fid and torchmetrics do;
            0 divides by N as cd-fvd and StyleGAN-V do.

    Returns:
        The squared distance, from 0 (equal means and covariances) up, in squared feature units.

    Raises:
        MetricsError: fewer than two samples, NaN, infinite or too large features, or different
            dimensions.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(frechet_distance(x, x + torch.tensor([3.0, 4.0])), 6)
        25.0
        >>> round(frechet_distance(x, 2 * x, ddof=0), 6)
        4.0
    """
    x, y = check_pair(x, y)
    check_ddof(ddof, min(len(x), len(y)), "each set")
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)  # [D]
    return _combine(mean_x, _factor(x - mean_x, ddof), mean_y, _factor(y - mean_y, ddof))


def frechet_interval(
    x: Tensor,
    y: Tensor,
    *,
    ddof: int = 1,
    x_videos: Tensor | None = None,
    y_videos: Tensor | None = None,
    x_people: Tensor | None = None,
    y_people: Tensor | None = None,
    confidence: float = 0.95,
) -> Interval:
    """:func:`frechet_distance` with an interval over people, for this number of samples.

    By the jackknife that leaves out one of at most 20 groups of people at a time (Shao and Wu
    1989), whoever is in both sets in both: drawing with replacement, as for the kernel distance,
    would shrink the sets and so raise the distance itself.

    Args:
        x, y, ddof: as in :func:`frechet_distance`.
        x_videos, y_videos, x_people, y_people, confidence: as in
            :func:`metrics.kernel.kernel_distance_interval`.

    Returns:
        The distance, the lower bound, at least 0, and upper bound, and the influences that these
        come from; no bounds below three people in a set.

    Raises:
        MetricsError: as :func:`frechet_distance`.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> value, low, high, _ = frechet_interval(x, x + 1)
        >>> low < value < high
        True
    """
    x, y = check_features(x, "x"), check_features(y, "y")
    value = frechet_distance(x, y, ddof=ddof)
    vx, vy = labels(x_videos, len(x), "x_videos"), labels(y_videos, len(y), "y_videos")
    people = Clusters.of(vx, vy, x_people, y_people)
    if people.fewest < 3:
        return Interval(value, None, None)
    kinds = people.jackknife(
        GROUPS, lambda stay: [frechet_distance(x[i], y[j], ddof=ddof) for i, j in stay]
    )
    freedom = [len(kind) - 1 for kind in kinds if kind]  # of three people, two are of a kind
    variance = sum(influence.effect**2 for kind in kinds for influence in kind)
    half = float(stats.t.ppf((1 + confidence) / 2, min(freedom))) * variance**0.5
    found = people.labelled(kinds[0] + kinds[1], vx if x_people is None else x_people)
    return Interval(value, max(0.0, value - half), value + half, found)


def frechet_distance_from_moments(
    mean_x: Tensor, covariance_x: Tensor, mean_y: Tensor, covariance_y: Tensor
) -> float:
    """Frechet distance from means ``[D]`` and covariances ``[D, D]``, where samples are gone.

    Returns and raises as :func:`frechet_distance`.

    Example:
        >>> import torch
        >>> one = torch.eye(3)
        >>> round(frechet_distance_from_moments(torch.zeros(3), one, torch.ones(3), 4 * one), 6)
        6.0
    """
    moments = []
    for name, mean, covariance in (("x", mean_x, covariance_x), ("y", mean_y, covariance_y)):
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise MetricsError(
                f"the moments of {name} have shapes {tuple(mean.shape)} and "
                f"{tuple(covariance.shape)}; pass a mean [D] and a covariance [D, D]."
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
            raise MetricsError(
                f"the moments of {name} hold NaN or infinite values; recompute them."
            )
        moments.append((mean.to(torch.float64), covariance_factor(covariance.to(torch.float64))))
    if len(mean_x) != len(mean_y):
        raise MetricsError(
            f"x has {len(mean_x)} dimensions and y has {len(mean_y)}; both must come from the "
            "same extractor."
        )
    (mean_x, factor_x), (mean_y, factor_y) = moments
    return _combine(mean_x, factor_x, mean_y, factor_y)
