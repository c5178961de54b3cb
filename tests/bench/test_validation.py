"""The suite's metrics as a judge of what a training draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.validation import suite_judge
from media.errors import UserError
from media.writing import write_video
from metrics import MetricSuite
from metrics.scores import Score, VideoItem
from stdrc.training.validation import Drawn


def clip(path: Path, seed: int) -> Path:
    frames = np.random.default_rng(seed).integers(0, 255, (9, 32, 32, 3)).astype(np.uint8)
    write_video(path, frames, 8.0)
    return path


def test_means_are_the_suites_and_what_has_no_score_is_counted(tmp_path: Path) -> None:
    videos = [clip(tmp_path / f"{i}.mp4", i) for i in range(2)]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    judge = suite_judge(["temporal.flicker"], tmp_path / "cache")
    drawn = [Drawn(v, "a square", (), videos[0], "ann") for v in (*videos, broken)]
    items = [VideoItem(video, str(i)) for i, video in enumerate(videos)]
    rows = MetricSuite(["temporal.flicker"], "cpu").stream(items)
    values = [row.value for row in rows if isinstance(row, Score) and row.value is not None]
    assert len(values) == 2
    assert judge(drawn) == pytest.approx(
        {"temporal.flicker": sum(values) / 2, "temporal.flicker/unscored": 1.0}
    )
    assert list(judge(drawn[2:])) == ["temporal.flicker/unscored"]


def test_an_unknown_metric_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no metric is called 'temporal\.flikker'"):
        suite_judge(["temporal.flikker"], tmp_path)
