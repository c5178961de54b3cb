"""The measurements that are there, read back and brought into tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leaderboards.statistics import holm
from miniature.ablation.frontier import Difference, Rows, compare, mean_interval
from miniature.ablation.plan import BUDGETS, POINTS, REFERENCE_WEIGHTS, SNAPSHOTS, Point

#: Differences smaller than this, of leakage or identity, are none worth the name.
MARGIN = 0.05
#: What two frontiers must share: of identity, and of text alignment.
LEAST = {"identity": 0.02, "text": 1.0}
LEAKS = ("leak_any", "leak_expression", "leak_lighting", "leak_hat", "leak_background")


@dataclass(frozen=True)
class Frontier:
    """Everything measured of a point at a budget: measure -> [weights, people]."""

    point: Point
    budget: str
    rows: dict[str, np.ndarray]

    def over(self, matched: str, compared: str) -> tuple[Rows, np.ndarray]:
        """What `frontier.compare` takes of a seed; more weight is spent for identity."""
        return (self.rows[matched], self.rows[compared]), self.rows["identity"]


def _values(rows: dict[str, list[float | None]]) -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=float) for name, values in rows.items()}


def normalise(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """A file's rows, identity scaled so that a stranger is 0 and the true clip 1."""
    rows = _values(found["rows"])
    rows["identity"] = (rows["identity"] - found["stranger"]) / (found["own"] - found["stranger"])
    return rows


def read_frontiers(folder: Path) -> dict[tuple[str, str], Frontier]:
    """(name of the point, budget) -> frontier, of those measured at every weight."""
    found = {}
    for point in POINTS:
        for budget in BUDGETS:
            files = [folder / point.name / f"{budget}-w{w:g}.json" for w in REFERENCE_WEIGHTS]
            if not all(file.is_file() for file in files):
                continue
            weights = [normalise(json.loads(file.read_text())) for file in files]
            rows = {name: np.stack([w[name] for w in weights]) for name in weights[0]}
            found[point.name, budget] = Frontier(point, budget, rows)
    return found


Frontiers = dict[tuple[str, str], Frontier]


def seeds_of(found: Frontiers, budget: str, *cells: tuple[str, str]) -> list[int]:
    """Seeds that all of these (placement, arm) have at a budget."""
    seeds = sorted({point.seed for point in POINTS})
    return [
        seed for seed in seeds if all((Point(*cell, seed).name, budget) in found for cell in cells)
    ]


@dataclass(frozen=True)
class Question:
    """First minus second, `compared` at matched `matched`; see EXPERIMENT.md for the letters."""

    letter: str
    budget: str
    first: tuple[str, str]
    second: tuple[str, str]
    matched: str = "identity"
    compared: str = "leak_any"

    def __str__(self) -> str:
        what = {"leak_any": "leakage", "identity": "identity", "text": "text"}
        names = " minus ".join("-".join(cell) for cell in (self.first, self.second))
        return f"{names}, {what[self.compared]} at matched {what[self.matched]}, {self.budget}"

    def answer(self, found: Frontiers) -> Difference | None:
        """None where a seed of both isn't measured yet."""
        seeds = seeds_of(found, self.budget, self.first, self.second)
        if not seeds:
            return None
        first, second = (
            [
                found[Point(*cell, seed).name, self.budget].over(self.matched, self.compared)
                for seed in seeds
            ]
            for cell in (self.first, self.second)
        )
        return compare(first, second, least=LEAST[self.matched])


QUESTIONS = (
    Question("a", "late", ("overlap", "off"), ("overlap", "on")),
    Question("b", "late", ("tass", "off"), ("tass", "on")),
    Question("c", "early", ("overlap", "off"), ("tass", "off")),
    Question("d", "late", ("overlap", "off"), ("tass", "off")),
    Question("e", "early", ("overlap", "on"), ("tass", "on")),
    Question("f", "late", ("overlap", "on"), ("tass", "on")),
    Question("g", "late", ("overlap", "off"), ("overlap", "on"), "text", "identity"),
    Question("h", "late", ("overlap", "on"), ("tass", "on"), "text", "identity"),
)
#: Beyond the eight: asked of whatever is there, without a verdict.
EXPLORED = (
    *(Question("", "early", (place, "off"), (place, "on")) for place in ("overlap", "tass")),
    Question("", "late", ("tass", "off"), ("tass", "on"), "text", "identity"),
    Question("", "late", ("overlap", "off"), ("tass", "off"), "text", "identity"),
    *(Question("", "late", (place, "cross"), (place, "on")) for place in ("overlap", "tass")),
    Question("", "late", ("overlap", "cross"), ("tass", "cross")),
    *(
        Question("", "late", (place, arm), ("tass", arm))
        for place in ("spatial", "strata", "far", "shift0.5", "shift2")
        for arm in ("off", "on")
    ),
)


def verdict(answer: Difference, adjusted: float) -> str:
    """A question's answer in the words of EXPERIMENT.md."""
    if answer.seeds < 2:
        return "exploratory: one seed"
    if np.isnan(answer.mean):
        return "undecided: the frontiers share too little"
    if adjusted < 0.05:
        return "yes" if answer.mean > 0 else "the reverse"
    if answer.low > -MARGIN and answer.high < MARGIN:
        return "no difference worth the name"
    return "undecided"


