"""The suite: one pass, the same numbers as by hand, and every failure in words in its own row."""

import threading
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from media.video import VideoReader, read_clip, sample_linspace
from metrics import MetricSuite, Result, VideoItem, VideoMetric, metric_info, register
from metrics.catalogue import choose
from metrics.distribution import FrechetDistance
from metrics.errors import MetricsError
from metrics.facts import unregister
from metrics.features.face_backends import load_face_backend
from metrics.features.face_backends.facenet import FacenetFaces
from metrics.features.frames import FrameFeature
from metrics.identity import identity_scores
from metrics.scores import Score, SetScore
from metrics.temporal import temporal_flicker
from tests.media.clips import group_photo, steps, write_video
from tests.media.numbered import picture, write_numbered


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def boxes():
    """Boxes of the six people from left to right, found by MTCNN."""
    found = FacenetFaces().detect(group_photo(960)[None])[0].boxes
    return found[found[:, 0].argsort()].int().tolist()


@pytest.fixture(scope="module")
def photo(boxes):
    """The left two of the six people."""
    return group_photo(960)[:, : (boxes[1][2] + boxes[2][0]) // 2]


@pytest.fixture(scope="module")
def people(photo, boxes):
    """A crop around each of the two."""
    crops = []
    for x0, y0, x1, y1 in boxes[:2]:
        grow = (x1 - x0) // 2
        crops.append(photo[max(0, y0 - grow) : y1 + grow, max(0, x0 - grow) : x1 + grow])
    return crops


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo, people):
    """Videos: one person moving, the two, nobody; references: the person, the two, nobody."""
    root = tmp_path_factory.mktemp("videos")
    one = cv2.resize(people[0], (160, 192))
    moving = np.stack([np.roll(one, 2 * i, axis=1) for i in range(5)])
    write_video(root / "one.mp4", moving)
    two = photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2]
    write_video(root / "two.mp4", np.stack([two, two[:, ::-1], two]))
    write_video(root / "black.mp4", np.zeros((5, 192, 160, 3), np.uint8))
    Image.fromarray(people[0]).save(root / "person.png")
    Image.fromarray(people[1]).save(root / "other.png")
    Image.fromarray(photo).save(root / "group.png")
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(root / "nobody.png")
    return root


def by_metric(rows, key=None):
    return {r.metric: r for r in rows if isinstance(r, Score) and key in (None, r.key)}


def test_scores_are_those_of_the_functions(folder):
    pytest.importorskip("dlib")
    names = ["identity.dlib", "identity.dlib.largest", "faces.rate.dlib", "temporal.flicker"]
    item = VideoItem(folder / "two.mp4", "two", references=(folder / "person.png",), group="g")
    rows = MetricSuite(names, num_frames=2).score([item])
    assert [r.metric for r in rows] == names
    assert {(r.key, r.group, r.status) for r in rows} == {("two", "g", "ok")}
    found = by_metric(rows)

    backend = load_face_backend("dlib")
    clip = read_clip(folder / "two.mp4", 2)
    faces = backend.detect(clip.frames)
    frames = [backend.embed(backend.align(f, d)) for f, d in zip(clip.frames, faces)]
    from media.images import read_image

    image = read_image(folder / "person.png")
    reference = backend.embed(backend.align(image, backend.detect(image[None])[0]))[:1]
    expected = identity_scores(frames, reference)
    assert found["identity.dlib"].value == pytest.approx(expected.all_frames, abs=1e-5)
    assert found["identity.dlib.largest"].value == pytest.approx(expected.largest, abs=1e-5)
    assert found["faces.rate.dlib"].value == expected.face_rate == 1
    assert found["identity.dlib"].detail["differs"] == expected.differs
    assert backend.version in found["identity.dlib"].version.split("+")
    whole = read_clip(folder / "two.mp4").frames
    assert found["temporal.flicker"].value == pytest.approx(temporal_flicker(whole))


