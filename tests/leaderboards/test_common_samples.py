"""Failures, infinite scores and samples that do not apply: what each counts."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leaderboards import Leaderboard, LeaderboardError
from leaderboards.ranking import Ranking
from leaderboards.report import pair_sentences
from tests.leaderboards.runs import make_run

CELLS = {f"e{i}": {"reference": r} for i, r in enumerate((1.0, 1.2, 1.4, 1.6))}


def table(values: dict[str, list[float]], metric: str = "identity.x ^") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"entry": entry, "sample": f"s{k:02d}", "identity": f"i{k:02d}", metric: value}
            for entry, row in values.items()
            for k, value in enumerate(row)
        ]
    )


@pytest.mark.parametrize("metric", ["identity.dlib", "text.clip", "temporal.warp"])
def test_an_entry_that_fails_on_its_hard_samples_does_not_climb(
    tmp_path: Path, metric: str
) -> None:
    """The weakest quarter of a score fails instead: the entry is never ahead of where it was."""
    run = make_run(tmp_path / "run", CELLS)
    before = Leaderboard.from_run(run, rank=metric)
    entry = before.entries[-1].key
    better = "DESC" if metric == "temporal.warp" else "ASC"
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute(
            "UPDATE scores SET status = 'failed', value = NULL, reason = 'no' WHERE metric = ? AND "
            "video IN (SELECT v.video FROM videos v JOIN scores s ON s.video = v.video WHERE "
            f"v.cell = ? AND s.metric = ? ORDER BY s.value {better} LIMIT 4)",
            (metric, entry, metric),
        )
    after = Leaderboard.from_run(run, rank=metric)
    assert after.places.tolist() == [1, 2, 3, 4]
    assert after.entries[-1].key == entry
    assert any("counts as the metric's worst value" in note for note in after.notes)
    c = next(i for i, column in enumerate(after.columns) if column.key == metric)
    assert after.cell(3, c).failed == 4


def test_failed_videos_cost_in_every_column_and_in_sets(tmp_path: Path) -> None:
    whole = Leaderboard.from_run(make_run(tmp_path / "whole", CELLS))
    run = make_run(tmp_path / "failing", CELLS, failed=[(3, 0), (3, 5)])
    failing = Leaderboard.from_run(run, on_mixed="blank")
    key = {entry.key: i for i, entry in enumerate(failing.entries)}["e3"]
    same = {entry.key: i for i, entry in enumerate(whole.entries)}["e3"]
    for c, column in enumerate(failing.columns):
        if column.level == "set":  # not shown beside whole sets, but counted
            assert math.isnan(failing.means[key, c])
            assert failing.ranks[key, c] == 4
        elif column.sign:
            cost = column.sign * (whole.means[same, c] - failing.means[key, c])
            assert cost >= 0, column.key
    assert failing.standings[key].place is not None


def test_failures_count_as_the_end_of_the_range() -> None:
    frame = table({"a": [0.5, 0.7, 0.6], "b": [0.9, float("nan"), 0.9]})
    board = Leaderboard.from_table(frame, ranges={"identity.x": (-1.0, 1.0)})
    assert [entry.key for entry in board.entries] == ["a", "b"]
    assert board.means[1, 0] == pytest.approx((0.9 + 0.9 - 1) / 3)
    assert board.cell(1, 0).n == 2


def test_without_a_range_the_worst_that_was_seen_counts() -> None:
    frame = table({"a": [9.0, 7.0, 6.0], "b": [1.0, float("inf"), 1.0]}, "warping error v")
    board = Leaderboard.from_table(frame)
    assert board.means[board.entries.index(board.entry("b")), 0] == pytest.approx(11 / 3)


def test_dropping_leaves_a_sample_out_for_all() -> None:
    frame = table({"a": [0.5, 0.1, 0.6], "b": [0.7, float("nan"), 0.9]})
    board = Leaderboard.from_table(frame, rank=Ranking(missing="drop"))
    assert board.means[:, 0] == pytest.approx([0.8, 0.55])
    assert any("left out for all" in note for note in board.notes)


@pytest.mark.parametrize("status", ["absent", "inapplicable"])
def test_what_does_not_apply_has_not_failed(tmp_path: Path, status: str) -> None:
    run = make_run(tmp_path / "run", CELLS)
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute(
            "UPDATE scores SET status = ?, value = NULL, reason = 'needs the prompt' WHERE "
            "metric = 'text.clip' AND video IN (SELECT video FROM videos WHERE sample = 's003')",
            (status,),
        )
    board = Leaderboard.from_run(run)
    text = next(i for i, column in enumerate(board.columns) if column.key == "text.clip")
    assert [board.cell(e, text).failed for e in range(4)] == [0] * 4
    assert not any("worst value" in note for note in board.notes)
    assert not any("No text.clip" in note for note in board.notes)
    whole = Leaderboard.from_run(make_run(tmp_path / "whole", CELLS))
    values = whole.scores.values[text]
    kept = np.delete(values, 3, axis=1)
    order = [[e.key for e in whole.entries].index(e.key) for e in board.entries]
    assert board.means[:, text] == pytest.approx(kept.mean(axis=1)[order])


def test_an_entry_without_a_family_is_unranked_not_last(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", CELLS)
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("DELETE FROM set_scores WHERE cell = 'e0'")
    board = Leaderboard.from_run(run)
    assert board.entries[-1].key == "e0"
    assert board.places.tolist() == [1, 2, 3, None]
    assert board.standings[-1].text == "–"
    assert "fvd" in board.standings[-1].why
    assert board.standings[0].last <= 3


def test_one_blank_identity_leaves_the_clusters_of_others() -> None:
    rng = np.random.default_rng(0)
    faces = np.repeat(rng.normal(0.4, 0.2, 8), 10)
    frame = table({"a": list(faces + rng.normal(0, 0.01, 80))})
    frame["identity"] = [f"i{k // 10}" for k in range(80)]
    whole = Leaderboard.from_table(frame)
    frame.loc[79, "identity"] = None
    blank = Leaderboard.from_table(frame)
    widths = [(b.highs - b.lows)[0, 0] for b in (whole, blank)]
    assert widths[1] > 0.8 * widths[0]
    assert any("name no identity" in note for note in blank.notes)


def test_the_order_that_a_run_declares_is_its_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", CELLS)
    declared = {"by": "score", "weights": {"Text": 1.0}, "anchors": {"Text": [0, 1]}}
    (run / "manifest.json").write_text(json.dumps({"config": {"rank": declared}}))
    board = Leaderboard.from_run(run)
    assert board.scheme.by == "score"
    assert Leaderboard.from_run(run, rank="text.clip").scheme.by == "text.clip"
    other = make_run(tmp_path / "other", CELLS)
    (other / "manifest.json").write_text(json.dumps({"config": {"rank": {"by": "families"}}}))
    with pytest.raises(LeaderboardError, match="declare different orders"):
        Leaderboard.from_runs([run, other])


@pytest.mark.parametrize(
    ("people", "said"),
    [
        (1, "all samples are of one identity, which tells nothing of others."),
        (3, "3 identities are too few for an interval."),
        (8, "over 8 samples of 8 identities."),
    ],
)
def test_a_pair_of_few_people_is_told_as_such(people: int, said: str) -> None:
    a = [0.5, 0.1, 0.6, 0.2, 0.3, 0.4, 0.2, 0.5]
    frame = table({"a": a[:people], "b": [v + 0.1 + v * v for v in a[:people]]})
    (sentence,) = pair_sentences(Leaderboard.from_table(frame))
    assert sentence.startswith("identity.x: b ")
    assert sentence.endswith(said)
