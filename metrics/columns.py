"""Every metric as a column of the suite: which frames and features it wants, and what it reports.

The arithmetic is in the modules of the metrics (`metrics.identity`, `metrics.protocols`,
`metrics.temporal`, `metrics.text`, `metrics.leakage`, `metrics.distribution`); a column picks the
frames, hands over the features that the suite has computed, and returns a value with its detail.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from media.images import read_image
from media.video import VideoInfo, sample_linspace
from metrics.errors import MetricsError
from metrics.faces.base import FaceBackend, Faces, Frames
from metrics.features import (
    AlignedFeature,
    CropsFeature,
    EmbeddingsFeature,
    FacesFeature,
    Feature,
    FrameFeature,
    PixelsFeature,
    ProtocolFacesFeature,
)
from metrics.identity import IdentityScores, best_faces, identity_scores
from metrics.protocols import (
    ProtocolFace,
    clip_frames,
    clip_score_bgr,
    consisid_fid,
    consisid_frames,
    consisid_similarity,
    opens2v_frames,
    opens2v_similarity,
)
from metrics.registry import MetricInfo
from metrics.scores import VideoItem
from metrics.weights import require, short_hash

__all__ = ["Column", "Context", "Result", "SetColumn", "StreamState", "Video", "build_feature"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """A value, or in words why there is none; with a value, ``reason`` is a remark on it."""

    value: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


class Context(Protocol):
    """What the suite lends to its columns."""

    num_frames: int
    device: str
    weights: Mapping[str, str | Path]

    def feature(self, name: str) -> str:
        """Make sure that the suite computes a feature; returns its version."""
        ...

    def add_feature(self, feature: Feature) -> None:
        """Add a feature; what it requires has to be there already."""
        ...

    def shared(self, key: str, load: Callable[[], Any]) -> Any:
        """A model that several columns use, loaded once."""
        ...

    def backend(self, name: str) -> FaceBackend:
        """A face backend, loaded once."""
        ...

    def of_image(self, name: str, path: str | Path) -> Any:
        """A feature of a reference image, computed once however often it is asked for."""
        ...

    def needed_border(self, name: str, path: str | Path) -> bool:
        """Whether a reference's faces were only found with a border: they fill the picture."""
        ...

    def of_video(self, name: str, path: str | Path, indices: Indices | None = None) -> list[Any]:
        """A feature of another video's frames; sampled evenly where no indices are given."""
        ...


class StreamState(Protocol):
    """A metric that sees every frame of a video, a chunk at a time."""

    def update(self, frames: Frames) -> None:
        """The next frames, uint8 ``[n, H, W, 3]``."""
        ...

    def result(self) -> float:
        """The value once all frames were seen."""
        ...


class Video(Protocol):
    """A video whose features have been computed."""

    item: VideoItem
    info: VideoInfo

    def get(self, feature: str, indices: Indices) -> list[Any]:
        """A feature at these frames."""
        ...


class Column:
    """Base of the columns.

    Attributes:
        info: the registry's row.
        version: of everything that the number depends on.
        features: names of the frame features it wants at `indices`.
    """

    features: tuple[str, ...] = ()

    def __init__(self, info: MetricInfo, context: Context) -> None:
        self.info = info
        self.context = context
        self.version = "1"
        self.prepare()

    def prepare(self) -> None:
        """Load what the metric needs."""

    def want(self, *features: str) -> None:
        """Ask the suite for features and take their versions for this column's."""
        self.features = features
        self.version = "+".join(dict.fromkeys(self.context.feature(f) for f in features))

    def indices(self, count: int) -> Indices:
        """The frames that it looks at, of a video of ``count``; each once, ascending."""
        return np.unique(sample_linspace(count, self.context.num_frames))

    def start(self, video: Video) -> StreamState | None:
        """The state of a metric that sees every frame; None for one that samples."""
        return None

    def score(self, video: Video) -> Result:
        """The value of one video, from the features at `indices`."""
        raise MetricsError(f"{self.info.name} has no value for a single video.")

    def get(self, video: Video, feature: str) -> list[Any]:
        """A feature at the column's own frames."""
        return video.get(feature, self.indices(video.info.count))

    def short(self, video: Video) -> str:
        """A remark where the video has fewer frames than are asked for."""
        asked, count = self.context.num_frames, video.info.count
        if count >= asked:
            return ""
        frames = "1 frame" if count == 1 else f"{count} frames"
        return f"the video has {frames}, fewer than the {asked} asked, and each was used once"


