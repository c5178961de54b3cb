from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leaderboards import Leaderboard, LeaderboardError
from leaderboards.ranking import Ranking
from tests.leaderboards.runs import make_run

#: The 2025 challenge's published table, facial track.
PUBLISHED = """team,Face-Cur ^,Face-Arc ^,FID v,CLIPScore ^
XuanYuan,0.467,0.441,214,28.0
ghl (PKUVideo),0.492,0.473,170,27.8
Wislab,0.285,0.269,208,28.6
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("boards") / "run", identities=16)


@pytest.fixture(scope="module")
def board(run: Path) -> Leaderboard:
    return Leaderboard.from_run(run)


def test_published_numbers_give_the_published_order(tmp_path: Path) -> None:
    table = tmp_path / "ipvg2025.csv"
    table.write_text(PUBLISHED)
    board = Leaderboard.from_table(table)
    assert [entry.key for entry in board.entries] == ["ghl (PKUVideo)", "Wislab", "XuanYuan"]
    assert board.rank_sums.tolist() == [6, 9, 9]
    assert board.places.tolist() == [1, 2, 2]
    assert board.cell(0, 2).best
    assert np.isnan(board.lows).all()  # nothing says how uncertain a published mean is


def test_planted_effects_are_found(run: Path, board: Leaderboard) -> None:
    pooled = board.by("reference")
    identity = [
        pooled.means[i, 0] for i in np.argsort([e.axes["reference"] for e in pooled.entries])
    ]
    assert np.diff(identity) == pytest.approx([0.06, 0.06], abs=0.015)
    frame = pooled.compare("identity.dlib")
    assert frame["decided"].all()
    alone = Leaderboard.from_run(run, rank="identity.dlib").by("reference")
    assert [standing.text for standing in alone.standings] == ["1", "2", "3"]


def test_no_planted_effect_is_a_tie(run: Path, board: Leaderboard) -> None:
    pooled = board.by("placement")
    alone = Leaderboard.from_run(run, rank="temporal.warp").by("placement")
    assert [standing.text for standing in alone.standings] == ["1-2", "1-2"]
    assert pooled.tied_with_best[:, 2].all()


def test_pooling_counts_each_sample_once_a_cell(board: Leaderboard) -> None:
    pooled = board.by("placement")
    assert [pooled.cell(i, 0).n for i in range(2)] == [9 * 32, 9 * 32]
    assert "set-level scores" in " ".join(pooled.notes)
    with pytest.raises(LeaderboardError, match="no entry has an axis 'size'"):
        board.by("size")


def test_unbalanced_pooling_is_refused(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        {"a": {"placement": "tass", "text": 1.0}, "b": {"placement": "tass", "text": 3.0},
         "c": {"placement": "overlap", "text": 1.0}},
    )  # fmt: skip
    with pytest.raises(LeaderboardError, match="mix sample sets"):
        Leaderboard.from_run(run).by("placement")


def test_means_are_plain_means(board: Leaderboard) -> None:
    values = board.scores.values[0]
    assert board.means[:, 0] == pytest.approx(np.nanmean(values, axis=1))
    assert (board.lows[:, 0] < board.means[:, 0]).all()
    assert (board.highs[:, 0] > board.means[:, 0]).all()


def test_order_does_not_matter(run: Path) -> None:
    rows = Leaderboard.from_run(run)._rows
    shuffled = rows.scores.sample(frac=1, random_state=1).reset_index(drop=True)
    again = Leaderboard(type(rows)(**{**rows.__dict__, "scores": shuffled}))
    first = Leaderboard(rows)
    assert [e.key for e in again.entries] == [e.key for e in first.entries]
    assert again.means == pytest.approx(first.means)
    assert again.lows == pytest.approx(first.lows)


def test_intervals_stay_inside_the_range() -> None:
    frame = pd.DataFrame(
        {"entry": "a", "sample": [f"s{k}" for k in range(12)], "identity.x ^": [1.0] * 11 + [0.2]}
    )
    board = Leaderboard.from_table(frame, ranges={"identity.x": (0.0, 1.0)})
    assert board.highs[0, 0] <= 1.0


def test_names(board: Leaderboard) -> None:
    assert board.entry("cell3").key == "cell3"
    assert board.entry("tass 1 1").key == "cell0"
    with pytest.raises(LeaderboardError, match="names several entries"):
        board.entry("cell1x"[:4])
    with pytest.raises(LeaderboardError, match="is not an entry"):
        board.entry("nobody")
    assert board.column("Identity").key == "identity.dlib"
    with pytest.raises(LeaderboardError, match="is not a column"):
        board.column("beauty")


def test_only(board: Leaderboard) -> None:
    small = board.only(columns=["Identity", "Text"], placement="tass")
    assert len(small.entries) == 9
    assert [c.title for c in small.columns] == ["Identity", "Text"]
    with pytest.raises(LeaderboardError, match="no entry is left"):
        board.only(placement="nowhere")


def test_weighted_and_pareto(run: Path, board: Leaderboard) -> None:
    weights = {"Identity": 1.0, "Text": 1.0}
    ranking = Ranking("score", weights, anchors=dict.fromkeys(weights, (0.0, 1.0)))
    weighted = Leaderboard.from_run(run, rank=ranking)
    assert weighted.entries[0].label == "tass 5 2"
    assert (np.diff(weighted.rank_sums) <= 0).all()
    with pytest.raises(LeaderboardError, match=r"temporal\.warp.*no finite range"):
        Leaderboard.from_run(run, rank=Ranking("score", {"temporal.warp": 1.0}))
    front = [e.axes["placement"] for e, on in zip(board.entries, board.pareto()) if on]
    assert "tass" in front


def test_neutral_columns_take_no_part(run: Path, board: Leaderboard) -> None:
    assert not board.ranks[:, 3].any()
    assert not board.cell(0, 3).best
    with pytest.raises(LeaderboardError, match="no direction"):
        Leaderboard.from_run(run, rank="motion.degree")


def test_few_identities_say_so(tmp_path: Path) -> None:
    board = Leaderboard.from_run(make_run(tmp_path / "run", {"a": {}, "b": {}}, identities=3))
    assert any("Student" in note for note in board.notes)


def test_mismatch_and_pending_are_noted(tmp_path: Path) -> None:
    import sqlite3

    run = make_run(tmp_path / "run", {"a": {"placement": "far"}, "b": {"placement": "tass"}})
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE videos SET status = 'pending' WHERE sample = 's001'")
        db.execute(
            "DELETE FROM scores WHERE video IN (SELECT video FROM videos WHERE status = 'pending')"
        )
    board = Leaderboard.from_run(run)
    assert any("marked *" in note for note in board.notes)
    assert any("2 videos are still to be generated" in note for note in board.notes)
    assert board.cell(0, 0).failed == 0


def test_fvd_is_resampled_with_the_people_that_its_run_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    told = "is drawn from its own interval, apart from the samples"
    before = Leaderboard.from_run(run, rank="fvd.videomae")
    assert any(told in note for note in before.notes)
    assert not any(told in note for note in Leaderboard.from_run(run, rank="text.clip").notes)
    # All entries' FVD hangs on the same person, so that no resample reorders them.
    people = sorted(set(before.scores.keys["identity"]))
    effects = [[[person], 30.0 if i == 0 else -30.0 / (len(people) - 1)]
               for i, person in enumerate(people)]  # fmt: skip
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE set_scores SET influences = ?", (json.dumps(effects),))
    after = Leaderboard.from_run(run, rank="fvd.videomae")
    assert not any(told in note for note in after.notes)
    assert all(s.low == s.place == s.high for s in after.standings)
    assert not all(s.low == s.place == s.high for s in before.standings)
    assert [s.place for s in after.standings] == [s.place for s in before.standings]
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE set_scores SET influences = NULL, low = NULL, high = NULL")
    fixed = Leaderboard.from_run(run, rank="fvd.videomae")
    assert any("is held fixed, apart from the samples" in note for note in fixed.notes)
    assert all(s.low == s.place == s.high for s in fixed.standings)
    with sqlite3.connect(run / "store.sqlite") as db:  # nobody has a sample of this person
        db.execute("UPDATE set_scores SET influences = ?", ('[[["nobody"], 1.0]]',))
    assert any(
        "is held fixed" in note for note in Leaderboard.from_run(run, rank="fvd.videomae").notes
    )


def test_of_many_columns_that_agree_those_that_count_are_named(tmp_path: Path) -> None:
    rows = [f"m{i},{i},{i + 0.5},{2 * i},{i * i},{(i * 7) % 5}" for i in range(6)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["model,a ^,b ^,c ^,FID v,CLIPScore ^", *rows]))
    note = next(n for n in Leaderboard.from_table(table, rank="FID").notes if "alike" in n)
    assert note.count("and FID (+1.00)") == 3
    assert note.endswith("; and 3 more pairs.")
