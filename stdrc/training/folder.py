"""Training folders: which clips they hold, and everything that is wrong with them at once.

Two layouts are read. *trainer*: `metadata.jsonl`, one clip a line. *consisid*: `captions.json` (or
another list of {"path", "cap"}), `videos/` and `refine_bbox_jsons/`, as ConsisID's training data
has them. No path from a data file leaves its folder.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from media.errors import UnreadableTableError, UserError
from media.files import inside, natural_order
from media.tables import read_json, read_table
from media.video import VideoInfo
from stdrc.errors import STDRCError
from stdrc.training.config import ClipConfig

Box = tuple[float, float, float, float]
# A detector may put a box's edge a little outside; more than this share of the frame is a mistake.
OUTSIDE_TOLERANCE = 0.05


@dataclass(frozen=True)
class ClipEntry:
    """A clip as its folder describes it.

    Args:
        video: path of the file.
        caption: what happens in it.
        identity: who; clips of one identity may lend each other references. Empty: nobody else.
        references: images of the person; empty: frames of the video serve.
        boxes: face boxes in pixels of the upright frame, one per frame, None where there is no
            face; None as a whole where the folder has no boxes.
        landmarks: x, y of eyes, nose and the mouth's corners, one per frame as `boxes` are; None as
            a whole where the folder has none.
        heads: boxes of the whole head, where the folder has them; for cropping references.
        reference_boxes: one per reference, of what the run's `crop` says.
    """

    video: Path
    caption: str
    identity: str = ""
    references: tuple[Path, ...] = ()
    boxes: tuple[Box | None, ...] | None = None
    landmarks: tuple[tuple[float, ...] | None, ...] | None = None
    heads: tuple[Box | None, ...] | None = None
    reference_boxes: tuple[Box | None, ...] | None = None


@dataclass(frozen=True)
class Problem:
    """Something wrong with one clip."""

    where: str
    what: str

    @classmethod
    def of(cls, path: Path, error: Exception) -> Problem:
        """What an error says of a file, whose name needn't be said twice."""
        return cls(str(path), str(error).removeprefix(str(path)).lstrip(": "))

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def read_folder(
    folder: Path, layout: Literal["auto", "trainer", "consisid"] = "auto"
) -> tuple[list[ClipEntry], list[Problem]]:
    """The clips of a training folder and what is wrong with its description.

    Raises:
        STDRCError: the folder is missing or has neither layout.
    """
    if not folder.is_dir():
        raise STDRCError(f"The training folder {folder} does not exist.")
    metadata = folder / "metadata.jsonl"
    if layout == "trainer" or (layout == "auto" and metadata.is_file()):
        if not metadata.is_file():
            raise STDRCError(f"{folder} has no metadata.jsonl, which the layout 'trainer' needs.")
        return _read_trainer(folder, metadata)
    captions, problems = _caption_lists(folder)
    if not captions:
        raise STDRCError(
            f"{folder} is not a training folder: it has neither a metadata.jsonl nor a JSON list "
            'of captions with "path" and "cap".'
        )
    entries, more = _read_consisid(folder, captions)
    return entries, problems + more


def _read_trainer(folder: Path, metadata: Path) -> tuple[list[ClipEntry], list[Problem]]:
    entries: list[ClipEntry] = []
    problems: list[Problem] = []
    for number, row, problem in read_table(metadata, "jsonl"):
        where = f"{metadata} line {number}"
        if problem:
            problems.append(Problem(where, problem))
            continue
        try:
            video = inside(folder, row.get("video"), "video")
            caption = row.get("caption")
            if not isinstance(caption, str) or not caption.strip():
                raise STDRCError(f"{row['video']} has no caption")
            references = [inside(folder, r, "reference") for r in row.get("references") or []]
            for reference in references:
                if not reference.is_file():
                    raise STDRCError(f"the reference {reference} is missing")
            in_references = row.get("reference_boxes")
            if in_references is not None:
                in_references = _plain_boxes(in_references)
                if len(in_references) != len(references):
                    raise STDRCError(
                        f"{len(in_references)} reference_boxes for {len(references)} references"
                    )
            boxes, heads = row.get("boxes"), None
            if isinstance(boxes, str):
                boxes, heads = read_consisid_boxes(inside(folder, boxes, "boxes"))
            elif boxes is not None:
                boxes = _plain_boxes(boxes)
            landmarks = _landmarks(row.get("landmarks"))
        except UserError as problem:
            problems.append(Problem(where, str(problem)))
            continue
        entries.append(
            ClipEntry(
                video=video,
                caption=caption.strip(),
                identity=str(row.get("identity") or ""),
                references=tuple(references),
                boxes=boxes,
                landmarks=landmarks,
                heads=heads,
                reference_boxes=in_references,
            )
        )
    return entries, problems


def _caption_lists(folder: Path) -> tuple[list[tuple[Path, list[Any]]], list[Problem]]:
    """JSON lists of {"path", "cap"} in a folder, and the JSON files that can't be read."""
    found, problems = [], []
    for path in natural_order(folder.glob("*.json")):
        try:
            rows = read_json(path)
        except UnreadableTableError as error:
            problems.append(Problem.of(path, error))
            continue
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and "path" in rows[0]:
            found.append((path, rows))
    return found, problems


