"""Variety of pose and expression on landmarks whose pose and shape are known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.dynamics import ExpressionVariety, PoseVariety, expression_variety, pose_variety
from metrics.errors import MetricsError
from metrics.leakage import _FACE
from tests.metrics.test_leakage import rotation

ANGLES = st.floats(-35, 35)


def seen(yaw: float, pitch: float, roll: float, smile: float = 0.0) -> torch.Tensor:
    """The average face turned, its mouth wider by a share, five points in pixels."""
    face = _FACE.clone()
    face[3:, 0] *= 1 + smile
    return 3 * (face @ rotation(yaw, pitch, roll).T)[:, :2] + 100


@settings(max_examples=40, deadline=None)
@given(ANGLES, ANGLES, ANGLES, st.floats(0, 60))
def test_a_head_that_turns_between_two_poses_is_half_the_turn_from_their_mean(y, p, r, turn):
    first = seen(y, p, r)
    tilt = torch.tensor(
        [
            [math.cos(math.radians(turn)), math.sin(math.radians(turn))],
            [-math.sin(math.radians(turn)), math.cos(math.radians(turn))],
        ],
        dtype=torch.float64,
    )
    assert pose_variety(torch.stack([first, first @ tilt])) == pytest.approx(turn / 2, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ANGLES, ANGLES, ANGLES), min_size=2, max_size=6), st.floats(-0.3, 0.5))
def test_turning_the_head_is_no_expression(poses, smile):
    still = torch.stack([seen(*pose, smile) for pose in poses])
    assert expression_variety(still) == pytest.approx(0, abs=1e-9)
    smiles = torch.tensor([0.4 * k / len(poses) for k in range(len(poses))])
    moving = torch.stack([seen(*pose, float(s)) for pose, s in zip(poses, smiles)])
    expected = float((1 + smiles.double()).log().std(correction=0))
    assert expression_variety(moving) == pytest.approx(expected, abs=1e-6)


def test_means_over_videos_and_bad_input():
    for kind, one in ((PoseVariety, pose_variety), (ExpressionVariety, expression_variety)):
        videos = [
            torch.stack([seen(a, 0, 0, a / 90) for a in angles])
            for angles in ([0, 30], [0, 10, 20])
        ]
        metric = kind()
        for video in videos:
            metric.update(video)
        assert float(metric.compute()) == pytest.approx(sum(map(one, videos)) / 2)
        with pytest.raises(MetricsError, match="no variety"):
            one(videos[0][:1])
        with pytest.raises(MetricsError, match="finite"):
            one(videos[0][:, :4])
    with pytest.raises(MetricsError, match="one point"):
        expression_variety(torch.zeros(2, 5, 2))
