"""Face backends: detection, landmarks, alignment and identity embeddings behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from media.plugins import declared, load
from metrics.errors import MetricsError, UnknownNameError
from metrics.facts import Backend
from metrics.features.face_backends.base import FaceBackend, FaceFacts, Faces

__all__ = [
    "FACE_BACKENDS",
    "FaceBackend",
    "FaceFacts",
    "Faces",
    "aligners",
    "detector_of",
    "detectors",
    "load_face_backend",
    "recognisers",
]

FACE_BACKENDS = {
    "dlib": "metrics.features.face_backends.dlib:DlibFaces",
    "facenet": "metrics.features.face_backends.facenet:FacenetFaces",
    "insightface": "metrics.features.face_backends.insightface:InsightFaces",
    "curricularface": "metrics.features.face_backends.curricularface:CurricularFaces",
}
"""This package's own backends; plug-ins add theirs under the same name, `FACE_BACKENDS`."""


def _known() -> dict[str, str]:
    theirs = declared("FACE_BACKENDS")
    if taken := sorted(FACE_BACKENDS.keys() & theirs.keys()):
        raise MetricsError(f"A plug-in declares the face backend {taken[0]!r} again; rename it.")
    return FACE_BACKENDS | theirs


def _facts(embeds: bool, own_detector: bool) -> Iterator[Backend]:
    for name, target in _known().items():
        facts: FaceFacts = load(target).facts
        if not (facts.detector and own_detector):
            weights = (*facts.detect, *(facts.embed if embeds else ()))
            said = {key: getattr(facts, key) for key in ("quirks", "by_default", "anchors")}
            yield Backend(name, weights, facts.modules, facts.cost, **said)


def detectors() -> Iterator[Backend]:
    """Backends with a detector of their own, as metrics that only detect need them."""
    return _facts(embeds=False, own_detector=True)


def aligners() -> Iterator[Backend]:
    """Backends with a detector of their own, as metrics of matched faces' crops need them."""
    return _facts(embeds=True, own_detector=True)


def recognisers() -> Iterator[Backend]:
    """Backends as metrics of identity need them."""
    return _facts(embeds=True, own_detector=False)


def detector_of(name: str) -> str:
    """The backend that detects for a backend: itself, or the one whose detector it takes."""
    return load(_known()[name]).facts.detector or name


def load_face_backend(
    name: str,
    device: str = "cpu",
    weights: Mapping[str, str | Path] | None = None,
    detector: Callable[[str], FaceBackend] | None = None,
) -> FaceBackend:
    """Load a face backend.

    Args:
        name: of :data:`FACE_BACKENDS`, or of a plug-in's.
        device: where its networks run.
        weights: explicit places of weights, by their name in ``metrics.weights.WEIGHTS``.
        detector: gives the backend of a name whose detector this one takes; by default it is
            loaded.

    Raises:
        MetricsError: an unknown name, or weights that aren't on this machine.
    """
    known = _known()
    if name not in known:
        raise UnknownNameError.among("no face backend is called", name, known)
    made, given = load(known[name]), weights or {}
    if not made.facts.detector:
        return made.load(device, given)
    detector = detector or (lambda other: load_face_backend(other, device, given))
    return made.load(device, given, detector(made.facts.detector))
