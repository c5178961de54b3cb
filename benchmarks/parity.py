"""Our distances against scipy's matrix square root, torch-fidelity and cd-fvd, on equal features.

Prints one line per shape, worst relative difference last, and exits with 1 if one is above 1e-6.

    python benchmarks/parity.py                    # minutes: scipy's root of 2048 x 2048
    python benchmarks/parity.py --quick            # without the shapes of 2048 dimensions
    python benchmarks/parity.py --shapes 8x2048
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from cdfvd.fvd import cdfvd
from cdfvd.utils.metric_utils import FeatureStats
from frechet_speed import by_sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_mmd
from torchmetrics.image.kid import poly_mmd

from metrics.distribution import StreamingFrechetDistance
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance

SHAPES = [(8, 400), (200, 400), (512, 768), (1024, 400), (4096, 400), (8, 2048), (200, 2048)]
TOLERANCE = 1e-6


def features(seed: int, samples: int, dimensions: int) -> torch.Tensor:
    """Features with a spectrum that falls as those of real networks do."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, dimensions, generator=generator, dtype=torch.float64)
    return (x * torch.arange(1, dimensions + 1, dtype=torch.float64) ** -0.5 + 0.1 * seed).abs()


def by_torch_fidelity(x: torch.Tensor, y: torch.Tensor) -> float:
    statistics = [fid_features_to_statistics(z) for z in (x, y)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def by_cdfvd(x: torch.Tensor, y: torch.Tensor) -> float:
    statistics = []
    for z in (x, y):
        stats = FeatureStats(capture_mean_cov=True)
        stats.append(z.numpy())
        statistics.append(stats)
    # The method reads nothing of its object when both statistics are given; making the object
    # would download I3D.
    return float(cdfvd.compute_fvd_from_stats(None, *statistics))


def streamed(x: torch.Tensor, y: torch.Tensor, ddof: int) -> float:
    metric = StreamingFrechetDistance("parity", dimensions=x.shape[1], ddof=ddof)
    for part in x.split(100):
        metric.update(part, real=False)
    for part in y.split(100):
        metric.update(part, real=True)
    return float(metric.compute())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="skip 2048 dimensions")
    parser.add_argument("--shapes", nargs="*", metavar="NxD", help="samples x dimensions")
    args = parser.parse_args()
    shapes = [(n, d) for n, d in SHAPES if d <= 1024 or not args.quick]
    if args.shapes:
        shapes = [tuple(map(int, shape.split("x"))) for shape in args.shapes]
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    worst = 0.0

    def compare(what: str, ours: float, theirs: float, seconds: float) -> None:
        nonlocal worst
        gap = abs(ours - theirs) / abs(theirs)
        worst = max(worst, gap)
        print(
            f"  {what:<32} {ours:<20.12g} {theirs:<20.12g} {gap:8.1e}  {seconds:6.1f} s", flush=True
        )

    print(f"  {'against':<32} {'ours':<20} {'theirs':<20} {'relative':>8}  {'theirs took':>8}")
    for n, d in shapes:
        x, y = features(1, n, d), features(2, n, d)
        print(f"N={n}, d={d}", flush=True)
        kid = kernel_distance(x, y)
        rows = [
            (
                "scipy.linalg.sqrtm (N-1)",
                frechet_distance(x, y, ddof=1),
                lambda a, b: by_sqrtm(a.numpy(), b.numpy()),
            ),
            ("torch-fidelity (N-1)", frechet_distance(x, y, ddof=1), by_torch_fidelity),
            ("cd-fvd (N)", frechet_distance(x, y, ddof=0), by_cdfvd),
            ("our streaming form (N-1)", frechet_distance(x, y), lambda a, b: streamed(a, b, 1)),
            (
                "torch-fidelity's kernel distance",
                kid,
                lambda a, b: kernel_mmd(a.numpy(), b.numpy()),
            ),
            ("torchmetrics' kernel distance", kid, poly_mmd),
        ]
        for what, ours, theirs in rows:
            start = time.perf_counter()
            value = float(theirs(x, y))
            compare(what, ours, value, time.perf_counter() - start)
    print(
        f"worst relative difference: {worst:.1e} ({'within' if worst <= TOLERANCE else 'above'} "
        f"{TOLERANCE:.0e})"
    )
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
