from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize("bad", [{"entries": 1}, {"width": 0}, {"spread": -1}, {"raters": [1]}])
def test_no_plan(bad: dict[str, object]) -> None:
    with pytest.raises(LeaderboardError):
        plan_votes(**{"entries": 3, "width": 0.1, **bad})  # type: ignore[arg-type]
