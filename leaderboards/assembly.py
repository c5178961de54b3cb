"""From rows to dense arrays, refusing what cannot be compared.

Two backends, two versions or two sample sets in one column are refused with the reason, or left
blank with the reason noted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from leaderboards.errors import LeaderboardError
from leaderboards.families import FAMILIES, known_family
from leaderboards.score_tables import known_direction
from leaderboards.scores import Column, Level, OnMixed, Rows, Scores, Summary, records
from media.wording import some

ROUNDING = 1e-6  # how far beyond a stated range a value may lie by rounding, by the end's size


def assemble(rows: Rows, on_mixed: OnMixed = "refuse", trust_published: bool = False) -> Scores:
    """Form the columns, refuse what cannot be compared, and lay the values out densely.

    on_mixed: "refuse" raises LeaderboardError listing every mixed column; "blank" keeps, in each
    such column, the entries that agree with the majority, and notes why the others are blank.
    trust_published: let means that came without samples stand in a column beside measured ones.
    """
    problems: list[str] = []
    columns, dropped = _columns(rows, trust_published, problems)
    slot = {(c.metric, c.backend): i for i, c in enumerate(columns)}
    keys, code = _sample_keys(rows)
    values, planned = _dense(rows, columns, slot, dropped, keys, code)
    summaries = _summaries(rows, slot, dropped)
    problems += _sample_sets(rows, columns, values, planned, summaries, keys)
    if on_mixed == "refuse" and (refused := problems + _short_sets(rows, columns, summaries)):
        raise LeaderboardError(" ".join(refused))
    notes = [f"{p[0].upper()}{p[1:]} Those cells are blank here." for p in problems]
    if not rows.has_identities and len(keys):
        notes.append(
            "Some samples name no identity; each of them counts as an identity of its own in the "
            "intervals and tests."
        )
    columns, beyond = _widened(columns, values, summaries)
    return Scores(
        entries=tuple(rows.entries),
        columns=tuple(columns),
        values=values,
        planned=planned,
        pending=_pending(rows, keys, code),
        keys=keys,
        clusters=pd.factorize(keys["identity"], sort=True)[0],
        summaries=summaries,
        videos=rows.videos,
        failures=rows.failures,
        samples=rows.samples,
        absent=rows.absent,
        face_rate=rows.face_rate,
        notes=notes + beyond,
        has_identities=rows.has_identities,
        root=rows.root,
    )


def _widened(
    columns: Sequence[Column], values: np.ndarray, summaries: Mapping[tuple[int, int], Summary]
) -> tuple[list[Column], list[str]]:
    """Columns with the range that their values have, where they leave the stated one; notes of it.

    Intervals, the worst value and the scale of a score follow from the range.
    """
    found, notes = [], []
    for c, column in enumerate(columns):
        seen = [values[c].ravel(), [s.value for (_, at), s in summaries.items() if at == c]]
        finite = np.concatenate(seen)
        finite = finite[np.isfinite(finite)]
        low, high = (finite.min(), finite.max()) if len(finite) else (math.inf, -math.inf)
        wide = column
        if column.low is not None and low < column.low - ROUNDING * (1 + abs(column.low)):
            wide = replace(wide, low=float(low))
        if column.high is not None and high > column.high + ROUNDING * (1 + abs(column.high)):
            wide = replace(wide, high=float(high))
        if wide is not column:
            ends = ["-inf" if column.low is None else f"{column.low:g}"]
            ends += ["inf" if column.high is None else f"{column.high:g}"]
            notes.append(
                f"{column.title} has values from {low:.4g} to {high:.4g}, outside of its stated "
                f"range, {' to '.join(ends)}; the range is taken to reach as far as they do."
            )
        found.append(wide)
    return found, notes


def _columns(
    rows: Rows, trust_published: bool, problems: list[str]
) -> tuple[list[Column], set[tuple[str, str]]]:
    """Columns, and the (entry, metric) whose scores may not stand in theirs."""
    pairs = pd.concat(
        [
            rows.scores[["entry", "metric", "backend", "version"]]
            .drop_duplicates()
            .assign(level="sample"),
            rows.summaries[["entry", "metric", "backend", "version", "level"]].drop_duplicates(),
        ],
        ignore_index=True,
    )
    labels = {entry.key: entry.label for entry in rows.entries}
    columns: list[Column] = []
    dropped: set[tuple[str, str]] = set()
    for name, group in pairs.groupby("metric", sort=False):
        metric = str(name)
        if not trust_published:
            group = _measured(metric, group, labels, problems, dropped)
        group, chosen = _one_kind(metric, group, labels, problems, dropped)
        several = len({b for b, _ in chosen}) > 1
        for backend in sorted({b for b, _ in chosen}):
            found = sorted({v for b, v in chosen if b == backend})
            if len(found) > 1:
                problems.append(
                    f"column {metric!r} mixes versions {', '.join(map(repr, found))} of {backend}: "
                    "score all videos with one version."
                )
                continue
            meaning = _meaning(rows, metric, backend)
            levels = group.loc[group["backend"] == backend, "level"]
            level: Level = "sample" if "sample" in set(levels) else group["level"].iloc[0]
            family, diagnostic = meaning.family, meaning.diagnostic
            if family not in FAMILIES:
                family, diagnostic = known_family(metric)
            columns.append(
                replace(
                    meaning,
                    family=family,
                    diagnostic=diagnostic,
                    key=f"{metric}@{backend}" if several else metric,
                    version=found[0],
                    label=f"{meaning.label} ({backend})" if several else meaning.label,
                    level=level,
                )
            )
    # The order of rows must not show in the table: columns stand as their meanings do.
    stated = {pair: i for i, pair in enumerate(rows.meanings)}
    columns.sort(key=lambda c: stated.get((c.metric, c.backend), len(stated)))
    return columns, dropped


def _measured(
    metric: str,
    group: pd.DataFrame,
    labels: Mapping[str, str],
    problems: list[str],
    dropped: set[tuple[str, str]],
) -> pd.DataFrame:
    """A metric's rows without published means, where others were measured sample by sample."""
    levels = _kinds(group, "level")
    if len(set(levels.values())) < 2:
        return group
    out = [e for e, level in levels.items() if level != {("sample",)}]
    problems.append(
        f"column {metric!r} would put means published without their samples "
        f"({_some(out, labels)}) beside measured ones, so nobody can tell whether the sample "
        "sets agree: pass trust_published=True if you know that they do."
    )
    dropped |= {(e, metric) for e in out}
    return group[~group["entry"].isin(out)]


