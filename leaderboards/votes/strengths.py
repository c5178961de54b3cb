"""The challenge's points, and Bradley-Terry strengths with intervals.

`bradley_terry` fits P(i beats j) = 1 / (1 + exp(s_j - s_i)) by maximum likelihood, a draw (or "both
bad") counting half for each (Bradley and Terry 1952). Intervals are clustered on samples and on
raters, so that neither draws nor many votes on one sample or by one person make them too narrow.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse.csgraph import connected_components

from leaderboards.errors import LeaderboardError
from leaderboards.votes.ballots import BOTH_BAD, one_question, outcome, read_votes


def vote_points(votes: str | Path | pd.DataFrame) -> pd.DataFrame:
    """Points of each entry, most first: 1 for a win, 0.5 for a draw, 0 for a loss (phase 2).

    Returns a frame indexed by entry with points, wins, draws, losses, votes, and both_bad: how many
    of the draws said that neither was good. Raises LeaderboardError for votes on several questions.

    >>> import pandas as pd
    >>> vote_points(pd.DataFrame({"sample": ["1", "2"], "left": ["a", "b"], "right": ["b", "a"],
    ...                           "winner": ["a", "draw"]}))["points"].to_dict()
    {'a': 1.5, 'b': 0.5}
    """
    votes = read_votes(votes)
    one_question(votes)
    left = outcome(votes)
    long = pd.DataFrame(
        {
            "entry": pd.concat([votes["left"], votes["right"]], ignore_index=True),
            "points": np.r_[left, 1 - left],
            "both_bad": np.tile(votes["winner"] == BOTH_BAD, 2),
        }
    )
    long = long.assign(
        wins=long["points"] == 1, draws=long["points"] == 0.5, losses=long["points"] == 0, votes=1
    )
    table = long.groupby("entry").sum()
    return table.sort_values(["points", "entry"], ascending=[False, True], kind="stable")


def bradley_terry(
    votes: str | Path | pd.DataFrame,
    *,
    confidence: float = 0.95,
    simultaneous: bool = False,
    prior: float = 0.0,
) -> pd.DataFrame:
    """Bradley-Terry strengths with intervals, strongest first.

    votes: a CSV or frame as in `read_votes`, on one question. confidence: of each interval, or,
    where `simultaneous`, of all intervals together. prior: how many imaginary draws every pair of
    entries starts with; 0 is plain maximum likelihood.

    Returns a frame indexed by entry: strength (log odds, mean 0 over entries), low, high, se,
    win_rate (chance of beating an average entry), votes; `attrs["notes"]` has sentences that its
    reader must know. The covariance is clustered two ways, on samples (on identities where they are
    named) and on raters (Cameron, Gelbach and Miller 2011), with Student's t over the fewer of the
    two. For raters, of whom there are few, it is the jackknife's, which does not fall short then.

    Raises LeaderboardError where the votes leave a strength unbounded: some entries have never lost
    (or won) against the others, or were never compared with them.
    """
    if not 0 < confidence < 1:
        raise LeaderboardError(f"confidence is {confidence}: give a number between 0 and 1.")
    if prior < 0:
        raise LeaderboardError(f"the prior is {prior}: give 0 or a positive number of draws.")
    votes = read_votes(votes)
    one_question(votes)
    names: list[str] = sorted({*votes["left"].tolist(), *votes["right"].tolist()})
    place = {name: i for i, name in enumerate(names)}
    left = votes["left"].map(place).to_numpy()
    right = votes["right"].map(place).to_numpy()
    gained = outcome(votes)
    strength, hessian = _fit(names, left, right, gained, prior)
    scores, information = _scores(strength, left, right, gained)
    covariance, freedom, notes = _two_way(votes, scores, information, left, right, hessian)
    se = np.sqrt(np.diag(covariance))
    factor = stats.t.ppf((1 + confidence) / 2, freedom)
    if simultaneous:
        factor = _simultaneous_factor(covariance, se, confidence, freedom)
    table = pd.DataFrame(
        {
            "strength": strength,
            "low": strength - factor * se,
            "high": strength + factor * se,
            "se": se,
            "win_rate": 1 / (1 + np.exp(-strength)),
            "votes": np.bincount(np.r_[left, right], minlength=len(names)),
        },
        index=pd.Index(names, name="entry"),
    ).sort_values("strength", ascending=False, kind="stable")
    table.attrs["notes"] = [*votes.attrs.get("notes", []), *notes]
    return table


def _fit(
    names: list[str], left: np.ndarray, right: np.ndarray, gained: np.ndarray, prior: float
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood strengths [E] with mean 0, and the negative Hessian there [E, E]."""
    e = len(names)
    wins = np.full((e, e), prior / 2)  # wins[i, j]: what i got against j
    np.fill_diagonal(wins, 0.0)
    np.add.at(wins, (left, right), gained)
    np.add.at(wins, (right, left), 1 - gained)
    parts, part = connected_components(wins > 0, directed=True, connection="strong")
    if parts > 1:
        groups = [[n for n, p in zip(names, part) if p == k] for k in range(parts)]
        smallest = ", ".join(sorted(groups, key=lambda group: (len(group), group))[0])
        raise LeaderboardError(
            f"{smallest} won or lost every comparison with the others (or had none), so no finite "
            "strength fits: collect more votes, or pass a prior such as 0.5 draws per pair."
        )
    strength = np.zeros(e)
    games = wins + wins.T
    for _ in range(100):  # Newton's method; the likelihood is concave in the differences
        chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
        gradient = (wins - games * chance).sum(axis=1)
        curvature = games * chance * (1 - chance)
        hessian = np.diag(curvature.sum(axis=1)) - curvature
        step = _inverse(hessian) @ gradient
        strength += step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-10:
            return strength - strength.mean(), hessian
    raise LeaderboardError(
        "the strengths did not converge: pass a prior such as 0.5 draws per pair."
    )


