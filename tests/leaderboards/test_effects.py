from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leaderboards import Leaderboard, LeaderboardError
from leaderboards.effects import (
    effect_columns,
    effect_sentences,
    effects,
    effects_frame,
    every_effect,
    interactions,
)
from tests.leaderboards.runs import make_run


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return Leaderboard.from_run(make_run(tmp_path_factory.mktemp("effects") / "run"))


def test_planted_effects_are_told_person_by_person(board: Leaderboard) -> None:
    found = {(e.value, e.column.key): e for e in effects(board, "text") if e.where == "marginal"}
    # `make_run` adds 0.04 of text per unit of the text weight, and nothing to identity.
    three, five = found["3", "text.clip"], found["5", "text.clip"]
    assert three.difference == pytest.approx(0.08, abs=0.01)
    assert five.difference == pytest.approx(0.16, abs=0.01)
    assert three.low < 0.08 < three.high
    assert three.decided
    assert three.p == 2 / 2**8
    assert not found["3", "identity.dlib"].decided
    assert (three.points, three.identities, three.n) == (6, 8, 16)


def test_marginal_differences_are_means_of_matched_pairs(board: Leaderboard) -> None:
    effect = next(e for e in effects(board, "placement", {"placement": "overlap"}))
    assert (effect.value, effect.baseline) == ("tass", "overlap")
    means = {tuple(entry.axes.values()): board.means[i, 0] for i, entry in enumerate(board.entries)}
    pairs = [
        mean - means["overlap", *point] for (place, *point), mean in means.items()
        if place == "tass"
    ]  # fmt: skip
    assert effect.difference == pytest.approx(sum(pairs) / 9)


def test_the_best_point_is_where_the_first_entry_stands(board: Leaderboard) -> None:
    first = board.entries[0].axes
    effect = next(e for e in effects(board, "text") if e.where == "best point")
    assert effect.at == f"placement {first['placement']}, reference {first['reference']:g}"
    assert effect.points == 1


def test_interactions_need_a_full_grid(board: Leaderboard, tmp_path: Path) -> None:
    found = interactions(board)
    assert {e.axis for e in found} == {
        "placement x text", "placement x reference", "text x reference",
    }  # fmt: skip
    assert not any(e.decided for e in found)  # `make_run` plants none
    cells = {
        "a": {"placement": "tass", "text": 1.0}, "b": {"placement": "tass", "text": 3.0},
        "c": {"placement": "overlap", "text": 1.0},
    }  # fmt: skip
    star = Leaderboard.from_run(make_run(tmp_path / "run", cells))
    assert interactions(star) == []
    assert "Interactions" not in " ".join(effect_sentences(every_effect(star)))


def test_sentences_and_frame(board: Leaderboard) -> None:
    found = every_effect(board)
    sentences = effect_sentences(found)
    assert sentences[-1] == "Interactions: none is decided."
    told = next(s for s in sentences if s.startswith("text 3 against 1"))
    assert told.startswith(
        "text 3 against 1, over 6 points of the other axes and 8 identities: Text +0.0"
    )
    assert "; not decided (Holm): Identity" in told
    frame = effects_frame(found)
    assert len(frame) == len(found)
    assert set(frame["where"]) == {"marginal", "best point", "interaction"}


def test_off_is_the_baseline_where_there_is_one(tmp_path: Path) -> None:
    cells = {f"{a}": {"augmentation": a} for a in ("on", "off")}
    board = Leaderboard.from_run(make_run(tmp_path / "run", cells))
    effect = effects(board, "augmentation")[0]
    assert (effect.value, effect.baseline) == ("on", "off")


def test_bad_names(board: Leaderboard) -> None:
    with pytest.raises(LeaderboardError, match="no entry has an axis 'size'"):
        effects(board, "size")
    with pytest.raises(LeaderboardError, match="no entry has an axis 'size'"):
        every_effect(board, {"size": 3})
    with pytest.raises(LeaderboardError, match="text was never 9: choose the baseline among 1, 3"):
        effects(board, "text", {"text": 9})
    with pytest.raises(LeaderboardError, match="no samples to pair"):
        effects(board, "text", columns=["fvd.videomae"])


def test_equal_on_every_person_is_told_in_two_decimals(board: Leaderboard) -> None:
    effect = effects(board, "text")[0]
    same = replace(effect, difference=0.0, low=0.0, high=0.0)
    assert same.text() == f"{effect.column.title} +0.00 [0.00, 0.00]"


def test_what_was_copied_is_told_though_no_family_counts_it(
    board: Leaderboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [board.columns[c].key for c in effect_columns(board)]
    copied = replace(
        board.column("temporal.warp"), metric="leakage.attributes.any", diagnostic=True
    )
    c = board.columns.index(board.column("temporal.warp"))
    monkeypatch.setattr(board, "columns", [*board.columns[:c], copied, *board.columns[c + 1 :]])
    assert [board.columns[k].metric for k in effect_columns(board)] == [*keys, copied.metric]
