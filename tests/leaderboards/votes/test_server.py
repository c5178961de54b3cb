from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leaderboards import LeaderboardError, read_votes, vote_points
from leaderboards.votes import QUESTIONS, VoteFile
from leaderboards.votes.pairs import Pair, pairs_of_run, with_checks
from leaderboards.votes.server import VoteServer
from tests.leaderboards.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Long enough that no random word of the server holds one by chance.
    cells = {"a1a1a1a1": {"placement": "tass"}, "b2b2b2b2": {"placement": "overlap"}}
    folder = tmp_path_factory.mktemp("votes") / "run"
    return make_run(folder, cells, identities=2, prompts=2, videos=True, failed=[(0, 3)])


@contextmanager
def serving(pairs: list[Pair], path: Path, **settings: Any) -> Iterator[VoteServer]:
    with VoteServer(pairs, VoteFile(path), "ann", **settings) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(run: Path, tmp_path: Path) -> Iterator[VoteServer]:
    pairs = pairs_of_run(run, ["tass", "overlap"], "ann")
    with serving(pairs, tmp_path / "votes.csv", least=0.0) as server:
        yield server


def ask(
    server: VoteServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    sent = {"X-Token": server.token, **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection.request(method, path, json.dumps(body) if body is not None else None, sent)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_pairs_are_balanced_and_stable(run: Path) -> None:
    pairs = pairs_of_run(run, ["tass", "overlap"], "ann")
    assert len(pairs) == 3  # the fourth sample's video failed
    assert pairs == pairs_of_run(run, ["tass", "overlap"], "ann")
    orders = {
        tuple((p.sample, p.left) for p in pairs_of_run(run, ["tass", "overlap"], f"r{n}"))
        for n in range(12)
    }
    assert len(orders) > 4


def test_bad_entries(run: Path) -> None:
    with pytest.raises(LeaderboardError, match="not a single entry"):
        pairs_of_run(run, ["tass", "nobody"], "ann")
    with pytest.raises(LeaderboardError, match="at least two"):
        pairs_of_run(run, ["tass", "tass"], "ann")


def test_a_whole_session(server: VoteServer) -> None:
    status, page = ask(server, "GET", "/")
    assert status == 200
    assert b"Which video is better?" in page
    status, body = ask(server, "POST", "/next", {})
    answer = json.loads(body)
    votes = 0
    while answer["pair"]:
        pair = answer["pair"]
        # Blind: nothing that the page is told names an entry.
        assert not any(
            word in body.decode() for word in ("tass", "overlap", "a1a1a1a1", "b2b2b2b2")
        )
        status, video = ask(server, "GET", f"/{pair['left']}")
        assert status == 200
        assert video[4:8] == b"ftyp"
        status, part = ask(server, "GET", f"/{pair['left']}", Range="bytes=4-7")
        assert (status, part) == (206, b"ftyp")
        status, picture = ask(server, "GET", f"/{pair['reference']}")
        assert picture.startswith(b"\x89PNG")
        status, body = ask(server, "POST", "/vote", {"pair": pair["id"], "winner": "left"})
        assert status == 200
        answer = json.loads(body)
        votes += 1
    assert votes == answer["done"] == 3
    read = read_votes(server.votes.path)
    assert (read["winner"] == read["left"]).all()
    assert set(read["rater"]) == {"ann"}
    assert vote_points(read)["points"].sum() == 3


def test_only_our_own_page_can_vote(server: VoteServer) -> None:
    _, body = ask(server, "POST", "/next", {})
    word = json.loads(body)["pair"]["id"]
    vote = {"pair": word, "winner": "left"}
    assert ask(server, "POST", "/vote", vote, X_Token="guess")[0] == 403
    assert ask(server, "POST", "/vote", vote, Host="evil.example")[0] == 403
    assert ask(server, "GET", "/", Host="evil.example")[0] == 403
    assert ask(server, "POST", "/vote", {"pair": word, "winner": "both"})[0] == 400
    assert ask(server, "POST", "/vote", {"pair": "other", "winner": "left"})[0] == 400
    assert ask(server, "POST", "/vote", [1])[0] == 400
    assert ask(server, "GET", "/../store.sqlite")[0] == 404
    assert ask(server, "GET", "/media/store.sqlite")[0] == 404
    assert not server.votes.path.exists()


def test_a_pair_takes_one_vote(server: VoteServer) -> None:
    word = json.loads(ask(server, "POST", "/next", {})[1])["pair"]["id"]
    vote = {"pair": word, "winner": "draw"}
    assert ask(server, "POST", "/vote", vote)[0] == 200
    assert ask(server, "POST", "/vote", vote)[0] == 400
    assert len(read_votes(server.votes.path)) == 1


def test_a_rater_goes_on_where_she_stopped(run: Path, tmp_path: Path) -> None:
    pairs, file = pairs_of_run(run, ["tass", "overlap"], "ann"), VoteFile(tmp_path / "votes.csv")
    file.append(vote(pairs[0], "left", "ann"))
    file.append(vote(pairs[1], "left", "bob"))
    with VoteServer(pairs, file, "ann") as server:
        assert server.left_to_do == [(pairs[1], "overall"), (pairs[2], "overall")]


def vote(pair: Pair, side: str, rater: str) -> dict[str, str]:
    winner = {"left": pair.left, "right": pair.right, "draw": "draw"}[side]
    return {"sample": pair.sample, "seed": str(pair.seed), "question": "overall",
            "left": pair.left, "right": pair.right, "winner": winner, "rater": rater}  # fmt: skip


# --------------------------------------------------------------------------- sides


def test_sides_are_swapped_in_half_of_each_pair_of_entries(tmp_path: Path) -> None:
    cells = {f"c{n}": {"placement": p} for n, p in enumerate(("tass", "overlap", "far"))}
    run = make_run(tmp_path / "run", cells, identities=5, prompts=2, videos=True)
    firsts = Counter()
    for rater in range(20):
        pairs = pairs_of_run(run, ["tass", "overlap", "far"], f"r{rater}")
        left = Counter((p.left, p.right) for p in pairs)
        assert len(left) == 6
        assert set(left.values()) == {5}
        firsts += Counter((p.sample, p.left, p.right) for p in pairs)
    assert min(firsts.values()) >= 3  # a sample's sides differ from rater to rater
    odd = pairs_of_run(run, ["tass", "overlap"], "ann", limit=None)[:9]
    assert {p.left for p in odd} == {"tass", "overlap"}


def test_a_side_shows_its_entry_and_a_vote_counts_for_it(run: Path, tmp_path: Path) -> None:
    """What is served on the left is the video of the entry that a vote for the left credits."""
    import sqlite3

    with sqlite3.connect(run / "store.sqlite") as db:
        of = {
            (label, sample): (run / path).read_bytes()
            for label, sample, path in db.execute(
                "SELECT c.label, v.sample, v.path FROM videos v JOIN cells c ON c.cell = v.cell "
                "WHERE v.status = 'done'"
            )
        }
    pairs = [*pairs_of_run(run, ["tass", "overlap"], "ann"),
             *pairs_of_run(run, ["tass", "overlap"], "bob")]  # fmt: skip
    assert {p.left for p in pairs} == {"tass", "overlap"}
    with serving(pairs, tmp_path / "votes.csv", least=0.0) as server:
        answer = json.loads(ask(server, "POST", "/next", {})[1])
        for number, pair in enumerate(pairs):
            side = ("left", "right")[number % 2]
            shown = answer["pair"]
            for where in ("left", "right"):
                entry = getattr(pair, where)
                assert ask(server, "GET", f"/{shown[where]}")[1] == of[entry, pair.sample]
            body = {"pair": shown["id"], "winner": side}
            answer = json.loads(ask(server, "POST", "/vote", body)[1])
            row = read_votes(server.votes.path).iloc[-1]
            assert row["winner"] == getattr(pair, side)


# --------------------------------------------------------------------------- questions and checks


def test_several_questions_about_one_pair(run: Path, tmp_path: Path) -> None:
    pairs = pairs_of_run(run, ["tass", "overlap"], "ann")
    pairs[1] = replace(pairs[1], timeline=((0.0, 1.0, "walks"),))
    asked = ("identity", "timeline", "prompt")
    with serving(pairs, tmp_path / "votes.csv", questions=asked, least=0.0) as server:
        assert server.total == 7  # only one pair has a timeline
        shown = [json.loads(ask(server, "POST", "/next", {})[1])["pair"]]
        for winner in ("left", "bad"):
            body = {"pair": shown[-1]["id"], "winner": winner}
            shown.append(json.loads(ask(server, "POST", "/vote", body)[1])["pair"])
        assert [s["question"] for s in shown] == [
            QUESTIONS["identity"], QUESTIONS["prompt"], QUESTIONS["identity"]
        ]  # fmt: skip
        assert shown[0]["left"] == shown[1]["left"]  # the videos stay where they are
        assert shown[1]["left"] != shown[2]["left"]
        assert shown[2]["timeline"] == [[0.0, 1.0, "walks"]]
        read = read_votes(server.votes.path)
        assert read["question"].tolist() == ["identity", "prompt"]
        assert read["winner"].tolist() == [pairs[0].left, "both bad"]
        assert set(read["identity"]) == {pairs[0].identity}
        with VoteServer(pairs, server.votes, "ann", questions=asked) as again:
            assert len(again.left_to_do) == 5


def test_a_timeline_of_the_store_is_asked_about(tmp_path: Path) -> None:
    import sqlite3

    cells = {f"c{n}": {"placement": p} for n, p in enumerate(("tass", "overlap"))}
    run = make_run(tmp_path / "run", cells, identities=1, prompts=2, videos=True)
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE samples SET timeline = '[[0, 1.5, \"walks\"]]' WHERE sample = 's001'")
    pairs = pairs_of_run(run, ["tass", "overlap"], "ann")
    assert {p.sample: p.timeline for p in pairs} == {"s000": (), "s001": ((0.0, 1.5, "walks"),)}
    with VoteServer(pairs, VoteFile(tmp_path / "v.csv"), "ann", questions=["timeline"]) as server:
        assert server.total == 1


def test_unknown_questions(run: Path, tmp_path: Path) -> None:
    pairs, file = pairs_of_run(run, ["tass", "overlap"], "ann"), VoteFile(tmp_path / "votes.csv")
    with pytest.raises(LeaderboardError, match="beauty cannot be asked"):
        VoteServer(pairs, file, "ann", questions=["beauty"])
    with pytest.raises(LeaderboardError, match="no pair has what timeline asks about"):
        VoteServer(pairs, file, "ann", questions=["timeline"])


def test_a_vote_that_comes_too_soon_is_not_taken(run: Path, tmp_path: Path) -> None:
    pairs = pairs_of_run(run, ["tass", "overlap"], "ann")
    with serving(pairs, tmp_path / "votes.csv", least=0.3) as server:
        shown = json.loads(ask(server, "POST", "/next", {})[1])["pair"]
        assert 0 < shown["wait"] <= 0.3
        body = {"pair": shown["id"], "winner": "left"}
        status, told = ask(server, "POST", "/vote", body)
        assert (status, b"look at both videos for 0.3 s" in told) == (400, True)
        time.sleep(0.35)
        assert ask(server, "POST", "/vote", body)[0] == 200
        assert float(read_votes(server.votes.path)["seconds"][0]) >= 0.3


def test_attention_checks(run: Path, tmp_path: Path) -> None:
    pairs = pairs_of_run(run, ["tass", "overlap"], "ann")
    shown = with_checks(pairs, 2, "ann", tmp_path)
    checks = [p for p in shown if p.check]
    assert (len(shown), len(checks)) == (5, 2)
    assert [p for p in shown if not p.check] == pairs
    with serving(shown, tmp_path / "votes.csv", least=0.0) as server:
        answer = json.loads(ask(server, "POST", "/next", {})[1])
        for pair in shown:
            right = pair.check or "left"
            answer = json.loads(
                ask(server, "POST", "/vote", {"pair": answer["pair"]["id"], "winner": right})[1]
            )
        assert len(read_votes(server.votes.path)) == 3  # the checks themselves are no votes
    spoilt = checks[0].left_video if checks[0].check == "right" else checks[0].right_video
    good = checks[0].right_video if checks[0].check == "right" else checks[0].left_video
    from media.video import read_clip

    bad, real = read_clip(spoilt).frames.astype(int), read_clip(good).frames.astype(int)
    assert bad.shape == real.shape
    assert abs(bad[0] - bad[-1]).mean() < 2  # stands still
    with pytest.raises(LeaderboardError, match="give 2 or more"):
        with_checks(pairs, 1, "ann", tmp_path)


# --------------------------------------------------------------------------- in a browser


@pytest.mark.parametrize(("width", "height"), [(1280, 577), (390, 664)])
def test_buttons_are_above_the_fold(run: Path, tmp_path: Path, width: int, height: int) -> None:
    """What a browser leaves of 1280 x 720 and of a phone; the longest prompt there may be."""
    from tests.leaderboards.browser import open_browser

    pairs = [
        replace(p, prompt="a person who walks " * 40, timeline=((0.0, 1.0, "walks"),) * 6)
        for p in pairs_of_run(run, ["tass", "overlap"], "ann")
    ]
    browser = open_browser()
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        with serving(pairs, tmp_path / "votes.csv", least=0.2) as server:
            browser.get(server.url)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not browser.execute_script(
                "return !document.getElementById('vote-bad').disabled && "
                "[...document.querySelectorAll('video')].every(v => v.videoWidth)"
            ):
                time.sleep(0.05)
            boxes = browser.execute_script(
                "return [...document.querySelectorAll('button, video')]"
                ".map(e => e.getBoundingClientRect()).map(r => [r.top, r.bottom, r.height])"
            )
            assert all(top >= 0 and bottom <= height for top, bottom, _ in boxes), boxes
            assert all(tall >= 100 for _, _, tall in boxes[:2]), boxes
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            browser.find_element("id", "vote-bad").click()
            while time.monotonic() < deadline and not server.votes.path.is_file():
                time.sleep(0.05)
        assert read_votes(tmp_path / "votes.csv")["winner"].tolist() == ["both bad"]
    finally:
        browser.quit()
