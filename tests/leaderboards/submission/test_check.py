from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboards import LeaderboardError, check_submission
from leaderboards.submission import Limits
from tests.leaderboards.submission.conftest import archive_of

FACIAL = "ipvg2026-facial"


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
        (_put("submission/4.mp4", "1.mp4"), "do not belong in the archive: submission/4.mp4"),
        (_put("__MACOSX/._1.mp4", "1.mp4"), "do not belong in the archive: __MACOSX/._1.mp4"),
        (_move("submission/2.mp4", "submission/002.mp4"), "numbers have no leading zeros"),
        (_move("submission/2.mp4", "2.mp4"), "videos belong in a folder called submission/"),
        (_move("submission/2.mp4", "submission/submission/2.mp4"), "is inside itself"),
        (_put("submission/2.mp4", "mpeg4.mp4"), "submission/2.mp4: is coded as mpeg4"),
        (_put("submission/2.mp4", "444.mp4"), "submission/2.mp4: has pixel format yuv444p"),
        (_put("submission/2.mp4", "matroska.mkv"), "submission/2.mp4: is not in an MP4 container"),
        (_put("submission/2.mp4", "quicktime.mov"), "submission/2.mp4: is not in an MP4 container"),
        (_put("submission/2.mp4", "damaged.mp4"), "cannot be played to the last frame"),
        (_put("submission/2.mp4", "torn.mp4"), "can't be opened as a video"),
        (_put("submission/2.mp4", "text.mp4"), "can't be opened as a video"),
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
    assert any("in the archive twice" in problem for problem in complaints(path, eval_json))


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


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="ipvg2026-facial"):
        check_submission(tmp_path / "x.zip", "ipvg1999")


@pytest.mark.parametrize("mode", [0o010644, 0o020644, 0o060644, 0o140644])
def test_devices_pipes_and_sockets(mode: int, clips: Path, eval_json: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, {k: v for k, v in good(clips).items() if "2" not in k})
    with zipfile.ZipFile(path, "a") as archive:
        device = zipfile.ZipInfo("submission/2.mp4")
        device.create_system, device.external_attr = 3, mode << 16
        archive.writestr(device, (clips / "2.mp4").read_bytes())
    assert complaints(path, eval_json) == [
        "submission/2.mp4: is a device, a pipe or a socket; put the video file itself into the "
        "archive."
    ]


def test_the_archive_itself_is_a_file(eval_json: Path, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "facial_results.zip")
    with pytest.raises(LeaderboardError, match="is a device or a pipe"):
        check_submission(tmp_path / "facial_results.zip", FACIAL, eval=eval_json)


def test_other_endings_are_explained(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    for name, why in (("2.MP4", "endings are in lower"), ("2.mov", "videos are .mp4; ren")):
        members = good(clips)
        _move("submission/2.mp4", f"submission/{name}")(members, clips)
        found = complaints(archive_of(tmp_path, members), eval_json)
        assert any(f"submission/{name} ({why}" in problem for problem in found), found


def test_pixels_and_time_are_limited(clips: Path, eval_json: Path, tmp_path: Path) -> None:
    path = archive_of(tmp_path, good(clips))
    for limits, sentence in (
        (Limits(pixels=64 * 64 * 8), "3.28e+04 pixels in all its frames"),
        (Limits(decode_seconds=0.0), "takes longer than 0 s to decode"),
        (Limits(check_seconds=0.0), "3 videos from submission/1.mp4 on were not looked at"),
    ):
        found = complaints(path, eval_json, limits=limits)
        assert any(sentence in problem for problem in found), (sentence, found)
    assert complaints(path, eval_json, limits=Limits(pixels=64 * 64 * 9)) == []


def test_a_timeline_has_half_a_frame_of_slack(clips: Path, tmp_path: Path) -> None:
    """Nine frames at 8 per second last 1.125 s; half a frame is 0.0625 s."""
    path = archive_of(tmp_path, good(clips), "sequential_action_results.zip")
    entries = [
        {"img_paths": ["a"], "global_prompt": "x",
         "temporal_captions": [{"start": 0, "end": end, "description": "y"}]}
        for end in (1.18, 1.19, 1.30)
    ]  # fmt: skip
    (tmp_path / "eval.json").write_text(json.dumps(entries))
    found = check_submission(path, "ipvg2026-sequential", eval=tmp_path).problems
    assert [problem.split(":")[0] for problem in found] == ["submission/2.mp4", "submission/3.mp4"]
