"""Reading videos: any file or folder of images as uint8 RGB frames, by index or as a stream.

Frame i is the i-th picture that a player shows, upright, whatever else is asked for and however
few: files are decoded in order from their start, because seeking is right only as far as a file's
index is (B-frames in AVI, open groups of pictures and edit lists break it). The first pass reads
the packets' time stamps; where they can't say how many pictures come out, it decodes. What is read
later is held against them, and what disagrees is refused. `VideoReader.stream` holds one chunk of
frames at a time, so memory doesn't grow with a video's length.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import PIL
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from media.errors import UnreadableVideoError, UserError
from media.files import file_sha256, natural_order, special_file, tree_sha256
from media.images import (
    IMAGE_SUFFIXES,
    Pixels,
    animation_frames,
    flatten_alpha,
    image_size,
    read_image,
)
from media.streams import Packets, check_size, decoded, display_matrix, open_stream, packets_of

Frames: TypeAlias = NDArray[np.uint8]

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".gif")
"""Endings of the files that are taken for videos in a folder; by its name, any file is read."""

CHUNK_BYTES = 32 << 20
"""Size of the chunks of frames in which a video is streamed."""

CARD = os.environ.get("STDRC_DECODER", "")
"""What decodes H.264 and the like: FFmpeg, or "nvdec", an NVIDIA card. These formats fix every
frame of an intact video to the bit, so a card's should be FFmpeg's (not seen on one); damage it
patches without a word."""

_LIBRARIES = ("libavformat", "libavcodec", "libswscale")
DECODER = " ".join(
    [
        "reader 2",
        *(f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in _LIBRARIES),
        f"Pillow {PIL.__version__}",
        *([CARD] if CARD else []),
    ]
)
"""How frames are decoded, for the keys of what is computed from them."""

_STILL_MAGIC = (b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_JPEG_MAGIC = b"\xff\xd8\xff"
#: Where each packet shows one picture, so that packets may be counted instead of pictures.
_COUNTED_CODECS = frozenset({"av1", "h264", "hevc", "vp9"})
_COUNTED_CONTAINERS = frozenset({"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"})
_HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are read."""

    count: int  # frames that are shown
    fps: float  # average frames per second, 0 where the file doesn't say
    width: int  # as displayed, after rotation
    height: int
    codec: str = ""  # FFmpeg's name; "image" for pictures and "folder" for folders of them
    remarks: tuple[str, ...] = ()  # what a score on these frames should say with it

    def chunk_frames(self, limit: int = CHUNK_BYTES) -> int:
        """How many frames fit into ``limit`` bytes; at least one."""
        return max(1, limit // (self.width * self.height * 3))


@dataclass(frozen=True)
class Clip:
    """Frames of a video."""

    frames: Frames  # uint8 [T, H, W, 3], RGB
    indices: NDArray[np.int64]  # [T], which frames of the video these are
    info: VideoInfo
    sha256: str  # of the file's bytes, or of a folder's images in order

    @property
    def fps(self) -> float:
        """Average frames per second; 0 where the file doesn't say."""
        return self.info.fps

    @property
    def count(self) -> int:
        """Frames in the whole video."""
        return self.info.count


def sample_linspace(count: int, num_frames: int) -> NDArray[np.int64]:
    """``num_frames`` indices evenly from the first to the last of ``count`` frames, rounded down.

    Fewer frames than asked repeat, as ``np.linspace(0, count - 1, num_frames, dtype=int)`` does.
    """
    return np.linspace(0, count - 1, num_frames).astype(np.int64)


def video_sha256(path: str | Path) -> str:
    """SHA-256 of a video file's bytes; of a folder, of its images' names and bytes in order.

    Raises:
        UnreadableFileError: the path can't be read.
    """
    path = Path(path)
    return tree_sha256(path, _folder_images(path)) if path.is_dir() else file_sha256(path)


def is_frame_folder(path: Path) -> bool:
    """Whether a path is a folder with two images or more, which is read as a video."""
    if not path.is_dir():
        return False
    return sum(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir()) > 1


def find_videos(path: Path) -> list[Path]:
    """Videos in and below a folder, in natural order; of a file, the file itself.

    Folders of frames count where there is not one video file; then the path itself may be one.

    Raises:
        UserError: there is no such path, or nothing that is a video.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"There is no video or folder {path}; check the path.")
    inner = [
        p
        for p in path.rglob("*")
        if not any(part.startswith(".") for part in p.relative_to(path).parts)
    ]
    found = [p for p in inner if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
    found = found or [p for p in (path, *inner) if is_frame_folder(p)]
    if not found:
        endings = ", ".join(VIDEO_SUFFIXES)
        raise UserError(
            f"{path} holds no videos ({endings}, or folders of frames); check the path."
        )
    return natural_order(found)


def _folder_images(folder: Path) -> list[Path]:
    images = natural_order(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise UnreadableVideoError(
            f"{folder} is a folder without images; pass a video or image frames."
        )
    return images


# Pictures -------------------------------------------------------------------------------------


class _Folder:
    """A folder of images of one size, in natural order of their names."""

    def __init__(self, path: Path) -> None:
        self.images = _folder_images(path)
        width, height = image_size(self.images[0])
        check_size(width, height, self.images[0])
        self.info = VideoInfo(len(self.images), 0.0, width, height, "folder")

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Pixels]]:
        for index in wanted.tolist():
            frame = read_image(self.images[index])
            _same_size(frame, self.info, self.images[index])
            yield index, frame


class _Animation:
    """A GIF, APNG, animated WebP or AVIF, or a still picture as a video of one frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        width, height = image_size(path)
        check_size(width, height, path)
        shown = [milliseconds for _, milliseconds in animation_frames(path)]
        fps = 1000 * len(shown) / sum(shown) if all(shown) else 0.0
        self.info = VideoInfo(len(shown), fps, width, height, "image")

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Pixels]]:
        asked = set(wanted.tolist())
        for index, (frame, _) in enumerate(animation_frames(self.path)):
            if index in asked:
                _same_size(frame, self.info, self.path)
                yield index, frame
                asked.remove(index)
            if not asked:
                return


