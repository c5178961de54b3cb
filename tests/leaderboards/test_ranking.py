from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leaderboards import Column, LeaderboardError
from leaderboards.ranking import (
    Ranking,
    challenge_ranks,
    draw_means,
    pareto_front,
    place,
    primary,
    redundant,
    resolve,
    told_apart,
    totals,
)

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


def column(metric: str, family: str, **facts: object) -> Column:
    return Column(metric, metric, family=family, **facts)  # type: ignore[arg-type]


COLUMNS = [
    column("identity.facenet", "identity", low=-1, high=1),
    column("identity.insightface", "identity", low=-1, high=1),
    column("identity.insightface.consistency", "temporal", low=-1, high=1),
    column("text.clip_score", "text", low=0, high=100),
    column("fvd.i3d", "distribution", higher_is_better=False, level="set"),
    column("kvd.i3d", "distribution", higher_is_better=False, diagnostic=True, level="set"),
    column("faces.rate.insightface", "", low=0, high=1, diagnostic=True),
    column("temporal.flicker", "temporal", low=0, high=1),
]
MEANS = np.array(
    [[0.3, 0.5, 0.9, 30, 200, 1, 0.1, 0.9], [0.9, 0.4, 0.8, 28, 100, 9, 0.9, 0.8],
     [0.8, 0.6, 0.7, 29, 300, 5, 0.5, 0.7]]
)  # fmt: skip


def test_each_family_counts_once_by_its_first_backend() -> None:
    scheme = resolve(Ranking("families"), COLUMNS, MEANS)
    assert [COLUMNS[c].key for c in scheme.columns] == [
        "identity.insightface", "text.clip_score", "fvd.i3d", "identity.insightface.consistency",
    ]  # fmt: skip
    assert "identity: identity.insightface" in scheme.rule
    assert totals(scheme, COLUMNS, MEANS).tolist() == [2 + 1 + 2 + 1, 3 + 3 + 1 + 2, 1 + 2 + 3 + 3]


def test_flicker_never_stands_for_temporal_consistency() -> None:
    assert primary("temporal", COLUMNS[-1:], MEANS[:, -1:]) is None


def test_the_column_that_most_entries_have_stands_for_a_family() -> None:
    means = MEANS.copy()
    means[0, 1] = np.nan
    assert primary("identity", COLUMNS, means) == 0


def test_a_constant_column_does_not_count() -> None:
    means = MEANS.copy()
    means[:, 3] = 29.0
    scheme = resolve(Ranking("families"), COLUMNS, means)
    assert 3 not in scheme.columns
    assert "not counted: text.clip_score" in scheme.rule


def test_nothing_that_counts_leaves_all_unranked() -> None:
    scheme = resolve(Ranking(), COLUMNS[-2:], MEANS[:, -2:])
    assert np.isnan(totals(scheme, COLUMNS[-2:], MEANS[:, -2:])).all()


def test_total_of_opens2v() -> None:
    names = ("Aesthetics", "FaceSim", "GmeScore", "NaturalScore", "MotionSmoothness")
    columns = [Column(name, name) for name in (*names, "MotionAmplitude")]
    means = np.array([[0.5, 0.4, 0.7, 0.8, 0.9, 0.1]])
    scheme = resolve(Ranking("opens2v"), columns, means)
    assert totals(scheme, columns, means)[0] == pytest.approx(
        0.18 * 0.5 + 0.25 * 0.4 + 0.15 * 0.7 + 0.30 * 0.8 + 0.09 * 0.9 + 0.03 * 0.1
    )
    with pytest.raises(LeaderboardError, match="divide percentages"):
        resolve(Ranking("opens2v"), columns, means * 100)
    with pytest.raises(LeaderboardError, match="needs a column MotionSmoothness"):
        resolve(Ranking("opens2v"), columns[:3], means[:, :3])


