"""Mistakes that people make, each through the real command line: the exit code and the sentence.

0: done; 1: it ran and something failed; 2: asked for wrongly. A message is one sentence that says
what is wrong, where and what to do; nothing of a library's own voice, and no traceback.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from bench.cli import main
from media.writing import write_video
from tests.media.clips import group_photo, steps

RUN = """
name: mine
run: runs/mine
evalset: {kind: csv, path: people.csv, id: id}
generator: {kind: folder, path: videos, name: theirs}
metrics: {names: [temporal.flicker]}
"""
FOREIGN = ("pydantic", "optuna", "errors.", "Traceback", "Errno", "type=", "Input should")


@pytest.fixture
def stdrc(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            with pytest.raises(SystemExit) as ended:
                main([*map(str, arguments)])
        out, err = capsys.readouterr()
        code = ended.value.code or 0
        assert not [word for word in FOREIGN if word in out + err]
        if code == 2:
            assert not [str(warning.message) for warning in heard]
            assert err.count("\n") <= 2, err
        return code, out + err

    return call


@pytest.fixture
def study(tmp_path):
    """Two videos, their table, and a config that scores them."""
    Image.fromarray(group_photo(320)).save(tmp_path / "face.png")
    Image.new("RGB", (64, 64), "green").save(tmp_path / "green.png")
    rows = ["id,prompt,reference", "a,a person waves,face.png", "b,a person reads,face.png"]
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
    for name, seed in (("a", 1), ("b", 2)):
        noise = np.random.default_rng(seed).uniform(0, 0.05, (4, 32, 32, 3))
        write_video(tmp_path / f"videos/{name}.mp4", 0.5 + noise, 8)
    (tmp_path / "home").mkdir()
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("generator:", "genrator:", ["run.yaml:5", "Did you mean 'generator'?"]),  # 1
        ("names:", "name:", ["run.yaml:6", "Did you mean 'names'?"]),  # 2
        ("temporal.flicker", "temporal.fliker", ["Did you mean 'temporal.flicker'"]),  # 3
        ("path: videos", "path: vids", ["there is no folder", "vids"]),  # 4
        ("people.csv", "peple.csv", ["peple.csv", "does not exist"]),  # 5
        ("[temporal.flicker]", "x", ["run.yaml:6", "should be 'all' or a valid list"]),  # 32
    ],
)  # fmt: skip
def test_a_config(study, stdrc, old, new, words):
    edit(study / "run.yaml", old, new)
    code, said = stdrc("bench", "run.yaml")
    assert code == 2
    assert [word for word in words if word not in said] == [], said


def test_a_config_that_is_not_there(study, stdrc):  # 6
    code, said = stdrc("bench", "runn.yaml")
    assert code == 2
    assert "There is no file runn.yaml" in said
    assert "Did you mean 'run.yaml'?" in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-o", "x.avi"), 2, ["x.mp4"]),  # 7
        (("-o", "x"), 2, ["x.mp4"]),
        (("-o", "nowhere/x.mp4"), 2, ["no folder nowhere"]),  # 19
        (("--device", "cuda"), 2, ["'cuda'", "auto or cpu"]),  # 23
        (("--device", "gpu"), 2, ["'gpu'", "Did you mean 'cuda'?"]),  # 24
        (("--frames", "10"), 2, ["10", "9"]),  # 25
        (("--height", "100"), 2, ["100", "96"]),
        (("--steps", "1"), 2, ["take at least 2"]),  # 26
    ],
)
def test_generate(study, stdrc, arguments, code, words):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a card")
    given = ("generate", "-p", "a person turns left", "-r", "face.png", "-q", *arguments)
    found, said = stdrc(*given)
    assert found == code, said
    assert [word for word in words if word not in said] == [], said


def test_generate_says_what_the_miniature_was_not_taught(study, stdrc):  # 27
    # With --strict the remark is a refusal, so nothing has to be generated for it here.
    given = ("generate", "-r", "face.png", "--strict", "-p", "a dragon sings an aria")
    code, said = stdrc(*given)
    assert code == 2
    assert "dragon" in said
    assert "face.png" in said


def test_no_face_in_the_reference(study, stdrc):  # 8
    code, said = stdrc("score", "videos", "-r", "green.png", "-m", "identity.dlib")
    assert code == 1
    assert "no face" in said
    assert "2 of 2 scores failed" in said


def test_weights_that_are_missing(study, stdrc, monkeypatch):  # 9
    monkeypatch.setenv("HF_HOME", str(study / "empty"))
    code, said = stdrc(
        "score", "videos", "-p", "words", "-m", "fvd.i3d,temporal.flicker", "--strict"
    )
    assert code == 1
    assert "stdrc weights fetch i3d.torchscript" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "-p", "x", "--variant", "tass_on"), ["Did you mean 'tass-on'?"]),  # 10
        (("bench", "run.yaml", "--shard", "5/4"), ["I/N", "for example 3/16"]),  # 11
        (("bench", "run.yaml", "--shard", "3of4"), ["I/N", "for example 3/16"]),
        (("scroe", "videos"), ["Did you mean 'score'?"]),  # 30
        (("leaderboard", "nothere"), ["nothere", "give a run folder"]),  # 31
    ],
)
def test_names(study, stdrc, arguments, words):
    code, said = stdrc(*arguments)
    assert code == 2
    assert [word for word in words if word not in said] == [], said


def test_a_run_that_is_not_there_is_met_with_those_that_are(study, stdrc):  # 31
    assert stdrc("bench", "run.yaml")[0] == 0
    code, said = stdrc("leaderboard", "runs/nothere")
    assert code == 2
    assert "mine" in said


@pytest.mark.parametrize(
    ("write", "code", "words"),
    [
        (lambda t: b"\xef\xbb\xbf" + t.replace("\n", "\r\n").encode(), 0, []),  # 12
        (lambda t: t.replace(",", ";").encode(), 0, []),  # 13
        (lambda t: t.replace(",", "\t").encode(), 0, []),
        (lambda t: t.replace("waves", "fl\xe2ne").encode("latin-1"), 2,
         ["people.csv:2", "save the file as UTF-8"]),  # 14
        (lambda t: t.replace("waves", "waves, smiling").encode(), 2, ["people.csv:2"]),  # 15
        (lambda t: t.replace("a person reads", '"a person reads').encode(), 2, ["people.csv:"]),
    ],
)  # fmt: skip
def test_tables(study, stdrc, write, code, words):
    table = study / "people.csv"
    table.write_bytes(write(table.read_text()))
    found, said = stdrc("bench", "run.yaml")
    assert found == code, said
    assert [word for word in words if word not in said] == [], said


def test_home_in_a_config_and_after_an_equals_sign(study, stdrc):  # 16, 17
    (study / "videos").rename(study / "home/videos")
    edit(study / "run.yaml", "path: videos", "path: ~/videos")
    edit(study / "run.yaml", "run: runs/mine", "run: ~/mine")
    assert stdrc("bench", "run.yaml")[0] == 0
    assert (study / "home/mine/store.sqlite").is_file()
    given = ("score", "~/videos", "-m", "temporal.flicker", "--out=~/scored")
    assert stdrc(*given)[0] == 0
    assert (study / "home/scored/scores.csv").is_file()
    assert not (study / "~").exists()


def test_odd_names(study, stdrc):  # 18
    odd = study / "my: v\u00eddeos"
    (study / "videos").rename(odd)
    (odd / "a.mp4").rename(odd / "file: a.mp4")
    given = ("score", odd, "-m", "temporal.flicker", "--out", "out: 1")
    code, said = stdrc(*given)
    assert code == 0, said
    (odd / "file: a.mp4").rename(odd / "a.mp4")
    edit(study / "run.yaml", "path: videos", 'path: "my: v\u00eddeos"')
    assert stdrc("bench", "run.yaml", "--run", "runs/a: b")[0] == 0


def test_an_out_that_is_a_file(study, stdrc):  # 19
    (study / "taken").write_text("")
    code, said = stdrc("score", "videos", "-m", "temporal.flicker", "--out", "taken")
    assert code == 2
    assert "taken" in said
    assert "choose another" in said
    code, said = stdrc("bench", "run.yaml", "--run", "taken")
    assert code == 2
    assert "choose another" in said


def test_what_is_there_is_not_overwritten(study, stdrc):  # 20
    before = (study / "videos/a.mp4").read_bytes()
    code, said = stdrc("generate", "-p", "x", "-o", "videos/a.mp4")
    assert code == 2
    assert "--force" in said
    assert (study / "videos/a.mp4").read_bytes() == before
    given = ("score", "videos", "-m", "temporal.flicker", "--out", "scored")
    assert stdrc(*given)[0] == 0
    code, said = stdrc(*given)
    assert code == 2
    assert "--force" in said
    assert stdrc(*given, "--force")[0] == 0
    assert stdrc("bench", "run.yaml")[0] == 0
    code, said = stdrc("bench", "run.yaml")
    assert code == 0
    assert "nothing was left to do" in said


def test_references_anywhere_in_a_table_of_ones_own(study, stdrc):  # 21
    (study / "home/me.png").write_bytes((study / "face.png").read_bytes())
    (study / "link.png").symlink_to(study / "home/me.png")
    (study / "sub").mkdir()
    rows = ["id,prompt,reference", f"a,one,{study}/face.png", "b,two,../face.png"]
    (study / "sub/people.csv").write_text(
        "\n".join([*rows, "c,three,../link.png", "d,four,~/me.png"])
    )
    for name in "cd":
        (study / f"videos/{name}.mp4").write_bytes((study / "videos/a.mp4").read_bytes())
    edit(study / "run.yaml", "people.csv", "sub/people.csv")
    code, said = stdrc("bench", "run.yaml")
    assert code == 0, said
    assert stdrc("score", "videos", "--samples", "sub/people.csv", "-m", "temporal.flicker")[0] == 0


def test_a_table_with_ids(study, stdrc):  # 22
    edit(study / "people.csv", "b,a person", "gone,a person")
    edit(study / "people.csv", "a,a person", "lost,a person")
    given = ("score", "videos", "--samples", "people.csv", "-m", "temporal.flicker")
    code, said = stdrc(*given)
    assert code == 2
    assert "None of the 2 samples has a video" in said


def test_devices_of_score_and_bench(study, stdrc):  # 23, 24
    code, said = stdrc("score", "videos", "-m", "temporal.flicker", "--device", "gpu")
    assert (code, "Did you mean 'cuda'?" in said) == (2, True)
    edit(study / "run.yaml", "flicker]", "flicker], device: gpu")
    code, said = stdrc("bench", "run.yaml")
    assert (code, "Did you mean 'cuda'?" in said) == (2, True)


def test_files_that_are_not_videos(study, stdrc):  # 28
    (study / "videos/cut.mp4").write_bytes((study / "videos/a.mp4").read_bytes()[:600])
    (study / "videos/text.mp4").write_text("no video")
    code, said = stdrc("score", "videos", "-m", "temporal.flicker")
    assert code == 1
    assert "2 of 4 scores failed" in said


@pytest.mark.parametrize("asked", ["temporal", "temporal.*"])
def test_families_and_patterns(study, stdrc, asked):  # 29
    write_video(study / "one.mp4", steps(), 8)
    given = ("score", "one.mp4", "-m", asked.replace("temporal", "temporal"))
    code, said = stdrc(*given)
    assert code == 0, said
    assert "temporal.flicker" in said


def test_an_axis_without_meaning(study, stdrc):  # 33
    (study / "run.yaml").write_text(RUN + "sweep: {grid: {txt: [3]}}\n")
    code, said = stdrc("bench", "run.yaml")
    assert code == 2
    assert "Did you mean 'text'?" in said


def test_a_key_that_is_set_in_the_command(study, stdrc):
    given = ("bench", "run.yaml", "--set", "run=runs/set", "--set", "metrics.num_frames=2")
    assert stdrc(*given)[0] == 0
    assert (study / "runs/set/store.sqlite").is_file()
    code, said = stdrc("bench", "run.yaml", "--set", "metrics.num_frame=2")
    assert (code, "Did you mean 'num_frames'?" in said) == (2, True)
    code, said = stdrc("bench", "run.yaml", "--set", "metrics")
    assert (code, "--set takes key=value" in said) == (2, True)


def test_two_configs_of_one_run_need_names(study, stdrc):  # 34
    edit(study / "run.yaml", ", name: theirs", "")
    text = (study / "run.yaml").read_text()
    (study / "second.yaml").write_text(
        text.replace("name: mine", "name: second").replace("path: videos", "path: others")
    )
    for name, seed in (("a", 3), ("b", 4)):
        noise = np.random.default_rng(seed).uniform(0, 0.05, (4, 32, 32, 3))
        write_video(study / f"others/{name}.mp4", 0.5 + noise, 8)
    assert stdrc("bench", "run.yaml")[0] == 0
    code, said = stdrc("bench", "second.yaml")
    assert code == 2
    assert "generator.name" in said


def test_a_replaced_video(study, stdrc):  # 35
    assert stdrc("bench", "run.yaml")[0] == 0
    write_video(study / "videos/a.mp4", steps(), 8)
    code, said = stdrc("bench", "run.yaml")
    assert code == 0
    assert "1 generated, 1 scored" in said
    code, said = stdrc("bench", "status", "runs/mine")
    assert code == 0
    assert "retired" in said