def _number(value: float, digits: int = 3) -> str:
    return "–" if np.isnan(value) else f"{value:+.{digits}f}"


def question_table(found: Frontiers, questions: Sequence[Question]) -> list[str]:
    """Markdown rows; the confirmatory ones (with letters) are corrected together."""
    answers = [question.answer(found) for question in questions]
    # A question that can't be answered yet stays among those corrected for.
    p = holm(np.array([1.0 if answer is None else answer.p for answer in answers]))
    lines = [
        "| question | difference | shared range | seeds | p | p (Holm) | |",
        "|---|---|---|---|---|---|---|",
    ]
    for question, answer, adjusted in zip(questions, answers, p, strict=True):
        name = f"{question.letter}. {question}" if question.letter else str(question)
        if answer is None:
            lines.append(f"| {name} | not measured | | 0 | | | |")
            continue
        interval = f"[{_number(answer.low)}, {_number(answer.high)}]"
        shared = f"{answer.shared[0]:.2f} .. {answer.shared[1]:.2f}"
        last = verdict(answer, adjusted) if question.letter else "exploratory"
        holms = f"{adjusted:.3f}" if question.letter else ""
        lines.append(
            f"| {name} | {_number(answer.mean)} {interval} | {shared} | {answer.seeds} | "
            f"{answer.p:.3f} | {holms} | {last} |"
        )
    return lines


def _cells() -> list[tuple[str, str]]:
    return list(dict.fromkeys((point.placement, point.arm) for point in POINTS))


def weight_table(found: Frontiers, budget: str, weight: float) -> list[str]:
    """Markdown rows of every cell at one weight of the reference, with intervals."""
    at = REFERENCE_WEIGHTS.index(weight)
    lines = [
        "| trained | seeds | identity | text | copy-paste | background right | leakage | "
        "expression / light / hat / background |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in _cells():
        seeds = seeds_of(found, budget, cell)
        if not seeds:
            continue
        rows = [found[Point(*cell, seed).name, budget].rows for seed in seeds]

        def shown(name: str, digits: int, rows: list[dict[str, np.ndarray]] = rows) -> str:
            mean, low, high = mean_interval(np.stack([row[name][at] for row in rows]))
            return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

        shares = " / ".join(
            f"{100 * np.nanmean([row[name][at] for row in rows]):.0f} %" for name in LEAKS[1:]
        )
        background = np.mean([row["background"][at] for row in rows])
        lines.append(
            f"| {', '.join(cell)} | {len(seeds)} | {shown('identity', 2)} | {shown('text', 1)} | "
            f"{np.nanmean([row['copy_paste'][at] for row in rows]):+.3f} | {background:.2f} | "
            f"{shown('leak_any', 2)} | {shares} |"
        )
    return lines


def read_errors(folder: Path, point: Point, step: int) -> dict[str, dict[str, np.ndarray]] | None:
    """Level -> reference -> error by person; None where it isn't measured."""
    file = folder / point.name / f"reading-{step:04d}.json"
    if not file.is_file():
        return None
    return {level: _values(rows) for level, rows in json.loads(file.read_text())["error"].items()}


def reading_table(folder: Path, level: str) -> list[str]:
    """Markdown rows over training: what is read of the person, the error with a stranger's
    reference less that with the own; and what copying gains, that less the clip's own frame's."""
    kinds = [f"{kind}, {step}" for kind in ("person", "copying") for step in SNAPSHOTS]
    lines = [f"| trained | seeds | {' | '.join(kinds)} |", "|---|---|" + "---|" * len(kinds)]
    for cell in _cells():
        by_seed = [
            [read_errors(folder, Point(*cell, seed), step) for step in SNAPSHOTS]
            for seed in range(3)
        ]
        whole = [found for found in by_seed if all(found)]
        if not whole:
            continue
        parts = []
        for worse, better in (("stranger", "own"), ("own", "same")):
            for k in range(len(SNAPSHOTS)):
                differences = [
                    found[k][level][worse] - found[k][level][better]  # type: ignore[index]
                    for found in whole
                ]
                parts.append(f"{np.mean(differences):.4f}")
        lines.append(f"| {', '.join(cell)} | {len(whole)} | " + " | ".join(parts) + " |")
    return lines


def tables(folder: Path) -> Iterable[str]:
    """All of the results' tables in Markdown."""
    found = read_frontiers(folder)
    yield "### The eight questions\n"
    yield from question_table(found, QUESTIONS)
    for budget in dict.fromkeys(budget for _, budget in found):
        yield f"\n### At one weight: w_ref 4, {budget} ({BUDGETS[budget]} steps)\n"
        yield from weight_table(found, budget, 4.0)
    yield "\n### Reading over training, squared error at noise level 0.9\n"
    yield from reading_table(folder, "0.9")
    yield "\n### Explored beyond them\n"
    asked = [q for q in EXPLORED if seeds_of(found, q.budget, q.first, q.second)]
    yield from question_table(found, asked)
