"""Copy-paste, crops, pose and background, against what each should say of made-up faces."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image import StructuralSimilarityIndexMeasure

from metrics.copying import CopyPaste, angular_distance, copy_paste
from metrics.errors import MetricsError
from metrics.leakage import (
    _FACE,
    CropSimilarity,
    PoseDifference,
    background_mask,
    background_similarity,
    crop_ssim,
    head_rotation,
    pose_difference,
)

seeds = st.integers(0, 10_000)


def vectors(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def crops(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> torch.Tensor:
    y, p, r = (math.radians(a) for a in (yaw, pitch, roll))
    about_y = [[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]]
    about_x = [[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]]
    about_z = [[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]]
    x, y_, z = (torch.tensor(m, dtype=torch.float64) for m in (about_x, about_y, about_z))
    return z @ x @ y_


def landmarks(turn: torch.Tensor, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return (_FACE @ turn.T)[:, :2] * scale + shift


# --- copy-paste


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 8), st.integers(1, 5))
def test_copy_paste_lies_between_its_ends(seed, d, frames):
    g, t, r = vectors(seed, frames, d), vectors(seed + 1, d), vectors(seed + 2, d)
    value = copy_paste(g, t, r)
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    assert copy_paste(g, r, t) == pytest.approx(-value)
    assert copy_paste(2 * g, 3 * t, 0.5 * r) == pytest.approx(value)
    assert copy_paste(r, t, r) == pytest.approx(1)
    assert copy_paste(t, t, r) == pytest.approx(-1)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(1e-7, math.pi - 1e-7))
def test_angles_are_exact_near_zero_and_pi(seed, angle):
    turn = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    one = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert float(angular_distance(turn, one)) == pytest.approx(angle, rel=1e-8)


def test_copy_paste_without_a_distance_is_refused():
    r = vectors(0, 4)
    with pytest.raises(MetricsError, match="same embedding"):
        copy_paste(vectors(1, 4), 2 * r, r)
    with pytest.raises(MetricsError, match="NaN, infinite or zero"):
        copy_paste(torch.zeros(4), vectors(1, 4), r)


def test_copy_paste_metric_is_the_mean_over_videos_and_merges():
    videos = [(vectors(s, 3, 6), vectors(s + 1, 6), vectors(s + 2, 6)) for s in range(0, 30, 3)]
    parts = [CopyPaste(), CopyPaste()]
    for i, video in enumerate(videos):
        parts[i % 2].update(*video)
    parts[0].merge_state(parts[1])
    assert float(parts[0].compute()) == pytest.approx(np.mean([copy_paste(*v) for v in videos]))


# --- crops


@pytest.mark.parametrize("size", [12, 32, 65])
def test_ssim_equals_torchmetrics(size):
    generated, reference = crops(0, 4, size, size), crops(1, size, size)
    theirs = StructuralSimilarityIndexMeasure(data_range=1.0)
    planes = [
        torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2) / 255
        for x in (generated, np.broadcast_to(reference, generated.shape))
    ]
    assert crop_ssim(generated, reference) == pytest.approx(float(theirs(*planes)), abs=1e-6)
    mean = np.mean([crop_ssim(one, reference) for one in generated])
    assert crop_ssim(generated, reference) == pytest.approx(mean, abs=1e-6)


def test_a_copy_scores_above_a_brighter_one_above_another():
    reference = crops(0, 32, 32)
    brighter = np.clip(reference.astype(int) + 40, 0, 255).astype(np.uint8)
    assert pytest.approx(crop_ssim(reference, reference)) == 1
    assert 0.99 > crop_ssim(brighter, reference) > crop_ssim(crops(1, 32, 32), reference) + 0.3


@pytest.mark.parametrize(
    ("generated", "reference"),
    [
        (crops(0, 4, 32, 32), crops(0, 16, 16)),
        (crops(0, 4, 32, 32).astype(np.float32), crops(0, 32, 32)),
        (crops(0, 0, 32, 32), crops(0, 32, 32)),
        (crops(0, 8, 8), crops(0, 8, 8)),
    ],
)
def test_bad_crops_are_named(generated, reference):
    with pytest.raises(MetricsError, match="crops"):
        CropSimilarity().update(generated, reference)


# --- pose


angles = st.floats(-60, 60)


@settings(max_examples=60, deadline=None)
@given(angles, angles, angles, st.floats(0.1, 20), st.floats(-1000, 1000))
def test_the_rotation_of_the_average_face_is_recovered(yaw, pitch, roll, scale, shift):
    turn = rotation(yaw, pitch, roll)
    found = head_rotation(landmarks(turn, scale, shift))
    torch.testing.assert_close(found, turn, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(angles, angles, angles, angles)
def test_pose_difference_is_the_angle_between(yaw, pitch, other_yaw, other_pitch):
    a, b = rotation(yaw, pitch), rotation(other_yaw, other_pitch)
    cosine = ((a.T @ b).trace() - 1) / 2
    truth = math.degrees(math.acos(float(cosine.clamp(-1, 1))))
    value = pose_difference(landmarks(a, 3, 40), landmarks(b))
    assert value == pytest.approx(truth, abs=2e-3)
    assert value == pytest.approx(pose_difference(landmarks(b), landmarks(a)), abs=1e-6)


def test_a_noisy_yaw_is_told_within_degrees():
    noise = vectors(0, 20, 5, 2) * 1.0  # a pixel on a face 63 pixels between the eyes
    turned = landmarks(rotation(25)) + noise
    assert pose_difference(turned, landmarks(rotation(0))) == pytest.approx(25, abs=3)


def test_landmarks_on_a_line_are_refused():
    line = torch.arange(10.0).reshape(5, 2)
    with pytest.raises(MetricsError, match="one line"):
        head_rotation(line)
    with pytest.raises(MetricsError, match="finite"):
        PoseDifference().update(torch.zeros(4, 2), landmarks(rotation(0)))
    with pytest.raises(MetricsError, match="finite"):
        head_rotation(torch.full((5, 2), torch.nan))


# --- background


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 8), st.integers(1, 8))
def test_background_similarity_is_symmetric_and_forgets_places(seed, height, width):
    a, b = crops(seed, height, width), crops(seed + 1, height, width)
    value = background_similarity(a, b)
    assert 0 <= value <= 1
    assert background_similarity(b, a) == pytest.approx(value)
    shuffled = np.random.default_rng(seed).permutation(a.reshape(-1, 3)).reshape(a.shape)
    assert background_similarity(shuffled, a) == pytest.approx(1)


def test_the_face_is_left_out_and_sizes_may_differ():
    reference = np.zeros((40, 40, 3), dtype=np.uint8)
    frame = np.zeros((80, 60, 3), dtype=np.uint8)
    frame[30:50, 20:40] = 255
    box = np.array([[20.0, 30.0, 40.0, 50.0]])
    mask = background_mask(80, 60, box, grow=1.0)
    assert background_similarity(frame, reference, mask) == 1.0
    assert background_similarity(frame, reference) == pytest.approx(1 - 400 / 4800)
    assert not background_mask(80, 60, box, grow=2.0)[20:60, 10:50].any()
    with pytest.raises(MetricsError, match="no background"):
        background_similarity(frame, reference, background_mask(80, 60, box, grow=99.0))
    with pytest.raises(MetricsError, match="mask of the frame"):
        background_similarity(frame, reference, mask[:5])


def test_a_box_outside_the_image_leaves_it_whole():
    assert background_mask(10, 10, np.array([[-30.0, -30.0, -20.0, -20.0]])).all()
    assert background_mask(10, 10, np.zeros((0, 4))).all()
