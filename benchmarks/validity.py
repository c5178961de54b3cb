"""Do intervals, tests and places keep their promise? Simulated, in one table.

    python benchmarks/validity.py

Every row is a promise: how often it was kept (or broken) in simulated studies, and the bound that
it has to keep. Shapes of scores: normal, bounded (cosines that crowd near 1), skewed (errors with a
long tail), yes-no and three grades (counted columns). People have three to seven samples each
unless a row says "one sample". Exits with 1 if a bound is broken. Rows are kept in a file as they
are computed, and not computed again while neither code nor sizes change.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from leaderboards.ranking import Ranking, draw_means, place, resolve, told_apart
from leaderboards.scores import Column
from leaderboards.statistics import FlippedPairs, cluster_means, holm, paired_tests
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

    @property
    def bound(self) -> str:
        return f">= {self.least:.1%}" if self.least else f"<= {self.most:.1%}"

    def __str__(self) -> str:
        mark = "" if self.kept else "  BROKEN"
        return (
            f"{self.what:44s} {self.shape:30s} {self.people!s:>6s} {self.measured:8.2%}  "
            f"{self.bound:>8s}{mark}"
        )


#: A name, and what measures its rows.
Task = tuple[str, Callable[[], Iterable[Row]]]


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


def interval_tasks(studies: int) -> Iterator[Task]:
    cases: list[tuple[str, Draw, tuple[int, ...], bool, bool]] = [
        ("normal", normal, (*PEOPLE, 200), False, False),
        ("bounded", bounded, (*PEOPLE, 200), False, False),
        ("skewed", skewed, (*PEOPLE, 200), False, False),
    ]
    for share in (0.9, 0.5):
        cases.append((f"yes-no {share}, one sample", yes_no(share), PEOPLE, True, True))
        cases += [
            (f"yes-no {share}, alike {alike}", yes_no(share, alike), PEOPLE, False, True)
            for alike in (0.2, 0.7)
        ]
    cases.append(("three grades, one sample", grades, PEOPLE, True, True))

    def rows(name: str, draw: Draw, people: int, single: bool, few: bool) -> list[Row]:
        held = coverage(draw, people, studies, single=single, few=few)
        return [Row("95 % interval of a mean holds it", name, people, held, 0.93)]

    for name, draw, sizes_, single, few in cases:
        for people in sizes_:
            yield f"mean {name} {people}", partial(rows, name, draw, people, single, few)


def paired_tasks(studies: int) -> Iterator[Task]:
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

    def rows(
        name: str, first: Draw, second: Draw, single: bool, span: float | None, people: int
    ) -> Iterator[Row]:
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

    for shape in shapes:
        for people in PEOPLE:
            yield f"paired {shape[0]} {people}", partial(rows, *shape, people)


def equal_entries(rng: np.random.Generator, people: int, columns: int) -> np.ndarray:
    """24 entries, equal in truth, in a few columns: [C, 24, people]."""
    shared = rng.normal(0, 0.1, (columns, 1, people))
    return 0.5 + shared + rng.normal(0, 0.1, (columns, 24, people))


def curse_tasks(studies: int) -> Iterator[Task]:
    """The best of 24 equal entries was lucky: how often is any other called worse?"""

    def rows(people: int) -> Iterator[Row]:
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
            alone = FlippedPairs(values[:1], person, draws=999, seed=study)
            worse += bool((alone.p(0, means[:, 0].argmax()) <= 0.05).any())
            scheme = resolve(Ranking("families"), columns, means)
            flipped = FlippedPairs(values, person, draws=999, seed=study)
            told = told_apart(scheme, columns, values, flipped, 0.95)
            drawn = draw_means(
                scheme, values, person, means, np.full_like(means, np.nan), draws=300, seed=study
            )
            ahead += bool(place(scheme, columns, means, drawn, told, 0.95)[1].any())
        for what, found in (
            ("an entry is called worse than the best", worse),
            ("an order of places is called decided", ahead),
        ):
            yield Row(what, "24 equal entries", people, found / studies, most=0.07)

    for people in (20, 64, 200):
        yield f"curse {people}", partial(rows, people)


def holm_tasks(studies: int) -> Iterator[Task]:
    """An ablation of four levels that change nothing, against its baseline."""

    def rows(people: int) -> list[Row]:
        rng = np.random.default_rng([people, 11])
        values = rng.normal(0, 0.1, (people, studies, 1)) + rng.normal(0, 0.1, (people, studies, 4))
        differences = values[:, :, 1:] - values[:, :, :1]
        p = paired_tests(differences.reshape(people, -1), np.arange(people), draws=999).p
        adjusted = np.array([holm(row) for row in p.reshape(studies, 3)])
        found = (adjusted <= 0.05).any(axis=1).mean()
        what = "a level without effect is called one"
        return [Row(what, "ablation, Holm", people, found, most=0.06)]

    for people in (8, 20, 64):
        yield f"holm {people}", partial(rows, people)


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


def vote_tasks(studies: int) -> Iterator[Task]:
    """Bradley-Terry of 4 entries with planted strengths and 60 samples: all pairs of each by nobody
    in particular, and votes by raters whose own strengths differ."""

    def anonymous(share: float) -> Iterator[Row]:
        strengths = np.array([0.0, 0.4, 0.8, 1.6])
        single, together = bradley_terry_coverage(studies, strengths, 60, share)
        shape = f"votes, {share:.0%} draws"
        yield Row("95 % interval of a strength holds it", shape, "", single, 0.93)
        yield Row("all intervals of a study hold theirs", shape, "", together, 0.93)

    def rated(raters: int, spread: float, votes: int) -> list[Row]:
        both, _ = rater_coverage(studies, raters, spread, votes)
        shape = f"{votes} votes, raters differ by {spread}"
        return [Row("95 % interval of a strength holds it", shape, raters, both, 0.93)]

    for share in (0.0, 0.3):
        yield f"votes {share}", partial(anonymous, share)
    for case in (
        (3, 0.5, 600), (5, 0.0, 600), (5, 0.5, 600), (5, 0.8, 600), (10, 0.5, 600), (20, 0.5, 2000)
    ):  # fmt: skip
        yield f"raters {case}", partial(rated, *case)


def measured_code() -> str:
    """SHA-256 of the code whose promises are measured, and of this file."""
    files = [Path(inspect.getfile(f)) for f in (main, cluster_means, resolve, bradley_terry)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def run(tasks: Iterable[Task], kept: Path, key: str) -> Iterator[Row]:
    """Rows of all tasks, those that `kept` (JSON lines) has under `key` read from there.

    Each task's rows are appended as soon as they are computed, so that a run that was killed goes
    on where it stopped.
    """
    done: dict[str, list[Row]] = {}
    for line in kept.read_text().splitlines() if kept.is_file() else ():
        one = json.loads(line)
        if one["key"] == key:
            done[one["task"]] = [Row(**row) for row in one["rows"]]
    for name, measure in tasks:
        if name not in done:
            done[name] = list(measure())
            line = {"key": key, "task": name, "rows": [asdict(row) for row in done[name]]}
            with kept.open("a") as file:
                file.write(json.dumps(line) + "\n")
        yield from done[name]


def markdown(rows: Iterable[Row]) -> str:
    """One table, a promise and a shape of scores per line, measured by number of people."""
    lines = ["| promise | scores | bound | measured in %, by the number of people (or raters) |"]
    lines.append("|---|---|---|---|")
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        number = f"{100 * row.measured:.2f}"
        cell = f"{row.people}: {number}" if row.people else number
        groups.setdefault((row.what, row.shape, row.bound), []).append(cell)
    return "\n".join(
        [*lines, *(f"| {' | '.join((*k, '; '.join(v)))} |" for k, v in groups.items())]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000, help="simulated columns per row")
    parser.add_argument("--tables", type=int, default=600, help="simulated tables of 24 entries")
    parser.add_argument("--votes", type=int, default=1000, help="simulated voting studies")
    parser.add_argument(
        "--keep", type=Path, default=Path("validity.jsonl"), help="where rows are kept"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table for a document")
    options = parser.parse_args(arguments)
    key = f"{options.studies} {options.tables} {options.votes} {measured_code()}"
    tasks = itertools.chain(
        interval_tasks(options.studies),
        paired_tasks(options.studies),
        holm_tasks(options.studies),
        curse_tasks(options.tables),
        vote_tasks(options.votes),
    )
    print(f"{'promise':44s} {'scores':30s} {'people':>6s} {'measured':>8s}  {'bound':>8s}")
    rows = []
    for row in run(tasks, options.keep, key):
        print(row, flush=True)
        rows.append(row)
    if options.markdown:
        print(markdown(rows))
    broken = sum(not row.kept for row in rows)
    print("All promises kept." if not broken else f"{broken} promises broken.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
