"""Calibrations and what is read by them, against plain restatements."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import MetricSuite, metric_info
from metrics.errors import MetricsError
from metrics.verification import (
    Calibration,
    IdentityCalibrated,
    IdentityVerified,
    _photographs,
    calibrate,
    embed_people,
)

KNOWN = Calibration("own", "1", 0.6, 0.2, 0.9, 3, 3, 3, "by hand", "none")


def at_cosine(cosines) -> torch.Tensor:
    """Faces at these cosines to the first axis, ``[n, 2]``."""
    c = torch.as_tensor(cosines, dtype=torch.float64)
    return torch.stack([c, (1 - c**2).sqrt()], dim=1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(-0.99, 0.99), max_size=3), min_size=1, max_size=6))
def test_both_are_what_they_say(frames):
    faces = [at_cosine(f) if f else torch.zeros(0, 2, dtype=torch.float64) for f in frames]
    reference = torch.tensor([1.0, 0.0], dtype=torch.float64)
    best = [max(f) if f else None for f in frames]
    for kind, one in (
        (IdentityVerified, lambda c: float(c > 0.6)),
        (IdentityCalibrated, lambda c: (c - 0.2) / 0.7),
    ):
        metric = kind(calibration=KNOWN)
        metric.update(faces, reference)
        expected = np.mean([0.0 if c is None else one(c) for c in best])
        assert float(metric.compute()) == pytest.approx(expected, abs=1e-9)


def test_a_reference_without_a_face_counts_zero():
    metric = IdentityVerified(calibration=KNOWN)
    metric.update([torch.tensor([[1.0, 0.0]])], [torch.eye(2)])
    assert float(metric.compute()) == 0.5  # the other one isn't there


def test_few_pairs_are_estimated_and_many_are_counted():
    rng = np.random.default_rng(0)
    rows = F.normalize(torch.from_numpy(rng.normal(size=(170, 8))), dim=1)
    people = [str(i) for i in range(169)] + ["168"]
    facts = {"backend": "own", "version": "1", "data": "noise"}
    cosines = (rows @ rows.T).numpy()[np.triu_indices(170, 1)]
    many = calibrate(rows, people, **facts)
    assert many.stranger_pairs == len(cosines) - 1 >= 10_000
    assert many.threshold == pytest.approx(np.quantile(np.delete(cosines, -1), 0.999), abs=1e-4)
    assert "empirical" in many.method
    few = calibrate(rows[-20:], people[-20:], **facts)
    assert "estimate" in few.method
    assert few.threshold > few.stranger


def test_bad_calibrations_are_named(tmp_path):
    with pytest.raises(MetricsError, match="two of at least one"):
        calibrate(torch.eye(4), "abcd", backend="own", version="1", data="none")
    with pytest.raises(MetricsError, match="strangers must lie lowest"):
        dataclasses.replace(KNOWN, same=0.1)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(MetricsError, match="is not a calibration"):
        Calibration.read(tmp_path / "no.json")
    KNOWN.write(tmp_path / "own.json")
    assert Calibration.read(tmp_path / "own.json") == KNOWN
    with pytest.raises(MetricsError, match="pass a calibration"):
        IdentityVerified()


def test_a_backend_without_a_calibration_says_how_to_get_one():
    assert "calibration.facenet" in metric_info("identity.facenet.verified").weights
    suite = MetricSuite(["identity.insightface.verified"])
    assert (
        "python -m metrics.verification insightface"
        in (suite.absent["identity.insightface.verified"])
    )


def test_photographs_that_a_package_ships_are_told_apart_by_dlib(tmp_path):
    """The shipped threshold on people that anybody has: six strangers, and one of them worn."""
    pytest.importorskip("dlib")
    import cv2
    from insightface.data import get_image

    from metrics.features.face_backends import load_face_backend
    from metrics.weights import require

    backend = load_face_backend("dlib")
    group = get_image("t1")
    boxes = backend.detect(np.ascontiguousarray(group[None, ..., ::-1]))[0].boxes.round().int()
    for i, (left, top, right, bottom) in enumerate(boxes.tolist()):
        edge = (right - left) // 2
        crop = group[max(0, top - edge) : bottom + edge, max(0, left - edge) : right + edge]
        (tmp_path / f"p{i}").mkdir()
        cv2.imwrite(str(tmp_path / f"p{i}/a.png"), crop)
        if i == 0:
            cv2.imwrite(str(tmp_path / "p0/b.jpg"), crop, [cv2.IMWRITE_JPEG_QUALITY, 30])
    rows, people = embed_people(backend, tmp_path)
    known = Calibration.read(require("calibration.dlib"))
    alike = np.array(people)[:, None] == np.array(people)[None]
    cosines = (rows @ rows.T).numpy()
    upper = np.triu(np.ones_like(alike), 1)
    assert (cosines[upper & ~alike] < known.threshold).all()
    assert (cosines[upper & alike] > known.threshold).all()
    assert cosines[upper & ~alike].mean() == pytest.approx(known.stranger, abs=0.03)
    found = calibrate(rows, people, backend="dlib", version=backend.version, data="t1")
    assert found.threshold == pytest.approx(known.threshold, abs=0.03)


def test_whose_a_photograph_is(tmp_path):
    for name in ("ann.jpg", "ann_2.jpg", "ann_by_the_sea.png", "bo_lee_1.jpg", "bo_lee_2.jpg",
                 "bo_lee_aligned.txt", "anna.jpg", "cy/a.jpg", "cy/more/b.jpg"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert sorted(person for _, person in _photographs(tmp_path)) == [
        "ann", "ann", "ann", "anna", "bo_lee", "bo_lee", "cy", "cy",
    ]  # fmt: skip
