"""The miniature's judges reach a floor on people whom they weren't trained on.

The full measurement is `miniature.judges.validate`; the floors here are well below its
numbers, so that a small sample passes and a broken judge doesn't.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.ops import box_iou

from metrics.errors import MetricsError
from metrics.features.face_backends.base import FaceBackend, Faces
from metrics.frechet import frechet_distance
from metrics.text import VideoTextModel
from miniature import identity_encoder
from miniature.errors import MiniatureError
from miniature.identity_encoder import load_identity_encoder
from miniature.judges import networks
from miniature.judges.attributes import MiniatureAttributes, agreement, parse_prompt
from miniature.judges.damage import blur, freeze, shuffle
from miniature.judges.faces import MiniatureFaces
from miniature.judges.rendered import backgrounds
from miniature.judges.text import MiniatureTextVideo, tokenize
from miniature.judges.validate import FAULTS, card, verification
from miniature.judges.video import MiniatureVideo
from miniature.words import FIELDS
from miniature.world import World, render_portrait
from stdrc.training.objectives import face_crops

PEOPLE, CLIPS = 32, 2


@dataclass
class Sample:
    frames: np.ndarray  # [64, 9, 64, 64, 3], two clips of each of 32 test identities
    boxes: np.ndarray
    landmarks: np.ndarray
    identity: np.ndarray
    captions: list[str]
    attributes: list[dict[str, str]]


@pytest.fixture(scope="module")
def sample() -> Sample:
    clips = list(World("test", size=PEOPLE * CLIPS, seed=9, clips_per_identity=CLIPS))
    return Sample(
        np.stack([c.frames for c in clips]),
        np.stack([c.boxes for c in clips]),
        np.stack([c.landmarks for c in clips]),
        np.array([c.identity.seed for c in clips]),
        [c.caption for c in clips],
        [c.attributes.as_dict() for c in clips],
    )


@pytest.fixture(scope="module")
def faces() -> MiniatureFaces:
    return MiniatureFaces()


@pytest.fixture(scope="module")
def text() -> MiniatureTextVideo:
    return MiniatureTextVideo()


# -- faces -----------------------------------------------------------------------------------------
def test_faces_are_found_where_they_are(sample: Sample, faces: MiniatureFaces):
    assert isinstance(faces, FaceBackend)
    frames = sample.frames[:, ::4].reshape(-1, 64, 64, 3)
    found = faces.detect(frames)
    assert np.mean([len(f) == 1 for f in found]) > 0.97
    seen = [i for i, f in enumerate(found) if len(f)]
    boxes = torch.from_numpy(sample.boxes[:, ::4].reshape(-1, 4)[seen]).float()
    points = torch.from_numpy(sample.landmarks[:, ::4].reshape(-1, 5, 2)[seen]).float()
    assert box_iou(torch.cat([found[i].boxes for i in seen]), boxes).diagonal().mean() > 0.8
    off = (torch.cat([found[i].landmarks for i in seen]) - points).norm(dim=-1)
    assert off.mean() < 1.5


def test_no_face_is_seen_where_there_is_none(sample: Sample, faces: MiniatureFaces, tmp_path: Path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, 64, 64, 3), np.uint8)
    flat = np.full((4, 64, 64, 3), [[[[200, 90, 30]]]], np.uint8)
    scrambled = sample.frames[:16, 0].reshape(16, 4, 16, 4, 16, 3).transpose(0, 1, 3, 2, 4, 5)
    scrambled = scrambled.reshape(16, 16, 16, 16, 3)[:, rng.permutation(16)]
    scrambled = scrambled.reshape(16, 4, 4, 16, 16, 3).transpose(0, 1, 3, 2, 4, 5)
    empty = np.concatenate(
        [noise, flat, scrambled.reshape(16, 64, 64, 3), backgrounds(tmp_path, 30, 8)]
    )
    assert np.mean([len(found) for found in faces.detect(empty)]) < 0.05


def test_boxes_come_back_in_the_frames_own_pixels(sample: Sample, faces: MiniatureFaces):
    small = sample.frames[0]
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    for one, two in zip(faces.detect(small), faces.detect(large)):
        assert torch.allclose(2 * one.boxes, two.boxes, atol=2)
        assert torch.allclose(2 * one.landmarks, two.landmarks, atol=2)
        crops = [faces.align(f, found) for f, found in ((small[0], one), (large[0], two))]
        assert crops[0].shape == crops[1].shape == (1, 48, 48, 3)


def test_identity_survives_another_scene(sample: Sample, faces: MiniatureFaces):
    frames = sample.frames[:, 4]
    found = faces.detect(frames)
    seen = np.array([i for i, f in enumerate(found) if len(f)])
    crops = np.concatenate([faces.align(frames[i], found[i]) for i in seen])
    embeddings = faces.embed(crops)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(seen)), atol=1e-5)
    numbers = _verify(embeddings, sample.identity[seen])
    assert numbers["roc_auc"] > 0.98
    assert numbers["mean_same"] > numbers["mean_stranger"] + 0.3


def _verify(embeddings: torch.Tensor, identity: np.ndarray) -> dict[str, float]:
    cosine = (embeddings @ embeddings.T).numpy()
    upper = np.triu(np.ones(cosine.shape, bool), 1)
    same = identity[:, None] == identity[None]
    return verification(cosine[upper & same], cosine[upper & ~same])


def test_verification_on_known_scores():
    numbers = verification(np.array([0.9, 0.5, 0.1]), np.array([0.4, 0.2, 0.0, 0.3]))
    assert numbers["roc_auc"] == pytest.approx(9 / 12)
    assert numbers["tar_at_far_1e-3"] == pytest.approx(2 / 3)
    assert verification(np.ones(3), np.zeros(3))["roc_auc"] == 1


def test_no_frames_and_no_faces(faces: MiniatureFaces):
    assert faces.detect(np.zeros((0, 64, 64, 3), np.uint8)) == []
    assert faces.align(np.zeros((64, 64, 3), np.uint8), Faces.none()).shape == (0, 48, 48, 3)
    assert faces.embed(np.zeros((0, 48, 48, 3), np.uint8)).shape == (0, 128)


def test_wrong_input_is_said(faces: MiniatureFaces, text: MiniatureTextVideo):
    with pytest.raises(MetricsError, match="uint8"):
        faces.detect(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(MetricsError, match=r"choose one in 0\.\.1"):
        MiniatureFaces(threshold=2)
    with pytest.raises(MetricsError, match=r"shape \[B, T, H, W, 3\]"):
        text.encode_video(np.zeros((9, 64, 64, 3), np.uint8))
    with pytest.raises(MetricsError, match="as many prompts"):
        text.align(np.zeros((2, 9, 64, 64, 3), np.uint8), ["a person"])


# -- text, attributes, features --------------------------------------------------------------------
def test_captions_find_their_clips(sample: Sample, text: MiniatureTextVideo):
    assert isinstance(text, VideoTextModel)
    right = []
    for half in (slice(0, 64, 2), slice(1, 64, 2)):  # 32 clips, one of each identity
        cosine = text.encode_text(sample.captions[half]) @ text.encode_video(sample.frames[half]).T
        right += (cosine.argmax(1) == torch.arange(32)).tolist()
    assert np.mean(right) > 0.85


def test_alignment_falls_with_another_prompt(sample: Sample, text: MiniatureTextVideo):
    own = text.align(sample.frames[:16], sample.captions[:16])
    other = text.align(sample.frames[:16], sample.captions[16:32])
    assert np.mean([a.video for a in own]) > np.mean([a.video for a in other]) + 20
    assert own[0].tokens == len(tokenize([sample.captions[0]])[0].nonzero())


def test_order_of_words_counts(text: MiniatureTextVideo):
    one, two = text.encode_text(
        [
            "a person nods before a red wall, in a blue hat",
            "a person nods before a blue wall, in a red hat",
        ]
    )
    assert one @ two < 0.8


def test_attributes_are_named(sample: Sample):
    seen = MiniatureAttributes().predict(sample.frames)
    for name, floor in (("color", 0.85), ("pattern", 0.85), ("motion", 0.85), ("lighting", 0.75)):
        truth = [a[name] for a in sample.attributes]
        assert set(seen[name]) <= set(FIELDS[name])
        assert np.mean([a == b for a, b in zip(seen[name], truth)]) > floor, name


def test_a_prompt_says_what_it_names():
    said = parse_prompt("Someone, amazed, nods in a red hat against a Green wall with dots.")
    assert said == {
        "color": "green",
        "pattern": "dotted",
        "motion": "nodding",
        "expression": "surprised",
        "hat": "red",
    }
    assert parse_prompt("an astronaut rides a horse") == {}
    assert parse_prompt("") == {}


def test_agreement_counts_only_what_was_said():
    seen = {"color": "red", "pattern": "brick", "motion": "up"}
    assert agreement({"color": "red", "pattern": "waves"}, seen, ("color", "pattern")) == 0.5
    assert agreement({"color": "red"}, seen, ("color", "pattern")) == 1
    assert np.isnan(agreement({"color": "red"}, seen, ("motion",)))


def test_the_frechet_distance_rises_with_damage(sample: Sample):
    """Against the same clips undamaged: between 64 clips of strangers, what samples of that size
    differ by (about 60) would drown the weakest faults. `validate_judges` measures strangers, 512
    against 512, where every fault rises at each of five levels."""
    judge = MiniatureVideo()
    truth = judge.encode(sample.frames)
    assert truth.shape == (len(sample.frames), judge.dimensions)

    def distance(clips: np.ndarray) -> float:
        return float(frechet_distance(truth, judge.encode(clips)))

    rng = np.random.default_rng(0)
    assert distance(sample.frames) == pytest.approx(0, abs=1e-6)
    assert 0.1 < distance(blur(sample.frames, 0.8)) < distance(blur(sample.frames, 2.6))
    assert 0.1 < distance(freeze(sample.frames, 4)) < distance(freeze(sample.frames, 8))
    assert distance(shuffle(sample.frames, 2.0, rng)) > 0.1


def test_the_record_shows_every_fault_rising():
    """The committed measurement at full size, which the model card quotes."""
    record = json.loads((Path(networks.__file__).parent / "validation.json").read_text())
    assert record["faults"]["version"] == MiniatureVideo().version
    curves = record["faults"]["curves"]
    assert set(curves) == set(FAULTS)
    for values in curves.values():
        assert len(values) == 6
        assert all(a < b for a, b in itertools.pairwise(values))


def test_clips_of_other_lengths_and_sizes(sample: Sample):
    clips = networks.fit_clips(np.repeat(sample.frames[:1], 2, axis=1))
    assert clips.shape == (1, 9, 64, 64, 3)
    # linspace(0, 17, 9) over doubled frames
    assert np.array_equal(clips[0, [0, -1]], sample.frames[0, [0, -1]])
    large = sample.frames[:1].repeat(2, axis=2).repeat(2, axis=3)
    assert np.array_equal(networks.fit_clips(large), sample.frames[:1])


# -- weights ---------------------------------------------------------------------------------------
def test_weights_are_small_and_halved():
    files = sorted(networks.WEIGHTS.glob("*.safetensors"))
    assert [f.stem for f in files] == ["detector", "embedder", "familiar", "text", "video"]
    files.append(identity_encoder._WEIGHTS)
    assert sum(f.stat().st_size for f in files) < 5e6
    for file in files:
        kinds = {v.dtype for v in load_file(file).values() if v.is_floating_point()}
        assert kinds == {torch.float16}


def test_missing_and_foreign_weights_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    detector = networks.WEIGHTS / "detector.safetensors"
    (tmp_path / "video.safetensors").write_bytes(detector.read_bytes())
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    with pytest.raises(MetricsError, match="'detector' has no weights"):
        networks.load_weights(networks.Detector(), "detector")
    with pytest.raises(MetricsError, match="doesn't fit VideoNet"):
        networks.load_weights(networks.VideoNet(), "video")
    monkeypatch.setattr(identity_encoder, "_WEIGHTS", tmp_path / "none")
    with pytest.raises(MiniatureError, match="has no weights"):
        load_identity_encoder()
    monkeypatch.setattr(identity_encoder, "_WEIGHTS", tmp_path / "video.safetensors")
    with pytest.raises(MiniatureError, match="doesn't fit"):
        load_identity_encoder()


def test_the_versions_follow_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("detector", "embedder"):
        data = (networks.WEIGHTS / f"{name}.safetensors").read_bytes()
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    before = networks.weights_version("detector", "embedder")
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    networks.weights_version.cache_clear()
    assert networks.weights_version("detector", "embedder") == before
    (tmp_path / "embedder.safetensors").write_bytes(data + b" ")
    networks.weights_version.cache_clear()
    assert networks.weights_version("detector", "embedder") != before
    networks.weights_version.cache_clear()


# -- the generator's own encoder -------------------------------------------------------------------
def test_the_generators_encoder_knows_people_too(sample: Sample):
    encoder = load_identity_encoder()
    frames = torch.from_numpy(sample.frames[:, 4]).permute(0, 3, 1, 2).float() / 127.5 - 1
    boxes = torch.from_numpy(sample.boxes[:, 4]).float()
    embeddings = encoder(face_crops(frames, boxes, encoder.crop_size, margin=0.2))
    assert _verify(embeddings, sample.identity)["roc_auc"] > 0.96


def test_the_generators_encoder_has_gradients_and_takes_any_size():
    encoder = load_identity_encoder()
    pixels = torch.zeros(2, 3, 56, 56).uniform_(-1, 1).requires_grad_()
    found = encoder(pixels)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    (1 - found[0] @ found[1]).backward()
    assert pixels.grad is not None
    assert float(pixels.grad.abs().mean()) > 0
    assert not any(p.requires_grad for p in encoder.parameters())


def test_the_generators_encoder_is_not_the_judge():
    judge = load_file(networks.WEIGHTS / "embedder.safetensors")
    encoder = load_file(identity_encoder._WEIGHTS)
    assert {tuple(v.shape) for v in judge.values() if v.ndim == 4}.isdisjoint(
        tuple(v.shape) for v in encoder.values() if v.ndim == 4
    )


# -- the record ------------------------------------------------------------------------------------
def test_the_record_is_of_these_weights_and_meets_the_targets():
    folder = Path(networks.__file__).parent
    report = json.loads((folder / "validation.json").read_text())
    assert report["faces"]["version"] == MiniatureFaces().version
    assert report["text"]["version"] == networks.weights_version("text")
    assert report["attributes"]["version"] == networks.weights_version("video")
    assert report["faces"]["embedder"]["roc_auc"] > 0.99
    assert report["text"]["text_to_video"] > 0.95
    assert set(report["faults"]["curves"]) == set(FAULTS)
    assert all(report["faults"]["monotone"].values())
    assert (folder / "README.md").read_text() == card(report)


def test_hats_do_not_change_who_it_is(faces: MiniatureFaces):
    from miniature.world import ClipAttributes, Identity

    embeddings = []
    for seed in range(110_000, 110_012):
        for hat in ("none", "blue"):
            frame = render_portrait(Identity.from_seed(seed), ClipAttributes(hat=hat), seed=1)[0]
            found = faces.detect(frame[None])[0]
            embeddings.append(faces.embed(faces.align(frame, found))[0])
    table = torch.stack(embeddings).unflatten(0, (12, 2))
    cosine = table[:, 0] @ table[:, 1].T
    assert (cosine.argmax(1) == torch.arange(12)).float().mean() > 0.7