def _kinds(group: pd.DataFrame, *names: str) -> dict[str, frozenset[tuple[str, ...]]]:
    """Entry -> the combinations of some of a group's columns that it has."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for entry, kind in zip(group["entry"], zip(*(group[name] for name in names))):
        found.setdefault(str(entry), set()).add(kind)
    return {entry: frozenset(kinds) for entry, kinds in found.items()}


def _one_kind(
    metric: str,
    group: pd.DataFrame,
    labels: Mapping[str, str],
    problems: list[str],
    dropped: set[tuple[str, str]],
) -> tuple[pd.DataFrame, frozenset[tuple[str, ...]]]:
    """A metric's rows of the entries that agree with the most on backends and versions."""
    versions = _kinds(group, "backend", "version")
    kinds = Counter(versions.values())  # in the order of first appearance, which breaks ties
    chosen = max(kinds, key=lambda kind: kinds[kind])
    if len(kinds) < 2:
        return group, chosen
    out = [e for e, kind in versions.items() if kind != chosen]
    told = "; ".join(
        f"{_backends(kind)} for {_some([e for e, v in versions.items() if v == kind], labels)}"
        for kind in kinds
    )
    backends = {frozenset(backend for backend, _ in kind) for kind in kinds}
    same = f"one version of {metric}" if len(backends) == 1 else "one backend"
    problems.append(
        f"column {metric!r} would mix backends or versions ({told}): score all entries with {same}."
    )
    dropped |= {(e, metric) for e in out}
    return group[~group["entry"].isin(out)], chosen


def _meaning(rows: Rows, metric: str, backend: str) -> Column:
    """What a metric means: as its source says, or by its widely used name."""
    meaning = rows.meanings.get((metric, backend))
    if meaning is not None:
        return meaning
    higher = known_direction(metric)
    if higher is None:
        raise LeaderboardError(
            f"the store does not state whether a higher {metric!r} ({backend}) is better: score "
            "again with this version of stdrc."
        )
    return Column(metric, metric, backend, label=metric, higher_is_better=higher)


