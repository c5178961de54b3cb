"""Identity: frames without a face count, people are matched one to one."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.errors import MetricsError
from metrics.identity import IdentitySimilarity, best_faces, identity_scores, match_faces


def embeddings(count, seed, dimensions=8):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, dimensions, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1)


@settings(max_examples=40, deadline=None)
@given(faces=st.integers(0, 4), references=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_matching_is_the_best_of_all_assignments(faces, references, seed):
    a, b = embeddings(faces, seed), embeddings(references, seed + 1)
    pairs = match_faces(a, b)
    assert len(pairs) == min(faces, references)
    assert len({f for f, _, _ in pairs}) == len({r for _, r, _ in pairs}) == len(pairs)
    cosines = (b.double() @ a.double().T).tolist()
    if faces <= references:
        best = max(
            sum(cosines[r][f] for f, r in enumerate(chosen))
            for chosen in itertools.permutations(range(references), faces)
        )
    else:
        best = max(
            sum(cosines[r][f] for r, f in enumerate(chosen))
            for chosen in itertools.permutations(range(faces), references)
        )
    assert sum(c for _, _, c in pairs) == pytest.approx(best)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    references=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_scores_hang_together(counts, references, seed):
    frames = [embeddings(n, seed + i) for i, n in enumerate(counts)]
    scores = identity_scores(frames, embeddings(references, seed + 99))
    assert scores.face_rate == sum(n > 0 for n in counts) / len(counts)
    assert scores.all_frames == pytest.approx(sum(scores.per_frame) / len(counts))
    assert all(value == 0 for value, n in zip(scores.per_frame, counts) if n == 0)
    if references > 1:
        assert scores.largest is None
        assert scores.differs is None
        return
    if scores.faces_only is None:
        assert scores.all_frames == 0
    else:
        assert scores.all_frames == pytest.approx(scores.faces_only * scores.face_rate)
    assert scores.largest is not None
    assert scores.largest <= scores.all_frames + 1e-9  # the best face is at least as good


def test_hiding_the_face_in_hard_frames_does_not_pay():
    reference = embeddings(1, 0)
    good, hard = reference, 2 * reference + embeddings(1, 5)
    hard = hard / hard.norm()
    shown = identity_scores([good, hard], reference)
    hidden = identity_scores([good, torch.zeros(0, 8)], reference)
    assert hidden.faces_only > shown.faces_only  # what published protocols report
    assert hidden.all_frames < shown.all_frames
    assert hidden.face_rate == 0.5


def test_a_bystander_near_the_camera_is_not_the_subject():
    reference, bystander = embeddings(1, 0), embeddings(1, 1)
    frames = [torch.cat([bystander, reference]), reference, torch.zeros(0, 8)]
    scores = identity_scores(frames, reference)
    assert scores.per_frame == pytest.approx((1, 1, 0), abs=1e-6)
    assert scores.differs == 0.5
    assert scores.largest == pytest.approx((float(bystander[0] @ reference[0]) + 1) / 3, abs=1e-6)
    assert best_faces(frames, reference[0]) == [1, 0, None]
    assert best_faces(frames, None) == [0, 0, None]


def test_two_people_who_swap_places_are_both_found_and_one_missing_counts_zero():
    two = torch.eye(3)[:2]
    assert identity_scores([two, two.flip(0)], two).all_frames == pytest.approx(1)
    one = identity_scores([two[:1]], two)
    assert one.all_frames == 0.5
    assert one.faces_only == 1
    # one face is not counted for two people, however alike they are
    assert identity_scores([two[:1]], two[:1].repeat(2, 1)).all_frames == 0.5


def test_bad_input_is_named():
    with pytest.raises(MetricsError, match="at least one frame"):
        identity_scores([], torch.eye(2))
    with pytest.raises(MetricsError, match="at least one reference"):
        identity_scores([torch.eye(2)], torch.zeros(0, 2))
    with pytest.raises(MetricsError, match="one backend"):
        identity_scores([torch.eye(3)], torch.eye(2))
    with pytest.raises(MetricsError, match="NaN"):
        identity_scores([torch.full((1, 2), float("nan"))], torch.eye(2))


def test_metric_is_the_mean_over_videos_in_any_split():
    reference = embeddings(1, 0)
    videos = [[embeddings(n, 10 + i) for n in (1, 2, 0)] for i in range(4)]
    values = [identity_scores(frames, reference).all_frames for frames in videos]
    metric = IdentitySimilarity()
    for frames in videos:
        metric.update(frames, reference)
    assert float(metric.compute()) == pytest.approx(sum(values) / 4)
    skipping = IdentitySimilarity("faces_only")
    skipping.update([torch.zeros(0, 8)], reference)
    assert int(skipping.skipped) == 1
    with pytest.raises(MetricsError, match="no video with a value"):
        skipping.compute()
    with pytest.raises(MetricsError, match="use one of"):
        IdentitySimilarity("best")
