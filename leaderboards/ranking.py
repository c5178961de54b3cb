"""How entries are ordered: what counts, each thing once, and how sure the order is.

A `Ranking` is declared (`rank: {by: ...}` in a config, `--by` on the command line) and resolved to
a `Scheme` for the columns that a leaderboard has. Places come with intervals from one bootstrap
over identities that all columns share, and an order between two entries is decided only where their
paired comparison is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from leaderboards import families, statistics
from leaderboards.errors import LeaderboardError, UnknownNameError, UnrankableError
from leaderboards.scores import Column, plain_name

Missing = Literal["worst", "drop"]

#: Families whose ranks `families` adds up, as the challenge adds those of its four columns.
COUNTED_FAMILIES = ("identity", "text", "distribution", "temporal")

#: Weights of families under `score`; those of families that are not there fall out.
SCORE_WEIGHTS: Mapping[str, float] = {
    "identity": 0.40,
    "text": 0.25,
    "copying": 0.15,
    "motion": 0.10,
    "temporal": 0.10,
    "quality": 0.10,
}

#: The challenge of 2025 added the ranks of these four; names without case and punctuation.
IPVG2025: Mapping[str, tuple[str, ...]] = {
    "Face-Cur": ("consisidfacecur", "facecur"),
    "Face-Arc": ("consisidfacearc", "facearc"),
    "FID": ("consisidfid", "fid"),
    "CLIPScore": ("consisidclipscore", "clipscore"),
}

#: OpenS2V-Eval's total in the human domain (v1.1): weight and names of each of its columns, which
#: are fractions of 1 as published.
OPENS2V: Mapping[str, tuple[float, tuple[str, ...]]] = {
    "Aesthetics": (0.18, ("aesthetics", "aestheticscore", "opens2vaesthetics")),
    "MotionSmoothness": (0.09, ("motionsmoothness", "opens2vmotionsmoothness")),
    "MotionAmplitude": (0.03, ("motionamplitude", "opens2vmotionamplitude")),
    "FaceSim": (0.25, ("facesim", "facesimcur", "opens2vfacesimcur")),
    "GmeScore": (0.15, ("gmescore", "opens2vgmescore")),
    "NaturalScore": (0.30, ("naturalscore", "opens2vnaturalscore")),
}

SCHEMES = ("families", "ipvg2025", "score", "opens2v")


@dataclass(frozen=True)
class Ranking:
    """What the order is by, as declared.

    Attributes:
        by: "families", the ranks of one column of each family added; "ipvg2025", those of the
            challenge's four columns; "score", a weighted mean of families between fixed anchors;
            "opens2v", OpenS2V-Eval's total; or the key, metric or label of one column. None is
            "families", but "ipvg2025" for a table of those four columns and no other.
        weights: for "score", family or column to weight; the published ones where None.
        anchors: for "score", column to (worst, best), the values that count 0 and 1; they take
            precedence over the published ones.
        missing: what a failed sample counts: "worst", the metric's worst value, or "drop", nothing,
            and then for no entry.
    """

    by: str | None = None
    weights: Mapping[str, float] | None = None
    anchors: Mapping[str, tuple[float, float]] | None = None
    missing: Missing = "worst"

    def __post_init__(self) -> None:
        if self.missing not in ("worst", "drop"):
            raise LeaderboardError(f"missing is {self.missing!r}: choose one of worst, drop.")
        if (self.weights or self.anchors) and self.by != "score":
            raise LeaderboardError(
                f"weights and anchors belong to the scheme 'score', not to {self.by!r}: set by to "
                "'score', or leave them out."
            )


def declared(rank: Ranking | str | None, ranks: Sequence[Mapping[str, Any]]) -> Ranking:
    """The ranking that is asked for, else the one that the sources declare, else the default.

    Raises LeaderboardError where sources declare different ones and none is asked for.
    """
    if rank is not None:
        return rank if isinstance(rank, Ranking) else Ranking(rank)
    found = [Ranking(**one) for one in ranks]
    if any(one != found[0] for one in found):
        names = ", ".join(dict.fromkeys(str(one.by or "families") for one in found))
        raise LeaderboardError(
            f"the runs declare different orders ({names}): choose one with --by."
        )
    return found[0] if found else Ranking()


@dataclass(frozen=True)
class Scheme:
    """A ranking resolved for the columns of one leaderboard.

    Attributes:
        by: as declared.
        columns: indices of the columns that count.
        weights: of each of them under a score; empty where ranks are added.
        anchors: (worst, best) of each of them under a score.
        rule: what counts and why, in sentences for under the table.
        needed: indices of the columns without which an entry is unranked; the constant ones, which
            do not count, among them.
    """

    by: str
    columns: tuple[int, ...]
    rule: str
    weights: tuple[float, ...] = ()
    anchors: tuple[tuple[float, float], ...] = ()
    needed: tuple[int, ...] = ()

    @property
    def is_score(self) -> bool:
        return bool(self.weights)

    def totals(self, means: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
        """Rank sum or score of ranked entries: float [..., E] of means [..., E, C].

        All of the counted columns must be there in all entries. A rank sum is better where smaller,
        a score (0 to 1) where larger.
        """
        if self.is_score:
            chosen = means[..., list(self.columns)]
            return _score(chosen, np.array(self.anchors), np.array(self.weights))
        total = np.zeros(means.shape[:-1])
        for c in self.columns:
            total += rankdata(-columns[c].sign * means[..., c], method="min", axis=-1)
        return total

    def badness(self, totals: np.ndarray) -> np.ndarray:
        """Totals turned so that smaller is better, equal where only rounding differs."""
        return np.round(-totals if self.is_score else totals, 12)


@dataclass(frozen=True)
class Standing:
    """Where an entry stands, and how sure that is.

    Attributes:
        place: 1 is best, equal totals share the better one; None for an unranked entry.
        total: rank sum (smaller is better) or score (larger is).
        low, high: the place's interval, from the bootstrap over identities.
        p_first: share of the resamples in which it is first (alone or among equals).
        first, last: the places that undecided comparisons leave open; entries that cannot be told
            apart share them, as in "1-5".
        why: what an unranked entry lacks.
    """

    place: int | None
    total: float | None = None
    low: int | None = None
    high: int | None = None
    p_first: float | None = None
    first: int | None = None
    last: int | None = None
    why: str = ""

    @property
    def text(self) -> str:
        """The places left open: "1-5", "3", or an en dash for an unranked entry."""
        if self.place is None:
            return "–"
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


# --------------------------------------------------------------------------- what counts


def resolve(ranking: Ranking, columns: Sequence[Column], means: np.ndarray) -> Scheme:
    """Find the columns that count, of a leaderboard with these columns and means [E, C].

    Raises UnrankableError where the table lacks what the scheme needs, UnknownNameError for a name
    that is not a scheme's or a column's, and LeaderboardError for a weight that is not positive.
    """
    by = ranking.by
    if by is None:
        four = {name for names in IPVG2025.values() for name in names}
        published = len(columns) == 4 and all(
            plain_name(column.metric) in four for column in columns
        )
        by = "ipvg2025" if published else "families"
    if by == "families":
        return _families(columns, means)
    if by == "score":
        return _weighted(ranking, columns, means)
    if by == "ipvg2025":
        chosen = [_published(columns, name, names, "ipvg2025") for name, names in IPVG2025.items()]
        rule = "Ranks of Face-Cur, Face-Arc, FID and CLIPScore added, as phase 1 of IPVG 2025 does."
        return Scheme("ipvg2025", tuple(chosen), rule, needed=tuple(chosen))
    if by == "opens2v":
        return _opens2v(columns, means)
    matches = [
        i
        for attribute in ("key", "metric", "label")
        for i, column in enumerate(columns)
        if getattr(column, attribute) == by
    ]
    if not matches:
        known = ", ".join(column.key for column in columns)
        raise UnknownNameError(
            f"nothing to rank by is called {by!r}: choose one of {', '.join(SCHEMES)}, or "
            f"one column of {known}."
        )
    column = columns[matches[0]]
    if not column.sign:
        raise UnrankableError(
            f"{column.key} has no direction to rank by: choose a column that has one."
        )
    rule = f"Ordered by {column.title} alone."
    return Scheme(by, (matches[0],), rule, needed=(matches[0],))


def primary(family: str, columns: Sequence[Column], means: np.ndarray) -> int | None:
    """The column that stands for a family: of those that most entries have, the first in order.

    The order is `families.PRIMARY`'s, then the table's. Diagnostics and columns without a direction
    never stand for anything. None where the family has no column.
    """
    ranked = []
    for i, column in enumerate(columns):
        if column.family != family or column.diagnostic or not column.sign:
            continue
        position = families.precedence(family, column.metric)
        if position is not None:
            ranked.append((-int((~np.isnan(means[:, i])).sum()), position, i))
    return min(ranked)[2] if ranked else None


def constant(values: np.ndarray) -> bool:
    """Whether means [E] of several entries are all alike, NaN left aside."""
    found = values[~np.isnan(values)]
    if len(found) < 2:
        return False
    return bool(np.ptp(found) <= 1e-12 * np.abs(found).max())


def _titles(columns: Sequence[Column], chosen: Sequence[int]) -> str:
    return ", ".join(columns[i].title for i in chosen)


def _families(columns: Sequence[Column], means: np.ndarray) -> Scheme:
    found = {family: primary(family, columns, means) for family in COUNTED_FAMILIES}
    needed = [i for i in found.values() if i is not None]
    if not needed:
        kinds = ", ".join(families.FAMILIES[family] for family in COUNTED_FAMILIES)
        return Scheme("families", (), f"Unranked: no column of {kinds}. Name a column to rank by.")
    alike = [i for i in needed if constant(means[:, i])]
    counted = tuple(i for i in needed if i not in alike)
    stated = "; ".join(
        f"{families.FAMILIES[family]}: {columns[i].title}"
        for family, i in found.items()
        if i is not None
    )
    rule = (
        f"Order: ranks in one column per family, added, the smallest sum first ({stated}). A "
        "family's column is the first by backend of those that most entries have."
    )
    absent = [families.FAMILIES[family] for family, i in found.items() if i is None]
    if absent:
        rule += f" No column of {' or '.join(absent)}."
    if alike:
        rule += f" The same for all entries, so not counted: {_titles(columns, alike)}."
    return Scheme("families", counted, rule, needed=tuple(needed))


def _published(columns: Sequence[Column], name: str, names: tuple[str, ...], scheme: str) -> int:
    """The column that a published scheme calls `name`."""
    for wanted in names:
        for i, column in enumerate(columns):
            if wanted in (plain_name(column.metric), plain_name(column.key)) and column.sign:
                return i
    raise UnrankableError(
        f"the scheme {scheme!r} needs a column {name}, and there is none: choose another scheme."
    )


def _weighted(ranking: Ranking, columns: Sequence[Column], means: np.ndarray) -> Scheme:
    weights = dict(SCORE_WEIGHTS if ranking.weights is None else ranking.weights)
    if ranking.weights is None:
        weights = {f: w for f, w in weights.items() if primary(f, columns, means) is not None}
        if not weights:
            raise UnrankableError(
                "no column belongs to a family that 'score' weighs: give weights of columns."
            )
    chosen: dict[int, float] = {}
    for name, weight in weights.items():
        if not weight > 0:
            raise LeaderboardError(f"the weight of {name!r} is {weight}: give a positive number.")
        found = primary(name, columns, means) if name in families.FAMILIES else None
        if found is None:
            found = _named(name, columns)
        chosen[found] = chosen.get(found, 0.0) + weight
    given = {_named(name, columns): ends for name, ends in (ranking.anchors or {}).items()}
    anchors = tuple(given.get(i) or anchors_of(columns[i]) for i in chosen)
    whole = sum(chosen.values())
    stated = ", ".join(
        f"{columns[i].title} {weight / whole:.2f} ({worst:g} to {best:g})"
        for (i, weight), (worst, best) in zip(chosen.items(), anchors)
    )
    rule = f"Weighted mean of columns, each 0 at one fixed value and 1 at another: {stated}."
    needed = tuple(chosen)
    return Scheme("score", needed, rule, tuple(chosen.values()), anchors, needed)


def _opens2v(columns: Sequence[Column], means: np.ndarray) -> Scheme:
    chosen = tuple(
        _published(columns, name, names, "opens2v") for name, (_, names) in OPENS2V.items()
    )
    beyond = [i for i in chosen if np.nanmax(means[:, i], initial=0.0) > 1]
    if beyond:
        raise UnrankableError(
            f"the scheme 'opens2v' takes fractions of 1, and {_titles(columns, beyond)} is above "
            "1: divide percentages by 100."
        )
    weights = tuple(weight for weight, _ in OPENS2V.values())
    stated = ", ".join(f"{columns[i].title} {weight:.2f}" for i, weight in zip(chosen, weights))
    rule = f"OpenS2V-Eval's total of the human domain: {stated}."
    return Scheme("opens2v", chosen, rule, weights, ((0.0, 1.0),) * len(chosen), chosen)


def _named(name: str, columns: Sequence[Column]) -> int:
    for attribute in ("key", "metric", "label"):
        for i, column in enumerate(columns):
            if getattr(column, attribute) == name and column.sign:
                return i
    known = ", ".join(column.key for column in columns if column.sign)
    raise UnknownNameError(f"there is no column {name!r} to weigh: the columns are {known}.")


def anchors_of(column: Column) -> tuple[float, float]:
    """(worst, best) that a score takes for 0 and 1: stated or published, else the metric's range.

    Raises UnrankableError for a column that has neither.
    """
    low, high = column.low, column.high
    if column.anchors is not None:
        return column.anchors
    known = families.known_anchors(column.metric)
    if known is not None:
        # Anchors of another scale, as of percentages where the column holds fractions, are not its.
        least, most = sorted(known[:2])
        if (low is None or low <= least) and (high is None or most <= high):
            return known[:2]
    if low is None or high is None or not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UnrankableError(
            f"column {column.key!r} has no finite range to scale by: give its anchors, or leave "
            "the column out of the weights."
        )
    return (low, high) if column.sign > 0 else (high, low)


def _score(values: np.ndarray, anchors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean [...] of values [..., C], each 0 at its worst anchor and 1 at its best."""
    worst, best = anchors.T
    scaled = np.clip((values - worst) / (best - worst), 0.0, 1.0)
    return np.nan_to_num(scaled) @ weights / weights.sum()


