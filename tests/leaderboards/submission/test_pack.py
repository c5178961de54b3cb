from __future__ import annotations

import io
import json
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from leaderboards import (
    IncompleteEntryError,
    LeaderboardError,
    ScoresMovedError,
    UnknownNameError,
    check_submission,
    pack_submission,
)
from leaderboards.submission import inspect_video, pack_runs, reencode
from tests.leaderboards.runs import encode, make_run, moving_square
from tests.leaderboards.submission.conftest import FACIAL_SAMPLES, archive_of
from tests.media.numbered import write_numbered

FACIAL = "ipvg2026-facial"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(
        tmp_path / "run", {"c0ffee": {"placement": "tass"}, "c1": {"placement": "overlap"}},
        identities=1, prompts=3, videos=True, sample_ids=["1", "2", "3"],
    )  # fmt: skip


def replace_video(run: Path, cell: str, sample: str, source: Path) -> None:
    with sqlite3.connect(run / "store.sqlite") as db:
        (path,) = db.execute(
            "SELECT path FROM videos WHERE cell = ? AND sample = ?", (cell, sample)
        ).fetchone()
    (run / path).write_bytes(source.read_bytes())


def brightness(paths: Sequence[Path]) -> list[dict[str, float]]:
    import av

    out = []
    for path in paths:
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        out.append({"brightness": float(np.mean(frames)) / 255})
    return out


def test_pack_then_check(run: Path, eval_json: Path) -> None:
    packed = pack_submission(run, "tass", FACIAL, eval=eval_json)
    assert packed.archive.name == "facial_results.zip"
    assert packed.archive.parent == run / "submissions" / "c0ffee"
    report = check_submission(packed.archive, FACIAL, eval=eval_json, manifest=packed.manifest)
    assert report.ok
    with zipfile.ZipFile(packed.archive) as archive:
        assert archive.namelist() == [f"submission/{n}.mp4" for n in (1, 2, 3)]
    manifest = json.loads(packed.manifest.read_text())
    assert manifest["archive_sha256"] == report.sha256
    assert [v["sample"] for v in manifest["videos"]] == ["1", "2", "3"]
    assert not list(packed.archive.parent.glob(".packing-*"))


def test_same_bytes(run: Path, eval_json: Path, clips: Path, tmp_path: Path) -> None:
    replace_video(run, "c0ffee", "2", clips / "444.mp4")
    packed = [
        pack_submission(run, "tass", FACIAL, eval=eval_json, out=tmp_path / n, scorer=brightness)
        for n in ("a", "b")
    ]
    assert packed[0].archive.read_bytes() == packed[1].archive.read_bytes()
    assert packed[0].manifest.read_bytes() == packed[1].manifest.read_bytes()
    assert packed[0].reencoded == 1


@pytest.mark.parametrize("clip", ["444.mp4", "mpeg4.mp4", "matroska.mkv", "odd.mp4"])
def test_reencoding(clip: str, run: Path, eval_json: Path, clips: Path) -> None:
    replace_video(run, "c0ffee", "2", clips / clip)
    packed = pack_submission(run, "tass", FACIAL, eval=eval_json, scorer=brightness)
    assert packed.reencoded == 1
    compared = json.loads(packed.manifest.read_text())["scores"]["brightness"]
    assert compared["before"] == pytest.approx(compared["after"], abs=0.02)
    assert compared["tolerance"] == 0.02
    assert check_submission(packed.archive, FACIAL, eval=eval_json).ok


def test_a_turned_video_is_not_quietly_laid_on_its_side(tmp_path: Path) -> None:
    for number, turn in enumerate(({"degrees": 90}, {"degrees": 0, "hflip": True})):
        path = write_numbered(
            tmp_path / f"{number}.mp4", frames=3,
            setup=lambda stream, turn=turn: stream.set_display_rotation(**turn),
        )  # fmt: skip
        with pytest.raises(LeaderboardError, match="turned or mirrored by its metadata"):
            reencode(path, tmp_path / "new.mp4")


def test_reencoding_keeps_frames_and_times(clips: Path, tmp_path: Path) -> None:
    reencode(clips / "444.mp4", tmp_path / "new.mp4")
    old, new = inspect_video(clips / "444.mp4"), inspect_video(tmp_path / "new.mp4")
    assert (new.codec, new.pixel_format, new.mp4) == ("h264", "yuv420p", True)
    assert (new.frames, new.seconds) == (old.frames, pytest.approx(old.seconds))
    shown = brightness([clips / "444.mp4", tmp_path / "new.mp4"])
    assert shown[0]["brightness"] == pytest.approx(shown[1]["brightness"], abs=0.01)


