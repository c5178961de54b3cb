"""The Frechet distance's algebra, and its agreement with the matrix square root."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.image.fid import _compute_fid

from metrics.errors import MetricsError
from metrics.frechet import (
    covariance_factor,
    frechet_distance,
    frechet_distance_from_moments,
    frechet_interval,
)


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
    with pytest.raises(MetricsError, match="x has 3 dimensions and y has 2"):
        frechet_distance_from_moments(torch.zeros(3), torch.eye(3), torch.zeros(2), torch.eye(2))


def test_moments_are_computed_in_double():
    mean = torch.tensor([10000.1, 0.3])
    exact = float((mean.double() ** 2).sum())
    one = torch.eye(2)
    found = frechet_distance_from_moments(mean, one, torch.zeros(2), one)
    assert found == pytest.approx(exact, rel=1e-14)


def test_only_half_precision_is_warned_of():
    x, y = draw(8, 6, 10), draw(9, 6, 10)
    with pytest.warns(UserWarning, match="y is of type torch.bfloat16 and is converted"):
        frechet_distance(x, y.bfloat16())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(x.float(), y)


def jackknife(distances: list[list[float]], confidence: float = 0.95) -> float:
    """Half an interval, from the distances without one group at a time, by kind of group."""
    variance = sum((len(d) - 1) * np.var(d) for d in distances)
    freedom = min(len(d) - 1 for d in distances)
    return float(stats.t.ppf((1 + confidence) / 2, freedom) * variance**0.5)


@pytest.mark.parametrize(("ddof", "confidence"), [(1, 0.95), (0, 0.8)])
def test_the_interval_leaves_out_one_sample_at_a_time(ddof, confidence):
    x, y = draw(3, 8, 3), 4 * draw(4, 11, 3)
    every_x, every_y = torch.arange(8), torch.arange(11)
    half = jackknife(
        [
            [frechet_distance(x[every_x != k], y, ddof=ddof) for k in range(8)],
            [frechet_distance(x, y[every_y != k], ddof=ddof) for k in range(11)],
        ],
        confidence,
    )
    value, low, high, *_ = frechet_interval(x, y, ddof=ddof, confidence=confidence)
    assert value == frechet_distance(x, y, ddof=ddof)
    assert half < value
    assert (low, high) == pytest.approx((value - half, value + half))
    near = frechet_interval(x, x + 1e-3)
    assert near.low == 0.0


def test_the_interval_leaves_out_a_person_in_both_sets_and_at_most_twenty_groups():
    x, y = draw(5, 46, 3), 4 * draw(6, 46, 3)
    people = torch.arange(46) // 2  # 23 people with two samples a set, in 20 groups
    gone = [torch.isin(people, torch.tensor([k, k + 20])) for k in range(20)]
    half = jackknife([[frechet_distance(x[~g], y[~g]) for g in gone]])
    value, low, high, *_ = frechet_interval(x, y, x_people=people, y_people=people)
    assert (low, high) == pytest.approx((value - half, value + half))
    # One person of both sets beside two of each alone: she is in both, and has no group to compare.
    x, y = x[:6], y[:6]
    of_x, of_y = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 3, 3, 4, 4])
    half = jackknife(
        [
            [frechet_distance(x[of_x != k], y) for k in (1, 2)],
            [frechet_distance(x, y[of_y != k]) for k in (3, 4)],
        ]
    )
    value, low, high, *_ = frechet_interval(x, y, x_people=of_x, y_people=of_y)
    assert (low, high) == pytest.approx((max(0, value - half), value + half))


def test_two_people_give_no_interval():
    x, y = draw(5, 8, 3), draw(6, 8, 3)
    two, four = torch.arange(8) // 4, torch.arange(8) // 2
    for of_x, of_y in ((two, four), (four, two)):
        found = frechet_interval(x, y, x_videos=of_x, y_videos=of_y)
        assert found[:3] == (frechet_distance(x, y), None, None)
    assert frechet_interval(x, y, x_videos=four, y_videos=four).low is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x_videos": torch.zeros(3)}, "x_videos has shape"),
        ({"y_videos": torch.zeros(3)}, "y_videos has shape"),
        ({"x_people": torch.zeros(3)}, "x_people has shape"),
        ({"y_people": torch.zeros(3)}, "y_people has shape"),
        ({"ddof": 2}, "ddof is 2"),
    ],
)
def test_bad_labels_are_named(arguments, words):
    with pytest.raises(MetricsError, match=words):
        frechet_interval(torch.eye(4), torch.eye(4), **arguments)


def test_bad_features_of_an_interval_are_named():
    for x, y, name in ((torch.zeros(4), torch.eye(4), "x"), (torch.eye(4), torch.zeros(4), "y")):
        with pytest.raises(MetricsError, match=f"{name} must be a real matrix"):
            frechet_interval(x, y)