def test_several_references_and_what_there_is_to_remark(folder):
    pytest.importorskip("dlib")
    both = (folder / "person.png", folder / "other.png")
    items = [
        VideoItem(folder / "two.mp4", "both", references=both),
        VideoItem(folder / "one.mp4", "one", references=(folder / "group.png",)),
        VideoItem(folder / "one.mp4", "none", references=(folder / "nobody.png",)),
        VideoItem(folder / "one.mp4", "unasked"),
        VideoItem(folder / "black.mp4", "black", references=(folder / "person.png",)),
    ]
    rows = MetricSuite(["identity.dlib", "identity.dlib.faces_only"], num_frames=2).score(items)
    matched = by_metric(rows, "both")["identity.dlib"]
    assert matched.value > 0.9  # each of the two is there
    assert matched.detail["references"] == 2
    remark = by_metric(rows, "one")["identity.dlib"]
    assert (remark.status, "2 faces; the largest" in remark.reason) == ("ok", True)
    none = by_metric(rows, "none")["identity.dlib"]
    assert (none.status, none.value) == ("failed", None)
    assert "no face was found in the reference" in none.reason
    unasked = by_metric(rows, "unasked")["identity.dlib"]
    assert (unasked.status, unasked.value) == ("inapplicable", None)
    assert "needs a reference" in unasked.reason
    black = by_metric(rows, "black")
    assert black["identity.dlib"].value == 0
    assert "no sampled frame has a face" in black["identity.dlib"].reason
    assert black["identity.dlib.faces_only"].status == "failed"


def test_bad_videos_fail_in_words_and_the_run_goes_on(tmp_path, folder):
    good = folder / "one.mp4"
    data = good.read_bytes()
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp4").write_text("not a video")
    Image.new("1", (12000, 12000)).save(tmp_path / "bomb.png")
    (tmp_path / "bomb.png").rename(tmp_path / "bomb.mp4")
    write_video(tmp_path / "single.mp4", steps(1, 192, 160))
    (tmp_path / "wrong.avi").write_bytes(data)
    names = ["zero.mp4", "cut.mp4", "text.mp4", "bomb.mp4", "gone.mp4", "single.mp4", "wrong.avi"]
    items = [VideoItem(tmp_path / n, n) for n in names] + [VideoItem(good, "good")]
    rows = MetricSuite(["faces.rate.facenet", "temporal.flicker"], num_frames=8).score(items)
    assert len(rows) == 2 * len(items)  # every video has every row
    status = {r.key: r.status for r in rows if r.metric == "faces.rate.facenet"}
    assert [k for k, s in status.items() if s == "ok"] == ["single.mp4", "wrong.avi", "good"]
    words = {r.key: r.reason for r in rows if r.metric == "temporal.flicker"}
    assert "0 bytes" in words["zero.mp4"]
    assert "truncated" in words["cut.mp4"]
    assert "not a video" in words["text.mp4"]
    assert "bomb" in words["bomb.mp4"] or "megapixels" in words["bomb.mp4"]
    assert "No such file" in words["gone.mp4"]
    assert "one frame" in words["single.mp4"]
    short = by_metric(rows, "single.mp4")["faces.rate.facenet"]
    assert "1 frame, fewer than the 8 asked" in short.reason
    assert by_metric(rows, "good")["faces.rate.facenet"].detail["frames"] == 5


