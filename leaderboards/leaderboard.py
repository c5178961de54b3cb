"""The leaderboard: entries against columns, each mean with its interval, places, tests and pairs.

`Leaderboard.from_run("runs/quick")` reads a run folder, `from_runs` several, `from_table` a CSV or
Parquet file, and `from_sources` any mixture, so that other people's models stand beside ours. How
a table is printed and written is `leaderboards.tables`' business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leaderboards import comparisons, ranking, statistics
from leaderboards.assembly import assemble
from leaderboards.common_samples import common_samples, set_effects
from leaderboards.errors import LeaderboardError
from leaderboards.pooling import combine, group_by, pick
from leaderboards.ranking import Ranking, Standing
from leaderboards.runs import read_run
from leaderboards.score_tables import read_table
from leaderboards.scores import (
    Column,
    Earlier,
    Entry,
    OnMixed,
    Rows,
    Scores,
    axis_text,
    key_named,
    video_counts,
)
from leaderboards.sources import read_source


@dataclass(frozen=True)
class Cell:
    """One number of the table: mean with interval, how many values it has and how many failed.

    low and high are NaN where nothing says how uncertain the mean is; failed counts planned videos
    without a value, which count as the worst value in the mean unless they are dropped. `best`: the
    best mean of its column; `second`: the next one; `tied`: the paired comparison does not tell it
    from the best (always true of the best itself).
    """

    mean: float
    low: float
    high: float
    n: int | None
    failed: int
    best: bool
    second: bool
    tied: bool

    @property
    def half_width(self) -> float:
        """Half of the interval's width; NaN where there is no interval."""
        return (self.high - self.low) / 2


