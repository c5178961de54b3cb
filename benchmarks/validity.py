"""Do intervals, tests and places keep their promise? Simulated, in one table.

    python benchmarks/validity.py

Every row is a promise: how often it was kept (or broken) in simulated studies, and the bound that
it has to keep. Shapes of scores: normal, bounded (cosines that crowd near 1), skewed (errors with a
long tail), yes-no and three grades (counted columns). People have three to seven samples each
unless a row says "one sample". Exits with 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leaderboards.ranking import Ranking, draw_means, place, resolve, told_apart
from leaderboards.scores import Column
from leaderboards.statistics import all_pairs, cluster_means, holm, paired_tests
from leaderboards.votes import bradley_terry

PEOPLE = (8, 12, 20, 50)

#: A draw of values [K, R] of people [K]: R columns with the same true mean, and that mean.
Draw = Callable[[np.random.Generator, np.ndarray, int], tuple[np.ndarray, float]]


@dataclass(frozen=True)
class Row:
    """One promise: `measured` is a share of studies; `least` and `most` bound it."""

    what: str
    shape: str
    people: int | str
    measured: float
    least: float = 0.0
    most: float = 1.0

    @property
    def kept(self) -> bool:
        return self.least <= self.measured <= self.most

    def __str__(self) -> str:
        bound = f">= {self.least:.1%}" if self.least else f"<= {self.most:.1%}"
        mark = "" if self.kept else "  BROKEN"
        return (
            f"{self.what:44s} {self.shape:26s} {self.people!s:>6s} {self.measured:8.2%}  "
            f"{bound:>8s}{mark}"
        )


def sizes(rng: np.random.Generator, people: int) -> np.ndarray:
    """Person of each sample, three to seven samples each."""
    return np.repeat(np.arange(people), rng.integers(3, 8, people))


def normal(rng: np.random.Generator, person: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    people = rng.normal(0, 0.1, (person.max() + 1, size))[person]
    return 0.5 + people + rng.normal(0, 0.1, people.shape), 0.5


def bounded(rng: np.random.Generator, person: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Cosines bounded by 1 that crowd near the top, as identity scores do."""
    centres = rng.beta(6, 3, (person.max() + 1, size))[person]
    return rng.beta(20 * centres, 20 * (1 - centres)), 6 / 9


