"""A run folder's scores as `Rows`: its planned cells are the entries."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboards.errors import LeaderboardError
from leaderboards.runfolder import MetricRow, RunFolder
from leaderboards.scores import FAILURES, SCORES, SUMMARIES, Column, Earlier, Entry, Rows


def read_run(run: str | Path) -> Rows:
    """Read a run folder: its cells as entries, its scores, failures, samples and videos.

    Raises LeaderboardError where the folder has no readable store, or no planned cells.
    """
    run = Path(run)
    with RunFolder(run) as folder:
        entries = [
            Entry(row.cell, row.label, row.axes, row.mismatch, run.name) for row in folder.cells()
        ]
        if not entries:
            raise LeaderboardError(f"{run} has no cells yet: let `stdrc bench` plan the run first.")
        metrics = folder.metrics()
        meanings = {
            (row.metric, row.backend): Column(
                key=row.metric,
                metric=row.metric,
                backend=row.backend,
                label=row.label,
                higher_is_better=row.higher_is_better,
                low=row.low,
                high=row.high,
                family=row.family,
                diagnostic=row.diagnostic,
                anchors=row.anchors,
            )
            for row in metrics
        }
        videos, samples = folder.frame("videos"), folder.frame("samples")
        scores, sets = folder.frame("scores"), folder.frame("set_scores")
        rates, earlier = folder.face_rates(), folder.retired_means()
        declared = folder.manifest()["config"].get("rank") if folder.has_manifest else None
    root = str(run.absolute())
    videos["path"] = [
        _inside(root, video, path) for video, path in zip(videos["video"], videos["path"])
    ]
    row = pd.Index(videos.pop("place")).get_indexer(scores.pop("place"))
    for name in ("entry", "sample", "seed"):
        scores[name] = videos[name].take(row).array
    for name in ("refs", "timeline", "shown"):
        samples[name] = [json.loads(x) if isinstance(x, str) and x else [] for x in samples[name]]
    samples["refs"] = [[str(run.absolute() / ref) for ref in refs] for refs in samples["refs"]]
    blank = (samples["identity"].fillna("") == "").to_numpy()
    samples["identity"] = samples["identity"].where(~blank, samples["sample"])
    scores, absent, unfit = without_absent(scores)
    unfit |= _lacking(metrics, samples)
    if unfit:
        pairs = pd.MultiIndex.from_frame(scores[["metric", "sample"]])
        scores = scores[~pairs.isin(list(unfit))]
    bad = scores["status"].ne("ok") | scores["value"].isna()
    failures = scores.loc[bad, FAILURES].copy()
    scores = scores.assign(value=scores["value"].astype(float).mask(bad))
    sets, absent_sets, _ = without_absent(sets.assign(sample=""))
    sets = sets[sets["status"].eq("ok") & sets["value"].notna()].assign(level="set")
    # A video that an entry failed on is part of its set; one that no entry's set holds is not.
    made = videos[videos["status"] != "pending"].groupby("entry").size()
    tried = sets["entry"].map(made).astype(float)  # of no sets, it would be text
    short = (tried - sets["n"]).clip(lower=0).fillna(0)
    influences = [
        tuple((tuple(people), float(effect)) for people, effect in json.loads(x or "[]"))
        for x in sets["influences"]
    ]
    sets["influences"] = pd.Series(influences, index=sets.index, dtype=object)
    sets["planned"] = sets["n"] + short - short.groupby(sets["metric"]).transform("min")
    return Rows(
        entries=entries,
        scores=scores[SCORES].reset_index(drop=True),
        summaries=sets[SUMMARIES].reset_index(drop=True),
        videos=videos,
        failures=failures.reset_index(drop=True),
        samples=samples,
        meanings=meanings,
        absent=absent | absent_sets,
        face_rate=rates,
        has_identities=not blank.any(),
        root=run,
        ranks=(declared,) if declared else (),
        unfit=frozenset(unfit),
        earlier=tuple(Earlier(label, run.name, n, means) for label, n, means in earlier),
    )


#: A store's path that is absolute, climbs, or is Windows'.
_LEAVES = re.compile(r"/|.*\\|(.*/)?\.\.(/|$)")


def _inside(run: str, video: str, path: Any) -> str:
    """Where a video's file is, "" where it has none; a store may not lead out of its folder."""
    if not isinstance(path, str) or not path:
        return ""
    if _LEAVES.match(path):
        raise LeaderboardError(
            f"the store's video {video} has the path {path!r}, which leaves the run folder: fix "
            "the store."
        )
    return f"{run}/{path}"


#: Statuses of scores that there need not be: the metric can't run, or does not apply to the video.
UNSCORED = ("absent", "inapplicable")


def without_absent(
    scores: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, str], set[tuple[str, str]]]:
    """Scores that are there or failed; metric -> why it could not run at all; and (metric, sample)
    that a metric which could run does not apply to."""
    gone = scores["status"].isin(UNSCORED)
    if not gone.any():
        return scores, {}, set()
    ran = set(scores.loc[~gone, "metric"].unique())
    told = scores.loc[gone, ["metric", "sample", "reason"]].drop_duplicates()
    reasons = {m: r or "" for m, r in zip(told["metric"], told["reason"]) if m not in ran}
    unfit = {(m, s) for m, s in zip(told["metric"], told["sample"]) if m in ran}
    return scores[~gone], reasons, unfit


def _lacking(metrics: Sequence[MetricRow], samples: pd.DataFrame) -> set[tuple[str, str]]:
    """(metric, sample) where the sample lacks what the metric needs to be shown."""
    given = {
        "prompt": samples["prompt"].fillna("") != "",
        "reference": samples["refs"].str.len() > 0,
        "target": samples["target"].fillna("") != "",
        "timeline": samples["timeline"].str.len() > 0,
        "people": samples["shown"].map(lambda rows: len({person for person, *_ in rows}) > 1),
        "times": samples["shown"].map(
            lambda rows: any(t is not None for _, *ts in rows for t in ts)
        ),
    }
    return {
        (row.metric, sample)
        for row in metrics
        if row.per_video
        for need in row.needs
        for sample in samples.loc[~given[need], "sample"]
    }
