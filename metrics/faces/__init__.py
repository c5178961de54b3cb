"""Face backends: detection, landmarks, alignment and identity embeddings behind one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metrics.errors import MetricsError
from metrics.faces.base import FaceBackend, Faces

__all__ = ["FACE_BACKENDS", "FaceBackend", "Faces", "load_face_backend"]

FACE_BACKENDS = ("dlib", "facenet", "insightface", "curricularface", "miniature")


def load_face_backend(
    name: str, device: str = "cpu", weights: Mapping[str, str | Path] | None = None
) -> FaceBackend:
    """Load a face backend.

    Args:
        name: one of :data:`FACE_BACKENDS`.
        device: where its networks run.
        weights: explicit places of weights, by their name in ``metrics.weights.WEIGHTS``.

    Raises:
        MetricsError: an unknown name, or weights that aren't on this machine.
    """
    paths = weights or {}
    if name == "facenet":
        from metrics.faces.facenet import FacenetFaces

        return FacenetFaces(device, weights=paths.get("facenet.vggface2"))
    if name == "dlib":
        from metrics.faces.dlib import DlibFaces

        return DlibFaces(weights=paths)
    if name == "insightface":
        from metrics.faces.insightface import InsightFaces

        return InsightFaces(device, weights=paths.get("insightface.buffalo_l"))
    if name == "curricularface":
        from metrics.faces.curricularface import CurricularFaces

        detector = load_face_backend("insightface", device, paths)
        return CurricularFaces(detector, device, paths.get("curricularface.ir101"))
    if name == "miniature":
        from miniature.judges.faces import MiniatureFaces

        return MiniatureFaces(device)
    raise MetricsError(
        f"no face backend is called {name!r}; there are: {', '.join(FACE_BACKENDS)}."
    )
