"""What the suite computes once, keeps, and hands to the metrics; one fault planted at a time."""

import numpy as np
import pytest
import torch

from metrics import MetricSuite, VideoItem, frechet_distance, kernel_distance, read_clip
from metrics.features import clips
from metrics.features.cache import MemoryCache
from metrics.features.frames import FrameFeature
from metrics.scores import SetScore
from metrics.temporal import temporal_flicker
from tests.media.clips import steps, write_video
from tests.metrics.test_alone import BLUE, GREEN, MIXED, RED, ColourFaces, cosine, drawn


class Network:
    """A video network that counts its passes: mean colours of the frames it is shown."""

    name, version = "mean", "1"

    def __init__(self):
        self.passes, self.seen = 0, []

    def encode(self, videos):
        self.passes += len(videos)
        self.seen.append(videos.shape)
        return torch.from_numpy(videos[:, [0, -1]]).double().mean(dim=(2, 3)).flatten(1)


@pytest.fixture
def network(monkeypatch):
    network = Network()
    encoder = clips.VideoEncoder(lambda models: network, window=clips.Window())
    monkeypatch.setitem(clips.ENCODERS, "mean", encoder)
    return network


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos of two people, each with a true one, of 20 noisy frames."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    items = []
    for i in range(4):
        paths = []
        for kind in ("made", "true"):
            level = rng.integers(60, 200, (20, 1, 1, 3))
            frames = np.broadcast_to(level, (20, 32, 32, 3)).astype(np.uint8)
            paths.append(write_video(folder / f"{kind}{i}.mp4", frames))
        items.append(VideoItem(paths[0], f"{i}", target=paths[1], identity=f"p{i % 2}", group="g"))
    return items


def sets(rows):
    return {row.metric: row for row in rows if isinstance(row, SetScore)}


def test_each_video_is_encoded_once(videos, network, tmp_path):
    names = ["fvd.mean", "kvd.mean"]
    MetricSuite(names).score(videos)
    assert network.passes == 8  # four videos and four targets, for both distances
    network.passes = 0
    cached = MetricSuite(names, cache=tmp_path)
    for item in videos:  # as the bench does: each alone first, then the sets
        cached.score([item])
    again = MetricSuite(names, cache=tmp_path)
    for item in videos:
        again.score([item])
    again.score(videos)
    assert network.passes == 8
    MetricSuite(names, real=[item.target for item in videos]).score(
        [VideoItem(item.video, item.key, group=item.key) for item in videos]
    )
    assert network.passes == 16  # true videos once for all groups


def test_the_same_target_is_in_the_set_once(videos, network):
    shared = [
        VideoItem(v.video, v.key, target=videos[0].target if v.key != "3" else v.target, group="g")
        for v in videos
    ]
    found = sets(MetricSuite(["fvd.mean"]).score(shared))["fvd.mean"]
    assert "against 2 videos" in found.reason


def test_distances_are_of_the_first_consecutive_frames(videos, network):
    found = sets(MetricSuite(["fvd.mean", "kvd.mean"], num_frames=4).score(videos))
    made, true = (
        Network().encode(np.stack([read_clip(getattr(v, k)).frames[:16] for v in videos]))
        for k in ("video", "target")
    )
    assert {shape[1] for shape in network.seen} == {16}
    assert found["fvd.mean"].value == pytest.approx(frechet_distance(made, true, ddof=0))
    of = torch.arange(len(made))  # each is made after a target of its own
    assert found["kvd.mean"].value == pytest.approx(
        kernel_distance(made, true, x_targets=of, y_targets=of)
    )
    for row in found.values():
        assert "the first 16 consecutive frames, not cropped" in row.reason
        assert "4 videos of 2 people against 4 videos of 2 people" in row.reason
        assert (row.low, row.high) == (None, None)  # two people are too few
        assert row.n == 4


def test_short_videos_are_said(videos, network, tmp_path):
    short = write_video(tmp_path / "short.mp4", steps(9, 32, 32))
    items = [*videos, VideoItem(short, "short", target=videos[0].target, group="g")]
    found = sets(MetricSuite(["fvd.mean"]).score(items))["fvd.mean"]
    assert "fewer frames in 1 video" in found.reason
    assert network.seen[-1][1] == 9 or any(shape[1] == 9 for shape in network.seen)


def test_the_interval_is_over_people(videos, network):
    alone = [
        VideoItem(v.video, v.key, target=v.target, identity=f"person {v.key}", group="g")
        for v in videos
    ]
    for row in sets(MetricSuite(["fvd.mean", "kvd.mean"]).score(alone)).values():
        assert row.low <= row.value <= row.high
        assert "of 4 people" in row.reason
    unnamed = [VideoItem(v.video, v.key, target=v.target, group="g") for v in videos]
    for row in sets(MetricSuite(["fvd.mean", "kvd.mean"]).score(unnamed)).values():
        assert row.low <= row.value <= row.high
        assert "people" not in row.reason


