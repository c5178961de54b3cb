"""What goes into the suite and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """

    video: Path
    key: str
    prompt: str | None = None
    references: tuple[Path, ...] = ()
    target: Path | None = None
    identity: str = ""
    group: str = ""
    timeline: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class Score:
    """One metric of one video.

    Attributes:
        value: None unless ``status`` is "ok".
        status: "ok"; "failed", for this video; "absent", the metric can't run on this machine.
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
