"""The Frechet distance's algebra, and its agreement with the matrix square root."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.fid import _compute_fid

from metrics.errors import MetricsError
from metrics.frechet import covariance_factor, frechet_distance, frechet_distance_from_moments


def draw(seed: int, samples: int, dimensions: int, rank: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rank = dimensions if rank is None else rank
    x = torch.randn(samples, rank, generator=generator, dtype=torch.float64)
    mix = torch.randn(rank, dimensions, generator=generator, dtype=torch.float64)
    return x @ mix / rank**0.5 + torch.randn(dimensions, generator=generator)


def by_sqrtm(x: torch.Tensor, y: torch.Tensor, ddof: int) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    s, t = np.cov(a, rowvar=False, ddof=ddof), np.cov(b, rowvar=False, ddof=ddof)
    root = scipy.linalg.sqrtm(s @ t)
    return float(
        ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * np.trace(root).real
    )


sizes = st.integers(2, 24)
seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(
    ("n", "m", "d"), [(8, 8, 96), (8, 200, 64), (200, 8, 64), (40, 60, 20), (400, 400, 40)]
)
def test_equals_the_matrix_square_root(n, m, d, ddof):
    x, y = draw(0, n, d), draw(1, m, d)
    assert frechet_distance(x, y, ddof=ddof) == pytest.approx(by_sqrtm(x, y, ddof), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, sizes, st.integers(1, 24))
def test_symmetric_and_not_negative(seed, n, m, d):
    x, y = draw(seed, n, d), draw(seed + 1, m, d)
    there, back = frechet_distance(x, y), frechet_distance(y, x)
    assert there >= 0
    assert there == pytest.approx(back, rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.integers(1, 24), st.integers(1, 24))
def test_zero_on_the_same_set_in_any_order_and_rank(seed, n, d, rank):
    x = draw(seed, n, d, rank)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert frechet_distance(x, x[order]) <= 1e-10 * (1 + float(x.square().sum()))


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes, st.integers(2, 24))
def test_unmoved_by_rotation_and_shift_of_both(seed, n, m, d):
    x, y = draw(seed, n, d), draw(seed + 1, m, d)
    q, _ = torch.linalg.qr(draw(seed + 2, d, d))
    shift = draw(seed + 3, 1, d)
    moved = frechet_distance(x @ q + shift, y @ q + shift)
    assert moved == pytest.approx(frechet_distance(x, y), rel=1e-7, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, st.integers(1, 16), st.floats(0.1, 10))
def test_scales_by_the_square(seed, n, d, scale):
    x, y = draw(seed, n, d), draw(seed + 1, n, d)
    assert frechet_distance(scale * x, scale * y) == pytest.approx(
        scale**2 * frechet_distance(x, y), rel=1e-7, abs=1e-9
    )


@pytest.mark.parametrize(("n", "d"), [(12, 30), (30, 12), (12, 12), (13, 12)])
def test_samples_and_moments_agree_whichever_form_is_picked(n, d):
    x, y = draw(3, n, d), draw(4, n + 5, d)
    direct = frechet_distance(x, y)
    moments = frechet_distance_from_moments(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    assert moments == pytest.approx(direct, rel=1e-7)


def test_equals_torchmetrics_formula():
    x, y = draw(5, 300, 20), draw(6, 300, 20)
    theirs = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(float(theirs), rel=1e-9)


def test_a_shift_far_from_the_origin_is_exact():
    x = draw(7, 20, 40)
    assert frechet_distance(x + 1e6, x + 1e6 + 1) == pytest.approx(40, rel=1e-6)


def test_constant_sets_are_their_means_apart():
    assert frechet_distance(torch.zeros(3, 4), torch.ones(9, 4)) == 4.0


def test_half_precision_and_integers_are_computed_in_double():
    x, y = draw(8, 6, 10).half(), draw(9, 6, 10).half()
    assert frechet_distance(x, y) == frechet_distance(x.double(), y.double())
    whole = torch.arange(12).reshape(4, 3)
    assert frechet_distance(whole, whole + 1) == pytest.approx(3)


def test_the_factor_of_a_rank_deficient_covariance_has_its_rank():
    x = draw(10, 50, 20, rank=3)
    covariance = torch.cov(x.T)
    factor = covariance_factor(covariance)
    assert factor.shape == (3, 20)
    torch.testing.assert_close(factor.T @ factor, covariance)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(1, 3), torch.zeros(2, 3), "x has 1 sample"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "same extractor"),
        (torch.zeros(2, 3), torch.full((2, 3), torch.nan), "y has NaN"),
        (torch.full((2, 3), torch.inf), torch.zeros(2, 3), "x has NaN or infinite"),
        (torch.zeros(6), torch.zeros(2, 3), "must be a real matrix"),
        (torch.zeros(2, 0), torch.zeros(2, 0), "must be a real matrix"),
    ],
)
def test_bad_features_are_named(x, y, words):
    with pytest.raises(MetricsError, match=words):
        frechet_distance(x, y)


def test_another_ddof_is_refused():
    with pytest.raises(MetricsError, match="ddof is 2"):
        frechet_distance(torch.eye(3), torch.eye(3), ddof=2)


def test_moments_of_other_shapes_are_refused():
    with pytest.raises(MetricsError, match="moments of x"):
        frechet_distance_from_moments(torch.zeros(3), torch.eye(4), torch.zeros(3), torch.eye(3))
    with pytest.raises(MetricsError, match="moments of y hold NaN"):
        frechet_distance_from_moments(
            torch.zeros(3), torch.eye(3), torch.full((3,), torch.nan), torch.eye(3)
        )
