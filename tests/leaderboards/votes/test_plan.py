from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.validity import simulate_raters
from leaderboards import LeaderboardError, bradley_terry
from leaderboards.votes import plan_votes, rater_spread


def test_by_hand() -> None:
    """Two entries, 41 raters who agree, no draws: a strength's variance is 1 / votes."""
    (plan,) = plan_votes(2, 0.02, raters=[41], spread=0.0)
    assert plan.per_rater is not None
    assert plan.votes == pytest.approx((2.0211 / 0.04) ** 2, rel=0.02)  # t with 40 degrees
    assert plan.votes % 41 == 0
    assert plan.hours == pytest.approx(plan.per_rater * 15 / 3600)


def test_more_raters_need_fewer_votes_and_too_few_cannot_do() -> None:
    plans = plan_votes(4, 0.12, raters=[3, 10, 20, 60], spread=0.3, samples=10)
    assert plans[0].votes is None
    assert not plans[0].repeats
    counts = [plan.votes for plan in plans[1:]]
    assert counts == sorted(counts, reverse=True)
    assert plans[1].repeats


def test_the_planned_votes_give_the_wanted_width() -> None:
    (plan,) = plan_votes(3, 0.2, raters=[12], spread=0.4)
    assert plan.votes is not None
    widths = []
    for seed in range(12):
        votes = simulate_raters(np.random.default_rng(seed), np.zeros(3), 12, 0.4, plan.votes, 60)
        table = bradley_terry(votes)
        chance = 1 / (1 + np.exp(-table[["low", "high"]]))
        widths.append((chance["high"] - chance["low"]).mean())
    assert np.mean(widths) == pytest.approx(0.2, rel=0.25)


def test_spread_is_estimated() -> None:
    truth = np.array([-0.4, 0.0, 0.4])
    found = [
        rater_spread(
            simulate_raters(np.random.default_rng([seed, int(10 * s)]), truth, 20, s, 4000, 80)
        )
        for s in (0.0, 0.5)
        for seed in range(3)
    ]
    assert np.mean(found[:3]) < 0.12
    assert np.mean(found[3:]) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    "bad",
    [
        {"entries": 1},
        {"width": 0},
        {"width": 1},
        {"spread": -1},
        {"raters": [1]},
        {"draws": 1},
        {"draws": -0.1},
    ],
)
def test_no_plan(bad: dict[str, object]) -> None:
    with pytest.raises(LeaderboardError):
        plan_votes(**{"entries": 3, "width": 0.1, **bad})  # type: ignore[arg-type]


@settings(max_examples=60)
@given(
    entries=st.integers(2, 9),
    width=st.floats(0.02, 0.6),
    rater=st.integers(2, 60),
    spread=st.floats(0, 0.6),
    draws=st.floats(0, 0.9),
    confidence=st.floats(0.5, 0.99),
)
def test_the_plan_is_the_least_that_is_narrow_enough(
    entries: int, width: float, rater: int, spread: float, draws: float, confidence: float
) -> None:
    (plan,) = plan_votes(
        entries, width, raters=[rater], spread=spread, draws=draws, confidence=confidence
    )
    pairs = math.comb(entries, 2)

    def wide(each: float) -> float:
        per_pair = each * rater / pairs
        of_votes = 4 * (1 - draws) / (per_pair * entries) if per_pair else math.inf
        variance = (1 - 1 / entries) * (of_votes + spread**2 / rater)
        # The logistic curve is a quarter as steep as its argument at one half.
        return 2 * stats.t.ppf((1 + confidence) / 2, rater - 1) * variance**0.5 / 4

    if plan.per_rater is None:
        assert (plan.votes, plan.hours) == (None, None)
        assert wide(1e12) > width * (1 - 1e-9)
    else:
        assert wide(plan.per_rater) <= width * (1 + 1e-9)
        assert wide(plan.per_rater - 1) > width * (1 - 1e-9)
        assert plan.votes == plan.per_rater * rater


def test_hours_and_repeats() -> None:
    common = {"raters": [10, 4, 10], "spread": 0.1, "seconds": 20.0, "questions": 3}
    few, many = plan_votes(4, 0.2, **common)  # type: ignore[arg-type]
    assert (few.raters, many.raters) == (4, 10)
    assert few.per_rater is not None
    assert few.hours == few.per_rater * 60 / 3600
    assert not few.repeats
    # Six pairs of the entries on each sample.
    enough = few.per_rater / 6
    for samples, repeats in ((math.floor(enough), True), (math.ceil(enough), False)):
        (plan, _) = plan_votes(4, 0.2, samples=samples, **common)  # type: ignore[arg-type]
        assert plan.repeats is repeats
    exact = plan_votes(2, 0.1, raters=[7], spread=0.0)[0].per_rater
    assert not plan_votes(2, 0.1, raters=[7], spread=0.0, samples=exact)[0].repeats


def test_what_is_planned_for_when_nothing_is_said() -> None:
    said = {
        "raters": (3, 5, 10, 20, 40), "spread": 0.3, "draws": 0.0, "samples": None,
        "questions": 1, "seconds": 15.0, "confidence": 0.95,
    }  # fmt: skip
    assert plan_votes(3, 0.3) == plan_votes(3, 0.3, **said)  # type: ignore[arg-type]
    assert [plan.raters for plan in plan_votes(3, 0.3)] == [3, 5, 10, 20, 40]
