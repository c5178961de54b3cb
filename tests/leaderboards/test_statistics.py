from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leaderboards import LeaderboardError
from leaderboards.statistics import (
    FlippedPairs,
    all_pairs,
    cluster_means,
    few_values,
    holm,
    paired_tests,
    resampling_weights,
)


def test_interval_is_the_bootstrap_t_computed_one_draw_at_a_time() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(24), rng.integers(1, 5, 24))
    values = rng.normal(0.4, 0.1, len(clusters))
    means = cluster_means(values[:, None], clusters, draws=400, seed=5)

    def mean_and_error(weights: np.ndarray) -> tuple[float, float]:
        per_sample = weights[clusters]
        mean = (per_sample * values).sum() / per_sample.sum()
        sums = [weights[g] * ((values[clusters == g] - mean).sum()) ** 2 for g in range(24)]
        return mean, math.sqrt(24 / 23 * sum(sums)) / per_sample.sum()

    centre, error = mean_and_error(np.ones(24))
    ratios = []
    for weights in resampling_weights(24, 400, 5):
        mean, own = mean_and_error(weights)
        ratios.append((mean - centre) / own)
    ratios.sort()
    assert means.mean[0] == pytest.approx(centre)
    assert means.se[0] == pytest.approx(error)
    assert means.low[0] == pytest.approx(centre - ratios[-10] * error)
    assert means.high[0] == pytest.approx(centre - ratios[9] * error)


@settings(max_examples=30, deadline=None)
@given(
    arrays(float, 72, elements=st.floats(-1, 1)),
    st.floats(-5, 5),
    st.floats(0.1, 10),
)
def test_interval_moves_and_scales_with_the_scores(
    values: np.ndarray, shift: float, scale: float
) -> None:
    clusters = np.arange(72) // 3
    a = cluster_means(values[:, None], clusters, draws=200)
    b = cluster_means((values * scale + shift)[:, None], clusters, draws=200)
    if np.std(values) < 1e-3:
        return
    for name in ("mean", "low", "high"):
        expected = getattr(a, name)[0] * scale + shift
        assert getattr(b, name)[0] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert a.low[0] <= a.mean[0] <= a.high[0]


def test_samples_of_one_identity_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    faces = rng.normal(0, 1, 30)
    values = np.repeat(faces, 10) + rng.normal(0, 0.01, 300)
    clustered = cluster_means(values[:, None], np.repeat(np.arange(30), 10))
    naive = cluster_means(values[:, None], np.arange(300))
    width = lambda m: m.high[0] - m.low[0]  # noqa: E731
    assert width(clustered) > 2.5 * width(naive)


def test_degenerate_columns() -> None:
    clusters = np.repeat(np.arange(8), 2)
    values = np.full((16, 4), np.nan)
    values[:, 1] = 0.3  # no spread at all
    values[:2, 2] = [0.1, 0.2]  # one identity only
    values[:8, 3] = np.linspace(0, 1, 8)  # few identities
    means = cluster_means(values, clusters)
    assert math.isnan(means.mean[0])
    assert means.n[0] == 0
    assert (means.low[1], means.high[1]) == (0.3, 0.3)
    assert means.mean[2] == pytest.approx(0.15)
    assert math.isnan(means.low[2])
    assert means.clusters[3] == 4
    assert means.method[3].startswith("Student")
    assert means.low[3] < 0.5 < means.high[3]


def test_bad_settings() -> None:
    with pytest.raises(LeaderboardError, match="confidence"):
        cluster_means(np.zeros((3, 1)), np.arange(3), confidence=1.5)
    with pytest.raises(LeaderboardError, match="100 or more"):
        cluster_means(np.zeros((3, 1)), np.arange(3), draws=3)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, np.nan])) == pytest.approx(
        [0.03, 0.06, 0.06, np.nan], nan_ok=True
    )