def test_reencoding_needs_a_scorer_and_stays_within_tolerance(
    run: Path, eval_json: Path, clips: Path
) -> None:
    replace_video(run, "c0ffee", "2", clips / "444.mp4")
    with pytest.raises(LeaderboardError, match="nothing can score them"):
        pack_submission(run, "tass", FACIAL, eval=eval_json)
    with pytest.raises(ScoresMovedError, match=r"moved brightness from 0\.9"):
        pack_submission(
            run, "tass", FACIAL, eval=eval_json, scorer=brightness,
            scores_before=[{"brightness": 0.9}],
        )  # fmt: skip
    with pytest.raises(LeaderboardError, match="moved identity"):  # a NaN is no small difference
        pack_submission(
            run, "tass", FACIAL, eval=eval_json, scorer=lambda p: [{"identity": float("nan")}],
        )  # fmt: skip
    assert not list((run / "submissions").rglob("*.zip"))


def test_nothing_is_packed_that_is_not_there(run: Path, eval_json: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="is not an entry"):
        pack_submission(run, "nobody", FACIAL, eval=eval_json)
    with pytest.raises(IncompleteEntryError, match="197 of 200 videos were never planned"):
        pack_submission(run, "tass", FACIAL)
    with pytest.raises(LeaderboardError, match="not of the form idNNN/promptK"):
        pack_submission(run, "tass", "ipvg2025-facial")
    failed = make_run(
        tmp_path / "failed", {"c": {}}, identities=1, prompts=3, videos=True,
        sample_ids=["1", "2", "3"], failed=[(0, 1)],
    )  # fmt: skip
    with pytest.raises(IncompleteEntryError, match=r"submission/2\.mp4 failed \(the video has NaN"):
        pack_submission(failed, "c", FACIAL, eval=eval_json)


def test_replaced_video_is_noticed_by_the_manifest(run: Path, eval_json: Path) -> None:
    packed = pack_submission(run, "tass", FACIAL, eval=eval_json)
    with zipfile.ZipFile(packed.archive) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    one, two = "submission/1.mp4", "submission/2.mp4"
    members[one], members[two] = members[two], members[one]
    swapped = archive_of(packed.archive.parent, members)
    found = check_submission(swapped, FACIAL, eval=eval_json, manifest=packed.manifest).problems
    assert sum("the order is wrong" in problem for problem in found) == 2


@pytest.mark.parametrize(
    ("format", "samples"),
    [
        ("ipvg2026-facial", [str(n) for n in range(1, 201)]),
        ("ipvg2025-fullbody", [f"id{i:03d}/prompt{k}" for i in range(1, 201) for k in range(1, 6)]),
    ],
)
def test_full_size_archives(format: str, samples: list[str], tmp_path: Path) -> None:
    """200 and 1,000 videos: one tiny clip, made distinct by a comment at its end."""
    run = make_run(tmp_path / "run", {"c": {}}, identities=len(samples), prompts=1,
                   sample_ids=samples)  # fmt: skip
    clip = encode(tmp_path / "clip.mp4", moving_square(1, frames=4, size=32)).read_bytes()
    with sqlite3.connect(run / "store.sqlite") as db:
        for n, (path,) in enumerate(db.execute("SELECT path FROM videos").fetchall()):
            target = run / path
            target.parent.mkdir(parents=True, exist_ok=True)
            note = f"{n}".encode()
            target.write_bytes(clip + struct.pack(">I", 8 + len(note)) + b"free" + note)
    packed = pack_submission(run, "c", format)
    assert (packed.videos, packed.reencoded) == (len(samples), 0)
    report = check_submission(packed.archive, format, manifest=packed.manifest)
    assert report.ok, report.problems[:3]
    assert len(report.videos) == len(samples)
    assert zipfile.ZipFile(io.BytesIO(packed.archive.read_bytes())).testzip() is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: e[::-1], r"submission/1\.mp4: was generated from the prompt .*right.*& 0"),
        (lambda e: [{**s, "prompt": s["prompt"] + " now"} for s in e], "is asked for"),
        (lambda e: [e[0], {**e[1], "img": "other.png"}, e[2]], "from the picture id000.png, and"),
    ],
)
def test_another_eval_json_is_refused(
    change: Callable[[list[dict[str, str]]], list[dict[str, str]]],
    sentence: str,
    run: Path,
    tmp_path: Path,
) -> None:
    """A reversed or reworded one is the same 1.mp4 .. 3.mp4."""
    (tmp_path / "eval.json").write_text(json.dumps(change(FACIAL_SAMPLES)))
    with pytest.raises(LeaderboardError, match=sentence):
        pack_submission(run, "tass", FACIAL, eval=tmp_path)
    assert not list((run / "submissions").rglob("*.zip"))


