"""Features of whole frames: the pixels themselves, and vectors of CLIP, DINO and Inception."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from media.plugins import load
from metrics.errors import UnknownNameError
from metrics.features.base import Networks, feature
from metrics.frames import Frames


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
def pixels(networks: Networks) -> PixelsFeature:
    return PixelsFeature()


#: Name -> class in `metrics.features.networks`, its weights, and arguments before them. OpenAI's
#: weights were trained with the fast GELU; open_clip has an architecture for it.
_NETWORKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "clip": ("clip:TransformersCLIP", "clip.vit_b32", ()),
    "clip_l14": ("clip:TransformersCLIP", "clip.vit_l14", ()),
    "open_clip": ("clip:OpenCLIP", "open_clip.vit_b32", ("ViT-B-32-quickgelu",)),
    "viclip": ("viclip:ViCLIP", "viclip.l14", ()),
    "xclip": ("clip:XCLIP", "xclip.base", ()),
    "dino.vitb16": ("image:DINO", "dino.vitb16", ()),
    "inception.fid": ("image:ScriptedInception", "inception.fid", ()),
}
_TEXT_MODELS = ("clip", "open_clip", "viclip", "xclip")


def _network(networks: Networks, name: str) -> Any:
    target, weights, first = _NETWORKS[name]
    path, made = networks.weight(weights), load(f"metrics.features.networks.{target}")
    return networks.shared(name, lambda: made(*first, path, device=networks.device))


def text_model(networks: Networks, name: str) -> Any:
    """A model that embeds prompts: "clip", "open_clip", "viclip" or "xclip".

    Raises:
        MetricsError: another name, or its weights aren't on this machine.
    """
    if name not in _TEXT_MODELS:
        raise UnknownNameError.among("no text model is called", name, _TEXT_MODELS)
    return _network(networks, name)


@feature("clip.bgr")
def clip_bgr(networks: Networks) -> FrameFeature:
    return FrameFeature("clip.bgr", _network(networks, "clip"), bgr=True)


def _vectors(name: str, network: str, view: str = "") -> None:
    """Register a vector per frame, of a network or of a view of it."""

    def build(networks: Networks) -> FrameFeature:
        model = _network(networks, network)
        return FrameFeature(name, load(view)(model) if view else model)

    feature(name)(build)


for _name in ("dino.vitb16", "inception.fid"):
    _vectors(_name, _name)
for _name in ("clip", "clip_l14", "open_clip"):
    _vectors(f"{_name}.rgb", _name)
for _name in ("clip", "clip_l14"):
    _vectors(f"{_name}.vbench", _name, "metrics.features.networks.clip:VBenchCLIP")


_IQA = {
    "musiq": ("musiq.koniq", None),
    "musiq.vbench": ("musiq.spaq", 512),
    "maniqa": ("maniqa.koniq", None),
}


@feature("iqa.{network}")
def image_quality(networks: Networks, network: str) -> FrameFeature:
    from metrics.features.networks.quality import PyIQA

    if network not in _IQA:
        raise UnknownNameError.among("no quality network is called", network, _IQA)
    weights, side = _IQA[network]
    kind = network.partition(".")[0]
    model = PyIQA(kind, networks.weight(weights), side, networks.device)
    return FrameFeature(f"iqa.{network}", model)
