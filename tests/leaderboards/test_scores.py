from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from leaderboards import Leaderboard, LeaderboardError
from leaderboards.assembly import assemble
from leaderboards.runs import read_run
from leaderboards.score_tables import read_table, split_direction
from tests.leaderboards.runs import make_run


def long(*rows: tuple[str, str, str, float], backend: str = "dlib") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["entry", "sample", "metric", "value"])
    return frame.assign(identity=frame["sample"].str[:2], backend=backend)


def test_import_is_light() -> None:
    code = (
        "import sys; from leaderboards import Leaderboard, bradley_terry, pack_submission, "
        "check_submission; print([m for m in ('torch', 'metrics', 'bench', 'stdrc') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("header", "name", "higher"),
    [("FID v", "FID", False), ("Face-Cur ^", "Face-Cur", True), ("FVD ↓", "FVD", False),
     ("CLIP↑", "CLIP", True), ("mov", "mov", None), ("identity.dlib", "identity.dlib", None)],
)  # fmt: skip
def test_direction_in_header(header: str, name: str, higher: bool | None) -> None:
    assert split_direction(header) == (name, higher)


def test_run_is_read(tmp_path: Path) -> None:
    rows = read_run(make_run(tmp_path / "run", failed=[(0, 1)]))
    assert len(rows.entries) == 18
    assert len(rows.scores) == (18 * 16 - 1) * 4
    assert rows.meanings["temporal.warp", "dis"].higher_is_better is False
    assert rows.meanings["motion.degree", "dis"].higher_is_better is None
    assert list(rows.face_rate.values()) == pytest.approx([0.9] * 18)
    assert (rows.videos["status"] == "failed").sum() == 1


def test_run_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    writer = sqlite3.connect(run / "store.sqlite")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE videos SET status = 'pending'")
    assert (read_run(run).videos["status"] == "done").all()
    writer.rollback()
    writer.close()


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match=r"has no store\.sqlite"):
        read_run(tmp_path)
    (tmp_path / "store.sqlite").write_bytes(b"not a database at all, but long enough" * 40)
    with pytest.raises(LeaderboardError, match="cannot be opened as a store"):
        read_run(tmp_path)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE meta SET value = '9'")
    with pytest.raises(LeaderboardError, match="schema version 9"):
        read_run(run)


def test_a_run_without_set_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE set_scores SET status = 'failed', value = NULL")
    rows = read_run(run)
    assert rows.summaries.empty
    assert len(rows.scores)


def test_backends_do_not_mix() -> None:
    a = long(("a", "s1", "identity", 0.5), ("a", "s2", "identity", 0.6))
    b = long(("b", "s1", "identity", 0.4), ("b", "s2", "identity", 0.3), backend="arcface")
    said = r"mix backends.*dlib.*'a'.*arcface.*'b'.*with one backend\."
    with pytest.raises(LeaderboardError, match=said):
        Leaderboard.from_table(pd.concat([a, b]))
    board = Leaderboard.from_table(pd.concat([a, b]), on_mixed="blank")
    assert board.cell(1, 0).n == 0
    assert "mix backends" in board.notes[0]


def test_both_backends_of_all_entries_are_two_columns() -> None:
    a = long(("a", "s1", "identity", 0.5), ("b", "s1", "identity", 0.6))
    board = Leaderboard.from_table(pd.concat([a, a.assign(backend="arcface")]))
    assert [c.key for c in board.columns] == ["identity@dlib", "identity@arcface"]


def test_versions_do_not_mix() -> None:
    a = long(("a", "s1", "identity", 0.5)).assign(version="1")
    b = long(("b", "s1", "identity", 0.5)).assign(version="2")
    said = r"mix backends or versions \(dlib 1 for 'a'; dlib 2 for 'b'\).*one version of identity\."
    with pytest.raises(LeaderboardError, match=said):
        Leaderboard.from_table(pd.concat([a, b]))


def test_sample_sets_do_not_mix() -> None:
    rows = long(
        ("a", "s1", "identity", 0.5), ("a", "s2", "identity", 0.6),
        ("b", "s1", "identity", 0.5), ("b", "s2", "identity", 0.6),
        ("c", "s1", "identity", 0.5), ("c", "s3", "identity", 0.6),
    )  # fmt: skip
    with pytest.raises(LeaderboardError, match=r"mix sample sets: 'c'.*2 samples, such as 's[23]'"):
        Leaderboard.from_table(rows)


def test_a_failed_sample_still_belongs_to_the_set() -> None:
    rows = long(("a", "s1", "identity", 0.5), ("a", "s2", "identity", 0.6),
                ("b", "s1", "identity", 0.5), ("b", "s2", "identity", float("nan")))  # fmt: skip
    board = Leaderboard.from_table(rows)
    cell = board.cell([e.key for e in board.entries].index("b"), 0)
    assert (cell.n, cell.failed) == (1, 1)
    assert len(board.failures()) == 1


