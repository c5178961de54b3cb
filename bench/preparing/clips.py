"""What is found in one video: its faces, whose they are, and whether it can be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from bench.preparing.sources import Source
from bench.yaml_models import Model
from media.errors import UserError
from media.video import VideoReader


class Rules(Model):
    """What a clip must be, and how it is looked at."""

    every: int = Field(
        default=4, ge=1, description="Faces are sought in every Nth frame; boxes in between "
        "are interpolated."
    )  # fmt: skip
    min_seconds: float = Field(default=1.0, ge=0, description="Shorter videos are left out.")
    min_face: int = Field(default=64, ge=1, description="Least median height of the face, pixels.")
    min_share: float = Field(
        default=0.5, ge=0, le=1, description="Least share of the frames with a face."
    )
    several: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Largest share of the frames with a second face of a quarter of the first's "
        "area or more.",
    )
    cut: float = Field(
        default=0.35,
        gt=0,
        le=1,
        description="Distance of colour histograms, 0..1, from which two frames are of two shots.",
    )
    same: float = Field(
        default=0.6,
        ge=-1,
        le=1,
        description="Least cosine of two clips' faces, for them to be one identity.",
    )


@dataclass(frozen=True)
class Found:
    """A clip that was looked at.

    Attributes:
        reason: why it is left out; "" where it isn't.
        row: what the training folder says of it, without its identity.
        embedding: unit length, of the mean of its faces.
        picture: the reference, uint8 [H, W, 3].
    """

    reason: str
    row: dict[str, Any]
    embedding: np.ndarray | None = None
    picture: np.ndarray | None = None


def look(source: Source, faces: Any, rules: Rules) -> Found:
    """Look at one clip.

    Args:
        source: the video.
        faces: a `metrics.features.face_backends.FaceBackend`.
        rules: what it must be.
    """
    if source.problem:
        return Found(source.problem, {})
    if not source.caption:
        return Found("no caption", {})
    try:
        reader = VideoReader(source.video)
        info = reader.info
        if info.count / (info.fps or 25.0) < rules.min_seconds:
            return Found("too short", {})
        numbers = list(range(0, info.count, rules.every))
        frames = reader.read(numbers)
    except UserError as error:
        return Found(f"unreadable: {str(error).removeprefix(str(source.video)).lstrip(': ')}", {})
    if _has_cut(frames, rules.cut):
        return Found("a cut between shots", {})
    found = faces.detect(frames)
    if reason := _sift(found, rules):
        return Found(reason, {})
    tracked = _track(found)
    seen = [i for i, box in enumerate(tracked) if box is not None]
    best = max(seen, key=lambda i: _worth(found[i], int(tracked[i][0]), frames[i]))
    boxes, landmarks = _between(tracked, found, numbers, info.count)
    if source.boxes is not None:
        from stdrc.training.folder import read_consisid_boxes

        boxes = [box and list(box) for box in read_consisid_boxes(source.boxes)[0]][: info.count]
        boxes += [None] * (info.count - len(boxes))
    some = seen[:: max(1, len(seen) // 8)]
    crops = np.concatenate(
        [faces.align(frames[i], found[i].select([int(tracked[i][0])])) for i in some]
    )
    embedding = torch.nn.functional.normalize(faces.embed(crops).float().mean(dim=0), dim=0)
    picture, box = _reference(frames[best], tracked[best][1])
    row = {
        "caption": source.caption,
        "boxes": boxes,
        "landmarks": landmarks,
        "reference_boxes": [box],
        "frames": info.count,
        "fps": info.fps,
        "size": [info.height, info.width],
        "bucket": bucket(info.height, info.width, info.count, info.fps or 25.0),
    }
    return Found("", row, embedding.numpy(), picture)


def _sift(found: list[Any], rules: Rules) -> str:
    """Why the faces of a clip's frames don't do; "" if they do."""
    counts = [len(faces) for faces in found]
    if not any(counts):
        return "no face"
    if np.mean([count > 0 for count in counts]) < rules.min_share:
        return "a face in too few frames"
    crowded = [len(f) > 1 and float(f.areas[1] / f.areas[0]) >= 0.25 for f in found]
    if np.mean(crowded) > rules.several:
        return "several people"
    heights = [float(f.boxes[0, 3] - f.boxes[0, 1]) for f in found if len(f)]
    return "the face is too small" if np.median(heights) < rules.min_face else ""


def _has_cut(frames: np.ndarray, limit: float) -> bool:
    """Whether neighbouring frames are of two shots, by their colours' histograms."""
    small = [np.asarray(Image.fromarray(f).resize((64, 64), Image.Resampling.BOX)) for f in frames]
    bins = [
        np.histogramdd(s.reshape(-1, 3), bins=(8, 8, 8), range=[(0, 256)] * 3)[0] / 4096
        for s in small
    ]
    return any(float(np.abs(a - b).sum()) / 2 > limit for a, b in pairwise(bins))


