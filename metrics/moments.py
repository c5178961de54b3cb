"""Moments of sets of features too large to keep, in float64; they merge across processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.frechet import check_ddof, check_features


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of a set of features; what remains of samples once they are gone."""

    count: int
    mean: Tensor
    """``[D]`` float64"""
    scatter: Tensor
    """``[D, D]`` float64, the sum of (x - mean)(x - mean)^T"""

    def covariance(self, ddof: int = 1) -> Tensor:
        """Covariance ``[D, D]``, divided by ``count - ddof``."""
        check_ddof(ddof, self.count, "the set")
        return self.scatter / (self.count - ddof)


def moments(features: Tensor) -> Moments:
    """Moments of features ``[N, D]``, N at least 1.

    Example:
        >>> import torch
        >>> whole = moments(torch.tensor([[0.0], [2.0], [4.0]]))
        >>> whole.mean.item(), whole.covariance().item()
        (2.0, 4.0)
    """
    features = check_features(features, "features", least=1)
    mean = features.mean(dim=0)
    centred = features - mean
    return Moments(len(features), mean, centred.T @ centred)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint sets (Chan, Golub and LeVeque 1979); order is free.

    Example:
        >>> import torch
        >>> merged = merge_moments(moments(torch.tensor([[0.0], [2.0]])), moments(torch.ones(1, 1)))
        >>> merged.count, merged.mean.item(), merged.covariance().item()
        (3, 1.0, 1.0)
    """
    if a.mean.shape != b.mean.shape:
        raise MetricsError(
            f"the sets have {len(a.mean)} and {len(b.mean)} dimensions; both must come from the "
            "same extractor."
        )
    count = a.count + b.count
    if count == 0:
        return a
    delta = b.mean - a.mean
    return Moments(
        count,
        a.mean + delta * (b.count / count),
        a.scatter + b.scatter + torch.outer(delta, delta) * (a.count * b.count / count),
    )


# One tensor [D + 2, D] a set (count, mean, scatter), so that torchmetrics hands all three to the
# merging function together; the scatter about a mean can't be added up without the means.
def pack(value: Moments) -> Tensor:
    """Moments as one tensor ``[D + 2, D]``."""
    return torch.cat(
        [torch.full_like(value.mean, value.count)[None], value.mean[None], value.scatter]
    )


def unpack(packed: Tensor) -> Moments:
    """The moments that `pack` packed."""
    return Moments(round(float(packed[0, 0])), packed[1], packed[2:])


def merge_packed(stacked: Tensor) -> Tensor:
    """Packed moments ``[sets, D + 2, D]`` merged into one."""
    merged = unpack(stacked[0])
    for packed in stacked[1:]:
        merged = merge_moments(merged, unpack(packed))
    return pack(merged)