def build_feature(context: Context, name: str) -> None:
    """Make the frame feature of that name, and those it requires, and add them to the suite.

    Raises:
        MetricsError: weights that it needs aren't on this machine, or the name isn't known.
    """
    family, _, rest = name.partition(".")

    def weight(key: str) -> Path:
        return require(key, context.weights.get(key))

    if family == "faces":
        context.add_feature(FacesFeature(context.backend(rest)))
    elif family in ("embeddings", "crops"):
        context.feature(f"faces.{rest}")
        make = EmbeddingsFeature if family == "embeddings" else CropsFeature
        context.add_feature(make(context.backend(rest)))
    elif name == "pixels":
        context.add_feature(PixelsFeature())
    elif name in ("clip.rgb", "clip.bgr"):
        model = clip_model(context)
        context.add_feature(FrameFeature(name, model, model.version, bgr=rest == "bgr"))
    elif name == "open_clip.rgb":
        model = open_clip_model(context)
        context.add_feature(FrameFeature(name, model, model.version))
    elif name == "dino.vitb16":
        from metrics.extractors.image import DINO

        dino = DINO(weight("dino.vitb16"), device=context.device)
        context.add_feature(FrameFeature(name, dino, dino.version))
    elif name == "inception.fid":
        from metrics.extractors.image import ScriptedInception

        inception = ScriptedInception(weight("inception.fid"), device=context.device)
        context.add_feature(FrameFeature(name, inception, inception.version))
    elif name == "protocol.faces":
        from importlib.metadata import version

        from metrics.protocols import InsightFaceAnalyser, ProtocolFaces

        pack = weight("insightface.buffalo_l")
        faces = ProtocolFaces(InsightFaceAnalyser(pack, context.device))
        made = f"{version('insightface')}-{short_hash(pack)}"
        context.add_feature(ProtocolFacesFeature(faces, made))
    elif name == "protocol.curricular":
        from metrics.faces.curricularface import load_ir101
        from metrics.protocols import CurricularEmbedder

        made = context.feature("protocol.faces")
        path = weight("curricularface.ir101")
        embedder = CurricularEmbedder(load_ir101(path, context.device), context.device)
        context.add_feature(AlignedFeature(name, embedder, f"{made}-{short_hash(path)}"))
    elif name == "protocol.inception":
        from metrics.protocols import ConsisIDInception

        made = context.feature("protocol.faces")
        path = weight("inception.imagenet")
        features = ConsisIDInception(path, context.device)
        context.add_feature(AlignedFeature(name, features, f"{made}-{short_hash(path)}"))
    else:
        raise MetricsError(f"no feature is called {name!r}.")


def clip_model(context: Context) -> Any:
    """CLIP ViT-B/32 of transformers."""
    from metrics.extractors.clip import TransformersCLIP

    source = require("clip.vit_b32", context.weights.get("clip.vit_b32"))
    return context.shared("clip", lambda: TransformersCLIP(source, device=context.device))


def open_clip_model(context: Context) -> Any:
    """CLIP ViT-B/32 of open_clip."""
    from metrics.extractors.clip import OpenCLIP

    # OpenAI's weights were trained with the fast GELU; open_clip has an architecture for it.
    path = require("open_clip.vit_b32", context.weights.get("open_clip.vit_b32"))
    name = "ViT-B-32-quickgelu"
    return context.shared("open_clip", lambda: OpenCLIP(name, path, device=context.device))


# --- faces and identity ----------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The face of a reference image."""

    embedding: Tensor  # [D]
    place: int  # among the image's faces
    remark: str = ""


def reference_face(context: Context, backend: str, path: Path) -> Reference:
    """Embedding of a reference's largest face, with a remark where there are several.

    Raises:
        MetricsError: the image can't be read, or has no face.
    """
    faces = context.of_image(f"embeddings.{backend}", path)
    if len(faces) == 0:
        raise MetricsError(f"no face was found in the reference {path}; use a photograph of one.")
    remark = f"the reference {path.name} has {len(faces)} faces; the largest was taken"
    return Reference(faces[0], 0, remark if len(faces) > 1 else "")


