"""What goes into the suite and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metrics.errors import MetricsError

#: How the reason of a failure begins that isn't about the video: memory, a disk, a defect.
UNEXPECTED = "unexpected "


@dataclass(frozen=True)
class VideoItem:
    """A video to score and what it was made from.

    Attributes:
        video: a video file, or a folder of images.
        key: the caller's name for it; comes back in every score.
        prompt: the text it was generated from.
        references: images of the faces it should show; with several, each is another person.
        target: a true video of the same identity and prompt, where one exists.
        identity: name of the person, for reports.
        group: set-level metrics are computed within a group (a cell of an experiment).
        timeline: (start, end, caption) of what should happen when, in seconds.
        shown: (person, start, end) of each reference, in seconds; None: from the start, to the end.
            Without, and where a person has no name, each is another person, seen always.
    """

    video: Path
    key: str
    prompt: str | None = None
    references: tuple[Path, ...] = ()
    target: Path | None = None
    identity: str = ""
    group: str = ""
    timeline: tuple[tuple[float, float, str], ...] = ()
    shown: tuple[tuple[str, float | None, float | None], ...] = ()

    @property
    def given(self) -> dict[str, bool]:
        """Which of :data:`metrics.facts.NEEDS` it comes with."""
        return {
            "reference": bool(self.references),
            "prompt": bool(self.prompt),
            "target": self.target is not None,
            "timeline": bool(self.timeline),
            "people": len({person for person, _, _ in self.whom}) > 1,
            "times": any((start, end) != (None, None) for _, start, end in self.whom),
        }

    @property
    def whom(self) -> tuple[tuple[str, float | None, float | None], ...]:
        """:func:`whom` of its references."""
        return whom(self.shown, len(self.references))


def whom(
    shown: Sequence[tuple[str, float | None, float | None]], references: int
) -> tuple[tuple[str, float | None, float | None], ...]:
    """(person, start, end) of each of the references; each is somebody, whoever has no name.

    Raises:
        MetricsError: ``shown`` says it of more or fewer.

    Example:
        >>> whom((), 2)
        (('reference 1', None, None), ('reference 2', None, None))
    """
    if shown and len(shown) != references:
        raise MetricsError(
            f"there are {references} references, and {len(shown)} entries say whom they show; pass "
            "one each."
        )
    said = shown or (("", None, None),) * references
    return tuple((p or f"reference {n}", start, end) for n, (p, start, end) in enumerate(said, 1))


@dataclass(frozen=True)
class Score:
    """One metric of one video.

    Attributes:
        value: None unless ``status`` is "ok".
        status: "ok"; "failed", for this video; "inapplicable", the video comes without what the
            metric needs, as a prompt or a reference; "absent", the metric can't run here.
        reason: in words, why not ok; with "ok" a remark on the value, often empty.
        detail: further numbers, such as how many frames had a face.
    """

    key: str
    group: str
    metric: str
    backend: str
    version: str
    value: float | None
    status: str
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def transient(self) -> bool:
        """Whether it failed by what another try may not meet."""
        return self.status == "failed" and UNEXPECTED in self.reason


@dataclass(frozen=True)
class SetScore:
    """One metric of all videos of a group, with a 95 % bootstrap interval where there is one.

    Attributes:
        n: videos that went into it.
        status, reason: as in :class:`Score`.
        influences: groups of people, by name, and the effect that leaving each out has, for
            resampling the value with others' (`metrics.clusters.Influence`); empty where some
            video names nobody.
    """

    group: str
    metric: str
    backend: str
    version: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    status: str
    reason: str = ""
    influences: tuple[tuple[tuple[str, ...], float], ...] = ()

    @property
    def transient(self) -> bool:
        """As in :class:`Score`."""
        return self.status == "failed" and UNEXPECTED in self.reason
