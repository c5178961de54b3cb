"""One video of a submission: decoded to its last frame, described, and judged."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import av
from av.stream import Disposition

from leaderboards.errors import UnreadableVideoError
from leaderboards.submission.formats import Limits
from media import errors
from media.streams import decoded, open_stream, packets_of

#: Tags that every muxer writes and that say nothing about who made the video.
_TECHNICAL = {
    "major_brand", "minor_version", "compatible_brands", "creation_time", "language", "duration",
    "vendor_id", "rotate",
}  # fmt: skip
#: Values of `encoder` and `handler_name` that programs write by themselves.
_ANONYMOUS = re.compile(
    r"(lav[fc]|x264|handbrake|(iso|core) media|(video|sound|mainconcept)?\s?\S*handle|"
    r"gpac|isom|l-smash|mp4 base|apple)",
    re.IGNORECASE,
)
_COMMON_RATES = (*range(8, 61), *(Fraction(n * 1000, 1001) for n in (24, 30, 60)))


@dataclass(frozen=True)
class VideoFacts:
    """What decoding a video to its last frame showed.

    rate: frames per second. even: whether frames follow each other at that rate throughout.
    rotation: degrees by which a player turns the picture. tags: metadata that a person or a
    program may have written, by name.
    """

    codec: str
    pixel_format: str
    width: int
    height: int
    frames: int
    seconds: float
    mp4: bool
    rate: float = 0.0
    even: bool = True
    rotation: int = 0
    tags: tuple[tuple[str, str], ...] = ()


class Unplayable(Exception):
    """Why a video cannot be played, in words that go into a report."""


def inspect_video(source: Path | IO[bytes], limits: Limits | None = None) -> VideoFacts:
    """Decode a video to its last frame and say what it is.

    Raises UnreadableVideoError where it is not a regular file, has no video stream, is larger than
    `limits`, breaks off, or holds fewer frames than its header promises.
    """
    try:
        return decode(source, limits or Limits())
    except Unplayable as error:
        raise UnreadableVideoError(f"{source} {error}.") from error


def decode(source: Path | IO[bytes], limits: Limits) -> VideoFacts:
    """As `inspect_video`; raises Unplayable with the words that follow a video's name."""
    if isinstance(source, Path) and not source.is_file():
        raise Unplayable(
            "is a device or a pipe, not a regular file" if source.exists() else "does not exist"
        )
    with _opened(source) as (container, stream), _played():
        videos = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if len(videos) > 1:
            raise Unplayable(f"has {len(videos)} video streams; leave one")
        width, height = stream.codec_context.width, stream.codec_context.height
        if max(width, height) > limits.side:
            raise Unplayable(f"is {width} x {height}; at most {limits.side} per side is allowed")
        hidden = packets_of(container, stream, "it").hidden
    with _opened(source) as (container, stream), _played():
        times, rotation = _times(decoded(container, stream, "it"), limits)
        if stream.frames and len(times) < stream.frames - hidden:
            raise Unplayable(
                f"cannot be played to the last frame: {len(times)} of {stream.frames - hidden} "
                "frames are there"
            )
        steps = [b - a for a, b in pairwise(times)]
        rate = stream.average_rate
        return VideoFacts(
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=stream.codec_context.pix_fmt or "",
            width=width,
            height=height,
            frames=len(times),
            seconds=len(times) / float(rate) if rate else times[-1] + (steps[-1] if steps else 0.0),
            mp4="mp4" in container.format.name.split(",") and _brand_is_mp4(container),
            rate=float(rate) if rate else 0.0,
            even=not steps or max(steps) - min(steps) <= 0.5 * statistics.median(steps),
            rotation=rotation,
            tags=tuple(_telling(container.metadata)) + tuple(_telling(stream.metadata)),
        )


@contextmanager
def _opened(source: Path | IO[bytes]) -> Iterator[tuple[Any, Any]]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_stream(source, "it"))
        except errors.UnreadableVideoError as error:
            raise Unplayable(str(error).removeprefix("it ").removesuffix(".")) from error
        yield opened