# --- FID's and KID's frames, with an Inception of a test's own -----------------------------------


class Colour:
    name, version = "colour", "1"

    def encode(self, frames):
        return torch.from_numpy(np.ascontiguousarray(frames)).double().mean(dim=(1, 2))


@pytest.fixture
def inception(monkeypatch):
    from metrics import catalogue
    from metrics.features import base

    expression, _ = base._BUILDERS["inception.fid"]
    builder = (expression, lambda models: FrameFeature("inception.fid", Colour()))
    monkeypatch.setitem(base._BUILDERS, "inception.fid", builder)
    monkeypatch.setattr("metrics.suite.availability", lambda info, paths: ("", ""))
    return catalogue


def test_fid_divides_by_n_minus_1_and_fvd_by_n(videos, network, inception):
    found = sets(MetricSuite(["fid", "fvd.mean"], num_frames=4).score(videos))
    rows = [
        torch.cat([Colour().encode(read_clip(getattr(v, kind), 4).frames) for v in videos])
        for kind in ("video", "target")
    ]
    assert found["fid"].value == pytest.approx(frechet_distance(*rows, ddof=1), rel=1e-6)
    assert found["fid"].value != pytest.approx(frechet_distance(*rows, ddof=0), rel=1e-3)
    made, true = (
        Network().encode(np.stack([read_clip(getattr(v, k)).frames[:16] for v in videos]))
        for k in ("video", "target")
    )
    assert found["fvd.mean"].value == pytest.approx(frechet_distance(made, true, ddof=0))
    assert found["fvd.mean"].value != pytest.approx(frechet_distance(made, true, ddof=1), rel=1e-3)


def test_kid_leaves_out_pairs_within_a_video(videos, inception):
    found = sets(MetricSuite(["kid", "fid"], num_frames=4).score(videos))
    rows = [
        torch.cat([Colour().encode(read_clip(getattr(v, kind), 4).frames) for v in videos])
        for kind in ("video", "target")
    ]
    of = torch.arange(4).repeat_interleave(4)
    expected = kernel_distance(*rows, x_videos=of, y_videos=of, x_targets=of, y_targets=of)
    assert found["kid"].value == pytest.approx(expected)
    assert found["kid"].value != pytest.approx(kernel_distance(*rows), rel=1e-3)
    assert "16 frames of 4 videos of 2 people" in found["kid"].reason
    assert "4 frames spread over each video" in found["fid"].reason


# --- what is kept in memory ----------------------------------------------------------------------


def test_features_of_targets_are_kept_up_to_so_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("metrics.features.models.MEMORY_BYTES", 100_000)
    suite = MetricSuite(["temporal.flicker"])
    metric = suite._metrics["temporal.flicker"]
    for i in range(12):
        path = write_video(tmp_path / f"{i}.mp4", steps(4, 64, 64))
        suite.models.of_video("pixels", path, metric.indices)  # 49 kB each
        assert suite.models._memory.size <= 100_000
    assert suite.models._memory.size > 0


def test_what_was_used_longest_ago_goes_first():
    cache = MemoryCache(limit=100)
    for name in "abc":
        cache.put(name, np.zeros(30, np.uint8))
    assert cache.get("a") is not None
    cache.put("d", [np.zeros(20, np.uint8), {"x": torch.zeros(2, dtype=torch.uint8)}])
    assert ["b" in cache, "a" in cache, "c" in cache, "d" in cache] == [False, True, True, True]
    cache.put("e", np.zeros(101, np.uint8))
    assert "e" not in cache
    assert cache.size == 82
    cache.put("d", np.zeros(1, np.uint8))
    assert cache.size == 61


# --- planted faults ------------------------------------------------------------------------------


@pytest.fixture
def colours(monkeypatch):
    from metrics.features.face_backends.base import FaceFacts

    class Declared(ColourFaces):
        facts = FaceFacts()

        @classmethod
        def load(cls, device, weights):
            return cls()

    monkeypatch.setattr(
        "metrics.features.face_backends.declared",
        lambda kind: {"colour": "tests.metrics.test_suite_sets:Colours"},
    )
    monkeypatch.setitem(globals(), "Colours", Declared)


def images(folder, name, video):
    from PIL import Image

    path = folder / name
    path.mkdir()
    for i, frame in enumerate(video):
        Image.fromarray(frame).save(path / f"{i:03d}.png")
    return path


def picture(folder, name, faces, size=40):
    from PIL import Image

    path = folder / name
    Image.fromarray(drawn(faces, size=size)[0]).save(path)
    return path


