"""ConsisID's and OpenS2V-Eval's procedures, against a plain restatement one frame at a time."""

import cv2
import numpy as np
import pytest
import torch
from insightface.utils.face_align import norm_crop
from PIL import Image
from torchvision import transforms
from torchvision.models import inception_v3

from metrics.features.face_backends.curricularface import ImprovedResNet
from metrics.features.protocol import ConsisIDInception, CurricularEmbedder, ProtocolFaces
from metrics.protocols import (
    clip_frames,
    clip_score_bgr,
    consisid_fid,
    consisid_frames,
    consisid_similarity,
    opens2v_frames,
    opens2v_similarity,
)
from tests.media.clips import group_photo


class Analyser:
    """MTCNN for detection and a fixed projection of pixels for ArcFace: both real functions."""

    def __init__(self, blind=False):
        from metrics.features.face_backends.facenet import FacenetFaces

        self.backend = FacenetFaces(detect_size=320)
        self.projection = np.random.default_rng(0).normal(size=(14 * 14 * 3, 512)).astype("f4")
        self.blind = blind
        self.calls = 0

    def detect(self, image_bgr):
        self.calls += 1
        if self.blind and (image_bgr[0, 0] != 128).any():  # sees faces in padded images only
            return np.zeros((0, 4)), np.zeros((0, 5, 2))
        faces = self.backend.detect(np.ascontiguousarray(image_bgr[None, ..., ::-1]))[0]
        return faces.boxes.numpy(), faces.landmarks.numpy()

    def embed(self, crops_bgr):
        small = np.stack([cv2.resize(c, (14, 14)).reshape(-1) for c in crops_bgr])
        return (small / 127.5 - 1).astype("f4") @ self.projection


# --- the restatement: one image, one face, one forward pass at a time ---------------------------


def slow_face(analyser, image_rgb):
    bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    seen, offset = bgr, np.zeros(2)
    boxes, points = analyser.detect(seen)
    if len(boxes) == 0:
        height, width = bgr.shape[:2]
        top, left = int(height * 0.25), int(width * 0.25)
        seen = cv2.copyMakeBorder(
            bgr, top, top, left, left, cv2.BORDER_CONSTANT, value=(128, 128, 128)
        )
        offset = np.array([left, top])
        boxes, points = analyser.detect(seen)
        if len(boxes) == 0:
            return None
    order = sorted(
        range(len(boxes)),
        key=lambda k: (boxes[k][2] - boxes[k][0]) * (boxes[k][3] - boxes[k][1]),
    )
    landmarks = points[order[-1]]
    arcface = analyser.embed([norm_crop(seen, landmarks, image_size=112)])[0]
    aligned = norm_crop(bgr, landmarks - offset, image_size=224)
    return arcface, cv2.cvtColor(aligned, cv2.COLOR_BGR2RGB)


def slow_curricular(network, aligned):
    image = np.transpose(cv2.resize(aligned, (112, 112)), (2, 0, 1))
    tensor = torch.from_numpy(image)[None].float().div_(255).sub_(0.5).div_(0.5)
    with torch.no_grad():
        embedding = network(tensor).numpy()[0]
    return embedding / np.linalg.norm(embedding)


def slow_inception(network, aligned):
    image = transforms.Resize((299, 299))(Image.fromarray(aligned))
    with torch.no_grad():
        activation = network(transforms.ToTensor()(image)[None]).numpy()
    return np.repeat(activation, 2, axis=0)


def slow_fid(real, fake):
    from scipy.linalg import sqrtm

    a, b = np.cov(real.T), np.cov(fake.T)
    mean = np.square(real.mean(0) - fake.mean(0)).sum()
    return mean + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def slow_consisid(embeddings, reference):
    scores = []
    for embedding in embeddings:
        if embedding is None:
            continue
        scores.append(max(0.0, cosine(reference, embedding)))
    return np.mean(scores) if scores else 0.0


def slow_opens2v(cur, arc, cur_reference, arc_reference):
    cur_scores, arc_scores = [], []
    for a, b in zip(cur, arc):
        if a is None:
            continue
        cur_score = max(0.0, cosine(cur_reference, a))
        arc_score = max(0.0, cosine(arc_reference, b))
        if cur_score != 0.0:
            cur_scores.append(cur_score)
        if arc_scores != 0.0:  # the published test: a list is never equal to 0
            arc_scores.append(arc_score)
    return (
        np.mean(cur_scores) if cur_scores else 0.0,
        np.mean(arc_scores) if arc_scores else 0.0,
    )


# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = ImprovedResNet((1, 1, 1, 1)).eval()
    yield network
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    torch.manual_seed(0)
    network = inception_v3(weights=None, init_weights=False, transform_input=True)
    path = tmp_path_factory.mktemp("inception") / "inception_v3_google-0cc3c7bd.pth"
    torch.save(network.state_dict(), path)
    network.fc = torch.nn.Identity()
    return network.eval(), ConsisIDInception(path)


