from __future__ import annotations

import csv
import fcntl
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboards import LeaderboardError, read_votes, vote_points
from leaderboards.votes import VoteFile
from leaderboards.votes.ballots import HEADER, whole_lines

NASTY = {"sample": "s", "left": 'a,"b', "right": "c\nd", "winner": "c\nd", "rater": "ann"}
PLAIN = {"sample": "s", "left": "a", "right": "b", "winner": "a", "rater": "ann"}


def _append(path: Path, rater: str, times: int, start: Any) -> None:
    start.wait()
    for n in range(times):
        VoteFile(path).append({**NASTY, "sample": f"s{n}", "rater": rater})


@pytest.mark.parametrize(("processes", "times"), [(3, 40), (50, 4)])
def test_processes_append_without_harm(processes: int, times: int, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    context = multiprocessing.get_context("fork")
    start = context.Barrier(processes)
    workers = [
        context.Process(target=_append, args=(path, f"r{n}", times, start))
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == processes * times
    assert {row["left"] for row in rows} == {'a,"b'}
    assert {(row["sample"], row["rater"]) for row in rows} == {
        (f"s{k}", f"r{n}") for k in range(times) for n in range(processes)
    }


def test_a_vote_waits_for_the_one_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    worker = context.Process(target=_append, args=(path, "ann", 1, start))
    worker.start()  # before the file is opened: a child would inherit the lock with it
    with path.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        start.wait()
        time.sleep(0.3)
        assert path.stat().st_size == 0
    worker.join()
    assert len(read_votes(path)) == 1


def test_a_vote_cut_short_is_dropped(tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.csv")
    file.append(PLAIN)
    with file.path.open("ab") as broken:
        broken.write(b"s2,,,,a,b")
    file.append({**PLAIN, "winner": "draw"})
    assert read_votes(file.path)["winner"].tolist() == ["a", "draw"]
    assert len(file.notes) == 1
    assert "line 3: the last vote was cut short" in file.notes[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_is_read_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whole votes are kept, the torn one is named, never a refusal; then the next is written."""
    file = VoteFile(tmp_path_factory.mktemp("cut") / "votes.csv")
    for n in range(3):
        file.append({**NASTY, "sample": f"s{n}"})
    whole = file.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.path.write_bytes(whole[:cut])
    file.append({**NASTY, "sample": "last"})
    votes = read_votes(file.path)
    assert votes["sample"].tolist()[-1] == "last"
    kept = votes["sample"].tolist()[:-1]
    assert kept == [f"s{n}" for n in range(len(kept))]
    ends = [len(whole_lines(whole[:k], file.path)[0]) for k in (cut,)]
    assert ends[0] <= cut + 1
    assert set(votes["left"]) == {'a,"b'}
    assert votes.attrs["notes"] == []


def test_a_torn_line_is_said_where_votes_are_only_read(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("sample,left,right,winner\n1,a,b,a\n2,a,b")
    votes = read_votes(path)
    assert len(votes) == 1
    assert (
        "line 3: the last vote was cut short and is left out ('2,a,b')" in votes.attrs["notes"][0]
    )
    path.write_text("sample,left,right,winner\n1,a,b,a\n2,a,b,draw")  # no line break, but whole
    votes = read_votes(path)
    assert (len(votes), votes.attrs["notes"]) == (2, [])
    path.write_text("sample,left,right,winner")
    with pytest.raises(LeaderboardError, match="no votes yet"):
        read_votes(path)


def test_several_files_and_a_byte_order_mark(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).write_text("sample,left,right,winner\n1,a,b,a\n", "utf-8-sig")
    assert len(read_votes([tmp_path / "x", tmp_path / "y"])) == 2


def test_names_that_pandas_takes_for_missing(tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.csv")
    file.append({**PLAIN, "left": "NaN", "right": "None", "winner": "NaN", "sample": "001"})
    votes = read_votes(file.path)
    assert votes.loc[0, ["sample", "left", "winner"]].tolist() == ["001", "NaN", "NaN"]


def test_another_header_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("sample,left,right,winner,rater,time\n1,a,b,a,ann,now\n")
    before = path.read_bytes()
    with pytest.raises(LeaderboardError, match="name another file with --votes"):
        VoteFile(path).append(PLAIN)
    assert path.read_bytes() == before


def test_votes_on_several_questions_are_not_added_up() -> None:
    frame = pd.DataFrame([PLAIN, {**PLAIN, "winner": "b"}]).assign(question=["quality", "motion"])
    with pytest.raises(LeaderboardError, match="2 questions: choose one of motion, quality"):
        vote_points(frame)
    assert vote_points(read_votes(frame, "motion"))["points"].to_dict() == {"b": 1.0, "a": 0.0}
    with pytest.raises(LeaderboardError, match="no vote answers 'prompt'"):
        read_votes(frame, "prompt")


def test_both_bad_counts_half_for_each_and_is_counted() -> None:
    table = vote_points(pd.DataFrame([PLAIN, {**PLAIN, "winner": "both bad"}]))
    assert table["points"].to_dict() == {"a": 1.5, "b": 0.5}
    assert table["both_bad"].tolist() == [1, 1]


def test_raters_who_fail_their_checks_do_not_count() -> None:
    rows = []
    for rater, passed in (("ann", 4), ("bob", 1), ("cy", 0)):
        rows += [{**PLAIN, "rater": rater, "check": ""}] * 3
        if rater != "cy":  # cy was shown none
            for k in range(4):
                rows.append({**PLAIN, "right": "a (spoilt)", "rater": rater, "check": "a",
                             "winner": "a" if k < passed else "draw"})  # fmt: skip
    votes = read_votes(pd.DataFrame(rows))
    assert votes["rater"].value_counts().to_dict() == {"ann": 3, "cy": 3}
    assert votes.attrs["notes"] == [
        "Left out: 3 votes of bob, who passed 1 of 4 attention checks (at least 70% are wanted)."
    ]
    assert len(read_votes(pd.DataFrame(rows), least_checks=0.0)) == 9
    with pytest.raises(LeaderboardError, match="no vote is left"):
        read_votes(pd.DataFrame([r for r in rows if r["rater"] == "bob"]))


def test_the_header_is_written_once(tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "new" / "votes.csv")
    for _ in range(2):
        file.append(PLAIN)
    assert file.path.read_text().splitlines()[0] == ",".join(HEADER)
    assert len(file.path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"sample": " "}, "a field is empty"),
        ({"right": "a"}, "left and right are the same entry"),
        ({"winner": "c"}, "the winner is neither of the two nor 'draw' nor 'both bad'"),
        ({"left": "draw", "winner": "b"}, "no entry can be called 'draw' or 'both bad'"),
    ],
)
def test_a_broken_vote_is_named_by_its_line(
    broken: dict[str, str], why: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame([PLAIN, {**PLAIN, **broken}])
    with pytest.raises(LeaderboardError, match=f"^votes, line 3: {why}; fix or remove that vote"):
        read_votes(frame)
    frame.to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(LeaderboardError, match=f"v.csv, line 3: {why}"):
        read_votes(tmp_path / "v.csv")


def test_a_frame_comes_back_with_its_own_columns() -> None:
    frame = pd.DataFrame([PLAIN, PLAIN], index=[7, 3])
    votes = read_votes(frame)
    assert votes.columns.tolist() == [*PLAIN, "question"]
    assert votes.index.tolist() == [0, 1]


def test_a_last_line_with_a_quoted_name_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text('sample,left,right,winner\n1,a,b,a\n"2, x",a,b,draw')
    votes = read_votes(path)
    assert (votes["sample"].tolist(), votes.attrs["notes"]) == (["1", "2, x"], [])


def test_what_a_rater_has_given_is_known(tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.csv")
    assert file.given("ann") == set()
    file.append({**PLAIN, "seed": "1", "question": "motion"})
    file.append({**PLAIN, "right": "c", "rater": "bob"})
    assert file.given("ann") == {("s", "1", "motion", frozenset({"a", "b"}))}
    assert file.given("bob") == {("s", "", "overall", frozenset({"a", "c"}))}
    file.path.write_text(",".join(HEADER) + "\n")
    assert file.given("ann") == set()
    file.path.write_text("sample,left,right,winner\n1,a,b,a\n")
    assert (file.given(""), file.given("ann")) == ({("1", "", "overall", frozenset("ab"))}, set())