@given(arrays(float, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm_keeps_order_and_never_helps(p: np.ndarray) -> None:
    adjusted = holm(p)
    assert (adjusted >= p - 1e-15).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-12).all()


def test_paired_tests_see_a_real_difference_and_not_a_false_one() -> None:
    rng = np.random.default_rng(1)
    clusters = np.arange(40) // 2
    differences = np.stack([rng.normal(0.1, 0.05, 40), rng.normal(0, 0.05, 40), np.zeros(40)], 1)
    p = paired_tests(differences, clusters).p
    assert p[0] < 0.001
    assert p[1] > 0.05
    assert p[2] == 1.0


def test_paired_tests_take_one_value_per_identity() -> None:
    # Twenty samples of two identities are two pairs, which can show nothing.
    tested = paired_tests((np.full(20, 0.3) + np.arange(20) / 100)[:, None], np.arange(20) // 10)
    assert tested.p[0] == 0.5
    assert math.isnan(tested.low[0])


def test_sign_flips_by_hand() -> None:
    # Of 2^6 flips of 1, 2, .., 6 only none and all reach as far as what was seen.
    tested = paired_tests(np.arange(1.0, 7.0)[:, None], np.arange(6))
    assert tested.p[0] == 2 / 64
    assert (tested.low[0], tested.high[0]) == (1.0, 6.0)
    # Differences that cancel out leave rounding noise, not a side.
    noise = paired_tests(np.array([[0.1], [0.2], [-0.3], [0.3], [-0.1], [-0.2]]), np.arange(6))
    assert noise.p[0] == 1.0


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, st.integers(6, 16), elements=st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])),
    st.sampled_from([None, 1.0]),
)
def test_p_value_and_interval_never_contradict(values: np.ndarray, span: float | None) -> None:
    tested = paired_tests(values[:, None], np.arange(len(values)), span=span)
    holds = tested.low[0] <= 0 <= tested.high[0]
    assert holds == (tested.p[0] > 0.05)
    assert tested.low[0] <= tested.mean[0] <= tested.high[0]


def test_counts_get_exact_limits() -> None:
    # Clopper and Pearson's interval of 7 out of 8, and of 8 out of 8.
    values = np.array([[1.0] * 7 + [0.0], [1.0] * 8]).T
    means = cluster_means(values, np.arange(8), ends=np.array([[0, 1], [0, 1]]))
    assert means.low == pytest.approx([0.4735, 0.6306], abs=1e-4)
    assert means.high == pytest.approx([0.9968, 1.0], abs=1e-4)
    # Five samples of each person, all alike, say no more than one of each.
    five = np.repeat(np.arange(8), 5)
    repeated = cluster_means(values[five], five, ends=np.array([[0, 1], [0, 1]]))
    assert repeated.low == pytest.approx(means.low, abs=0.06)
    assert repeated.low[1] == pytest.approx(means.low[1])


@pytest.mark.parametrize("share", [0.9, 0.5])
@pytest.mark.parametrize("people", [8, 12, 20, 50])
def test_limits_of_counts_cover(share: float, people: int) -> None:
    values = (np.random.default_rng(people).random((people, 1000)) < share).astype(float)
    means = cluster_means(values, np.arange(people), ends=np.tile([0.0, 1.0], (1000, 1)))
    assert ((means.low <= share) & (share <= means.high)).mean() >= 0.93


def test_few_values_are_told_from_many() -> None:
    assert few_values(np.array([1.0, 1.0, 1.0]), 0, 1) == (0, 1)
    assert few_values(np.array([0.0, 0.5] * 8), 0, 1) == (0, 1)
    assert few_values(np.array([2.0, 3.0] * 8)) == (2, 3)
    assert few_values(np.linspace(0, 1, 16), 0, 1) is None
    assert few_values(np.array([0.2, 0.7, 0.9]), 0, 1) is None
    assert few_values(np.full(4, np.nan)) is None


def test_interval_of_few_identities_stays_near_their_values() -> None:
    values = np.array([0.02, 0.03, 0.05, 0.06, 0.09, 0.11, 0.2, 0.34])
    means = cluster_means(values[:, None], np.arange(8))
    assert means.high[0] < 0.34
    assert means.low[0] < 0.1125 < means.high[0]


def test_all_pairs_pay_for_the_best_being_picked() -> None:
    """Of 24 equal entries the best is told from some other in at most 7 % of studies."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(150):
        values = rng.normal(0, 1, 20) + rng.normal(0, 1, (24, 20))
        p = all_pairs(values[None], np.arange(20), draws=499)[0]
        found += bool((p[values.mean(axis=1).argmax()] <= 0.05).any())
    assert found / 150 <= 0.07 + 2 * math.sqrt(0.05 * 0.95 / 150)


def test_all_pairs_find_what_differs_and_leave_out_who_is_absent() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.1, (1, 4, 20)) + np.array([0, 0, 1, np.nan])[:, None]
    p = all_pairs(values, np.arange(20))[0]
    assert p[0, 2] < 0.01
    assert p[0, 1] > 0.05
    assert p == pytest.approx(p.T, nan_ok=True)
    assert np.isnan(p[3]).all()


def test_false_positives_keep_to_their_rate() -> None:
    """Of 400 comparisons without a difference about 5 % are called one, within chance."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(16), 4)
    people = rng.normal(0, 0.1, (16, 400))[clusters]
    differences = people + rng.normal(0, 0.1, (64, 400))
    p = paired_tests(differences, clusters, draws=499).p
    assert 0.015 <= (p < 0.05).mean() <= 0.095


