"""Small run folders for the tests, written by hand in the schema of `leaderboards.runfolder`."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from leaderboards.runfolder import create, insert

METRICS = [
    ("identity.dlib", "dlib", "Identity", 1, 0.0, 1.0),
    ("text.clip", "clip", "Text", 1, 0.0, 1.0),
    ("temporal.warp", "dis", "Warping error", 0, 0.0, None),
    ("motion.degree", "dis", "Motion", None, None, None),
]


def encode(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 8,
    container: str | None = None,
    **options: str,
) -> Path:
    """Write uint8 frames [T, H, W, 3] as a video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.time_base = Fraction(1, fps)
        if codec.startswith("libx26"):
            stream.options = {"preset": "ultrafast", "x264-params": "threads=1", **options}
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return path


def moving_square(seed: int, frames: int = 9, size: int = 64) -> np.ndarray:
    """uint8 [frames, size, size, 3]: a square that moves over a coloured ground."""
    rng = np.random.default_rng(seed)
    ground, ink = rng.integers(40, 220, size=(2, 3))
    video = np.empty((frames, size, size, 3), np.uint8)
    video[:] = ground
    for t in range(frames):
        x = 4 + (t * 5 + seed) % (size - 24)
        video[t, size // 3 : size // 3 + 18, x : x + 18] = ink
    return video


def make_run(
    folder: Path,
    cells: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    identities: int = 8,
    prompts: int = 2,
    videos: bool = False,
    failed: Sequence[tuple[int, int]] = (),
    sample_ids: Sequence[str] | None = None,
    label: bool = True,
    seed: int = 0,
) -> Path:
    """Write a run folder with planted scores: identity grows with `reference`, text with `text`.

    failed: (cell number, sample number) pairs whose video failed. sample_ids: names of the samples;
    `identities * prompts` of them.
    """
    if cells is None:
        cells = {
            f"cell{i}": {"placement": p, "text": t, "reference": r}
            for i, (p, t, r) in enumerate(
                itertools.product(("tass", "overlap"), (1.0, 3.0, 5.0), (1.0, 1.5, 2.0))
            )
        }
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    db = create(folder)
    columns = ("metric", "backend", "label", "higher_is_better", "low", "high")
    insert(db, "metrics", (dict(zip(columns, row)) for row in METRICS))
    names = list(sample_ids or [f"s{k:03d}" for k in range(identities * prompts)])
    shared = rng.normal(0, 0.03, (len(names), 4))
    for k, name in enumerate(names):
        refs: list[str] = []
        if videos:
            refs = [f"references/id{k // prompts:03d}.png"]
            target = folder / refs[0]
            target.parent.mkdir(exist_ok=True)
            Image.fromarray(moving_square(k // prompts, frames=1, size=96)[0]).save(target)
        prompt = f"a person moves {'left' if k % 2 else 'right'} in front of <wall> & {k}"
        db.execute(
            "INSERT INTO samples VALUES (?, ?, ?, ?, NULL, NULL, NULL)",
            (name, f"id{k // prompts:03d}", prompt, json.dumps(refs)),
        )
    for i, (cell, axes) in enumerate(cells.items()):
        words = " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in axes.values())
        db.execute(
            "INSERT INTO cells VALUES (?, ?, ?, ?)",
            (cell, words if label else "", json.dumps(axes), int(axes.get("placement") == "far")),
        )
        quality = 0.05 * (axes.get("placement") == "tass")
        base = [
            0.4 + 0.12 * float(axes.get("reference", 1)) + quality,
            0.2 + 0.04 * float(axes.get("text", 1)) - 0.03 * float(axes.get("reference", 1)),
            0.1,
            2.0,
        ]
        for k, name in enumerate(names):
            key = hashlib.sha256(f"{cell}/{name}".encode()).hexdigest()
            if (i, k) in failed:
                db.execute(
                    "INSERT INTO videos(video, cell, sample, seed, status, reason) "
                    "VALUES (?, ?, ?, 0, 'failed', ?)",
                    (key, cell, name, "the video has NaN frames"),
                )
                continue
            path = f"videos/{key[:2]}/{key}.mp4"
            digest = None
            if videos:
                file = encode(folder / path, moving_square(17 * i + k))
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
            db.execute(
                "INSERT INTO videos(video, cell, sample, seed, status, path, sha256, seconds) "
                "VALUES (?, ?, ?, 0, 'done', ?, ?, 0.5)",
                (key, cell, name, path, digest),
            )
            for m, (metric, backend, *_rest) in enumerate(METRICS):
                value = float(base[m] + shared[k, m] + rng.normal(0, 0.02))
                detail = json.dumps({"frames": 10, "frames_with_face": 9}) if m == 0 else "{}"
                db.execute(
                    "INSERT INTO scores VALUES (?, ?, ?, '1', ?, 'ok', '', ?, NULL)",
                    (key, metric, backend, value, detail),
                )
        done = len(names) - sum(c == i for c, _ in failed)
        db.execute(
            "INSERT INTO set_scores VALUES (?, 'fvd.videomae', 'videomae', '1', ?, ?, ?, ?, "
            "'ok', '', NULL, NULL)",
            (cell, 100.0 + i, 90.0 + i, 110.0 + i, done),
        )
    db.execute("INSERT INTO planned SELECT video, 'planted' FROM videos")
    db.commit()
    db.close()
    return folder
