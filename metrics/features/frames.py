"""Features of whole frames: the pixels themselves, and vectors of CLIP, DINO and Inception."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

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


def _clip(networks: Networks) -> Any:
    from metrics.features.networks.clip import TransformersCLIP

    source = networks.weight("clip.vit_b32")
    return networks.shared("clip", lambda: TransformersCLIP(source, device=networks.device))


def _clip_l14(networks: Networks) -> Any:
    from metrics.features.networks.clip import TransformersCLIP

    source = networks.weight("clip.vit_l14")
    return networks.shared("clip_l14", lambda: TransformersCLIP(source, device=networks.device))


def _open_clip(networks: Networks) -> Any:
    from metrics.features.networks.clip import OpenCLIP

    # OpenAI's weights were trained with the fast GELU; open_clip has an architecture for it.
    path, name = networks.weight("open_clip.vit_b32"), "ViT-B-32-quickgelu"
    return networks.shared("open_clip", lambda: OpenCLIP(name, path, device=networks.device))


def _viclip(networks: Networks) -> Any:
    from metrics.features.networks.viclip import ViCLIP

    path = networks.weight("viclip.l14")
    return networks.shared("viclip", lambda: ViCLIP(path, device=networks.device))


def _xclip(networks: Networks) -> Any:
    from metrics.features.networks.clip import XCLIP

    source = networks.weight("xclip.base")
    return networks.shared("xclip", lambda: XCLIP(source, device=networks.device))


_TEXT_MODELS = {"clip": _clip, "open_clip": _open_clip, "viclip": _viclip, "xclip": _xclip}


def text_model(networks: Networks, name: str) -> Any:
    """A model that embeds prompts: "clip", "open_clip", "viclip" or "xclip".

    Raises:
        MetricsError: another name, or its weights aren't on this machine.
    """
    if name not in _TEXT_MODELS:
        raise UnknownNameError.among("no text model is called", name, _TEXT_MODELS)
    return _TEXT_MODELS[name](networks)


@feature("clip.rgb")
def clip_rgb(networks: Networks) -> FrameFeature:
    return FrameFeature("clip.rgb", _clip(networks))


@feature("clip.bgr")
def clip_bgr(networks: Networks) -> FrameFeature:
    return FrameFeature("clip.bgr", _clip(networks), bgr=True)


@feature("clip.vbench")
def clip_vbench(networks: Networks) -> FrameFeature:
    from metrics.features.networks.clip import VBenchCLIP

    return FrameFeature("clip.vbench", VBenchCLIP(_clip(networks)))


@feature("clip_l14.rgb")
def clip_l14_rgb(networks: Networks) -> FrameFeature:
    return FrameFeature("clip_l14.rgb", _clip_l14(networks))


@feature("clip_l14.vbench")
def clip_l14_vbench(networks: Networks) -> FrameFeature:
    from metrics.features.networks.clip import VBenchCLIP

    return FrameFeature("clip_l14.vbench", VBenchCLIP(_clip_l14(networks)))


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


@feature("open_clip.rgb")
def open_clip_rgb(networks: Networks) -> FrameFeature:
    return FrameFeature("open_clip.rgb", _open_clip(networks))


@feature("dino.vitb16")
def dino(networks: Networks) -> FrameFeature:
    from metrics.features.networks.image import DINO

    return FrameFeature("dino.vitb16", DINO(networks.weight("dino.vitb16"), device=networks.device))


@feature("inception.fid")
def inception(networks: Networks) -> FrameFeature:
    from metrics.features.networks.image import ScriptedInception

    path = networks.weight("inception.fid")
    return FrameFeature("inception.fid", ScriptedInception(path, device=networks.device))
