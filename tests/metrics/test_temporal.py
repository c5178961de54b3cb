"""Metrics over time against plain, frame-by-frame restatements, and in chunks."""

import itertools
import tracemalloc
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.errors import MetricsError
from metrics.features.networks.flow import DISFlow
from metrics.motion import (
    DynamicDegree,
    FarnebackMotion,
    FlowBackend,
    MotionMagnitude,
    WarpingError,
    dynamic_degree,
    farneback_motion,
    motion_magnitudes,
    unoccluded,
    warp,
    warping_error,
)
from metrics.smoothness import MotionSmoothness
from metrics.temporal import (
    FeatureConsistency,
    IdentityConsistency,
    TemporalFlicker,
    feature_consistency,
    neighbour_consistency,
    temporal_flicker,
)


def noise(seed: int, frames: int, height: int = 6, width: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def texture(height: int = 96, width: int = 96) -> np.ndarray:
    image = noise(0, 1, height, width)[0]
    smooth = cv2.GaussianBlur(image, (0, 0), 3).astype(float)
    return np.clip((smooth - 128) * 4 + 128, 0, 255).astype(np.uint8)


def panning(frames: int, step: int) -> np.ndarray:
    wide = texture(96, 96 + frames * abs(step))
    return np.stack([wide[:, i * step : i * step + 96] for i in range(frames)])


class KnownFlow:
    """The flow of a scene that moves as one, given beforehand."""

    name, version = "known", "1"

    def __init__(self, dx: float, dy: float = 0.0) -> None:
        self.dx, self.dy = dx, dy
        self.forward = True

    def flow(self, first, second):
        flow = torch.zeros(len(first), 2, *first.shape[1:3])
        flow[:, 0], flow[:, 1] = self.dx, self.dy
        if not self.forward:
            flow = -flow
        return flow


class ThereAndBack(KnownFlow):
    """:class:`KnownFlow`, called forward and backward in turn as the warping error does."""

    def flow(self, first, second):
        flow = super().flow(first, second)
        self.forward = not self.forward
        return flow


# --- flicker


def vbench_flicker(frames: np.ndarray) -> float:
    errors = [
        np.abs(frames[i].astype(np.float32) - frames[i + 1].astype(np.float32)).mean()
        for i in range(len(frames) - 1)
    ]
    return (255.0 - float(np.mean(errors))) / 255.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 9), st.integers(1, 9))
def test_flicker_is_vbenchs(seed, frames, height, width):
    clip = noise(seed, frames, height, width)
    assert temporal_flicker(clip) == pytest.approx(vbench_flicker(clip), rel=1e-6)
    assert temporal_flicker(torch.from_numpy(clip)) == temporal_flicker(clip)


def test_flicker_at_its_ends():
    still = noise(0, 1).repeat(4, axis=0)
    blinking = np.zeros((4, 3, 3, 3), dtype=np.uint8)
    blinking[1::2] = 255
    assert temporal_flicker(still) == 1.0
    assert temporal_flicker(blinking) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 4), min_size=2, max_size=5))
def test_chunks_do_not_matter(seed, sizes):
    clip = noise(seed, sum(sizes))
    features = torch.from_numpy(noise(seed + 1, sum(sizes), 1, 2)).flatten(1).double() - 128
    present = torch.rand(len(clip), generator=torch.Generator().manual_seed(seed)) > 0.3
    metric, consistency, identity = TemporalFlicker(), FeatureConsistency(), IdentityConsistency()
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        metric.update(clip[rows], start=start == 0)
        consistency.update(features[rows], start=start == 0)
        identity.update(features[rows], present[rows], start=start == 0)
        start += size
    assert float(metric.compute()) == pytest.approx(temporal_flicker(clip))
    assert float(consistency.compute()) == pytest.approx(feature_consistency(features))
    whole = neighbour_consistency(features, present)
    assert float(identity.compute()) == pytest.approx(whole.value, abs=1e-7)
    assert float(identity.share) == pytest.approx(whole.share)


def test_a_metric_is_the_mean_over_videos_and_merges():
    clips = [noise(seed, 3 + seed) for seed in range(4)]
    parts = [TemporalFlicker(), TemporalFlicker()]
    for i, clip in enumerate(clips):
        parts[i % 2].update(clip[:2])
        parts[i % 2].update(clip[2:], start=False)
    parts[0].merge_state(parts[1])
    assert float(parts[0].compute()) == pytest.approx(np.mean([temporal_flicker(c) for c in clips]))


def test_streaming_does_not_keep_the_video():
    chunk = noise(0, 8, 128, 128)
    metric = TemporalFlicker()
    metric.update(chunk)
    tracemalloc.start()
    for _ in range(20):
        metric.update(chunk.copy(), start=False)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < chunk.nbytes