# --------------------------------------------------------------------------- places


def challenge_ranks(means: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
    """Rank entries on each metric, 1 is best; ties share the better rank, a missing mean is worst.

    means: float [E, C], NaN where missing. Returns int [E, C], 0 throughout a column without a
    direction; phase 1 of the challenge adds each row up, and the smallest sum wins.
    """
    ranks = np.zeros(means.shape, dtype=np.int64)
    for c, column in enumerate(columns):
        if column.sign:
            ranks[:, c] = shared_ranks(-column.sign * means[:, c])
    return ranks


def shared_ranks(badness: np.ndarray) -> np.ndarray:
    """Competition ranks of numbers [E] where smaller is better; NaN comes last."""
    return rankdata(np.where(np.isnan(badness), np.inf, badness), method="min").astype(np.int64)


def settle(means: np.ndarray) -> np.ndarray:
    """Means [..., E, C] with the rounding noise taken off, so that equal ones are equal."""
    with np.errstate(invalid="ignore"):
        largest = np.nanmax(np.abs(means), axis=-2, keepdims=True, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    return np.round(means / scale, 12) * scale


def totals(scheme: Scheme, columns: Sequence[Column], means: np.ndarray) -> np.ndarray:
    """Rank sum or score of each entry, [E] of means [E, C]; NaN where an entry is unranked.

    An entry without one of the columns that count is unranked, and so are all if none counts.
    """
    out = np.full(len(means), np.nan)
    ranked = ~np.isnan(means[:, list(scheme.needed)]).any(axis=1) & bool(scheme.needed)
    if ranked.any():
        out[ranked] = scheme.totals(settle(means[ranked]), columns)
    return out


def draw_means(
    scheme: Scheme, values: np.ndarray, clusters: np.ndarray, means: np.ndarray,
    errors: np.ndarray, effects: np.ndarray | None = None, *, draws: int, seed: int,
) -> np.ndarray:  # fmt: skip
    """Means of the counted columns in resamples of identities that all columns and entries share.

    values: float [C, E, K] on common samples. means: float [E, C]. effects: float [C, E, G], what
    one more of each identity adds to a set-level score, NaN where nobody knows; those scores are
    drawn around the means: normally, with errors [E, C] as standard errors, which leaves out that
    entries share their samples and so makes intervals rather too wide than too narrow; where no
    error is known they stay as they are. Returns float [draws, E, C], NaN in columns that do not
    count.
    """
    c, e, k = values.shape
    effects = np.full((c, e, 0), np.nan) if effects is None else effects
    out = np.full((draws, e, c), np.nan)
    rng = np.random.default_rng([seed, draws, 3])
    sampled = [j for j in scheme.columns if np.isfinite(values[j]).any()]
    if sampled:
        sums, counts = statistics.cluster_sums(
            values[sampled].reshape(len(sampled) * e, k).T, np.asarray(clusters)
        )
        weights = statistics.resampling_weights(len(sums), draws, seed)
        with np.errstate(invalid="ignore"):
            drawn = ((weights @ sums) / (weights @ counts)).reshape(draws, len(sampled), e)
        # A resample may hold none of the few identities that a column has.
        drawn = np.where(np.isnan(drawn), means[:, sampled].T, drawn)
        out[:, :, sampled] = drawn.transpose(0, 2, 1)
    for j in scheme.columns:
        if j not in sampled:
            shift = np.nan_to_num(errors[:, j]) * rng.standard_normal((draws, e))
            known = np.isfinite(effects[j]).all(axis=1) & bool(effects.shape[2])
            if known.any():
                weights = statistics.resampling_weights(effects.shape[2], draws, seed)
                shift[:, known] = (weights - 1) @ effects[j, known].T
            out[:, :, j] = means[:, j] + shift
    return out


def place(
    scheme: Scheme,
    columns: Sequence[Column],
    means: np.ndarray,
    drawn: np.ndarray,
    told: np.ndarray,
    confidence: float,
) -> tuple[list[Standing], np.ndarray]:
    """Standing of each entry, and which is decided to be ahead of which.

    means: float [E, C]. drawn: the same in B resamples, [B, E, C]. told: bool [E, E], i's paired
    comparison with j finds i better on a counted column and worse on none.

    Returns the standings [E] and bool [E, E], row ahead of column: told, and ahead by the scheme's
    total in all but (1 - confidence) / 2 of the resamples.
    """
    entries = len(means)
    whole = totals(scheme, columns, means)
    ranked = np.flatnonzero(~np.isnan(whole))
    ahead = np.zeros((entries, entries), dtype=bool)
    lacking = [[c for c in scheme.needed if np.isnan(means[e, c])] for e in range(entries)]
    standings = [
        Standing(None, why=f"no {_titles(columns, some)}" if some else "nothing counts")
        for some in lacking
    ]
    if not len(ranked):
        return standings, ahead
    places = shared_ranks(scheme.badness(whole[ranked]))
    low = high = places
    p_first = np.full(len(ranked), np.nan)
    if len(drawn):
        bad = scheme.badness(scheme.totals(settle(drawn[:, ranked]), columns))  # [B, R]
        drawn_places = rankdata(bad, method="min", axis=1)
        tail = (1 - confidence) / 2
        low, high = np.quantile(
            drawn_places, [tail, 1 - tail], axis=0, method="inverted_cdf"
        ).astype(np.int64)
        p_first = (drawn_places == 1).mean(axis=0)
        sure = told[np.ix_(ranked, ranked)]
        few = drawn_places[: statistics.affordable(len(bad), len(ranked))]
        few = few.astype(np.uint16 if few.max() < 2**16 else np.uint32)
        blocks = np.array_split(few, math.ceil(len(few) / 255))  # counts that fit a byte
        for row in np.flatnonzero(sure.any(axis=1)):
            won = np.zeros(len(ranked))
            for block in blocks:
                won += (block[:, row, None] < block).view(np.uint8).sum(axis=0, dtype=np.uint8)
            sure[row] &= won / len(few) >= 1 - tail
        ahead[np.ix_(ranked, ranked)] = sure
    for i, e in enumerate(ranked):
        standings[e] = Standing(
            place=int(places[i]),
            total=float(whole[e]),
            low=int(min(low[i], places[i])) if len(drawn) else None,
            high=int(max(high[i], places[i])) if len(drawn) else None,
            p_first=float(p_first[i]) if len(drawn) else None,
            first=1 + int(ahead[:, e].sum()),
            last=len(ranked) - int(ahead[e].sum()),
        )
    return standings, ahead


def told_apart(
    scheme: Scheme, columns: Sequence[Column], values: np.ndarray,
    flipped: statistics.FlippedPairs, confidence: float,
) -> np.ndarray:  # fmt: skip
    """bool [E, E]: the paired comparisons find the row better on a counted column, on none worse.

    values: float [C, E, K], common samples. flipped: of the same values. Whole identities are
    flipped for all pairs of entries and all counted columns at once, so that of entries that are
    all equal hardly ever (1 - confidence) any is told from any. Columns without samples cannot be
    compared and do not take part.
    """
    counted = [c for c in scheme.columns if columns[c].level == "sample"]
    entries = values.shape[1]
    better = np.zeros((entries, entries), dtype=bool)
    if not counted:
        return better
    worse = better.copy()
    largest = flipped.largest[counted].max(axis=0)
    for c in counted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # an entry without a value has no mean
            means = columns[c].sign * np.nanmean(values[c], axis=1)
        told = flipped.told(c, 1 - confidence, largest)
        ahead = means[:, None] > means
        better |= told & ahead
        worse |= told & ahead.T
    return better & ~worse


def pareto_front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points [E] are not beaten: no other is at least as good on both and better on one.

    Higher is better on both axes (negate one that is not); a NaN is never on the front.
    """
    there = np.isfinite(x) & np.isfinite(y)
    on = np.zeros(len(x), dtype=bool)
    levels, group = np.unique(-x[there], return_inverse=True)  # best first
    best = np.full(len(levels), -np.inf)  # y of each level
    np.maximum.at(best, group, y[there])
    before = np.r_[-np.inf, np.maximum.accumulate(best)[:-1]]  # y of any better level
    on[there] = (y[there] == best[group]) & (y[there] > before[group])
    return on


def redundant(
    means: np.ndarray, columns: Sequence[Column], least: float = 0.95
) -> list[tuple[int, int, float]]:
    """Pairs of columns that order the entries alike: (column, column, Spearman's rho), |rho| above
    `least`.

    means: float [E, C]. Pairs with fewer than 5 entries in common say nothing and are left out, as
    are columns without a direction and constant ones.
    """
    out = []
    usable = [c for c, column in enumerate(columns) if column.sign and not constant(means[:, c])]
    for n, a in enumerate(usable):
        for b in usable[n + 1 :]:
            both = ~np.isnan(means[:, a]) & ~np.isnan(means[:, b])
            if both.sum() < 5 or constant(means[both, a]) or constant(means[both, b]):
                continue
            x, y = (rankdata(means[both, c]) for c in (a, b))
            rho = float(np.corrcoef(x, y)[0, 1])
            if abs(rho) > least:
                out.append((a, b, rho))
    return out
