"""Kernel distances, streaming moments, and the metrics over sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.kid import poly_mmd

from metrics.distribution import FrechetDistance, KernelDistance, StreamingFrechetDistance
from metrics.errors import MetricsError
from metrics.frechet import (
    frechet_distance,
    frechet_distance_from_moments,
    frechet_interval,
)
from metrics.kernel import jedi_distance, kernel_distance, kernel_distance_interval
from metrics.moments import merge_moments, moments


def draw(seed: int, samples: int, dimensions: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, dimensions, generator=generator, dtype=torch.float64)


def test_kernel_distance_equals_torchmetrics():
    x, y = draw(0, 40, 12), draw(1, 40, 12) + 0.3
    assert kernel_distance(x, y) == pytest.approx(float(poly_mmd(x, y)), rel=1e-10)


def test_kernel_distance_equals_the_plain_sums():
    x, y = draw(2, 5, 3), draw(3, 7, 3)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    xx = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(7) for j in range(7) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 12), st.integers(2, 12), st.integers(1, 8))
def test_kernel_distance_is_symmetric_and_unmoved_by_rotation(seed, n, m, d):
    x, y = draw(seed, n, d), draw(seed + 1, m, d)
    q, _ = torch.linalg.qr(draw(seed + 2, d, d))
    value = kernel_distance(x, y)
    assert kernel_distance(y, x) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert kernel_distance(x @ q, y @ q) == pytest.approx(value, rel=1e-7, abs=1e-7)


def test_kernel_distance_is_unbiased_where_the_frechet_distance_is_not():
    pairs = [(draw(2 * s, 8, 4), draw(2 * s + 1, 8, 4)) for s in range(200)]
    kernel = np.array([kernel_distance(x, y) for x, y in pairs])
    assert abs(kernel.mean()) < 3 * kernel.std() / len(kernel) ** 0.5
    assert np.mean([frechet_distance(x, y) for x, y in pairs]) > 0.5


def test_the_interval_covers_as_often_as_it_says():
    # The truth: k's mean over two independent draws of N(0, I) against N(1, I), from many samples.
    truth = kernel_distance(draw(900, 4000, 2), draw(901, 4000, 2) + 1)
    inside = 0
    for seed in range(100):
        x, y = draw(2 * seed, 60, 2), draw(2 * seed + 1, 60, 2) + 1
        _, low, high, _ = kernel_distance_interval(x, y, resamples=200, seed=seed)
        inside += low <= truth <= high
    assert 85 <= inside <= 100


def test_the_interval_narrows_with_samples_and_is_repeatable():
    def width(n):
        _, low, high, _ = kernel_distance_interval(draw(4, n, 3), draw(5, n, 3) + 1)
        return high - low

    assert width(400) < 0.6 * width(50)
    assert width(50) == width(50)


def test_the_interval_is_around_the_value_of_the_whole_sets():
    x, y = draw(6, 30, 3), draw(7, 20, 3) + 2
    value, low, high, _ = kernel_distance_interval(x, y)
    assert value == pytest.approx(kernel_distance(x, y), rel=1e-12)
    assert low < value < high


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(1, 5),
    st.floats(-1e4, 1e4),
)
def test_moments_merge_to_those_of_the_whole(seed, parts, d, offset):
    x = draw(seed, sum(parts), d) + offset
    merged = None
    for piece in x.split(parts):
        merged = moments(piece) if merged is None else merge_moments(merged, moments(piece))
    whole = moments(x)
    assert merged.count == whole.count
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-7, atol=1e-6)
    if len(x) > 1:
        torch.testing.assert_close(
            whole.covariance(), torch.cov(x.T).reshape(d, d), rtol=1e-7, atol=1e-7
        )


def test_streaming_equals_keeping():
    x, y = draw(8, 50, 6) + 100, draw(9, 40, 6) + 101
    kept = FrechetDistance("test", ddof=0)
    stream = StreamingFrechetDistance("test", dimensions=6, ddof=0)
    for metric in (kept, stream):
        for batch in x.split(7):
            metric.update(batch, real=False)
        for batch in y.split(9):
            metric.update(batch, real=True)
    assert float(kept.compute()) == frechet_distance(x, y, ddof=0)
    assert float(stream.compute()) == pytest.approx(float(kept.compute()), rel=1e-8)
    assert (stream.result().n, stream.result().n_reference) == (50, 40)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FrechetDistance("test"),
        lambda: KernelDistance("test"),
        lambda: StreamingFrechetDistance("test", dimensions=4),
    ],
)
def test_two_processes_merge_to_one(make):
    x, y = draw(10, 24, 4), draw(11, 30, 4) + 1
    whole, first, second = make(), make(), make()
    whole.update(x, real=False)
    whole.update(y, real=True)
    first.update(x[:5], real=False)
    first.update(y[:29], real=True)
    second.update(x[5:], real=False)
    second.update(y[29:], real=True)

    # What torchmetrics does at compute under torch.distributed, with the gathering put in.
    gathered = {
        name: [first.metric_state[name], second.metric_state[name]] for name in first.metric_state
    }
    for name, values in gathered.items():
        if isinstance(values[0], list):
            setattr(first, name, [torch.cat(v) for v in values])
        else:
            setattr(first, name, first._reductions[name](torch.stack(values)))
    first._computed = None
    assert float(first.compute()) == pytest.approx(float(whole.compute()), rel=1e-9)


def _rank(rank: int, meeting: str, out: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2
    )
    kept = FrechetDistance("test")
    stream = StreamingFrechetDistance("test", dimensions=4)
    x, y = draw(14, 25, 4), draw(15, 31, 4) + 1
    for metric in (kept, stream):
        metric.update(x[rank::2], real=False)
        metric.update(y[rank::2], real=True)
    torch.save(torch.stack([kept.compute(), stream.compute()]), f"{out}{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_real_processes_compute_the_same(tmp_path):
    torch.multiprocessing.spawn(
        _rank, (str(tmp_path / "meeting"), str(tmp_path / "rank")), nprocs=2
    )
    whole = frechet_distance(draw(14, 25, 4), draw(15, 31, 4) + 1)
    for rank in range(2):
        values = torch.load(tmp_path / f"rank{rank}", weights_only=True)
        assert values.tolist() == pytest.approx([whole, whole], rel=1e-9)


def test_merge_state_of_torchmetrics_merges_streams():
    x, y = draw(12, 20, 3), draw(13, 20, 3)
    parts = [StreamingFrechetDistance("test", dimensions=3) for _ in range(2)]
    for part, rows in zip(parts, (slice(0, 6), slice(6, 20)), strict=True):
        part.update(x[rows], real=False)
        part.update(y[rows], real=True)
    parts[0].merge_state(parts[1])
    assert float(parts[0].compute()) == pytest.approx(frechet_distance(x, y), rel=1e-9)


class MeanColour:
    name, version = "mean_colour", "7"

    def encode(self, batch):
        return torch.from_numpy(batch).double().mean(dim=tuple(range(1, batch.ndim - 1)))


def test_an_extractor_is_applied_and_reported():
    videos = np.random.default_rng(0).integers(0, 256, (6, 2, 4, 4, 3), dtype=np.uint8)
    metric = KernelDistance(MeanColour(), resamples=50)
    metric.update(videos[:3], real=True)
    metric.update(videos[3:], real=False)
    result = metric.result()
    assert (result.extractor, result.version) == ("mean_colour", "7")
    assert (result.n, result.n_reference) == (3, 3)
    features = MeanColour().encode(videos)
    assert result.value == pytest.approx(kernel_distance(features[3:], features[:3]))
    metric.reset()
    with pytest.raises(MetricsError, match="generated set is empty"):
        metric.compute()


def test_bad_input_is_named():
    metric = FrechetDistance("test")
    with pytest.raises(MetricsError, match="features of test has NaN"):
        metric.update(torch.full((1, 3), torch.nan), real=True)
    with pytest.raises(MetricsError, match="same extractor"):
        kernel_distance(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(MetricsError, match="confidence"):
        kernel_distance_interval(torch.zeros(3, 2), torch.zeros(3, 2), confidence=1.0)
    with pytest.raises(MetricsError, match="at least 2"):
        kernel_distance(torch.zeros(1, 2), torch.zeros(3, 2))
    stream = StreamingFrechetDistance("test", dimensions=3)
    stream.update(torch.zeros(1, 3), real=True)
    stream.update(torch.zeros(1, 3), real=False)
    with pytest.raises(MetricsError, match="1 sample"):
        stream.compute()
    with pytest.raises(MetricsError, match="dimensions"):
        stream.update(torch.zeros(1, 4), real=True)


# --- what a sample is ----------------------------------------------------------------------------


def videos_of(seed, videos=24, frames=16, dimensions=8, shift=0.0):
    """Features of correlated frames, and which video each is of."""
    scenes = draw(seed, videos, dimensions) + shift
    noise = 0.3 * draw(seed + 5000, videos * frames, dimensions)
    return scenes.repeat_interleave(frames, dim=0) + noise, torch.arange(videos).repeat_interleave(
        frames
    )


def test_frames_of_a_video_are_no_independent_samples(record_property):
    # Sixty pairs of sets from one distribution, 24 videos of 16 correlated frames each.
    values, inside, naive = [], 0, []
    for seed in range(60):
        (x, of_x), (y, of_y) = videos_of(2 * seed), videos_of(2 * seed + 1)
        value, low, high, _ = kernel_distance_interval(
            x, y, x_videos=of_x, y_videos=of_y, resamples=300, seed=seed
        )
        assert value == pytest.approx(kernel_distance(x, y, x_videos=of_x, y_videos=of_y))
        values.append(value)
        inside += low <= 0 <= high
        naive.append(kernel_distance(x, y))
    record_property(
        "seen",
        f"0 in {inside} of 60; {np.mean(values):.3f} on average ({np.mean(naive):.3f} naively)",
    )
    assert inside >= 55
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values)) < 3 * error
    assert np.mean(naive) > 10 * error  # what counting frames as samples makes of equal sets


def test_videos_made_after_one_target_are_no_independent_samples(record_property):
    # Sixty pairs of sets from one distribution; each of 8 targets has two videos made after it.
    values, naive = [], []
    for seed in range(60):
        scenes = 2 * draw(seed, 8, 3)
        x = scenes.repeat(2, 1) + 0.5 * draw(seed + 1000, 16, 3)
        y = scenes + 0.5 * draw(seed + 2000, 8, 3)
        of = {"x_targets": torch.arange(8).repeat(2), "y_targets": torch.arange(8)}
        values.append(kernel_distance(x, y, **of))
        naive.append(kernel_distance(x, y))
        assert kernel_distance_interval(x, y, resamples=9, **of).value == values[-1]
    error = np.std(values) / len(values) ** 0.5
    record_property(
        "seen", f"{np.mean(values):.2f} on average, {np.mean(naive):.2f} with all pairs"
    )
    assert abs(np.mean(values)) < 3 * error
    assert np.mean(naive) < -10 * error
    none = torch.full((16,), -1)
    assert kernel_distance(x, y, x_targets=none) == kernel_distance(x, y)
    with pytest.raises(MetricsError, match="2 samples of x are of one video or target"):
        kernel_distance(x[:2], y[:2], x_targets=torch.zeros(2), y_targets=torch.zeros(2))


def test_a_metric_leaves_out_pairs_of_one_target():
    x, y = draw(5, 4, 3), draw(6, 4, 3)
    metric = KernelDistance("f")
    for i in range(4):
        metric.update(x[i : i + 1], real=False, target=f"true {i}")
        metric.update(y[i : i + 1], real=True, target=f"true {i}")
    of = {"x_targets": torch.arange(4), "y_targets": torch.arange(4)}
    assert float(metric.compute()) == pytest.approx(kernel_distance(x, y, **of))
    assert metric.result().value == pytest.approx(kernel_distance(x, y, **of))
    assert float(metric.compute()) != pytest.approx(kernel_distance(x, y))


def test_pairs_within_a_video_are_left_out_of_the_plain_sums():
    x, y = draw(2, 6, 3), draw(3, 5, 3)
    of_x, of_y = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([7, 7, 8, 9, 9])

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    def within(z, of):
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if of[i] != of[j]]
        return np.mean([k(z[i], z[j]) for i, j in pairs])

    expected = within(x, of_x) + within(y, of_y) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y, x_videos=of_x, y_videos=of_y) == pytest.approx(expected)
    with pytest.raises(MetricsError, match="of one video"):
        kernel_distance(x, y, x_videos=torch.zeros(6), y_videos=of_y)


@pytest.mark.parametrize("interval", [kernel_distance_interval, frechet_interval])
def test_intervals_resample_people_and_need_three(interval):
    x, y = draw(20, 24, 3), draw(21, 24, 3) + 1
    people = torch.arange(24) // 4  # six people with four videos each
    scenes = 3 * draw(22, 6, 3).repeat_interleave(4, dim=0)
    of_videos = interval(x + scenes, y + scenes)
    of_people = interval(x + scenes, y + scenes, x_people=people, y_people=people + 10)
    assert of_people.value == of_videos.value
    assert of_people.high - of_people.low > 1.2 * (of_videos.high - of_videos.low)
    paired = interval(x + scenes, y + scenes, x_people=people, y_people=people)
    assert paired.high - paired.low < of_people.high - of_people.low
    assert interval(x[:2], y)[1:3] == (None, None)
    assert interval(x, y, x_people=people % 2, y_people=people)[1:3] == (None, None)
    assert interval(x[:3], y[:3]).low is not None
    two = torch.arange(24) // 12
    assert interval(x, y, x_videos=two, y_videos=torch.arange(24))[1:3] == (None, None)


@pytest.mark.parametrize("interval", [kernel_distance_interval, frechet_interval])
@pytest.mark.parametrize("people", [12, 50])  # each a group of its own, and 20 groups of several
def test_resampling_influences_gives_the_interval(interval, people):
    who = torch.arange(4 * people) // 4
    scenes = draw(23, people, 6).repeat_interleave(4, dim=0)
    x, y = draw(24, 4 * people, 6) + scenes, draw(25, 4 * people, 6) + scenes + 1
    found = interval(x, y, x_people=who, y_people=who)
    assert sorted(p for group, _ in found.influences for p in group) == list(range(people))
    times = np.random.default_rng(0).multinomial(people, np.full(people, 1 / people), size=4000)
    moved = sum(
        effect * (times[:, group] - 1).sum(axis=1) / len(group) ** 0.5
        for group, effect in found.influences
    )
    low, high = found.value + np.quantile(moved, [0.025, 0.975])
    assert high - low == pytest.approx(found.high - found.low, rel=0.2)
    apart = np.abs([low - found.low, high - found.high])
    assert apart.max() < 0.2 * (found.high - found.low)


def test_whoever_makes_the_sets_differ_is_who_moves_the_distance():
    people = torch.arange(12)
    x = draw(26, 12, 3)
    y = x + 0.01 * draw(27, 12, 3)
    y[4] += 8  # one true clip has nothing to do with the one made for it
    effects = dict(frechet_interval(x, y, x_people=people, y_people=people).influences)
    assert max(effects, key=effects.get) == (4,)
    assert all(effect < 0 for who, effect in effects.items() if who != (4,))


def test_the_frechet_interval_is_for_this_number_of_samples():
    # The truth for 20 samples a set, whose distance is larger than that of many samples.
    pairs = [(draw(2 * s, 20, 4), draw(2 * s + 1, 20, 4) + 1) for s in range(150)]
    intervals = [frechet_interval(x, y) for x, y in pairs]
    truth = np.mean([i.value for i in intervals])
    inside = sum(i.low <= truth <= i.high for i in intervals)
    assert inside >= 0.9 * len(pairs)
    assert all(i.low >= 0 for i in intervals)
    assert intervals[0] == frechet_interval(*pairs[0])


def test_a_metric_takes_names_of_videos_and_people():
    x, of_x = videos_of(0, videos=5, frames=4)
    y, of_y = videos_of(1, videos=6, frames=4, shift=1.0)
    metric = KernelDistance("f", num_frames=4)
    for v in range(5):
        metric.update(x[of_x == v], real=False, videos=f"made {v}", people=f"p{v}")
    for v in range(6):
        metric.update(y[of_y == v], real=True, videos=f"true {v}", people=f"p{v}")
    assert float(metric.compute()) == pytest.approx(
        kernel_distance(x, y, x_videos=of_x, y_videos=of_y)
    )
    found = metric.result()
    assert (found.n, found.n_reference) == (20, 24)
    assert found.low < found.value < found.high
    assert len(found.influences) == 5
    assert "20 frames of 5 videos of 5 people against 24 frames of 6 videos" in found.remark
    alone = KernelDistance("f")
    alone.update(x[:1].repeat(2, 1), real=False, videos=["a", "b"])
    alone.update(y[:8], real=True, videos=[f"{v}" for v in of_y[:8].tolist()])
    assert alone.result().influences == ()
    assert "no interval from fewer than 3 videos" in alone.result().remark
    with pytest.raises(MetricsError, match="name each"):
        alone.update(y[:8], real=True, videos=["a", "b"])


# --- extreme features ----------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, frechet_interval])
@pytest.mark.parametrize("samples", [3, 40])
def test_features_that_are_too_large_are_refused_in_words(distance, samples):
    x = draw(0, samples, 6)
    with pytest.raises(MetricsError, match="too large for float64"):
        distance(1e200 * x, x)
    with pytest.raises(MetricsError, match="too large for float64"):
        distance(x, 1e200 * (x + 1))
    distance(1e40 * x, x)


def test_moments_that_are_too_large_are_refused_in_words():
    one = torch.eye(2).double()
    with pytest.raises(MetricsError, match="too large for float64"):
        frechet_distance_from_moments(1e200 * one[0], 1e200 * one, one[0], one)


def test_half_precision_is_converted_first_and_said():
    x, y = draw(0, 30, 6).half(), draw(1, 30, 6).half() + 1
    with pytest.warns(UserWarning, match=r"float16 and is converted to float64 before"):
        value = frechet_distance(x, y)
    assert value == pytest.approx(frechet_distance(x.double(), y.double()), rel=1e-12)
    metric = FrechetDistance("f")
    metric.update(y.double(), real=False)
    with pytest.warns(UserWarning, match="rounded when they were made"):
        metric.update(x, real=True)
    assert "30 samples are of half precision" in metric.result().remark


def test_jedi_is_its_published_kernel():
    """JEDi's mmd_poly(degree=2, coef0=0) times 100, on the kernel of scikit-learn that it calls."""
    kernel = pytest.importorskip("sklearn.metrics.pairwise").polynomial_kernel
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(9, 5)) + 0.3
    shape = {"degree": 2, "gamma": None, "coef0": 0}
    means = [kernel(a, b, **shape).mean() for a, b in ((x, x), (y, y), (x, y))]
    expected = 100 * (means[0] + means[1] - 2 * means[2])
    assert jedi_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected)