def test_references_are_compared_by_content(run: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "eval.json").write_text(json.dumps(FACIAL_SAMPLES))
    image = tmp_path / "images" / "id000.png"
    image.write_bytes((run / "references" / "id000.png").read_bytes())
    assert pack_submission(run, "tass", FACIAL, eval=tmp_path).warnings == ()
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(LeaderboardError, match=r"from the picture id000\.png"):
        pack_submission(run, "tass", FACIAL, eval=tmp_path)


def test_what_could_not_be_compared_is_said(run: Path, eval_json: Path) -> None:
    packed = pack_submission(run, "tass", FACIAL, eval=eval_json)
    assert len(packed.warnings) == 1
    assert "only the file's name was compared" in packed.warnings[0]
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE samples SET prompt = 'a man with a hat. ' || prompt")
    packed = pack_submission(run, "tass", FACIAL, eval=eval_json)
    assert "has a prefix" in packed.warnings[0]


def test_another_timeline_is_refused(run: Path, tmp_path: Path) -> None:
    entries = [
        {"img_paths": [s["img"]], "global_prompt": s["prompt"],
         "temporal_captions": [[0, 0.5, "walks"], [0.5, 1, "waves"]]} for s in FACIAL_SAMPLES
    ]  # fmt: skip
    (tmp_path / "eval.json").write_text(json.dumps(entries))
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE samples SET timeline = ?",
                   (json.dumps(entries[0]["temporal_captions"]),))  # fmt: skip
    packed = pack_submission(run, "tass", "ipvg2026-sequential", eval=tmp_path)
    assert packed.videos == 3
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE samples SET timeline = '[[0, 0.5, \"walks\"]]' WHERE sample = '2'")
    with pytest.raises(LeaderboardError, match=r"submission/2\.mp4: was generated from another"):
        pack_submission(run, "tass", "ipvg2026-sequential", eval=tmp_path)


def test_a_pipe_is_not_packed(run: Path, eval_json: Path) -> None:
    import os

    with sqlite3.connect(run / "store.sqlite") as db:
        (path,) = db.execute("SELECT path FROM videos WHERE cell = 'c0ffee'").fetchone()
    (run / path).unlink()
    os.mkfifo(run / path)
    with pytest.raises(IncompleteEntryError, match="is not a regular file"):
        pack_submission(run, "tass", FACIAL, eval=eval_json)


def test_runs_of_2025(tmp_path: Path) -> None:
    """Up to three runs, one of them primary."""
    testset = tmp_path / "testset"
    (testset / "id001").mkdir(parents=True)
    samples = [f"id001/prompt{k}" for k in (1, 2)]
    for k, way in ((1, "right"), (2, "left")):
        text = f"a person moves {way} in front of <wall> & {k - 1}"
        (testset / "id001" / f"prompt{k}.txt").write_text(text)
    cells = {f"c{n}": {"placement": p} for n, p in enumerate(("tass", "overlap", "far", "x"))}
    run = make_run(tmp_path / "run", cells, identities=1, prompts=2, videos=True,
                   sample_ids=samples)  # fmt: skip
    (testset / "id001" / "image.png").write_bytes((run / "references" / "id000.png").read_bytes())
    names, format = ["tass", "overlap", "far"], "ipvg2025-facial"
    packed = pack_runs(run, names, format, primary="overlap", eval=testset)
    folder = run / "submissions" / format
    assert [p.archive for p in packed] == [
        folder / f"run{n}" / "facial_results.zip" for n in (1, 2, 3)
    ]
    record = json.loads((folder / "runs.json").read_text())["runs"]
    assert [r["entry"] for r in record if r["primary"]] == ["overlap"]
    assert all(check_submission(p.archive, format, eval=testset).ok for p in packed)
    with pytest.raises(LeaderboardError, match="up to 3 runs, not 4"):
        pack_runs(run, [*names, "x"], format, primary="tass")
    with pytest.raises(LeaderboardError, match="no run is named primary"):
        pack_runs(run, names, format)
    with pytest.raises(LeaderboardError, match="takes one run"):
        pack_runs(run, names, FACIAL, primary="tass")
