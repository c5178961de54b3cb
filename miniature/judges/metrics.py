"""The drawn world's metrics, registered as anybody's plug-in registers its own."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from metrics.facts import register
from metrics.features.clips import video_encoder
from metrics.features.models import Models
from metrics.metric import Result, Video, VideoMetric
from metrics.text import CLIPScore
from miniature.judges.attributes import MiniatureAttributes, agreement, parse_prompt
from miniature.judges.text import MiniatureTextVideo
from miniature.judges.video import MiniatureVideo

__all__ = ["MiniatureTextScore", "WorldBackground", "WorldMotion", "load_video"]


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


@register(
    "world.background",
    label="Background as the prompt says",
    formula=_SHARE.format("background colour and pattern"),
    family="text",
    **_WORLD,
)
class WorldBackground(VideoMetric):
    """Whether colour and pattern of the background are what the prompt says, 0 to 1."""

    features = ("pixels",)
    settings = ("judge_version",)
    said: ClassVar[tuple[str, ...]] = ("color", "pattern")

    @property
    def judge(self) -> MiniatureAttributes:
        """What names the attributes of a clip."""
        device = self.models.device
        return self.models.shared("attributes", lambda: MiniatureAttributes(device))

    def prepare(self) -> None:
        self.judge_version = self.judge.version

    def measure(self, video: Video) -> Result:
        clip = np.stack(video["pixels"])
        seen = {name: labels[0] for name, labels in self.judge.predict(clip[None]).items()}
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