@contextmanager
def _played() -> Iterator[None]:
    try:
        yield
    except errors.UnreadableVideoError as error:
        words = str(error).removesuffix(".")
        raise Unplayable(f"cannot be played to the last frame: {words}") from error


def _times(frames: Iterator[av.VideoFrame], limits: Limits) -> tuple[list[float], int]:
    """When each frame is shown, in seconds, and by how many degrees the picture is turned."""
    times: list[float] = []
    rotation = 0
    begun = time.monotonic()
    for frame in frames:
        times.append(frame.time if frame.time is not None else float(len(times)))
        rotation = rotation or frame.rotation
        _within(limits, len(times), frame, begun)
    if not times:
        raise Unplayable("has no frame that can be decoded")
    return times, rotation


def _within(limits: Limits, frames: int, frame: av.VideoFrame, begun: float) -> None:
    if frames > limits.frames:
        raise Unplayable(f"has more than {limits.frames:,} frames")
    if frames * frame.width * frame.height > limits.pixels:
        raise Unplayable(
            f"has more than {limits.pixels:.3g} pixels in all its frames; make it shorter or "
            "smaller"
        )
    if time.monotonic() - begun > limits.decode_seconds:
        raise Unplayable(
            f"takes longer than {limits.decode_seconds:g} s to decode; make it shorter or smaller"
        )


def _brand_is_mp4(container: Any) -> bool:
    """MP4 and not QuickTime, 3GP or M4A, which share FFmpeg's demuxer; known by the major brand."""
    brand = str(container.metadata.get("major_brand", "")).strip().lower()
    return brand.startswith(("iso", "mp4", "avc", "dash", "cmf", "m4v", "msnv"))


def _telling(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tags that may say who made a video: all but what muxers write by themselves."""
    for name, value in metadata.items():
        name, value = name.lower(), str(value).strip()
        if not value or name in _TECHNICAL:
            continue
        if name in ("encoder", "handler_name") and _ANONYMOUS.match(value):
            continue
        yield name, value


def complaints(facts: VideoFacts, shortest: float, limits: Limits) -> Iterator[str]:
    """What the challenge would refuse; `shortest` is where the timeline ends, in seconds."""
    if not facts.mp4:
        yield "is not in an MP4 container; the challenge takes H.264 in MP4"
    if facts.codec != "h264":
        yield f"is coded as {facts.codec}; the challenge takes H.264 in MP4"
    elif facts.pixel_format != "yuv420p":
        yield (
            f"has pixel format {facts.pixel_format}; re-encode it as yuv420p, which every player "
            "shows"
        )
    low, high = limits.seconds
    if facts.seconds < low:
        yield f"lasts {facts.seconds:.2f} s; at least {low:g} s is wanted"
    elif facts.seconds > high:
        yield f"lasts {facts.seconds:.1f} s; at most {high:g} s is allowed"
    # Half a frame of slack: the last frame of a timeline ends where the video does.
    slack = 0.5 * facts.seconds / facts.frames
    if facts.seconds + slack < shortest:
        yield f"lasts {facts.seconds:.2f} s, but its timeline runs to {shortest:g} s"


def remarks(facts: VideoFacts) -> Iterator[str]:
    """What the challenge lets pass, but a jury may hold against a video."""
    for name, value in facts.tags:
        yield (
            f"carries the tag {name} = {value[:60]!a}, which may name its makers to a blind "
            "jury; write it without metadata"
        )
    if facts.rate and not any(abs(facts.rate - float(rate)) < 0.01 for rate in _COMMON_RATES):
        yield f"plays at {facts.rate:.4g} frames per second; 24, 25 or 30 is what players expect"
    if not facts.even:
        yield "has frames of unequal length; scores and players that count frames will be wrong"
    if facts.rotation:
        yield (
            f"is turned by {facts.rotation} degrees when played; a reader that ignores that sees "
            "it lying on its side"
        )
