"""Identity that can be read: is it the same person, on a scale that is the same for all networks.

Cosines of two face networks don't compare, and dlib gives strangers 0.85. A calibration holds what
cosines mean to one backend: the threshold that one pair of strangers in a thousand exceeds, and the
means of strangers and of two photographs of one person. Shipped calibrations name their data;
``python -m metrics.verification BACKEND PHOTOGRAPHS`` measures another, with ``PERSON/*.jpg``,
``PERSON.jpg`` and ``PERSON_*.jpg``, or ``PERSON_1.jpg``, ``PERSON_2.jpg`` and so on in that folder.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from media.files import write_atomic
from media.images import read_image
from metrics.errors import MetricsError
from metrics.facts import Backend, register
from metrics.features.face_backends import FaceBackend, load_face_backend, recognisers
from metrics.features.face_backends.base import pad_grey
from metrics.identity import FACE_FACTS, IdentityScores, IdentitySimilarity
from metrics.metric import Result, Video, remarks
from metrics.weights import WEIGHTS, short_hash

__all__ = ["Calibration", "IdentityCalibrated", "IdentityVerified", "calibrate", "embed_people"]

FAR = 1e-3
_COUNTED = 10 / FAR
"""Pairs of strangers from which the threshold is counted, ten above it, and not estimated."""


@dataclass(frozen=True)
class Calibration:
    """What a backend's cosines mean.

    Attributes:
        backend, version: which backend it is of.
        threshold: cosine that one pair of strangers in a thousand exceeds.
        stranger, same: mean cosine of two people, and of two pictures of one.
        people, same_pairs, stranger_pairs: how much it rests on.
        method: how the threshold came about.
        data: what was looked at.
    """

    backend: str
    version: str
    threshold: float
    stranger: float
    same: float
    people: int
    same_pairs: int
    stranger_pairs: int
    method: str
    data: str

    def __post_init__(self) -> None:
        if not -1 <= self.stranger < self.threshold <= 1 or not self.stranger < self.same <= 1:
            raise MetricsError(
                f"the calibration of {self.backend} has strangers at {self.stranger:g}, the "
                f"threshold at {self.threshold:g} and the same person at {self.same:g}; strangers "
                "must lie lowest. Calibrate on more photographs."
            )

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """A calibration that `write` wrote.

        Raises:
            MetricsError: the file is not a calibration.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise MetricsError(f"{path} is not a calibration ({error}); measure it again.") from (
                error
            )

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        write_atomic(path, json.dumps(asdict(self), indent=2) + "\n")


def calibrate(
    embeddings: Tensor, people: Sequence[str], *, backend: str, version: str, data: str
) -> Calibration:
    """A calibration from pictures of several people.

    From 10,000 pairs of strangers on, the threshold is their empirical quantile; of fewer, the
    quantile of a normal distribution with their mean and deviation, which is an estimate.

    Args:
        embeddings: ``[N, D]``, unit length.
        people: whose picture each row is.
        backend, version, data: see :class:`Calibration`.

    Raises:
        MetricsError: no person with two pictures, or fewer than three pairs of strangers.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [1.0, 0.0]])
        >>> found = calibrate(rows, "abca", backend="own", version="1", data="none")
        >>> found.stranger, found.same, found.stranger_pairs
        (0.4, 1.0, 5)
    """
    rows = embeddings.double()
    names = np.asarray(list(people))
    upper = np.triu(np.ones((len(names), len(names)), dtype=bool), 1)
    cosines = (rows @ rows.T).clamp(-1, 1).numpy()
    alike = names[:, None] == names[None]
    same, strangers = cosines[upper & alike], cosines[upper & ~alike]
    if not len(same) or len(strangers) < 3:
        raise MetricsError(
            f"there are {len(same)} pairs of one person and {len(strangers)} of strangers; give "
            "photographs of several people, two of at least one of them."
        )
    if len(strangers) >= _COUNTED:
        threshold = float(np.quantile(strangers, 1 - FAR))
        method = f"empirical quantile of the pairs of strangers at {1 - FAR:g}"
    else:
        spread = float(strangers.std(ddof=1))
        threshold = min(1.0, float(strangers.mean()) + NormalDist().inv_cdf(1 - FAR) * spread)
        method = f"normal quantile at {1 - FAR:g} from mean and deviation {spread:.3f}: an estimate"
    return Calibration(
        backend,
        version,
        round(threshold, 4),
        round(float(strangers.mean()), 4),
        round(float(same.mean()), 4),
        len(set(people)),
        len(same),
        len(strangers),
        method,
        data,
    )


def embed_people(backend: FaceBackend, folder: Path) -> tuple[Tensor, list[str]]:
    """The largest face of each photograph of a folder, and whose it is.

    Raises:
        MetricsError: a photograph has no face, or there are none.
    """
    rows, people = [], []
    for path, person in _photographs(folder):
        image = read_image(path)
        for shown in (image, pad_grey(image)[0]):
            if len(faces := backend.detect(shown[None])[0]):
                break
        else:
            raise MetricsError(f"no face was found in {path}; leave it out.")
        rows.append(backend.embed(backend.align(shown, faces)[:1])[0])
        people.append(person)
    if not rows:
        raise MetricsError(f"{folder} holds no photographs; pass PERSON/*.jpg or PERSON_*.jpg.")
    return torch.stack(rows), people