def test_columns_do_not_touch_one_another() -> None:
    """Many columns at once are each what they are alone: with gaps, few values, few identities."""
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(24), 3)
    values = rng.normal(size=(72, 5))
    values[rng.random(72) < 0.3, 1] = np.nan
    values[clusters < 10, 2] = np.nan
    values[:, 3] = rng.integers(0, 2, 72)
    ends = np.full((5, 2), np.nan)
    ends[3] = 0, 1
    every = cluster_means(values, clusters, ends=ends, draws=100)
    pairs = paired_tests(values, clusters, draws=500)
    for k in range(5):
        one = cluster_means(values[:, [k]], clusters, ends=ends[[k]], draws=100)
        assert every.method[k] == one.method[0]
        for name in ("mean", "low", "high", "se", "n", "clusters"):
            np.testing.assert_allclose(getattr(every, name)[k], getattr(one, name)[0])
        alone = paired_tests(values[:, [k]], clusters, draws=500)
        for name in ("mean", "low", "high", "p", "n", "clusters"):
            np.testing.assert_allclose(getattr(pairs, name)[k], getattr(alone, name)[0])
    people = [len(np.unique(clusters[np.isfinite(column)])) for column in values.T]
    assert every.clusters.tolist() == pairs.clusters.tolist() == people
    assert people[2] == 14
    there = np.isfinite(values).sum(axis=0)
    for found in (every, pairs):
        np.testing.assert_array_equal(found.n, there)
        assert found.n.dtype == found.clusters.dtype == np.int64
    nothing = cluster_means(values[:0], clusters[:0])
    assert nothing.n.dtype == paired_tests(values[:0], clusters[:0]).n.dtype == np.int64


@pytest.mark.parametrize("joint", [False, True])
def test_all_pairs_try_every_flip_of_few_clusters(joint: bool) -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(6), 2)
    values = rng.normal(size=(2, 3, 12)) + np.array([0, 0.5, 2.0])[:, None]
    sums = values.reshape(2, 3, 6, 2).sum(axis=3)
    gaps = sums[:, :, None] - sums[:, None]  # [2, 3, 3, 6]
    with np.errstate(invalid="ignore"):
        signs = np.array(list(itertools.product([1, -1], repeat=6)))
        t = np.abs(gaps @ signs.T) / np.sqrt((gaps**2).sum(axis=3))[..., None]
    largest = np.nanmax(t, axis=(1, 2))  # [2, 64]
    if joint:
        largest[:] = largest.max(axis=0)
    expected = [[[(largest[j] >= t[j, a, b, 0] * (1 - 1e-5)).mean() for b in range(3)]
                 for a in range(3)] for j in range(2)]  # fmt: skip
    found = all_pairs(values, clusters, joint=joint, draws=32)
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(found[:, off], np.array(expected)[:, off])
    assert (found[:, ~off] == 1).all()
    flipped = FlippedPairs(values, clusters, draws=32)
    largest = flipped.largest.max(axis=0) if joint else None
    for level in (*np.unique(found), 0.05, 0.3):
        for c in range(2):
            np.testing.assert_array_equal(flipped.told(c, level, largest), found[c] <= level)
    assert len(np.unique(found)) > 3
    random = all_pairs(values, clusters, joint=joint, draws=31)  # one too few for all
    assert (np.round(random[:, off] * 32) == random[:, off] * 32).all()


def test_a_range_that_is_half_known_is_not_known() -> None:
    column = np.array([0.0, 0.5] * 8)
    for low, high in ((None, 1.0), (0.0, None), (0.0, math.inf), (-math.inf, 1.0)):
        assert few_values(column, low, high) == (0.0, 0.5)
    assert few_values(column, 0.0, 1.0) == (0.0, 1.0)


def test_a_hundred_draws_are_enough() -> None:
    values = np.arange(24.0)[:, None]
    assert np.isfinite(cluster_means(values, np.arange(24), draws=100).low).all()
    with pytest.raises(LeaderboardError, match="99 bootstrap draws"):
        cluster_means(values, np.arange(24), draws=99)


def test_holm_of_nothing() -> None:
    assert holm(np.array([])).shape == (0,)
    assert np.isnan(holm(np.array([np.nan]))).all()