def _same_size(frame: Pixels, info: VideoInfo, path: Path) -> None:
    if frame.shape[:2] != (info.height, info.width):
        raise UnreadableVideoError(
            f"{path} is {frame.shape[1]} x {frame.shape[0]} pixels and the first frame "
            f"{info.width} x {info.height}; make them one size."
        )


# Videos ---------------------------------------------------------------------------------------


class _Stream:
    """A video file's main stream, decoded in order.

    Args:
        format: FFmpeg's name of the container; found by its content by default.
    """

    def __init__(self, path: Path, format: str | None = None) -> None:
        self.path = path
        self._format = format
        self._reformatter, self._planes = VideoReformatter(), VideoReformatter()
        with self._open() as (container, stream):
            packets = packets_of(container, stream, path)
        with self._open() as (container, stream):
            counted = (
                packets.regular
                and stream.codec_context.codec.canonical_name in _COUNTED_CODECS
                and container.format.name in _COUNTED_CONTAINERS
            )
            first: Any = None
            times: list[int | None] = []
            for frame in decoded(container, stream, self.path):
                if first is None:
                    first = frame
                    check_size(frame.width, frame.height, path)
                    if counted and not frame.interlaced_frame:  # fields may come in two packets
                        times = sorted(packets.times)  # type: ignore[type-var]
                        break
                times.append(frame.pts)
            if first is None:
                raise UnreadableVideoError(
                    f"{path} has a video stream without frames; generate it again."
                )
            self.times = tuple(times)
            self._matrix, self._coded = display_matrix(first, path), (first.width, first.height)
            shown = self._upright(np.empty((first.height, first.width, 0)))
            self.info = VideoInfo(
                len(times),
                self._rate(stream, packets),
                shown.shape[1],
                shown.shape[0],
                stream.codec_context.name,
                _remarks(container, stream, first),
            )

    def _open(self, card: bool = False) -> Any:
        return open_stream(self.path, self.path, self._format, card)

    def _rate(self, stream: Any, packets: Packets) -> float:
        known = [time for time in self.times if time is not None]
        if stream.average_rate and not packets.hidden:
            return float(stream.average_rate)
        if len(known) > 1 and known[-1] > known[0] and stream.time_base:
            return (len(known) - 1) / float((known[-1] - known[0]) * stream.time_base)
        return float(stream.average_rate or 0)

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Pixels]]:
        asked = iter(wanted.tolist())
        target = next(asked, None)
        if target is None:
            return
        if CARD not in ("", "nvdec"):
            raise UserError(f"STDRC_DECODER is {CARD!r}; set it to nvdec, or unset it.")
        index = -1
        with self._open(card=bool(CARD)) as (container, stream):
            for index, frame in enumerate(decoded(container, stream, self.path, len(self.times))):
                if index >= len(self.times) or frame.pts != self.times[index]:
                    raise UnreadableVideoError(
                        f"{self.path}: frame {index} isn't at the time that the file's index "
                        "says; it is damaged, encode it again."
                    )
                if (frame.width, frame.height) != self._coded:
                    raise UnreadableVideoError(
                        f"{self.path} changes its frame size from {self._coded[0]} x "
                        f"{self._coded[1]} to {frame.width} x {frame.height} at frame {index}; "
                        "encode it at one size."
                    )
                if display_matrix(frame, self.path) != self._matrix:
                    raise UnreadableVideoError(
                        f"{self.path} is turned another way from frame {index} on; encode it "
                        "upright."
                    )
                if index == target:
                    yield index, self._upright(self._pixels(frame))
                    target = next(asked, None)
                    if target is None:
                        return
        raise UnreadableVideoError(
            f"{self.path} ends after {index + 1} frames though its header says "
            f"{len(self.times)}; it is truncated."
        )

    def _pixels(self, frame: Any) -> Pixels:
        """A decoded frame as RGB, exactly as the ffmpeg program converts it; alpha on white."""
        if CARD and frame.format.name == "nv12":  # FFmpeg turns it into RGB by another way
            frame = self._planes.reformat(frame, format="yuv420p")
        elif CARD:
            raise UserError(
                f"{self.path} decodes to {frame.format.name} on a card, and nv12 is read; unset "
                "STDRC_DECODER."
            )
        parts = frame.format.components
        alpha = frame.format.has_palette or any(part.is_alpha for part in parts)
        pixels: Any = self._reformatter.reformat(
            frame, format="rgba" if alpha else "rgb24", interpolation=Interpolation.BICUBIC
        ).to_ndarray()
        return flatten_alpha(pixels) if alpha else pixels

    def _upright(self, pixels: NDArray[Any]) -> NDArray[Any]:
        a, b, c, d = self._matrix
        if b:  # rows become columns
            pixels, a, d = pixels.swapaxes(0, 1), c, b
        return np.ascontiguousarray(pixels[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1])


