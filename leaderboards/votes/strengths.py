"""People's votes on pairs of videos: the challenge's points, Bradley-Terry strengths, agreement.

A vote names a sample, the entry shown on the left, the one on the right, and the winner (an entry's
name, or "draw"). `bradley_terry` fits P(i beats j) = 1 / (1 + exp(s_j - s_i)) by maximum
likelihood, a draw counting half for each (Bradley and Terry 1952), with intervals from the
sandwich covariance, so that neither draws nor several votes on one sample make them too narrow or
too wide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse.csgraph import connected_components

from leaderboards.errors import LeaderboardError
from leaderboards.statistics import krippendorff_alpha

DRAW = "draw"
COLUMNS = ("sample", "left", "right", "winner")


def read_votes(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    """Read and check votes: columns sample, left, right, winner, and where given rater and time.

    Raises LeaderboardError naming the line of the first broken vote.
    """
    if isinstance(source, pd.DataFrame):
        votes, name = source.copy(), "votes"
    else:
        path, name = Path(source), str(source)
        if not path.is_file():
            raise LeaderboardError(f"{path} does not exist: give a CSV of votes.")
        votes = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [column for column in COLUMNS if column not in votes.columns]
    if missing:
        raise LeaderboardError(
            f"{name} has no column {', '.join(missing)}: votes have sample, left, right and winner."
        )
    for column in (*COLUMNS, *(["rater"] if "rater" in votes else [])):
        votes[column] = votes[column].astype(str).str.strip()
    for broken, why in (
        ((votes[list(COLUMNS)] == "").any(axis=1), "a field is empty"),
        (votes["left"] == votes["right"], "left and right are the same entry"),
        (
            ~(votes["winner"].isin([DRAW]) | votes["winner"].eq(votes["left"])
              | votes["winner"].eq(votes["right"])),
            "the winner is neither of the two nor 'draw'",
        ),
        (votes["left"].eq(DRAW) | votes["right"].eq(DRAW), "no entry can be called 'draw'"),
    ):  # fmt: skip
        if broken.any():
            line = int(np.flatnonzero(broken)[0]) + 2
            raise LeaderboardError(f"{name}, line {line}: {why}; mend or remove that vote.")
    if votes.empty:
        raise LeaderboardError(f"{name} has no votes yet: collect some with `leaderboard vote`.")
    return votes.reset_index(drop=True)


def _outcome(votes: pd.DataFrame) -> np.ndarray:
    """What left got: 1 for a win, 0.5 for a draw, 0 for a loss. float [V]."""
    return np.where(votes["winner"] == DRAW, 0.5, (votes["winner"] == votes["left"]).astype(float))


def vote_points(votes: str | Path | pd.DataFrame) -> pd.DataFrame:
    """Points of each entry, most first: 1 for a win, 0.5 for a draw, 0 for a loss (phase 2).

    Returns a frame indexed by entry with points, wins, draws, losses and votes.

    >>> import pandas as pd
    >>> vote_points(pd.DataFrame({"sample": ["1", "2"], "left": ["a", "b"], "right": ["b", "a"],
    ...                           "winner": ["a", "draw"]}))["points"].to_dict()
    {'a': 1.5, 'b': 0.5}
    """
    votes = read_votes(votes)
    left = _outcome(votes)
    long = pd.DataFrame(
        {
            "entry": pd.concat([votes["left"], votes["right"]], ignore_index=True),
            "points": np.r_[left, 1 - left],
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

    votes: a CSV or frame as in `read_votes`. confidence: of each interval, or, where
    `simultaneous`, of all intervals together. prior: how many imaginary draws every pair of
    entries starts with; 0 is plain maximum likelihood.

    Returns a frame indexed by entry: strength (log odds, mean 0 over entries), low, high, se,
    win_rate (chance of beating an average entry), votes. The covariance is the sandwich one, votes
    on one sample taken together, with Student's t over samples.

    Raises LeaderboardError where the votes leave a strength unbounded: some entries have never lost
    (or won) against the others, or were never compared with them.
    """
    if not 0 < confidence < 1:
        raise LeaderboardError(f"confidence is {confidence}: give a number between 0 and 1.")
    if prior < 0:
        raise LeaderboardError(f"the prior is {prior}: give 0 or a positive number of draws.")
    votes = read_votes(votes)
    names: list[str] = sorted({*votes["left"].tolist(), *votes["right"].tolist()})
    place = {name: i for i, name in enumerate(names)}
    left = votes["left"].map(place).to_numpy()
    right = votes["right"].map(place).to_numpy()
    outcome = _outcome(votes)
    e = len(names)
    wins = np.full((e, e), prior / 2)  # wins[i, j]: what i got against j
    np.fill_diagonal(wins, 0.0)
    np.add.at(wins, (left, right), outcome)
    np.add.at(wins, (right, left), 1 - outcome)
    parts, part = connected_components(wins > 0, directed=True, connection="strong")
    if parts > 1:
        groups = [[n for n, p in zip(names, part) if p == k] for k in range(parts)]
        smallest = ", ".join(sorted(groups, key=lambda group: (len(group), group))[0])
        raise LeaderboardError(
            f"{smallest} won or lost every comparison with the others (or had none), so no finite "
            "strength fits: collect more votes, or pass a prior such as 0.5 draws a pair."
        )
    strength = np.zeros(e)
    games = wins + wins.T
    for _ in range(100):  # Newton's method; the likelihood is concave in the differences
        chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
        gradient = (wins - games * chance).sum(axis=1)
        curvature = games * chance * (1 - chance)
        hessian = np.diag(curvature.sum(axis=1)) - curvature
        step = np.linalg.pinv(hessian) @ gradient
        strength += step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    else:
        raise LeaderboardError(
            "the strengths did not settle: pass a prior such as 0.5 draws a pair."
        )
    strength -= strength.mean()
    bread = np.linalg.pinv(hessian)
    residual = outcome - 1 / (1 + np.exp(strength[right] - strength[left]))
    sample, _ = pd.factorize(votes["sample"])
    g = int(sample.max()) + 1
    meat = np.zeros((g, e))
    np.add.at(meat, (sample, left), residual)
    np.add.at(meat, (sample, right), -residual)
    if g < 2:
        raise LeaderboardError("all votes are on one sample, so no interval can be given.")
    covariance = bread @ (meat.T @ meat * g / (g - 1)) @ bread
    se = np.sqrt(np.diag(covariance))
    factor = stats.t.ppf((1 + confidence) / 2, g - 1)
    if simultaneous:
        factor = _simultaneous_factor(covariance, se, confidence, g - 1)
    table = pd.DataFrame(
        {
            "strength": strength,
            "low": strength - factor * se,
            "high": strength + factor * se,
            "se": se,
            "win_rate": 1 / (1 + np.exp(-strength)),
            "votes": np.bincount(np.r_[left, right], minlength=e),
        },
        index=pd.Index(names, name="entry"),
    )
    return table.sort_values("strength", ascending=False, kind="stable")


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


def agreement(
    votes: str | Path | pd.DataFrame, level: Literal["nominal", "interval"] = "interval"
) -> float:
    """Krippendorff's alpha between raters, over pairs of entries on a sample.

    A vote is 1, 0.5 or 0 for the entry whose name sorts first, whichever side it was on; a rater's
    second vote on the same pair replaces the first. level "interval" lets a draw lie between the
    two; "nominal" treats the three as unrelated. NaN where no two raters judged the same pair.

    Raises LeaderboardError where the votes do not name their rater.
    """
    votes = read_votes(votes)
    if "rater" not in votes or votes["rater"].eq("").any():
        raise LeaderboardError("the votes do not all name a rater: add a column 'rater'.")
    first = votes["left"] < votes["right"]
    outcome = _outcome(votes)
    long = pd.DataFrame(
        {
            "unit": votes["sample"]
            + "\0"
            + votes["left"].where(first, votes["right"])
            + "\0"
            + votes["right"].where(first, votes["left"]),
            "rater": votes["rater"],
            "value": np.where(first, outcome, 1 - outcome),
        }
    ).drop_duplicates(["unit", "rater"], keep="last")
    table = long.pivot(index="rater", columns="unit", values="value")
    return krippendorff_alpha(table.to_numpy(float), level)
