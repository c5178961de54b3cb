"""The drawn world's metrics, registered as any plug-in registers its own."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from metrics.facts import Backend, register
from metrics.features.clips import video_encoder
from metrics.features.models import Models
from metrics.frames import Frames
from metrics.metric import Result, Video, VideoMetric
from metrics.text import CLIPScore
from metrics.timeline import FACTS, TimelineScore
from miniature.judges.attributes import (
    LEAKING,
    MiniatureAttributes,
    agreement,
    leakage,
    parse_prompt,
)
from miniature.judges.text import MiniatureTextVideo
from miniature.judges.video import MiniatureVideo


@video_encoder(
    "miniature",
    weights=("miniature.video",),
    source="this package",
    quirks="knows drawn faces only; nine frames are taken evenly from the window",
    by_default=False,
)
def load_video(models: Models) -> MiniatureVideo:
    """The video network behind ``fvd.miniature`` and ``kvd.miniature``."""
    return MiniatureVideo(models.device)


@register(
    "text.miniature",
    label="Text-video similarity (miniature)",
    formula="100 cos of clip and prompt embeddings",
    source="this package",
    family="text",
    backend="miniature",
    quirks="knows the captions and clips of the drawn world only",
    range=(0.0, 100.0),
    cost="a small network per video",
    needs=("prompt",),
    weights=("miniature.text",),
    by_default=False,
)
class MiniatureTextScore(CLIPScore):
    """Whether a clip of the drawn world shows its prompt."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("miniature", "video", **kwargs)

    def load(self) -> Any:
        device = self.models.device
        return self.models.shared("text.miniature", lambda: MiniatureTextVideo(device))


_TIMELINE: dict[str, Any] = {
    "backend": "miniature",
    "quirks": "knows the captions and clips of the drawn world only",
    "cost": "a small network per event and moment",
    "weights": ("miniature.text",),
    "by_default": False,
}


@register("timeline.alignment.miniature", measured="alignment", **_TIMELINE, **FACTS["alignment"])
@register("timeline.accuracy.miniature", measured="accuracy", **_TIMELINE, **FACTS["accuracy"])
@register("timeline.order.miniature", measured="order", **_TIMELINE, **FACTS["order"])
@register("timeline.boundary.miniature", measured="boundary", **_TIMELINE, **FACTS["boundary"])
class MiniatureTimeline(TimelineScore):
    """How well a clip of the drawn world keeps to its timeline."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("miniature", **kwargs)

    load = MiniatureTextScore.load


_WORLD: dict[str, Any] = {
    "source": "this package",
    "backend": "miniature",
    "quirks": "knows the drawn world only; a prompt that says nothing of it has no value",
    "cost": "a small network per video",
    "needs": ("prompt",),
    "weights": ("miniature.video",),
    "by_default": False,
}
_SHARE = "share of what the prompt says of the {} that a classifier sees in the clip"


class _Judged(VideoMetric):
    """A metric of what the attribute judge names in clips."""

    features = ("pixels",)
    settings: ClassVar[tuple[str, ...]] = ("judge_version",)

    @property
    def judge(self) -> MiniatureAttributes:
        """What names the attributes of a clip."""
        device = self.models.device
        return self.models.shared("attributes", lambda: MiniatureAttributes(device))

    def prepare(self) -> None:
        self.judge_version = self.judge.version

    def labels(self, clip: Frames) -> dict[str, str]:
        """What is seen in a clip uint8 [T, H, W, 3], by attribute."""
        return {name: found[0] for name, found in self.judge.predict(clip[None]).items()}


@register(
    "world.background",
    label="Background as the prompt says",
    formula=_SHARE.format("background colour and pattern"),
    family="text",
    **_WORLD,
)
class WorldBackground(_Judged):
    """Whether colour and pattern of the background are what the prompt says, 0 to 1."""

    said: ClassVar[tuple[str, ...]] = ("color", "pattern")

    def measure(self, video: Video) -> Result:
        seen = self.labels(np.stack(video["pixels"]))
        said = parse_prompt(video.prompt or "")
        value = agreement(said, seen, self.said)
        detail = {f"said_{n}": said.get(n, "") for n in self.said} | {
            f"seen_{n}": seen.get(n, "") for n in self.said
        }
        if np.isnan(value):
            return Result(None, detail, f"the prompt names no {' and no '.join(self.said)}")
        return Result(value, detail)


@register(
    "world.motion",
    label="Motion as the prompt says",
    formula=_SHARE.format("motion"),
    family="motion",
    **_WORLD,
)
class WorldMotion(WorldBackground):
    """Whether the motion is what the prompt says, 0 or 1."""

    said = ("motion",)


@register(
    "leakage.attributes.{attribute}",
    label="Leakage",
    formula="1 where a classifier sees in the clip what it sees in the reference though the prompt "
    "asks for another, else 0; any: their mean over the attributes that are asked otherwise",
    source="this package",
    family="copying",
    backends=[Backend(name, by_default=False) for name in (*LEAKING, "any")],
    higher_is_better=False,
    quirks="knows the drawn world only; no value where the prompt names nothing that the reference "
    "lacks; three in four expressions of true clips are named correctly",
    cost="a small network per video and reference",
    needs=("prompt", "reference"),
    weights=("miniature.video",),
)
class AttributeLeakage(_Judged):
    """Whether a clip shows its reference's expression, light, hat or background, 0 or 1.

    Args:
        attribute: one of `attributes.LEAKING`, or "any" for the mean of all.

    With several references the mean over those that differ from what is asked.
    """

    settings = ("judge_version", "attribute")

    def __init__(self, attribute: str, **kwargs: Any) -> None:
        self.attribute = attribute
        super().__init__(**kwargs)

    def measure(self, video: Video) -> Result:
        seen, said = self.labels(np.stack(video["pixels"])), parse_prompt(video.prompt or "")
        # A reference is a clip of one frame: the judge repeats it.
        shown = [self.labels(picture.pixels[None]) for picture in video.references]
        found = [leakage(said, seen, labels)[self.attribute] for labels in shown]
        asked = [value for value in found if not np.isnan(value)]
        parts = [p for name, ps in LEAKING.items() if self.attribute in (name, "any") for p in ps]
        detail = {f"said_{p}": said.get(p, "") for p in parts}
        detail |= {f"seen_{p}": seen[p] for p in parts}
        detail |= {f"reference_{p}": ", ".join(labels[p] for labels in shown) for p in parts}
        if not asked:
            return Result(None, detail, "the prompt names nothing here that the reference lacks")
        return Result(float(np.mean(asked)), detail)
