"""Faults planted in drawn clips at several strengths: each metric answers in order."""

from itertools import pairwise

import numpy as np
import pytest

from metrics import VideoMetric
from metrics.catalogue import make, metric_info
from metrics.kernel import jedi_distance
from metrics.smoothness import MotionSmoothness
from metrics.verification import Calibration
from metrics.weights import require
from miniature.judges.damage import freeze
from miniature.judges.faces import MiniatureFaces
from miniature.judges.video import MiniatureVideo
from miniature.world import World

CLIPS = 12


@pytest.fixture(scope="module")
def clips():
    return list(World("test", size=CLIPS, seed=21, clips_per_identity=1))


@pytest.fixture(scope="module")
def frames(clips) -> np.ndarray:
    return np.stack([c.frames for c in clips])  # [12, 9, 64, 64, 3]


def value(name: str, videos, references=None, **given) -> float:
    metric: VideoMetric = make(metric_info(name))
    for i, video in enumerate(videos):
        given_here = dict(given)
        if references is not None:
            given_here["reference"] = references[i]
        metric.update(video, **given_here)
    return float(metric.compute())


def falls(values) -> bool:
    return all(a > b for a, b in pairwise(values))


def swapped(frames: np.ndarray, last: int) -> np.ndarray:
    """From so many frames before the end on, the clip shows the next clip's person."""
    out = frames.copy()
    if last:
        out[:, -last:] = np.roll(frames, 1, axis=0)[:, -last:]
    return out


@pytest.mark.parametrize("name", ["identity.miniature.verified", "identity.miniature.calibrated"])
def test_another_person_in_more_frames_is_verified_in_fewer(clips, frames, name):
    portraits = [c.reference for c in clips]
    values = [value(name, swapped(frames, last), portraits) for last in (0, 3, 6, 9)]
    assert falls(values)
    assert values[0] > 0.7
    assert values[-1] < 0.1


@pytest.mark.parametrize(
    "name", ["faces.pose_variety.miniature", "faces.expression_variety.miniature"]
)
def test_a_face_that_freezes_has_less_variety(frames, name):
    assert falls([value(name, freeze(frames, last)) for last in (0, 4, 6, 8)])


@pytest.mark.parametrize(
    ("name", "given"), [("motion.magnitude.dis", {"fps": 8.0}), ("motion.farneback", {})]
)
def test_a_clip_that_freezes_moves_less(frames, name, given):
    values = [value(name, freeze(frames, last), **given) for last in (0, 3, 6, 8)]
    assert falls(values)
    assert values[-1] < 1e-3


def test_the_calibration_is_of_the_shipped_judges():
    known = Calibration.read(require("calibration.miniature"))
    assert known.version == MiniatureFaces().version
    assert known.stranger_pairs > 1e6
    assert known.stranger == pytest.approx(0, abs=0.05)


def test_jedis_kernel_rises_with_freezing(frames):
    """On the drawn world's own video network; V-JEPA 2 has no weights to ship."""
    encoder = MiniatureVideo()
    truth = encoder.encode(frames)
    values = [jedi_distance(encoder.encode(freeze(frames, last)), truth) for last in (0, 4, 6, 8)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert falls(values[::-1])


def test_a_frame_out_of_place_is_less_smooth(frames):
    """VBench's formula with the mean of two frames for AMT's, which has no weights to ship."""

    class Mean:
        version = "mean"

        def between(self, first, second):
            return ((first.astype(int) + second) // 2).astype(np.uint8)

    def smoothness(shift: int) -> float:
        metric = MotionSmoothness(Mean())
        for video in frames:
            jerked = video.copy()
            jerked[1::2] = np.roll(video[1::2], shift, axis=2)
            metric.update(jerked)
        return float(metric.compute())

    assert falls([smoothness(shift) for shift in (0, 1, 3, 8)])
