"""The leaderboard: entries against columns, each mean with its interval, ranks, tests and groups.

`Leaderboard.from_run("runs/quick")` reads a run folder, `from_runs` several, `from_table` a CSV or
Parquet file, and `from_sources` any mixture, so that other people's models stand beside ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from leaderboards import ranking, statistics
from leaderboards.assembly import assemble
from leaderboards.errors import LeaderboardError
from leaderboards.pooling import combine, group_by
from leaderboards.runs import read_run
from leaderboards.score_tables import read_table
from leaderboards.scores import Column, Entry, OnMixed, Rows, Scores, axis_text

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Cell:
    """One number of the table: mean with interval, how many values it has and how many failed.

    low and high are NaN where nothing says how uncertain the mean is; failed counts planned videos
    without a value. `best`: the best mean of its column; `second`: the next one; `tied`: the paired
    test does not tell it from the best (always true of the best itself).
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
        draws: bootstrap resamples of identities behind each interval.
        confidence: coverage of the intervals, and 1 minus the level of the tests.
        seed: seed of the resampling; the same seed gives the same bytes in every export.
        on_mixed: "refuse" raises where a column would mix backends, versions or sample sets;
            "blank" leaves the minority's cells empty and says so in `notes`.
        trust_published: let means without samples stand beside measured ones.

    Attributes:
        entries: the rows, best rank sum first.
        columns: the columns, in the order in which they were read.
        means: float [E, C], NaN where missing; `lows`, `highs` alike.
        notes: sentences that whoever reads the table must know.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        draws: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
        on_mixed: OnMixed = "refuse",
        trust_published: bool = False,
    ) -> None:
        self._rows = rows
        self._settings: dict[str, Any] = {
            "draws": draws,
            "confidence": confidence,
            "seed": seed,
            "on_mixed": on_mixed,
            "trust_published": trust_published,
        }
        self.draws, self.confidence, self.seed = draws, confidence, seed
        scores = assemble(rows, on_mixed, trust_published)
        self.notes = list(scores.notes)
        c, e, k = scores.values.shape
        flat = statistics.cluster_means(
            scores.values.reshape(c * e, k).T,
            scores.clusters,
            draws=draws,
            confidence=confidence,
            seed=seed,
        )
        means, lows, highs = (a.reshape(c, e).T.copy() for a in (flat.mean, flat.low, flat.high))
        counts = flat.n.reshape(c, e).T.copy()
        for j, column in enumerate(scores.columns):  # an interval does not leave a metric's range
            if column.low is not None:
                lows[:, j] = np.maximum(lows[:, j], column.low)
            if column.high is not None:
                highs[:, j] = np.minimum(highs[:, j], column.high)
        sizes = counts.astype(float)
        for (i, j), summary in scores.summaries.items():
            means[i, j], lows[i, j], highs[i, j] = summary.value, summary.low, summary.high
            sizes[i, j] = math.nan if summary.n is None else summary.n
        if flat.method.startswith("Student") and np.isfinite(lows).any():
            self.notes.append(f"Intervals: {flat.method}; resampling so few would mislead.")
        if c * e and k and flat.clusters.max() == 1:
            self.notes.append("All samples are of one identity, so there is no interval.")
        ranks = ranking.challenge_ranks(means, scores.columns)
        order = sorted(
            range(e), key=lambda i: (ranks[i].sum(), scores.entries[i].label, scores.entries[i].key)
        )
        self._scores = _reorder(scores, order)
        self.entries: tuple[Entry, ...] = self._scores.entries
        self.columns: tuple[Column, ...] = scores.columns
        self.means, self.lows, self.highs = means[order], lows[order], highs[order]
        self._sizes = sizes[order]
        self.ranks = ranks[order]
        self.rank_sums = self.ranks.sum(axis=1)
        self.places = ranking.shared_ranks(self.rank_sums.astype(float))
        self.interval_method = flat.method
        if len({entry.label for entry in self.entries}) < len(self.entries):
            self.notes.append("Some entries share a label; the entry's key tells them apart.")
        if any(entry.mismatch for entry in self.entries):
            self.notes.append(
                "Entries marked * place the reference where their checkpoint was not trained "
                "to have "
                "it, so they do not show what the placement can do."
            )
        self.notes += [f"No {metric}: {why}" for metric, why in sorted(scores.absent.items())]
        if len(scores.videos):
            pending = int((scores.videos["status"] == "pending").sum())
            if pending:
                self.notes.append(f"{pending} videos are still to be made; the table is not final.")

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
        parts = []
        for source in sources:
            if isinstance(source, Rows):
                parts.append(source)
            else:
                parts.append(read_run(source) if Path(source).is_dir() else read_table(source))
        return cls(combine(parts), **settings)

    def by(self, axis: str) -> Leaderboard:
        """The same scores with all entries of one value of `axis` pooled into one."""
        return Leaderboard(group_by(self._rows, axis), **self._settings)

    def only(self, entries: Iterable[str] | None = None, columns: Iterable[str] | None = None,
             **axes: Any) -> Leaderboard:  # fmt: skip
        """The leaderboard of some entries and columns, by key or label, and by axis values.

        Ranks, ties and intervals are computed anew. Raises LeaderboardError where nothing is left
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
        keys = {entry.key for entry in kept}
        changed: dict[str, Any] = {"entries": kept}
        for name in ("scores", "summaries", "videos", "failures"):
            frame = getattr(rows, name)
            changed[name] = frame[frame["entry"].isin(list(keys))]
        if columns is not None:
            wanted_columns = [self.column(name) for name in columns]
            pairs = {(column.metric, column.backend) for column in wanted_columns}
            for name in ("scores", "summaries"):
                frame = changed[name]
                inside = [(m, b) in pairs for m, b in zip(frame["metric"], frame["backend"])]
                changed[name] = frame[np.array(inside, dtype=bool)]
        return Leaderboard(Rows(**{**rows.__dict__, **changed}), **self._settings)

    # ----------------------------------------------------------------- reading

    def entry(self, name: str) -> Entry:
        """The entry with this key, label, or unambiguous beginning of a key."""
        for matches in (
            [e for e in self.entries if e.key == name],
            [e for e in self.entries if e.label == name],
            [e for e in self.entries if e.key.startswith(name)],
        ):
            if len(matches) == 1:
                return matches[0]
            if matches:
                break
        known = ", ".join(entry.label for entry in self.entries[:12])
        what = "names several entries" if matches else "is no entry"
        raise LeaderboardError(f"{name!r} {what}: give one of {known}.")

    def column(self, name: str) -> Column:
        """The column with this key, metric or label."""
        for attribute in ("key", "metric", "label"):
            matches = [c for c in self.columns if getattr(c, attribute) == name]
            if len(matches) == 1:
                return matches[0]
        known = ", ".join(column.key for column in self.columns)
        raise LeaderboardError(f"{name!r} is no column: give one of {known}.")

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
            return 0
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
        videos = self._scores.videos
        out = []
        found: dict[Any, int] = {}
        if len(videos):
            found = videos.groupby(["entry", "status"]).size().to_dict()
        seen = {entry for entry, _ in found}
        for i, entry in enumerate(self.entries):
            if entry.key in seen:
                counts = {
                    s: int(found.get((entry.key, s), 0)) for s in ("done", "failed", "pending")
                }
            else:
                planned = self._scores.planned[:, i].any(axis=0)
                done = np.isfinite(self._scores.values[:, i]).any(axis=0)
                counts = {
                    "done": int(done.sum()),
                    "failed": int((planned & ~done).sum()),
                    "pending": 0,
                }
                if not planned.any():
                    sizes = self._sizes[i][np.isfinite(self._sizes[i])]
                    counts["done"] = int(sizes.max()) if len(sizes) else 0
            out.append({"planned": sum(counts.values()), **counts})
        return out

    @property
    def face_rates(self) -> list[float]:
        """For each entry the share of frames with a face, in 0..1; NaN where nobody measured it."""
        return [self._scores.face_rate.get(entry.key, math.nan) for entry in self.entries]

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
    def scores(self) -> Scores:
        """The values behind the table, entries in the table's order."""
        return self._scores

    # ----------------------------------------------------------------- comparing

    @cached_property
    def primary(self) -> Column | None:
        """The column that groups ties: the first identity column with samples, else the first."""
        with_samples = [c for c in self.columns if c.level == "sample" and c.sign]
        identity = [column for column in with_samples if _role(column) == "identity"]
        return next(iter(identity or with_samples), None)

    def axis_columns(self) -> tuple[Column, Column] | None:
        """The pair that the plot and the front use: the first identity and first text column."""
        roles: dict[str, Column] = {}
        for column in self.columns:
            roles.setdefault(_role(column), column)
        if "identity" in roles and "text" in roles:
            return roles["identity"], roles["text"]
        return None

    def _column_index(self, column: Column) -> int:
        return next(i for i, c in enumerate(self.columns) if c.key == column.key)

    @cached_property
    def tied_with_best(self) -> np.ndarray:
        """bool [E, C]: the paired test (Holm over the column) does not tell a mean from the best.

        Columns without samples cannot be tested: there only the best itself is marked.
        """
        tied = np.zeros(self.means.shape, dtype=bool)
        for c, column in enumerate(self.columns):
            there = np.flatnonzero(~np.isnan(self.means[:, c]))
            if not len(there) or not column.sign:
                continue
            best = self._best_of(there, c)
            tied[self.means[:, c] == self.means[best, c], c] = True
            if column.level != "sample":
                continue
            others = there[there != best]
            p = self._against(best, others, c)
            tied[others, c] |= ~(p < 1 - self.confidence)
        return tied

    def _best_of(self, members: np.ndarray, column: int) -> int:
        values = self.columns[column].sign * self.means[members, column]
        return int(members[int(np.argmax(values))])

    def _against(self, leader: int, others: np.ndarray, column: int) -> np.ndarray:
        """Holm-adjusted p of others against the leader on one column; NaN where untestable."""
        if not len(others):
            return np.zeros(0)
        values = self._scores.values[column]
        tests = statistics.paired_tests(
            (values[leader] - values[others]).T,
            self._scores.clusters,
            draws=max(self.draws, 4999),
            confidence=self.confidence,
            seed=self.seed,
        )
        return statistics.holm(tests.p)

    def tie_groups(self, column: str | None = None) -> list[int | None]:
        """Group entries that a column cannot tell apart: 1, 2, ... for each entry, None if missing.

        The best entry leads group 1 and takes along all that the paired test (bootstrap-t over
        identities, Holm-corrected over the leader's comparisons) does not tell from it; the best of
        the rest leads group 2, and so on. Without samples, only equal means are tied.
        """
        chosen = self.primary if column is None else self.column(column)
        chosen = chosen or next((c for c in self.columns if c.sign), None)
        if chosen is None or not chosen.sign:
            raise LeaderboardError(
                f"{column or 'the table'} has no direction to group by: name a column that has one."
            )
        c = self._column_index(chosen)
        groups: list[int | None] = [None] * len(self.entries)
        left = np.flatnonzero(~np.isnan(self.means[:, c]))
        number = 0
        while len(left):
            number += 1
            leader = self._best_of(left, c)
            others = left[left != leader]
            tied = self.means[others, c] == self.means[leader, c]
            if chosen.level == "sample":
                tied = tied | ~(self._against(leader, others, c) < 1 - self.confidence)
            for i in [leader, *others[tied]]:
                groups[int(i)] = number
            left = others[~tied]
        return groups

    def compare(
        self,
        column: str | None = None,
        *,
        test: statistics.Test = "bootstrap",
        entries: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Every pair of entries on one column, tested on the samples that both have.

        Returns a row a pair: a, b (labels), difference (a minus b), low, high, n (samples),
        identities, p, p_holm (over all pairs), significant. The bootstrap draws as often as the
        correction needs to be able to reach significance (at most 50,000 times).
        """
        chosen = self.primary if column is None else self.column(column)
        if chosen is None or chosen.level != "sample":
            name = chosen.key if chosen else "(none)"
            raise LeaderboardError(
                f"column {name!r} has no samples, so entries cannot be paired: give "
                "per-sample scores."
            )
        c = self._column_index(chosen)
        indices = [
            i
            for i, entry in enumerate(self.entries)
            if entries is None or entry.key in {self.entry(name).key for name in entries}
        ]
        pairs = [(i, j) for n, i in enumerate(indices) for j in indices[n + 1 :]]
        values = self._scores.values[c]
        draws = int(min(50_000, max(9999, 2 * len(pairs) / (1 - self.confidence))))
        parts = []
        for start in range(0, max(len(pairs), 1), 256):
            block = pairs[start : start + 256]
            if not block:
                continue
            first, second = np.array(block).T
            tests = statistics.paired_tests(
                (values[first] - values[second]).T,
                self._scores.clusters,
                test=test,
                draws=draws,
                confidence=self.confidence,
                seed=self.seed,
            )
            parts.append(
                pd.DataFrame(
                    {
                        "a": [self.entries[i].label for i in first],
                        "b": [self.entries[j].label for j in second],
                        "difference": tests.mean,
                        "low": tests.low,
                        "high": tests.high,
                        "n": tests.n,
                        "identities": tests.clusters,
                        "p": tests.p,
                    }
                )
            )
        if not parts:
            raise LeaderboardError("a comparison needs two entries: there is only one.")
        out = pd.concat(parts, ignore_index=True)
        out["p_holm"] = statistics.holm(out["p"].to_numpy())
        out["significant"] = out["p_holm"] < 1 - self.confidence
        return out

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

    def weighted(self, weights: Mapping[str, float] | None = None) -> pd.Series:
        """Weighted normalised score of each entry in 0..1, best first (see `normalised_scores`)."""
        keyed = None
        if weights is not None:
            keyed = {self.column(name).key: weight for name, weight in weights.items()}
        scores = ranking.normalised_scores(self.means, self.columns, keyed)
        series = pd.Series(scores, index=[entry.label for entry in self.entries], name="score")
        return series.sort_values(ascending=False, kind="stable")

    # ----------------------------------------------------------------- showing

    def to_frame(self) -> pd.DataFrame:
        """The whole table, an entry a row: what leaderboard.csv and .parquet hold.

        entry, label, axis:<name>..., rank, rank_sum, tie_group, pareto, n, failed, pending,
        face_rate, then for each column its mean and <column>_low, _high, _n, _failed, _rank,
        _tied_with_best and _backend. An arrow in a mean's header gives its direction.
        """
        data: dict[str, list[Any]] = {
            "rank": [int(place) for place in self.places],
            "entry": [entry.key for entry in self.entries],
            "label": [entry.label for entry in self.entries],
        }
        for axis in self.axes:
            data[f"axis:{axis}"] = [
                axis_text(e.axes[axis]) if axis in e.axes else "" for e in self.entries
            ]
        data["mismatch"] = [entry.mismatch for entry in self.entries]
        data["rank_sum"] = [int(total) for total in self.rank_sums]
        if any(column.sign for column in self.columns):
            data["tie_group"] = list(self.tie_groups())
        if self.axis_columns() is not None:
            data["pareto"] = list(self.pareto())
        for name, count in (("n", "done"), ("failed", "failed"), ("pending", "pending")):
            data[name] = [counts[count] for counts in self.counts]
        if not all(math.isnan(rate) for rate in self.face_rates):
            data["face_rate"] = self.face_rates
        for c, column in enumerate(self.columns):
            cells = [self.cell(e, c) for e in range(len(self.entries))]
            data[f"{column.key} {column.arrow}".rstrip()] = [cell.mean for cell in cells]
            data[f"{column.key}_low"] = [cell.low for cell in cells]
            data[f"{column.key}_high"] = [cell.high for cell in cells]
            data[f"{column.key}_n"] = [cell.n for cell in cells]
            data[f"{column.key}_failed"] = [cell.failed for cell in cells]
            data[f"{column.key}_rank"] = [int(self.ranks[e, c]) for e in range(len(cells))]
            data[f"{column.key}_tied_with_best"] = [cell.tied for cell in cells]
            data[f"{column.key}_backend"] = [column.backend] * len(cells)
        frame = pd.DataFrame(data)
        for name in frame.columns:
            if name == "tie_group" or name.endswith("_n"):
                frame[name] = frame[name].astype("Int64")
        return frame

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

    def to_terminal(self, width: int | None = None) -> Table:
        """The table for a terminal of `width` characters, as a `rich.table.Table`."""
        from leaderboards.tables.formats import terminal_table

        return terminal_table(self, width=width)

    def __repr__(self) -> str:
        return f"Leaderboard({len(self.entries)} entries x {len(self.columns)} columns)"


def _role(column: Column) -> str:
    """What a column measures, by its name: "identity", "text" or ""."""
    name = column.metric.lower()
    if any(word in name for word in ("face_rate", "copy", "leak", "fid", "consistency")):
        return ""
    if name.startswith("identity") or any(
        word in name
        for word in ("face_arc", "face-arc", "face_cur", "face-cur", "facesim", "arcface")
    ):
        return "identity"
    if name.startswith("text") or "clip" in name:
        return "text"
    return ""


def _reorder(scores: Scores, order: list[int]) -> Scores:
    """The same scores with entries in another order."""
    place = {old: new for new, old in enumerate(order)}
    return Scores(
        **{
            **scores.__dict__,
            "entries": tuple(scores.entries[i] for i in order),
            "values": scores.values[:, order],
            "planned": scores.planned[:, order],
            "summaries": {(place[i], j): s for (i, j), s in scores.summaries.items()},
        }
    )


def axes_json(entry: Entry) -> str:
    """An entry's axes as canonical JSON."""
    return json.dumps(dict(entry.axes), sort_keys=True, default=str)
