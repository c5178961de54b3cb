from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from leaderboards import LeaderboardError, check_submission
from leaderboards.submission import VideoFacts, inspect_video
from leaderboards.submission.video import remarks
from tests.leaderboards.runs import encode, moving_square
from tests.leaderboards.submission.conftest import archive_of


def rewritten(source: Path, target: Path, shift: int = 0, **metadata: str) -> Path:
    """The same packets with other metadata, and `shift` ticks earlier: an edit list hides those."""
    options = {"use_editlist": "1", "avoid_negative_ts": "disabled"} if shift else {}
    with av.open(str(source)) as read, av.open(str(target), "w", options=options) as write:
        stream = read.streams.video[0]
        out = write.add_stream_from_template(stream)
        write.metadata.update(metadata)
        for packet in read.demux(stream):
            if packet.dts is None:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = out
            write.mux(packet)
    return target


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return encode(tmp_path / "clip.mp4", moving_square(1, frames=16))


def test_facts(clip: Path) -> None:
    facts = inspect_video(clip)
    assert (facts.frames, facts.rate, facts.even, facts.rotation) == (16, 8.0, True, 0)
    assert facts.tags == ()
    assert list(remarks(facts)) == []


def test_metadata_that_names_its_makers(clip: Path, tmp_path: Path) -> None:
    told = rewritten(clip, tmp_path / "told.mp4", artist="Team Rocket", comment="run 2")
    found = list(remarks(inspect_video(told)))
    assert any("artist = 'Team Rocket'" in remark for remark in found)
    assert any("comment = 'run 2'" in remark for remark in found)


def test_frames_that_an_edit_list_hides_are_not_missing(clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        step = int(Fraction(1, 8) / stream.time_base)
    cut = rewritten(clip, tmp_path / "cut.mp4", shift=4 * step)
    facts = inspect_video(cut)
    assert 0 < facts.frames < 16


def test_rates(tmp_path: Path) -> None:
    from dataclasses import replace

    facts = VideoFacts("h264", "yuv420p", 64, 64, 9, 0.3, True, rate=30000 / 1001)
    assert list(remarks(facts)) == []
    assert "plays at 17.3 frames" in next(remarks(replace(facts, rate=17.3)))
    assert "unequal length" in next(remarks(replace(facts, even=False)))
    assert "turned by 90 degrees" in next(remarks(replace(facts, rotation=90)))


def test_rates_that_differ_are_warned_about(eval_json: Path, tmp_path: Path) -> None:
    members = {
        f"submission/{n}.mp4": encode(tmp_path / f"{n}.mp4", moving_square(n), fps=fps).read_bytes()
        for n, fps in ((1, 24), (2, 24), (3, 7))
    }
    report = check_submission(archive_of(tmp_path, members), "ipvg2026-facial", eval=eval_json)
    assert report.ok
    assert report.warnings == [
        "submission/3.mp4: plays at 7 frames per second; 24, 25 or 30 is what players expect.",
        "most videos play at 24 frames per second, 1 at 7; use one rate for all.",
    ]


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(LeaderboardError, match="is a device or a pipe"):
        inspect_video(tmp_path / "x.mp4")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="does not exist"):
        inspect_video(tmp_path / "x.mp4")


def uneven(path: Path) -> Path:
    frames: Any = moving_square(3)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for n, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = n * n + n, Fraction(1, 16)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


def test_uneven_frames(tmp_path: Path) -> None:
    assert not inspect_video(uneven(tmp_path / "uneven.mp4")).even
