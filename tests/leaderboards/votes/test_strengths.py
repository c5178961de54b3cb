from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leaderboards import LeaderboardError, agreement, bradley_terry, read_votes, vote_points
from leaderboards.votes import rater_spread


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


def _rated(seed: int, raters: int = 4, count: int = 120) -> pd.DataFrame:
    """Votes on three entries by some raters, each with a leaning of its own."""
    rng = np.random.default_rng(seed)
    truth = {"a": 0.6, "b": 0.0, "c": -0.5}
    leaning = rng.normal(0, 0.5, (raters, 3))
    rows = []
    for k in range(count):
        left, right = rng.permutation(list(truth))[:2]
        rater = k % raters
        gap = truth[left] - truth[right] + leaning[rater, "abc".index(left)]
        won = rng.random() < 1 / (1 + math.exp(-gap))
        winner = "draw" if rng.random() < 0.1 else left if won else right
        rows.append((f"s{k % 10}", left, right, winner, f"r{rater}", f"id{k % 5}"))
    columns = ["sample", "left", "right", "winner", "rater", "identity"]
    return pd.DataFrame(rows, columns=columns)


def _by_hand(frame: pd.DataFrame, prior: float = 0.0) -> dict[str, np.ndarray]:
    """The strengths and each part of their covariance from the formulas, with a design matrix."""
    names = sorted({*frame["left"], *frame["right"]})
    x = np.zeros((len(frame), len(names)))
    for v, (left, right) in enumerate(zip(frame["left"], frame["right"])):
        x[v, names.index(left)], x[v, names.index(right)] = 1, -1
    even = frame["winner"].isin(["draw", "both bad"])
    y = np.where(even, 0.5, frame["winner"] == frame["left"])
    one = np.eye(len(names))
    contrasts = np.array([a - b for a, b in itertools.combinations(one, 2)])
    ones = np.full((len(names), len(names)), 1 / len(names))

    def inverse(matrix: np.ndarray) -> np.ndarray:
        """On what sums to 0; where all are alike the matrix is 0."""
        return np.linalg.inv(matrix + ones) - ones

    s = np.zeros(len(names))
    for _ in range(60):
        p, q = (1 / (1 + np.exp(-d @ s)) for d in (x, contrasts))
        hessian = x.T @ (x * (p * (1 - p))[:, None])
        hessian += prior * contrasts.T @ (contrasts * (q * (1 - q))[:, None])
        s = s + inverse(hessian) @ (x.T @ (y - p) + prior * contrasts.T @ (0.5 - q))
    scores, weights, bread = x * (y - p)[:, None], p * (1 - p), inverse(hessian)

    def clustered(labels: Sequence[object]) -> np.ndarray:
        sums = [scores[[m == one for m in labels]].sum(axis=0) for one in sorted(set(labels))]
        return bread @ sum(np.outer(g, g) for g in sums) @ bread * len(sums) / (len(sums) - 1)

    moved = []
    raters = frame["rater"].tolist() if "rater" in frame else []
    for one in sorted(set(raters)):
        mine = np.array([rater == one for rater in raters])
        rest = hessian - x[mine].T @ (x[mine] * weights[mine, None])
        moved.append(inverse(rest) @ scores[mine].sum(axis=0))
    by_rater = sum(np.outer(m, m) for m in moved) * (len(moved) - 1) / max(len(moved), 1)
    return {
        "strength": s - s.mean(), "rater": by_rater, "votes": clustered(range(len(frame))),
        "sample": clustered(frame["sample"].tolist()),
        "identity": clustered(frame["identity"].tolist()) if "identity" in frame else bread,
        "cell": clustered(list(zip(frame.get("identity", raters), raters))) if raters else bread,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prior", [0.0, 2.0])
def test_the_two_way_covariance_by_its_formula(seed: int, prior: float) -> None:
    frame = _rated(seed)
    hand = _by_hand(frame, prior)
    both = hand["identity"] + hand["rater"] - hand["cell"]
    values, vectors = np.linalg.eigh(both)
    both = vectors @ np.diag(np.maximum(values, 0)) @ vectors.T
    least = np.maximum(np.diag(hand["identity"]), np.diag(hand["rater"]))
    variance = np.maximum(np.diag(both), least)
    for confidence in (0.9, 0.95):
        table = bradley_terry(frame, prior=prior, confidence=confidence).loc[["a", "b", "c"]]
        assert table["strength"].to_numpy() == pytest.approx(hand["strength"], abs=1e-8)
        assert table["se"].to_numpy() == pytest.approx(np.sqrt(variance), rel=1e-6)
        # Student's t with one degree less than the fewer of 5 identities and 4 raters.
        half = stats.t.ppf((1 + confidence) / 2, 3) * table["se"]
        assert (table["strength"] - half).to_numpy() == pytest.approx(table["low"].to_numpy())
        assert (table["strength"] + half).to_numpy() == pytest.approx(table["high"].to_numpy())
    chance = 1 / (1 + np.exp(-table["strength"]))
    assert table["win_rate"].to_numpy() == pytest.approx(chance.to_numpy())
    shown = [int((frame["left"] == n).sum() + (frame["right"] == n).sum()) for n in "abc"]
    assert table["votes"].tolist() == shown
    assert bradley_terry(frame, prior=prior).attrs["notes"] == []


def test_without_raters_the_samples_alone_are_the_clusters() -> None:
    frame = _rated(1).drop(columns=["rater", "identity"])
    hand = _by_hand(frame)
    table = bradley_terry(frame).loc[["a", "b", "c"]]
    assert table["se"].to_numpy() == pytest.approx(np.sqrt(np.diag(hand["sample"])), rel=1e-6)
    half = stats.t.ppf(0.975, 9) * table["se"]  # ten samples
    assert (table["high"] - table["strength"]).to_numpy() == pytest.approx(half.to_numpy())
    one = bradley_terry(_rated(1).drop(columns="identity").assign(rater="ann"))
    pd.testing.assert_frame_equal(one, bradley_terry(frame))
    some = _rated(1).drop(columns="identity")
    some.loc[3, "rater"] = ""  # one vote is nobody's
    found = bradley_terry(some)
    assert found.loc[["a", "b", "c"], "se"].to_numpy() == pytest.approx(table["se"].to_numpy())
    assert "do not all name a rater" in found.attrs["notes"][0]
    named = _rated(1).drop(columns="rater")
    named.loc[0, "identity"] = ""  # not all are named: samples again
    assert bradley_terry(named)["se"].sort_index().to_numpy() == pytest.approx(
        table["se"].sort_index().to_numpy()
    )


def test_two_entries_vary_as_one_so_both_intervals_are_the_single_one() -> None:
    frame = _rated(2)
    frame = frame[~(frame[["left", "right"]] == "c").any(axis=1)].reset_index(drop=True)
    one, both = (bradley_terry(frame, simultaneous=s) for s in (False, True))
    widths = [(table["high"] - table["low"]).mean() for table in (one, both)]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    three = _rated(2)
    factor = {}
    for confidence in (0.8, 0.95):
        table = bradley_terry(three, simultaneous=True, confidence=confidence)
        ratio = (table["high"] - table["strength"]) / table["se"]
        assert ratio.max() == pytest.approx(ratio.min())
        factor[confidence] = ratio.max()
        alone = stats.t.ppf((1 + confidence) / 2, 3)
        bonferroni = stats.t.ppf(1 - (1 - confidence) / 6, 3)
        assert alone < ratio.max() < bonferroni * 1.02
    assert factor[0.8] < factor[0.95]


@pytest.mark.parametrize("seed", range(3))
def test_raters_spread_by_its_moments(seed: int) -> None:
    frame = _rated(seed, raters=5, count=200)
    hand = _by_hand(frame, prior=0.5)
    beyond = np.diag(hand["rater"] - hand["votes"]).mean() / (1 - 1 / 3)
    assert rater_spread(frame) == pytest.approx(math.sqrt(max(beyond, 0) * 5), rel=1e-6, abs=1e-9)
    for none in (frame.drop(columns="rater"), frame.assign(rater="ann")):
        with pytest.raises(LeaderboardError, match="two raters or more"):
            rater_spread(none)


def test_points_wins_draws_and_losses_by_hand() -> None:
    rows = votes(
        ("1", "a", "b", "a"), ("2", "b", "a", "a"), ("3", "a", "c", "draw"),
        ("4", "c", "b", "both bad"), ("5", "b", "c", "c"),
    )  # fmt: skip
    table = vote_points(rows)
    assert table.index.tolist() == ["a", "c", "b"]
    columns = ["points", "wins", "draws", "losses", "votes", "both_bad"]
    assert table.loc["a", columns].tolist() == [2.5, 2, 1, 0, 3, 0]
    assert table.loc["b", columns].tolist() == [0.5, 0, 1, 3, 4, 1]
    assert table.loc["c", columns].tolist() == [2.0, 1, 2, 0, 3, 1]
    even = vote_points(votes(("1", "b", "a", "a"), ("2", "b", "a", "b")))
    assert even.index.tolist() == ["a", "b"]  # equal points stand by name
    assert bradley_terry(votes(("1", "b", "a", "a"), ("2", "b", "a", "b"))).index.tolist() == [
        "a",
        "b",
    ]


def test_what_bradley_terry_refuses() -> None:
    frame = published_votes()
    for confidence in (0, 1, -0.5, 1.5):
        with pytest.raises(LeaderboardError, match=f"confidence is {confidence}"):
            bradley_terry(frame, confidence=confidence)
    with pytest.raises(LeaderboardError, match="the prior is -1"):
        bradley_terry(frame, prior=-1)
    with pytest.raises(LeaderboardError, match="all votes are on one sample"):
        bradley_terry(frame.assign(sample="1"))
    with pytest.raises(LeaderboardError, match="all votes are on one identity"):
        bradley_terry(frame.assign(identity="ann"))
    apart = votes(
        ("1", "a", "b", "a"), ("2", "a", "b", "b"), ("3", "c", "a", "c"), ("4", "d", "c", "d"),
    )  # fmt: skip
    with pytest.raises(LeaderboardError, match="c won or lost every comparison"):
        bradley_terry(apart)


def test_strengths_far_apart_converge() -> None:
    """The first Newton steps from 0 would overshoot; each is held to 2."""
    frame = votes(*((str(k), "a", "b", "b" if k == 0 else "a") for k in range(5000)))
    table = bradley_terry(frame)
    assert table.loc["a", "strength"] == pytest.approx(math.log(4999) / 2, rel=1e-6)
