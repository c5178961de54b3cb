"""How good the frames look, whatever they show: aesthetics and technical quality.

Scores of single frames, averaged. The networks are other people's, run by libraries that keep them
(transformers, open_clip, pyiqa); VBench's and OpenS2V-Eval's own frames and preprocessing stand
under their names.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from metrics.errors import MetricsError
from metrics.facts import register
from metrics.features.base import Indices
from metrics.features.frames import text_model
from metrics.metric import Result, Video, VideoMetric
from metrics.protocols import opens2v_frames
from metrics.temporal import VBENCH

__all__ = ["Aesthetics", "ClipIQA", "ImageQuality", "OpenS2VAesthetics", "VBenchAesthetics"]

_LAION = "LAION aesthetic predictor"
_AESTHETICS: dict[str, Any] = {"family": "quality", "cost": "a CLIP ViT-L/14 pass per frame"}


@register(
    "quality.aesthetic",
    label="Aesthetics (LAION)",
    formula="mean over sampled frames of the improved predictor of CLIP ViT-L/14's embedding",
    source=f"{_LAION}, improved (sac+logos+ava1)",
    backend="laion",
    quirks="learned from ratings of pictures of 2022; about 1 to 10, without bounds",
    range=(None, None),
    weights=("clip.vit_l14", "laion.mlp"),
    **_AESTHETICS,
)
class Aesthetics(VideoMetric):
    """Mean score of LAION's improved aesthetic predictor over frames, then over videos."""

    features = ("clip_l14.rgb",)
    head: str = "laion.mlp"
    settings = ("head_version",)

    @property
    def network(self) -> Any:
        """The predictor on top of CLIP."""
        from metrics.features.networks.quality import AestheticHead

        models, path = self.models, self.models.weight(self.head)
        deep = self.head == "laion.mlp"
        return models.shared(self.head, lambda: AestheticHead(path, deep, models.device))

    def prepare(self) -> None:
        self.head_version = self.network.version

    def measure(self, video: Video) -> Result:
        return self.result(self.network.score(torch.stack(video[self.features[0]])), video)

    def result(self, scores: torch.Tensor, video: Video) -> Result:
        """The value of the frames' scores ``[T]``."""
        return Result(float(scores.double().mean()), {"frames": len(scores)}, self.short(video))


@register(
    "opens2v.aesthetics",
    label="Aesthetics (OpenS2V-Eval)",
    formula="(clamp(quality.aesthetic of 32 frames, 4, 7) - 4) / 3, as it enters the total",
    source="OpenS2V-Eval, arXiv 2505.20292",
    backend="opens2v",
    quirks="the mean over frames is cut to 4..7, then scaled; frames of a short video repeat",
    frames="32, linspace",
    weights=("clip.vit_l14", "laion.mlp"),
    **_AESTHETICS,
)
class OpenS2VAesthetics(Aesthetics):
    """OpenS2V-Eval's aesthetics on the anchors 4 and 7 of its total, 0 to 1."""

    samples = False

    def indices(self, count: int) -> Indices:
        return torch.from_numpy(opens2v_frames(count)).unique().numpy()

    def measure(self, video: Video) -> Result:
        taken = video.get(self.features[0], opens2v_frames(video.count))
        found = self.result(self.network.score(torch.stack(taken)), video)
        raw = found.value
        assert raw is not None
        return Result((min(max(raw, 4.0), 7.0) - 4) / 3, {**found.detail, "aesthetic": raw})


@register(
    "vbench.aesthetic_quality",
    label="Aesthetic quality (VBench)",
    formula="mean over all frames of the linear predictor of CLIP ViT-L/14's embedding / 10",
    source=VBENCH,
    backend="vbench",
    quirks="frames reach CLIP resized without antialiasing, as VBench's do; rarely leaves 0..1",
    range=(None, None),
    frames="all",
    weights=("clip.vit_l14", "laion.linear"),
    **_AESTHETICS,
)
class VBenchAesthetics(Aesthetics):
    """VBench's aesthetic quality: the linear LAION predictor over every frame."""

    samples = False
    features = ("clip_l14.vbench",)
    head = "laion.linear"

    def result(self, scores: torch.Tensor, video: Video) -> Result:
        return super().result(scores / 10, video)