def _remarks(container: Any, stream: Any, first: Any) -> tuple[str, ...]:
    remarks = []
    ratio = stream.sample_aspect_ratio
    if ratio and ratio != 1:
        remarks.append(
            f"pixels are not square ({ratio.numerator}:{ratio.denominator}) and read as stored"
        )
    curve = _HDR.get(first.color_trc)
    if curve is None and first.side_data.get(SideData.DOVI_METADATA) is not None:
        curve = "Dolby Vision"
    if curve:
        remarks.append(f"HDR ({curve}) read without tone mapping")
    if first.interlaced_frame:
        remarks.append("interlaced, read as woven fields")
    if stream.metadata.get("alpha_mode") == "1":
        remarks.append("transparency left out")
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if len(videos) > 1:
        remarks.append(f"stream {stream.index} of {len(videos)} video streams")
    return tuple(remarks)


def _source(path: Path) -> _Folder | _Animation | _Stream:
    if path.is_dir():
        return _Folder(path)
    if special := special_file(path):
        raise UnreadableVideoError(f"{path} is {special}, not a file; save the video first.")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UnreadableVideoError(
            f"{path} can't be read ({error.strerror}); check the path and its permissions."
        ) from error
    if not head:
        raise UnreadableVideoError(f"{path} is empty (0 bytes); generate or copy the video again.")
    still = head.startswith(_STILL_MAGIC) or head[8:12] == b"WEBP" or head[4:11] == b"ftypavi"
    if head.startswith(_JPEG_MAGIC):
        # One picture, or Motion JPEG; a bomb is refused before any decoder touches it.
        check_size(*image_size(path), path)
        stream = _Stream(path, "mjpeg")
        return stream if stream.info.count > 1 else _Animation(path)
    return _Animation(path) if still else _Stream(path)


class VideoReader:
    """Frames of one video, by index or in order.

    Args:
        path: a video file, an animated or still image, or a folder of images of one size in
            natural order of their names.

    Raises:
        UnreadableFileError: the file is missing, empty, truncated, not a video, without a video
            stream, over :data:`media.streams.MAX_PIXELS` per frame, or can't be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._frames = _source(self.path)
        self.info = self._frames.info

    def __len__(self) -> int:
        return self.info.count

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Frames:
        """Frames at ``indices``, any order, repeats allowed: uint8 ``[len(indices), H, W, 3]``.

        Raises:
            UserError: an index is out of range.
            UnreadableFileError: the video breaks off before it, or changes its size.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1 or len(wanted) == 0:
            raise UserError("indices must be a list of at least one frame number.")
        if wanted.min() < 0 or wanted.max() >= len(self):
            raise UserError(
                f"{self.path} has {len(self)} frames, so frame {int(wanted.max())} isn't there."
            )
        unique, inverse = np.unique(wanted, return_inverse=True)
        frames = np.empty((len(unique), self.info.height, self.info.width, 3), np.uint8)
        for row, (_, frame) in enumerate(self._frames.frames(unique)):
            frames[row] = frame
        return frames if np.array_equal(unique, wanted) else frames[inverse]

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
            UnreadableFileError: the video breaks off, or changes its size; the message says where.
        """
        wanted = np.arange(len(self)) if indices is None else np.asarray(indices, dtype=np.int64)
        size = chunk or self.info.chunk_frames()
        numbers: list[int] = []
        held: list[Pixels] = []
        for index, frame in self._frames.frames(wanted):
            numbers.append(index)
            held.append(frame)
            if len(held) == size:
                yield np.array(numbers), np.stack(held)
                numbers, held = [], []
        if held:
            yield np.array(numbers), np.stack(held)


def read_clip(
    path: str | Path, num_frames: int | None = None, indices: Sequence[int] | None = None
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
        UnreadableFileError: the file can't be read, is not a video, or is damaged.
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
    return Clip(reader.read(wanted), wanted, reader.info, video_sha256(path))
