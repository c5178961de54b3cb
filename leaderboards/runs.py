"""A run folder's scores as `Rows`: its planned cells are the entries."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from leaderboards.errors import LeaderboardError
from leaderboards.runfolder import RunFolder
from leaderboards.scores import FAILURES, SCORES, SUMMARIES, Column, Entry, Rows


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
            )
            for row in folder.metrics()
        }
        videos, samples = folder.frame("videos"), folder.frame("samples")
        scores, sets = folder.frame("scores"), folder.frame("set_scores")
        rates = folder.face_rates()
    samples["refs"] = [json.loads(refs) if refs else [] for refs in samples["refs"]]
    blank = (samples["identity"].fillna("") == "").to_numpy()
    samples["identity"] = samples["identity"].where(~blank, samples["sample"])
    scores, absent = _without_absent(scores)
    bad = scores["status"].ne("ok") | scores["value"].isna()
    failures = scores.loc[bad, FAILURES].copy()
    scores = scores.assign(value=scores["value"].astype(float).mask(bad))
    sets, absent_sets = _without_absent(sets)
    sets = sets[sets["status"].eq("ok") & sets["value"].notna()].assign(
        level="set", planned=sets["n"]
    )
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
    )


def _without_absent(scores: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The scores of metrics that could run, and metric -> why it could not of the others."""
    gone = scores["status"].eq("absent")
    reasons = dict(zip(scores.loc[gone, "metric"], scores.loc[gone, "reason"].fillna("")))
    return scores[~gone], reasons
