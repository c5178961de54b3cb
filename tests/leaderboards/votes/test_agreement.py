from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from leaderboards import LeaderboardError
from leaderboards.votes import agreement, krippendorff_alpha, left_share


def test_krippendorff_published_example() -> None:
    # Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C.
    x = math.nan
    ratings = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, x, x, x],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, x, 3],
            [x, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, x],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, x],
        ]
    )
    assert krippendorff_alpha(ratings) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(ratings, "interval") == pytest.approx(0.849, abs=5e-4)


def test_krippendorff_edges() -> None:
    assert krippendorff_alpha(np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])) == 1.0
    assert math.isnan(krippendorff_alpha(np.array([[1.0, math.nan], [math.nan, 0.0]])))
    assert krippendorff_alpha(np.array([[0.0, 1.0], [1.0, 0.0]])) < 0


def test_the_left_side() -> None:
    rows = [("1", "a", "b", "a")] * 30 + [("1", "a", "b", "b")] * 10 + [("1", "a", "b", "draw")] * 9
    frame = pd.DataFrame(rows, columns=["sample", "left", "right", "winner"])
    share, low, high = left_share(frame)
    assert share == 0.75
    # Wilson's interval for 30 of 40, as R's prop.test(30, 40, correct = FALSE) prints it.
    assert all(map(math.isnan, left_share(frame[frame["winner"] == "draw"])))
    assert (low, high) == (pytest.approx(0.5981, abs=1e-4), pytest.approx(0.8581, abs=1e-4))


def test_pairs_of_two_seeds_are_two_units() -> None:
    rows = [("1", "0", "a", "b", "a", "x"), ("1", "1", "a", "b", "b", "y")]
    frame = pd.DataFrame(rows, columns=["sample", "seed", "left", "right", "winner", "rater"])
    assert math.isnan(agreement(frame))


def test_votes_are_for_a_pair_whichever_side_and_the_last_one_counts() -> None:
    rows = [
        ("1", "a", "b", "a", "x"), ("1", "b", "a", "a", "y"), ("1", "a", "b", "draw", "z"),
        ("2", "a", "b", "a", "x"), ("2", "b", "a", "b", "y"), ("2", "b", "a", "draw", "z"),
        ("1", "c", "a", "c", "x"), ("1", "c", "a", "a", "y"),
        ("2", "b", "a", "a", "y"),  # thought better of it
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["sample", "left", "right", "winner", "rater"])
    x = math.nan
    gained = np.array([[1, 1, 0], [1, 1, 1], [0.5, 0.5, x]])  # for the name that sorts first
    for level in ("interval", "nominal"):
        expected = krippendorff_alpha(gained, level)
        assert agreement(frame, level) == pytest.approx(expected)
    assert agreement(frame) == pytest.approx(krippendorff_alpha(gained, "interval"))
    assert agreement(frame, "nominal") != pytest.approx(agreement(frame))
    for nameless in (frame.drop(columns="rater"), frame.assign(rater=["", *"abcdefgh"])):
        with pytest.raises(LeaderboardError, match="do not all name a rater"):
            agreement(nameless)


def test_ratings_may_be_lists_and_a_unit_needs_two() -> None:
    assert krippendorff_alpha([[1, 0, 3], [1, 0, math.nan]]) == 1.0  # type: ignore[arg-type]
    assert krippendorff_alpha(np.array([[2.0, math.nan], [2.0, 3.0]])) == 1.0  # all alike