def _read_consisid(
    folder: Path, captions: Iterable[tuple[Path, list[Any]]]
) -> tuple[list[ClipEntry], list[Problem]]:
    entries: list[ClipEntry] = []
    problems: list[Problem] = []
    for file, rows in captions:
        for number, row in enumerate(rows, start=1):
            where = f"{file} entry {number}"
            try:
                # Only the name counts: the list's own folders are those of whoever wrote it.
                name = Path(str(row.get("path") or "")).name
                if not name:
                    raise STDRCError("no path")
                video = inside(folder, f"videos/{name}", "path")
                if not video.exists():
                    video = inside(folder, name, "path")
                caption = row.get("cap")
                if isinstance(caption, list):
                    caption = caption[0] if caption else None
                if not isinstance(caption, str) or not caption.strip():
                    raise STDRCError(f"{name} has no caption")
                boxes = heads = None
                file_of_boxes = folder / "refine_bbox_jsons" / f"{video.stem}.json"
                if file_of_boxes.is_file():
                    boxes, heads = read_consisid_boxes(file_of_boxes)
            except (UserError, AttributeError) as problem:
                problems.append(Problem(where, str(problem)))
                continue
            entries.append(ClipEntry(video, caption.strip(), boxes=boxes, heads=heads))
    return entries, problems


