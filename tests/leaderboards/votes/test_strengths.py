from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboards import LeaderboardError, agreement, bradley_terry, read_votes, vote_points


def votes(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["sample", "left", "right", "winner"])


def published_votes() -> pd.DataFrame:
    """3,000 votes (1,000 samples x 3 pairs) whose points are the 2025 user study's."""
    rows = []
    # wins, draws of the first against the second, on 1,000 samples each
    plan = {
        ("ghl", "XuanYuan"): (528, 70),
        ("ghl", "Wislab"): (660, 70),
        ("XuanYuan", "Wislab"): (674, 73),
    }
    for (a, b), (wins, draws) in plan.items():
        for k in range(1000):
            winner = a if k < wins else "draw" if k < wins + draws else b
            rows.append((str(k), *((a, b) if k % 2 else (b, a)), winner))
    return votes(*rows)


def test_published_points_give_the_published_order() -> None:
    table = vote_points(published_votes())
    assert table["points"].to_dict() == {"ghl": 1258.0, "XuanYuan": 1147.5, "Wislab": 594.5}
    assert list(bradley_terry(published_votes()).index) == ["ghl", "XuanYuan", "Wislab"]


def test_two_entries_by_hand() -> None:
    rows = [(str(k), "a", "b", "a") for k in range(30)] + [
        (str(k), "b", "a", "b") for k in range(30, 40)
    ]
    table = bradley_terry(votes(*rows))
    # Two strengths s and -s with P = 3/4: 2 s = log 3; its variance is that of a logit, /4.
    assert table.loc["a", "strength"] == pytest.approx(math.log(3) / 2)
    expected = math.sqrt(1 / (40 * 0.75 * 0.25)) / 2 * math.sqrt(40 / 39)
    assert table.loc["a", "se"] == pytest.approx(expected, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_strengths_solve_the_likelihood_equations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        (str(k), a, b, str(rng.choice([a, b, "draw"])))
        for k in range(12)
        for a, b in itertools.combinations("abcd", 2)
    ]
    frame = votes(*rows)
    try:
        strength = bradley_terry(frame)["strength"]
    except LeaderboardError:
        return  # a lot in which somebody never won
    points = vote_points(frame)["points"]
    for name in "abcd":  # what an entry got is what the model expects it to get
        expected = sum(
            12 / (1 + math.exp(strength[other] - strength[name]))
            for other in "abcd"
            if other != name
        )
        assert points[name] == pytest.approx(expected, abs=1e-6)
    assert strength.sum() == pytest.approx(0, abs=1e-9)


def test_sides_do_not_matter() -> None:
    frame = published_votes()
    turned = frame.rename(columns={"left": "right", "right": "left"})
    pd.testing.assert_frame_equal(bradley_terry(frame), bradley_terry(turned))


def test_planted_strengths_lie_in_the_intervals() -> None:
    from benchmarks.validity import bradley_terry_coverage

    single, together = bradley_terry_coverage(20, np.array([0.0, 0.5, 1.2]), 40, 0.2)
    assert single >= 0.85
    assert together >= 0.8


def test_simultaneous_intervals_are_wider() -> None:
    one = bradley_terry(published_votes())
    all_ = bradley_terry(published_votes(), simultaneous=True)
    assert (all_["high"] > one["high"]).all()


def test_an_entry_that_never_lost_needs_a_prior() -> None:
    frame = votes(*((str(k), "a", "b", "a") for k in range(5)))
    with pytest.raises(LeaderboardError, match="no finite strength fits"):
        bradley_terry(frame)
    table = bradley_terry(frame, prior=1.0)
    assert table.index[0] == "a"
    assert np.isfinite(table["strength"]).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("1", "a", "a", "a"), "same entry"),
        (("1", "a", "b", "c"), "line 3: the winner is neither"),
        (("", "a", "b", "a"), "line 3: a field is empty"),
        (("1", "draw", "b", "b"), "called 'draw'"),
    ],
)
def test_broken_votes(row: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        read_votes(votes(("1", "a", "b", "a"), row))


def test_missing_columns_and_no_votes() -> None:
    with pytest.raises(LeaderboardError, match="no column winner"):
        read_votes(pd.DataFrame({"sample": [], "left": [], "right": []}))
    with pytest.raises(LeaderboardError, match="no votes yet"):
        read_votes(votes())


def test_agreement() -> None:
    frame = votes(
        ("1", "a", "b", "a"), ("1", "b", "a", "a"),  # sides swapped, same opinion
        ("2", "a", "b", "b"), ("2", "a", "b", "b"),
        ("3", "a", "b", "draw"), ("3", "a", "b", "draw"),
    ).assign(rater=["x", "y"] * 3)  # fmt: skip
    assert agreement(frame) == 1.0
    frame.loc[5, "winner"] = "a"
    assert 0 < agreement(frame) < 1
    # A draw beside a win is half a disagreement, not a whole one.
    assert agreement(frame) > agreement(frame, "nominal")
    with pytest.raises(LeaderboardError, match="name a rater"):
        agreement(frame.drop(columns="rater"))


def test_the_prior_is_so_many_draws_per_pair() -> None:
    """Ten wins of ten and p draws: (10 + p/2) against p/2."""
    frame = votes(*((str(k), "a", "b", "a") for k in range(10)))
    for prior in (0.5, 1.0, 3.0):
        table = bradley_terry(frame, prior=prior)
        gap = table.loc["a", "strength"] - table.loc["b", "strength"]
        assert gap == pytest.approx(math.log((10 + prior / 2) / (prior / 2)), abs=1e-6)


def test_votes_by_raters_who_differ() -> None:
    """600 votes by 5 raters: clustered on samples alone, every second interval missed."""
    from benchmarks.validity import rater_coverage

    both, samples_only = rater_coverage(40, raters=5, spread=0.8, votes=600)
    assert both >= 0.9
    assert samples_only < 0.65


def test_one_rater_and_nameless_raters_are_said() -> None:
    frame = published_votes()
    assert "do not all name a rater" in bradley_terry(frame).attrs["notes"][0]
    one = bradley_terry(frame.assign(rater="ann"))
    assert "nothing about other raters" in one.attrs["notes"][0]
    pd.testing.assert_frame_equal(one, bradley_terry(frame))


def test_an_entry_that_one_rater_alone_compared_is_said() -> None:
    rng = np.random.default_rng(0)
    rows = [(str(k), "a", "b", str(rng.choice(["a", "b"])), f"r{k % 3}") for k in range(60)]
    rows += [(str(k), "a", "c", str(rng.choice(["a", "c"])), "r0") for k in range(30)]
    frame = pd.DataFrame(rows, columns=["sample", "left", "right", "winner", "rater"])
    table = bradley_terry(frame)
    assert "Without r0's votes" in table.attrs["notes"][0]
    assert np.isfinite(table["se"]).all()


def test_identities_are_the_clusters_where_they_are_named() -> None:
    frame = published_votes()
    people = frame.assign(identity=[str(int(s) // 5) for s in frame["sample"]])
    assert not np.allclose(bradley_terry(people)["se"], bradley_terry(frame)["se"])
