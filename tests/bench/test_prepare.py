"""`stdrc prepare`: what is read, what is found in clips, what is left out, and going on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cli import main
from bench.errors import BenchError
from bench.preparing.clips import bucket
from bench.preparing.run import identities
from bench.preparing.sources import read_sources
from media.writing import write_video

RULES = ["every=1", "min_seconds=0.1", "min_face=8", "several=0.5", "cut=0.9"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn people, one of them without a caption, and files that are no good."""
    from miniature.world import World

    folder = tmp_path_factory.mktemp("clips")
    world = World(split="train", size=3)
    for number, clip in enumerate(world):
        write_video(folder / f"clip{number}.mp4", np.asarray(clip.frames), 8.0)
        if number < 2:
            (folder / f"clip{number}.txt").write_text("a person waves")
    grey = np.full((9, 64, 64, 3), 128, np.uint8)
    write_video(folder / "nobody.mp4", grey, 8.0)
    (folder / "broken.mp4").write_bytes(b"not a video")
    for name in ("nobody", "broken"):
        (folder / f"{name}.txt").write_text("a wall")
    return folder


def prepare(source: Path, out: Path, *more: str) -> int:
    rules = [part for rule in RULES for part in ("--set", rule)]
    given = [str(source), "--out", str(out), "--faces", "miniature", "--device", "cpu", *rules]
    return call("prepare", *given, *more)


def call(*words: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_a_folder_becomes_a_training_folder(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stdrc.training.folder import read_folder

    out = tmp_path / "out"
    assert prepare(clips, out) == 0
    said = capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert (report["clips"], report["kept"]) == (5, 2)
    assert report["left_out"] == {"no caption": 1, "no face": 1, "unreadable": 1}
    assert "2 of 5 clips" in said
    assert "left out: 1 no face" in said
    entries, problems = read_folder(out)
    assert not problems
    assert [entry.caption for entry in entries] == ["a person waves"] * 2
    for entry in entries:
        assert entry.boxes is not None
        assert len(entry.boxes) == 9
        assert entry.reference_boxes is not None
        assert entry.identity.startswith("person")
    page = (out / "report.html").read_text()
    assert "2 of 5 clips kept" in page
    assert "nobody.mp4" in page


def test_shards_meet_in_one_folder_and_nothing_is_looked_at_twice(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.preparing import run

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert prepare(clips, whole) == 0
    looked: list[str] = []
    look = run.look

    def watched(source: Any, *rest: Any) -> Any:
        looked.append(source.video.name)
        return look(source, *rest)

    monkeypatch.setattr(run, "look", watched)
    capsys.readouterr()
    assert prepare(clips, out, "--shard", "1/2") == 0
    assert "2 of 5 clips are left for other shards" in capsys.readouterr().out
    assert not (out / "metadata.jsonl").exists()
    assert prepare(clips, out, "--shard", "2/2") == 0
    assert prepare(clips, out) == 0
    assert len(looked) == len(set(looked)) == 5
    assert (out / "metadata.jsonl").read_bytes() == (whole / "metadata.jsonl").read_bytes()
    assert prepare(clips, out, "--set", "min_face=4000") == 0  # other rules are another finding
    assert len(looked) == 10
    assert (out / "metadata.jsonl").read_text() == ""


def test_published_layouts_are_read(clips: Path, tmp_path: Path) -> None:
    def put(folder: str, *names: str) -> Path:
        place = tmp_path / folder
        place.mkdir(parents=True)
        for name in names:
            shutil.copyfile(clips / Path(name).name, place / Path(name).name)
        return place

    def read(path: Path) -> dict[str, tuple[str, str]]:
        return {s.video.name: (s.caption, s.identity) for s in read_sources(str(path))}

    # ConsisID as downloaded: captions/*.json, and videos/ a link
    elsewhere, consisid = put("disk", "clip0.mp4", "clip1.mp4"), tmp_path / "consisid"
    (consisid / "captions").mkdir(parents=True)
    (consisid / "videos").symlink_to(elsewhere)
    (consisid / "captions" / "1.json").write_text(
        json.dumps([{"path": "a/b/clip0.mp4", "cap": ["waves"]}, {"path": "x.mp4", "cap": "no"}])
    )
    assert read(consisid) == {"clip0.mp4": ("waves", ""), "x.mp4": ("", "")}
    named = tmp_path / "named"
    named.mkdir()
    shutil.copytree(consisid, named / "part", symlinks=True)
    (named / "total_train_data.txt").write_text("/data/them/part,/data/them/part/captions/1.json\n")
    assert read(named)["clip0.mp4"] == ("waves", "")
    # VIP-200K: a folder a person
    vip = put("vip/person1", "clip0.mp4").parent
    put("vip/person2", "clip1.mp4")
    (vip / "person2" / "clip1.txt").write_text("runs")
    assert read(vip) == {"clip0.mp4": ("", "person1"), "clip1.mp4": ("runs", "person2")}
    # OpenS2V-5M: a JSON of names with metadata
    s2v = put("s2v", "clip0.mp4")
    (s2v / "part.json").write_text(
        json.dumps({"clip0": {"metadata": {"path": "clip0.mp4", "face_cap_qwen": "talks"}}})
    )
    assert read(s2v / "part.json") == read(s2v) == {"clip0.mp4": ("talks", "")}
    (s2v / "list.csv").write_text("video,caption,person\nclip0.mp4,sits,anna\n")
    assert read(s2v / "list.csv") == {"clip0.mp4": ("sits", "anna")}
    from datasets import Dataset

    rows = {"video": [str(s2v / "clip0.mp4")], "caption": ["jumps"]}
    Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    assert read(tmp_path / "set") == {"clip0.mp4": ("jumps", "")}
    with pytest.raises(BenchError, match="holds no videos"):
        read_sources(str(put("empty")))
    (s2v / "bad.jsonl").write_text('{"video": "../disk/clip1.mp4", "caption": "x"}\n')
    assert "there is no video" in read_sources(str(s2v / "bad.jsonl"))[0].problem


def test_people_are_told_apart_in_one_pass() -> None:
    generator = np.random.default_rng(0)
    centres = np.linalg.qr(generator.normal(size=(32, 32)))[0][:4]
    who = generator.integers(0, 4, size=60)
    faces = centres[who] + 0.05 * generator.normal(size=(60, 32))
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    names = identities(faces, [""] * 60, 0.6)
    assert len(set(names)) == 4
    assert len(set(zip(names, who.tolist()))) == 4
    given = ["anna", *[""] * 59]
    assert identities(faces, given, 0.6)[0] == "anna"
    assert identities(np.zeros((0, 0)), [], 0.6) == []


def test_shapes_are_the_nearest(clips: Path) -> None:
    assert bucket(720, 1280, 300, 30.0) == "480x832x121"
    assert bucket(1280, 720, 60, 30.0) == "832x480x25"
    assert bucket(500, 500, 12, 24.0) == "640x640x12"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere"], "There is no folder, file or data set nowhere"),
        (["{clips}", "--set", "min_fce=3"], "unknown key 'min_fce'"),
        (["{clips}", "--set", "min_face"], "--set takes a rule=value"),
        (["{clips}", "--faces", "nobody"], "no face backend is called 'nobody'"),
        (["{clips}", "--shard", "3/2"], "--shard is I/N"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    clips: Path, tmp_path: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [each.format(clips=clips) for each in given]
    assert call("prepare", *argv, "--out", str(tmp_path / "out"), "--device", "cpu") == 2
    assert message in capsys.readouterr().err
