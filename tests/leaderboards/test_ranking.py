from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leaderboards import Column, LeaderboardError, UnknownNameError, UnrankableError
from leaderboards.ranking import (
    Ranking,
    Scheme,
    challenge_ranks,
    declared,
    draw_means,
    pareto_front,
    place,
    primary,
    redundant,
    resolve,
    told_apart,
    totals,
)
from leaderboards.statistics import FlippedPairs

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
    ("ranking", "kind", "message"),
    [(lambda: Ranking("best"), UnknownNameError, "nothing to rank by is called 'best'"),
     (lambda: Ranking("families", {"identity": 1.0}), LeaderboardError,
      "belong to the scheme 'score'"),
     (lambda: Ranking(missing="forget"), LeaderboardError, "choose one of worst, drop"),
     (lambda: Ranking("ipvg2025"), UnrankableError, "needs a column Face-Cur"),
     (lambda: Ranking("score", {"fvd.i3d": 1.0}), UnrankableError, "give its anchors")],
)  # fmt: skip
def test_bad_rankings(ranking: Callable[[], Ranking], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
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
    told = told_apart(scheme, columns, values, FlippedPairs(values, clusters, draws=999), 0.95)
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


PUBLISHED = (
    ["Face-Cur", "Face-Arc", "FID", "CLIPScore"],
    ["consisid.face_cur", "consisid.face_arc", "consisid.fid", "consisid.clip_score"],
)


@pytest.mark.parametrize("names", PUBLISHED)
def test_a_table_of_the_challenges_four_columns_is_ranked_as_there(names: list[str]) -> None:
    columns = [Column(name, name, higher_is_better="fid" not in name.lower()) for name in names]
    columns = [columns[2], columns[0], columns[3], columns[1]]
    means = np.array([[10.0, 0.5, 30, 0.6], [20, 0.4, 31, 0.7], [30, 0.3, 20, 0.8]])
    for ranking in (Ranking(), Ranking("ipvg2025")):
        scheme = resolve(ranking, columns, means)
        assert (scheme.by, scheme.columns, scheme.needed) == (
            "ipvg2025",
            (1, 3, 0, 2),
            (1, 3, 0, 2),
        )
        assert totals(scheme, columns, means).tolist() == [
            1 + 1 + 2 + 3,
            2 + 2 + 1 + 2,
            3 + 3 + 3 + 1,
        ]
    more = [*columns, Column("more", "more")]
    wide = np.c_[means, means[:, 0]]
    assert resolve(Ranking(), more, wide).by == "families"
    assert resolve(Ranking(), more[1:], wide[:, 1:]).by == "families"
    assert resolve(Ranking("ipvg2025"), more, wide).columns == (1, 3, 0, 2)


def test_what_is_declared_holds_unless_another_is_asked_for() -> None:
    score, best = {"by": "score", "weights": {"up": 1.0}}, {"by": None, "missing": "drop"}
    assert declared("families", [score, best]) == Ranking("families")
    assert declared(Ranking("score"), [best]) == Ranking("score")
    assert declared(None, [score, score]) == Ranking("score", {"up": 1.0})
    assert declared(None, []) == Ranking()
    with pytest.raises(LeaderboardError, match=r"different orders \(score, families\): choose one"):
        declared(None, [score, best, score])


def test_one_column_by_its_key_its_metric_or_its_label() -> None:
    columns = [
        Column("a", "shared", label="A"), Column("b", "shared", label="a"), Column("c", "x"),
    ]  # fmt: skip
    means = np.array([[0.1, 0.9, 0.2], [0.2, np.nan, 0.1]])
    for by, place_of in (("a", 0), ("b", 1), ("shared", 0), ("A", 0), ("x", 2)):
        scheme = resolve(Ranking(by), columns, means)
        assert (scheme.by, scheme.columns, scheme.needed) == (by, (place_of,), (place_of,))
        assert f"Ordered by {columns[place_of].title} alone." == scheme.rule
    with pytest.raises(LeaderboardError, match="motion has no direction"):
        resolve(Ranking("motion"), [NEUTRAL], means[:, :1])


def test_two_entries_that_are_alike_do_not_count() -> None:
    columns = [column("identity.a", "identity"), column("text.a", "text")]
    scheme = resolve(Ranking("families"), columns, np.array([[0.5, 0.1], [0.5, 0.2]]))
    assert (scheme.columns, scheme.needed) == ((1,), (0, 1))
    assert "No column of" in scheme.rule
    assert "The same for all entries, so not counted: identity.a." in scheme.rule
    alone = resolve(Ranking("families"), columns, np.array([[0.5, 0.1]]))
    assert alone.columns == (0, 1)
    every = resolve(Ranking("families"), COLUMNS, MEANS)
    assert "No column of" not in every.rule


def test_anchors_are_given_published_or_the_range() -> None:
    def ends(column: Column, **given: tuple[float, float]) -> tuple[tuple[float, float], ...]:
        scheme = resolve(
            Ranking("score", {column.key: 2.0}, given or None), [column], np.zeros((1, 1))
        )
        return scheme.anchors

    labelled = Column("k", "m", label="Name", low=0, high=4)
    assert ends(labelled) == ((0, 4),)
    assert ends(Column("k", "m", higher_is_better=False, low=0, high=4)) == ((4, 0),)
    for name in ("k", "m", "Name"):
        assert ends(labelled, **{name: (1.0, 3.0)}) == ((1, 3),)
    # CLIPScore's 0 to 36.4 are of percentages: not of fractions, nor of what begins above 0.
    for low, high, expected in (
        (0, 100, (0, 36.4)), (None, None, (0, 36.4)), (0, None, (0, 36.4)), (None, 100, (0, 36.4)),
        (0, 36.4, (0, 36.4)), (0, 1, (0, 1)), (10, 100, (10, 100)),
    ):  # fmt: skip
        assert ends(Column("c", "text.clip_score", low=low, high=high)) == (expected,)
    for low, high in ((None, 1), (0, None), (0, np.inf), (-np.inf, 0), (2, 2)):
        with pytest.raises(LeaderboardError, match="no finite range"):
            ends(Column("k", "m", low=low, high=high))
    with pytest.raises(LeaderboardError, match="no column 'other' to weigh"):
        ends(labelled, other=(0.0, 1.0))


def test_a_column_counts_all_its_weights_once() -> None:
    means = np.array([[0.5, 50.0]])
    columns = [column("identity.x", "identity", low=0, high=2), DOWN]
    ranking = Ranking("score", {"identity": 1.0, "identity.x": 2.0, "down": 1.0})
    scheme = resolve(ranking, columns, means)
    assert (scheme.columns, scheme.weights, scheme.needed) == ((0, 1), (3.0, 1.0), (0, 1))
    assert scheme.totals(means, columns)[0] == pytest.approx(0.75 * 0.5 + 0.25 * 0.75)
    assert "identity.x 0.75 (0 to 1), down 0.25 (200 to 0)" in scheme.rule
    with pytest.raises(LeaderboardError, match="no column belongs to a family"):
        resolve(Ranking("score"), [UP], means[:, :1])


def test_an_order_is_decided_for_each_pair_by_itself() -> None:
    columns, scheme = [UP], resolve(Ranking("up"), [UP], np.zeros((3, 1)))
    means = np.array([[0.9], [0.5], [0.4]])
    drawn = np.repeat(means[None], 100, axis=0)
    drawn[:3, 2] = 0.95  # ahead of the first in three of a hundred
    told = np.array([[False, True, True], [False, False, True], [False] * 3])
    standings, ahead = place(scheme, columns, means, drawn, told, 0.95)
    assert ahead.tolist() == [[False, True, False], [False, False, False], [False] * 3]
    assert [standing.text for standing in standings] == ["1-2", "2-3", "1-3"]
    assert [standing.p_first for standing in standings] == [0.97, 0, 0.03]
    assert [(standing.low, standing.high) for standing in standings] == [(1, 2), (2, 3), (1, 3)]
    _, ahead = place(scheme, columns, means, drawn, told, 0.94)
    assert ahead.tolist() == told.tolist()
    _, ahead = place(scheme, columns, means, drawn, np.zeros_like(told), 0.94)
    assert not ahead.any()
    standings, ahead = place(scheme, columns, means, drawn[:0], told, 0.95)
    assert not ahead.any()
    assert [(s.place, s.total, s.low, s.high, s.p_first) for s in standings] == [
        (1, 1, None, None, None), (2, 2, None, None, None), (3, 3, None, None, None),
    ]  # fmt: skip


def test_who_lacks_a_column_is_unranked_and_told_why() -> None:
    columns, means = [UP, DOWN], np.array([[0.9, 1.0], [0.5, np.nan], [np.nan, np.nan]])
    scheme = resolve(Ranking("score", {"up": 1.0, "down": 1.0}), columns, means)
    standings, _ = place(scheme, columns, means, means[None][:0], np.zeros((3, 3), bool), 0.95)
    assert [standing.text for standing in standings] == ["1", "–", "–"]
    assert [standing.why for standing in standings] == ["", "no down", "no up, down"]


def test_entries_are_told_apart_where_one_column_finds_it_and_none_the_other_way() -> None:
    base = np.random.default_rng(2).normal(size=(1, 12))
    columns = [column("a", ""), column("b", "", higher_is_better=False), column("c", "")]
    wide, noise = 1 + 0.01 * base, 0.01 * np.array([1, -1] * 6)

    def found(*parts: np.ndarray, confidence: float = 0.95) -> list[list[bool]]:
        used = columns[: len(parts)]
        scheme = Scheme("x", tuple(range(len(parts))), "")
        values = np.stack([np.concatenate([base, base + part]) for part in parts])
        flipped = FlippedPairs(values, np.arange(12), draws=4096)
        return told_apart(scheme, used, values, flipped, confidence).tolist()

    nobody, second = [[False, False]] * 2, [[False, False], [True, False]]
    assert found(wide) == second
    assert found(noise) == nobody
    assert found(wide, -wide) == second
    assert found(wide, wide) == nobody  # less is better in b
    assert found(wide, noise) == second
    # Of all 2048 ways to flip 12 people only two are as far: p is 1 / 2048.
    assert found(wide, confidence=1 - 1 / 2048) == second
    assert found(wide, confidence=1 - 1 / 2049) == nobody


def test_columns_without_samples_are_drawn_around_their_means() -> None:
    means = np.array([[1.0, 5.0, 7.0], [2.0, 6.0, 8.0]])
    errors = np.array([[9.0, 0.5, np.nan], [9.0, 2.0, np.nan]])
    values = np.full((3, 2, 30), np.nan)
    values[0] = np.random.default_rng(0).normal(means[:, :1], 1.0, (2, 30))
    scheme = Scheme("x", (0, 1, 2), "")
    drawn = draw_means(scheme, values, np.arange(30), means, errors, draws=4000, seed=0)
    assert drawn.shape == (4000, 2, 3)
    np.testing.assert_allclose(drawn[..., 0].mean(axis=0), values[0].mean(axis=1), atol=0.02)
    np.testing.assert_allclose(
        drawn[..., 0].std(axis=0), values[0].std(axis=1) / 30**0.5, rtol=0.05
    )
    np.testing.assert_allclose(drawn[..., 1].mean(axis=0), [5, 6], atol=0.1)
    np.testing.assert_allclose(drawn[..., 1].std(axis=0), [0.5, 2], rtol=0.05)
    assert (drawn[..., 2] == means[:, 2]).all()
    fewer = draw_means(
        Scheme("x", (1,), ""), values, np.arange(30), means, errors, draws=10, seed=0
    )
    assert np.isnan(fewer[..., [0, 2]]).all()


def test_a_pair_that_is_constant_among_those_in_common_says_nothing() -> None:
    x = np.arange(8.0)
    half = np.where(x < 5, 1.0, x)  # constant where the other is there
    other = np.where(x < 5, x, np.nan)
    few = np.where(x < 4, x, np.nan)
    columns = [column(name, "") for name in "abcd"]
    means = np.stack([half, other, few, x], axis=1)
    assert [(a, b) for a, b, _ in redundant(means, columns)] == [(1, 3)]
    assert [(a, b) for a, b, _ in redundant(means[:, ::-1], columns)] == [(0, 2)]