def skewed(rng: np.random.Generator, person: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Errors with a long tail, as distances have."""
    people = rng.gamma(2, 0.1, (person.max() + 1, size))[person]
    return people + rng.normal(0, 0.05, people.shape), 0.2


def yes_no(share: float, likeness: float = 0.5) -> Draw:
    """Answers right with probability `share`, correlated by `likeness` within a person."""

    def draw(rng: np.random.Generator, person: np.ndarray, size: int) -> tuple[np.ndarray, float]:
        scale = (1 - likeness) / likeness
        people = rng.beta(share * scale, (1 - share) * scale, (person.max() + 1, size))
        return (rng.random((len(person), size)) < people[person]).astype(float), share

    return draw


def grades(rng: np.random.Generator, person: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """0, 1/2 and 1, mostly 1."""
    return rng.choice([0.0, 0.5, 1.0], (len(person), size), p=[0.05, 0.1, 0.85]), 0.9


def coverage(draw: Draw, people: int, studies: int, *, single: bool, few: bool) -> float:
    """Share of intervals that hold the true mean."""
    held, parts = 0, 20
    for part in range(parts):
        rng = np.random.default_rng([part, people])
        person = np.arange(people) if single else sizes(rng, people)
        values, truth = draw(rng, person, studies // parts)
        ends = np.tile([0.0, 1.0], (values.shape[1], 1)) if few else None
        means = cluster_means(values, person, ends=ends, seed=part)
        held += int(((means.low <= truth) & (truth <= means.high)).sum())
    return held / (studies // parts * parts)


def interval_rows(studies: int) -> Iterator[Row]:
    what = "95 % interval of a mean holds it"
    for name, draw in (("normal", normal), ("bounded", bounded), ("skewed", skewed)):
        for people in (*PEOPLE, 200):
            share = coverage(draw, people, studies, single=False, few=False)
            yield Row(what, name, people, share, 0.93)
    for share in (0.9, 0.5):
        for people in PEOPLE:
            held = coverage(yes_no(share), people, studies, single=True, few=True)
            yield Row(what, f"yes-no {share}, one sample", people, held, 0.93)
        for likeness in (0.2, 0.7):
            for people in PEOPLE:
                held = coverage(yes_no(share, likeness), people, studies, single=False, few=True)
                yield Row(what, f"yes-no {share}, alike {likeness}", people, held, 0.93)
    for people in PEOPLE:
        held = coverage(grades, people, studies, single=True, few=True)
        yield Row(what, "three grades, one sample", people, held, 0.93)


def paired_rows(studies: int) -> Iterator[Row]:
    """Two methods on the same people: equal ones, and for coverage ones that differ."""
    shapes: list[tuple[str, Draw, Draw, bool, float | None]] = [
        ("normal", normal, normal, False, None),
        ("skewed", skewed, skewed, False, None),
        *(
            (f"yes-no {share}, one sample", yes_no(share), yes_no(share), True, 1.0)
            for share in (0.9, 0.5)
        ),
        ("yes-no 0.9 and 0.5, one sample", yes_no(0.9), yes_no(0.5), True, 1.0),
        ("yes-no 0.9, alike 0.7", yes_no(0.9, 0.7), yes_no(0.9, 0.7), False, 1.0),
    ]
    for name, first, second, single, span in shapes:
        for people in PEOPLE:
            rng = np.random.default_rng([people, 7])
            person = np.arange(people) if single else sizes(rng, people)
            (a, mean_a), (b, mean_b) = (draw(rng, person, studies) for draw in (first, second))
            truth = mean_a - mean_b
            tests = paired_tests(a - b, person, span=span, draws=1999)
            held = ((tests.low <= truth) & (truth <= tests.high)).mean()
            yield Row("95 % interval of a paired difference holds it", name, people, held, 0.93)
            if truth == 0:
                found = (tests.p <= 0.05).mean()
                yield Row("equal methods are called different", name, people, found, most=0.06)
            contradicts = ((tests.p <= 0.05) == ((tests.low <= 0) & (tests.high >= 0))).mean()
            yield Row("p value contradicts the interval", name, people, contradicts, most=0.0)


def equal_entries(rng: np.random.Generator, people: int, columns: int) -> np.ndarray:
    """24 entries, equal in truth, in a few columns: [C, 24, people]."""
    shared = rng.normal(0, 0.1, (columns, 1, people))
    return 0.5 + shared + rng.normal(0, 0.1, (columns, 24, people))


def curse_rows(studies: int) -> Iterator[Row]:
    """The best of 24 equal entries was lucky: how often is any other called worse?"""
    for people in (20, 64, 200):
        rng = np.random.default_rng(people)
        columns = tuple(
            Column(metric, metric, family=family)
            for metric, family in (("identity.a", "identity"), ("text.a", "text"),
                                   ("identity.a.consistency", "temporal"))
        )  # fmt: skip
        worse = ahead = 0
        for study in range(studies):
            values = equal_entries(rng, people, len(columns))
            person, means = np.arange(people), values.mean(axis=2).T
            p = all_pairs(values[:1], person, draws=999, seed=study)[0]
            worse += bool((p[means[:, 0].argmax()] <= 0.05).any())
            scheme = resolve(Ranking("families"), columns, means)
            told = told_apart(
                scheme, columns, values, person, confidence=0.95, draws=999, seed=study
            )
            drawn = draw_means(
                scheme, values, person, means, np.full_like(means, np.nan), draws=300, seed=study
            )
            ahead += bool(place(scheme, columns, means, drawn, told, 0.95)[1].any())
        shape = "24 equal entries"
        yield Row(
            "an entry is called worse than the best", shape, people, worse / studies, most=0.07
        )
        yield Row("an order of places is called decided", shape, people, ahead / studies, most=0.07)


def holm_rows(studies: int) -> Iterator[Row]:
    """An ablation of four levels that change nothing, against its baseline."""
    for people in (8, 20, 64):
        rng = np.random.default_rng([people, 11])
        values = rng.normal(0, 0.1, (people, studies, 1)) + rng.normal(0, 0.1, (people, studies, 4))
        differences = values[:, :, 1:] - values[:, :, :1]
        p = paired_tests(differences.reshape(people, -1), np.arange(people), draws=999).p
        adjusted = np.array([holm(row) for row in p.reshape(studies, 3)])
        found = (adjusted <= 0.05).any(axis=1).mean()
        yield Row(
            "a level without effect is called one", "ablation, Holm", people, found, most=0.06
        )


def simulate_votes(
    rng: np.random.Generator, strengths: np.ndarray, samples: int, draws: float
) -> pd.DataFrame:
    """Votes on every pair of every sample; a share `draws` of them undecided, fairly to both."""
    names = [f"entry{i}" for i in range(len(strengths))]
    rows = []
    for sample in range(samples):
        for i in range(len(names)):
            for j in range(i + 1, len(names)):
                chance = 1 / (1 + np.exp(strengths[j] - strengths[i]))
                # A draw takes as much from a win as from a loss, so the expectation stays `chance`.
                tie = rng.random() < draws * 2 * min(chance, 1 - chance)
                tied = draws * 2 * min(chance, 1 - chance)
                won = rng.random() < (chance - tied / 2) / (1 - tied)
                winner = "draw" if tie else names[i] if won else names[j]
                left, right = (i, j) if rng.random() < 0.5 else (j, i)
                rows.append((str(sample), names[left], names[right], winner))
    return pd.DataFrame(rows, columns=["sample", "left", "right", "winner"])


def bradley_terry_coverage(
    simulations: int, strengths: np.ndarray, samples: int, draws: float
) -> tuple[float, float]:
    """(share of single intervals, share of studies' simultaneous intervals) that hold the truth."""
    truth = strengths - strengths.mean()
    single = together = 0
    for seed in range(simulations):
        votes = simulate_votes(np.random.default_rng(seed), truth, samples, draws)
        table = bradley_terry(votes).sort_index()
        single += int(((table["low"] <= truth) & (truth <= table["high"])).sum())
        table = bradley_terry(votes, simultaneous=True).sort_index()
        together += bool(((table["low"] <= truth) & (truth <= table["high"])).all())
    return single / (simulations * len(truth)), together / simulations


def simulate_raters(
    rng: np.random.Generator,
    strengths: np.ndarray,
    raters: int,
    spread: float,
    votes: int,
    samples: int,
) -> pd.DataFrame:
    """Votes by raters whose own strengths lie `spread` (a standard deviation) about the planted."""
    e = len(strengths)
    own = strengths + rng.normal(0, spread, (raters, e))
    rater = np.arange(votes) % raters
    left = rng.integers(e, size=votes)
    right = (left + rng.integers(1, e, size=votes)) % e
    won = rng.random(votes) < 1 / (1 + np.exp(own[rater, right] - own[rater, left]))
    names = np.array([f"entry{i}" for i in range(e)])
    return pd.DataFrame(
        {
            "sample": rng.integers(samples, size=votes).astype(str),
            "left": names[left],
            "right": names[right],
            "winner": np.where(won, names[left], names[right]),
            "rater": np.char.add("rater", rater.astype(str)),
        }
    )


def strengths_of_all_raters(strengths: np.ndarray, spread: float) -> np.ndarray:
    """The strengths that votes by ever more raters lead to: the mean over raters of the chances,
    fitted again (they are nearer to each other than the planted ones)."""
    own = np.random.default_rng(1).normal(0, spread * np.sqrt(2), 100_000)
    gaps = strengths[:, None] - strengths[None, :]
    chances = np.array([[(1 / (1 + np.exp(-g - own))).mean() for g in row] for row in gaps])
    np.fill_diagonal(chances, 0.5)
    fitted = strengths.copy()
    for _ in range(200):
        model = 1 / (1 + np.exp(fitted[None, :] - fitted[:, None]))
        curvature = model * (1 - model) * (1 - np.eye(len(fitted)))
        hessian = np.diag(curvature.sum(axis=1)) - curvature
        fitted = fitted + np.linalg.pinv(hessian) @ (chances - model).sum(axis=1)
    return fitted - fitted.mean()


def rater_coverage(
    simulations: int, raters: int, spread: float, votes: int, samples: int = 60
) -> tuple[float, float]:
    """How often an interval holds its strength: (clustered both ways, on samples alone)."""
    planted = np.array([-0.6, -0.2, 0.2, 0.6])
    truth = strengths_of_all_raters(planted, spread)
    both = alone = 0
    for seed in range(simulations):
        rng = np.random.default_rng([seed, raters])
        cast = simulate_raters(rng, planted, raters, spread, votes, samples)
        table = bradley_terry(cast).sort_index()
        both += int(((table["low"] <= truth) & (truth <= table["high"])).sum())
        table = bradley_terry(cast.drop(columns="rater")).sort_index()
        alone += int(((table["low"] <= truth) & (truth <= table["high"])).sum())
    return both / (simulations * len(truth)), alone / (simulations * len(truth))


def vote_rows(studies: int) -> Iterator[Row]:
    """Bradley-Terry of 4 entries with planted strengths and 60 samples: all pairs of each by nobody
    in particular, and votes by raters whose own strengths differ."""
    strengths = np.array([0.0, 0.4, 0.8, 1.6])
    for share in (0.0, 0.3):
        single, together = bradley_terry_coverage(studies, strengths, 60, share)
        # 95 % less two standard errors of a share estimated from so many studies.
        least = 0.95 - 2 * np.sqrt(0.95 * 0.05 / studies)
        shape = f"votes, {share:.0%} draws"
        yield Row("95 % interval of a strength holds it", shape, "", single, least)
        yield Row("all intervals of a study hold theirs", shape, "", together, least)
    for raters, spread, count in (
        (3, 0.5, 600), (5, 0.0, 600), (5, 0.5, 600), (5, 0.8, 600), (10, 0.5, 600), (20, 0.5, 2000)
    ):  # fmt: skip
        both, _ = rater_coverage(studies, raters, spread, count)
        shape = f"{raters} raters who differ {spread}"
        yield Row("95 % interval of a strength holds it", shape, "", both, least)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000, help="simulated columns per row")
    parser.add_argument("--tables", type=int, default=600, help="simulated tables of 24 entries")
    parser.add_argument("--votes", type=int, default=200, help="simulated voting studies")
    options = parser.parse_args(arguments)
    print(f"{'promise':44s} {'scores':26s} {'people':>6s} {'measured':>8s}  {'bound':>8s}")
    broken = 0
    for rows in (
        interval_rows(options.studies),
        paired_rows(options.studies),
        holm_rows(options.studies),
        curse_rows(options.tables),
        vote_rows(options.votes),
    ):
        for row in rows:
            print(row, flush=True)
            broken += not row.kept
    print("All promises kept." if not broken else f"{broken} promises broken.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