def remarks(*parts: str) -> str:
    """Remarks that aren't empty, each once, as one text."""
    return "; ".join(dict.fromkeys(p for p in parts if p))


class FaceRate(Column):
    """``faces.rate.<backend>``."""

    def prepare(self) -> None:
        self.want(f"faces.{self.info.backend}")

    def score(self, video: Video) -> Result:
        faces: list[Faces] = self.get(video, self.features[0])
        counts = [len(f) for f in faces]
        found = sum(c > 0 for c in counts)
        detail = {"frames": len(faces), "frames_with_face": found, "most_faces": max(counts)}
        reason = remarks(self.short(video), "" if found else "no sampled frame has a face")
        return Result(found / len(faces), detail, reason)


class Identity(Column):
    """``identity.<backend>`` and what stands beside it."""

    def prepare(self) -> None:
        self.want(f"embeddings.{self.info.backend}")

    def scores(self, video: Video) -> tuple[IdentityScores, str]:
        references = [
            reference_face(self.context, self.info.backend, path) for path in video.item.references
        ]
        stacked = torch.stack([r.embedding for r in references])
        scores = identity_scores(self.get(video, self.features[0]), stacked)
        reason = remarks(
            *(r.remark for r in references),
            self.short(video),
            "" if scores.face_rate else "no sampled frame has a face",
        )
        return scores, reason

    def score(self, video: Video) -> Result:
        scores, reason = self.scores(video)
        frames = len(scores.per_frame)
        detail: dict[str, Any] = {
            "frames": frames,
            "frames_with_face": round(scores.face_rate * frames),
            "references": len(video.item.references),
            "faces_only": scores.faces_only,
        }
        if scores.largest is not None:
            detail |= {"largest": scores.largest, "differs": scores.differs}
        value = self.pick(scores)
        if value is None:
            several = len(video.item.references) > 1
            why = "there are several references" if several else "no sampled frame has a face"
            return Result(None, detail, f"has no value, since {why}")
        return Result(value, detail, reason)

    def pick(self, scores: IdentityScores) -> float | None:
        return scores.all_frames


class IdentityFacesOnly(Identity):
    """``identity.<backend>.faces_only``."""

    def pick(self, scores: IdentityScores) -> float | None:
        return scores.faces_only


class IdentityLargest(Identity):
    """``identity.<backend>.largest``."""

    def pick(self, scores: IdentityScores) -> float | None:
        return scores.largest


class IdentityDiffers(Identity):
    """``identity.<backend>.differs``."""

    def pick(self, scores: IdentityScores) -> float | None:
        return scores.differs


class IdentityConsistency(Column):
    """``identity.<backend>.consistency``."""

    def prepare(self) -> None:
        self.want(f"embeddings.{self.info.backend}")

    def score(self, video: Video) -> Result:
        from metrics.temporal import neighbour_consistency

        frames: list[Tensor] = self.get(video, self.features[0])
        reference = None
        if len(video.item.references) == 1:
            path = video.item.references[0]
            reference = reference_face(self.context, self.info.backend, path).embedding
        places = best_faces(frames, reference)
        width = next((f.shape[1] for f in frames if len(f)), 1)
        rows = [torch.zeros(width) if k is None else f[k] for f, k in zip(frames, places)]
        present = torch.tensor([k is not None for k in places])
        found = neighbour_consistency(torch.stack(rows), present)
        detail = {
            "frames": len(frames),
            "faces_only": found.where_present,
            "share_of_pairs": found.share,
        }
        return Result(found.value, detail, self.short(video))