def test_a_truncated_video_fails_whole_even_if_its_first_frames_were_seen(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", noise, movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (row,) = MetricSuite(["temporal.flicker"]).score([VideoItem(path, "a")])
    assert row.status == "failed"
    assert "40" in row.reason
    assert row.value is None


def test_one_decode_one_detection_one_embedding(folder, monkeypatch):
    pytest.importorskip("dlib")
    from metrics.features.face_backends.dlib import DlibFaces

    seen = {"opened": 0, "detected": 0, "embedded": 0}
    opened, detect, embed = VideoReader.__init__, DlibFaces.detect, DlibFaces.embed

    def count_open(self, path):
        seen["opened"] += 1
        opened(self, path)

    def count_detect(self, frames):
        seen["detected"] += len(frames)
        return detect(self, frames)

    def count_embed(self, crops):
        seen["embedded"] += len(crops)
        return embed(self, crops)

    monkeypatch.setattr(VideoReader, "__init__", count_open)
    monkeypatch.setattr(DlibFaces, "detect", count_detect)
    monkeypatch.setattr(DlibFaces, "embed", count_embed)
    names = choose(["identity.dlib", "identity.dlib.*", "faces.rate.dlib"])
    names += ["leakage.crop_ssim.dlib", "leakage.pose_difference.dlib", "temporal.flicker"]
    item = VideoItem(folder / "one.mp4", "a", references=(folder / "person.png",))
    rows = MetricSuite(names, num_frames=3).score([item])
    assert all(r.status == "ok" for r in rows), [r.reason for r in rows]
    assert seen["opened"] == 1
    assert seen["detected"] == 3 + 1  # three frames and the reference
    assert seen["embedded"] == 3 + 1


def test_the_cache_spares_decoding_and_gives_the_same_numbers(folder, tmp_path, monkeypatch):
    names = ["faces.rate.facenet", "temporal.flicker"]
    items = [VideoItem(folder / f"{n}.mp4", n) for n in ("one", "two", "black")]
    first = MetricSuite(names, num_frames=3, cache=tmp_path).score(items)

    def refuse(*args, **kwargs):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(VideoReader, "stream", refuse)
        assert MetricSuite(names, num_frames=3, cache=tmp_path).score(items) == first
    # other frames are computed again and join what is there
    more = MetricSuite(names, num_frames=5, cache=tmp_path).score(items)
    assert more == MetricSuite(names, num_frames=5).score(items)
    # a damaged entry counts as none
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(b"damaged")
    assert MetricSuite(names, num_frames=3, cache=tmp_path).score(items) == first


def test_the_cache_knows_how_a_frame_was_decoded(folder, tmp_path, monkeypatch):
    suite = MetricSuite(["temporal.flicker"], cache=tmp_path)
    items = [VideoItem(folder / "two.mp4", "two")]
    kept = [path for _ in suite.score(items) for path in tmp_path.rglob("*.safetensors")]
    assert kept
    monkeypatch.setattr("metrics.features.cache.DECODER", "another reader")
    list(MetricSuite(["temporal.flicker"], cache=tmp_path).score(items))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2 * len(kept)


def test_what_a_video_is_read_as_is_said_with_its_scores(tmp_path):
    wide = write_video(
        tmp_path / "wide.mp4",
        steps(4),
        setup=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(4, 3)),
    )
    (row,) = MetricSuite(["temporal.flicker"]).score([VideoItem(wide, "wide")])
    assert row.status == "ok"
    assert row.reason == "pixels are not square (4:3) and read as stored"


def test_what_shares_a_batch_does_not_change_the_scores(folder):
    names = ["faces.rate.facenet", "temporal.flicker"]
    items = [VideoItem(folder / f"{n}.mp4", str(i)) for i, n in enumerate(("one", "black", "one"))]
    together = MetricSuite(names, num_frames=4).score(items)
    alone = [r for i in items for r in MetricSuite(names, num_frames=4).score([i])]
    assert [r.value for r in together] == [r.value for r in alone]
    apart = MetricSuite(names, num_frames=4, batch_videos=False).score(items)
    assert apart == alone