def test_set_scores_of_other_sizes_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", failed=[(2, 0)])
    with pytest.raises(LeaderboardError, match="sets of different size"):
        Leaderboard.from_run(run)
    board = Leaderboard.from_run(run, on_mixed="blank")
    assert sum(pd.isna(board.means[:, -1])) == 1


def test_published_means_beside_measured_ones_need_trust() -> None:
    measured = read_table(long(("ours", "s1", "Face-Arc", 0.5)), backend="dlib")
    published = read_table(pd.DataFrame({"team": ["theirs"], "Face-Arc": [0.7]}), backend="dlib")
    with pytest.raises(LeaderboardError, match="trust_published"):
        Leaderboard.from_sources([measured, published])
    board = Leaderboard.from_sources([measured, published], trust_published=True)
    assert [e.key for e in board.entries] == ["theirs", "ours"]


def test_unknown_direction_is_refused() -> None:
    frame = pd.DataFrame({"entry": ["a"], "wobble": [1.0]})
    with pytest.raises(LeaderboardError, match="higher 'wobble' is better"):
        read_table(frame)
    rows = read_table(frame, directions={"wobble": "lower"})
    assert rows.meanings["wobble", ""].higher_is_better is False


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"x": [1.0]}), "no column 'entry'"),
        (pd.DataFrame({"entry": [], "identity": []}), "no rows"),
        (pd.DataFrame({"entry": ["a", None], "Face-Arc": [1, 2]}), "line 3"),
        (pd.DataFrame({"entry": ["a"], "Face-Arc": ["much"]}), "'much' is not a number"),
        (pd.DataFrame({"entry": ["a"]}), "no column of scores"),
    ],
)
def test_broken_tables(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        read_table(frame)


def test_same_sample_twice_is_refused() -> None:
    rows = long(("a", "s1", "identity", 0.5), ("a", "s1", "identity", 0.6))
    with pytest.raises(LeaderboardError, match="'s1' twice"):
        assemble(read_table(rows))


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", {"a": {"text": 1.0}})
    two = make_run(tmp_path / "two", {"b": {"text": 1.0}})
    board = Leaderboard.from_runs([one, two])
    assert {e.source for e in board.entries} == {"one", "two"}
    same = make_run(tmp_path / "three", {"a": {"text": 1.0}})
    keys = {e.key for e in Leaderboard.from_runs([one, same]).entries}
    assert keys == {"a", "three/a"}


def test_a_source_that_is_not_there_is_met_with_the_runs_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "runs" / "quick")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LeaderboardError, match=r"Runs that are there: runs/quick\."):
        read_table("nothere")


def test_a_table_names_videos_and_references(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text(
        "entry,sample,metric,value,status,reason,video,reference\n"
        "a,001,text.clip,0.3,ok,,clips/001.mp4,faces/x.png\n"
        "a,001,fvd.clip,,absent,no weights,clips/001.mp4,faces/x.png\n"
        f"a,002,text.clip,0.4,ok,,{tmp_path}/far/2.mp4,\n"
        "a,001,timeline.clip,,absent,no timeline,clips/001.mp4,faces/x.png\n"
        f"a,002,timeline.clip,0.5,ok,,{tmp_path}/far/2.mp4,\n"
        "b,001,text.clip,0.2,ok,,,\n"
    )
    rows = read_table(table, directions={"timeline.clip": "higher", "fvd.clip": "lower"})
    assert rows.videos[["entry", "sample", "path"]].to_numpy().tolist() == [
        ["a", "001", f"{tmp_path}/clips/001.mp4"],
        ["a", "002", f"{tmp_path}/far/2.mp4"],
    ]
    assert rows.samples["refs"].tolist() == [[f"{tmp_path}/faces/x.png"], []]
    # What a metric does not apply to is not a failure, though the video is there.
    assert rows.unfit == {("timeline.clip", "001")}
    assert rows.absent == {"fvd.clip": "no weights"}
    table.write_text("entry,sample,text.clip,video\na,1,0.3,x.mp4\na,2,0.4,y.mp4\n")
    wide = read_table(table)
    assert [Path(path).name for path in wide.videos["path"]] == ["x.mp4", "y.mp4"]
    table.write_text(
        "entry,sample,metric,value,video\na,1,text.clip,1,x.mp4\na,1,text.xclip,1,y.mp4\n"
    )
    with pytest.raises(LeaderboardError, match="names two videos of sample '1' of 'a'"):
        read_table(table)
