from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leaderboards import Column, LeaderboardError
from leaderboards.ranking import Ranking, challenge_ranks, pareto_front, resolve

UP = Column("up", "up", higher_is_better=True, low=0, high=1)
DOWN = Column("down", "down", higher_is_better=False, low=0, high=200)
NEUTRAL = Column("motion", "motion", higher_is_better=None)


def test_ties_share_and_missing_is_worst() -> None:
    means = np.array([[0.5, 100, 1], [0.5, np.nan, 2], [0.4, 90, 3], [np.nan, np.nan, 4]])
    assert challenge_ranks(means, [UP, DOWN, NEUTRAL]).tolist() == [
        [1, 2, 0], [1, 3, 0], [3, 1, 0], [4, 3, 0],
    ]  # fmt: skip


def scores(
    means: np.ndarray, columns: list[Column], weights: dict[str, float] | None = None
) -> np.ndarray:
    weights = weights or {column.key: 1.0 for column in columns}
    return resolve(Ranking("score", weights), columns, means).totals(means, columns)


def test_scores_clip_scale_and_turn_around() -> None:
    means = np.array([[0.5, 50.0], [2.0, 300.0], [np.nan, 0.0]])
    assert scores(means, [UP, DOWN]).tolist() == [0.625, 0.5, 0.5]
    assert scores(means, [UP, DOWN], {"up": 3, "down": 1})[0] == pytest.approx(0.5625)


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"sideways": 1.0}, "no column 'sideways'"), ({"up": -1.0}, "positive"),
     ({"motion": 1.0}, "no column 'motion'")],
)  # fmt: skip
def test_bad_weights(weights: dict[str, float], message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        scores(np.zeros((1, 2)), [UP, NEUTRAL], weights)


def test_no_range_no_score() -> None:
    with pytest.raises(LeaderboardError, match="no finite range"):
        scores(np.zeros((1, 1)), [Column("fvd", "fvd", higher_is_better=False, low=0)])


@given(
    arrays(float, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(-9, 9, width=16))
)
def test_front_is_what_nobody_beats(points: np.ndarray) -> None:
    front = pareto_front(points[:, 0], points[:, 1])
    assert front.any()
    for i, point in enumerate(points):
        beaten = any((other >= point).all() and (other > point).any() for other in points)
        assert front[i] == (not beaten)
