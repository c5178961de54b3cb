from __future__ import annotations

from leaderboards import Leaderboard
from leaderboards.tables import to_markdown
from tests.leaderboards.tables.conftest import nasty_board


def test_markdown() -> None:
    text = to_markdown(nasty_board())
    assert "$\\|$" in text
    assert "**0.50**" in text
    assert "*214*" in text


def test_four_to_six_columns_under_short_names_with_a_key(board: Leaderboard) -> None:
    head = to_markdown(board).splitlines()[0]
    assert head == (
        "| # | placement | text | reference | Identity ↑ | Text ↑ | fvd.videomae ↓ | "
        "Warping error ↓ | Motion | Rank sum | N | Failed | Faces |"
    )


def test_baseline_differences(board: Leaderboard) -> None:
    first = board.entries[0]
    text = to_markdown(board, columns=["identity.dlib"], baseline=first.label)
    lines = text.splitlines()
    change = board.means[1, 0] - board.means[0, 0]
    assert f"({change:+.3f})" in lines[3]
    assert "(" not in lines[2]
    assert f"difference from {first.label}" in text