# --- consistency of features


def vbench_consistency(features: torch.Tensor) -> float:
    total = 0.0
    for i in range(1, len(features)):
        f = [F.normalize(features[j : j + 1], dim=-1, p=2) for j in (0, i - 1, i)]
        previous = max(0.0, F.cosine_similarity(f[1], f[2]).item())
        first = max(0.0, F.cosine_similarity(f[0], f[2]).item())
        total += (previous + first) / 2
    return total / (len(features) - 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 8))
def test_feature_consistency_is_vbenchs(seed, frames, d):
    features = torch.randn(frames, d, generator=torch.Generator().manual_seed(seed))
    value = feature_consistency(features)
    assert value == pytest.approx(vbench_consistency(features), abs=1e-6)
    assert feature_consistency(3 * features) == pytest.approx(value, abs=1e-6)


def test_a_frame_without_a_face_counts_zero_and_may_be_nan():
    e = torch.eye(2)[[0, 0, 0, 0]].clone()
    e[2] = torch.nan
    result = neighbour_consistency(e, torch.tensor([True, True, False, True]))
    assert result.value == pytest.approx(1 / 3)
    assert result.where_present == pytest.approx(1.0)
    assert result.share == pytest.approx(1 / 3)
    alone = neighbour_consistency(e, torch.tensor([True, False, False, True]))
    assert alone == (0.0, None, 0.0)


# --- flow


def test_warp_by_whole_pixels_is_a_shift():
    image = torch.from_numpy(noise(0, 1, 7, 9)).permute(0, 3, 1, 2).float()
    pulled, inside = warp(image, torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 7, 9))
    torch.testing.assert_close(pulled[..., :6, :7], image[..., 1:, 2:], rtol=1e-5, atol=1e-3)
    assert inside[0, 0].sum() == 6 * 7


def test_a_flow_that_does_not_return_is_occluded():
    forward = torch.zeros(1, 2, 8, 8)
    backward = torch.zeros(1, 2, 8, 8)
    backward[:, 0, :, 4:] = 3.0
    mask = unoccluded(forward, backward)[0, 0]
    assert mask[:, :4].all()
    assert not mask[:, 4:].any()


def test_warping_error_of_an_explained_motion_is_zero_and_of_a_flash_is_its_size():
    clip = panning(4, 2)
    assert warping_error(clip, ThereAndBack(-2.0), short_side=None) < 1e-8
    dark = np.full((2, 8, 8, 3), 100, dtype=np.uint8)
    dark[1] = 151
    assert warping_error(dark, KnownFlow(0.0)) == pytest.approx(0.04, rel=1e-6)


def test_a_cut_counts_with_all_its_pixels():
    clip = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    clip[1] = 255
    assert warping_error(clip, KnownFlow(100.0)) == pytest.approx(1.0)


def test_dis_follows_a_pan_and_finds_flicker():
    flow = DISFlow()
    assert isinstance(flow, FlowBackend)
    assert flow.name == "dis"
    clip = panning(5, 3)
    moved = flow.flow(clip[:1], clip[1:2])
    assert float(moved[0, 0, 30:60, 30:60].mean()) == pytest.approx(-3, abs=0.2)
    steady = warping_error(clip, flow)
    flickering = clip.copy()
    flickering[1::2] = np.clip(flickering[1::2].astype(int) + 40, 0, 255).astype(np.uint8)
    unwarped = np.mean((clip[1:] / 255.0 - clip[:-1] / 255.0) ** 2)
    assert steady < 0.2 * unwarped
    assert warping_error(flickering, flow) > 5 * steady


def test_a_metric_with_a_flow_can_be_copied():
    clip = panning(4, 2)
    metric = WarpingError(DISFlow(preset="fast"))
    metric.update(clip)
    copy = metric.clone()
    assert copy.flow.version == metric.flow.version
    copy.update(clip)
    assert float(copy.compute()) == pytest.approx(float(metric.compute()))


def test_dis_takes_the_smallest_frames():
    assert DISFlow().flow(noise(0, 1, 5, 3), noise(1, 1, 5, 3)).shape == (1, 2, 5, 3)


def vbench_moves(lengths: list[np.ndarray], fps: float, short: int) -> float:
    frames = len(lengths) + 1
    threshold = max(1.0, 8.0 / fps) * 6.0 * (short / 256.0)
    count_num = round(4 * (frames / 16.0))
    count = 0
    for length in lengths:
        flat = length.flatten()
        top = np.mean(np.abs(np.sort(-flat))[: int(len(flat) * 0.05)])
        count += top > threshold
        if count >= count_num:
            return 1.0
    return 0.0


