"""How well a video shows its prompt, by models that embed both.

CLIP sees single frames: the score is the mean over frames, and beside it that of the mean frame.
X-CLIP sees the video and conditions the text on it, so it gives one number. A prompt longer than
the model's context is cut, and a score of a cut prompt is a score of another prompt: the number of
tokens and the limit come with every value.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metrics.errors import MetricsError
from metrics.facts import Backend, register
from metrics.features.frames import FrameFeature, text_model
from metrics.features.networks.text import (
    ImageTextModel,
    TextAlignment,
    TextFeatures,
    VideoTextModel,
)
from metrics.metric import Result, Video, VideoMetric, cut_prompt, remarks


def _check(frame_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
    frame_features = torch.as_tensor(frame_features).detach()
    text_features = torch.as_tensor(text_features).detach().reshape(-1)
    if frame_features.ndim != 2 or 0 in frame_features.shape:
        raise MetricsError(
            f"frame features must be a matrix [frames, dimensions], not of shape "
            f"{tuple(frame_features.shape)}; pass one feature vector per frame."
        )
    if frame_features.shape[1] != len(text_features):
        raise MetricsError(
            f"frames have {frame_features.shape[1]} dimensions and the text has "
            f"{len(text_features)}; both must come from the same model, the text of one prompt."
        )
    text_features = text_features.to(frame_features.device)
    if not (torch.isfinite(frame_features).all() and torch.isfinite(text_features).all()):
        raise MetricsError("features hold NaN or infinite values; look at what they are of.")
    return frame_features.float(), text_features.float()


def clip_score(frame_features: Tensor, text_features: Tensor) -> float:
    """CLIP score: ``max(0, mean_i 100 cos(f_i, t))`` over a video's frames.

    As torchmetrics' CLIPScore of the frames, each with the prompt (Hessel et al. 2021, arXiv
    2104.08718, without its factor of 2.5 and clamped over the video rather than each frame).

    Args:
        frame_features: ``[T, D]``, of any length.
        text_features: ``[D]`` or ``[1, D]``.

    Returns:
        0 to 100.

    Raises:
        MetricsError: other shapes, NaN.

    Example:
        >>> import torch
        >>> frames = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> clip_score(frames, torch.tensor([1.0, 0.0]))
        50.0
    """
    frames, text = _check(frame_features, text_features)
    return max(0.0, float(F.cosine_similarity(frames, text[None], dim=1).double().mean() * 100))


def video_clip_score(frame_features: Tensor, text_features: Tensor) -> float:
    """CLIP score of the mean frame: ``max(0, 100 cos(mean_i f_i / |f_i|, t))``.

    Averaging takes out what changes from frame to frame, so it is never below the frames' score
    by more than rounding where that is positive.

    Args, raises: as :func:`clip_score`.

    Returns:
        0 to 100.

    Example:
        >>> import torch
        >>> frames = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> round(video_clip_score(frames, torch.tensor([1.0, 0.0])), 3)
        70.711
    """
    frames, text = _check(frame_features, text_features)
    mean = F.normalize(frames, dim=1).mean(dim=0)
    return max(0.0, float(F.cosine_similarity(mean, text, dim=0).double() * 100))


def text_alignment(
    model: ImageTextModel | VideoTextModel, frames: NDArray[np.uint8], prompt: str
) -> TextAlignment:
    """Score one video against its prompt with any text model.

    Args:
        model: CLIP or a video-text model.
        frames: RGB, uint8 ``[T, H, W, 3]``.
        prompt: the whole prompt; what the model cuts shows in ``tokens`` and ``limit``.

    Returns:
        The scores, 0 to 100, with the token count.

    Example:
        >>> import numpy as np, torch
        >>> class Colours:  # embeds a frame as its mean colour, and three words
        ...     name, version = "colours", "1"
        ...     def encode(self, frames):
        ...         return torch.from_numpy(frames).float().mean(dim=(1, 2))
        ...     def encode_text(self, prompts):
        ...         words = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}
        ...         return TextFeatures(torch.tensor([words[p] for p in prompts]), (1,), 1)
        >>> red = np.zeros((2, 4, 4, 3), dtype=np.uint8)
        >>> red[..., 0] = 255
        >>> text_alignment(Colours(), red, "red")
        TextAlignment(frames=100.0, video=100.0, tokens=1, limit=1)
    """
    if isinstance(model, VideoTextModel):
        return model.align(frames[None], [prompt])[0]
    return _alignment(model.encode(frames), model.encode_text([prompt]))


def _alignment(frames: Tensor, text: TextFeatures) -> TextAlignment:
    return TextAlignment(
        clip_score(frames, text.features),
        video_clip_score(frames, text.features),
        text.tokens[0],
        text.limit,
    )


_CLIPS = (
    Backend("clip", ("clip.vit_b32",), cost="a CLIP pass per frame"),
    Backend("open_clip", ("open_clip.vit_b32",), cost="a CLIP pass per frame"),
)
_SCORE: dict[str, Any] = {"family": "text", "range": (0.0, 100.0), "needs": ("prompt",)}
_CLIP: dict[str, Any] = {
    "source": "CLIPScore, arXiv 2104.08718, without its factor 2.5",
    "quirks": "prompts beyond 77 tokens are cut, with a remark",
    "backends": _CLIPS,
    **_SCORE,
}


def _video_text(model: str) -> dict[str, Any]:
    return {"backend": model, "model": model, "of": "video", **_SCORE}


@register(
    "text.{model}_score",
    label="CLIP score",
    formula="mean over frames of 100 cos(CLIP ViT-B/32 of the frame, of the prompt), at least 0",
    **_CLIP,
)
@register(
    "text.{model}_score_video",
    label="CLIP score of the mean frame",
    formula="of the mean frame embedding: 100 cos(CLIP ViT-B/32 of the frame, of the prompt), at "
    "least 0",
    of="video",
    **_CLIP,
)
@register(
    "text.viclip_score",
    label="ViCLIP score",
    formula="100 cos of video and prompt embeddings, at least 0; 8 of the sampled frames",
    source="ViCLIP, arXiv 2307.06942",
    quirks="prompts beyond 32 tokens are cut, with a remark",
    cost="a ViCLIP-L/14 pass per video",
    weights=("viclip.l14",),
    **_video_text("viclip"),
)
@register(
    "text.xclip_score",
    label="X-CLIP score",
    formula="100 cos of video and prompt embeddings, the text conditioned on the video",
    source="X-CLIP, arXiv 2208.02816",
    cost="an X-CLIP pass per video",
    weights=("xclip.base",),
    **_video_text("xclip"),
)
class CLIPScore(VideoMetric):
    """Mean of :func:`text_alignment` over videos, each with its prompt.

    ``truncated`` counts the prompts that were cut.

    Args:
        model: "clip", "open_clip", "viclip", "xclip", or a model of one of the protocols of
            `metrics.features.networks.text`.
        of: ``"frames"`` for the mean over frames, ``"video"`` for the mean frame or the video-text
            model's score.
        kwargs: of :class:`metrics.VideoMetric`.

    Raises:
        MetricsError: ``"frames"`` asked of a model without frame embeddings.

    Example:
        >>> import numpy as np, torch
        >>> class Colours:
        ...     name, version = "colours", "1"
        ...     def encode(self, frames):
        ...         return torch.from_numpy(frames).float().mean(dim=(1, 2))
        ...     def encode_text(self, prompts):
        ...         words = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}
        ...         return TextFeatures(torch.tensor([words[p] for p in prompts]), (1,), 1)
        >>> red = np.zeros((2, 4, 4, 3), dtype=np.uint8)
        >>> red[..., 0] = 255
        >>> metric = CLIPScore(Colours())
        >>> metric.update(red, "red")
        >>> metric.update(red, "blue")
        >>> float(metric.compute())
        50.0
    """

    settings = ("model_name", "of")

    truncated: Tensor

    def __init__(
        self,
        model: str | ImageTextModel | VideoTextModel | None = "clip",
        of: Literal["frames", "video"] = "frames",
        **kwargs: Any,
    ) -> None:
        if of not in ("frames", "video"):
            raise MetricsError(f"of is {of!r}; use 'frames' or 'video'.")
        self._given: Any = model
        self.of = of
        self._texts: OrderedDict[str, TextFeatures] = OrderedDict()
        super().__init__(**kwargs)
        self.add_state("truncated", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def load(self) -> Any:
        """The model that was named."""
        return text_model(self.models, self._given)

    @property
    def model(self) -> Any:
        """What embeds frames or videos, and prompts."""
        return self.models.own(self._given) or self.load()

    def prepare(self) -> None:
        if self._given is None:
            self.model_name = "none"  # to merge what other processes have seen
            return
        named = isinstance(self._given, str)
        if not named:
            self._given = self.models.add(self._given.name, self._given)
        self.model_name = f"{self.model.name}-{self.model.version}"
        if isinstance(self.model, VideoTextModel):
            if self.of == "frames":
                raise MetricsError(
                    f"{self.model.name} has no score for single frames; use CLIPScore(..., "
                    "of='video')."
                )
            self.features = ("pixels",)
            return
        self.features = (f"{self._given}.rgb",)
        if not named:
            self.models.add_feature(FrameFeature(self.features[0], self.model))

    def update(self, frames: Any, prompt: Any) -> None:  # type: ignore[override]
        """Add one video and its prompt, or a batch with a list of prompts.

        Args:
            frames: as in :class:`metrics.VideoMetric`.
            prompt: the whole text, or one per video.
        """
        for video in self.videos_of(frames, prompt=prompt):
            result = self.measure(video)
            self.add(result)
            self.truncated += int(result.detail["tokens"] > result.detail["token_limit"])

    def measure(self, video: Video) -> Result:
        if self._given is None:
            raise MetricsError("CLIPScore has no model; construct it with one.")
        found = self._alignment(video[self.features[0]], self.prompt_of(video))
        detail = {"tokens": found.tokens, "token_limit": found.limit}
        cut = cut_prompt(found.tokens, found.limit)
        value = found.frames if self.of == "frames" else found.video
        return Result(value, detail, remarks(cut, self.short(video)))

    def _alignment(self, values: list[Any], prompt: str) -> TextAlignment:
        model = self.model
        if isinstance(model, VideoTextModel):
            return model.align(np.stack(values)[None], [prompt])[0]
        return _alignment(torch.stack(values), self.encoded(prompt))

    def encoded(self, prompt: str) -> TextFeatures:
        """A prompt as the model embeds it; each is embedded once."""
        if prompt not in self._texts:
            if len(self._texts) > 4096:
                self._texts.popitem(last=False)
            self._texts[prompt] = self.model.encode_text([prompt])
        return self._texts[prompt]


@register(
    "vbench.overall_consistency",
    label="Overall consistency (VBench)",
    formula="cos of ViCLIP's video and prompt embeddings; the middles of 8 intervals",
    source="VBench, arXiv 2311.17982",
    family="text",
    backend="vbench",
    quirks="the prompt is cut at 32 tokens; published values lie at 0.2 to 0.3",
    range=(-1.0, 1.0),
    frames="8, the middles of equal intervals",
    cost="a ViCLIP-L/14 pass per video",
    needs=("prompt",),
    weights=("viclip.l14",),
)
class OverallConsistency(VideoMetric):
    """VBench's overall consistency: cosine of ViCLIP's embeddings, -1 to 1."""

    samples = False
    features = ("pixels",)
    settings = ("model_version",)

    def prepare(self) -> None:
        self.model_version = text_model(self.models, "viclip").version

    def indices(self, count: int) -> Any:
        from metrics.features.networks.viclip import middle_frames

        return np.unique(middle_frames(count, text_model(self.models, "viclip").frames))

    def measure(self, video: Video) -> Result:
        prompt, model = self.prompt_of(video), text_model(self.models, "viclip")
        cosine = model.cosines(np.stack(video["pixels"])[None], [prompt])[0]
        tokens, limit = model.tokens(prompt), model.limit
        detail = {"tokens": tokens, "token_limit": limit}
        return Result(cosine, detail, cut_prompt(tokens, limit))
