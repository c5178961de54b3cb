from __future__ import annotations

from pathlib import Path

import pytest

from leaderboards import Leaderboard, LeaderboardError, ablation
from leaderboards.ablations import ablations
from tests.leaderboards.runs import make_run


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return Leaderboard.from_run(make_run(tmp_path_factory.mktemp("ablations") / "run"))


def test_every_axis_at_a_stated_point(board: Leaderboard) -> None:
    tables = {table.axis: table for table in ablations(board)}
    assert list(tables) == ["placement", "text", "reference"]
    text = tables["text"]
    assert text.caption == "Ablation of text at placement tass, reference 1."
    assert [text.board.entries[i].axes["text"] for i in text.order] == [1.0, 3.0, 5.0]
    means = [text.board.means[i, 1] for i in text.order]
    assert means == sorted(means)


def test_point_can_be_chosen(board: Leaderboard) -> None:
    table = ablation(board, "text", {"placement": "overlap", "reference": 2})
    assert table.point == "placement overlap, reference 2"
    assert {e.axes["placement"] for e in table.board.entries} == {"overlap"}


@pytest.mark.parametrize(
    ("axis", "at", "message"),
    [("size", {}, "no entry has an axis 'size'"), ("text", {"text": 3}, "cannot be held"),
     ("text", {"placement": "far"}, "placement was never far: it was tass, overlap")],
)  # fmt: skip
def test_bad_points(board: Leaderboard, axis: str, at: dict[str, object], message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        ablation(board, axis, at)


def test_star_design_uses_its_centre(tmp_path: Path) -> None:
    cells = {
        "odd": {"placement": "overlap", "text": 3.0},
        "low": {"placement": "tass", "text": 1.0},
        "base": {"placement": "tass", "text": 3.0},
    }
    board = Leaderboard.from_run(make_run(tmp_path / "run", cells))
    assert ablation(board, "placement").fixed == {"text": 3.0}
    assert ablation(board, "text").fixed == {"placement": "tass"}


def test_checkpoint_follows_what_it_was_trained_with(tmp_path: Path) -> None:
    cells = {
        f"{p}{a}": {"placement": p, "augmentation": a, "checkpoint": f"{p}-{a}"}
        for p in ("tass", "overlap")
        for a in (True, False)
    }
    board = Leaderboard.from_run(make_run(tmp_path / "run", cells))
    tables = {table.axis: table for table in ablations(board)}
    assert set(tables) == {"placement", "augmentation"}
    assert tables["placement"].caption == (
        "Ablation of placement at augmentation on; checkpoint follows placement."
    )


def test_axis_that_never_varies_alone_has_no_table(tmp_path: Path) -> None:
    cells = {"a": {"placement": "tass", "text": 1.0}, "b": {"placement": "overlap", "text": 3.0}}
    board = Leaderboard.from_run(make_run(tmp_path / "run", cells))
    assert ablations(board) == []
    with pytest.raises(LeaderboardError, match="fewer than two values"):
        ablation(board, "text")