@pytest.fixture(scope="module")
def frames():
    photo = group_photo(480)
    left, right = photo[:, :240], photo[:, 240:480]
    empty = np.full_like(left, 90)
    return [np.ascontiguousarray(f) for f in (left, empty, right, left[:, ::-1])]


def test_faces_agree_with_the_restatement(models, frames):
    analyser = Analyser()
    faces = ProtocolFaces(analyser)(frames)
    curricular = CurricularEmbedder(models)
    assert [f is None for f in faces] == [False, True, False, False]
    for face, frame in zip(faces, frames):
        expected = slow_face(analyser, frame)
        if face is None:
            assert expected is None
            continue
        np.testing.assert_allclose(face.arcface, expected[0], atol=0.5)
        difference = np.abs(face.aligned.astype(int) - expected[1])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3
        mine = curricular(face.aligned[None])[0].numpy()
        np.testing.assert_allclose(mine, slow_curricular(models, face.aligned), atol=1e-5)


def test_videos_agree_with_the_restatement(models, frames):
    analyser = Analyser()
    embed = CurricularEmbedder(models)
    faces = ProtocolFaces(analyser)(frames)
    slow = [slow_face(analyser, frame) for frame in frames]
    arc = [None if f is None else f.arcface for f in faces]
    cur = [None if f is None else embed(f.aligned[None])[0] for f in faces]
    slow_arc = [None if f is None else f[0] for f in slow]
    slow_cur = [None if f is None else slow_curricular(models, f[1]) for f in slow]
    assert consisid_similarity(arc, arc[0]) == pytest.approx(
        slow_consisid(slow_arc, slow_arc[0]), abs=1e-3
    )
    assert consisid_similarity(cur, cur[0]) == pytest.approx(
        slow_consisid(slow_cur, slow_cur[0]), abs=1e-3
    )
    expected = slow_opens2v(slow_cur, slow_arc, slow_cur[0], slow_arc[0])
    assert opens2v_similarity(cur, cur[0], drop_zeros=True) == pytest.approx(expected[0], abs=1e-3)
    assert opens2v_similarity(arc, arc[0], drop_zeros=False) == pytest.approx(expected[1], abs=1e-3)


def test_a_face_that_is_only_found_with_a_border_is_cut_from_both_images(models, frames):
    analyser = Analyser(blind=True)
    face = ProtocolFaces(analyser)(frames[:1])[0]
    assert analyser.calls == 2
    expected = slow_face(analyser, frames[0])
    np.testing.assert_allclose(face.arcface, expected[0], atol=0.5)
    assert np.abs(face.aligned.astype(int) - expected[1]).max() <= 1


def test_fid_is_the_squared_distance_of_unnormalised_inception_features(inception, frames):
    slow_network, fast = inception
    aligned = np.stack([cv2.resize(f, (224, 224)) for f in (frames[0], frames[2])])
    features = fast(aligned)
    slow = [slow_inception(slow_network, face) for face in aligned]
    np.testing.assert_allclose(features.numpy(), [s[0] for s in slow], rtol=1e-4, atol=1e-4)
    mine = consisid_fid([features[1], None], features[0])
    assert mine == pytest.approx(np.square(slow[0][0] - slow[1][0]).sum(), rel=1e-3)
    # the whole published formula on a slice of the features: its covariance terms are 0
    real, fake = (s[:, :50].astype(float) for s in slow)
    assert slow_fid(real, fake) == pytest.approx(np.square(real[0] - fake[0]).sum())


def test_frames_that_are_sampled():
    for count in (1, 5, 16, 105, 244):
        assert consisid_frames(count).tolist() == np.linspace(0, count - 1, 16, dtype=int).tolist()
        assert opens2v_frames(count).tolist() == np.linspace(0, count - 1, 32, dtype=int).tolist()
        assert clip_frames(count).tolist() == [int(i * count / 16) for i in range(16)]
    assert clip_frames(160)[-1] == 150  # the last tenth is never looked at


def test_quirk_frames_without_a_face_are_skipped_and_negatives_clamped():
    e = torch.tensor([1.0, 0.0])
    assert consisid_similarity([e, None, None], e) == 1.0
    assert consisid_similarity([e, -e], e) == 0.5
    assert consisid_similarity([None], e) == 0.0
    assert consisid_fid([None], e) == 0.0  # the best value there is


def test_quirk_opens2v_drops_zeros_from_cur_but_not_from_arc():
    e = torch.tensor([1.0, 0.0])
    assert opens2v_similarity([e, -e, None], e, drop_zeros=True) == 1.0
    assert opens2v_similarity([e, -e, None], e, drop_zeros=False) == 0.5
    assert opens2v_similarity([-e], e, drop_zeros=True) == 0.0


def test_clip_score_is_the_mean_logit_and_may_be_negative():
    text = torch.tensor([[1.0, 0.0]])
    rows = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [-3.0, 0.0]])
    assert clip_score_bgr(rows, text) == pytest.approx(-25)
