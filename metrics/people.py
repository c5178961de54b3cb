"""Whether each of several people in a video is the right one, and there at the right time.

`identity.people` follows faces through the video and matches tracks with people one to one over
all of it, as IDF1 does with boxes (Ristani et al. 2016, arXiv 1609.01775): matched frame by frame,
two people who change places would each be found every time. `identity.timeline` asks of people with
times whether they are seen then, and how much whoever is seen at other times is like them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from metrics.errors import MetricsError
from metrics.facts import register
from metrics.features.face_backends import FaceBackend, recognisers
from metrics.features.face_backends.base import unit_length
from metrics.features.models import Picture
from metrics.frames import as_images, as_videos
from metrics.identity import FaceMetric
from metrics.metric import Result, Shown, Video, remarks
from metrics.scores import whom

Mask = NDArray[np.bool_]

LEAP = 2.0
"""Face sizes beyond which it no longer counts how far a face has moved between two frames."""


@dataclass(frozen=True)
class PeopleScores:
    """People of one video.

    Attributes:
        similarity: of each person, mean over its frames of the cosine with its track's face, 0
            where the track has none; -1 to 1.
        absence: share of people's frames without a face of their track, 0 to 1.
        confusion: share of matched faces that are more like another person, 0 to 1; None without
            matched faces.
        swaps: how often who a matched track is most like changes from a frame to the next.
        tracks: how many there are.
    """

    similarity: tuple[float, ...]
    absence: float
    confusion: float | None
    swaps: int
    tracks: int


def face_tracks(boxes: Sequence[Tensor], faces: Sequence[Tensor]) -> list[list[tuple[int, int]]]:
    """Faces of one place or look from frame to frame, joined one to one.

    A face goes on with the track whose last face is nearest: the cost, least in sum (Hungarian
    algorithm), is the distance of the boxes' middles in face sizes, at most `LEAP`, and 1 - cos of
    the embeddings. So place counts first, and looks tell apart who cross or leap. A face that is
    left over begins a track.

    Args:
        boxes: ``[n, 4]`` per frame, x0 y0 x1 y1.
        faces: embeddings ``[n, D]`` per frame, unit length.

    Returns:
        Tracks as (frame, place among the frame's faces), in order of frames.

    Example:
        >>> left, right = torch.tensor([0.0, 0, 9, 9]), torch.tensor([50.0, 0, 59, 9])
        >>> boxes = [torch.stack([left, right]), torch.stack([right, left])]
        >>> face_tracks(boxes, [torch.eye(2), torch.eye(2)])
        [[(0, 0), (1, 1)], [(0, 1), (1, 0)]]
    """
    tracks: list[list[tuple[int, int]]] = []
    for t, (found, rows) in enumerate(zip(boxes, faces, strict=True)):
        free = set(range(len(rows)))
        if free and tracks:
            at = [track[-1] for track in tracks]
            before = torch.stack([boxes[s][f] for s, f in at]).double()
            looks = torch.stack([faces[s][f] for s, f in at]).double()
            now = found.double()
            sides = (_size(before)[:, None] + _size(now)) / 2
            moved = torch.cdist(_middle(before), _middle(now)) / sides
            cost = moved.clamp(max=LEAP) + 1 - looks @ rows.double().T
            for k, f in zip(*linear_sum_assignment(cost.numpy()), strict=True):
                tracks[k].append((t, int(f)))
                free.discard(int(f))
        tracks += [[(t, f)] for f in sorted(free)]
    return tracks


def _middle(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _size(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp_min(1).prod(dim=1).sqrt()


def people_scores(
    boxes: Sequence[Tensor], faces: Sequence[Tensor], people: Tensor, cast: Mask
) -> PeopleScores:
    """Who is who, from the faces of a video's frames.

    Within each stretch of frames that has the same cast, tracks and people are matched one to one
    so that the sum of cosines over all frames of the tracks is largest (Hungarian algorithm).

    Args:
        boxes, faces: as in `face_tracks`.
        people: ``[P, D]``, unit length.
        cast: ``[T, P]``, who is to be seen in which frame.

    Raises:
        MetricsError: somebody is to be seen in no frame.

    Example:
        Two people change places halfway:

        >>> left, right = torch.tensor([0.0, 0, 9, 9]), torch.tensor([50.0, 0, 59, 9])
        >>> boxes = [torch.stack([left, right])] * 4
        >>> faces = [torch.eye(2)] * 2 + [torch.eye(2).flip(0)] * 2
        >>> scores = people_scores(boxes, faces, torch.eye(2), np.ones((4, 2), bool))
        >>> scores.similarity, scores.confusion, scores.swaps
        ((0.5, 0.5), 0.5, 2)
    """
    if not cast.any(axis=0).all():
        raise MetricsError("somebody is to be seen in no frame; sample more frames.")
    cosines = [
        (people.double() @ rows.double().T).numpy() if len(rows) else np.zeros((len(people), 0))
        for rows in faces
    ]
    seen, matched = np.zeros(cast.shape), np.zeros(cast.shape, dtype=bool)
    wrong = swaps = count = 0
    for start, stop in _stretches(cast):
        tracks = face_tracks(boxes[start:stop], faces[start:stop])
        count += len(tracks)
        expected = np.flatnonzero(cast[start])
        if not tracks or not len(expected):
            continue
        sums = [[sum(cosines[start + t][p, f] for t, f in k) for k in tracks] for p in expected]
        for row, column in zip(*linear_sum_assignment(sums, maximize=True), strict=True):
            person, track = int(expected[row]), tracks[column]
            like = [int(cosines[start + t][:, f].argmax()) for t, f in track]
            wrong += sum(other != person for other in like)
            swaps += sum(a != b for a, b in pairwise(like))
            for t, f in track:
                seen[start + t, person] = cosines[start + t][person, f]
                matched[start + t, person] = True
    return PeopleScores(
        similarity=tuple((seen.sum(axis=0) / cast.sum(axis=0)).tolist()),
        absence=1 - float(matched.sum() / cast.sum()),
        confusion=wrong / int(matched.sum()) if matched.any() else None,
        swaps=swaps,
        tracks=count,
    )


def _stretches(cast: Mask) -> Iterator[tuple[int, int]]:
    """First frame, and the one behind the last, of stretches with one cast."""
    for _, run in groupby(range(len(cast)), key=lambda t: cast[t].tobytes()):
        frames = list(run)
        yield frames[0], frames[-1] + 1


def timeline_scores(
    faces: Sequence[Tensor], people: Tensor, cast: Mask
) -> tuple[list[float], list[float | None]]:
    """Each person's similarity in its own frames, and in all others.

    Args:
        faces: embeddings ``[n, D]`` per frame, unit length.
        people: ``[P, D]``, unit length.
        cast: ``[T, P]``, who is to be seen in which frame; everybody in one or more.

    Returns:
        Per person the mean over its own frames of the cosine with the best-matching face, 0 without
        a face; and the mean over other frames with a face, None where there are none.

    Example:
        >>> faces = [torch.eye(2)[:1], torch.eye(2)[1:]]
        >>> timeline_scores(faces, torch.eye(2), np.eye(2, dtype=bool))
        ([1.0, 1.0], [0.0, 0.0])
    """
    best = np.full(cast.shape, math.nan)
    for t, rows in enumerate(faces):
        if len(rows):
            best[t] = (people.double() @ rows.double().T).max(dim=1).values.numpy()
    own = [float(np.nan_to_num(best[own, p]).mean()) for p, own in enumerate(cast.T)]
    others = [best[~own, p] for p, own in enumerate(cast.T)]
    others = [levels[~np.isnan(levels)] for levels in others]
    return own, [float(levels.mean()) if len(levels) else None for levels in others]


# --- metrics -----------------------------------------------------------------------------------


class _PeopleMetric(FaceMetric):
    """A metric that knows whom each reference shows, and when."""

    settings: ClassVar[tuple[str, ...]] = ("of", "backend")

    def update(  # type: ignore[override]
        self,
        frames: Any,
        reference: Any,
        shown: Sequence[tuple[str, float | None, float | None]] = (),
        fps: float = 0.0,
    ) -> None:
        """Add one video.

        Args:
            frames: as in :class:`metrics.VideoMetric`, one video.
            reference: images of the people.
            shown: (person, start, end) of each reference, in seconds; None: from the beginning, to
                the end. References of one person have one name; without, each is another person.
            fps: frames per second, for people with times.
        """
        (pixels,) = as_videos(frames)
        pictures = tuple(Picture(self.models, image) for image in as_images(reference))
        who = tuple(Shown(*one) for one in whom(shown, len(pictures)))
        self.add(self.measure(self.video_of(pixels, references=pictures, shown=who, fps=fps)))

    def people(self, video: Video) -> tuple[dict[str, list[Shown]], Tensor, str]:
        """(times by person; embeddings ``[P, D]``, the mean of a person's references; remarks)."""
        faces: dict[str, list[Tensor]] = {}
        times: dict[str, list[Shown]] = {}
        said = []
        for number, one in enumerate(video.shown):
            face = self.reference(video, number)
            faces.setdefault(one.person, []).append(face.embedding)
            times.setdefault(one.person, []).append(one)
            said.append(face.remark)
        means = torch.stack([torch.stack(rows).double().mean(dim=0) for rows in faces.values()])
        return times, unit_length(means), remarks(*said, self.short(video))

    def cast(self, video: Video, times: dict[str, list[Shown]]) -> Mask:
        """Who is to be seen in which of the frames looked at, ``[T, P]``."""
        cast = np.ones((len(video.indices), len(times)), dtype=bool)
        if not any(one.timed for shown in times.values() for one in shown):
            return cast
        if not video.fps:
            raise MetricsError(
                "the frames have no frame rate, and times can't be laid over them; make a video of "
                "them"
            )
        moments = (video.indices + 0.5) / video.fps
        for p, (name, shown) in enumerate(times.items()):
            within = [
                (moments >= (one.start or 0.0))
                & (moments < (math.inf if one.end is None else one.end))
                for one in shown
            ]
            cast[:, p] = np.any(within, axis=0)
            if not cast[:, p].any():
                raise MetricsError(
                    f"no sampled frame lies in the time of {name}, and the video lasts "
                    f"{video.count / video.fps:.2f} s"
                )
        return cast


_PEOPLE: dict[str, Any] = {
    "family": "identity",
    "needs": ("people",),
    "backends": recognisers,
    "source": "after IDF1, arXiv 1609.01775, and the ID switches of CLEAR MOT, "
    "doi 10.1155/2008/246309",
}
_TRACKED = "tracks are joined over the sampled frames alone, by place first"


@register(
    "identity.people.{backend}",
    of="mean",
    label="Identity of several people",
    formula="tracks of faces matched with people one to one over the video (Hungarian, summed "
    "cosine); mean over people of the mean over frames of cos(face of its track, person), 0 "
    "without a face",
    range=(-1.0, 1.0),
    quirks=f"{_TRACKED}; references of one person are averaged; bystanders cost nothing",
    **_PEOPLE,
)
@register(
    "identity.people.{backend}.least",
    of="least",
    label="Identity of the least similar person",
    formula="least over people of what identity.people is the mean of",
    range=(-1.0, 1.0),
    diagnostic=True,
    **_PEOPLE,
)
@register(
    "identity.people.{backend}.swaps",
    of="swaps",
    label="Identity swaps",
    formula="changes, from a sampled frame to the next, of whom the face of a matched track is "
    "most like, added over tracks",
    range=(0.0, None),
    higher_is_better=False,
    quirks="two people who change places count two",
    diagnostic=True,
    **_PEOPLE,
)
@register(
    "identity.people.{backend}.confusion",
    of="confusion",
    label="Faces more like another person",
    formula="matched faces that are more like another of the people / matched faces",
    range=(0.0, 1.0),
    higher_is_better=False,
    diagnostic=True,
    **_PEOPLE,
)
@register(
    "identity.people.{backend}.absence",
    of="absence",
    label="People who are absent",
    formula="frames without a face of a person's track / frames in which the person is to be seen, "
    "over all people",
    range=(0.0, 1.0),
    higher_is_better=False,
    diagnostic=True,
    **_PEOPLE,
)
class IdentityPeople(_PeopleMetric):
    """:func:`people_scores` of videos with several people, and their mean over videos.

    People with times are looked for then, and matched again wherever the cast changes.

    Args:
        of: "mean" over people, "least", "swaps", "confusion" or "absence".
        backend: a face backend or its name.
        kwargs: of :class:`metrics.VideoMetric`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("faces", "embeddings")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        return self.of in ("mean", "least")

    def __init__(
        self,
        of: Literal["mean", "least", "swaps", "confusion", "absence"] = "mean",
        backend: str | FaceBackend | None = None,
        **kwargs: Any,
    ) -> None:
        if of not in ("mean", "least", "swaps", "confusion", "absence"):
            raise MetricsError(
                f"of is {of!r}; use one of mean, least, swaps, confusion and absence."
            )
        self.of = of
        super().__init__(backend, **kwargs)

    def measure(self, video: Video) -> Result:
        times, people, said = self.people(video)
        if len(times) < 2:
            raise MetricsError("needs references of several people, and all are of one")
        cast = self.cast(video, times)
        found = [faces.boxes for faces in video[f"faces.{self.backend}"]]
        scores = people_scores(found, video[self.embeddings], people, cast)
        alike = (people @ people.T).fill_diagonal_(-1.0).max()
        detail = {
            "frames": len(cast),
            "tracks": scores.tracks,
            "similarity": dict(zip(times, (round(s, 4) for s in scores.similarity), strict=True)),
            "swaps": scores.swaps,
            "confusion": scores.confusion,
            "absence": scores.absence,
            "references_alike": round(float(alike), 4),
        }
        value = {
            "mean": float(np.mean(scores.similarity)),
            "least": min(scores.similarity),
            "swaps": float(scores.swaps),
            "confusion": scores.confusion,
            "absence": scores.absence,
        }[self.of]
        faceless = "" if scores.tracks else "no sampled frame has a face"
        return Result(value, detail, remarks(said, faceless))


_TIMED = _PEOPLE | {"needs": ("times",), "range": (-1.0, 1.0), "source": "this package"}


@register(
    "identity.timeline.{backend}",
    of="own",
    label="The right person at the right time",
    formula="mean over people with a time of the mean over frames in it of cos(best-matching face, "
    "person), 0 without a face",
    quirks="read it beside the stranger's level",
    **_TIMED,
)
@register(
    "identity.timeline.{backend}.stranger",
    of="stranger",
    label="The same people at other times",
    formula="mean over people with a time of the mean over other frames with a face of "
    "cos(best-matching face, person)",
    higher_is_better=False,
    quirks="the level of whoever else is seen; people who are alike raise it",
    diagnostic=True,
    **_TIMED,
)
class IdentityTimeline(_PeopleMetric):
    """:func:`timeline_scores` over people with a time, and their mean over videos.

    Args:
        of: "own", in a person's own frames, or "stranger", in all others.
        backend: a face backend or its name.
        kwargs: of :class:`metrics.VideoMetric`.
    """

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        return self.of == "own"

    def __init__(
        self,
        of: Literal["own", "stranger"] = "own",
        backend: str | FaceBackend | None = None,
        **kwargs: Any,
    ) -> None:
        if of not in ("own", "stranger"):
            raise MetricsError(f"of is {of!r}; use own or stranger.")
        self.of = of
        super().__init__(backend, **kwargs)

    def measure(self, video: Video) -> Result:
        times, people, said = self.people(video)
        cast = self.cast(video, times)
        timed = [p for p, shown in enumerate(times.values()) if all(one.timed for one in shown)]
        if not timed:
            raise MetricsError(
                "needs a reference with a time, and everybody is expected throughout"
            )
        own, others = timeline_scores(video[self.embeddings], people, cast)
        names = list(times)
        detail: dict[str, Any] = {
            "frames": len(cast),
            "own": {names[p]: round(own[p], 4) for p in timed},
            "stranger": {
                names[p]: None if (s := others[p]) is None else round(s, 4) for p in timed
            },
        }
        if self.of == "own":
            return Result(float(np.mean([own[p] for p in timed])), detail, said)
        levels = [level for p in timed if (level := others[p]) is not None]
        if not levels:
            return Result(None, detail, "no sampled frame outside their times has a face")
        return Result(float(np.mean(levels)), detail, said)