def _sample_keys(rows: Rows) -> tuple[pd.DataFrame, np.ndarray]:
    """Sample slots with their identity, and the slot of each score and then of each video.

    A slot is a sample and a seed, and after pooling also a setting of the other axes.
    """
    scores = rows.scores
    parts = ["sample", "seed"] + (["rest"] if "rest" in scores.columns else [])
    both = pd.concat([scores[parts], rows.videos[parts]] if len(rows.videos) else [scores[parts]])
    code = np.zeros(len(both), dtype=np.int64)
    for part in parts:
        found_codes, uniques = pd.factorize(both[part])
        code = code * max(len(uniques), 1) + found_codes
    code, _ = pd.factorize(code)
    keys = both.iloc[np.unique(code, return_index=True)[1]].reset_index(drop=True)
    # Sorted, so that the order in which scores arrived does not show in the resampling either.
    order = keys.sort_values(parts, kind="stable").index.to_numpy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    keys = keys.iloc[order].reset_index(drop=True)
    keys = keys.merge(rows.samples[["sample", "identity"]], on="sample", how="left")
    keys["identity"] = keys["identity"].fillna(keys["sample"])
    return keys, place[code]


def _dense(
    rows: Rows,
    columns: Sequence[Column],
    slot: Mapping[tuple[str, str], int],
    dropped: set[tuple[str, str]],
    keys: pd.DataFrame,
    code: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(values [C, E, K], planned [C, E, K]) of scores and videos in the slots of `code`."""
    scores = rows.scores
    position = {entry.key: i for i, entry in enumerate(rows.entries)}
    shape = (len(columns), len(rows.entries), len(keys))
    values = np.full(shape, np.nan)
    planned = np.zeros(shape, dtype=bool)
    column_code = _lookup(scores, ["metric", "backend"], slot)
    entry_code = scores["entry"].map(position).to_numpy() if len(scores) else np.zeros(0, int)
    keep = column_code >= 0
    if dropped:
        gone_codes = _lookup(scores, ["entry", "metric"], dict.fromkeys(dropped, 1))
        keep &= gone_codes < 0
    at = (column_code[keep], entry_code[keep].astype(int), code[: len(scores)][keep])
    flat = np.ravel_multi_index(at, shape) if keep.any() else np.zeros(0, np.int64)
    count = np.bincount(flat, minlength=1)
    if count.max() > 1:
        c, e, k = map(int, np.unravel_index(int(count.argmax()), shape))
        raise LeaderboardError(
            f"entry {rows.entries[e].key!r} has sample {keys['sample'].iloc[k]!r} twice in column "
            f"{columns[c].key!r}: keep one of the two, or tell them apart by a seed."
        )
    values.reshape(-1)[flat] = scores["value"].to_numpy(float)[keep]
    planned.reshape(-1)[flat] = True
    if len(rows.videos):
        video_entry = rows.videos["entry"].map(position).to_numpy().astype(int)
        has = np.asarray(planned.any(axis=2))  # [C, E]
        planned[:, video_entry, code[len(scores) :]] |= has[:, video_entry]
    for c, column in enumerate(columns):  # what a metric does not apply to was not planned
        unfit = [sample for metric, sample in rows.unfit if metric == column.metric]
        if unfit:
            planned[c][:, keys["sample"].isin(unfit).to_numpy()] = False
    return values, planned


def _pending(rows: Rows, keys: pd.DataFrame, code: np.ndarray) -> np.ndarray:
    """bool [E, K]: the video in that slot is still to be made."""
    pending = np.zeros((len(rows.entries), len(keys)), dtype=bool)
    if len(rows.videos):
        position = {entry.key: i for i, entry in enumerate(rows.entries)}
        waiting = (rows.videos["status"] == "pending").to_numpy()
        entries = rows.videos["entry"].map(position).to_numpy().astype(int)
        pending[entries[waiting], code[len(rows.scores) :][waiting]] = True
    return pending


def _summaries(
    rows: Rows, slot: Mapping[tuple[str, str], int], dropped: set[tuple[str, str]]
) -> dict[tuple[int, int], Summary]:
    """(entry, column) -> its set-level or published value."""
    position = {entry.key: i for i, entry in enumerate(rows.entries)}
    summaries: dict[tuple[int, int], Summary] = {}
    for row in records(rows.summaries):
        index = slot.get((row["metric"], row["backend"]))
        if index is None or (row["entry"], row["metric"]) in dropped:
            continue
        low, high = (float(row[end]) if pd.notna(row[end]) else math.nan for end in ("low", "high"))
        n, planned_n = (int(row[c]) if pd.notna(row[c]) else None for c in ("n", "planned"))
        summaries[position[row["entry"]], index] = Summary(
            float(row["value"]), low, high, n, planned_n, row["influences"]
        )
    return summaries


def _lookup(
    frame: pd.DataFrame, names: list[str], table: Mapping[tuple[str, str], int]
) -> np.ndarray:
    """Map two string columns through a table of pairs to ints, -1 where the pair is not in it."""
    if not len(frame):
        return np.zeros(0, dtype=np.int64)
    (a, first), (b, second) = (pd.factorize(frame[name]) for name in names)
    grid = np.array([[table.get((x, y), -1) for y in second] for x in first], dtype=np.int64)
    return grid[a, b]


def _sample_sets(
    rows: Rows,
    columns: list[Column],
    values: np.ndarray,
    planned: np.ndarray,
    summaries: dict[tuple[int, int], Summary],
    keys: pd.DataFrame,
) -> list[str]:
    """Find entries whose sample set differs from the majority's in a column, and blank them."""
    problems = []
    labels = {entry.key: entry.label for entry in rows.entries}
    for c, column in enumerate(columns):
        if column.level == "sample":
            present = np.flatnonzero(planned[c].any(axis=1))
            sets = {int(e): planned[c, e].tobytes() for e in present}
            kinds = Counter(sets.values())
            if len(kinds) < 2:
                continue
            chosen = max(kinds, key=lambda kind: kinds[kind])
            out = [e for e, kind in sets.items() if kind != chosen]
            kept = next(e for e, kind in sets.items() if kind == chosen)
            differ = np.flatnonzero(planned[c, out[0]] != planned[c, kept])
            example = keys["sample"].iloc[int(differ[0])]
            problems.append(
                f"column {column.key!r} would mix sample sets: "
                f"{_some([rows.entries[e].key for e in out], labels)} "
                f"{'differs' if len(out) == 1 else 'differ'} from the "
                f"{len(sets) - len(out)} other entries in {len(differ)} samples, such as "
                f"{example!r}: score all entries on the same samples."
            )
            for e in out:
                values[c, e] = np.nan
                planned[c, e] = False
        else:
            sizes = {
                e: s.planned
                for (e, index), s in summaries.items()
                if index == c and s.planned is not None
            }
            if len(set(sizes.values())) < 2:
                continue
            chosen_n = max(sizes.values(), key=lambda n: (sum(m == n for m in sizes.values()), n))
            out = [e for e, n in sizes.items() if n != chosen_n]
            named = ", ".join(f"{labels[rows.entries[e].key]}: N={sizes[e]}" for e in out[:3])
            problems.append(
                f"column {column.key!r} would mix sets of different size ({named}, the others "
                f"N={chosen_n}), and such a score depends on N: use the same samples."
            )
            for e in out:
                del summaries[e, c]
    return problems


def _short_sets(
    rows: Rows, columns: Sequence[Column], summaries: Mapping[tuple[int, int], Summary]
) -> list[str]:
    """Notes on set-level scores of sets that lack failed videos."""
    problems = []
    for c, column in enumerate(columns):
        short = [
            f"{rows.entries[e].label}: N={s.n} of {s.planned}"
            for (e, index), s in summaries.items()
            if index == c and column.level == "set" and s.short
        ]
        if short:
            problems.append(
                f"column {column.key!r} would mix sets of different size ({', '.join(short[:3])}), "
                "and such a score depends on N: use the same samples."
            )
    return problems


def _backends(kind: frozenset[tuple[str, ...]]) -> str:
    return ", ".join(
        (backend or "an unstated backend") + (f" {version}" if version else "")
        for backend, version in sorted(kind)
    )


def _some(entries: Sequence[Any], labels: Mapping[str, str]) -> str:
    return some([repr(labels.get(e, e)) for e in entries], 3)
