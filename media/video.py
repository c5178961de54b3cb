"""Reading videos: any file or folder of images as uint8 RGB frames, by index or as a stream.

`probe` opens a file with PyAV and reads its header and first frame, so that whatever is wrong with
the file is said in words before anything large is allocated. A few frames of many are then taken
from decord, whose batched reads decode each group of pictures once. PyAV does what decord can't
(rotation metadata, GIFs, containers without an index), what it fails on, and reading from end to
end, where decord's memory grows by each frame. `VideoReader.stream` holds one chunk of frames at a
time, so memory doesn't grow with a video's length.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from media.errors import UnreadableVideoError, UserError
from media.images import IMAGE_SUFFIXES, image_size, read_image

__all__ = [
    "MAX_PIXELS",
    "Clip",
    "VideoInfo",
    "VideoReader",
    "file_sha256",
    "probe",
    "read_clip",
    "sample_linspace",
]

Frames = NDArray[np.uint8]

MAX_PIXELS = 8192 * 4608
"""Largest frame or image that is read: 8K with room to spare; more is a decompression bomb."""

CHUNK_BYTES = 32 << 20
"""Size of the chunks of frames in which a video is streamed."""

_SPARSE = 4
"""From one frame in so many on, PyAV decodes all in order rather than decord those wanted."""

_IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True)
class Clip:
    """Frames of a video."""

    frames: Frames  # uint8 [T, H, W, 3], RGB
    indices: NDArray[np.int64]  # [T], which frames of the video these are
    fps: float  # average frames a second; 0 where the file doesn't say
    sha256: str  # of the file's bytes, or of a folder's images in order
    count: int  # frames in the whole video


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header and first frame say."""

    count: int  # frames
    fps: float  # average frames a second, 0 where unknown
    width: int  # as displayed, after rotation
    height: int
    rotation: int = 0  # degrees counter-clockwise that the frames have to be turned for display
    codec: str = ""

    def chunk_frames(self, limit: int = CHUNK_BYTES) -> int:
        """How many frames fit into ``limit`` bytes; at least one."""
        return max(1, limit // (self.width * self.height * 3))


def sample_linspace(count: int, num_frames: int) -> NDArray[np.int64]:
    """``num_frames`` indices evenly from the first to the last of ``count`` frames, rounded down.

    Fewer frames than asked repeat, as ``np.linspace(0, count - 1, num_frames, dtype=int)`` does.
    """
    return np.linspace(0, count - 1, num_frames).astype(np.int64)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes; of a folder, of its images' names and bytes in order.

    Raises:
        UnreadableVideoError: the path can't be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            digest = hashlib.sha256()
            for image in _folder_images(path):
                digest.update(image.name.encode() + b"\0" + bytes.fromhex(file_sha256(image)))
            return digest.hexdigest()
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableVideoError(
            f"{path} can't be read ({error.strerror}); check the path and its permissions."
        ) from error


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _folder_images(folder: Path) -> list[Path]:
    images = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural
    )
    if not images:
        raise UnreadableVideoError(
            f"{folder} is a folder without images; pass a video or image frames."
        )
    return images


def _check_size(width: int, height: int, path: Path) -> None:
    if width <= 0 or height <= 0:
        raise UnreadableVideoError(f"{path} has frames of no size; encode it again.")
    if width * height > MAX_PIXELS:
        raise UnreadableVideoError(
            f"{path} has frames of {width} x {height} pixels, over the limit of "
            f"{MAX_PIXELS / 1e6:.0f} megapixels; scale it down."
        )


def _av_open(path: Path) -> Any:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableVideoError(
            f"{path} can't be read ({error.strerror}); check the path and its permissions."
        ) from error
    if size == 0:
        raise UnreadableVideoError(f"{path} is empty (0 bytes); generate or copy the video again.")
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(_IMAGE_MAGIC) or head[8:12] == b"WEBP":
        # a bomb is refused here, before any decoder touches it
        _check_size(*image_size(path), path)
    try:
        return av.open(str(path))
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableVideoError(
            f"{path} can't be opened as a video ({reason}): it is truncated or not a video."
        ) from error