class CopyPaste(Column):
    """``copy_paste.<backend>``."""

    def prepare(self) -> None:
        self.want(f"embeddings.{self.info.backend}")

    def score(self, video: Video) -> Result:
        from metrics.leakage import copy_paste

        item = video.item
        assert item.target is not None
        reference = reference_face(self.context, self.info.backend, item.references[0])
        frames: list[Tensor] = self.get(video, self.features[0])
        places = best_faces(frames, reference.embedding)
        generated = [f[k] for f, k in zip(frames, places) if k is not None]
        if not generated:
            return Result(None, {"frames": len(frames)}, "no sampled frame has a face")
        target = self.target(item.target, reference.embedding)
        value = copy_paste(torch.stack(generated), target, reference.embedding)
        detail = {"frames": len(frames), "frames_with_face": len(generated)}
        return Result(value, detail, remarks(reference.remark, self.short(video)))

    def target(self, path: Path, reference: Tensor) -> Tensor:
        frames: list[Tensor] = self.context.of_video(self.features[0], path)
        places = best_faces(frames, reference)
        rows = [f[k] for f, k in zip(frames, places) if k is not None]
        if not rows:
            raise MetricsError(f"no face was found in the target {path}.")
        mean = torch.stack(rows).mean(0)
        return mean / mean.norm()


# --- leakage ---------------------------------------------------------------------------------


class Leakage(Column):
    """Base of ``leakage.*.<backend>``: the reference's face against the frames' best faces."""

    wanted: tuple[str, ...] = ()

    def prepare(self) -> None:
        names = ("embeddings", *self.wanted)
        self.want(*(n if n == "pixels" else f"{n}.{self.info.backend}" for n in names))

    def score(self, video: Video) -> Result:
        path = video.item.references[0]
        reference = reference_face(self.context, self.info.backend, path)
        places = best_faces(self.get(video, self.features[0]), reference.embedding)
        frames = [i for i, k in enumerate(places) if k is not None]
        if not frames:
            return Result(None, {"frames": len(places)}, "no sampled frame has a face")
        value = self.compare(video, path, reference, frames, [places[i] for i in frames])
        detail = {"frames": len(places), "frames_with_face": len(frames)}
        return Result(value, detail, remarks(reference.remark, self.short(video)))

    def pick(
        self, video: Video, name: str, frames: list[int], places: Sequence[int | None]
    ) -> list[Any]:
        """A feature's entries of the chosen faces of the chosen frames."""
        values = self.get(video, f"{name}.{self.info.backend}")
        if name == "faces":
            return [values[i].landmarks[k] for i, k in zip(frames, places)]
        return [values[i][k] for i, k in zip(frames, places)]

    def compare(
        self,
        video: Video,
        path: Path,
        reference: Reference,
        frames: list[int],
        places: Sequence[int | None],
    ) -> float:
        """The value from the frames that have a face."""
        raise MetricsError(f"{self.info.name} compares nothing.")


class CropSSIM(Leakage):
    """``leakage.crop_ssim.<backend>``."""

    wanted = ("crops",)

    def compare(self, video, path, reference, frames, places):  # type: ignore[no-untyped-def]
        from metrics.leakage import crop_ssim

        crops = np.stack(self.pick(video, "crops", frames, places))
        return crop_ssim(crops, self.context.of_image(self.features[1], path)[reference.place])


class CropLPIPS(Leakage):
    """``leakage.crop_lpips.<backend>``."""

    wanted = ("crops",)

    def prepare(self) -> None:
        from metrics.extractors.lpips import LPIPS

        super().prepare()
        path = require("lpips.alexnet", self.context.weights.get("lpips.alexnet"))
        self.model = self.context.shared("lpips", lambda: LPIPS(path, device=self.context.device))
        self.version += f"+{short_hash(path)}"

    def compare(self, video, path, reference, frames, places):  # type: ignore[no-untyped-def]
        from metrics.leakage import crop_lpips

        crops = np.stack(self.pick(video, "crops", frames, places))
        face = self.context.of_image(self.features[1], path)[reference.place]
        return crop_lpips(crops, face, self.model)


class PoseDifference(Leakage):
    """``leakage.pose_difference.<backend>``."""

    wanted = ("faces",)

    def compare(self, video, path, reference, frames, places):  # type: ignore[no-untyped-def]
        from metrics.leakage import pose_difference

        points = torch.stack(self.pick(video, "faces", frames, places))
        face = self.context.of_image(self.features[1], path)
        return pose_difference(points, face.landmarks[reference.place])


