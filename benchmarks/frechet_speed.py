"""The Frechet distance's time against scipy's matrix square root and eigenvalues, side by side.

python benchmarks/frechet_speed.py                 # N=200, d=2048 and its neighbours
python benchmarks/frechet_speed.py --samples 200 --dimensions 400
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch

from metrics.frechet import frechet_distance

SHAPES = [(200, 400), (200, 2048), (1000, 2048)]


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    root = scipy.linalg.sqrtm(s @ t)
    return float(shift @ shift + np.trace(s) + np.trace(t) - 2 * np.trace(root).real)


def by_eigenvalues(x: np.ndarray, y: np.ndarray) -> float:
    """As torch-fidelity and torchmetrics: eigenvalues of the product of the covariances."""
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    roots = np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real
    return float(shift @ shift + np.trace(s) + np.trace(t) - 2 * roots.sum())


def seconds(call: Callable[[], float], repeats: int) -> tuple[float, float, float]:
    """The value, and the median of the wall clock's and of the processor's seconds."""
    wall, processor = [], []
    for _ in range(repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        value = call()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return value, statistics.median(wall), statistics.median(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int)
    parser.add_argument("--dimensions", type=int)
    args = parser.parse_args()
    shapes = [(args.samples or 200, args.dimensions or 2048)]
    if args.samples is None and args.dimensions is None:
        shapes = SHAPES
    print(
        f"torch {torch.__version__}, scipy {scipy.__version__}, {torch.get_num_threads()} threads"
    )
    for n, d in shapes:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(n, d, generator=generator)
        y = 1.1 * torch.randn(n, d, generator=generator) + 0.1
        a, b = x.double().numpy(), y.double().numpy()
        frechet_distance(x, y)  # the libraries' first call sets up threads
        ours, fast, fast_processor = seconds(lambda x=x, y=y: frechet_distance(x, y), 9)
        print(
            f"N={n}, d={d}: ours {fast:.4f} s, processor {fast_processor:.4f} s (medians of 9)",
            flush=True,
        )
        for name, call in (("sqrtm", by_sqrtm), ("eigenvalues", by_eigenvalues)):
            theirs, slow, slow_processor = seconds(lambda call=call, a=a, b=b: call(a, b), 1)
            print(
                f"  {name:<12} {slow:8.3f} s  {slow / fast:6.0f}x   processor "
                f"{slow_processor:8.3f} s  {slow_processor / fast_processor:6.0f}x   "
                f"relative difference {abs(ours - theirs) / theirs:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
