"""CLIP through open_clip and through transformers, and X-CLIP, behind the protocols of text.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub import try_to_load_from_cache
from numpy.typing import NDArray
from open_clip.factory import _find_checkpoint_in_dir
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, XCLIPModel

from metrics.errors import MetricsError, WeightsMissingError
from metrics.features.networks.arrays import check_videos, evenly, normalise, to_tensor
from metrics.features.networks.encoder import Encoder, short_name
from metrics.features.networks.loading import (
    freeze,
    load_pretrained,
    load_processor,
    model_hash,
    require_file,
)
from metrics.features.networks.text import TextAlignment, TextFeatures


def _find_open_clip_weights(model: str, pretrained: str) -> dict[str, Any]:
    """What open_clip knows about a tag; nothing of a file or folder.

    Raises:
        MetricsError: open_clip would not find the weights without a network.
    """
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:"))
        if not folder.is_dir() or _find_checkpoint_in_dir(folder) is None:
            raise MetricsError(
                f"there are no weights in {folder}; put open_clip_model.safetensors there."
            )
        return {}
    if ":" in model:
        raise MetricsError(
            f"{model} is not an open_clip architecture; use one of open_clip.list_models() with a "
            "tag or a file, or local-dir:FOLDER."
        )
    entry = get_pretrained_cfg(model, pretrained)
    if not entry:
        require_file(pretrained, f"open_clip's {model} (no tag of it is named {pretrained!r})")
        return {}
    if "file" in entry:  # a tag that a program registered itself
        require_file(entry["file"], f"open_clip's {model}/{pretrained}")
        return entry
    if entry.get("hf_hub"):
        repository, filename = os.path.split(entry["hf_hub"])
        name = filename or "open_clip_pytorch_model.bin"
        names = [str(Path(name).with_suffix(".safetensors")), "open_clip_model.safetensors", name]
        cached = any(isinstance(try_to_load_from_cache(repository, n), str) for n in names)
        where = f"run `hf download {repository}`"
    else:
        filename = os.path.basename(entry["url"])
        cached = (Path("~/.cache/clip").expanduser() / filename).is_file()
        where = f"put {filename} into ~/.cache/clip"
    if not cached:
        raise WeightsMissingError(
            f"the weights of open_clip's {model}/{pretrained} are not on this machine; {where} "
            "where there is a network, or pass a file."
        )
    return entry


class OpenCLIP(Encoder):
    """Any CLIP of open_clip (Radford et al. 2021, arXiv 2103.00020), frames in RGB.

    Args:
        model: an architecture of ``open_clip.list_models()``, or ``local-dir:FOLDER`` with a
            configuration and weights. Files of OpenAI's weights want a ``-quickgelu`` one.
        pretrained: a tag whose weights are in the cache, or a file; not used with ``local-dir:``.
        batch_size, device: see :class:`Encoder`.

    Raises:
        MetricsError: the weights are not on this machine or do not fit.
    """

    def __init__(
        self,
        model: str = "ViT-B-32",
        pretrained: str | Path = "openai",
        *,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
    ) -> None:
        pretrained = str(pretrained)
        entry = _find_open_clip_weights(model, pretrained)
        local = model.startswith("local-dir:")
        try:
            network = open_clip.create_model(
                model,
                None if local else pretrained,
                # open_clip only warns where a tag was trained with another activation than the
                # architecture's, as OpenAI's were, and would compute other features.
                force_quick_gelu=bool(entry.get("quick_gelu")),
                require_pretrained=True,
                weights_only=True,
            )
        except Exception as error:  # open_clip lets through what torch and the hub raise
            reason = (str(error).splitlines() or [""])[0]
            raise MetricsError(
                f"open_clip can't load {model} from {pretrained} ({type(error).__name__}: "
                f"{reason}); pass weights of that architecture."
            ) from error
        source = Path(model.removeprefix("local-dir:")).name if local else f"{model}/{pretrained}"
        if not local and Path(pretrained).is_file():
            source = f"{model}/{Path(pretrained).name}"
        self.name = f"open_clip:{source}"
        self.version = f"{open_clip.__version__}-{model_hash(network)}"
        super().__init__(freeze(network, device), device, batch_size)
        self._transform = image_transform_v2(
            PreprocessCfg(**network.visual.preprocess_cfg), is_train=False
        )
        try:
            self._tokenizer = open_clip.get_tokenizer(model)
        except OSError as error:
            raise MetricsError(
                f"the tokenizer of {model} is not in the hub's cache; download it where there is a "
                "network."
            ) from error

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        images = torch.stack([self._transform(Image.fromarray(frame)) for frame in part])
        return self._model.encode_image(images.to(self._device))

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> TextFeatures:
        """Text features ``[B, D]``, not normalised; cut prompts keep their end token."""
        ids = self._tokenizer(prompts).to(self._device)
        return TextFeatures(
            self._model.encode_text(ids),
            tuple(self._count(prompt) for prompt in prompts),
            ids.shape[1],
        )

    def _count(self, prompt: str) -> int:
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is not None:  # a tokenizer of transformers, special tokens included
            return len(inner(self._tokenizer.clean_fn(prompt)).input_ids)
        return len(self._tokenizer.encode(prompt)) + 2  # start and end


class TransformersCLIP(Encoder):
    """CLIP of transformers, frames in RGB.

    Args:
        source: a folder, or a hub id in the cache, for example ``openai/clip-vit-base-patch32``.
        batch_size, device: see :class:`Encoder`.

    Raises:
        MetricsError: the files are not on this machine or lack a tensor.
    """

    def __init__(
        self,
        source: str | Path = "openai/clip-vit-base-patch32",
        *,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
    ) -> None:
        network = load_pretrained(CLIPModel, source)
        self._processor = load_processor(AutoImageProcessor, source)
        self._tokenizer = load_processor(AutoTokenizer, source)
        self.name = f"clip:{short_name(source)}"
        self.version = model_hash(network)
        self.size: int = network.config.vision_config.image_size
        super().__init__(freeze(network, device), device, batch_size)

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        # The channel axis is named: a frame of three rows would be taken for planes.
        inputs = self._processor(list(part), input_data_format="channels_last", return_tensors="pt")
        return self.encode_pixels(inputs["pixel_values"].to(self._device))

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Image features ``[N, D]`` of prepared pixels ``[N, 3, size, size]``."""
        return self._model.get_image_features(pixels).pooler_output

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> TextFeatures:
        """Text features ``[B, D]``, not normalised; cut prompts keep their end token.

        torchmetrics cuts the end token off with the rest, and so reads the embedding of another
        place: the two agree on prompts within the limit.
        """
        limit = self._model.config.text_config.max_position_embeddings
        inputs, counts = _tokenise(self._tokenizer, prompts, limit)
        output = self._model.get_text_features(**inputs.to(self._device))
        return TextFeatures(output.pooler_output, counts, limit)


