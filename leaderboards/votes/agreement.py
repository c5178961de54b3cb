"""How far raters agree, and whether they favour a side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import krippendorff
import numpy as np
import pandas as pd

from leaderboards.errors import LeaderboardError
from leaderboards.votes.ballots import one_question, outcome, read_votes


def krippendorff_alpha(
    ratings: np.ndarray, level: Literal["nominal", "interval"] = "nominal"
) -> float:
    """Krippendorff's alpha: 1 is perfect agreement between raters, 0 what chance gives.

    ratings: float [raters, units], NaN where a rater did not see a unit; units with fewer than two
    ratings say nothing. level: the distance between two ratings, 0/1 for "nominal", squared for
    "interval". Krippendorff, Content Analysis (2004), chapter 11. NaN where no unit has two
    ratings; 1.0 where all ratings are alike, as nothing ever disagreed.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    ratings = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    if not ratings.size:
        return math.nan
    if len(np.unique(ratings[~np.isnan(ratings)])) == 1:
        return 1.0
    return float(krippendorff.alpha(reliability_data=ratings, level_of_measurement=level))


def agreement(
    votes: str | Path | pd.DataFrame, level: Literal["nominal", "interval"] = "interval"
) -> float:
    """Krippendorff's alpha between raters, over pairs of entries on a sample and seed.

    A vote is 1, 0.5 or 0 for the entry whose name sorts first, whichever side it was on; a rater's
    second vote on the same pair replaces the first. level "interval" lets a draw lie between the
    two; "nominal" treats the three as unrelated. NaN where no two raters judged the same pair.

    Raises LeaderboardError where the votes do not name their rater, or answer several questions.
    """
    votes = read_votes(votes)
    one_question(votes)
    if "rater" not in votes or votes["rater"].eq("").any():
        raise LeaderboardError("the votes do not all name a rater: add a column 'rater'.")
    first = votes["left"] < votes["right"]
    gained = outcome(votes)
    seed = votes.get("seed", "")
    a, b = votes["left"].where(first, votes["right"]), votes["right"].where(first, votes["left"])
    long = pd.DataFrame(
        {
            "unit": votes["sample"] + "\0" + seed + "\0" + a + "\0" + b,
            "rater": votes["rater"],
            "value": np.where(first, gained, 1 - gained),
        }
    ).drop_duplicates(["unit", "rater"], keep="last")
    table = long.pivot(index="rater", columns="unit", values="value")
    return krippendorff_alpha(table.to_numpy(float), level)


def left_share(votes: str | Path | pd.DataFrame) -> tuple[float, float, float]:
    """Share of decided votes that went to the left side, with its 95 % Wilson interval.

    Sides are balanced, so raters who do not favour one give about one half; NaN without a decided
    vote. Wilson, JASA 22 (1927).
    """
    gained = outcome(read_votes(votes))
    decided = gained[gained != 0.5]
    n = len(decided)
    if not n:
        return math.nan, math.nan, math.nan
    share, z = float(decided.mean()), 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, centre - half, centre + half
