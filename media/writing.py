"""Frames to H.264 in MP4, the same bytes for the same frames.

One x264 thread, only those of its algorithms that give the same on every CPU, no creation time and
no library banner in the container, so that a video's hash says whether two runs agree; a file
appears under its final name only when it is complete.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from media.errors import UserError
from media.files import write_atomic

#: With AVX-512, x264's macroblock tree spreads the bits over the same frames differently from call
#: to call, even in one thread. This switch makes it take its portable form, as fast at our sizes.
X264_REPEATABLE = "cpu-independent=1"
#: How far a decoder's floats may lie outside 0..1 and still be meant as such.
OVERSHOOT = 0.05


def to_uint8(frames: Any) -> np.ndarray:
    """Frames as uint8 [T, H, W, 3].

    Args:
        frames: array, CPU tensor or list of PIL images, [T, H, W, 3]; uint8, or float in 0..1
            (values that lie outside by no more than `OVERSHOOT` are clipped).

    Raises:
        UserError: for another shape, type or range, no frames, odd sizes (yuv420p halves the
            colour planes), or frames that hold NaN or infinity.
    """
    try:
        if not hasattr(frames, "shape"):
            frames = np.stack([*map(np.asarray, frames)])
        array = np.asarray(frames)
    except (TypeError, ValueError, RuntimeError) as error:  # bfloat16, on a GPU, frames unlike
        raise UserError(
            f"The frames can't be read as one array ({error}); return uint8 or float32, [T, H, W, "
            "3], detached and on the CPU, all frames of one size."
        ) from None
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        raise UserError(f"A video is [T, H, W, 3] with T >= 1, not {list(array.shape)}.")
    if array.shape[1] % 2 or array.shape[2] % 2:
        raise UserError(
            f"H.264 needs an even height and width, not {array.shape[1]} x {array.shape[2]}."
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"Frames are uint8 or float in 0..1, not {array.dtype}.")
    bad = ~np.isfinite(array).all(axis=(1, 2, 3))
    if bad.any():
        raise UserError(
            f"The video holds NaN or infinity in {int(bad.sum())} of {len(bad)} frames, "
            f"first in frame {int(bad.argmax())}."
        )
    low, high = float(array.min()), float(array.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise UserError(
            f"Frames of floats are in 0..1, not {low:.4g}..{high:.4g}; scale them, or return uint8."
        )
    return np.rint(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)


def encode_video(
    frames: Any,
    fps: float,
    crf: int = 12,
    *,
    audio: np.ndarray | None = None,
    sample_rate: int | None = None,
) -> bytes:
    """An MP4 file's bytes (H.264, yuv420p); equal frames give equal bytes.

    Args:
        frames: what `to_uint8` takes.
        fps: frames per second, > 0.
        crf: x264's constant rate factor, 0 (lossless) .. 51.
        audio: float [1 or 2 channels, samples] in -1..1 (values outside are clipped), written as
            AAC; None: no sound.
        sample_rate: of the audio, samples per second.

    Raises:
        UserError: for frames that are not a video, sound that is not a waveform, or a bad rate.
    """
    array = to_uint8(frames)
    if not (np.isfinite(fps) and fps > 0):
        raise UserError(f"A frame rate is a number above 0, not {fps}.")
    sound = None if audio is None else _waveform(audio, sample_rate)
    buffer = io.BytesIO()
    bitexact = {"fflags": "+bitexact"}
    with av.open(buffer, "w", format="mp4", container_options=bitexact) as container:
        stream = container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(100_000),
            options={"crf": str(crf), "x264-params": X264_REPEATABLE},
        )
        stream.height, stream.width = array.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        track = None
        if sound is not None:
            layout = "stereo" if len(sound) == 2 else "mono"
            track = container.add_stream("aac", rate=sample_rate, layout=layout)
            track.codec_context.flags |= av.codec.context.Flags.bitexact
        for image in array:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None and sound is not None:
            heard = av.AudioFrame.from_ndarray(sound, format="fltp", layout=track.layout.name)
            heard.sample_rate, heard.pts = track.rate, 0
            container.mux(track.encode(heard))
            container.mux(track.encode())
    return buffer.getvalue()


def _waveform(audio: Any, sample_rate: int | None) -> np.ndarray:
    """float32 [channels, samples] in -1..1."""
    sound = np.ascontiguousarray(audio, dtype=np.float32)
    if sound.ndim != 2 or len(sound) not in (1, 2) or not sound.shape[1]:
        raise UserError(f"Sound is [1 or 2 channels, samples], not {list(sound.shape)}.")
    if not np.isfinite(sound).all():
        raise UserError("The sound holds NaN or infinity.")
    if not sample_rate or sample_rate <= 0:
        raise UserError(f"Sound needs its sample_rate in samples per second, not {sample_rate}.")
    return sound.clip(-1.0, 1.0)


def write_video(path: str | Path, frames: Any, fps: float, crf: int = 12, **sound: Any) -> None:
    """`frames` as an MP4 file at `path`; see `encode_video` and `write_atomic`."""
    write_atomic(path, encode_video(frames, fps, crf, **sound))