_IQA: dict[str, Any] = {"family": "quality", "modules": ("pyiqa",), "range": (None, None)}


@register(
    "quality.imaging",
    label="Imaging quality (MUSIQ)",
    formula="mean over sampled frames of MUSIQ trained on KonIQ-10k",
    source="MUSIQ, arXiv 2108.05997; pyiqa",
    backend="musiq",
    quirks="about 0 to 100, without bounds; frames at full size",
    cost="a MUSIQ pass per frame",
    weights=("musiq.koniq",),
    network="musiq",
    **_IQA,
)
@register(
    "quality.maniqa",
    label="Image quality (MANIQA)",
    formula="mean over sampled frames of MANIQA trained on KonIQ-10k",
    source="MANIQA, arXiv 2204.08958; pyiqa",
    backend="maniqa",
    quirks="about 0 to 1; looks at crops of 224 pixels",
    cost="twenty ViT-B/8 passes per frame",
    weights=("maniqa.koniq", "maniqa.vit"),
    network="maniqa",
    **_IQA,
)
@register(
    "vbench.imaging_quality",
    label="Imaging quality (VBench)",
    formula="mean over all frames of MUSIQ trained on SPAQ / 100, longer side at most 512",
    source=VBENCH,
    backend="vbench",
    quirks="frames are reduced without antialiasing, as VBench's are; rarely leaves 0..1",
    cost="a MUSIQ pass for every frame",
    frames="all",
    weights=("musiq.spaq",),
    network="musiq.vbench",
    **_IQA,
)
class ImageQuality(VideoMetric):
    """Mean quality of frames by a network of pyiqa, then over videos.

    Args:
        network: "musiq", "maniqa", or "musiq.vbench" for VBench's frames, file and scale.
        kwargs: of :class:`metrics.VideoMetric`.
    """

    settings = ("network",)

    def __init__(self, network: str = "musiq", **kwargs: Any) -> None:
        self.network = network
        if network == "musiq.vbench":
            kwargs["num_frames"] = None  # every frame
        super().__init__(**kwargs)

    def prepare(self) -> None:
        self.features = (f"iqa.{self.network}",)

    def measure(self, video: Video) -> Result:
        scores = torch.stack(video[self.features[0]]).double()
        unit = 100 if self.network == "musiq.vbench" else 1
        return Result(float(scores.mean()) / unit, {"frames": len(scores)}, self.short(video))


@register(
    "quality.clip_iqa",
    label="CLIP-IQA",
    formula="mean over sampled frames of softmax(100 cos(frame, 'Good photo.'), 100 cos(frame, "
    "'Bad photo.')), the first",
    source="CLIP-IQA, arXiv 2207.12396; as torchmetrics has it on CLIP ViT-B/32",
    family="quality",
    backend="clip",
    quirks="the paper's network is a ResNet-50 without positions: numbers do not compare",
    cost="none beside text.clip_score, a CLIP ViT-B/32 pass per frame without",
    weights=("clip.vit_b32",),
)
class ClipIQA(VideoMetric):
    """Whether frames look more like a good photo than like a bad one, 0 to 1."""

    features = ("clip.rgb",)
    words = ("Good photo.", "Bad photo.")

    def measure(self, video: Video) -> Result:
        rows = F.normalize(torch.stack(video["clip.rgb"]).float(), dim=-1)
        model = text_model(self.models, "clip")
        anchors = F.normalize(model.encode_text(list(self.words)).features.float().cpu(), dim=-1)
        if not torch.isfinite(rows).all():
            raise MetricsError("features hold NaN or infinite values; look at the frames.")
        found = (100 * rows @ anchors.T).softmax(dim=-1)[:, 0].double()
        return Result(float(found.mean()), {"frames": len(found)}, self.short(video))