def read_consisid_boxes(
    path: Path,
) -> tuple[tuple[Box | None, ...], tuple[Box | None, ...]]:
    """Face and head boxes, one per frame, of the person seen in most frames.

    The file maps frame numbers to {"face": [...], "head": [...], "person": [...]}, each a list of
    {"box": {x1, y1, x2, y2}, "confidence", "new_track_id"}.

    Raises:
        STDRCError: the file is missing or of another form.
    """
    try:
        frames = read_json(path)
        by_number = {int(number): parts for number, parts in frames.items()}

        def track_of(found: dict[str, Any]) -> Any:  # a face of no track may be anybody's
            return found["new_track_id"] if "new_track_id" in found else found["track_id"]

        tracks = Counter(
            track_of(face) for parts in by_number.values() for face in parts.get("face", [])
        )
        track = tracks.most_common(1)[0][0] if tracks else None

        def box(number: int, part: str) -> Box | None:
            for found in by_number.get(number, {}).get(part, []):
                if track_of(found) == track:
                    b = found["box"]
                    return (float(b["x1"]), float(b["y1"]), float(b["x2"]), float(b["y2"]))
            return None

        count = max(by_number, default=-1) + 1
        return (
            tuple(box(i, "face") for i in range(count)),
            tuple(box(i, "head") for i in range(count)),
        )
    except UnreadableTableError as error:
        raise STDRCError(f"the boxes {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise STDRCError(f"the boxes {path} are not in ConsisID's form") from None


def _plain_boxes(rows: Any) -> tuple[Box | None, ...]:
    try:
        boxes: list[Box | None] = []
        for row in rows:
            if row is None:
                boxes.append(None)
                continue
            x0, y0, x1, y1 = (float(value) for value in row)
            if not all(map(math.isfinite, (x0, y0, x1, y1))):
                raise ValueError
            boxes.append((x0, y0, x1, y1))
        return tuple(boxes)
    except (TypeError, ValueError):
        raise STDRCError("boxes must be a list of [x0, y0, x1, y1] or null") from None


def _landmarks(rows: Any) -> tuple[tuple[float, ...] | None, ...] | None:
    """Ten numbers per frame."""
    if rows is None:
        return None
    try:
        found = [row and tuple(float(v) for point in row for v in point) for row in rows]
        if any(row is not None and len(row) != 10 for row in found):
            raise ValueError
        return tuple(found)
    except (TypeError, ValueError):
        raise STDRCError("landmarks must be a list of five [x, y] or null") from None


# Videos ---------------------------------------------------------------------------------------


def nearest_shape(
    height: int, width: int, count: int, fps: float, shapes: Sequence[ClipConfig]
) -> ClipConfig:
    """The training shape for a video: one that it is long enough for, the nearest in aspect; of
    these the longest; of these the largest that it fills without being enlarged.

    Returns:
        The shortest shape where the video is too short for all.
    """
    fit = [s for s in shapes if _length(fps, s) <= count]
    if not fit:
        return min(shapes, key=lambda s: s.frames)

    def worth(shape: ClipConfig) -> tuple[float, int, bool, int]:
        off = abs(math.log(shape.height / shape.width) - math.log(height / width))
        enlarged = max(shape.height / height, shape.width / width) > 1
        area = shape.height * shape.width
        return -round(off, 9), shape.frames, not enlarged, -area if enlarged else area

    return max(fit, key=worth)


def _length(fps: float, clip: ClipConfig) -> int:
    """How many of a video's frames a clip spans."""
    return math.floor((clip.frames - 1) * (fps / clip.fps if clip.fps else 1.0)) + 1


def window_frames(info: VideoInfo, clip: ClipConfig) -> list[list[int]]:
    """Frame numbers of each window of a video: `clip.windows` of them, spread evenly over it.

    Returns:
        Up to `clip.windows` lists of `clip.frames` numbers; none where the video is too short.
    """
    stride = info.fps / clip.fps if clip.fps else 1.0
    room = info.count - _length(info.fps, clip)
    if room < 0:
        return []
    count = min(clip.windows, room + 1)
    starts = [round(i * room / max(1, count - 1)) for i in range(count)]
    return [[start + math.floor(i * stride) for i in range(clip.frames)] for start in starts]


def check_clip(entry: ClipEntry, info: VideoInfo, clip: ClipConfig) -> list[str]:
    """What is wrong with a clip, in words; empty where nothing is."""
    if not info.fps:
        return ["the file doesn't say its frame rate; encode it with one"]
    wrong = []
    if not window_frames(info, clip):
        wanted = f"{clip.frames} frames" + (f" at {clip.fps:g} a second" if clip.fps else "")
        wrong.append(
            f"too short: {info.count} frames at {info.fps:g} a second, and a clip is {wanted}"
        )
    if entry.boxes is not None:
        present = [(i, box) for i, box in enumerate(entry.boxes) if box is not None]
        if not present:
            wrong.append("no face in any frame")
        outside = [i for i, box in present if not _fits(box, info)]
        if outside:
            wrong.append(
                f"{len(outside)} boxes outside the {info.width} x "
                f"{info.height} frame or without area, first in frame {outside[0]}: "
                f"{[round(v, 1) for v in entry.boxes[outside[0]] or ()]}"
            )
    return wrong


def _fits(box: Box, info: VideoInfo) -> bool:
    x0, y0, x1, y1 = box
    slack_x, slack_y = OUTSIDE_TOLERANCE * info.width, OUTSIDE_TOLERANCE * info.height
    return (
        x0 < x1
        and y0 < y1
        and x0 >= -slack_x
        and y0 >= -slack_y
        and x1 <= info.width + slack_x
        and y1 <= info.height + slack_y
    )


def frame_to_clip(
    frames: np.ndarray, boxes: Sequence[tuple[float, ...] | None] | None, clip: ClipConfig
) -> tuple[Tensor, Tensor | None]:
    """Cut frames to the clip's proportions around the face, and scale them.

    Args:
        frames: uint8 [T, H, W, 3].
        boxes: one per frame, pixels; points x, y may stand behind a box.

    Returns:
        Pixels float [3, T, height, width] in -1..1, and boxes [T, 4] in pixels of the clip with as
        many points behind, NaN where there is no face (or less than half of it is left in the
        picture); None without boxes.
    """
    _, height, width, _ = frames.shape
    scale = min(height / clip.height, width / clip.width)
    cut_h, cut_w = min(height, round(clip.height * scale)), min(width, round(clip.width * scale))
    known = [box for box in boxes or [] if box is not None]
    centre_x = float(np.mean([(b[0] + b[2]) / 2 for b in known])) if known else width / 2
    centre_y = float(np.mean([(b[1] + b[3]) / 2 for b in known])) if known else height / 2
    left = min(max(0, round(centre_x - cut_w / 2)), width - cut_w)
    top = min(max(0, round(centre_y - cut_h / 2)), height - cut_h)
    pixels = torch.from_numpy(frames[:, top : top + cut_h, left : left + cut_w].copy())
    pixels = pixels.permute(0, 3, 1, 2)  # [T, 3, h, w]
    if (cut_h, cut_w) != (clip.height, clip.width):
        pixels = tv.resize(pixels, [clip.height, clip.width], antialias=True)
    pixels = pixels.float().div(127.5).sub(1).transpose(0, 1)
    if boxes is None:
        return pixels, None
    width_of_row = max((len(box) for box in known), default=4)
    out = torch.full((len(frames), width_of_row), float("nan"))
    to_clip = torch.tensor([clip.width / cut_w, clip.height / cut_h] * (width_of_row // 2))
    corner = torch.tensor([left, top] * (width_of_row // 2))
    most = torch.tensor([clip.width, clip.height] * 2)
    for i, box in enumerate(boxes):
        if box is None or len(box) != width_of_row:
            continue
        whole = (torch.tensor(box) - corner) * to_clip
        kept = torch.minimum(whole[:4].clamp(min=0), most)
        area, left_over = _area(whole), _area(kept)
        if area > 0 and left_over >= 0.5 * area:
            out[i] = torch.cat([kept, whole[4:]])
    return pixels, out


def _area(box: Tensor) -> float:
    return float((box[2] - box[0]).clamp(min=0) * (box[3] - box[1]).clamp(min=0))


def list_problems(problems: Iterable[Problem], limit: int = 30) -> str:
    """All problems, a line each; beyond `limit` only their number."""
    lines = [f"  {problem}" for problem in problems]
    more = [f"  ... and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])