class RandomFlow:
    """A flow that is a function of the two frames, and of no size in particular."""

    name, version = "random", "1"

    def flow(self, first, second):
        seeds = [int(a.sum()) * 7919 + int(b.sum()) for a, b in zip(first, second, strict=True)]
        return torch.stack(
            [
                torch.randn(2, *first.shape[1:3], generator=torch.Generator().manual_seed(s))
                * (s % 5)
                / 4
                for s in seeds
            ]
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.sampled_from([6.0, 8.0, 24.0, 25.0, 30.0]))
def test_dynamic_degree_is_vbenchs(seed, frames, fps):
    clip = noise(seed, frames, 24, 20)
    taken = clip[:: max(1, round(fps / 8))]
    if len(taken) < 2:
        with pytest.raises(MetricsError, match="eighth of a second"):
            dynamic_degree(clip, fps, RandomFlow())
        return
    lengths = [
        RandomFlow().flow(taken[i : i + 1], taken[i + 1 : i + 2])[0].norm(dim=0).numpy()
        for i in range(len(taken) - 1)
    ]
    assert dynamic_degree(clip, fps, RandomFlow()) == vbench_moves(lengths, fps, 20)


class Jumps:
    """All pixels move by ten where two frames differ; keeps what it was shown."""

    name, version = "jumps", "1"

    def __init__(self):
        self.shown = []

    def flow(self, first, second):
        a, b = (np.asarray(frames)[:, 0, 0, 0].astype(int) for frames in (first, second))
        self.shown += zip(a.tolist(), b.tolist(), strict=True)
        moved = torch.from_numpy(10.0 * (a != b)).float()
        return moved[:, None, None, None].expand(-1, 2, *first.shape[1:3])


@pytest.mark.parametrize(
    ("frames", "needed"),
    [(2, 0), (3, 1), (5, 1), (6, 2), (7, 2), (9, 2), (10, 2), (11, 3), (14, 4), (18, 4), (30, 8)],
)
def test_a_quarter_of_the_frames_has_to_move_rounded_as_vbench_does(frames, needed):
    for moving in range(max(0, needed - 1), needed + 1):
        clip = np.zeros((frames, 24, 20, 3), np.uint8)
        clip += np.minimum(np.arange(frames), moving)[:, None, None, None].astype(np.uint8)
        assert dynamic_degree(clip, 8.0, Jumps()) == float(moving >= needed)


@pytest.mark.parametrize(
    ("fps", "step"),
    [(3, 1), (8, 1), (11, 1), (12, 2), (20, 2), (21, 3), (25, 3), (28, 4), (30, 4), (60, 8)],
)
def test_frames_an_eighth_of_a_second_apart_are_compared(fps, step):
    clip = np.zeros((19, 24, 20, 3), np.uint8) + np.arange(19, dtype=np.uint8)[:, None, None, None]
    flow = Jumps()
    dynamic_degree(clip, float(fps), flow)
    taken = list(range(0, 19, step))
    assert flow.shown == list(itertools.pairwise(taken))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
    st.sampled_from([8.0, 25.0]),
)
def test_flow_metrics_do_not_depend_on_chunks(seed, sizes, fps):
    clip = noise(seed, sum(sizes), 12, 10)
    moving, warping = DynamicDegree(RandomFlow(), batch=3), WarpingError(RandomFlow(), batch=2)
    long = MotionMagnitude(RandomFlow(), batch=3)
    start = 0
    for size in sizes:
        moving.update(clip[start : start + size], fps, start=start == 0)
        long.update(clip[start : start + size], fps, start=start == 0)
        warping.update(clip[start : start + size], start=start == 0)
        start += size
    assert float(warping.compute()) == pytest.approx(warping_error(clip, RandomFlow()), rel=1e-6)
    if len(clip[:: max(1, round(fps / 8))]) > 1:
        assert float(moving.compute()) == dynamic_degree(clip, fps, RandomFlow())
        lengths = motion_magnitudes(clip, fps, RandomFlow())
        assert float(long.compute()) == pytest.approx(float(lengths.mean()), rel=1e-9)