class Background(Leakage):
    """``leakage.background.<backend>``."""

    wanted = ("faces", "pixels")

    def compare(self, video, path, reference, frames, places):  # type: ignore[no-untyped-def]
        from metrics.leakage import background_mask, background_similarity

        image = read_image(path)
        height, width = image.shape[:2]
        mask = background_mask(height, width, self.context.of_image(self.features[1], path).boxes)
        if not mask.any() or self.context.needed_border(self.features[1], path):
            raise MetricsError(f"the face fills the reference {path}; it shows no background.")
        faces = self.get(video, self.features[1])
        pixels = self.get(video, "pixels")
        values = []
        for i in frames:
            around = background_mask(len(pixels[i]), pixels[i].shape[1], faces[i].boxes)
            if around.any():
                values.append(background_similarity(pixels[i], image, around, mask))
        if not values:
            raise MetricsError("faces fill the sampled frames; they show no background.")
        return float(np.mean(values))


# --- protocols -------------------------------------------------------------------------------


class _Protocol(Column):
    """Base of the columns that reproduce a published face protocol."""

    feature_name = "protocol.faces"

    def prepare(self) -> None:
        self.want(self.feature_name)

    def indices(self, count: int) -> Indices:
        return consisid_frames(count)

    def vectors(self, values: Sequence[Any]) -> list[Tensor | None]:
        if self.feature_name != "protocol.faces":
            return list(values)
        faces: Sequence[ProtocolFace | None] = values
        return [None if f is None else f.arcface for f in faces]

    def score(self, video: Video) -> Result:
        path = video.item.references[0]
        reference = self.vectors([self.context.of_image(self.feature_name, path)])[0]
        if reference is None:
            raise MetricsError(
                f"no face was found in the reference {path}; the script gives no number either."
            )
        frames = self.vectors(self.get(video, self.feature_name))
        found = sum(f is not None for f in frames)
        reason = "" if found else "no sampled frame has a face; the script writes 0 then"
        detail = {"frames": len(frames), "frames_with_face": found}
        return Result(self.value(frames, reference), detail, reason)

    def value(self, frames: Sequence[Tensor | None], reference: Tensor) -> float:
        return consisid_similarity(frames, reference)


class ConsisIDArc(_Protocol):
    """``consisid.face_arc``."""


class ConsisIDCur(_Protocol):
    """``consisid.face_cur``."""

    feature_name = "protocol.curricular"


class ConsisIDFid(_Protocol):
    """``consisid.fid``."""

    feature_name = "protocol.inception"

    def value(self, frames: Sequence[Tensor | None], reference: Tensor) -> float:
        return consisid_fid(frames, reference)


class OpenS2VArc(_Protocol):
    """``opens2v.facesim_arc``."""

    drop_zeros = False

    def indices(self, count: int) -> Indices:
        return opens2v_frames(count)

    def value(self, frames: Sequence[Tensor | None], reference: Tensor) -> float:
        return opens2v_similarity(frames, reference, drop_zeros=self.drop_zeros)


class OpenS2VCur(OpenS2VArc):
    """``opens2v.facesim_cur``."""

    feature_name = "protocol.curricular"
    drop_zeros = True


class ConsisIDClip(Column):
    """``consisid.clip_score``."""

    def prepare(self) -> None:
        self.want("clip.bgr")
        self.model = clip_model(self.context)
        self._texts: dict[str, Any] = {}

    def indices(self, count: int) -> Indices:
        return clip_frames(count)

    def score(self, video: Video) -> Result:
        text = encoded(self.model, video.item.prompt or "", self._texts)
        rows = torch.stack(self.get(video, "clip.bgr"))
        return Result(clip_score_bgr(rows, text.features.float().cpu()), *prompt_detail(text))


# --- text ------------------------------------------------------------------------------------


def encoded(model: Any, prompt: str, held: dict[str, Any]) -> Any:
    """A prompt's features, kept for the other videos of the same prompt."""
    if prompt not in held:
        if len(held) > 4096:
            held.clear()
        held[prompt] = model.encode_text([prompt])
    return held[prompt]


def prompt_detail(text: Any) -> tuple[dict[str, Any], str]:
    """Token counts, and a remark where the prompt was cut."""
    tokens, limit = text.tokens[0], text.limit
    detail = {"tokens": tokens, "token_limit": limit}
    cut = f"the prompt has {tokens} tokens and the model reads {limit}; the rest was cut"
    return detail, cut if tokens > limit else ""