def test_the_targets_person_is_the_reference_not_the_largest_face(colours, tmp_path):
    target = images(tmp_path, "target", drawn([(MIXED, 2, 2, 8), (BLUE, 16, 16, 20)]))
    made = images(tmp_path, "made", drawn([(RED, 5, 5, 12)]))
    reference = picture(tmp_path, "r.png", [(RED, 10, 10, 12)])
    item = VideoItem(made, "a", references=(reference,), target=target)
    (row,) = MetricSuite(["copy_paste.colour"]).score([item])
    # The frame is the reference itself: +1, whoever else is in the target.
    assert row.value == pytest.approx(1, abs=1e-3)
    both = images(tmp_path, "both", drawn([(GREEN, 5, 5, 12)]))
    item = VideoItem(both, "b", references=(reference,), target=target)
    (row,) = MetricSuite(["copy_paste.colour"]).score([item])
    angles = [np.arccos(cosine(*pair)) for pair in ((GREEN, MIXED), (GREEN, RED), (MIXED, RED))]
    assert row.value == pytest.approx((angles[0] - angles[1]) / angles[2], abs=1e-2)


def test_the_background_is_what_lies_outside_twice_the_face(colours, tmp_path):
    # A ring of another colour around the face, as hair is, within twice the face's box.
    video = drawn([(RED, 16, 16, 8)])
    ring = video.copy()
    ring[:, 13:27, 13:27] = 90
    ring[:, 16:24, 16:24] = RED
    reference = picture(tmp_path, "r.png", [(RED, 16, 16, 8)])
    for name, frames, expected in (("plain", video, 1.0), ("ring", ring, 1.0)):
        item = VideoItem(images(tmp_path, name, frames), name, references=(reference,))
        (row,) = MetricSuite(["leakage.background.colour"]).score([item])
        assert row.value == pytest.approx(expected), name
    far = video.copy()
    far[:, :, 25:] = 90  # 15 of 40 columns; twice the face's box covers 3 of them, 16 rows high
    item = VideoItem(images(tmp_path, "far", far), "far", references=(reference,))
    (row,) = MetricSuite(["leakage.background.colour"]).score([item])
    assert row.value == pytest.approx(1 - (15 * 40 - 3 * 16) / (40 * 40 - 16 * 16), abs=1e-9)


def test_the_face_rate_is_the_detectors_own(colours, tmp_path):
    # Identity counts frames with a matched face; several references, or none, change nothing here.
    video = images(tmp_path, "v", drawn([(RED, 5, 5, 9)], [], [(GREEN, 5, 5, 9)], []))
    reference = picture(tmp_path, "r.png", [(RED, 10, 10, 12)])
    names = ["faces.rate.colour", "identity.colour", "identity.colour.differs"]
    for references in ((), (reference,), (reference, reference)):
        item = VideoItem(video, "v", references=references)
        rows = {row.metric: row for row in MetricSuite(names).score([item])}
        rate = rows["faces.rate.colour"]
        assert (rate.value, rate.status) == (0.5, "ok")
        assert rate.detail == {"frames": 4, "frames_with_face": 2, "most_faces": 1}


# --- versions ------------------------------------------------------------------------------------


def test_a_version_is_of_all_that_a_value_depends_on(network, monkeypatch):
    def versions(**changed):
        names = ["temporal.flicker", "temporal.warping_error.dis", "faces.rate.facenet", "fvd.mean"]
        suite = MetricSuite(names, **changed)
        return [suite.version(name) for name in names]

    first = versions()
    assert first == versions()
    assert all(first)
    flicker, warping, rate, fvd = versions(num_frames=4)
    assert (flicker, warping, fvd) == (first[0], first[1], first[3])  # they don't sample
    assert rate != first[2]
    with monkeypatch.context() as patch:
        patch.setattr("metrics.suite.DECODER", "another reader")
        assert not set(versions()) & set(first)
    with monkeypatch.context() as patch:
        patch.setattr("metrics.temporal.TemporalFlicker.revision", 9)
        assert versions()[0] != first[0]
        assert versions()[1:] == first[1:]
    with monkeypatch.context() as patch:
        patch.setattr(Network, "version", "2")
        assert versions()[:3] == first[:3]
        assert versions()[3] != first[3]
    window = clips.Window(frames=8)
    monkeypatch.setitem(
        clips.ENCODERS, "mean", clips.VideoEncoder(lambda models: network, window=window)
    )
    assert versions()[3] != first[3]


def test_the_suite_drives_the_class_that_a_program_uses(videos, monkeypatch):
    from metrics.temporal import TemporalFlicker

    monkeypatch.setattr(
        TemporalFlicker, "terms", lambda self, frames: torch.ones(len(frames) - 1) / 4
    )
    (row,) = MetricSuite(["temporal.flicker"]).score(videos[:1])
    assert row.value == 0.25
    monkeypatch.undo()
    (row,) = MetricSuite(["temporal.flicker"]).score(videos[:1])
    assert row.value == pytest.approx(temporal_flicker(read_clip(videos[0].video).frames))
