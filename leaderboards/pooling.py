"""Rows of several sources side by side, and rows pooled over an axis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from leaderboards.errors import LeaderboardError
from leaderboards.scores import Column, Entry, Rows, axis_text


def combine(parts: Sequence[Rows]) -> Rows:
    """Put several sources side by side; entries that share a key are told apart by their source."""
    if not parts:
        raise LeaderboardError("there is nothing to compare: give at least one run or table.")
    if len(parts) == 1:
        return parts[0]
    seen: set[str] = set()
    renamed: list[Rows] = []
    for number, part in enumerate(parts):
        clash = {e.key for e in part.entries} & seen
        names = {e.key: f"{e.source or number}/{e.key}" if e.key in clash else e.key
                 for e in part.entries}  # fmt: skip
        if len(set(names.values()) | seen) < len(names) + len(seen):
            twice = sorted(set(names.values()) & seen)[0]
            raise LeaderboardError(
                f"the entry {twice!r} is in two sources of the same name: give each run once."
            )
        seen |= set(names.values())
        frames = {
            kind: getattr(part, kind).assign(entry=getattr(part, kind)["entry"].map(names))
            for kind in ("scores", "summaries", "videos", "failures")
        }
        entries = [
            replace(e, key=names[e.key], label=f"{e.source}: {e.label}" if clash else e.label)
            for e in part.entries
        ]
        rates = {names[key]: rate for key, rate in part.face_rate.items()}
        renamed.append(replace(part, entries=entries, face_rate=rates, **frames))
    meanings: dict[tuple[str, str], Column] = {}
    for part in renamed:
        for key, column in part.meanings.items():
            other = meanings.setdefault(key, column)
            if other.higher_is_better != column.higher_is_better:
                raise LeaderboardError(
                    f"the sources disagree on whether a higher {key[0]!r} is better: fix the "
                    "direction in one of them."
                )

    def stack(kind: str) -> pd.DataFrame:
        frames = [getattr(part, kind) for part in renamed]
        return pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)

    samples = stack("samples")
    pairs = samples[["sample", "identity"]].drop_duplicates()
    twice_ = pairs["sample"].duplicated()
    if twice_.any() and all(part.has_identities for part in renamed):
        sample = pairs.loc[twice_, "sample"].iloc[0]
        raise LeaderboardError(
            f"sample {sample!r} has different identities in the sources: they are not the same "
            "sample set, so compare them in separate leaderboards."
        )
    return Rows(
        entries=[entry for part in renamed for entry in part.entries],
        scores=stack("scores"),
        summaries=stack("summaries"),
        videos=stack("videos"),
        failures=stack("failures"),
        samples=_one_each(samples),
        meanings=meanings,
        absent={m: r for part in renamed for m, r in part.absent.items()},
        face_rate={k: v for part in renamed for k, v in part.face_rate.items()},
        has_identities=all(part.has_identities for part in renamed),
        root=next((part.root for part in renamed if part.root), None),
        ranks=tuple(rank for part in renamed for rank in part.ranks),
        unfit=frozenset().union(*(part.unfit for part in renamed)),
        earlier=tuple(one for part in renamed for one in part.earlier),
    )


def _one_each(samples: pd.DataFrame) -> pd.DataFrame:
    """What is said of each sample, by the first source whose reference images are there."""
    gone = [not refs or not all(Path(ref).is_file() for ref in refs) for refs in samples["refs"]]
    first = samples.assign(gone=gone).sort_values("gone", kind="stable").drop_duplicates("sample")
    return first.drop(columns="gone").sort_index().reset_index(drop=True)


def group_by(rows: Rows, axis: str) -> Rows:
    """Pool the cells that share a value of `axis` into one entry each.

    A sample then counts once for each combination of the other axes; those combinations become part
    of its key, so that an unbalanced sweep is noticed as a different sample set.
    Raises LeaderboardError where no entry has that axis.
    """
    axes = sorted({name for entry in rows.entries for name in entry.axes})
    if axis not in axes:
        raise LeaderboardError(
            f"no entry has an axis {axis!r}: the axes are {', '.join(axes) or '(none)'}."
        )
    if len(rows.summaries):
        kept = rows.summaries["entry"].nunique()
        rows = replace(rows, summaries=rows.summaries[:0])
        note = {"set-level scores": f"cannot be pooled over an axis ({kept} entries had some)"}
    else:
        note = {}
    pooled: dict[str, list[Entry]] = {}
    rest: dict[str, str] = {}
    for entry in rows.entries:
        if axis not in entry.axes:
            continue
        pooled.setdefault(f"{axis}={axis_text(entry.axes[axis])}", []).append(entry)
        others = {k: v for k, v in entry.axes.items() if k != axis}
        rest[entry.key] = json.dumps(others, sort_keys=True)
    new = {entry.key: key for key, members in pooled.items() for entry in members}

    def move(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame[frame["entry"].isin(list(new))]
        return frame.assign(rest=frame["entry"].map(rest), entry=frame["entry"].map(new))

    rates: dict[str, list[float]] = {}
    for key, rate in rows.face_rate.items():
        if key in new:
            rates.setdefault(new[key], []).append(rate)
    return replace(
        rows,
        entries=[
            Entry(
                key,
                axis_text(members[0].axes[axis]),
                {axis: members[0].axes[axis]},
                any(m.mismatch for m in members),
                members[0].source,
            )
            for key, members in pooled.items()
        ],
        scores=move(rows.scores),
        videos=move(rows.videos),
        failures=move(rows.failures),
        face_rate={key: float(np.mean(some)) for key, some in rates.items()},
        absent=rows.absent | note,
    )


def pick(rows: Rows, entries: list[Entry], columns: set[tuple[str, str]] | None = None) -> Rows:
    """The rows of some entries, and of some (metric, backend) where those are given."""
    keys = [entry.key for entry in entries]
    frames = {}
    for name in ("scores", "summaries", "videos", "failures"):
        frame = getattr(rows, name)
        frames[name] = frame[frame["entry"].isin(keys)]
    if columns is not None:
        for name in ("scores", "summaries"):
            frame = frames[name]
            inside = [pair in columns for pair in zip(frame["metric"], frame["backend"])]
            frames[name] = frame[np.array(inside, dtype=bool)]
    return replace(rows, entries=entries, **frames)