class Leaderboard:
    """A ranked table of entries.

    Args:
        rows: scores as read by `read_run` or `read_table`.
        rank: what the order is by: a `Ranking`, or the name of a scheme or a column. What the run
            declares where None.
        draws: bootstrap resamples of identities behind intervals of means and places.
        confidence: coverage of the intervals, and 1 minus the level of the tests.
        seed: seed of the resampling; the same seed gives the same bytes in every export.
        on_mixed: "refuse" raises where a column would mix backends, versions or sample sets;
            "blank" leaves the minority's cells empty and says so in `notes`; sets that lack failed
            videos are refused, or count these as the worst value.
        trust_published: let means without samples stand beside measured ones.

    Attributes:
        entries: the rows, best first; unranked ones last.
        columns: the columns, in the order in which they were read.
        means: float [E, C], NaN where missing; `lows`, `highs` alike. All entries' means in a
            column are over the same samples.
        methods: the interval's name for each column, "" where there is none.
        scheme: what counts; `scheme.rule` says it in words.
        totals: rank sums or scores [E], NaN for an unranked entry.
        ranks: int [E, C], rank of each entry in each column that has a direction.
        notes: sentences that whoever reads the table must know, the rule among them.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        rank: Ranking | str | None = None,
        draws: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
        on_mixed: OnMixed = "refuse",
        trust_published: bool = False,
    ) -> None:
        self._rows = rows
        self._settings: dict[str, Any] = {
            "rank": rank,
            "draws": draws,
            "confidence": confidence,
            "seed": seed,
            "on_mixed": on_mixed,
            "trust_published": trust_published,
        }
        self.ranking = ranking.declared(rank, rows.ranks)
        self.draws, self.confidence, self.seed = draws, confidence, seed
        scores = assemble(rows, on_mixed, trust_published)
        common = common_samples(scores, drop=self.ranking.missing == "drop")
        self.columns: tuple[Column, ...] = scores.columns
        self._few = [
            statistics.few_values(values, column.low, column.high)
            for values, column in zip(common.values, scores.columns)
        ]
        means, lows, highs, sizes = self._means(scores, common.values)
        counted = means.copy()
        for (i, j), summary in common.summaries.items():
            counted[i, j] = summary.value
            # What counts in the place of a number that was not comparable is not shown for it.
            if summary is scores.summaries[i, j]:
                means[i, j], lows[i, j], highs[i, j] = summary.value, summary.low, summary.high
            sizes[i, j] = math.nan if summary.n is None else summary.n
        self.scheme = ranking.resolve(self.ranking, scores.columns, counted)
        totals = ranking.totals(self.scheme, scores.columns, counted)
        bad = np.where(np.isnan(totals), np.inf, self.scheme.badness(totals))
        order = sorted(
            range(len(bad)), key=lambda i: (bad[i], scores.entries[i].label, scores.entries[i].key)
        )
        self._scores = scores.reordered(order)
        self._values = common.values[:, order]
        self.entries: tuple[Entry, ...] = self._scores.entries
        self.means, self.lows, self.highs = means[order], lows[order], highs[order]
        self._sizes, self.totals = sizes[order], totals[order]
        self._counted = counted[order]
        self._effects = set_effects(scores, common.summaries)[:, order]
        self.ranks = ranking.challenge_ranks(ranking.settle(self._counted), scores.columns)
        self.notes = [*scores.notes, self.scheme.rule, *common.notes, *self._remarks(scores)]

    def _means(
        self, scores: Scores, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(means, lows, highs, sizes) [E, C] of values [C, E, K] on common samples."""
        c, e, k = values.shape
        ends = np.array([few or (math.nan, math.nan) for few in self._few]).reshape(c, 2)
        flat = statistics.cluster_means(
            values.reshape(c * e, k).T,
            scores.clusters,
            ends=np.repeat(ends, e, axis=0),
            draws=self.draws,
            confidence=self.confidence,
            seed=self.seed,
        )
        means, lows, highs = (a.reshape(c, e).T.copy() for a in (flat.mean, flat.low, flat.high))
        for j, column in enumerate(scores.columns):  # an interval does not leave a metric's range
            if column.low is not None:
                lows[:, j] = np.minimum(np.maximum(lows[:, j], column.low), means[:, j])
            if column.high is not None:
                highs[:, j] = np.maximum(np.minimum(highs[:, j], column.high), means[:, j])
        self.methods = tuple(
            next((name for name in names if name), "") for names in flat.method.reshape(c, e)
        )
        self._one_identity = bool(c * e and k and flat.clusters.max() == 1)
        return means, lows, highs, np.isfinite(scores.values).sum(axis=2).T.astype(float)

    def _remarks(self, scores: Scores) -> list[str]:
        """Notes on what is in the table."""
        notes = []
        if statistics.STUDENT in self.methods:
            notes.append(f"Intervals: {statistics.STUDENT}; resampling so few would mislead.")
        if self._one_identity:
            notes.append("All samples are of one identity, so there is no interval.")
        alike = [
            column.title
            for c, column in enumerate(self.columns)
            if column.sign and ranking.constant(self.means[:, c])
        ]
        if alike:
            notes.append(f"The same for all entries: {', '.join(alike)}.")
        counted = set(self.scheme.columns)
        pairs = ranking.redundant(self.means, self.columns)
        # Among few entries many pairs agree by chance: few are named, first those that count.
        pairs.sort(key=lambda pair: (-len(counted & set(pair[:2])), -abs(pair[2])))
        same = [
            f"{self.columns[a].title} and {self.columns[b].title} ({rho:+.2f})"
            for a, b, rho in pairs[:3]
        ]
        if same:
            more = f"; and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
            notes.append(
                f"Columns that order the entries alike (Spearman's rho): {'; '.join(same)}{more}."
            )
        alone = [
            c
            for c in self.scheme.columns
            if self.columns[c].level != "sample" and np.isnan(self._effects[c]).any()
        ]
        if alone and len(scores.keys):
            known = np.isfinite(self._interval_errors()[:, alone]).any()
            notes.append(
                f"In the intervals of places {', '.join(self.columns[c].title for c in alone)} "
                f"{'is drawn from its own interval' if known else 'is held fixed'}, apart from the "
                "samples: its source does not say what each person does to it."
            )
        if len({entry.label for entry in self.entries}) < len(self.entries):
            notes.append("Some entries share a label; the entry's key tells them apart.")
        if any(entry.mismatch for entry in self.entries):
            notes.append(
                "Entries marked * place the reference where their checkpoint was not trained to "
                "have it, so they do not show what the placement can do."
            )
        if self.earlier:
            videos = sum(one.videos for one in self.earlier)
            notes.append(
                f"{videos} videos that earlier plans made ({len(self.earlier)} settings) are not "
                "in the table; earlier.csv and the page have them under their own heading."
            )
        notes += [f"No {metric}: {why}" for metric, why in sorted(scores.absent.items())]
        if len(scores.videos):
            pending = int((scores.videos["status"] == "pending").sum())
            if pending:
                left = "1 video is" if pending == 1 else f"{pending} videos are"
                notes.append(f"{left} still to be generated; the table is not final.")
        return notes

    # ----------------------------------------------------------------- building

    @classmethod
    def from_run(cls, run: str | Path, **settings: Any) -> Leaderboard:
        """The leaderboard of one run folder. Settings as in the class."""
        return cls(read_run(run), **settings)

    @classmethod
    def from_runs(cls, runs: Iterable[str | Path], **settings: Any) -> Leaderboard:
        """The leaderboard of several run folders side by side."""
        return cls(combine([read_run(run) for run in runs]), **settings)

    @classmethod
    def from_table(
        cls,
        table: str | Path | pd.DataFrame,
        *,
        entry: str | None = None,
        backend: str = "",
        directions: Mapping[str, bool | str] | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        **settings: Any,
    ) -> Leaderboard:
        """The leaderboard of a CSV, TSV, Parquet file or DataFrame; see `read_table` for its
        shapes.

        >>> import pandas as pd
        >>> board = Leaderboard.from_table(pd.DataFrame(
        ...     {"team": ["a", "b"], "Face-Arc ^": [0.47, 0.44], "FID v": [170, 214]}))
        >>> [(entry.key, int(total)) for entry, total in zip(board.entries, board.rank_sums)]
        [('a', 2), ('b', 4)]
        """
        rows = read_table(table, entry=entry, backend=backend, directions=directions, ranges=ranges)
        return cls(rows, **settings)

    @classmethod
    def from_sources(cls, sources: Iterable[str | Path | Rows], **settings: Any) -> Leaderboard:
        """The leaderboard of run folders, score tables and rows already read, in any mixture."""
        return cls(combine([read_source(source) for source in sources]), **settings)

    def by(self, axis: str) -> Leaderboard:
        """The same scores with all entries of one value of `axis` pooled into one."""
        return Leaderboard(group_by(self._rows, axis), **self._settings)

    def only(self, entries: Iterable[str] | None = None, columns: Iterable[str] | None = None,
             **axes: Any) -> Leaderboard:  # fmt: skip
        """The leaderboard of some entries and columns, by key or label, and by axis values.

        Ranks, ties and intervals are recomputed. Raises LeaderboardError where nothing is left
        or a name is unknown.
        """
        rows = self._rows
        kept = list(rows.entries)
        if entries is not None:
            wanted = {self.entry(name).key for name in entries}
            kept = [entry for entry in kept if entry.key in wanted]
        for axis, value in axes.items():
            kept = [
                e for e in kept if axis in e.axes and axis_text(e.axes[axis]) == axis_text(value)
            ]
        if not kept:
            raise LeaderboardError("no entry is left: loosen the filter.")
        pairs = None
        if columns is not None:
            pairs = {(c.metric, c.backend) for c in map(self.column, columns)}
        return Leaderboard(pick(rows, kept, pairs), **self._settings)

    # ----------------------------------------------------------------- reading

    def entry(self, name: str) -> Entry:
        """The entry with this key, label, or unambiguous beginning of a key."""
        key = key_named(name, {entry.key: entry.label for entry in self.entries})
        return next(entry for entry in self.entries if entry.key == key)

    def column(self, name: str) -> Column:
        """The column with this key, metric or label."""
        for attribute in ("key", "metric", "label"):
            matches = [c for c in self.columns if getattr(c, attribute) == name]
            if len(matches) == 1:
                return matches[0]
        known = ", ".join(column.key for column in self.columns)
        raise LeaderboardError(f"{name!r} is not a column: give one of {known}.")

    def cell(self, entry: int, column: int) -> Cell:
        """The cell at a row and column index."""
        size = self._sizes[entry, column]
        mean = self.means[entry, column]
        distinct = self._distinct_means[column]
        return Cell(
            mean=float(mean),
            low=float(self.lows[entry, column]),
            high=float(self.highs[entry, column]),
            n=None if math.isnan(size) else int(size),
            failed=self.failed_scores(entry, column),
            best=bool(len(distinct) and mean == distinct[0]),
            second=bool(len(distinct) > 1 and mean == distinct[1]),
            tied=bool(self.tied_with_best[entry, column]),
        )

    @cached_property
    def _distinct_means(self) -> list[np.ndarray]:
        """For each column its distinct means, best first."""
        return [
            column.sign * -np.unique(-column.sign * self.means[~np.isnan(self.means[:, j]), j])
            if column.sign
            else np.zeros(0)
            for j, column in enumerate(self.columns)
        ]

    def failed_scores(self, entry: int, column: int) -> int:
        """Planned videos of an entry that have no value in a column (and are not pending)."""
        scores = self._scores
        if self.columns[column].level != "sample":
            cell = scores.summaries.get((entry, column))
            return (cell.planned or 0) - (cell.n or 0) if cell and cell.planned else 0
        planned = int(scores.planned[column, entry].sum())
        if not planned:
            return 0
        missing = planned - int(np.isfinite(scores.values[column, entry]).sum())
        return max(0, missing - self.counts[entry]["pending"])

    @cached_property
    def counts(self) -> list[dict[str, int]]:
        """For each entry: videos "planned", "done", "failed" and "pending".

        A table without videos counts samples: done is any with a value, failed those without.
        """
        return video_counts(self._scores, self._sizes)

    @property
    def face_rates(self) -> list[float]:
        """For each entry the share of frames with a face, in 0..1; NaN where nobody measured it."""
        return [self._scores.face_rate.get(entry.key, math.nan) for entry in self.entries]

    @property
    def earlier(self) -> tuple[Earlier, ...]:
        """What earlier plans of the runs made: not in the table, and not ranked."""
        return self._rows.earlier

    @property
    def planned_entries(self) -> tuple[Entry, ...]:
        """The entries in the order in which they were read: a sweep's own."""
        return tuple(self._rows.entries)

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Each axis with its values, in the order in which the run planned them."""
        out: dict[str, list[Any]] = {}
        for entry in self._rows.entries:
            for name, value in entry.axes.items():
                values = out.setdefault(name, [])
                if value not in values:
                    values.append(value)
        return out

    @property
    def common(self) -> np.ndarray:
        """float [C, E, K]: values on common samples, failures counted; what means and tests are of.

        NaN outside a column's common samples and where an entry takes no part.
        """
        return self._values

    @property
    def scores(self) -> Scores:
        """The values behind the table, entries in the table's order."""
        return self._scores

    # ----------------------------------------------------------------- places

    @cached_property
    def _placed(self) -> tuple[list[Standing], np.ndarray]:
        """Standings and the decided order, both from common samples."""
        told = ranking.told_apart(
            self.scheme, self.columns, self._values, self._flipped, self.confidence
        )
        drawn = ranking.draw_means(
            self.scheme, self._values, self._scores.clusters, self._counted,
            self._interval_errors(), self._effects,
            draws=self.draws, seed=self.seed,
        )  # fmt: skip
        return ranking.place(self.scheme, self.columns, self._counted, drawn, told, self.confidence)

    def _interval_errors(self) -> np.ndarray:
        """float [E, C]: standard errors of set-level and published means, from their intervals."""
        from scipy.stats import norm

        return (self.highs - self.lows) / (2 * norm.ppf((1 + self.confidence) / 2))

    @property
    def standings(self) -> list[Standing]:
        """Where each entry stands, with the place's interval and P(first); see `Standing`."""
        return self._placed[0]

    @property
    def ahead(self) -> np.ndarray:
        """bool [E, E]: it is decided that the row's entry is ahead of the column's."""
        return self._placed[1]

    @property
    def places(self) -> np.ndarray:
        """Place of each entry, 1 is best, equal totals share one; None for an unranked entry."""
        return np.array([standing.place for standing in self.standings], dtype=object)

    @property
    def rank_sums(self) -> np.ndarray:
        """`totals` of a scheme that adds ranks."""
        return self.totals

    @property
    def total_name(self) -> str:
        """What `totals` are."""
        return "Score" if self.scheme.is_score else "Rank sum"

    def total_text(self, entry: int) -> str:
        """An entry's rank sum or score, an en dash for an unranked entry."""
        total = self.totals[entry]
        return (
            "–" if math.isnan(total) else f"{total:.3f}" if self.scheme.is_score else f"{total:g}"
        )

    @property
    def interval_method(self) -> str:
        """How the intervals of means were made, in words."""
        names = list(dict.fromkeys(name for name in self.methods if name))
        if len(names) < 2:
            return f"{''.join(names)} over identities" if names else ""
        return "; ".join(
            f"{name}: "
            + ", ".join(c.title for c, method in zip(self.columns, self.methods) if method == name)
            for name in names
        )

    # ----------------------------------------------------------------- comparing

    @cached_property
    def primary(self) -> Column | None:
        """The column that comparisons are by: identity's, else the first that has samples."""
        found = ranking.primary("identity", self.columns, self.means)
        if found is not None and self.columns[found].level == "sample":
            return self.columns[found]
        return next((c for c in self.columns if c.level == "sample" and c.sign), None)

    def axis_columns(self) -> tuple[Column, Column] | None:
        """The pair that the plot and the front use: the columns of identity and text alignment."""
        pair = [ranking.primary(f, self.columns, self.means) for f in ("identity", "text")]
        if pair[0] is None or pair[1] is None:
            return None
        return self.columns[pair[0]], self.columns[pair[1]]

    def _column_index(self, column: Column) -> int:
        return next(i for i, c in enumerate(self.columns) if c.key == column.key)

    @cached_property
    def tied_with_best(self) -> np.ndarray:
        """bool [E, C]: the paired comparison does not tell a mean from the best of its column."""
        level = 1 - self.confidence + 1e-12
        return comparisons.tied_with_best(
            self.columns, self.means, self.lows, self.highs, self._flipped, level
        )

    @cached_property
    def _flipped(self) -> statistics.FlippedPairs:
        """Every pair of entries in every column, compared by flips that all columns share."""
        return statistics.FlippedPairs(
            self._values, self._scores.clusters, draws=2 * self.draws, seed=self.seed
        )

    def compare(
        self, column: str | None = None, *, entries: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Every pair of entries on one column, tested on the common samples.

        Returns one row per pair: a, b (labels), difference (a minus b), low, high, n (samples),
        identities, p (sign flips of whole identities; it agrees with the interval), p_adjusted
        (against the largest difference of all pairs), decided (p_adjusted at the level).
        """
        chosen = self.primary if column is None else self.column(column)
        if chosen is None or chosen.level != "sample":
            name = chosen.key if chosen else "(none)"
            raise LeaderboardError(
                f"column {name!r} has no samples, so entries cannot be paired: give "
                "per-sample scores."
            )
        c = self._column_index(chosen)
        wanted = None if entries is None else {self.entry(name).key for name in entries}
        indices = [
            i for i, entry in enumerate(self.entries) if wanted is None or entry.key in wanted
        ]
        if len(indices) < 2:
            raise LeaderboardError("a comparison needs two entries: there is only one.")
        few = self._few[c]
        return comparisons.pairs(
            [self.entries[i].label for i in indices],
            self._values[c][indices],
            self._scores.clusters,
            span=None if few is None else few[1] - few[0],
            confidence=self.confidence,
            seed=self.seed,
        )

    def paired(
        self, column: int, differences: np.ndarray, averaged: bool = False
    ) -> statistics.Differences:
        """Paired tests of differences [M, K] between entries on a column; see `paired_tests`.

        averaged: the differences are means over several pairs, so that they are no longer of the
        few values that a column may have.
        """
        few = None if averaged else self._few[column]
        return statistics.paired_tests(
            differences.T,
            self._scores.clusters,
            span=None if few is None else few[1] - few[0],
            confidence=self.confidence,
            seed=self.seed,
        )

    def pareto(self, x: str | None = None, y: str | None = None) -> list[bool]:
        """Which entries no other beats on both columns (identity and text where not given)."""
        if x is None or y is None:
            pair = self.axis_columns()
            if pair is None:
                raise LeaderboardError(
                    "the table has no identity and text columns to weigh: name two columns."
                )
            first, second = pair
        else:
            first, second = self.column(x), self.column(y)
        a, b = (
            column.sign * self.means[:, self._column_index(column)] for column in (first, second)
        )
        return [bool(on) for on in ranking.pareto_front(a, b)]

    # ----------------------------------------------------------------- showing

    def failures(self) -> pd.DataFrame:
        """What went wrong, a row each: entry, sample, seed, what (a video or a metric), reason."""
        labels = {entry.key: entry.label for entry in self.entries}
        videos = self._scores.videos
        failed = videos[videos["status"] == "failed"] if len(videos) else videos
        parts = [
            failed[["entry", "sample", "seed", "reason"]].assign(what="video"),
            self._scores.failures.rename(columns={"metric": "what"}),
        ]
        out = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        out["entry"] = out["entry"].map(labels)
        return out[["entry", "sample", "seed", "what", "reason"]].fillna({"reason": ""})

    def __repr__(self) -> str:
        return f"Leaderboard({len(self.entries)} entries x {len(self.columns)} columns)"
