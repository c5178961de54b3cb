"""`stdrc score`: which videos and samples, what is printed and written, and the exit code."""

import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.cli import main
from bench.commands.score import _from_files, _from_samples
from bench.default_metrics import default_metrics
from bench.errors import BenchError
from tests.media.clips import group_photo, steps, write_video

METRICS = "faces.rate.facenet,temporal.flicker"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scored")
    photo = cv2.resize(group_photo(640), (320, 222))
    for i in (1, 2, 10):
        write_video(root / f"{i}.mp4", np.stack([photo, photo[:, ::-1]]))
    return root


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["score", *map(str, arguments)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


def test_a_folder_prints_a_table_and_writes_three_files(folder, tmp_path, run):
    code, out, _ = run(folder, "-m", METRICS, "--out", tmp_path / "s", "--num-frames", 2)
    assert code == 0
    assert "3 videos" in out
    assert re.search(r"faces\.rate\.facenet\s.*1.*3", out)
    tables, _, _ = out.partition("Written:")
    assert max(map(len, tables.splitlines())) <= 80
    assert "Videos, the worst first" in tables
    assert re.search(r"temporal\.flicker ↑ .*\[.*\] +3", tables)
    assert run(folder, "-m", METRICS, "--out", tmp_path / "s")[0] == 2, "there is a --force"
    table = pd.read_csv(tmp_path / "s/scores.csv", keep_default_na=False, na_values={"value": ""})
    parquet = pd.read_parquet(tmp_path / "s/scores.parquet")
    content = json.loads((tmp_path / "s/scores.json").read_text())
    assert len(table) == len(parquet) == len(content["scores"]) == 6
    assert list(dict.fromkeys(table["key"])) == ["1.mp4", "2.mp4", "10.mp4"]  # natural order
    assert table["value"].tolist() == pytest.approx(parquet["value"].tolist())
    assert [s["value"] for s in content["scores"]] == pytest.approx(parquet["value"].tolist())
    assert not list((tmp_path / "s").glob(".*"))


def test_bad_videos_are_counted_and_exit_with_one(tmp_path, run):
    write_video(tmp_path / "good.mp4", steps())
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video")
    arguments = (tmp_path, "-m", "temporal.flicker")
    code, out, err = run(*arguments)
    assert code == 1
    assert err.splitlines()[-1] == "2 of 3 scores failed"
    assert "Failed (2 scores, 2 videos)" in out
    assert "zero.mp4: " in out
    assert re.search(r"the worst first(.|\n)* (text|zero)\.mp4 +-(.|\n)* good\.mp4 ", out)
    assert "0 bytes" in out
    assert run(*arguments, "--strict")[0] == 1
    assert run(tmp_path / "good.mp4", "-m", "temporal.flicker", "--strict")[0] == 0


def test_what_does_not_apply_fails_only_where_it_was_named(folder, run):
    video = folder / "1.mp4"
    code, out, _ = run(video, "-m", "timeline.*,temporal.flicker")
    assert code == 0
    assert re.search(r"Not applicable \(\d+\):\n  timeline\.", out)
    assert "needs a timeline" in out
    code, out, err = run(video, "-m", "identity.dlib,temporal.flicker")
    assert code == 1
    said = "0 of 2 scores failed; identity.dlib can be computed for none of the videos"
    assert err.splitlines()[-1] == said
    assert re.search(r"temporal\.flicker .* 1 ", out)


def test_json_is_all_that_is_printed(folder, run):
    code, out, _ = run(folder / "1.mp4", "-m", "temporal.flicker", "--json")
    assert code == 0
    (score,) = json.loads(out)["scores"]
    assert (score["key"], score["status"], score["metric"]) == ("1.mp4", "ok", "temporal.flicker")


def test_samples_of_the_challenge_give_prompts_and_references(folder, tmp_path, run):
    (tmp_path / "images").mkdir()
    Image.fromarray(group_photo(320)).save(tmp_path / "images/id001.webp")
    entries = [{"img": "id001.webp", "prompt": f"a person, take {i}"} for i in range(3)]
    (tmp_path / "eval.json").write_text(json.dumps(entries))
    code, out, _ = run(
        folder, "--samples", tmp_path / "eval.json", "-m", "temporal.flicker", "--json"
    )
    scores = json.loads(out)["scores"]
    assert code == 1
    assert [s["key"] for s in scores] == ["1", "2", "3"]
    assert [s["status"] for s in scores] == ["ok", "ok", "failed"]  # there is no 3.mp4
    assert "No such file" in scores[2]["reason"]


def people(folder, rows, header="id,prompt,reference,identity"):
    for name in ("ada", "ben"):
        Image.fromarray(group_photo(64)).save(folder / f"{name}.png")
    (folder / "people.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "people.csv"


def test_a_tables_ids_say_which_video_is_whose(folder, tmp_path):
    rows = ["2,a person waves,ada.png,Ada", "1,a person reads,ben.png,Ben"]
    items = _from_samples(folder, people(tmp_path, rows))
    assert [(i.key, i.video.name, i.references[0].name, i.identity) for i in items] == [
        ("2", "2.mp4", "ada.png", "Ada"),
        ("1", "1.mp4", "ben.png", "Ben"),
    ]
    header = "prompt,reference,video"
    rows = ["a person waves,ada.png,10.mp4", "a person reads,ben.png,1.mp4"]
    items = _from_samples(folder, people(tmp_path, rows, header))
    assert [(i.key, i.video.name) for i in items] == [("1", "10.mp4"), ("2", "1.mp4")]


def test_files_in_their_order_are_the_rows_in_theirs(folder, tmp_path):
    rows = [f"{name},a person waves,ada.png,Ada" for name in "cab"]
    items = _from_samples(folder, people(tmp_path, rows), "order")
    found = [(item.key, item.video.name) for item in items]
    assert found == [("c", "1.mp4"), ("a", "2.mp4"), ("b", "10.mp4")]
    with pytest.raises(BenchError, match="3 videos for 2 samples"):
        _from_samples(folder, people(tmp_path, rows[:2]), "order")


def test_a_table_that_matches_nothing_is_refused(folder, tmp_path, run):
    table = people(tmp_path, ["clip-1,a person waves,ada.png,Ada"])
    code, out, err = run(folder, "--samples", table, "-m", "temporal.flicker")
    assert (code, out) == (2, "")
    assert "None of the 1 samples" in err
    assert "looked for clip-1 with any ending" in err
    assert "column 'video'" in err


def test_references_by_file_and_by_name(folder, tmp_path):
    image = Image.fromarray(group_photo(64))
    image.save(tmp_path / "2.png")
    by_name = _from_files(folder, [tmp_path], None)
    assert [len(i.references) for i in by_name] == [0, 1, 0]
    both = _from_files(folder, [tmp_path / "2.png", tmp_path / "2.png"], "words")
    assert {(len(i.references), i.prompt) for i in both} == {(2, "words")}


def test_the_default_takes_what_fits(folder, tmp_path):
    plain, skipped = default_metrics(_from_files(folder, None, None))
    assert {"faces.rate.dlib", "temporal.flicker"} <= set(plain)
    assert len(skipped) <= 3
    assert "1 metrics that are measured by another backend already" in skipped[-1]
    assert not [n for n in plain if n.endswith("miniature") or n.startswith("identity.dlib.l")]
    Image.fromarray(group_photo(64)).save(tmp_path / "face.png")
    more, _ = default_metrics(_from_files(folder, [tmp_path / "face.png"], None))
    assert "identity.dlib" in more
    assert set(plain) < set(more)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}", "-m", "temporal.flickr"], "temporal.flicker"),
        (["{folder}/gone"], "no video or folder"),
        (["{folder}", "-r", "{folder}/gone.png"], "no reference"),
        (["{folder}", "--samples", "{folder}", "-p", "x"], "brings its own"),
        (["{folder}", "-m", ","], "names no metric"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_with_two(folder, run, arguments, words):
    code, out, err = run(*(a.format(folder=folder) for a in arguments))
    assert code == 2
    assert words in err
    assert "Traceback" not in err + out