class ClipText(Column):
    """``text.clip_score`` and ``text.clip_score_video``, and the same through open_clip."""

    def prepare(self) -> None:
        self.want(f"{self.info.backend}.rgb")
        load = clip_model if self.info.backend == "clip" else open_clip_model
        self.model = load(self.context)
        self._texts: dict[str, Any] = {}

    def score(self, video: Video) -> Result:
        from metrics.text import clip_score, video_clip_score

        text = encoded(self.model, video.item.prompt or "", self._texts)
        rows = torch.stack(self.get(video, self.features[0]))
        compare = video_clip_score if self.info.name.endswith("_video") else clip_score
        detail, reason = prompt_detail(text)
        value = compare(rows, text.features.cpu())
        return Result(value, detail, remarks(reason, self.short(video)))


class VideoText(Column):
    """``text.xclip`` and ``text.miniature``: models that compare a whole clip with a prompt."""

    def prepare(self) -> None:
        self.want("pixels")
        if self.info.backend == "miniature":
            from miniature.judges.text import MiniatureTextVideo

            self.model: Any = MiniatureTextVideo(self.context.device)
        else:
            from metrics.extractors.clip import XCLIP

            source = require("xclip.base", self.context.weights.get("xclip.base"))
            self.model = XCLIP(source, device=self.context.device)
        self.version = self.model.version

    def score(self, video: Video) -> Result:
        clip = np.stack(self.get(video, "pixels"))
        found = self.model.align(clip[None], [video.item.prompt or ""])[0]
        detail = {"tokens": found.tokens, "token_limit": found.limit}
        cut = f"the prompt has {found.tokens} tokens and the model reads {found.limit}"
        return Result(found.video, detail, cut if found.tokens > found.limit else "")


class WorldAttributes(Column):
    """``world.background`` and ``world.motion``: what the prompt says against what is seen."""

    names: Mapping[str, tuple[str, ...]] = {
        "world.background": ("color", "pattern"),
        "world.motion": ("motion",),
    }

    def prepare(self) -> None:
        from miniature.judges.attributes import MiniatureAttributes

        self.want("pixels")
        device = self.context.device
        self.model = self.context.shared("attributes", lambda: MiniatureAttributes(device))
        self.version = self.model.version

    def score(self, video: Video) -> Result:
        from miniature.judges.attributes import agreement, parse_prompt

        clip = np.stack(self.get(video, "pixels"))
        seen = {name: labels[0] for name, labels in self.model.predict(clip[None]).items()}
        said = parse_prompt(video.item.prompt or "")
        names = self.names[self.info.name]
        value = agreement(said, seen, names)
        detail = {f"said_{n}": said.get(n, "") for n in names} | {
            f"seen_{n}": seen.get(n, "") for n in names
        }
        if np.isnan(value):
            return Result(None, detail, f"the prompt names no {' and no '.join(names)}")
        return Result(value, detail)


# --- time ------------------------------------------------------------------------------------


class _MetricState:
    """A torchmetrics metric of :mod:`metrics.temporal` as it goes through one video."""

    def __init__(self, metric: Any, **more: Any) -> None:
        self.metric, self.more, self.seen = metric, more, 0

    def update(self, frames: Frames) -> None:
        self.metric.update(frames, start=self.seen == 0, **self.more)
        self.seen += len(frames)

    def result(self) -> float:
        if self.seen < 2:
            raise MetricsError("the video has one frame, and no neighbouring frames to compare")
        return float(self.metric.compute())


class Streamed(Column):
    """Base of the metrics that see every frame."""

    def indices(self, count: int) -> Indices:
        return np.zeros(0, dtype=np.int64)


class Flicker(Streamed):
    """``temporal.flicker``."""

    def start(self, video: Video) -> StreamState:
        from metrics.temporal import TemporalFlicker

        return _MetricState(TemporalFlicker())


