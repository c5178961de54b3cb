from __future__ import annotations

import csv
import http.client
import json
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboards import LeaderboardError, read_votes, vote_points
from leaderboards.votes.server import Pair, VoteFile, VoteServer, pairs_of_run
from tests.leaderboards.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Long enough that no random word of the server holds one by chance.
    cells = {"a1a1a1a1": {"placement": "tass"}, "b2b2b2b2": {"placement": "overlap"}}
    folder = tmp_path_factory.mktemp("votes") / "run"
    return make_run(folder, cells, identities=2, prompts=2, videos=True, failed=[(0, 3)])


@pytest.fixture
def server(run: Path, tmp_path: Path) -> Iterator[VoteServer]:
    pairs = pairs_of_run(run, ["tass", "overlap"], "ann")
    with VoteServer(pairs, VoteFile(tmp_path / "votes.csv"), "ann") as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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
    with pytest.raises(LeaderboardError, match="no single entry"):
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
    file.append(pairs[0], "left", "ann")
    file.append(pairs[1], "left", "bob")
    with VoteServer(pairs, file, "ann") as server:
        assert server.left_to_do == [1, 2]


def pair(n: int) -> Pair:
    return Pair(f"s{n}", "a,\"b", "c\nd", Path(), Path(), "", None)  # fmt: skip


def _append(path: Path, rater: str) -> None:
    for n in range(40):
        VoteFile(path).append(pair(n), "right", rater)


def test_processes_append_without_harm(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(path, f"r{n}")) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert {row["left"] for row in rows} == {'a,"b'}


def test_a_vote_cut_short_is_dropped(tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.csv")
    plain = Pair("s", "a", "b", Path(), Path(), "", None)
    file.append(plain, "left", "ann")
    with file.path.open("ab") as broken:
        broken.write(b"s2,a,b")
    file.append(plain, "draw", "ann")
    assert read_votes(file.path)["winner"].tolist() == ["a", "draw"]