def _rotate(frame: Frames, rotation: int) -> Frames:
    return np.ascontiguousarray(np.rot90(frame, rotation // 90)) if rotation else frame


def probe(path: str | Path) -> VideoInfo:
    """Read a video's header and first frame.

    Raises:
        UnreadableVideoError: the file is missing, empty, truncated, not a video, without a video
            stream, over :data:`MAX_PIXELS` a frame, or its first frame can't be decoded.
    """
    path = Path(path)
    if path.is_dir():
        images = _folder_images(path)
        width, height = image_size(images[0])
        _check_size(width, height, images[0])
        return VideoInfo(len(images), 0.0, width, height, codec="images")
    with _av_open(path) as container:
        if not container.streams.video:
            raise UnreadableVideoError(f"{path} has no video stream; it may be audio only.")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None:
            raise UnreadableVideoError(
                f"{path} uses a codec that this FFmpeg doesn't know; use H.264."
            )
        _check_size(context.width, context.height, path)
        try:
            first = next(container.decode(stream), None)
        except (av.FFmpegError, ValueError) as error:
            raise UnreadableVideoError(
                f"{path} has no frame that can be decoded ({error}); it is damaged."
            ) from error
        if first is None:
            raise UnreadableVideoError(
                f"{path} has a video stream without frames; generate it again."
            )
        rotation = round(first.rotation / 90) * 90 % 360
        width, height = first.width, first.height
        _check_size(width, height, path)
        if rotation in (90, 270):
            width, height = height, width
        fps = float(stream.average_rate or 0)
        codec = context.name
        count = stream.frames
    if count <= 0 or codec == "gif":  # no index in the header: count the packets
        with _av_open(path) as container:
            packets = container.demux(container.streams.video[0])
            count = sum(1 for packet in packets if packet.size)
    return VideoInfo(count, fps, width, height, rotation, codec)


class VideoReader:
    """Frames of one video, by index or in order.

    Args:
        path: a video file, an animated or still image, or a folder of images of one size in
            natural order of their names.

    Raises:
        UnreadableVideoError: see :func:`probe`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info = probe(self.path)
        self._decord: Any = None
        if self.info.codec not in ("images", "gif", "apng", "png", "webp") and not (
            self.info.rotation
        ):
            self._decord = self._open_decord()
            if self._decord is not None:
                # The container's own count may be wrong; decord's comes from the packets.
                self.info = replace(self.info, count=len(self._decord))

    def __len__(self) -> int:
        return self.info.count

    def _open_decord(self) -> Any:
        try:
            import decord
        except ImportError:  # no wheel on this platform; PyAV reads the same frames
            return None
        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(str(self.path))
            return reader if len(reader) else None
        except (decord.DECORDError, RuntimeError):
            return None

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Frames:
        """Frames at ``indices``, any order, repeats allowed: uint8 ``[len(indices), H, W, 3]``.

        Raises:
            UnreadableVideoError: an index is out of range, or the video breaks off before it.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1 or len(wanted) == 0:
            raise UserError("indices must be a list of at least one frame number.")
        if wanted.min() < 0 or wanted.max() >= len(self):
            raise UserError(
                f"{self.path} has {len(self)} frames, so frame {int(wanted.max())} isn't there."
            )
        unique, inverse = np.unique(wanted, return_inverse=True)
        parts = [frames for _, frames in self.stream(unique)]
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if len(unique) == len(wanted) and np.array_equal(unique, wanted):
            return frames
        return frames[inverse]

    def stream(
        self, indices: NDArray[np.int64] | None = None, chunk: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Frames]]:
        """Go through the video once, ``chunk`` frames at a time.

        Args:
            indices: which frames, ascending and unique; all by default.
            chunk: frames in a chunk; by default what fits into 32 MiB.

        Yields:
            ``(indices [n], frames uint8 [n, H, W, 3])``.

        Raises:
            UnreadableVideoError: the video breaks off; the message says after which frame.
        """
        wanted = np.arange(len(self)) if indices is None else np.asarray(indices, dtype=np.int64)
        size = chunk or self.info.chunk_frames()
        done = 0
        # decord is quick at frames far apart, but read from end to end it keeps what it decodes.
        if self._decord is not None and len(wanted) * _SPARSE < len(self):
            import decord

            for start in range(0, len(wanted), size):
                part = wanted[start : start + size]
                try:
                    frames = self._decord.get_batch(part.tolist()).asnumpy()
                except (decord.DECORDError, RuntimeError):
                    break  # PyAV decodes the rest, or says where the file breaks off
                done = start + len(part)
                yield part, frames
            if done == len(wanted):
                return
            self._decord = None  # it failed on this file
        for part, frames in _chunks(self._decode(wanted[done:]), size):
            yield part, frames

    def _decode(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Frames]]:
        """Single frames through PyAV or Pillow, ascending."""
        if self.info.codec == "images":
            images = _folder_images(self.path)
            for index in wanted.tolist():
                frame = read_image(images[index])
                if frame.shape[:2] != (self.info.height, self.info.width):
                    raise UnreadableVideoError(
                        f"{images[index]} is {frame.shape[1]} x {frame.shape[0]} pixels and the "
                        f"first image of its folder {self.info.width} x {self.info.height}; make "
                        "them one size."
                    )
                yield index, frame
            return
        remaining = iter(wanted.tolist())
        target = next(remaining, None)
        position = -1
        with _av_open(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for position, frame in enumerate(container.decode(stream)):
                    if target is None:
                        return
                    if position == target:
                        pixels = frame.to_ndarray(format="rgb24")
                        yield position, _rotate(pixels, self.info.rotation)
                        target = next(remaining, None)
            except av.FFmpegError as error:
                raise UnreadableVideoError(
                    f"{self.path} breaks off after frame {position + 1} of {len(self)} "
                    f"({error.strerror or error}); it is truncated or damaged."
                ) from error
        if target is not None:
            raise UnreadableVideoError(
                f"{self.path} ends after {position + 1} frames though its header says "
                f"{len(self)}; it is truncated."
            )


def _chunks(
    frames: Iterator[tuple[int, Frames]], size: int
) -> Iterator[tuple[NDArray[np.int64], Frames]]:
    indices: list[int] = []
    held: list[Frames] = []
    for index, frame in frames:
        indices.append(index)
        held.append(frame)
        if len(held) == size:
            yield np.array(indices), np.stack(held)
            indices, held = [], []
    if held:
        yield np.array(indices), np.stack(held)


def read_clip(
    path: str | Path,
    num_frames: int | None = None,
    indices: Sequence[int] | None = None,
) -> Clip:
    """Read frames of a video into memory.

    Args:
        path: a video file, an image, or a folder of images.
        num_frames: that many, evenly from the first to the last; all by default. Of a video that
            is shorter, frames repeat (``Clip.count`` tells).
        indices: exactly these frames instead.

    Returns:
        :class:`Clip` with frames uint8 ``[T, H, W, 3]`` in RGB.

    Raises:
        UnreadableVideoError: the file can't be read, is not a video, or is damaged.
    """
    reader = VideoReader(path)
    if indices is not None:
        wanted = np.asarray(indices, dtype=np.int64)
    elif num_frames is not None:
        if num_frames < 1:
            raise UserError(f"num_frames is {num_frames}; ask for at least one frame.")
        wanted = sample_linspace(len(reader), num_frames)
    else:
        wanted = np.arange(len(reader))
    return Clip(reader.read(wanted), wanted, reader.info.fps, file_sha256(path), len(reader))