@pytest.mark.parametrize(
    ("ranking", "message"),
    [(lambda: Ranking("best"), "nothing to rank by is called 'best'"),
     (lambda: Ranking("families", {"identity": 1.0}), "belong to the scheme 'score'"),
     (lambda: Ranking(missing="forget"), "choose one of worst, drop"),
     (lambda: Ranking("ipvg2025"), "needs a column Face-Cur"),
     (lambda: Ranking("score", {"fvd.i3d": 1.0}), "give its anchors")],
)  # fmt: skip
def test_bad_rankings(ranking: Callable[[], Ranking], message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        resolve(ranking(), COLUMNS, MEANS)


finite = st.floats(-1, 1, width=16)


@settings(max_examples=80, deadline=None)
@given(
    arrays(float, st.tuples(st.integers(2, 7), st.just(8)), elements=finite),
    st.sampled_from(["families", "score", "identity.facenet"]),
)
def test_better_or_equal_in_all_that_counts_is_never_behind(means: np.ndarray, by: str) -> None:
    scheme = resolve(Ranking(by), COLUMNS, means)
    bad = scheme.badness(totals(scheme, COLUMNS, means))
    signs = np.array([c.sign for c in COLUMNS])[list(scheme.columns)]
    counted = means[:, list(scheme.columns)] * signs
    for i in range(len(means)):
        for j in range(len(means)):
            if (counted[i] >= counted[j]).all():
                assert bad[i] <= bad[j]


@settings(max_examples=80, deadline=None)
@given(arrays(float, st.tuples(st.integers(3, 7), st.just(8)), elements=finite))
def test_a_new_entry_does_not_reorder_old_ones_by_score(means: np.ndarray) -> None:
    old, new = (
        resolve(Ranking("score"), COLUMNS, part).totals(part, COLUMNS)
        for part in (means[:-1], means)
    )
    assert new[:-1].tolist() == old.tolist()


def test_places_say_how_sure_they_are() -> None:
    rng = np.random.default_rng(0)
    true = np.array([0.8, 0.5, 0.5, 0.2])
    values = np.stack([true[:, None] + rng.normal(0, 0.05, (4, 30)) for _ in range(2)])
    columns = [column("identity.a", "identity"), column("text.a", "text")]
    means, clusters = values.mean(axis=2).T, np.arange(30)
    scheme = resolve(Ranking(), columns, means)
    told = told_apart(scheme, columns, values, clusters, confidence=0.95, draws=999, seed=0)
    none = np.full_like(means, np.nan)
    drawn = draw_means(scheme, values, clusters, means, none, draws=400, seed=0)
    standings, ahead = place(scheme, columns, means, drawn, told, 0.95)
    assert [standing.text for standing in standings] == ["1", "2-3", "2-3", "4"]
    assert standings[0].p_first == 1.0
    assert (standings[3].low, standings[3].high) == (4, 4)
    assert {standings[1].low, standings[2].low} == {2}
    assert ahead.sum() == 5


def test_columns_that_say_the_same_are_pointed_out() -> None:
    x = np.linspace(0, 1, 8)
    means = np.stack([x, x**3, -x, np.ones(8), np.sin(9 * x)], axis=1)
    columns = [column(f"c{i}", "") for i in range(5)]
    assert [(a, b, round(rho)) for a, b, rho in redundant(means, columns)] == [
        (0, 1, 1), (0, 2, -1), (1, 2, -1),
    ]  # fmt: skip


def test_set_scores_are_drawn_with_the_identities() -> None:
    """Two entries whose FVD hangs on the same people keep their order in every resample."""
    rng = np.random.default_rng(3)
    columns = [
        column("identity.a", "identity"),
        replace(column("fvd.a", "distribution"), level="set", higher_is_better=False),
    ]
    people, values = np.arange(12), np.full((2, 2, 12), np.nan)
    values[0] = 0.5 + 0.1 * rng.normal(size=(2, 12))
    means = np.array([values[0].mean(axis=1), [10.0, 10.5]]).T
    scheme = resolve(Ranking("fvd.a"), columns, means)
    effects = np.full((2, 2, 12), np.nan)
    effects[1] = rng.normal(size=12)
    effects[1] -= effects[1].mean(axis=1, keepdims=True)
    errors = np.full((2, 2), 3.0)
    drawn = draw_means(scheme, values, people, means, errors, effects, draws=500, seed=0)[:, :, 1]
    assert np.allclose(drawn[:, 1] - drawn[:, 0], 0.5)
    assert drawn[:, 0].std() == pytest.approx(np.sqrt((effects[1, 0] ** 2).sum()), rel=0.1)
    alone = draw_means(scheme, values, people, means, errors, draws=500, seed=0)[:, :, 1]
    assert (alone[:, 1] < alone[:, 0]).mean() > 0.3
    effects[1, 1, 0] = np.nan  # of the second entry somebody's effect is not known
    half = draw_means(scheme, values, people, means, errors, effects, draws=500, seed=0)[:, :, 1]
    assert np.allclose(half[:, 0], drawn[:, 0])
    assert np.allclose(half[:, 1], alone[:, 1])
