"""The challenge's tracks: how each wants its archive, and what a video in it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leaderboards.errors import UnknownNameError


@dataclass(frozen=True)
class SubmissionFormat:
    """How one track of the challenge wants its archive.

    Attributes:
        name: its name on the command line.
        archive: the archive's file name.
        numbered: videos are `submission/1.mp4` .. in the order of eval.json (2026); otherwise
            `submission/idNNN/promptK.mp4` (2025).
        videos: how many the track has, where no eval.json says otherwise.
        timeline: eval.json gives each video a timeline that it has to be long enough for.
        runs: how many runs a team may hand in; with several, one is the primary run.
    """

    name: str
    archive: str
    numbered: bool
    videos: int
    timeline: bool = False
    runs: int = 1

    def members(self) -> list[str]:
        """The archive's member names at the published count, in order."""
        if self.numbered:
            return [f"submission/{n}.mp4" for n in range(1, self.videos + 1)]
        return [
            f"submission/id{i:03d}/prompt{k}.mp4"
            for i in range(1, self.videos // 5 + 1)
            for k in range(1, 6)
        ]


FORMATS: Mapping[str, SubmissionFormat] = {
    format.name: format
    for format in (
        SubmissionFormat("ipvg2026-facial", "facial_results.zip", True, 200),
        SubmissionFormat(
            "ipvg2026-sequential", "sequential_action_results.zip", True, 200, timeline=True
        ),
        SubmissionFormat("ipvg2025-facial", "facial_results.zip", False, 1000, runs=3),
        SubmissionFormat("ipvg2025-fullbody", "fullbody_results.zip", False, 1000, runs=3),
    )
}


def submission_format(name: str) -> SubmissionFormat:
    """The format of that name; raises LeaderboardError listing those that exist."""
    if name not in FORMATS:
        raise UnknownNameError.among("There is no submission format", name, FORMATS)
    return FORMATS[name]


@dataclass(frozen=True)
class Limits:
    """What a video and an archive may be; the rules state no numbers, so these are ours.

    Attributes:
        seconds: shortest and longest playing time.
        side: largest width or height in pixels.
        frames: most frames in a video.
        pixels: most frames x width x height in a video; 2e10 are five minutes of 1080p at 30
            frames per second.
        decode_seconds: longest time that decoding one video may take, on the wall clock.
        check_seconds: longest time that decoding the whole archive may take.
        video_bytes, archive_bytes: most bytes, unpacked.
        ratio: how far a member may be compressed (an H.264 stream hardly can be).
    """

    seconds: tuple[float, float] = (0.25, 120.0)
    side: int = 4096
    frames: int = 20_000
    pixels: int = 20_000_000_000
    decode_seconds: float = 300.0
    check_seconds: float = 6 * 3600.0
    video_bytes: int = 512 * 2**20
    archive_bytes: int = 64 * 2**30
    ratio: float = 100.0
