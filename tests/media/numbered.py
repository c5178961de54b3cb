"""Clips whose frames carry their number: eight bars, white for 1 and black for 0, highest first."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def picture(number: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A frame that shows its number, uint8 RGB ``[H, W, 3]``."""
    bits = np.array([(number >> (7 - k)) & 1 for k in range(8)], np.uint8)
    row = np.repeat(bits * 235 + 10, width // 8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames ``[T, H, W, 3]`` show."""
    height, width = frames.shape[1:3]
    grey = frames[:, height // 4 : height * 3 // 4].mean((1, 3))  # [T, W]
    step = width // 8
    bars = grey[:, : 8 * step].reshape(len(frames), 8, step)[:, :, step // 4 : -(step // 4)]
    return [int("".join("1" if b else "0" for b in bits), 2) for bits in bars.mean(2) > 127]


def write_numbered(
    path: Path,
    codec: str = "libx264",
    frames: int = 200,
    *,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (96, 128),
    gop: int | None = None,
    bframes: int | None = None,
    first: int = 0,
    setup: Callable[[Any], None] = lambda stream: None,
    **options: str,
) -> Path:
    """A clip at 30 fps whose frame i shows ``first + i``.

    Args:
        setup: may change the stream before it is encoded.
        options: of the encoder.
    """
    if codec == "libx265":
        options["x265-params"] = ":".join(filter(None, [options.pop("x265", ""), "log-level=none"]))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        if gop is not None:
            stream.codec_context.gop_size = gop
        if bframes is not None:
            stream.codec_context.max_b_frames = bframes
        setup(stream)
        for number in range(frames):
            shown = picture((first + number) % 256, *size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, "rgb24")))
        container.mux(stream.encode())
    return path


def cut(source: Path, path: Path, start: float, seconds: float) -> Path:
    """What `ffmpeg -ss START -i SOURCE -t SECONDS -c copy PATH` makes: packets from the keyframe
    before `start` on, of which an edit list hides those until `start`."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        base = stream.time_base or Fraction(1)
        origin, end = round(start / base), round((start + seconds) / base)
        old.seek(origin, stream=stream)
        for packet in old.demux(stream):
            if packet.dts is None or packet.dts >= end:
                continue
            packet.pts, packet.dts = (packet.pts or 0) - origin, packet.dts - origin
            packet.stream = copy
            new.mux(packet)
    return path
