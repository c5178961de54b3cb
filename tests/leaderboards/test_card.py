"""The results card, read as the model hub reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main
from leaderboards import Leaderboard, LeaderboardError
from leaderboards.card import results_card
from tests.leaderboards.runs import make_run

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = {f"c{k}": {"model": m} for k, m in enumerate(("ours: a # b", "theirs", "NaN"))}
    return make_run(tmp_path_factory.mktemp("card") / "run", cells, failed=[(1, 2)])


def test_the_hub_reads_the_means(run: Path) -> None:
    board = Leaderboard.from_run(run, on_mixed="blank")
    for row, entry in enumerate(board.entries):
        card = hub.ModelCard(results_card(board, entry.label, "eight: people #1"))
        assert card.data.model_name == entry.label
        assert card.data.pipeline_tag == "text-to-video"
        found = {result.metric_type: result for result in card.data.eval_results}
        means = {
            column.metric: board.means[row, c]
            for c, column in enumerate(board.columns)
            if board.means[row, c] == board.means[row, c]
        }
        assert {name: one.metric_value for name, one in found.items()} == pytest.approx(
            means, rel=1e-5
        )
        for one in found.values():
            assert (one.task_type, one.dataset_name) == ("text-to-video", "eight: people #1")
            assert one.dataset_type == "eight-people-1"
        c = board.columns.index(board.column("identity.dlib"))
        args = found["identity.dlib"].metric_args
        assert args["low"] == pytest.approx(board.lows[row, c], rel=1e-5)
        assert args["n"] == board.cell(row, c).n
        assert args["failed"] == (1 if entry.label == "theirs" else 0)
        assert args["backend"] == "dlib"
        assert args["higher_is_better"] is True
        assert f"place {board.standings[row].text} of 3" in card.text
        assert card.text.count("\n| ") >= 4  # a head and three entries


def test_without_a_name_the_first_entry_and_an_unknown_one_is_refused(run: Path) -> None:
    board = Leaderboard.from_run(run, on_mixed="blank")
    assert hub.ModelCard(results_card(board)).data.model_name == board.entries[0].label
    with pytest.raises(LeaderboardError, match="'mine' is not an entry"):
        results_card(board, "mine")


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["leaderboard", "card", *arguments])
        return int(ended.value.code or 0)

    assert call(str(run), "--entry", "theirs") == 0
    written = Path(capsys.readouterr().out.strip())
    assert written == run / "leaderboard" / "card.md"
    assert hub.ModelCard.load(written).data.model_name == "theirs"
    table = tmp_path / "table.csv"
    table.write_text("team,Face-Arc ^\na,0.5\nb,0.4\n")
    assert call(str(table)) == 2
    assert "Name a file" in capsys.readouterr().err
    assert call(str(table), "-o", str(tmp_path / "card.md"), "--by", "Face-Arc") == 0
    card = hub.ModelCard.load(tmp_path / "card.md")
    assert [r.metric_value for r in card.data.eval_results] == [0.5]
    assert card.data.eval_results[0].dataset_name == "table"
