"""How far two sets of videos are apart: Frechet and kernel distances over features of a model.

A distance between sets means nothing without the number of samples, the extractor, and the frames
that it saw, so all of them travel with it in a :class:`SetDistance`. Small sets belong to the
kernel distance, whose estimate is unbiased whatever their size; the Frechet distance grows as sets
shrink. The formulas are in `metrics.frechet` and `metrics.kernel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from metrics.clusters import Interval
from metrics.errors import MetricsError, UnknownNameError
from metrics.facts import Backend, register
from metrics.features.clips import ENCODERS, Window
from metrics.frechet import (
    check_ddof,
    frechet_distance,
    frechet_distance_from_moments,
    frechet_interval,
)
from metrics.kernel import jedi_distance, kernel_distance, kernel_distance_interval
from metrics.moments import merge_moments, merge_packed, moments, pack, unpack
from metrics.sets import FeatureEncoder, KeptFeatures, SetDistance, SetMetric


class FrechetDistance(KeptFeatures):
    """:func:`metrics.frechet_distance` of a generated to a reference set: FID, FVD.

    Args:
        extractor, version, kwargs: as in :class:`SetMetric`.
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
        check_ddof(ddof, 2, "the set")
        self.ddof = ddof
        super().__init__(extractor, version, **kwargs)

    @property
    def setting(self) -> str:
        return f"ddof{self.ddof}"

    def distance(self, x: Tensor, y: Tensor, **labels: Tensor) -> float:
        return frechet_distance(x, y, ddof=self.ddof)

    def interval(self, x: Tensor, y: Tensor, **labels: Tensor | None) -> Interval:
        of = {name: given for name, given in labels.items() if not name.endswith("_targets")}
        return frechet_interval(x, y, ddof=self.ddof, **of)  # type: ignore[arg-type]


class KernelDistance(KeptFeatures):
    """:func:`metrics.kernel.kernel_distance` of a generated to a reference set: KID, KVD.

    Args:
        extractor, version, kwargs: as in :class:`SetMetric`.
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

    revision = 3  # pairs of videos with one target are left out

    def __init__(
        self,
        extractor: FeatureEncoder | str,
        version: str = "",
        confidence: float = 0.95,
        resamples: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.confidence, self.resamples, self.seed = confidence, resamples, seed
        super().__init__(extractor, version, **kwargs)

    def distance(self, x: Tensor, y: Tensor, **labels: Tensor) -> float:
        return kernel_distance(x, y, **labels)

    def interval(self, x: Tensor, y: Tensor, **labels: Tensor | None) -> Interval:
        bootstrap: dict[str, Any] = {
            "confidence": self.confidence,
            "resamples": self.resamples,
            "seed": self.seed,
        }
        return kernel_distance_interval(x, y, **bootstrap, **labels)  # type: ignore[arg-type]


# --- by name -------------------------------------------------------------------------------------

_SMALL = "depends on N, extractor and frames; never compare across them"


def _encoders() -> Iterator[Backend]:
    for name, encoder in ENCODERS.items():
        kept = ("cost", "source", "quirks", "by_default")
        yield Backend(name, encoder.weights, **{key: getattr(encoder, key) for key in kept})


class _OfVideos(KeptFeatures):
    """On one vector per video."""

    def __init__(self, extractor: str = "i3d", window: Window | None = None, **kwargs: Any) -> None:
        if window is None and extractor not in ENCODERS:
            raise UnknownNameError.among("no video network is called", extractor, ENCODERS)
        self.window = window or ENCODERS[extractor].window
        super().__init__(extractor, **kwargs)

    def prepare(self) -> None:
        self.features = (f"clip.{self.extractor}.{self.window}",)


class _OfFrames(KeptFeatures):
    """On one vector of FID's Inception per sampled frame."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("inception", **kwargs)

    def prepare(self) -> None:
        self.features = ("inception.fid",)


_SETS: dict[str, Any] = {"family": "distribution", "needs": ("target",), "higher_is_better": False}


