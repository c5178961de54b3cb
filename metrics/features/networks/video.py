"""Video models for FVD: the I3D TorchScript detector, VideoMAE-base and VideoMAE-v2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoVideoProcessor,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    VJEPA2ForVideoClassification,
)

from metrics.errors import MetricsError
from metrics.features.networks.arrays import (
    IMAGENET,
    evenly,
    feature_rows,
    normalise,
    resize_square,
    to_tensor,
)
from metrics.features.networks.encoder import Encoder, short_name
from metrics.features.networks.loading import (
    file_hash,
    freeze,
    load_pretrained,
    load_processor,
    load_torchscript,
    model_hash,
    read_tensors,
    require_file,
)


class I3D(Encoder):
    """I3D trained on Kinetics-400, as StyleGAN-V's TorchScript ``i3d_torchscript.pt``: 400-d.

    Frames are resized to 224 x 224, bilinearly and whole, and scaled to -1..1, as cd-fvd and
    StyleGAN-V do before calling it with ``rescale=False, resize=False, return_features=True``.

    Args:
        weights: the TorchScript file.
        batch_size, device: see :class:`Encoder`.

    Raises:
        MetricsError: the file is absent or is not TorchScript.
    """

    name = "i3d"
    frames = 10
    """least number of frames: below it the detector's temporal pooling has nothing left"""

    def __init__(
        self, weights: str | Path, *, batch_size: int = 4, device: str | torch.device = "cpu"
    ) -> None:
        path = require_file(weights, "the I3D detector (i3d_torchscript.pt)")
        super().__init__(load_torchscript(path, device), device, batch_size)
        self.version = file_hash(path)

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        frames = to_tensor(part, self._device).flatten(0, 1).float()  # [B*T, 3, H, W]
        frames = resize_square(frames, 224) / 127.5 - 1
        batch = frames.unflatten(0, part.shape[:2]).transpose(1, 2)  # [B, 3, T, 224, 224]
        features = self._model(
            batch.contiguous(), rescale=False, resize=False, return_features=True
        )
        return feature_rows(features, len(part), self.name)


class VideoMAE(Encoder):
    """VideoMAE (Tong et al. 2022, arXiv 2203.12602): the mean over its tokens.

    A fine-tuned checkpoint's final norm is applied, so that features are those its classifier
    sees. Not :class:`VideoMAEv2`, which cd-fvd takes: numbers of the two do not compare.

    Args:
        source: a folder, or a hub id in the cache, for example
            ``MCG-NJU/videomae-base-finetuned-kinetics``.
        batch_size, device: see :class:`Encoder`.

    Raises:
        MetricsError: the files are not on this machine or lack a tensor.
    """

    def __init__(
        self,
        source: str | Path = "MCG-NJU/videomae-base-finetuned-kinetics",
        *,
        batch_size: int = 4,
        device: str | torch.device = "cpu",
    ) -> None:
        config = load_processor(AutoConfig, source)
        if "VideoMAEForVideoClassification" in (config.architectures or []):
            whole = load_pretrained(VideoMAEForVideoClassification, source)
            network, self._norm = whole.videomae, whole.fc_norm
            self.version = model_hash(whole)
        else:
            network, self._norm = load_pretrained(VideoMAEModel, source), None
            self.version = model_hash(network)
        super().__init__(freeze(network, device), device, batch_size)
        self.name = f"videomae:{short_name(source)}"
        self.frames = config.num_frames
        self._size: int = config.image_size
        if self._norm is not None:
            freeze(self._norm, device)

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        taken = part[:, evenly(part.shape[1], self.frames)]
        frames = to_tensor(taken, self._device).flatten(0, 1).float() / 255  # [B*T, 3, H, W]
        frames = normalise(resize_square(frames, self._size), IMAGENET)
        tokens = self._model(frames.unflatten(0, taken.shape[:2])).last_hidden_state
        features = tokens.mean(dim=1)  # [B, D]
        if self._norm is not None:
            features = self._norm(features)
        if not torch.isfinite(features).all():
            raise MetricsError(f"{self.name} gave NaN or infinite features; check its weights.")
        return features