def _inverse(hessian: np.ndarray) -> np.ndarray:
    """The inverse on differences of strengths, which is all that votes tell.

    The eigenvalue of what they don't tell is 0 but for rounding, which at NumPy's own limit of
    1e-15 may be taken for information.
    """
    inverse: np.ndarray = np.linalg.pinv(hessian, rcond=1e-12, hermitian=True)
    return inverse


def _scores(
    strength: np.ndarray, left: np.ndarray, right: np.ndarray, gained: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each vote's share of the likelihood's gradient [V, E], and its weight in the Hessian [V]."""
    chance = 1 / (1 + np.exp(strength[right] - strength[left]))
    scores = np.zeros((len(left), len(strength)))
    at = np.arange(len(left))
    scores[at, left] = gained - chance
    scores[at, right] = chance - gained
    return scores, chance * (1 - chance)


def _two_way(
    votes: pd.DataFrame,
    scores: np.ndarray,
    information: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    hessian: np.ndarray,
) -> tuple[np.ndarray, int, list[str]]:
    """Covariance of the strengths [E, E], degrees of freedom, and notes; see `_scores`."""
    bread = _inverse(hessian)
    named = "identity" if "identity" in votes and votes["identity"].ne("").all() else "sample"
    sample, samples = pd.factorize(votes[named])
    if len(samples) < 2:
        raise LeaderboardError(f"all votes are on one {named}, so no interval can be given.")
    by_sample = _clustered(scores, sample, bread)
    if "rater" not in votes or votes["rater"].eq("").any():
        return by_sample, len(samples) - 1, [
            "The votes do not all name a rater, so the intervals take no account of how raters "
            "differ."
        ]  # fmt: skip
    rater, raters = pd.factorize(votes["rater"])
    if len(raters) < 2:
        return by_sample, len(samples) - 1, [
            f"All votes are by {raters[0]}, so the intervals say nothing about other raters."
        ]  # fmt: skip
    by_rater, alone = _jackknifed(scores, information, left, right, rater, hessian)
    cell, _ = pd.factorize(sample * len(raters) + rater)
    both = by_sample + by_rater - _clustered(scores, cell, bread)
    # The difference may fall below either part, even below 0 (Cameron et al., section 2.3).
    values, vectors = np.linalg.eigh(both)
    both = (vectors * np.maximum(values, 0)) @ vectors.T
    least = np.maximum(np.diag(by_sample), np.diag(by_rater))
    grow = np.sqrt(np.maximum(least / np.maximum(np.diag(both), 1e-300), 1.0))
    notes = [
        f"Without {raters[one]}'s votes some entries would not be compared with the others; their "
        "intervals rest on that rater."
        for one in alone
    ]
    return both * np.outer(grow, grow), min(len(samples), len(raters)) - 1, notes


def _clustered(scores: np.ndarray, cluster: np.ndarray, bread: np.ndarray) -> np.ndarray:
    """Sandwich covariance, gradients summed within clusters, times G / (G - 1)."""
    g = int(cluster.max()) + 1
    meat = np.zeros((g, scores.shape[1]))
    np.add.at(meat, cluster, scores)
    return bread @ (meat.T @ meat * g / max(g - 1, 1)) @ bread


def _jackknifed(
    scores: np.ndarray,
    information: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    cluster: np.ndarray,
    hessian: np.ndarray,
) -> tuple[np.ndarray, list[int]]:
    """Covariance by leaving out a cluster at a time, one Newton step each (Bell and McCaffrey's
    CR3), and the clusters that cannot be left out, which move the strengths by the plain step."""
    g, e = int(cluster.max()) + 1, scores.shape[1]
    moved = np.zeros((g, e))
    alone = []
    for one in range(g):
        mine = cluster == one
        own = np.zeros((e, e))
        weight = information[mine]
        i, j = left[mine], right[mine]
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            np.add.at(own, (a, b), sign * weight)
        rest = hessian - own
        if np.linalg.matrix_rank(rest, tol=1e-9 * max(hessian.max(), 1e-300), hermitian=True) < (
            e - 1
        ):
            alone.append(one)
            rest = hessian
        moved[one] = _inverse(rest) @ scores[mine].sum(axis=0)
    return moved.T @ moved * (g - 1) / g, alone


def _simultaneous_factor(
    covariance: np.ndarray, se: np.ndarray, confidence: float, freedom: int
) -> float:
    """How many standard errors cover all strengths at once: quantile of the largest |t| of them."""
    rng = np.random.default_rng(0)
    correlation = covariance / np.outer(se, se)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    normal = rng.standard_normal((20_000, len(se))) @ root.T
    scale = np.sqrt(rng.chisquare(freedom, size=20_000) / freedom)
    return float(np.quantile(np.abs(normal).max(axis=1) / scale, confidence))


def rater_spread(votes: str | Path | pd.DataFrame) -> float:
    """How far raters' own strengths of an entry lie apart: a standard deviation in log odds.

    By moments: what the jackknife over raters finds beyond the noise of single votes, averaged
    over entries; 0 where it finds no more. What `plan_votes` calls spread.

    Raises LeaderboardError with fewer than two raters.
    """
    votes = read_votes(votes)
    one_question(votes)
    if "rater" not in votes or votes["rater"].nunique() < 2:
        raise LeaderboardError("raters' spread shows only with votes by two raters or more.")
    names: list[str] = sorted({*votes["left"].tolist(), *votes["right"].tolist()})
    place = {name: i for i, name in enumerate(names)}
    left, right = (votes[side].map(place).to_numpy() for side in ("left", "right"))
    gained = outcome(votes)
    strength, hessian = _fit(names, left, right, gained, 0.5)
    scores, information = _scores(strength, left, right, gained)
    rater, raters = pd.factorize(votes["rater"])
    by_rater, _ = _jackknifed(scores, information, left, right, rater, hessian)
    noise = _clustered(scores, np.arange(len(votes)), _inverse(hessian))
    beyond = float(np.diag(by_rater - noise).mean()) / (1 - 1 / len(names))
    return math.sqrt(max(beyond, 0.0) * len(raters))