@register(
    "fvd.{extractor}",
    label="FVD",
    formula="Frechet distance between features of generated and of true videos; covariances "
    "divided by N",
    quirks=_SMALL,
    range=(0.0, None),
    frames="16, the first consecutive ones",
    backends=_encoders,
    **_SETS,
)
class FVD(_OfVideos, FrechetDistance):
    """Frechet video distance: :class:`FrechetDistance` on one vector per video.

    Args:
        extractor: "i3d", "videomae_base", "videomae_v2" or a plug-in's video network.
        window: frames, stride and crop; by default the network's own protocol, 16 consecutive
            frames.
        kwargs: of :class:`SetMetric`.
    """

    def __init__(
        self, extractor: str = "i3d", window: Window | None = None, ddof: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(extractor, window, ddof=ddof, **kwargs)


@register(
    "kvd.{extractor}",
    label="Kernel video distance",
    formula="unbiased squared MMD, polynomial kernel of degree 3",
    quirks=_SMALL + "; pairs of videos with one target are left out, as they share their prompt",
    range=(None, None),
    diagnostic=True,
    frames="16, the first consecutive ones",
    backends=_encoders,
    **_SETS,
)
class KVD(_OfVideos, KernelDistance):
    """Kernel video distance: :class:`KernelDistance` on one vector per video.

    Args: as :class:`FVD`.
    """


@register(
    "jedi.vjepa2",
    label="JEDi (V-JEPA 2)",
    formula="100 x squared MMD, polynomial kernel of degree 2 without constant, pairs of a video "
    "with itself included",
    source="JEDi, arXiv 2410.05203",
    backend="vjepa2",
    quirks=_SMALL + "; the paper has V-JEPA where this has V-JEPA 2, both with the attentive probe "
    "of Something-Something: numbers do not compare; the biased estimate, as its code has it",
    cost="a V-JEPA 2 ViT-L pass per video",
    range=(0.0, None),
    frames="16, the first consecutive ones",
    weights=("vjepa2.ssv2",),
    **_SETS,
)
class JEDi(_OfVideos, KernelDistance):
    """JEPA embedding distance: a biased kernel distance on V-JEPA 2's probed features.

    Args:
        extractor: "vjepa2" or another video network.
        window, kwargs: as :class:`FVD`.
    """

    def __init__(self, extractor: str = "vjepa2", **kwargs: Any) -> None:
        super().__init__(extractor, **kwargs)

    def distance(self, x: Tensor, y: Tensor, **videos: Tensor) -> float:
        return jedi_distance(x, y)

    def interval(self, x: Tensor, y: Tensor, **labels: Tensor | None) -> Interval:
        return Interval(jedi_distance(x, y), None, None)


_INCEPTION: dict[str, Any] = {
    "backend": "inception",
    "quirks": _SMALL + "; N is frames",
    "cost": "an Inception pass per frame",
    "weights": ("inception.fid",),
    **_SETS,
}


@register(
    "fid",
    label="FID",
    formula="Frechet distance between Inception features of frames, divided by N - 1",
    source="FID, arXiv 1706.08500",
    range=(0.0, None),
    **_INCEPTION,
)
class FID(_OfFrames, FrechetDistance):
    """Frechet inception distance of sampled frames; covariances divided by N - 1."""


@register(
    "kid",
    label="KID",
    formula="unbiased squared MMD of Inception features of frames of different videos, degree 3",
    diagnostic=True,
    source="KID, arXiv 1801.01401",
    range=(None, None),
    **_INCEPTION,
)
class KID(_OfFrames, KernelDistance):
    """Kernel inception distance of sampled frames, pairs within a video left out."""


class StreamingFrechetDistance(SetMetric):
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

    def __init__(
        self,
        extractor: FeatureEncoder | str,
        version: str = "",
        *,
        dimensions: int,
        ddof: int = 1,
        **kwargs: Any,
    ) -> None:
        check_ddof(ddof, 2, "the set")
        if dimensions < 1:
            raise MetricsError(f"dimensions is {dimensions}; pass the length of a feature vector.")
        self.ddof, self.dimensions = ddof, dimensions
        super().__init__(extractor, version, **kwargs)

    def declare(self) -> None:
        empty = torch.zeros(self.dimensions + 2, self.dimensions, dtype=torch.float64)
        for kind in ("reference", "generated"):
            self.add_state(self._names[kind], empty.clone(), dist_reduce_fx=merge_packed)

    def take(self, features: Tensor, labels: Tensor, real: bool) -> None:
        name = self._names["reference" if real else "generated"]
        packed = getattr(self, name)
        new = moments(features.to(packed.device))
        setattr(self, name, pack(merge_moments(unpack(packed), new)))

    def compute(self) -> Tensor:
        """The distance.

        Raises:
            MetricsError: a set has fewer than two samples.
        """
        generated, reference = (
            unpack(getattr(self, self._names[kind])) for kind in ("generated", "reference")
        )
        value = frechet_distance_from_moments(
            generated.mean,
            generated.covariance(self.ddof),
            reference.mean,
            reference.covariance(self.ddof),
        )
        return torch.tensor(value, dtype=torch.float64)

    def result(self) -> SetDistance:
        """The value with N and extractor; synchronise first where there are several processes."""
        n, n_reference = (
            unpack(getattr(self, self._names[kind])).count for kind in ("generated", "reference")
        )
        names = self.extractor, self.extractor_version
        return SetDistance(float(self.compute()), n, n_reference, *names)
