"""The world on disk, in the layouts that trainers and challenges read.

``trainer``
    ``metadata.jsonl``, ``clips/``, ``refs/``: a training folder with identities, references, boxes.
``consisid``
    ``captions.json``, ``videos/``, ``refine_bbox_jsons/``: ConsisID's training data.
``ipvg2025``
    ``idNNN/image.png`` with ``prompt1.txt`` and so on: the 2025 challenge's test set.
``ipvg2026``
    ``test_track1/final`` (facial) and ``test_track2/final`` (sequential action), each an
    ``eval.json`` beside its ``images``: the 2026 challenge's test sets.

The files that list the others are written last, so a folder that has one is complete.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from media.files import write_atomic
from media.writing import encode_video
from miniature import words
from miniature.errors import MiniatureError, UnknownNameError
from miniature.world.attributes import ClipAttributes
from miniature.world.render import WorldClip
from miniature.world.world import World

CRF = 12  # x264's quality of the clips; losses are about one grey level


def write_layout(
    world: World, folder: str | Path, layout: str = "trainer", *, own_frames: bool = False
) -> Path:
    """Write every clip of `world` under `folder`, a new or empty one, and return it.

    Args:
        layout: "trainer", "consisid", "ipvg2025" or "ipvg2026".
        own_frames: in "trainer", a clip's reference is a random frame of the clip itself, as in
            most data of this kind, and not a portrait of the person in another scene.

    Raises:
        MiniatureError: an unknown layout, a folder with something in it, or a write that failed.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise UnknownNameError.among("There is no layout", layout, LAYOUTS)
    if own_frames and layout != "trainer":
        raise MiniatureError(f"The layout {layout!r} has no training references; leave own_frames.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MiniatureError(f"{folder} is not an empty folder; name a new one for the world.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write = partial(_trainer, own_frames=True) if own_frames else LAYOUTS[layout]
        write(world, folder)
    except OSError as error:
        raise MiniatureError(
            f"Writing the world to {folder} stopped ({error.strerror or error}); what is there is "
            "incomplete: make room, remove it and write again."
        ) from error
    return folder


def _json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def _image(path: Path, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    if path.suffix == ".webp":
        Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
    else:
        Image.fromarray(pixels).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    return [[round(float(v), 2) for v in box] for box in boxes]


def _trainer(world: World, folder: Path, own_frames: bool = False) -> None:
    lines = []
    for i, clip in enumerate(world, start=1):
        video, reference = f"clips/{i:06d}.mp4", f"refs/{i:06d}.png"
        write_atomic(folder / video, encode_video(clip.frames, clip.fps, CRF))
        frame = np.random.default_rng([93, i]).integers(len(clip.frames))
        _image(folder / reference, clip.frames[frame] if own_frames else clip.reference)
        row = {
            "video": video,
            "caption": clip.caption,
            "identity": clip.identity.name,
            "references": [reference],
            "boxes": _rounded(clip.boxes),
            "attributes": clip.attributes.as_dict(),
        }
        lines.append(json.dumps(row) + "\n")
    write_atomic(folder / "metadata.jsonl", "".join(lines).encode())


def _consisid(world: World, folder: Path) -> None:
    captions = []
    for i, clip in enumerate(world, start=1):
        name = f"{i:06d}"
        video = encode_video(clip.frames, clip.fps, CRF)
        write_atomic(folder / "videos" / f"{name}.mp4", video)
        _json(folder / "refine_bbox_jsons" / f"{name}.json", _tracks(clip))
        height, width = clip.frames.shape[1:3]
        captions.append(
            {
                "path": f"{name}.mp4",
                "cap": clip.caption,
                "size": len(video),
                "resolution": {"height": height, "width": width},
                "fps": clip.fps,
                "duration": len(clip.frames) / clip.fps,
            }
        )
    _json(folder / "captions.json", captions)


def head_box(face: Sequence[float]) -> tuple[float, float, float, float]:
    """A face's box x0 y0 x1 y1 and about a third more, for hair; it may leave the frame."""
    x0, y0, x1, y1 = face
    wide, high = x1 - x0, y1 - y0
    return x0 - 0.2 * wide, y0 - 0.25 * high, x1 + 0.2 * wide, y1 + 0.05 * high


def _tracks(clip: WorldClip) -> dict[str, Any]:
    """Boxes of face, head and person, by frame."""
    size = clip.frames.shape[1]
    frames = {}
    for k, (x0, y0, x1, y1) in enumerate(clip.boxes.tolist()):
        wide, high = x1 - x0, y1 - y0
        person = (x0 - 0.4 * wide, y0 - 0.25 * high, x1 + 0.4 * wide, size)
        boxes = {
            "face": (x0, y0, x1, y1), "head": head_box((x0, y0, x1, y1)), "person": person,
        }  # fmt: skip
        frames[str(k)] = {
            part: [
                {
                    "name": "FACE" if part == "face" else part,
                    "class": int(part == "head"),
                    "confidence": 1.0,
                    "box": {
                        key: round(float(np.clip(v, 0, size)), 3)
                        for key, v in zip(("x1", "y1", "x2", "y2"), box)
                    },
                    "track_id": 1,
                    "new_track_id": 1,
                }
            ]
            for part, box in boxes.items()
        }
    return frames


def _ipvg2025(world: World, folder: Path) -> None:
    for i, clip in enumerate(world):
        person, prompt = divmod(i, world.clips_per_identity)
        place = folder / f"id{person + 1:03d}"
        if prompt == 0:
            _image(place / "image.png", clip.reference)
        write_atomic(place / f"prompt{prompt + 1}.txt", f"{clip.caption}\n".encode())


def _ipvg2026(world: World, folder: Path) -> None:
    facial, sequential = folder / "test_track1" / "final", folder / "test_track2" / "final"
    facial_rows, sequential_rows = [], []
    for i, clip in enumerate(world):
        image = f"id{i // world.clips_per_identity + 1:03d}.webp"
        for track in (facial, sequential):
            if i % world.clips_per_identity == 0:
                _image(track / "images" / image, clip.reference)
        facial_rows.append({"img": image, "prompt": clip.caption})
        sequential_rows.append({"img_paths": [image], **_sequence(clip)})
    _json(facial / "eval.json", facial_rows)
    _json(sequential / "eval.json", sequential_rows)


def _sequence(clip: WorldClip) -> dict[str, Any]:
    """A prompt in which the clip's motion is followed by another, each for half of the time."""
    rng = np.random.default_rng([7155, clip.identity.seed, clip.seed])
    scene: ClipAttributes = clip.attributes
    second = str(rng.choice([m for m in words.MOTIONS if m != scene.motion]))
    motions = [words.MOTION_PHRASES[m][0] for m in (scene.motion, second)]
    place = f"in front of {words.PATTERN_PHRASES[scene.pattern][0].format(scene.color)}"
    middle, end = len(clip.frames) / clip.fps / 2, len(clip.frames) / clip.fps
    return {
        "class_label": f"{scene.motion}, {second}",
        "global_prompt": f"a person {motions[0]}, {motions[1]}, {place}",
        "temporal_captions": [
            {"start": 0.0, "end": middle, "description": f"a person {motions[0]} {place}"},
            {"start": middle, "end": end, "description": f"a person {motions[1]} {place}"},
        ],
    }


LAYOUTS: dict[str, Callable[[World, Path], None]] = {
    "trainer": _trainer,
    "ipvg2025": _ipvg2025,
    "ipvg2026": _ipvg2026,
    "consisid": _consisid,
}