def _photographs(folder: Path) -> Iterator[tuple[Path, str]]:
    suffixes = (".jpg", ".jpeg", ".png", ".webp")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    stems = {path.stem for path in paths if path.parent == folder}
    for path in paths:
        parts = path.relative_to(folder).parts
        yield path, parts[0] if len(parts) > 1 else _person(path.stem, stems)


def _person(stem: str, stems: set[str]) -> str:
    """Whom a photograph shows: of a_b_c the first of a and a_b that has one too; or without _1."""
    whole = [stem[:i] for i, sign in enumerate(stem) if sign == "_"]
    return next((name for name in whole if name in stems), re.sub(r"_\d+$", "", stem))


# --- metrics -------------------------------------------------------------------------------------


def _calibrated() -> Iterator[Backend]:
    """Backends for which a calibration is declared."""
    for backend in recognisers():
        name = f"calibration.{backend.name}"
        if name in WEIGHTS:
            yield Backend(**{**vars(backend), "weights": (*backend.weights, name)})


class _Calibrated(IdentitySimilarity):
    """Base of the metrics that read cosines by a calibration.

    Args:
        backend: a face backend or its name; None where `update` is given embeddings.
        calibration: the backend's; by default the file that is shipped or was measured here.
        kwargs: of :class:`metrics.VideoMetric`.
    """

    settings: ClassVar[tuple[str, ...]] = ("backend", "calibration_version")

    def __init__(
        self,
        backend: str | FaceBackend | None = None,
        calibration: Calibration | None = None,
        **kwargs: Any,
    ) -> None:
        self._given = calibration
        super().__init__(backend=backend, **kwargs)

    def prepare(self) -> None:
        super().prepare()
        if self._given is not None:
            self.calibration, self.calibration_version = self._given, str(self._given)
        elif self.backend is None:
            raise MetricsError(
                f"{type(self).__name__} of embeddings needs to know what their cosines mean; pass "
                "a calibration."
            )
        else:
            path = self.models.weight(f"calibration.{self.backend}")
            self.calibration, self.calibration_version = Calibration.read(path), short_hash(path)

    def measure(self, video: Video) -> Result:
        found = super().measure(video)
        now = self.models.version(self.embeddings) if self.features else self.calibration.version
        if self._given is not None or now == self.calibration.version:
            return found
        other = f"the calibration is of {self.calibration.version} and the backend is {now}"
        return Result(found.value, found.detail, remarks(found.reason, other))


_READ: dict[str, Any] = {
    **FACE_FACTS,
    "backends": _calibrated,
    "diagnostic": True,
    "backend_quirks": {
        "dlib": "calibrated on 12 people, 116 pairs of strangers: the threshold is an estimate"
    },
}


@register(
    "identity.{backend}.verified",
    label="Frames with the verified person",
    formula="frames whose best-matching face has a cosine above the threshold / sampled frames; "
    "the threshold accepts one pair of strangers in a thousand",
    quirks="a frame without a face isn't verified; of several references the mean over them",
    **{**_READ, "range": (0.0, 1.0)},
)
class IdentityVerified(_Calibrated):
    """Share of frames in which the backend takes the face for the reference's, 0 to 1.

    Example:
        >>> own = Calibration("own", "1", 0.6, 0.2, 0.9, 3, 3, 3, "by hand", "none")
        >>> metric = IdentityVerified(calibration=own)
        >>> metric.update([torch.tensor([[1.0, 0.0]]), torch.zeros(0, 2)], torch.tensor([1.0, 0]))
        >>> float(metric.compute())
        0.5
    """

    def value(self, scores: IdentityScores) -> float:
        over = sum(c > self.calibration.threshold for cosines in scores.matched for c in cosines)
        return over / (len(scores.matched) * scores.references)


@register(
    "identity.{backend}.calibrated",
    label="Identity from stranger (0) to same person (1)",
    formula="mean over sampled frames of (cos - s) / (p - s), s the mean cosine of strangers and p "
    "that of two photographs of one person; 0 without a face",
    quirks="below 0 less alike than strangers are on average, above 1 more than two photographs "
    "of one person",
    **{**_READ, "range": (None, None)},
)
class IdentityCalibrated(_Calibrated):
    """Identity on a scale that is the same for all backends.

    Example:
        >>> own = Calibration("own", "1", 0.6, 0.2, 0.9, 3, 3, 3, "by hand", "none")
        >>> metric = IdentityCalibrated(calibration=own)
        >>> metric.update(torch.tensor([[0.9, (1 - 0.9**2) ** 0.5]]), torch.tensor([1.0, 0]))
        >>> round(float(metric.compute()), 6)
        1.0
    """

    def value(self, scores: IdentityScores) -> float:
        known = self.calibration
        read = [
            (c - known.stranger) / (known.same - known.stranger)
            for cosines in scores.matched
            for c in cosines
        ]
        return sum(read) / (len(scores.matched) * scores.references)


def main() -> None:
    """Measure a calibration and write it."""
    parser = argparse.ArgumentParser(prog="python -m metrics.verification")
    parser.add_argument("backend")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--data", help="what the photographs are; by default the folder's name")
    parser.add_argument("--out", type=Path, help="by default BACKEND.calibration.json here")
    asked = parser.parse_args()
    backend = load_face_backend(asked.backend)
    rows, people = embed_people(backend, asked.photographs)
    found = calibrate(
        rows,
        people,
        backend=backend.name,
        version=backend.version,
        data=asked.data or asked.photographs.name,
    )
    out = asked.out or Path(f"{backend.name}.calibration.json")
    found.write(out)
    print(f"{out}: {found}")


if __name__ == "__main__":
    main()
