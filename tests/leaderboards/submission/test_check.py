from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from leaderboards import LeaderboardError, check_submission, pack_submission
from leaderboards.submission import FORMATS, Limits, inspect_video, read_eval, reencode
from tests.leaderboards.runs import encode, make_run, moving_square

FACIAL = "ipvg2026-facial"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good clips, and one of each thing that may be wrong with one."""
    folder = tmp_path_factory.mktemp("clips")
    for n in (1, 2, 3):
        encode(folder / f"{n}.mp4", moving_square(n))
    encode(folder / "mpeg4.mp4", moving_square(4), codec="mpeg4")
    encode(folder / "444.mp4", moving_square(5), pix_fmt="yuv444p")
    encode(folder / "matroska.mkv", moving_square(6))
    encode(folder / "quicktime.mov", moving_square(6))
    encode(folder / "odd.mp4", moving_square(7, size=65), pix_fmt="yuv444p")
    whole = encode(folder / "long.mp4", moving_square(8, frames=40)).read_bytes()
    # The index stands at the end of this file; bytes of the frames before it are overwritten.
    start = whole.index(b"mdat") + len(whole[whole.index(b"mdat") :]) // 3
    broken = bytearray(whole)
    broken[start : start + 200] = bytes(b ^ 0x5A for b in broken[start : start + 200])
    (folder / "damaged.mp4").write_bytes(bytes(broken))
    (folder / "torn.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "text.mp4").write_bytes(b"this is not a video at all\n" * 40)
    return folder


@pytest.fixture
def eval_json(tmp_path: Path) -> Path:
    path = tmp_path / "eval.json"
    path.write_text(json.dumps([{"img": f"id{n}.webp", "prompt": "x"} for n in (1, 2, 3)]))
    return path


def archive_of(
    folder: Path, members: Mapping[str, bytes], name: str = "facial_results.zip"
) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return path


def good(clips: Path) -> dict[str, bytes]:
    return {f"submission/{n}.mp4": (clips / f"{n}.mp4").read_bytes() for n in (1, 2, 3)}


def complaints(path: Path, eval_json: Path, **settings: object) -> list[str]:
    return check_submission(path, FACIAL, eval=eval_json, **settings).problems  # type: ignore[arg-type]


def test_a_good_archive_passes(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    report = check_submission(archive_of(tmp_path, good(clips)), FACIAL, eval=eval_json)
    assert report.problems == []
    assert report.ok
    assert report.videos["submission/2.mp4"].frames == 9
    assert report.videos["submission/2.mp4"].seconds == pytest.approx(9 / 8)


def _put(member: str, clip: str) -> Callable[[dict[str, bytes], Path], None]:
    def change(members: dict[str, bytes], clips: Path) -> None:
        members[member] = (clips / clip).read_bytes()

    return change


def _move(old: str, new: str) -> Callable[[dict[str, bytes], Path], None]:
    def change(members: dict[str, bytes], clips: Path) -> None:
        members[new] = members.pop(old)

    return change


def _drop(members: dict[str, bytes], clips: Path) -> None:
    del members["submission/2.mp4"]


def _empty(members: dict[str, bytes], clips: Path) -> None:
    members["submission/2.mp4"] = b""


def _bomb(members: dict[str, bytes], clips: Path) -> None:
    members["submission/2.mp4"] = b"\0" * 30_000_000


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_drop, "1 of 3 videos are missing: submission/2.mp4"),
        (_put("submission/4.mp4", "1.mp4"), "do not belong into the archive: submission/4.mp4"),
        (_put("__MACOSX/._1.mp4", "1.mp4"), "do not belong into the archive: __MACOSX/._1.mp4"),
        (_move("submission/2.mp4", "submission/002.mp4"), "numbers have no leading zeros"),
        (_move("submission/2.mp4", "2.mp4"), "videos belong into a folder called submission/"),
        (_move("submission/2.mp4", "submission/submission/2.mp4"), "stands inside itself"),
        (_put("submission/2.mp4", "mpeg4.mp4"), "submission/2.mp4: is coded as mpeg4"),
        (_put("submission/2.mp4", "444.mp4"), "submission/2.mp4: has pixel format yuv444p"),
        (_put("submission/2.mp4", "matroska.mkv"), "submission/2.mp4: is not in an MP4 container"),
        (_put("submission/2.mp4", "quicktime.mov"), "submission/2.mp4: is not in an MP4 container"),
        (_put("submission/2.mp4", "damaged.mp4"), "cannot be played to the last frame"),
        (_put("submission/2.mp4", "torn.mp4"), "is not a video that can be opened"),
        (_put("submission/2.mp4", "text.mp4"), "is not a video that can be opened"),
        (_put("submission/2.mp4", "1.mp4"), "is the same file as submission/1.mp4"),
        (_empty, "submission/2.mp4: is empty"),
        (_put("../evil.mp4", "1.mp4"), "../evil.mp4: leaves the archive's folder"),
        (_put("submission/../../evil.mp4", "1.mp4"), "leaves the archive's folder"),
        (_put("/etc/evil.mp4", "1.mp4"), "/etc/evil.mp4: is an absolute path"),
        (_put("C:/evil.mp4", "1.mp4"), "is an absolute path"),
        (_put("submission\\4.mp4", "1.mp4"), "has a backslash in its name"),
    ],
)  # fmt: skip
def test_broken_archives(
    change: Callable[[dict[str, bytes], Path], None],
    sentence: str,
    clips: Path,
    eval_json: Path,
    tmp_path: Path,
) -> None:
    members = good(clips)
    change(members, clips)
    found = complaints(archive_of(tmp_path, members), eval_json)
    assert any(sentence in problem for problem in found), found
    assert not (tmp_path.parent / "evil.mp4").exists()


def test_bomb(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    members = good(clips)
    _bomb(members, clips)
    path = tmp_path / "facial_results.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert any("compression bomb" in problem for problem in complaints(path, eval_json))
    # One that lies about its size is stopped by what it really unpacks to.
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(b"submission/2.mp4", data.index(signature))
        head = data.rindex(signature, 0, at)
        data[head + offset : head + offset + 4] = struct.pack("<I", 60_000)
    path.write_bytes(bytes(data))
    found = complaints(path, eval_json)
    assert any(p.startswith("submission/2.mp4: is damaged") for p in found), found


def test_symlink(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, good(clips))
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("submission/4.mp4")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert any("is a symbolic link" in problem for problem in complaints(path, eval_json))


def test_twice(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, good(clips))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("submission/2.mp4", (clips / "3.mp4").read_bytes())
    assert any("stands twice" in problem for problem in complaints(path, eval_json))


def test_encrypted_and_bit_rot(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, good(clips))
    whole = path.read_bytes()
    locked = bytearray(whole)
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(locked))
    assert any("is encrypted" in problem for problem in complaints(path, eval_json))
    rotten = bytearray(whole)
    rotten[2000] ^= 0xFF
    path.write_bytes(bytes(rotten))
    assert any(
        "is damaged inside the archive" in problem for problem in complaints(path, eval_json)
    )


def test_not_a_zip_and_wrong_name(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, good(clips))
    (tmp_path / "half").mkdir()
    half = tmp_path / "half" / "facial_results.zip"
    half.write_bytes(path.read_bytes()[:-100])
    assert "is not a whole zip archive" in complaints(half, eval_json)[0]
    other = path.rename(tmp_path / "results.zip")
    assert "wants facial_results.zip" in complaints(other, eval_json)[0]


def test_sizes_and_times(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, good(clips))
    for limits, sentence in (
        (Limits(side=32), "is 64 x 64; at most 32"),
        (Limits(seconds=(2, 9)), "at least 2 s is wanted"),
        (Limits(seconds=(0, 1)), "at most 1 s is allowed"),
        (Limits(frames=4), "more than 4 frames"),
        (Limits(video_bytes=500), "at most 500 is allowed"),
        (Limits(archive_bytes=500), "the archive unpacks to"),
    ):
        assert any(sentence in p for p in complaints(path, eval_json, limits=limits)), sentence


def test_timeline_has_to_fit(clips: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, good(clips), "sequential_action_results.zip")
    entries = [
        {"img_paths": ["a"], "global_prompt": "x",
         "temporal_captions": [{"start": 0, "end": end, "description": "y"}]}
        for end in (1.0, 1.125, 3.0)
    ]  # fmt: skip
    (tmp_path / "eval.json").write_text(json.dumps(entries))
    report = check_submission(path, "ipvg2026-sequential", eval=tmp_path)
    assert report.problems == [
        "submission/3.mp4: lasts 1.12 s, but its timeline runs to 3 s."
    ]  # fmt: skip


def test_every_problem_is_listed_at_once(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    members = good(clips)
    _drop(members, clips)
    _put("submission/1.mp4", "mpeg4.mp4")(members, clips)
    _put("../x.mp4", "1.mp4")(members, clips)
    report = check_submission(archive_of(tmp_path, members), FACIAL, eval=eval_json)
    assert len(report.problems) == 3
    with pytest.raises(LeaderboardError, match="mpeg4"):
        report.require()


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]"])
def test_bad_eval_json(content: str, tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text(content)
    with pytest.raises(LeaderboardError, match="not"):
        read_eval(tmp_path, FORMATS[FACIAL])


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="ipvg2026-facial"):
        check_submission(tmp_path / "x.zip", "ipvg1999")


# --------------------------------------------------------------------------- packing


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(
        tmp_path / "run", {"c0ffee": {"placement": "tass"}, "c1": {"placement": "overlap"}},
        identities=1, prompts=3, videos=True, sample_ids=["1", "2", "3"],
    )  # fmt: skip


def replace_video(run: Path, cell: str, sample: str, source: Path) -> None:
    import sqlite3

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
    with pytest.raises(LeaderboardError, match=r"moved brightness from 0\.9"):
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
    with pytest.raises(LeaderboardError, match="is no entry"):
        pack_submission(run, "nobody", FACIAL, eval=eval_json)
    with pytest.raises(LeaderboardError, match="197 of 200 videos were never planned"):
        pack_submission(run, "tass", FACIAL)
    with pytest.raises(LeaderboardError, match="not of the form idNNN/promptK"):
        pack_submission(run, "tass", "ipvg2025-facial")
    failed = make_run(
        tmp_path / "failed", {"c": {}}, identities=1, prompts=3, videos=True,
        sample_ids=["1", "2", "3"], failed=[(0, 1)],
    )  # fmt: skip
    with pytest.raises(LeaderboardError, match=r"submission/2\.mp4 failed \(the video has NaN"):
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
    import sqlite3

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
