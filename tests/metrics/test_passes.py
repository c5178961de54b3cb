"""What a pass costs: one detection and one embedding per frame and network, whoever asks."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from media.video import VideoReader
from metrics import MetricSuite, VideoItem
from metrics.features import base
from metrics.features.face_backends import FACE_BACKENDS, FaceFacts, Faces
from metrics.features.face_backends.base import align_five_points
from metrics.features.face_backends.curricularface import ImprovedResNet
from metrics.features.protocol import ProtocolFaces, ProtocolFacesFeature
from metrics.protocols import consisid_frames, opens2v_frames
from tests.media.clips import write_video

FRAMES = 50
SEEN: Counter = Counter()
POINTS = np.array([[20, 24], [44, 24], [32, 36], [23, 48], [41, 48]], dtype=np.float32)


class Pack:
    """Stands for InsightFace: one face in every frame, and its mean colours for an embedding."""

    name, version, crop_size = "insightface", "1", 112
    facts = FaceFacts()

    @classmethod
    def load(cls, device, weights):
        SEEN["loaded"] += 1
        return cls()

    def detect(self, frames):
        SEEN["detected"] += len(frames)
        box = torch.tensor([[10.0, 10, 54, 54]])
        return [Faces(box, torch.from_numpy(POINTS)[None], torch.ones(1)) for _ in frames]

    def align(self, frame, faces):
        return align_five_points(frame, faces, 112)

    def embed(self, crops):
        SEEN["arcface"] += len(crops)
        rows = torch.from_numpy(crops).float().mean(dim=(1, 2)) + 1
        return rows / rows.norm(dim=-1, keepdim=True)


class Analyser:
    def detect(self, image):
        SEEN["protocol detected"] += 1
        return np.array([[10.0, 10, 54, 54]]), POINTS[None]

    def embed(self, crops):
        SEEN["protocol arcface"] += len(crops)
        return np.stack([c.mean(axis=(0, 1)) for c in crops]).astype("f4")


class Counted(ImprovedResNet):
    def forward(self, x):
        SEEN["ir101"] += len(x)
        SEEN["ir101 passes"] += 1
        return super().forward(x)


@pytest.fixture
def networks(monkeypatch, tmp_path):
    """Stand-ins that count, under the names of the networks."""
    torch.manual_seed(0)
    small = Counted((1, 1, 1, 1)).eval()
    module = "metrics.features.face_backends.curricularface.load_ir101"
    monkeypatch.setattr(module, lambda path, device: small)
    monkeypatch.setitem(FACE_BACKENDS, "insightface", f"{__name__}:Pack")
    faces = ProtocolFacesFeature(ProtocolFaces(Analyser()), "counted")
    entry = (base._BUILDERS["protocol.faces"][0], lambda models: faces)
    monkeypatch.setitem(base._BUILDERS, "protocol.faces", entry)
    for name in ("pack", "ir101.bin"):
        (tmp_path / name).write_bytes(b"stands for weights")
    return {"insightface.buffalo_l": tmp_path, "curricularface.ir101": tmp_path / "ir101.bin"}


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3), dtype=np.uint8)
    write_video(folder / "a.mp4", frames)
    Image.fromarray(frames[0]).save(folder / "reference.png")
    return VideoItem(folder / "a.mp4", "a", references=(folder / "reference.png",))


def score(names, weights, item, **options):
    SEEN.clear()
    suite = MetricSuite(names, weights=weights, **options)
    assert not suite.absent, suite.absent
    rows = suite.score([item])
    assert all(r.status == "ok" for r in rows), [r.reason for r in rows]
    return {r.metric: r.value for r in rows}


def test_two_recognisers_on_one_detector_detect_each_frame_once(networks, item):
    alone = score(["identity.curricularface"], networks, item, num_frames=8)
    assert (SEEN["detected"], SEEN["loaded"]) == (8 + 1, 1)  # eight frames and the reference
    names = ["identity.insightface", "identity.curricularface", "faces.rate.insightface"]
    both = score(names, networks, item, num_frames=8)
    assert (SEEN["detected"], SEEN["loaded"]) == (8 + 1, 1)
    assert SEEN["arcface"] == SEEN["ir101"] == 8 + 1
    assert both["identity.curricularface"] == alone["identity.curricularface"]


def test_a_protocol_costs_the_frames_that_it_adds(networks, item):
    consisid = score(["consisid.face_arc", "consisid.face_cur"], networks, item)
    first, second = set(consisid_frames(FRAMES)), set(opens2v_frames(FRAMES))
    for network in ("protocol detected", "protocol arcface", "ir101"):
        assert SEEN[network] == len(first) + 1, network
    names = [*consisid, "opens2v.facesim_arc", "opens2v.facesim_cur"]
    both = score(names, networks, item)
    for network in ("protocol detected", "protocol arcface", "ir101"):
        assert SEEN[network] == len(first | second) + 1, network
    for name, value in consisid.items():
        assert both[name] == pytest.approx(value, abs=1e-6)


def test_networks_of_faces_alone_wait_for_the_video_and_read_no_frame(
    networks, item, tmp_path, monkeypatch
):
    """Frames come few at a time; IR-101 sees their faces together, at the same scores."""
    names = ["consisid.face_cur", "opens2v.facesim_cur", "temporal.flicker"]
    whole = score(names, networks, item)

    class Slow(VideoReader):
        def stream(self, indices=None, chunk=None):
            for part, frames in super().stream(indices, chunk=3):
                SEEN["read"] += len(frames)
                yield part, frames

    monkeypatch.setattr("metrics.passes.VideoReader", Slow)
    monkeypatch.setattr("metrics.passes._BATCH_FRAMES", 3)
    taken = len(set(consisid_frames(FRAMES)) | set(opens2v_frames(FRAMES)))
    parts = score(names, networks, item, cache=tmp_path / "cache")
    assert (SEEN["ir101"], SEEN["ir101 passes"]) == (taken + 1, -(-taken // 16) + 1)
    assert parts == pytest.approx(whole, abs=1e-6)

    score(["consisid.face_arc", "opens2v.facesim_arc"], networks, item, cache=tmp_path / "other")
    assert SEEN["read"] == taken
    assert score(names[:2], networks, item, cache=tmp_path / "other") == pytest.approx(
        {name: whole[name] for name in names[:2]}, abs=1e-6
    )
    assert (SEEN["read"], SEEN["ir101"]) == (0, taken + 1)
