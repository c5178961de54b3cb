"""How well a video keeps to a timeline: what happens, when, and in which order.

A text model scores every caption of the timeline on every part of the video; all four metrics read
that matrix. They follow the temporal track of the identity-preserving challenge of ACM Multimedia
2026 in what they ask, not in a formula, since none is published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import kendalltau

from metrics.errors import MetricsError
from metrics.facts import Backend, register
from metrics.features.base import Indices
from metrics.features.models import sampled
from metrics.frames import as_videos
from metrics.metric import Event, Result, Video, remarks
from metrics.text import CLIPScore, VideoTextModel

FRAMES = 64
"""Frames looked at, evenly over the video; borders are found to half the step between two."""

Scores = NDArray[np.float64]


def event_accuracy(scores: Scores, captions: Sequence[str]) -> float:
    """Share of events whose own caption scores above every other caption on the event's frames.

    Args:
        scores: ``[E, E]``; row e holds all captions' scores on the frames of event e.
        captions: of the E events; a caption is not compared with a repetition of itself.

    Returns:
        0 to 1; guessing gives 1 / E.

    Raises:
        MetricsError: fewer than two different captions.

    Example:
        >>> import numpy as np
        >>> event_accuracy(np.array([[3.0, 1.0], [2.0, 1.0]]), ["waves", "nods"])
        0.5
    """
    if len(set(captions)) < 2:
        raise MetricsError("all events have one caption, and there is nothing to tell apart")
    right = []
    for e, own in enumerate(captions):
        rivals = [scores[e, f] for f, other in enumerate(captions) if other != own]
        right.append(scores[e, e] > max(rivals))
    return float(np.mean(right))


def order_tau(scores: Scores, lengths: Sequence[int], starts: Sequence[float]) -> float:
    """Kendall's tau-b between the stated order of events and the order in which they are found.

    A caption is found where its score, less the mean of all captions' there, is highest over a
    window as long as its event.

    Args:
        scores: ``[E, T]``, each caption at each of T moments.
        lengths: moments of each event.
        starts: stated starts of the E events.

    Returns:
        -1, the reverse, to 1.

    Raises:
        MetricsError: fewer than two events, or all found at one moment.

    Example:
        >>> import numpy as np
        >>> seen = np.array([[0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 0.0, 0.0]])
        >>> order_tau(seen, [2, 2], [0.0, 1.0])
        -1.0
    """
    if len(starts) < 2:
        raise MetricsError("one event has no order")
    contrast = scores - scores.mean(axis=0)
    found = []
    for row, length in zip(contrast, lengths, strict=True):
        window = max(1, min(int(length), len(row)))
        sums = np.convolve(row, np.ones(window), mode="valid")
        found.append(int(sums.argmax()) + window / 2)
    tau = float(kendalltau(starts, found).statistic)
    if math.isnan(tau):
        raise MetricsError("all events are stated or found at one moment, and have no order")
    return tau


def border_errors(
    scores: Scores, moments: Scores, events: Sequence[tuple[float, float]]
) -> list[float]:
    """Seconds between each stated border and where the scores change from one event to the next.

    The change lies where the next caption's lead, summed to the right, and the former's, summed to
    the left, are greatest together. Where there is none it lies at an end of the two events.

    Args:
        scores: ``[E, T]``, each caption at each of T moments.
        moments: their T times in seconds, ascending.
        events: start and end of each event in seconds.

    Returns:
        One distance per pair of neighbours, in order of their starts.

    Example:
        >>> import numpy as np
        >>> seen = np.array([[9.0, 9.0, 9.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
        >>> border_errors(seen, np.array([0.5, 1.5, 2.5, 3.5]), [(0.0, 2.0), (2.0, 4.0)])
        [1.0]
    """
    order = sorted(range(len(events)), key=lambda e: events[e])
    errors = []
    for a, b in pairwise(order):
        start, end = events[a][0], events[b][1]
        inside = (moments >= start) & (moments < end)
        lead = (scores[a] - scores[b])[inside]
        at = moments[inside]
        between = np.concatenate([[start], (at[1:] + at[:-1]) / 2, [end]]) if len(at) else [start]
        gain = np.concatenate([[0.0], np.cumsum(lead)])
        stated = (events[a][1] + events[b][0]) / 2
        errors.append(abs(float(between[int(gain.argmax())]) - stated))
    return errors


_BACKENDS = (
    Backend("clip", ("clip.vit_b32",), cost="a CLIP pass per frame",
            quirks="sees single frames: events that differ only in direction cannot be told apart"),
    Backend("open_clip", ("open_clip.vit_b32",), cost="a CLIP pass per frame",
            quirks="sees single frames: events that differ only in direction cannot be told apart"),
    Backend("xclip", ("xclip.base",), cost="some twenty X-CLIP passes per event"),
)  # fmt: skip
Measure = Literal["alignment", "accuracy", "order", "boundary"]

#: What each metric says of itself, for the text models here and for those of plug-ins.
FACTS: dict[Measure, dict[str, Any]] = {
    "alignment": {
        "label": "Event alignment",
        "formula": "mean over events of the text score of the event's caption on its own frames",
        "range": (0.0, 100.0),
    },
    "accuracy": {
        "label": "Event accuracy",
        "formula": "share of events whose own caption scores above the other captions on its "
        "frames; guessing gives one over the number of events",
        "range": (0.0, 1.0),
    },
    "order": {
        "label": "Event order",
        "formula": "Kendall's tau-b between the stated order of events and the order in which "
        "their captions' scores, less the mean of all captions', are highest",
        "range": (-1.0, 1.0),
    },
    "boundary": {
        "label": "Border error",
        "formula": "mean seconds between a stated border and where the scores change from one "
        "event's caption to the next's",
        "range": (0.0, None),
        "higher_is_better": False,
    },
}
for _facts in FACTS.values():
    _facts |= {
        "source": "this package",
        "family": "timeline",
        "needs": ("timeline",),
        "frames": f"{FRAMES}, evenly over the video",
    }


@register(
    "timeline.alignment.{model}", backends=_BACKENDS, measured="alignment", **FACTS["alignment"]
)
@register("timeline.accuracy.{model}", backends=_BACKENDS, measured="accuracy", **FACTS["accuracy"])
@register("timeline.order.{model}", backends=_BACKENDS, measured="order", **FACTS["order"])
@register("timeline.boundary.{model}", backends=_BACKENDS, measured="boundary", **FACTS["boundary"])
class TimelineScore(CLIPScore):
    """How well a video keeps to its timeline, by a text model.

    Args:
        model: "clip", "open_clip", "xclip", or a model of one of the protocols of
            `metrics.features.networks.text`.
        measured: "alignment", "accuracy", "order" or "boundary".
        kwargs: of :class:`metrics.VideoMetric`.
    """

    settings = ("model_name", "measured")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        return bool(FACTS[self.measured].get("higher_is_better", True))

    def __init__(self, model: Any = "clip", measured: Measure = "accuracy", **kwargs: Any) -> None:
        if measured not in FACTS:
            raise MetricsError(f"measured is {measured!r}; use one of {', '.join(FACTS)}.")
        self.measured: Measure = measured
        kwargs.setdefault("of", "video")
        super().__init__(model, **kwargs)

    def indices(self, count: int) -> Indices:
        return sampled(count, min(count, FRAMES))

    def update(  # type: ignore[override]
        self, frames: Any, timeline: Sequence[tuple[float, float, str]], fps: float
    ) -> None:
        """Add one video.

        Args:
            frames: as in :class:`metrics.VideoMetric`, one video.
            timeline: (start, end, caption) of each event, in seconds.
            fps: frames per second.
        """
        (pixels,) = as_videos(frames)
        events = tuple(Event(*event) for event in timeline)
        self.add(self.measure(self.video_of(pixels, timeline=events, fps=fps)))

    def measure(self, video: Video) -> Result:
        if not video.timeline:
            raise MetricsError(f"{type(self).__name__} needs a timeline; pass the video's.")
        if not video.fps:
            raise MetricsError(
                "the frames have no frame rate, and a timeline can't be laid over them; make a "
                "video of them"
            )
        moments: Scores = (video.indices.astype(np.float64) + 0.5) / video.fps
        own = [np.flatnonzero((moments >= e.start) & (moments < e.end)) for e in video.timeline]
        for event, frames in zip(video.timeline, own, strict=True):
            if not len(frames):
                raise MetricsError(
                    f"the video ends after {video.count / video.fps:.2f} s, and the event "
                    f"{event.caption!r} lies from {event.start:g} to {event.end:g} s"
                )
        values = video[self.features[0]]
        captions = [event.caption for event in video.timeline]
        detail: dict[str, Any] = {"events": len(captions), "chance": 1 / len(captions)}
        if self.measured in ("alignment", "accuracy"):
            parts = [[values[i] for i in frames.tolist()] for frames in own]
            scores = self._scores(parts, captions)
            detail["own"] = [round(float(v), 4) for v in scores.diagonal()]
            if self.measured == "alignment":
                return Result(float(scores.diagonal().mean()), detail, self._cut(captions))
            return Result(event_accuracy(scores, captions), detail, self._cut(captions))
        spans = [(event.start, event.end) for event in video.timeline]
        curves = self._curves(values, captions)
        if self.measured == "order":
            tau = order_tau(curves, [len(f) for f in own], [start for start, _ in spans])
            return Result(tau, detail, self._cut(captions))
        if len(spans) < 2:
            raise MetricsError("one event has no border with another")
        errors = border_errors(curves, moments, spans)
        detail["borders"] = [round(error, 4) for error in errors]
        return Result(float(np.mean(errors)), detail, self._cut(captions))

    def _curves(self, values: list[Any], captions: list[str]) -> Scores:
        """Each caption's score at each moment, [E, T]."""
        if not isinstance(self.model, VideoTextModel):
            return self._scores([[value] for value in values], captions).T
        # Motion takes more than a frame: clips around each moment, half an event long.
        half = max(1, len(values) // (4 * len(captions)))
        parts = [values[max(0, t - half) : t + half + 1] for t in range(len(values))]
        return self._scores(parts, captions).T

    def _scores(self, parts: list[list[Any]], captions: list[str]) -> Scores:
        """Each caption's score on each part, [parts, E], 0 to 100."""
        model = self.model
        if isinstance(model, VideoTextModel):
            rows = []
            for part in parts:
                clips = np.repeat(np.stack(part)[None], len(captions), axis=0)
                rows.append([found.video for found in model.align(clips, captions)])
            return np.array(rows, dtype=np.float64)
        text = F.normalize(self._text(captions), dim=1).double()
        means = torch.stack([F.normalize(torch.stack(p).float(), dim=1).mean(0) for p in parts])
        return (100 * means.double() @ text.T).clamp(min=0).numpy()

    def _text(self, captions: list[str]) -> torch.Tensor:
        return torch.cat([self.encoded(caption).features.float() for caption in captions])

    def _cut(self, captions: list[str]) -> str:
        if isinstance(self.model, VideoTextModel):
            return ""
        cut = [caption for caption in captions if self.encoded(caption).truncated[0]]
        return remarks(f"{len(cut)} captions are longer than the model reads" if cut else "")
