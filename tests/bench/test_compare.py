"""`stdrc compare`: which video is whose, what comes out, and that it goes on where it stopped."""

from __future__ import annotations

import _thread
import json
import re
import signal
import threading
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from media.writing import write_video

METRICS = "temporal.flicker,temporal.warping_error.dis"


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


def clip(seed: int, noise: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    still = rng.uniform(0.2, 0.8, (1, 32, 32, 3))
    return np.clip(still + rng.normal(0, noise, (4, 32, 32, 3)), 0, 1)


@pytest.fixture
def study(tmp_path):
    """Six people, a calm model and a noisy one."""
    rows = ["id,prompt,reference"]
    for k in range(6):
        Image.new("RGB", (16, 16), (40 * k, 0, 0)).save(tmp_path / f"face{k}.png")
        rows.append(f"p{k},a person waves {k},face{k}.png")
        write_video(tmp_path / f"ours/p{k}.mp4", clip(k, 0.01), 8)
        write_video(tmp_path / f"theirs/p{k}.mp4", clip(k, 0.2), 8)
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def compare(*more):
    return ("compare", "-s", "people.csv", "ours=ours", "theirs=theirs", "-m", METRICS, *more)


def test_videos_to_a_page_in_one_command_and_again_for_nothing(study, run):
    code, out, _ = run(*compare("-o", "runs/x"))
    assert code == 0
    assert "ours: 6 of 6 samples have a video: p0 = p0.mp4" in out
    assert re.search(r"ours is better than theirs.* over 6 samples of 6 identities", out)
    page = study / "runs/x/leaderboard/index.html"
    before = page.stat().st_mtime_ns
    code, again, _ = run(*compare("-o", "runs/x"))
    assert code == 0
    assert again.splitlines()[-8:] == out.splitlines()[-8:]
    assert page.stat().st_mtime_ns == before
    # Its configs go on from there, and a third model joins the two.
    assert run("bench", "runs/x/ours.yaml")[0] == 0
    code, third, _ = run(
        "compare", "-s", "people.csv", "copy=theirs", "-m", METRICS, "-o", "runs/x"
    )
    assert code == 0
    assert re.search(r"ours is better than copy", third)


def test_a_replaced_and_a_missing_video(study, run):
    assert run(*compare())[0] == 0
    write_video(study / "theirs/p0.mp4", clip(9, 0.0), 8)
    (study / "theirs/p1.mp4").unlink()
    code, out, _ = run(*compare())
    assert code == 1
    assert "without: p1; each counts as the worst value" in out
    assert "count as the worst value: 1;" in out


@pytest.mark.parametrize(
    ("match", "names"),
    [
        ("clip_{index:03d}", "clip_{n:03d}.mp4"),
        ("{identity}/x.mp4", "face{k}/x.mp4"),
        ("order", "take {n}.mp4"),
    ],
)
def test_any_file_naming(study, run, match, names):
    for k in range(6):
        new = study / "theirs" / names.format(n=k + 1, k=k)
        new.parent.mkdir(exist_ok=True)
        (study / f"theirs/p{k}.mp4").rename(new)
        new = study / "ours" / names.format(n=k + 1, k=k)
        new.parent.mkdir(exist_ok=True)
        (study / f"ours/p{k}.mp4").rename(new)
    code, _, err = run(*compare("--plan"))
    assert code == 2
    assert "None of the 6 samples has a video" in err
    code, out, _ = run(*compare("--plan", "--match", match))
    assert code == 0
    assert "p5 = " + names.format(n=6, k=5) in out


def test_a_column_names_the_videos_and_frames_are_a_video(study, run):
    rows = (study / "people.csv").read_text().split()
    table = (study / "people.csv").read_text().splitlines()
    table = [table[0] + ",video", *(f"{row},x{k}" for k, row in enumerate(table[1:]))]
    (study / "people.csv").write_text("\n".join(table) + "\n")
    assert rows
    for k in range(6):
        (study / f"theirs/p{k}.mp4").rename(study / f"theirs/x{k}.mp4")
        (study / f"ours/p{k}.mp4").unlink()
        folder = study / f"ours/x{k}"
        folder.mkdir()
        for t, frame in enumerate(clip(k, 0.01)):
            Image.fromarray((frame * 255).astype(np.uint8)).save(folder / f"{t}.png")
    code, out, _ = run(*compare())
    assert code == 0
    assert "ours: 6 of 6 samples have a video: p0 = x0, " in out
    assert "ours is better than theirs" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ours=ours",), "needs two models"),
        (("ours", "theirs=theirs"), "'ours' is not NAME=FOLDER"),
        (("a=ours", "a=theirs"), "Two models are called 'a'"),
        (("a=ours", "b=gone"), "there is no folder"),
        (("a=ours", "b=theirs", "--match", "{name}"), "unknown {name}"),
        (("a=ours", "b=theirs", "--match", "{identity}x/{sample:d}"), "can't be filled in"),
        (("a=ours", "b=theirs", "--match", "p1.mp4"), "the video of 6 samples"),
        (("a=ours", "b=theirs", "-m", "nothing.at.all"), "nothing.at.all"),
    ],
)
def test_mistakes_are_said_before_anything_runs(study, run, arguments, words):
    code, _, err = run("compare", "-s", "people.csv", *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert not list(study.glob("runs/*/store.sqlite"))


def test_runs_and_scores_side_by_side(study, run):
    """Two runs and the CSV of `stdrc score`: one report, one page, and votes."""
    from leaderboards.votes.pairs import pairs_of_run

    for name in ("ours", "theirs"):
        given = ("compare", "-s", "people.csv", f"{name}={name}", "same=ours", "-m", METRICS)
        assert run(*given, "-o", f"runs/{name}")[0] == 0
    given = ("score", "theirs", "-s", "people.csv", "-m", METRICS, "--out", "scored")
    assert run(*(g.replace("-s", "--samples") if g == "-s" else g for g in given))[0] == 0
    sources = ("runs/ours", "scored/scores.csv")
    code, out, _ = run("leaderboard", "report", *sources, "-o", "both")
    assert code == 0, out
    assert {"ours", "same", "theirs"} <= set(re.findall(r"\w+", out))
    assert (study / "both/index.html").is_file()
    assert run("leaderboard", "report", *sources)[0] == 2
    assert run("leaderboard", "page", *sources, "-o", "page")[0] == 0
    pairs = pairs_of_run([study / "runs/ours", study / "runs/theirs"], ["ours", "theirs"], "ann")
    assert len(pairs) == 6
    assert {pair.left_video.parts[-4] for pair in pairs} == {"ours", "theirs"}
    # The table's videos and references are shown and voted on like the run's.
    for page, videos in (("both", 18), ("page", 18)):
        text = (study / page / "samples/0.js").read_text()
        assert len(re.findall(r"[^\"]+\.mp4", text)) == videos
    assert len(list((study / "page/videos").iterdir())) == 12  # ours and same are the same bytes
    assert len(list((study / "page/references").iterdir())) == 6
    code, out, _ = run("leaderboard", "vote", *sources, "--entry", "ours", "--entry", "theirs",
                       "--plan", "0.2")  # fmt: skip
    assert code == 0
    assert "2 entries, 6 samples" in out
    mixed = pairs_of_run([study / source for source in sources], ["ours", "theirs"], "ann")
    assert {pair.right_video.parent.name for pair in mixed} > {"theirs"}
    assert all(pair.reference == study / f"face{pair.sample[1]}.png" for pair in mixed)


@pytest.fixture
def ctrl_c():
    """Ctrl-C means KeyboardInterrupt, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_people_vote_right_after_the_comparison(study, run, monkeypatch):
    """`--vote` serves a page; one vote is posted as the page does it, then Ctrl-C ends it."""
    from leaderboards import read_votes

    wrong = []

    def judge(url):
        def one_vote():
            try:
                as_the_page_does()
            except BaseException as error:
                wrong.append(error)
            finally:
                _thread.interrupt_main()

        def as_the_page_does():
            with urllib.request.urlopen(url) as answer:
                token = re.search(r'token = "([^"]+)"', answer.read().decode())[1]

            def post(path, body):
                data = json.dumps(body).encode()
                request = urllib.request.Request(url + path, data, {"X-Token": token})
                return json.load(urllib.request.urlopen(request))

            pair = post("next", {})["pair"]
            for side in ("left", "right"):
                assert urllib.request.urlopen(url + pair[side]).read(12)[4:8] == b"ftyp"
            time.sleep(pair["wait"])
            assert post("vote", {"pair": pair["id"], "winner": "left"})["done"] == 1

        threading.Thread(target=one_vote, daemon=True).start()

    monkeypatch.setattr("webbrowser.open", judge)
    code, out, _ = run(*compare("-o", "runs/x", "--vote"))
    assert not wrong
    assert code == 0
    assert "votes go to runs/x/leaderboard/votes.csv" in out
    votes = read_votes(study / "runs/x/leaderboard/votes.csv")
    assert len(votes) == 1
    assert set(votes[["left", "right"]].iloc[0]) <= {
        "ours",
        "theirs",
        "ours (spoilt)",
        "theirs (spoilt)",
    }
    assert votes["winner"].iloc[0] == votes["left"].iloc[0]


def test_references_that_are_gone_are_said(study, run):
    assert run(*compare("-o", "runs/x"))[0] == 0
    (study / "face2.png").rename(study / "elsewhere.png")
    code, _, err = run("leaderboard", "report", "runs/x")
    assert code == 0
    assert "warning: The page cannot show 1 reference image: " in err
    assert "face2.png: The reference image was not found." in err
