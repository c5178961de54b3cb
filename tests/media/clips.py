"""Small videos and photographs for the tests of reading, faces and the suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np


def write_video(
    path: Path,
    frames: np.ndarray,
    fps: int = 10,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    setup: Callable[[Any], None] = lambda stream: None,
    **options: str,
) -> Path:
    """Encode uint8 RGB ``[T, H, W, 3]``."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        setup(stream)
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def steps(count: int = 10, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose brightness counts them: frame i is 20 i + 10, its top left quarter red."""
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    for i in range(count):
        frames[i] = min(20 * i + 10, 250)
        frames[i, : height // 2, : width // 2] = (230, 20, 20)
    return frames


def group_photo(width: int = 640) -> np.ndarray:
    """insightface's photograph of six people, uint8 RGB."""
    from insightface.data import get_image

    image = get_image("t1")[..., ::-1]
    return cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])))
