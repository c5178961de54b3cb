"""Faults planted in drawn clips at several strengths: each metric answers in order."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from metrics import VideoMetric
from metrics.catalogue import make, metric_info
from metrics.features.clips import ENCODERS
from metrics.features.frames import FrameFeature
from metrics.features.models import Models
from metrics.features.networks.text import TextFeatures
from metrics.kernel import jedi_distance
from metrics.quality import Aesthetics, ClipIQA, ImageQuality, OpenS2VAesthetics, VBenchAesthetics
from metrics.smoothness import MotionSmoothness
from metrics.text import OverallConsistency
from metrics.verification import Calibration
from metrics.weights import require
from miniature.judges.damage import blur, freeze
from miniature.judges.faces import MiniatureFaces
from miniature.judges.text import MiniatureTextVideo
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


# What has no weights to ship stands on networks that answer the fault by construction: these tests
# hold the way from frames to the number, its direction and its scale, and nothing of the network.


class Sharpness:
    """Stands for CLIP and for networks of quality: how much a frame's neighbours differ."""

    name, version = "sharpness", "1"

    def __init__(self, width: int) -> None:
        self.width = width

    def encode(self, frames):
        found = [cv2.Laplacian(f, cv2.CV_64F).var() for f in frames]
        share = torch.tensor([v / (v + 500) for v in found])
        if self.width == 1:
            return share[:, None]
        rows, angle = torch.zeros(len(frames), self.width), 0.75 + 0.05 * share
        rows[:, 0], rows[:, 1] = angle.sin(), angle.cos()
        return rows

    def encode_text(self, prompts):
        rows = torch.eye(self.width)[[int("Bad" in p) for p in prompts]]
        return TextFeatures(rows, (4,) * len(prompts), 77)


def straight(*widths: int) -> dict[str, torch.Tensor]:
    """Weights of linear layers that hand on the first number; the last gives 4 + 3 times it."""
    state = {}
    for i, (a, b) in zip((0, 2, 4, 6, 7), pairwise(widths)):
        layer = nn.Linear(a, b)
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, 4.0 if b == 1 else 0.0)
        layer.weight.data[0, 0] = 3.0 if b == 1 else 1.0
        state |= {f"layers.{i}.{k}": v for k, v in layer.state_dict().items()}
    return state


@pytest.mark.parametrize(
    "make_metric",
    [
        Aesthetics,
        OpenS2VAesthetics,
        VBenchAesthetics,
        ClipIQA,
        lambda models: ImageQuality("musiq", models=models),
        lambda models: ImageQuality("musiq.vbench", models=models),
        lambda models: ImageQuality("maniqa", models=models),
    ],
    ids=["aesthetic", "opens2v", "vbench", "clip_iqa", "musiq", "musiq.vbench", "maniqa"],
)
def test_blurred_frames_have_less_quality(frames, make_metric, tmp_path, monkeypatch):
    monkeypatch.setattr("metrics.quality.text_model", lambda *_: Sharpness(768))
    torch.save(straight(768, 1024, 128, 64, 16, 1), tmp_path / "mlp.pth")
    linear = nn.Linear(768, 1)
    linear.weight.data[:] = torch.eye(768)[0]
    torch.save(linear.state_dict(), tmp_path / "linear.pth")
    weights = {"laion.mlp": tmp_path / "mlp.pth", "laion.linear": tmp_path / "linear.pth"}
    models = Models(weights=weights)
    for name in ("clip.rgb", "clip_l14.rgb", "clip_l14.vbench"):
        models.add_feature(FrameFeature(name, Sharpness(768)))
    for name in ("musiq", "musiq.vbench", "maniqa"):
        models.add_feature(FrameFeature(f"iqa.{name}", Sharpness(1)))

    def quality(sigma: float) -> float:
        metric = make_metric(models=models)
        for video in frames[:3]:
            metric.update(blur(video, sigma) if sigma else video)
        return float(metric.compute())

    values = [quality(sigma) for sigma in (0, 0.5, 1, 2)]
    assert falls(values)
    low, high = metric_range(make_metric(models=models))
    assert all(low <= v <= high for v in values)


def metric_range(metric) -> tuple[float, float]:
    return (4.0, 7.0) if type(metric) is Aesthetics else (0.0, 1.0)


class Reads(MiniatureTextVideo):
    """The drawn world's judge of text in the place of X-CLIP and ViCLIP."""

    frames, limit = 8, 77

    def tokens(self, prompt):
        return len(prompt.split())

    def cosines(self, videos, prompts):
        return [found.video / 100 for found in self.align(videos, prompts)]


@pytest.mark.parametrize("name", ["text.xclip_score", "text.viclip_score", "consistency"])
def test_prompts_of_other_clips_fit_less(clips, frames, monkeypatch, name):
    reader = Reads()
    monkeypatch.setattr("metrics.text.text_model", lambda *_: reader)

    def fits(wrong: int) -> float:
        prompts = [c.caption for c in clips]
        prompts[:wrong] = [clips[-1 - i].caption for i in range(wrong)]
        metric = OverallConsistency() if name == "consistency" else make(metric_info(name))
        for video, prompt in zip(frames, prompts):
            metric.update(video, prompt=prompt)
        return float(metric.compute())

    assert falls([fits(wrong) for wrong in (0, 2, 4, 6)])


@pytest.mark.parametrize("name", ["fvd.videomae_v2", "kvd.videomae_v2", "jedi.vjepa2"])
def test_sets_of_clips_that_freeze_are_farther_from_true_ones(frames, monkeypatch, name):
    """From files' frames through the published window and crop to the distance."""
    for network in ("videomae_v2", "vjepa2"):
        with_judge = replace(ENCODERS[network], load=lambda networks: MiniatureVideo())
        monkeypatch.setitem(ENCODERS, network, with_judge)

    def distance(last: int) -> float:
        metric = make(metric_info(name))
        for true, made in zip(frames, freeze(frames, last)):
            metric.update(true, real=True)
            metric.update(made, real=False)
        return float(metric.compute())

    values = [distance(last) for last in (0, 4, 6, 8)]
    assert falls(values[::-1])
