"""Clips and an eval.json that the submission tests share."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.leaderboards.runs import encode, moving_square


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good clips, and one of each thing that may be wrong with one."""
    folder = tmp_path_factory.mktemp("clips")
    for n in (1, 2, 3):
        encode(folder / f"{n}.mp4", moving_square(n))
    encode(folder / "mpeg4.mp4", moving_square(4), codec="mpeg4")
    encode(folder / "444.mp4", moving_square(5), pix_fmt="yuv444p")
    encode(folder / "matroska.mkv", moving_square(6))
    encode(folder / "quicktime.mov", moving_square(6))
    encode(folder / "odd.mp4", moving_square(7, size=65), pix_fmt="yuv444p")
    whole = encode(folder / "long.mp4", moving_square(8, frames=40)).read_bytes()
    # The index stands at the end of this file; bytes of the frames before it are overwritten.
    start = whole.index(b"mdat") + len(whole[whole.index(b"mdat") :]) // 3
    broken = bytearray(whole)
    broken[start : start + 200] = bytes(b ^ 0x5A for b in broken[start : start + 200])
    (folder / "damaged.mp4").write_bytes(bytes(broken))
    (folder / "torn.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "text.mp4").write_bytes(b"this is not a video at all\n" * 40)
    return folder


#: What `make_run` generates three videos from.
FACIAL_SAMPLES = [
    {"img": "id000.png", "prompt": f"a person moves {way} in front of <wall> & {n}"}
    for n, way in enumerate(("right", "left", "right"))
]


@pytest.fixture
def eval_json(tmp_path: Path) -> Path:
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(FACIAL_SAMPLES))
    return path


def archive_of(
    folder: Path, members: Mapping[str, bytes], name: str = "facial_results.zip"
) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return path