class VideoMAEv2(Encoder):
    """VideoMAE-v2 (Wang et al. 2023, arXiv 2303.16727), content-debiased FVD's network: ViT-g.

    The published file loads into transformers' VideoMAE, whose tensors go by other names. Frames
    are resized to a square and given as 0..1, *not* normalised, as cd-fvd does.

    Args:
        weights: ``vit_g_hybrid_pt_1200e_ssv2_ft.pth``.
        heads: attention heads, which the tensors don't say.
        size: side of the square in pixels.
        batch_size, device: see :class:`Encoder`.

    Raises:
        MetricsError: the file is absent or of another network.
    """

    name = "videomae_v2"
    frames = 16

    def __init__(
        self,
        weights: str | Path,
        *,
        heads: int = 16,
        size: int = 224,
        batch_size: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        path = require_file(weights, "VideoMAE-v2 (vit_g_hybrid_pt_1200e_ssv2_ft.pth)")
        state = read_tensors(path)
        try:
            width, _, tubelet, patch, _ = state["patch_embed.proj.weight"].shape
            config = VideoMAEConfig(
                image_size=size,
                patch_size=patch,
                tubelet_size=tubelet,
                num_frames=self.frames,
                hidden_size=width,
                num_hidden_layers=1 + max(int(k.split(".")[1]) for k in state if "blocks." in k),
                num_attention_heads=heads,
                intermediate_size=len(state["blocks.0.mlp.fc1.weight"]),
                use_mean_pooling=True,
                layer_norm_eps=1e-6,
            )
            network = VideoMAEModel(config)
            network.load_state_dict(_of_transformers(state), strict=True)
            norm = nn.LayerNorm(width, eps=1e-6)
            norm.load_state_dict({k: state[f"fc_norm.{k}"] for k in ("weight", "bias")})
        except (KeyError, ValueError, RuntimeError) as error:
            raise MetricsError(
                f"{path} isn't VideoMAE-v2 ({str(error).splitlines()[-1].strip()}); pass the file "
                "vit_g_hybrid_pt_1200e_ssv2_ft.pth."
            ) from error
        super().__init__(freeze(network, device), device, batch_size)
        self.version = file_hash(path)
        self._norm, self._size = freeze(norm, device), size

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        if part.shape[1] != self.frames:
            raise MetricsError(
                f"{self.name} takes {self.frames} frames, not {part.shape[1]}; set the window."
            )
        frames = to_tensor(part, self._device).flatten(0, 1).float() / 255  # [B*T, 3, H, W]
        frames = resize_square(frames, self._size).unflatten(0, part.shape[:2])
        return self._norm(self._model(frames).last_hidden_state.mean(dim=1))


class VJEPA2(Encoder):
    """V-JEPA 2 (Assran et al. 2025, arXiv 2506.09985): its attentive probe's pooled features.

    Args:
        source: a folder, or a hub id in the cache, of a checkpoint with a classifier, for example
            ``facebook/vjepa2-vitl-fpc16-256-ssv2``.
        batch_size: videos per forward pass.
        device: where to run.

    Raises:
        MetricsError: the files are not on this machine or lack a tensor.
    """

    def __init__(
        self,
        source: str | Path = "facebook/vjepa2-vitl-fpc16-256-ssv2",
        *,
        batch_size: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        network = load_pretrained(VJEPA2ForVideoClassification, source)
        self._processor = load_processor(AutoVideoProcessor, source)
        super().__init__(freeze(network, device), device, batch_size)
        self.name = f"vjepa2:{short_name(source)}"
        self.version = model_hash(network)
        self.frames: int = network.config.frames_per_clip

    def _embed(self, part: NDArray[np.uint8]) -> Tensor:
        taken = part[:, evenly(part.shape[1], self.frames)]
        clips = list(to_tensor(taken, torch.device("cpu")))
        pixels = self._processor(clips, return_tensors="pt")["pixel_values_videos"]
        tokens = self._model.vjepa2(pixels.to(self._device), skip_predictor=True)
        return self._model.pooler(tokens.last_hidden_state).reshape(len(part), -1)


_NAMES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def _of_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """VideoMAE's published tensors under the names that transformers has for them."""
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key.startswith(("head.", "fc_norm.")):
            continue
        if key.startswith("patch_embed.proj."):
            end = key.rpartition(".")[2]
            found[f"embeddings.patch_embeddings.projection.{end}"] = tensor
            continue
        _, layer, rest = key.split(".", 2)
        start = f"encoder.layer.{layer}."
        attention = f"{start}attention.attention."
        if rest == "attn.qkv.weight":
            for name, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"{attention}{name}.weight"] = part
        elif rest in ("attn.q_bias", "attn.v_bias"):
            found[f"{attention}{'query' if rest == 'attn.q_bias' else 'value'}.bias"] = tensor
        else:
            name, _, end = rest.rpartition(".")
            found[f"{start}{_NAMES[name]}.{end}"] = tensor
    return found