def test_absent_metrics_are_rows_with_what_would_enable_them(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("STDRC_WEIGHTS", raising=False)
    suite = MetricSuite(["identity.insightface", "temporal.flicker", "fvd.i3d"])
    assert set(suite.absent) == {"identity.insightface", "fvd.i3d"}
    rows = suite.score([VideoItem(folder / "one.mp4", "a")])
    absent = by_metric(rows)["identity.insightface"]
    assert (absent.status, absent.value) == ("absent", None)
    assert "buffalo_l" in absent.reason
    (sets,) = [r for r in rows if isinstance(r, SetScore)]
    assert (sets.metric, sets.status) == ("fvd.i3d", "absent")


def test_unknown_metrics_and_frames_are_refused_before_any_work():
    with pytest.raises(MetricsError, match=r"temporal\.flicker"):
        MetricSuite(["temporal.flickr"])
    with pytest.raises(MetricsError, match="num_frames"):
        MetricSuite(["temporal.flicker"], num_frames=0)
    with pytest.raises(MetricsError, match="aren't at"):
        MetricSuite(["fvd.i3d"], weights={"i3d.torchscript": "nowhere.pt"})


# --- columns of a test's own -------------------------------------------------------------------


class Brightness(VideoMetric):
    features = ("pixels",)

    def measure(self, video):
        if video.label.endswith("raises.mp4"):
            raise RuntimeError("a defect")
        mean = float(np.mean(video["pixels"]))
        return Result(float("nan") if video.label.endswith("nan.mp4") else mean)


class MeanColour:
    name, version = "mean_colour", "1"

    def encode(self, frames):
        return torch.from_numpy(np.ascontiguousarray(frames)).double().mean(dim=(1, 2))


class ColourDistance(FrechetDistance):
    """The distance of two sets of frames' mean colours."""

    def __init__(self, **kwargs):
        super().__init__("colour", **kwargs)

    def prepare(self):
        self.models.add_feature(FrameFeature("colour", MeanColour()))
        self.features = ("colour",)


@pytest.fixture
def own_metrics():
    facts = {"label": "", "formula": "", "source": "", "family": "quality", "backend": "pixels"}
    register("bright", **facts)(Brightness)
    register("bright_set", needs=("target",), **facts)(ColourDistance)
    yield
    unregister("bright")
    unregister("bright_set")


@pytest.mark.parametrize("name", ["bframes.avi", "open_gop.mp4"])
def test_few_frames_are_the_same_alone_and_beside_a_metric_of_all(tmp_path, own_metrics, name):
    options = {
        "bframes.avi": {"codec": "mpeg4", "bframes": 2, "gop": 30},
        "open_gop.mp4": {"codec": "libx265", "gop": 25, "x265": "open-gop=1:min-keyint=25"},
    }
    path = write_numbered(tmp_path / name, **options[name])
    item = VideoItem(path, "fine")
    (alone,) = MetricSuite(["bright"], num_frames=16).score([item])
    beside, _ = MetricSuite(["bright", "temporal.flicker"], num_frames=16).score([item])
    frames = np.stack([picture(i) for i in sample_linspace(200, 16)])
    assert alone.value == beside.value == pytest.approx(frames.mean(), abs=2)


def test_defects_and_nan_stay_in_their_row(folder, own_metrics, tmp_path):
    keys, copies = ("fine", "raises", "nan", "fine2"), tmp_path
    for key in keys:
        (copies / f"{key}.mp4").write_bytes((folder / "one.mp4").read_bytes())
    rows = MetricSuite(["bright", "temporal.flicker"]).score(
        [VideoItem(copies / f"{key}.mp4", key) for key in keys]
    )
    assert [r.status for r in rows if r.metric == "temporal.flicker"] == ["ok"] * 4
    found = {r.key: r for r in rows if r.metric == "bright"}
    assert [found[k].status for k in keys] == ["ok", "failed", "failed", "ok"]
    assert "RuntimeError: a defect" in found["raises"].reason
    assert "nan" in found["nan"].reason


def test_set_metrics_compare_within_groups_and_count_what_they_used(folder, own_metrics, tmp_path):
    one, black, gone = folder / "one.mp4", folder / "black.mp4", tmp_path / "gone.mp4"
    items = [
        VideoItem(one, "1", group="same", target=one),
        VideoItem(black, "2", group="dark", target=one),
        VideoItem(one, "3", group="dark", target=one),
        VideoItem(gone, "4", group="dark", target=one),
    ]
    rows = MetricSuite(["bright_set"]).score(items)
    same, dark = rows
    assert (same.group, same.n) == ("same", 1)
    assert same.value == pytest.approx(0, abs=1e-9)
    assert dark.n == 2
    assert dark.value > 5
    assert "1 video couldn't be used" in dark.reason
    (row,) = MetricSuite(["bright_set"]).score([VideoItem(one, "1")])
    assert row.status == "inapplicable"
    assert "1 video left out: needs a true video" in row.reason
    (row,) = MetricSuite(["bright_set"], real=[one]).score([VideoItem(one, "1")])
    assert row.status == "ok"
    assert row.value == pytest.approx(0, abs=1e-9)


def test_scores_stream_and_stopping_early_stops_the_decoder(folder):
    def items():
        for i in range(1000):
            taken.append(i)
            yield VideoItem(folder / "one.mp4", str(i))

    taken: list[int] = []
    stream = MetricSuite(["temporal.flicker"], batch_videos=False).stream(items())
    assert next(stream).key == "0"
    assert len(taken) < 20  # it decodes ahead by a few chunks, not by the whole list
    stream.close()
    time.sleep(0.05)
    assert not [t for t in threading.enumerate() if t.name == "metrics-decode"]


def test_an_error_of_the_callers_own_list_reaches_the_caller(folder):
    def items():
        yield VideoItem(folder / "one.mp4", "a")
        raise KeyError("the caller's")

    with pytest.raises(KeyError, match="the caller's"):
        MetricSuite(["temporal.flicker"]).score(items())


def test_memory_does_not_grow_with_length(tmp_path, monkeypatch):
    held = []
    original = VideoReader.stream

    def small_chunks(self, indices=None, chunk=None):
        for part, frames in original(self, indices, 4):
            held.append(len(frames))
            yield part, frames

    monkeypatch.setattr(VideoReader, "stream", small_chunks)
    path = write_video(tmp_path / "long.mp4", np.tile(steps(10, 32, 32), (12, 1, 1, 1)))
    (row,) = MetricSuite(["temporal.flicker"]).score([VideoItem(path, "long")])
    assert max(held) == 4
    assert row.detail["frames"] == 120
    monkeypatch.undo()
    assert row.value == pytest.approx(temporal_flicker(read_clip(path).frames))


def test_metric_info_is_what_the_package_exports():
    info = metric_info("identity.dlib")
    assert (info.backend, info.higher_is_better, info.range) == ("dlib", True, (-1.0, 1.0))


def test_what_is_too_short_or_has_no_frame_rate_says_of_what(tmp_path):
    for count in (1, 3, 9):
        write_video(tmp_path / f"{count}.mp4", steps(count, 64, 48), fps=24)
    (tmp_path / "folder").mkdir()
    for i, frame in enumerate(steps(3, 64, 48)):
        Image.fromarray(frame).save(tmp_path / f"folder/{i}.png")
    (tmp_path / "alone").mkdir()
    Image.fromarray(frame).save(tmp_path / "alone/0.png")
    names = ["1.mp4", "3.mp4", "9.mp4", "folder", "alone"]
    suite = MetricSuite(["motion.magnitude.dis", "temporal.flicker"], cache=tmp_path / "cache")
    items = [VideoItem(tmp_path / n, n) for n in names]
    for _ in ("computed", "from the cache"):
        rows = {r.key: r for r in suite.score(items) if r.metric == "motion.magnitude.dis"}
        assert "one frame, and no two frames an eighth of a second apart" in rows["1.mp4"].reason
        assert "3 frames, and no two frames an eighth" in rows["3.mp4"].reason
        assert (rows["9.mp4"].status, rows["9.mp4"].reason) == ("ok", "")
        assert rows["folder"].status == "ok"
        assert "no frame rate; neighbours were compared" in rows["folder"].reason
        assert "one frame" in rows["alone"].reason  # and that of the rate does not hide it


def test_a_metric_of_all_frames_is_asked_for_no_number_of_them():
    class Every(VideoMetric):
        samples = False

    video = next(VideoMetric(num_frames=16).videos_of(np.zeros((3, 8, 8, 3), np.uint8)))
    assert "3 frames, fewer than the 16 asked" in VideoMetric(num_frames=16).short(video)
    assert Every(num_frames=16).short(video) == ""


class Precision(MeanColour):
    """Writes down in what precision a card would run it."""

    def __init__(self):
        self.seen = []

    def encode(self, frames):
        backends = torch.backends
        self.seen += [backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision]
        return super().encode(frames)


def test_networks_run_in_float32_as_written_whatever_a_card_or_its_owner_prefers(
    tmp_path, own_metrics
):
    model, black = Precision(), np.zeros((4, 16, 16, 3), np.uint8)
    write_video(tmp_path / "a.mp4", black)
    torch.set_float32_matmul_precision("high")  # as many trainings do
    try:
        suite = MetricSuite(["bright_set"])
        feature = suite.models.feature("colour")
        feature.model = model
        suite.score([VideoItem(tmp_path / "a.mp4", "1", target=tmp_path / "a.mp4")])
        FrechetDistance(model).update(black, real=True)
        assert len(model.seen) >= 6
        assert set(model.seen) == {"ieee"}
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"  # the owner's again
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