class VBenchCLIP(Encoder):
    """CLIP's image features as VBench's background consistency takes them.

    Frames are resized to the network's side bicubically *without* antialiasing, in floats that are
    not cut at black and white, and cropped to the square in the middle.

    Args:
        clip: the model itself.
    """

    def __init__(self, clip: TransformersCLIP) -> None:
        super().__init__(clip, clip._device, clip._batch_size)
        self.name, self.version = clip.name, f"{clip.version}-vbench-float"

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        size = self._model.size
        planes = to_tensor(part, self._device).float()
        planes = TF.resize(planes, [size], InterpolationMode.BICUBIC, antialias=False)
        planes = TF.center_crop(planes, [size, size]) / 255
        statistics = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        return self._model.encode_pixels(normalise(planes, statistics))


class XCLIP:
    """X-CLIP (Ni et al. 2022, arXiv 2208.02816), a video-text model, of transformers.

    The text embedding is conditioned on the video, so a prompt has no embedding of its own: the
    model compares. A video is sampled to the frames that the checkpoint was trained with.

    Args:
        source: a folder, or a hub id in the cache, for example ``microsoft/xclip-base-patch32``.
        device: where to run.

    Raises:
        MetricsError: the files are not on this machine or lack a tensor.
    """

    def __init__(
        self,
        source: str | Path = "microsoft/xclip-base-patch32",
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        network = load_pretrained(XCLIPModel, source)
        self._processor = load_processor(AutoImageProcessor, source)
        self._tokenizer = load_processor(AutoTokenizer, source)
        self.name = f"xclip:{short_name(source)}"
        self.version = model_hash(network)
        self.frames: int = network.config.vision_config.num_frames
        self._model = freeze(network, device)
        self._device = torch.device(device)

    @torch.no_grad()
    def align(self, videos: NDArray[np.uint8], prompts: list[str]) -> list[TextAlignment]:
        """100 x cosine, clamped at 0, of each video, uint8 ``[B, T, H, W, 3]``, and its prompt."""
        videos = check_videos(videos, self.frames, self.name)
        if len(videos) != len(prompts):
            raise MetricsError(
                f"there are {len(videos)} videos and {len(prompts)} prompts; pass one prompt per "
                "video."
            )
        limit = self._model.config.text_config.max_position_embeddings
        alignments = []
        for video, prompt in zip(videos, prompts, strict=True):
            taken = list(video[evenly(len(video), self.frames)])
            # One video's frames as one batch of images, [T, 3, S, S].
            pixels = torch.as_tensor(
                np.asarray(
                    self._processor(taken, input_data_format="channels_last", return_tensors="np")[
                        "pixel_values"
                    ]
                )
            )
            pixels = pixels.reshape(1, self.frames, *pixels.shape[-3:])
            inputs, (tokens,) = _tokenise(self._tokenizer, [prompt], limit)
            output = self._model(**inputs.to(self._device), pixel_values=pixels.to(self._device))
            cosine = F.cosine_similarity(output.video_embeds[0], output.text_embeds[0, 0], dim=0)
            alignments.append(TextAlignment(None, max(0.0, 100 * float(cosine)), tokens, limit))
        return alignments


def _tokenise(tokenizer, prompts: list[str], limit: int):  # type: ignore[no-untyped-def]
    counts = tuple(len(ids) for ids in tokenizer(prompts, truncation=False).input_ids)
    inputs = tokenizer(
        prompts, truncation=True, max_length=limit, padding=True, return_tensors="pt"
    )
    inputs.pop("token_type_ids", None)
    return inputs, counts
