"""How far two sets of videos are apart: Frechet and kernel distances over features of a model.

A distance between sets means nothing without the number of samples and the extractor, so both
travel with it in a :class:`SetDistance`. Small sets belong to the kernel distance, whose estimate
is unbiased whatever their size and which therefore can have a bootstrap interval; the Frechet
distance grows as sets shrink, and resampling would only shrink them further. Moments of sets too
large to keep are accumulated in float64 and merge across processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metrics.errors import MetricsError
from metrics.frechet import (
    check_ddof,
    check_features,
    frechet_distance,
    frechet_distance_from_moments,
)

__all__ = [
    "METRICS",
    "FeatureEncoder",
    "FrechetDistance",
    "Interval",
    "KernelDistance",
    "Moments",
    "SetDistance",
    "StreamingFrechetDistance",
    "kernel_distance",
    "kernel_distance_interval",
    "merge_moments",
    "moments",
]


def _entry(label: str, **more: Any) -> dict[str, Any]:
    return {"label": label, "higher_is_better": False, **more}


METRICS = {
    # The covariance's divisor is a part of the name: N for FVD as StyleGAN-V and cd-fvd have it,
    # N-1 for FID as torch-fidelity and clean-fid do; the other of each stands under its own name.
    "fvd.i3d": _entry("FVD (I3D)", range=(0.0, None), ddof=0),
    "fvd.i3d_ddof1": _entry("FVD (I3D, N-1)", range=(0.0, None), ddof=1),
    "fvd.videomae": _entry("FVD (VideoMAE)", range=(0.0, None), ddof=0),
    "fvd.videomae_ddof1": _entry("FVD (VideoMAE, N-1)", range=(0.0, None), ddof=1),
    "fid": _entry("FID", range=(0.0, None), ddof=1),
    "fid_ddof0": _entry("FID (N)", range=(0.0, None), ddof=0),
    "kvd.i3d": _entry("Kernel video distance (I3D)", range=(None, None)),
    "kvd.videomae": _entry("Kernel video distance (VideoMAE)", range=(None, None)),
    "kid": _entry("Kernel inception distance", range=(None, None)),
}


@runtime_checkable
class FeatureEncoder(Protocol):
    """A model that turns uint8 frames or videos into one feature vector each."""

    name: str
    version: str

    def encode(self, batch: NDArray[np.uint8]) -> Tensor:
        """Features ``[B, D]`` of frames ``[B, H, W, 3]`` or videos ``[B, T, H, W, 3]``, RGB."""
        ...


@dataclass(frozen=True)
class SetDistance:
    """A distance between two sets with what it takes to compare it."""

    value: float
    n: int
    """samples in the set under test"""
    n_reference: int
    extractor: str
    version: str
    """of the extractor: changes whenever its numbers may"""
    low: float | None = None
    high: float | None = None


class Interval(NamedTuple):
    """A value with its percentile bootstrap interval."""

    value: float
    low: float
    high: float


# --- kernel distance -----------------------------------------------------------------------------


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


def kernel_distance(
    x: Tensor, y: Tensor, *, degree: int = 3, gamma: float | None = None, coefficient: float = 1.0
) -> float:
    """Kernel distance, the unbiased squared maximum mean discrepancy of KID and KVD.

    ``mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)`` with
    ``k(a, b) = (gamma a.b + coefficient)^degree`` (Binkowski et al. 2018, arXiv 1801.01401, eq. 4;
    Gretton et al. 2012). All pairs are used: no subsets, no randomness.

    Args:
        x: features ``[N, D]``; computed in float64.
        y: features ``[M, D]`` of the same extractor.
        degree, gamma, coefficient: the polynomial kernel; ``gamma=None`` is 1 / D, as in KID.

    Returns:
        The estimate. Its expectation is 0 for equal distributions whatever the sample counts, so
        it may come out below 0.

    Raises:
        MetricsError: fewer than two samples, NaN or infinite features, or different dimensions.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> round(kernel_distance(x, x + 1), 6)
        4.111111
    """
    x, y = _check_pair(x, y)
    kernel = (degree, gamma, coefficient)
    within = 0.0
    for features in (x, y):
        k = _kernel(features, features, *kernel)
        n = len(k)
        within += float((k.sum() - k.diagonal().sum()) / (n * (n - 1)))
    return within - 2 * float(_kernel(x, y, *kernel).mean())


def kernel_distance_interval(
    x: Tensor,
    y: Tensor,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coefficient: float = 1.0,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """:func:`kernel_distance` with a bootstrap interval.

    Both sets are resampled with replacement. A sample drawn twice makes a pair with itself, which
    the unbiased estimate must leave out as it leaves out the diagonal; so resampling is a matter
    of multinomial weights on one kernel matrix, the diagonal excluded. Where the distance is near
    0 the interval is only approximate (the statistic is degenerate there).

    Args:
        x, y, degree, gamma, coefficient: as in :func:`kernel_distance`.
        confidence: share of resampled values between the bounds, in (0, 1).
        resamples: number of bootstrap resamples.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        The value on the whole sets, and the lower and upper bound.

    Raises:
        MetricsError: as :func:`kernel_distance`, or a confidence outside (0, 1).

    Example:
        >>> import torch
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> value, low, high = kernel_distance_interval(x, x + 1)
        >>> low < value < high
        True
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise MetricsError(
            f"confidence is {confidence} and resamples {resamples}; use a confidence between 0 and "
            "1 and at least one resample."
        )
    x, y = _check_pair(x, y)
    rng = np.random.default_rng(seed)
    kernel = (degree, gamma, coefficient)

    def draw(n: int) -> Tensor:
        counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)  # [R, n]
        return torch.from_numpy(counts).to(x)

    def within(k: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        k = k - torch.diag(k.diagonal())
        n = len(k)
        # Pairs of different samples; none are left if one sample was drawn n times.
        pairs = n * n - weights.square().sum(dim=1)
        return (weights @ k * weights).sum(dim=1) / pairs, k.sum() / (n * (n - 1))

    weights_x, weights_y = draw(len(x)), draw(len(y))
    resampled_x, value_x = within(_kernel(x, x, *kernel), weights_x)
    resampled_y, value_y = within(_kernel(y, y, *kernel), weights_y)
    cross = _kernel(x, y, *kernel)
    resampled_cross = (weights_x @ cross * weights_y).sum(dim=1) / (len(x) * len(y))
    values = resampled_x + resampled_y - 2 * resampled_cross  # [R]
    values = values[torch.isfinite(values)]
    if not len(values):
        raise MetricsError(f"{len(x)} and {len(y)} samples are too few to resample; add videos.")
    tail = (1 - confidence) / 2
    bounds = torch.quantile(values, torch.tensor([tail, 1 - tail]).to(values))
    return Interval(float(value_x + value_y - 2 * cross.mean()), float(bounds[0]), float(bounds[1]))


# --- streaming moments ---------------------------------------------------------------------------


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
def _pack(value: Moments) -> Tensor:
    return torch.cat(
        [torch.full_like(value.mean, value.count)[None], value.mean[None], value.scatter]
    )


def _unpack(packed: Tensor) -> Moments:
    return Moments(round(float(packed[0, 0])), packed[1], packed[2:])


def _merge_packed(stacked: Tensor) -> Tensor:
    merged = _unpack(stacked[0])
    for packed in stacked[1:]:
        merged = merge_moments(merged, _unpack(packed))
    return _pack(merged)


# --- metrics -------------------------------------------------------------------------------------


class _SetMetric(Metric):
    """Two sets filled by ``update``, from features or through an extractor."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    def __init__(self, extractor: FeatureEncoder | str, version: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = None if isinstance(extractor, str) else extractor
        self.extractor = extractor if isinstance(extractor, str) else extractor.name
        self.version = version if isinstance(extractor, str) else extractor.version

    def _features(self, data: Any) -> Tensor:
        features = data if self.encoder is None else self.encoder.encode(data)
        return check_features(features, f"the features of {self.extractor}", least=1)


class _KeptFeatures(_SetMetric):
    reference: list[Tensor]
    generated: list[Tensor]

    def __init__(self, extractor: FeatureEncoder | str, version: str, **kwargs: Any) -> None:
        super().__init__(extractor, version, **kwargs)
        self.add_state("reference", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, data: Any, real: bool) -> None:
        """Add features ``[B, D]``, or what the extractor takes, to one of the sets.

        Args:
            data: features, or uint8 frames or videos where a model was given.
            real: True for the reference set.
        """
        (self.reference if real else self.generated).append(self._features(data))

    def _sets(self) -> tuple[Tensor, Tensor]:
        for name, features in (("generated", self.generated), ("reference", self.reference)):
            if isinstance(features, list) and not features:
                raise MetricsError(f"the {name} set is empty; update it first.")
        return dim_zero_cat(self.generated), dim_zero_cat(self.reference)


class FrechetDistance(_KeptFeatures):
    """:func:`metrics.frechet_distance` of a generated to a reference set: FID, FVD.

    Args:
        extractor: a model (``update`` then takes frames or videos), or the name of the one that
            made the features that ``update`` takes.
        version: the extractor's, where only its name is given.
        ddof: 1 divides covariances by N-1 (torch-fidelity), 0 by N (cd-fvd, StyleGAN-V).

    Example:
        >>> import torch
        >>> metric = FrechetDistance("pixels")
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> metric.update(x, real=True)
        >>> metric.update(x + torch.tensor([3.0, 4.0]), real=False)
        >>> round(float(metric.compute()), 6)
        25.0
        >>> metric.result().n, metric.result().extractor
        (4, 'pixels')
    """

    def __init__(
        self, extractor: FeatureEncoder | str, version: str = "", ddof: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(extractor, version, **kwargs)
        check_ddof(ddof, 2, "the set")
        self.ddof = ddof

    def compute(self) -> Tensor:
        generated, reference = self._sets()
        return torch.tensor(
            frechet_distance(generated, reference, ddof=self.ddof), dtype=torch.float64
        )

    def result(self) -> SetDistance:
        """The value with N and extractor; synchronise first where there are several processes."""
        generated, reference = self._sets()
        return SetDistance(
            float(self.compute()), len(generated), len(reference), self.extractor, self.version
        )


class KernelDistance(_KeptFeatures):
    """:func:`kernel_distance` of a generated to a reference set: KID, KVD; for small sets.

    Args:
        extractor, version: as in :class:`FrechetDistance`.
        confidence, resamples, seed: of the interval in :meth:`result`.

    Example:
        >>> import torch
        >>> metric = KernelDistance("pixels")
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> metric.update(x, real=True)
        >>> metric.update(x + 1, real=False)
        >>> round(float(metric.compute()), 6)
        4.111111
        >>> metric.result().n_reference
        3
    """

    def __init__(
        self,
        extractor: FeatureEncoder | str,
        version: str = "",
        confidence: float = 0.95,
        resamples: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, version, **kwargs)
        self.confidence, self.resamples, self.seed = confidence, resamples, seed

    def compute(self) -> Tensor:
        return torch.tensor(kernel_distance(*self._sets()), dtype=torch.float64)

    def result(self) -> SetDistance:
        """The value with its bootstrap interval, N and extractor."""
        generated, reference = self._sets()
        value, low, high = kernel_distance_interval(
            generated,
            reference,
            confidence=self.confidence,
            resamples=self.resamples,
            seed=self.seed,
        )
        return SetDistance(
            value, len(generated), len(reference), self.extractor, self.version, low, high
        )


class StreamingFrechetDistance(_SetMetric):
    """The Frechet distance over sets too large to keep: only means and covariances are held.

    Memory is two matrices of ``dimensions`` squared, whatever the number of samples; states merge
    across processes. Prefer :class:`FrechetDistance` where N is below ``dimensions``.

    Args:
        extractor, version, ddof: as in :class:`FrechetDistance`.
        dimensions: of the features.

    Example:
        >>> import torch
        >>> metric = StreamingFrechetDistance("pixels", dimensions=2)
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> for row in x:
        ...     metric.update(row[None], real=True)
        ...     metric.update(row[None] + torch.tensor([3.0, 4.0]), real=False)
        >>> round(float(metric.compute()), 6)
        25.0
    """

    reference: Tensor
    generated: Tensor

    def __init__(
        self,
        extractor: FeatureEncoder | str,
        version: str = "",
        *,
        dimensions: int,
        ddof: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, version, **kwargs)
        check_ddof(ddof, 2, "the set")
        if dimensions < 1:
            raise MetricsError(f"dimensions is {dimensions}; pass the length of a feature vector.")
        self.ddof = ddof
        empty = torch.zeros(dimensions + 2, dimensions, dtype=torch.float64)
        self.add_state("reference", empty, dist_reduce_fx=_merge_packed)
        self.add_state("generated", empty.clone(), dist_reduce_fx=_merge_packed)

    def update(self, data: Any, real: bool) -> None:
        """Add to the reference set (``real``) or to the generated one, as in the kept metrics."""
        name = "reference" if real else "generated"
        packed = getattr(self, name)
        new = moments(self._features(data).to(packed.device))
        setattr(self, name, _pack(merge_moments(_unpack(packed), new)))

    def compute(self) -> Tensor:
        generated, reference = _unpack(self.generated), _unpack(self.reference)
        value = frechet_distance_from_moments(
            generated.mean,
            generated.covariance(self.ddof),
            reference.mean,
            reference.covariance(self.ddof),
        )
        return torch.tensor(value, dtype=torch.float64)

    def result(self) -> SetDistance:
        """The value with N and extractor; synchronise first where there are several processes."""
        return SetDistance(
            float(self.compute()),
            _unpack(self.generated).count,
            _unpack(self.reference).count,
            self.extractor,
            self.version,
        )