def _track(found: list[Any]) -> list[Any]:
    """(which, box) of the face to follow in each frame: the nearest to the last, first the largest.

    None where there is none.
    """
    from torchvision.ops import box_iou

    tracked: list[Any] = []
    last: torch.Tensor | None = None
    for faces in found:
        if not len(faces):
            tracked.append(None)
            continue
        overlap = None if last is None else box_iou(last[None], faces.boxes)[0]
        index = 0 if overlap is None or not overlap.any() else int(overlap.argmax())
        last = faces.boxes[index]
        tracked.append((index, last))
    return tracked


def _worth(faces: Any, index: int, frame: np.ndarray) -> float:
    """How good a frame is as a reference: sure, large, looking at us, sharp."""
    x0, y0, x1, y1 = (int(v) for v in faces.boxes[index].clamp_min(0))
    left, right, nose = (faces.landmarks[index][k] for k in (0, 1, 2))
    width = float((right - left).norm()) or 1.0
    turned = abs(float((nose - (left + right) / 2)[0])) / width
    grey = frame[y0:y1, x0:x1].astype(np.float32).mean(axis=2)
    sharp = float(np.abs(np.diff(grey, axis=0)).mean()) if min(grey.shape, default=0) > 1 else 0.0
    return float(faces.scores[index]) * float(faces.areas[index]) ** 0.5 * (1 + sharp / 8) / (
        1 + 4 * turned
    )  # fmt: skip


def _between(
    tracked: list[Any], found: list[Any], numbers: list[int], count: int
) -> tuple[list[Any], list[Any]]:
    """Boxes [x0, y0, x1, y1] and five landmarks of every frame; None far from any that was seen."""
    seen = [i for i, box in enumerate(tracked) if box is not None]
    at = np.array([numbers[i] for i in seen])
    flat = np.stack(
        [
            np.concatenate(
                [tracked[i][1].numpy(), found[i].landmarks[tracked[i][0]].numpy().ravel()]
            )
            for i in seen
        ]
    )
    frames = np.arange(count)
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    near = np.abs(frames[:, None] - at[None]).min(axis=1) < step
    values = np.stack([np.interp(frames, at, column) for column in flat.T], axis=1).round(2)
    boxes = [row[:4].tolist() if ok else None for ok, row in zip(near, values)]
    marks = [row[4:].reshape(5, 2).tolist() if ok else None for ok, row in zip(near, values)]
    return boxes, marks


def _reference(frame: np.ndarray, box: torch.Tensor) -> tuple[np.ndarray, list[float]]:
    """The face with as much around it on each side, and where in that it is."""
    x0, y0, x1, y1 = (float(v) for v in box)
    side = max(x1 - x0, y1 - y0) * 1.5
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = max(0, round(cx - side)), max(0, round(cy - side))
    right = min(frame.shape[1], round(cx + side))
    bottom = min(frame.shape[0], round(cy + side))
    inner = [x0 - left, y0 - top, x1 - left, y1 - top]
    return frame[top:bottom, left:right], [round(v, 2) for v in inner]


def bucket(height: int, width: int, count: int, fps: float) -> str:
    """The training shape nearest to a video: HEIGHTxWIDTHxFRAMES at 24 frames per second."""
    from stdrc.training.config import ClipConfig
    from stdrc.training.folder import nearest_shape

    sizes = ((512, 768), (768, 512), (640, 640), (480, 832), (832, 480))
    frames = count * 24 / fps
    lengths = [n for n in (121, 97, 73, 49, 25) if n <= frames] or [max(1, int(frames))]
    shapes = [ClipConfig(height=h, width=w, frames=n, fps=24.0) for h, w in sizes for n in lengths]
    return nearest_shape(height, width, count, fps, shapes).name


def save_picture(path: Path, picture: np.ndarray) -> None:
    """A reference as PNG, all of it or none."""
    from media.files import whole_file

    with whole_file(path) as part, part.open("wb") as file:
        Image.fromarray(picture).save(file, format="PNG")
