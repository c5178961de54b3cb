"""Several people in one video: who is who over all of it, and who is there when."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from media.writing import write_video
from metrics.catalogue import make, metric_info
from metrics.errors import MetricsError
from metrics.features.face_backends.base import Faces
from metrics.people import IdentityPeople, IdentityTimeline, face_tracks, people_scores
from metrics.scores import VideoItem, whom
from metrics.suite import MetricSuite

LEFT, RIGHT = torch.tensor([0.0, 0, 9, 9]), torch.tensor([50.0, 0, 59, 9])
OF = ("mean", "least", "swaps", "confusion", "absence")


class Squares:
    """Finds squares of pure colour, 8 pixels wide; the colour is who it is."""

    name, version, crop_size = "squares", "1", 8

    def detect(self, frames):
        return [self._faces(frame) for frame in frames]

    def _faces(self, frame):
        starts = [x for x in range(0, frame.shape[1], 8) if frame[0, x].any()]
        boxes = torch.tensor([[x, 0, x + 8, 8] for x in starts], dtype=torch.float32)
        n = len(starts)
        return Faces(boxes.reshape(n, 4), torch.zeros(n, 5, 2), torch.ones(n))

    def align(self, frame, faces):
        crops = [frame[:8, int(x) : int(x) + 8] for x in faces.boxes[:, 0]]
        return np.stack(crops) if crops else np.zeros((0, 8, 8, 3), np.uint8)

    def embed(self, crops):
        rows = torch.from_numpy(crops[:, 0, 0].astype(np.float32))
        return rows / rows.norm(dim=1, keepdim=True)


COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), " ": (0, 0, 0)}


def clip(*frames: str):
    """Frames whose letters are people from left to right, a blank for nobody."""
    pixels = np.zeros((len(frames), 8, 64, 3), np.uint8)
    for t, row in enumerate(frames):
        for k, who in enumerate(row):
            pixels[t, :, 32 * k : 32 * k + 8] = COLOURS[who]
    return pixels


def portraits(people="ab"):
    return [clip(who)[0, :, :32] for who in people]


def people(of, frames, shown=(), **more):
    metric = IdentityPeople(of, Squares())
    metric.update(clip(*frames), portraits(), shown, **more)
    return float(metric.compute())


@pytest.mark.parametrize(
    ("frames", "mean", "least", "swaps", "confusion", "absence"),
    [
        (["ab"] * 4, 1, 1, 0, 0, 0),
        (["ba"] * 4, 1, 1, 0, 0, 0),  # nobody said who stands where
        (["ab", "ab", "ba", "ba"], 0.5, 0.5, 2, 0.5, 0),  # per frame, both are found every time
        (["aa"] * 4, 0.5, 0, 0, 0.5, 0),
        (["a "] * 4, 0.5, 0, 0, 0, 0.5),
        (["ab", "ab", "a ", "a "], 0.75, 0.5, 0, 0, 0.25),
        (["ab", "  ", "ab", "ab"], 0.75, 0.75, 0, 0, 0.25),  # tracks outlast a gap
    ],
)
def test_people_by_hand(frames, mean, least, swaps, confusion, absence):
    wanted = dict(zip(OF, (mean, least, swaps, confusion, absence), strict=True))
    assert {of: people(of, frames) for of in OF} == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    frames=st.lists(st.text("ab c", min_size=2, max_size=2), min_size=1, max_size=8),
    flip=st.booleans(),
)
def test_scores_hang_together_whatever_is_seen(frames, flip):
    frames = [row.strip(" ") + " " * (2 - len(row.strip(" "))) for row in frames]
    pixels = clip(*frames)
    backend = Squares()
    found = backend.detect(pixels)
    faces = [backend.embed(backend.align(f, at)) for f, at in zip(pixels, found)]
    who = torch.eye(3)[:2].flip(0) if flip else torch.eye(3)[:2]
    boxes = [at.boxes for at in found]
    scores = people_scores(boxes, faces, who, np.ones((len(frames), 2), bool))
    seen = sum(len(track) for track in face_tracks(boxes, faces))
    assert seen == sum(map(len, faces))  # every face lies in one track
    assert all(-1 <= s <= 1 - 0 for s in scores.similarity)
    assert 0 <= scores.absence <= 1
    assert (scores.confusion is None) == (scores.absence == 1)
    # A matched face gives at most 1, an absent one 0.
    assert np.mean(scores.similarity) <= 1 - scores.absence + 1e-9


def test_looks_tell_apart_who_cross_and_place_who_change():
    across = [torch.stack([LEFT + k * 12, RIGHT - k * 12 + 2]) for k in range(5)]
    tracks = face_tracks(across, [torch.eye(2)] * 5)
    assert tracks == [[(t, k) for t in range(5)] for k in (0, 1)]
    still = [torch.stack([LEFT, RIGHT])] * 2
    changed = face_tracks(still, [torch.eye(2), torch.eye(2).flip(0)])
    assert changed == [[(0, 0), (1, 0)], [(0, 1), (1, 1)]]


def test_references_of_one_person_are_one_template():
    metric = IdentityPeople("mean", Squares())
    shown = [("ann", None, None), ("ann", None, None), ("bob", None, None)]
    metric.update(clip("ab", "ab"), [*portraits("aa"), *portraits("b")], shown)
    assert float(metric.compute()) == pytest.approx(1)


HALVES = [("a", None, 0.5), ("b", 0.5, None)]


def taking_turns(of, frames, shown=HALVES, fps=4.0):
    metric = IdentityTimeline(of, Squares())
    metric.update(clip(*frames), portraits(), shown, fps)
    return float(metric.compute())


@pytest.mark.parametrize(
    ("frames", "own", "stranger"),
    [("aabb", 1, 0), ("bbaa", 0, 1), ("abab", 0.5, 0.5), ("aa b", 0.75, 0), ("aaaa", 0.5, 0.5)],
)
def test_the_right_person_at_the_right_time(frames, own, stranger):
    assert taking_turns("own", frames) == pytest.approx(own)
    assert taking_turns("stranger", frames) == pytest.approx(stranger)


def test_whoever_takes_turns_is_looked_for_then():
    for of, wanted in zip(OF, (1, 1, 0, 0, 0), strict=True):
        assert people(of, "aabb", HALVES, fps=4.0) == pytest.approx(wanted)
    assert people("confusion", "bbaa", HALVES, fps=4.0) == 1


def test_what_has_no_answer_says_why():
    with pytest.raises(MetricsError, match="all are of one"):
        people("mean", ["ab"], [("a", None, None)] * 2)
    with pytest.raises(MetricsError, match="2 references, and 1 entries"):
        people("mean", ["ab"], [("a", None, None)])
    with pytest.raises(MetricsError, match="no frame rate"):
        people("mean", "aabb", HALVES)
    with pytest.raises(MetricsError, match=r"time of b, and the video lasts 0\.50 s"):
        people("mean", "aa", HALVES, fps=4.0)
    with pytest.raises(MetricsError, match="everybody is expected throughout"):
        taking_turns("own", ["ab"], ())
    with pytest.raises(MetricsError, match="use one of mean"):
        IdentityPeople("median")
    with pytest.raises(MetricsError, match="use own or stranger"):
        IdentityTimeline("both")
    metric = IdentityPeople("confusion", Squares())
    metric.update(clip("  "), portraits())
    assert int(metric.skipped) == 1


def test_directions_and_needs():
    for of in OF:
        name = "identity.people.facenet" + ("" if of == "mean" else f".{of}")
        info = metric_info(name)
        assert info.needs == ("people",)
        assert info.higher_is_better == IdentityPeople(of).higher_is_better
        assert info.diagnostic == (of != "mean")
    for name, of in (
        ("identity.timeline.dlib", "own"),
        ("identity.timeline.dlib.stranger", "stranger"),
    ):
        assert metric_info(name).higher_is_better == IdentityTimeline(of).higher_is_better
        assert metric_info(name).needs == ("times",)
    assert whom((), 2) == (("reference 1", None, None), ("reference 2", None, None))


def test_in_the_suite_only_where_there_are_several_people(tmp_path):
    """Through files: single people's videos say so, and cost no pass."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", noise, 8.0)
    Image.fromarray(noise[0]).save(tmp_path / "p.png")
    suite = MetricSuite(["identity.people.miniature", "identity.timeline.miniature"])
    one = VideoItem(tmp_path / "a.mp4", "one", references=(tmp_path / "p.png",))
    assert not any(suite._wants(name, one) for name in suite.metrics)
    rows = suite.score([one])
    assert [row.status for row in rows] == ["inapplicable"] * 2
    assert "several people" in rows[0].reason
    assert "with a time" in rows[1].reason
    timed = VideoItem(
        tmp_path / "a.mp4", "t", references=(tmp_path / "p.png",) * 2, shown=tuple(HALVES)
    )
    assert all(suite._wants(name, timed) for name in suite.metrics)
    assert type(make(metric_info("identity.people.miniature"))) is IdentityPeople