@pytest.mark.parametrize(("frames", "needed"), [(6, 2), (10, 2), (14, 4), (18, 4), (22, 6)])
def test_a_quarter_of_the_frames_is_rounded_halves_to_even(frames, needed):
    """A quarter of 10 frames is 2.5, which Python and VBench round to 2; of 14, 3.5, to 4."""

    class Jumps(KnownFlow):
        """Motion between the first pairs only."""

        def __init__(self, moving):
            super().__init__(50.0)
            self.left = moving

        def flow(self, first, second):
            lengths = super().flow(first, second)
            for row in lengths:
                row *= self.left > 0
                self.left -= 1
            return lengths

    clip = noise(0, frames, 24, 20)
    for moving, expected in ((needed, 1.0), (needed - 1, 0.0)):
        assert dynamic_degree(clip, 8.0, Jumps(moving)) == expected
        metric = DynamicDegree(Jumps(moving))
        metric.update(clip, 8.0)
        assert float(metric.compute()) == expected


def test_magnitudes_are_in_thresholds_whatever_the_resolution():
    for short in (32, 64):
        clip = noise(0, 3, short, short)
        at_threshold = KnownFlow(6.0 * short / 256)
        values = motion_magnitudes(clip, 8.0, at_threshold, short_side=None)
        assert values.tolist() == pytest.approx([1.0, 1.0])
    assert motion_magnitudes(noise(0, 3, 64, 64), 4.0, KnownFlow(3.0))[0] == pytest.approx(1.0)


def test_a_pan_moves_and_a_still_does_not():
    clip = panning(9, 4)
    assert dynamic_degree(clip, 8.0, DISFlow()) == 1.0
    assert dynamic_degree(clip[:1].repeat(9, axis=0), 8.0, DISFlow()) == 0.0


def opens2v_motion(frames: np.ndarray) -> float:
    """OpenS2V-Eval's motion_fb, map by map as its script goes about it."""
    grey = [cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in frames]
    maps = []
    for first, second in pairwise(grey):
        flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        size = (16, int(flow.shape[0] * (16 / flow.shape[1])))
        maps.append(cv2.resize(flow, size, interpolation=cv2.INTER_AREA))
    return abs(float(np.mean(np.mean(np.array(maps), axis=0))))


@pytest.mark.parametrize("clip", [panning(5, 3), panning(4, 2)[::-1, :70], noise(1, 4, 40, 90)])
def test_farneback_is_opens2vs(clip):
    expected = opens2v_motion(clip)
    assert farneback_motion(clip) == pytest.approx(expected, abs=1e-6)
    whole, cut = FarnebackMotion(), FarnebackMotion(most=0.5)
    for metric in (whole, cut):
        metric.update(clip[:2])
        metric.update(clip[2:], start=False)
    assert float(whole.compute()) == pytest.approx(expected, abs=1e-6)
    assert float(cut.compute()) == pytest.approx(min(expected, 0.5), abs=1e-6)


def test_farneback_grows_with_the_pan_and_forgets_motion_to_and_fro():
    values = [farneback_motion(panning(5, step)) for step in range(4)]
    assert values == sorted(values)
    assert values[0] < 1e-3
    there = panning(5, 3)
    back = np.concatenate([there, there[-2::-1]])
    assert farneback_motion(back) < 0.05 * values[3]
    with pytest.raises(MetricsError, match="too wide"):
        farneback_motion(noise(0, 2, 4, 80))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: temporal_flicker(noise(0, 1)), "one frame"),
        (lambda: farneback_motion(noise(0, 1)), "one frame"),
        (lambda: temporal_flicker(noise(0, 2).astype(float)), "must be uint8"),
        (lambda: temporal_flicker(noise(0, 2)[0]), "must be uint8"),
        (lambda: feature_consistency(torch.zeros(1, 3)), "one frame"),
        (lambda: feature_consistency(torch.full((2, 3), torch.nan)), "NaN"),
        (lambda: neighbour_consistency(torch.zeros(2, 3), torch.tensor([True])), "one bool"),
        (lambda: warping_error(noise(0, 1), KnownFlow(0)), "one frame"),
        (lambda: dynamic_degree(noise(0, 3), 0.0, KnownFlow(0)), "fps is 0"),
        (lambda: TemporalFlicker().update(noise(0, 2), start=False), "no open video"),
        (lambda: TemporalFlicker().compute(), "no video"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(MetricsError, match=words):
        call()


def test_a_chunk_of_another_size_is_refused():
    metric = TemporalFlicker()
    metric.update(noise(0, 2))
    with pytest.raises(MetricsError, match="start=True"):
        metric.update(noise(0, 2, 9, 9), start=False)


def test_two_frames_have_none_between_them_and_no_face_is_said():
    class Mean:
        version = "1"

        def between(self, first, second):
            return first

    metric = MotionSmoothness(Mean())
    metric.update(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(MetricsError, match="2 frames, and no frame between two others"):
        metric.result(2)
    metric = IdentityConsistency()
    (video,) = metric.videos_of([torch.zeros(0, 2)] * 3)
    assert metric.measure(video).reason == "no sampled frame has a face"
