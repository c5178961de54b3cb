"""A video file's main stream: opened, its packets read, its pictures decoded; no damage patched.

What reads a video goes through `open_stream` and `decoded`; `media.video` gives frames as arrays.
Messages begin with the name that the caller gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition

from media.damage import second_decoder
from media.errors import UnreadableVideoError, UserError

MAX_PIXELS = 8192 * 4608
"""Largest frame of a video that is read: 8K with room to spare; more is a decompression bomb."""

_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf", "sdp"})
#: Containers that write their duration into the header, so that a file cut short is noticed.
_TIMED = frozenset({"flv", "matroska,webm"})


@dataclass(frozen=True)
class Packets:
    """What the packets of a video stream say."""

    total: int
    hidden: int  # that an edit list leaves out
    times: tuple[int | None, ...]  # of those shown, in the order of the file
    end: float  # of the last packet of any stream, in seconds

    @property
    def regular(self) -> bool:
        """Whether each packet has a time of its own and none comes before the first keyframe."""
        known = [time for time in self.times if time is not None]
        return (
            not self.hidden
            and len(set(known)) == self.total
            and (not known or min(known) == known[0])
        )


@contextmanager
def open_stream(
    source: Path | IO[bytes], name: str | Path, format: str | None = None, card: bool = False
) -> Iterator[tuple[Any, Any]]:
    """The container and the stream that a player would show (PyAV).

    Args:
        source: a file's path, or its bytes as a seekable file.
        name: what messages call it.
        format: FFmpeg's name of the container; found by its content by default.
        card: decode on an NVIDIA card; frames come as nv12.

    Raises:
        UserError: there is no such card, or it doesn't decode the stream.
        UnreadableVideoError: it is not a video, has none but a cover picture, names other files,
            uses an unknown codec, or its frames are over :data:`MAX_PIXELS`.
    """
    if not isinstance(source, Path):
        source.seek(0)
    try:
        container: Any = av.open(
            # "file:" keeps a colon in a name from being taken for a protocol.
            f"file:{source}" if isinstance(source, Path) else source,
            "r",
            format=format,
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
            hwaccel=HWAccel("cuda", allow_software_fallback=False) if card else None,
        )
    except (av.FFmpegError, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        if card:
            raise UserError(
                f"{name} can't be decoded on a card ({reason(error)}); unset STDRC_DECODER."
            ) from error
        raise UnreadableVideoError(
            f"{name} can't be opened as a video ({reason(error)}): it is truncated or not a video."
        ) from error
    with container:
        if container.format.name in _PLAYLISTS:
            raise UnreadableVideoError(
                f"{name} is a playlist ({container.format.name}), which names other files; "
                "pass the video itself."
            )
        stream = container.streams.best("video")
        if stream is None:
            raise UnreadableVideoError(f"{name} has no video stream; it may be audio only.")
        if stream.disposition & Disposition.attached_pic:
            raise UnreadableVideoError(
                f"{name} has no video stream but a cover picture; it may be audio only."
            )
        if stream.codec_context is None:
            raise UnreadableVideoError(
                f"{name} uses a codec that this FFmpeg doesn't know; use H.264."
            )
        check_size(stream.codec_context.width, stream.codec_context.height, name)
        yield container, stream


def packets_of(container: Any, stream: Any, name: str | Path) -> Packets:
    """What the packets of an opened video say; reads the container to its end.

    Raises:
        UnreadableVideoError: there are fewer than the header promises, or they can't be read.
    """
    total = hidden = 0
    times: list[int | None] = []
    end = 0.0
    promised = stream.frames
    seconds = (container.duration or 0) / av.time_base if container.format.name in _TIMED else 0.0
    try:
        for packet in container.demux():
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and packet.time_base is not None:
                span = time + (packet.duration or 0)
                end = max(end, float(span * packet.time_base))
            if packet.stream.index != stream.index or not packet.size:
                continue
            total += 1
            if packet.is_discard:
                hidden += 1
            else:
                times.append(packet.pts)
    except av.FFmpegError as error:
        raise _broken(name, total, error) from error
    rate = float(stream.average_rate or 0)
    if total < promised:
        raise UnreadableVideoError(
            f"{name} ends after {total} frames though its header says {promised}; it is truncated."
        )
    if end < seconds - max(0.5, 2 / rate if rate else 0.0):
        raise UnreadableVideoError(
            f"{name} ends after {end:.2f} seconds though its header says {seconds:.2f}; it is "
            "truncated."
        )
    return Packets(total, hidden, tuple(times), end)


def decoded(
    container: Any, stream: Any, name: str | Path, promised: int | None = None
) -> Iterator[Any]:
    """The pictures of an opened video in the order in which they are shown (PyAV's frames).

    promised: how many there should be, for the message.

    Raises:
        UnreadableVideoError: one is damaged, or the video breaks off.
    """
    context = stream.codec_context
    if context.width * context.height > 640 * 480:  # for less, threads cost more than they save
        stream.thread_type = "AUTO"
    # A damaged picture is an error, not patched from its neighbours. Picture hashes are not
    # asked for ("crccheck"): FFmpeg 8 finds x265's wrong in files that are whole.
    context.options = {"err_detect": "explode"}
    checker = second_decoder(context)
    count = 0
    try:
        for packet in container.demux(stream):
            if checker is not None:
                checker.decode(packet)
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise UnreadableVideoError(
                        f"{name} is damaged at frame {count}; encode it again from its source."
                    )
                yield frame
                count += 1
    except av.FFmpegError as error:
        raise _broken(name, count, error, promised) from error


def _broken(
    name: str | Path, count: int, error: av.FFmpegError, promised: int | None = None
) -> UnreadableVideoError:
    of = f" of {promised}" if promised else ""
    return UnreadableVideoError(
        f"{name} breaks off after {count} frames{of} ({reason(error)}); it is truncated or damaged."
    )


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, without the file's name."""
    return getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0]


def check_size(width: int, height: int, name: str | Path) -> None:
    """Raise UnreadableVideoError where frames have no size, or one over :data:`MAX_PIXELS`."""
    if width <= 0 or height <= 0:
        raise UnreadableVideoError(f"{name} has frames of no size; encode it again.")
    if width * height > MAX_PIXELS:
        raise UnreadableVideoError(
            f"{name} has frames of {width} x {height} pixels, over the limit of "
            f"{MAX_PIXELS / 1e6:.0f} megapixels; scale it down."
        )


def display_matrix(frame: Any, path: Path) -> tuple[int, int, int, int]:
    """Which way up a decoded frame (PyAV) is shown.

    Returns:
        Signs ``(a, b, c, d)`` of the matrix that takes stored to shown coordinates, x to the right
        and y down: x' = ax + cy, y' = bx + dy. ``(1, 0, 0, 1)`` is as stored.

    Raises:
        UnreadableVideoError: it turns by something else than quarter turns.
    """
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return (1, 0, 0, 1)
    whole = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].astype(float)
    signs = np.sign(np.where(np.abs(whole) < 0.01 * np.abs(whole).max(), 0, whole)).astype(int)
    a, b, c, d = signs.ravel().tolist()
    if not ((a and d and not b and not c) or (b and c and not a and not d)):
        raise UnreadableVideoError(
            f"{path} is turned by its metadata, and not by quarter turns; encode it upright."
        )
    return a, b, c, d
