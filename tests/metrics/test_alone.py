"""Metrics by themselves: in a training loop, in collections, across processes, on raw frames."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from metrics import (
    FID,
    FVD,
    KVD,
    CLIPScore,
    CopyPaste,
    DynamicDegree,
    FaceRate,
    FeatureConsistency,
    FrechetDistance,
    IdentityConsistency,
    IdentitySimilarity,
    KernelDistance,
    MetricsError,
    MetricSuite,
    TemporalFlicker,
    VideoItem,
    WarpingError,
    frechet_distance,
    kernel_distance,
)
from metrics.features.clips import Window
from metrics.leakage import BackgroundSimilarity, CropSimilarity, PoseDifference
from tests.media.clips import group_photo, write_video


class ColourFaces:
    """A face backend of a drawn world: a face is a square of one colour, who it is its colour."""

    name, version, crop_size = "colour", "1", 16

    def detect(self, frames):
        from metrics.features.face_backends import Faces

        found = []
        for frame in frames:
            boxes = []
            for colour in np.unique(frame[frame.max(axis=-1) > 100].reshape(-1, 3), axis=0):
                rows, columns = np.nonzero((frame == colour).all(axis=-1))
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            if not boxes:
                found.append(Faces.none())
                continue
            corners = torch.tensor(boxes).float()
            low, size = corners[:, None, :2], (corners[:, 2:] - corners[:, :2])[:, None]
            face = torch.tensor([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.75], [0.65, 0.75]])
            found.append(Faces.sorted(corners, low + face * size, torch.ones(len(boxes))))
        return found

    def align(self, frame, faces):
        crops = np.zeros((len(faces), 16, 16, 3), np.uint8)
        for i, (x0, y0, x1, y1) in enumerate(faces.boxes.int().tolist()):
            crops[i] = cv2.resize(frame[y0:y1, x0:x1], (16, 16))
        return crops

    def embed(self, crops):
        colour = torch.from_numpy(np.asarray(crops)).float().mean(dim=(1, 2))
        return colour / colour.norm(dim=1, keepdim=True)


RED, GREEN, BLUE, MIXED = (250, 10, 10), (10, 250, 10), (10, 10, 250), (200, 150, 10)


def drawn(*frames, size=40):
    """Frames of dark grey with faces: each frame a list of (colour, x, y, side)."""
    video = np.full((len(frames), size, size, 3), 30, np.uint8)
    for image, faces in zip(video, frames):
        for colour, x, y, side in faces:
            image[y : y + side, x : x + side] = colour
    return video


PERSON = drawn([(RED, 10, 10, 12)])[0]
TWO = drawn([(RED, 4, 4, 10), (GREEN, 20, 20, 16)], [(MIXED, 6, 6, 12)], [])


def cosine(a, b):
    a, b = np.array(a, float), np.array(b, float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_identity_of_raw_frames_in_every_form():
    expected = (1 + cosine(MIXED, RED) + 0) / 3
    planes = torch.from_numpy(TWO).permute(0, 3, 1, 2)
    for frames in (TWO, planes, TWO / 255, (planes / 255).bfloat16() * 0 + planes / 255):
        for reference in (PERSON, PERSON / 255, torch.from_numpy(PERSON).permute(2, 0, 1)):
            metric = IdentitySimilarity(backend=ColourFaces())
            metric.update(frames, reference)
            assert float(metric.compute()) == pytest.approx(expected, abs=1e-3)
    faces_only = IdentitySimilarity("faces_only", backend=ColourFaces())
    faces_only.update(TWO, PERSON)
    assert float(faces_only.compute()) == pytest.approx(1.5 * expected, abs=1e-3)
    largest = IdentitySimilarity("largest", backend=ColourFaces())
    largest.update(TWO, PERSON)
    assert float(largest.compute()) == pytest.approx(
        (cosine(GREEN, RED) + cosine(MIXED, RED)) / 3, abs=1e-3
    )


def test_a_batch_is_the_mean_of_its_videos():
    other = drawn([(GREEN, 3, 3, 12)], [(GREEN, 5, 5, 12)], [(GREEN, 9, 9, 12)])
    green = drawn([(GREEN, 10, 10, 12)])[0]
    single = IdentitySimilarity(backend=ColourFaces())
    single.update(TWO, PERSON)
    single.update(other, green)
    batch = IdentitySimilarity(backend=ColourFaces())
    batch.update(np.stack([TWO, other]) / 255, np.stack([PERSON, green]))
    assert float(batch.compute()) == pytest.approx(float(single.compute()))
    assert int(batch.videos) == 2
    shared = IdentitySimilarity(backend=ColourFaces())
    shared.update([TWO, other], PERSON)  # one reference for all
    assert float(shared.compute()) < float(batch.compute())
    with pytest.raises(MetricsError, match="2 videos and 3 of references"):
        batch.update([TWO, other], np.stack([PERSON] * 3))


def test_several_people_are_matched_one_to_one():
    green = drawn([(GREEN, 10, 10, 12)])[0]
    metric = IdentitySimilarity(backend=ColourFaces())
    metric.update(TWO[:1], [PERSON, green])
    assert float(metric.compute()) == pytest.approx(1, abs=1e-3)


def test_embeddings_are_normalised_and_may_be_one_or_many():
    r = torch.tensor([0.0, 20.0])
    for frames in (r, r[None], torch.stack([r, 3 * r]), [r, 2 * r[None]], (7 * r).numpy()):
        metric = IdentitySimilarity()
        metric.update(frames, 20 * r)
        assert float(metric.compute()) == pytest.approx(1)
    batch = IdentitySimilarity()
    batch.update(torch.stack([torch.stack([r, r]), torch.stack([r, r.flip(0)])]), r)
    assert float(batch.compute()) == pytest.approx(0.75)
    with pytest.raises(MetricsError, match="zero or not finite"):
        IdentitySimilarity().update(torch.zeros(2, 4), torch.ones(4))
    with pytest.raises(MetricsError, match="no backend"):
        IdentitySimilarity().update(TWO, PERSON)
    with pytest.raises(MetricsError, match="needs a reference"):
        IdentitySimilarity(backend=ColourFaces()).measure(
            next(IdentitySimilarity(backend=ColourFaces()).videos_of(TWO))
        )


def test_the_backends_own_people():
    pytest.importorskip("dlib")
    photo = group_photo(960)
    metric = IdentitySimilarity(backend="dlib")
    metric.update(np.stack([photo, photo]) / 255, photo)
    assert float(metric.compute()) == pytest.approx(1, abs=1e-5)


def test_every_face_metric_takes_raw_frames():
    faces = ColourFaces()
    rate = FaceRate(backend=faces)
    rate.update(TWO)
    assert float(rate.compute()) == pytest.approx(2 / 3)
    along = IdentityConsistency(backend=faces)
    along.update(TWO, reference=PERSON)
    assert float(along.compute()) == pytest.approx(cosine(MIXED, RED) / 2, abs=1e-3)
    assert float(along.share) == 0.5
    copied = CopyPaste(backend=faces)
    target = drawn([(GREEN, 5, 5, 12)])
    copied.update(drawn([(RED, 8, 8, 12)]), target, PERSON)
    copied.update(target, target, PERSON)
    assert float(copied.compute()) == pytest.approx(0, abs=1e-3)
    pasted = CropSimilarity(backend=faces)
    pasted.update(PERSON[None], PERSON)
    assert float(pasted.compute()) == pytest.approx(1, abs=1e-2)
    turned = PoseDifference(backend=faces)
    turned.update(PERSON[None], PERSON)
    assert float(turned.compute()) == pytest.approx(0, abs=1e-4)
    around = BackgroundSimilarity(backend=faces)
    around.update(TWO, PERSON)
    assert float(around.compute()) == pytest.approx(1)


def test_alone_a_metric_says_what_the_suite_says(tmp_path, monkeypatch):
    blocks = np.random.default_rng(0).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    texture = cv2.resize(blocks, (64, 64))
    path = write_video(
        tmp_path / "a.mp4", np.stack([np.roll(texture, 2 * i, axis=1) for i in range(12)]), fps=8
    )
    names = ["temporal.flicker", "temporal.warping_error.dis", "temporal.dynamic_degree.dis"]
    names.append("faces.rate.facenet")
    rows = MetricSuite(names, num_frames=5).score([VideoItem(path, "a")])
    suite = {row.metric: row.value for row in rows}
    from metrics import read_clip

    clip = read_clip(path).frames
    alone = (TemporalFlicker(), WarpingError(), DynamicDegree(), FaceRate("facenet", num_frames=5))
    for name, metric in zip(names, alone):
        metric.update(clip, **({"fps": 8.0} if name.startswith("temporal.dynamic") else {}))
        assert float(metric.compute()) == pytest.approx(suite[name], rel=1e-12)
    assert (clip.shape[0], alone[3].indices(12).tolist()) == (12, [0, 2, 5, 8, 11])


# --- collections, forward, copies ----------------------------------------------------------------


def test_in_a_collection_each_gives_what_it_gives_alone():
    r = torch.tensor([1.0, 0.0])
    first = [r[None], torch.stack([r, r])]  # all three agree on the first video
    second = [torch.tensor([[0.6, 0.8]]), torch.zeros(0, 2), torch.stack([r.flip(0), r])]
    of = ("all_frames", "faces_only", "largest")
    alone = {name: IdentitySimilarity(name) for name in of}
    together = MetricCollection({name: IdentitySimilarity(name) for name in of})
    for video in (first, second):
        together.update(video, r)
        for metric in alone.values():
            metric.update(video, r)
    values = {name: float(metric.compute()) for name, metric in alone.items()}
    assert len({round(v, 6) for v in values.values()}) == 3
    assert {n: float(v) for n, v in together.compute().items()} == pytest.approx(values)


def test_networks_of_one_name_share_no_state_in_a_collection():
    class Greener(ColourFaces):
        version = "2"

        def embed(self, crops):
            rows = super().embed(crops) + torch.tensor([0.0, 1.0, 0.0])
            return rows / rows.norm(dim=1, keepdim=True)

    together = MetricCollection(
        {
            "as it is": IdentitySimilarity(backend=ColourFaces()),
            "greener": IdentitySimilarity(backend=Greener()),
        }
    )
    for video in (np.zeros_like(TWO), TWO):  # both give 0 where nobody is to be seen
        together.update(frames=video, reference=PERSON)
    alone = {name: metric.clone() for name, metric in together.items(copy_state=False)}
    for metric in alone.values():
        metric.reset()
        metric.update(np.zeros_like(TWO), PERSON)
        metric.update(TWO, PERSON)
    found = {name: float(metric.compute()) for name, metric in alone.items()}
    assert found["as it is"] != pytest.approx(found["greener"])
    assert {n: float(v) for n, v in together.compute().items()} == pytest.approx(found)


def test_metrics_of_other_kinds_share_no_state_either():
    still = np.zeros((3, 8, 8, 3), np.uint8)
    clip = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)
    together = MetricCollection(
        {"flicker": TemporalFlicker(), "moves": DynamicDegree(), "warp": WarpingError()}
    )
    alone = [TemporalFlicker(), DynamicDegree(), WarpingError()]
    for video in (still, clip):
        together.update(frames=video, fps=8.0)
        alone[0].update(video)
        alone[1].update(video, 8.0)
        alone[2].update(video)
    found = together.compute()
    assert [float(found[n]) for n in ("flicker", "moves", "warp")] == pytest.approx(
        [float(m.compute()) for m in alone]
    )


def test_metrics_on_the_same_features_share_them_and_on_others_do_not():
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    together = MetricCollection(
        {"n": FrechetDistance("f", ddof=0), "n-1": FrechetDistance("f"), "k": KernelDistance("f")}
    )
    together.update(x, real=True)
    together.update(x + 1, real=False)
    found = {name: float(value) for name, value in together.compute().items()}
    assert found["n"] == pytest.approx(frechet_distance(x + 1, x, ddof=0))
    assert found["n-1"] == pytest.approx(frechet_distance(x + 1, x))
    assert found["k"] == pytest.approx(kernel_distance(x + 1, x))


def test_forward_goes_chunk_by_chunk():
    clip = np.random.default_rng(0).integers(0, 255, (7, 16, 16, 3), np.uint8)
    rows = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    cases = [
        (TemporalFlicker, clip, {}),
        (WarpingError, clip, {}),
        (DynamicDegree, clip, {"fps": 8.0}),
        (FeatureConsistency, rows, {}),
        (IdentityConsistency, rows, {}),
    ]
    for make, data, more in cases:
        whole, chunked = make(), make()
        whole.update(data, **more)
        for start in (0, 3, 5):
            so_far = chunked(
                data[start : start + (3 if start == 0 else 2)], start=start == 0, **more
            )
            expected = make()
            expected.update(data[: start + (3 if start == 0 else 2)], **more)
            assert float(so_far) == pytest.approx(float(expected.compute()), rel=1e-6)
        assert float(chunked.compute()) == pytest.approx(float(whole.compute()), rel=1e-6)
        assert int(chunked.videos) == 1
    both = IdentitySimilarity()
    assert float(both(torch.eye(2)[0], torch.eye(2)[0])) == 1
    assert float(both(torch.eye(2)[1], torch.eye(2)[0])) == 0
    assert float(both.compute()) == 0.5


def test_forward_of_a_distance_is_of_all_that_was_seen():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    metric = FrechetDistance("f")
    assert torch.isnan(metric(x, real=True))
    assert float(metric(x + 1, real=False)) == pytest.approx(frechet_distance(x + 1, x))
    metric(x - 1, real=False)
    both = torch.cat([x + 1, x - 1])
    assert float(metric.compute()) == pytest.approx(frechet_distance(both, x))


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (lambda: IdentitySimilarity(backend=ColourFaces()), (TWO, PERSON)),
        (lambda: TemporalFlicker(), (TWO,)),
        (lambda: WarpingError(flow="dis"), (TWO,)),
        (lambda: FrechetDistance("f"), (torch.rand(4, 3), True)),
    ],
)
def test_copies_and_pickles_go_on_by_themselves(make, data):
    metric = make()
    metric.update(*data)
    for copy in (metric.clone(), pickle.loads(pickle.dumps(metric))):
        before = {name: str(getattr(copy, name)) for name in copy._defaults}
        assert before == {name: str(getattr(metric, name)) for name in metric._defaults}
        copy.update(*data)
        copy.reset()
    again = pickle.loads(pickle.dumps(metric))
    again.update(*data)
    if not isinstance(metric, FrechetDistance):
        assert float(again.compute()) == pytest.approx(float(metric.compute()))
        assert int(again.videos) == 2
        assert int(metric.videos) == 1


def test_a_clone_of_a_named_backend_shares_its_networks():
    metric = FaceRate("facenet")
    assert metric.clone().models is metric.models


# --- several processes ---------------------------------------------------------------------------


def _rank(rank, meeting, out):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2
    )
    metrics = [FrechetDistance("f"), KernelDistance("f"), IdentitySimilarity(), TemporalFlicker()]
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if rank == 0:  # the other has no samples at all
        for metric in metrics[:2]:
            metric.update(x[:6], real=True)
            metric.update(x[6:] + 1, real=False)
        metrics[2].update(x[:1], x[1])
        metrics[3].update(TWO)
    torch.save(torch.stack([m.compute().double() for m in metrics]), f"{out}{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_a_rank_without_samples_gives_the_number_of_one_process(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path / "meet"), str(tmp_path / "rank")), nprocs=2)
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    identity, flicker = IdentitySimilarity(), TemporalFlicker()
    identity.update(x[:1], x[1])
    flicker.update(TWO)
    expected = [
        frechet_distance(x[6:] + 1, x[:6]),
        kernel_distance(x[6:] + 1, x[:6]),
        float(identity.compute()),
        float(flicker.compute()),
    ]
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}", weights_only=True)
        assert found.tolist() == pytest.approx(expected)


# --- sets of raw videos --------------------------------------------------------------------------


class MeanVideo:
    """A video network: the mean colour of the first and of the last frame it is shown."""

    name, version = "mean", "1"

    def encode(self, videos):
        return torch.from_numpy(videos[:, [0, -1]]).double().mean(dim=(2, 3)).flatten(1)


def test_frames_of_a_named_network_go_in_raw(monkeypatch):
    from metrics.features import clips

    monkeypatch.setitem(clips.ENCODERS, "mean", clips.VideoEncoder(lambda models: MeanVideo()))
    videos = np.random.default_rng(0).integers(0, 255, (6, 40, 8, 8, 3), np.uint8)
    for make in (FVD, KVD):
        metric = make("mean")
        metric.update(videos[:3], real=True)
        for video in videos[3:]:
            metric.update(video / 255, real=False)
        features = MeanVideo().encode(videos[:, :16])
        distance = metric.distance(features[3:], features[:3])
        assert float(metric.compute()) == pytest.approx(distance)
        assert "16 consecutive frames" in metric.result().remark
    spread = FVD("mean", window=Window(frames=4, stride=10))
    spread.update(videos[:3], real=True)
    spread.update(videos[3:], real=False)
    features = MeanVideo().encode(videos[:, [0, 10, 20, 30]])
    assert float(spread.compute()) == pytest.approx(
        frechet_distance(features[3:], features[:3], ddof=0)
    )
    assert "stride 10" in spread.result().remark
    assert spread.version != FVD("mean").version


def test_what_has_no_network_says_so():
    with pytest.raises(MetricsError, match="no video network is called 'i4d'"):
        FVD("i4d")
    with pytest.raises(MetricsError, match="a name only"):
        FrechetDistance("pixels").update(np.zeros((2, 4, 8, 8, 3), np.uint8), real=True)
    with pytest.raises(MetricsError, match="inception-2015"):
        FID()
    with pytest.raises(MetricsError, match="clip-vit-base-patch32"):
        CLIPScore()
    with pytest.raises(MetricsError, match="no model for raw frames"):
        FeatureConsistency().update(TWO)