class _Flow(Streamed):
    def prepare(self) -> None:
        from metrics.extractors.flow import DISFlow, RAFTFlow

        device = self.context.device
        if self.info.backend == "dis":
            self.flow: Any = self.context.shared("flow.dis", DISFlow)
        else:
            path = require("raft.large", self.context.weights.get("raft.large"))
            self.flow = self.context.shared("flow.raft", lambda: RAFTFlow(path, device=device))
        self.version = self.flow.version


class Warping(_Flow):
    """``temporal.warping_error.<flow>``."""

    def start(self, video: Video) -> StreamState:
        from metrics.temporal import WarpingError

        return _MetricState(WarpingError(self.flow))


class Dynamic(_Flow):
    """``temporal.dynamic_degree.<flow>``."""

    def start(self, video: Video) -> StreamState:
        from metrics.temporal import DynamicDegree

        # A folder of images has no frame rate; 8 compares every frame with its neighbour.
        return _MetricState(DynamicDegree(self.flow), fps=video.info.fps or 8.0)


class FeatureConsistency(Column):
    """``temporal.subject_consistency`` and ``temporal.background_consistency``."""

    def prepare(self) -> None:
        self.want("dino.vitb16" if self.info.backend == "dino" else "clip.rgb")

    def indices(self, count: int) -> Indices:
        return np.arange(count, dtype=np.int64)

    def score(self, video: Video) -> Result:
        from metrics.temporal import feature_consistency

        rows = torch.stack(self.get(video, self.features[0]))
        return Result(feature_consistency(rows), {"frames": len(rows)})


# --- sets of videos --------------------------------------------------------------------------


class SetColumn(Column, ABC):
    """Base of the metrics of a set of videos."""

    @abstractmethod
    def collect(self, video: Video) -> Any:
        """What one generated video adds to the set."""

    def real(self, video: Video) -> Any:
        """What its target adds to the real set; None where it has none."""
        target = video.item.target
        return None if target is None else self.of_path(target)

    @abstractmethod
    def of_path(self, path: Path) -> Any:
        """What a real video adds to the set."""

    @abstractmethod
    def finish(self, made: list[Any], real: list[Any]) -> tuple[float, float | None, float | None]:
        """Value and 95 % interval from what was collected."""


class Distance(SetColumn):
    """FVD, FID, KVD and KID: the distance of features of generated to features of real videos."""

    def prepare(self) -> None:
        from metrics.distribution import METRICS

        self.entry = METRICS.get(self.info.name, {"ddof": 0})
        self.encoder: Any = None
        backend, device = self.info.backend, self.context.device
        if backend == "inception":
            self.want("inception.fid")
            return
        self.want("pixels")
        if backend == "miniature":
            from miniature.judges.video import MiniatureVideo

            self.encoder = self.context.shared("video.miniature", lambda: MiniatureVideo(device))
        elif backend == "i3d":
            from metrics.extractors.video import I3D

            path = require("i3d.torchscript", self.context.weights.get("i3d.torchscript"))
            self.encoder = self.context.shared("video.i3d", lambda: I3D(path, device=device))
        else:
            from metrics.extractors.video import VideoMAE

            path = require("videomae.base", self.context.weights.get("videomae.base"))
            self.encoder = self.context.shared("video.mae", lambda: VideoMAE(path, device=device))
        self.version = self.encoder.version

    def rows(self, values: list[Any]) -> Tensor:
        if self.encoder is None:
            return torch.stack(values)  # [T, D], one row a frame
        clip = np.stack(values)[None]
        encode = getattr(self.encoder, "encode", None) or self.encoder.features
        return encode(clip).float().cpu()  # [1, D]

    def collect(self, video: Video) -> Tensor:
        return self.rows(self.get(video, self.features[0]))

    def of_path(self, path: Path) -> Tensor:
        return self.rows(self.context.of_video(self.features[0], path))

    def finish(self, made: list[Any], real: list[Any]) -> tuple[float, float | None, float | None]:
        if not real:
            raise MetricsError("needs true videos to compare with: targets, or a set of real ones")
        x, y = torch.cat(made), torch.cat(real)
        if self.info.name.startswith("k"):
            from metrics.distribution import kernel_distance_interval

            return kernel_distance_interval(x, y)
        from metrics.frechet import frechet_distance

        return frechet_distance(x, y, ddof=self.entry.get("ddof", 0)), None, None
