"""Features of whole frames: the pixels themselves, and vectors of CLIP, DINO and Inception."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError
from metrics.features.base import feature
from metrics.frames import Frames

if TYPE_CHECKING:
    from metrics.features.models import Models

__all__ = ["FrameFeature", "PixelsFeature", "text_model"]


class PixelsFeature:
    """The frames themselves, for models that see a whole clip; never written to the cache."""

    name = "pixels"
    version = ""
    requires: tuple[str, ...] = ()
    cached = False

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Frames]:
        return list(frames)

    def pack(self, values: Sequence[Frames]) -> dict[str, Tensor]:
        return {"frames_rgb": torch.from_numpy(np.stack(values))}

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Frames]:
        return list(tensors["frames_rgb"].numpy())


class FrameFeature:
    """A vector ``[D]`` per frame, from a model with ``encode(frames) -> [N, D]``.

    Args:
        bgr: give the model frames with red and blue exchanged, as ConsisID's CLIPScore does.
    """

    requires: tuple[str, ...] = ()

    def __init__(self, name: str, model: Any, version: str = "", bgr: bool = False) -> None:
        self.name, self.model, self.bgr = name, model, bgr
        self.version = version or model.version

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Tensor]:
        if self.bgr:
            frames = np.ascontiguousarray(frames[..., ::-1])
        return list(self.model.encode(frames).float().cpu())

    def pack(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"rows": torch.stack(list(values))}

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return list(tensors["rows"])


@feature("pixels")
def pixels(models: Models) -> PixelsFeature:
    return PixelsFeature()


def _clip(models: Models) -> Any:
    from metrics.features.networks.clip import TransformersCLIP

    source = models.weight("clip.vit_b32")
    return models.shared("clip", lambda: TransformersCLIP(source, device=models.device))


def _open_clip(models: Models) -> Any:
    from metrics.features.networks.clip import OpenCLIP

    # OpenAI's weights were trained with the fast GELU; open_clip has an architecture for it.
    path, name = models.weight("open_clip.vit_b32"), "ViT-B-32-quickgelu"
    return models.shared("open_clip", lambda: OpenCLIP(name, path, device=models.device))


def _xclip(models: Models) -> Any:
    from metrics.features.networks.clip import XCLIP

    source = models.weight("xclip.base")
    return models.shared("xclip", lambda: XCLIP(source, device=models.device))


_TEXT_MODELS = {"clip": _clip, "open_clip": _open_clip, "xclip": _xclip}


def text_model(models: Models, name: str) -> Any:
    """A model that embeds prompts: "clip", "open_clip" or "xclip".

    Raises:
        MetricsError: another name, or its weights aren't on this machine.
    """
    if name not in _TEXT_MODELS:
        raise MetricsError(f"no text model is called {name!r}; choose {', '.join(_TEXT_MODELS)}.")
    return _TEXT_MODELS[name](models)


@feature("clip.rgb")
def clip_rgb(models: Models) -> FrameFeature:
    return FrameFeature("clip.rgb", _clip(models))


@feature("clip.bgr")
def clip_bgr(models: Models) -> FrameFeature:
    return FrameFeature("clip.bgr", _clip(models), bgr=True)


@feature("clip.vbench")
def clip_vbench(models: Models) -> FrameFeature:
    from metrics.features.networks.clip import VBenchCLIP

    return FrameFeature("clip.vbench", VBenchCLIP(_clip(models)))


@feature("open_clip.rgb")
def open_clip_rgb(models: Models) -> FrameFeature:
    return FrameFeature("open_clip.rgb", _open_clip(models))


@feature("dino.vitb16")
def dino(models: Models) -> FrameFeature:
    from metrics.features.networks.image import DINO

    return FrameFeature("dino.vitb16", DINO(models.weight("dino.vitb16"), device=models.device))


@feature("inception.fid")
def inception(models: Models) -> FrameFeature:
    from metrics.features.networks.image import ScriptedInception

    path = models.weight("inception.fid")
    return FrameFeature("inception.fid", ScriptedInception(path, device=models.device))
