"""How many votes, by how many raters, an interval of a wanted width takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from leaderboards.errors import LeaderboardError

#: How far raters' own strengths of an entry lie apart (standard deviation in log odds), where no
#: votes tell: such that one in three finds a strength of 0.3 where others find 0.
RATER_SPREAD = 0.3


@dataclass(frozen=True)
class VotePlan:
    """What one number of raters has to do.

    votes: in all, on one question; None where no number of votes by so few raters is enough.
    per_rater: each one's share. hours: how long that takes each of them, over all questions.
    repeats: whether that is more than one vote on each pair of videos by each rater.
    """

    raters: int
    votes: int | None
    per_rater: int | None
    hours: float | None
    repeats: bool = False


def plan_votes(
    entries: int,
    width: float,
    *,
    raters: Sequence[int] = (3, 5, 10, 20, 40),
    spread: float = RATER_SPREAD,
    draws: float = 0.0,
    samples: int | None = None,
    questions: int = 1,
    seconds: float = 15.0,
    confidence: float = 0.95,
) -> list[VotePlan]:
    """Votes after which each entry's interval of its winning chance is `width` wide.

    entries: how many are compared, every pair equally often. width: of the interval of the chance
    to beat an average entry, between entries that are about equal (0.1 is 0.45 to 0.55). raters:
    numbers to plan for. spread: how far raters' strengths lie apart, a standard deviation in log
    odds (`rater_spread` estimates it from votes). draws: the share of draws that is expected.
    samples: how many samples there are. questions: asked about each pair. seconds: one vote takes.

    With n votes per pair of entries and R raters a strength's variance is
    (1 - 1/E) (4 (1 - draws) / (n E) + spread^2 / R), and the interval Student's t with R - 1
    degrees of freedom, as in `bradley_terry`.

    Raises LeaderboardError for numbers that make no plan.
    """
    if entries < 2 or not 0 < width < 1 or spread < 0 or not 0 <= draws < 1:
        raise LeaderboardError(
            f"there is no plan for {entries} entries, an interval of width {width}, raters' spread "
            f"{spread} and {draws} draws: at least two entries, a width and a share in 0..1."
        )
    pairs = entries * (entries - 1) // 2
    plans = []
    for count in sorted(set(raters)):
        if count < 2:
            raise LeaderboardError("one rater says nothing about others: plan for at least two.")
        half = width / 2 / 0.25  # the logistic curve rises by 1/4 at one half
        t = stats.t.ppf((1 + confidence) / 2, count - 1)
        left = (half / t) ** 2 / (1 - 1 / entries) - spread**2 / count
        if left <= 0:
            plans.append(VotePlan(count, None, None, None))
            continue
        per_pair = 4 * (1 - draws) / (entries * left)
        each = math.ceil(per_pair * pairs / count)
        plans.append(
            VotePlan(
                count,
                each * count,
                each,
                each * questions * seconds / 3600,
                samples is not None and each > samples * pairs,
            )
        )
    return plans
