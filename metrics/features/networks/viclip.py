"""ViCLIP, the video-text model of VBench's overall consistency, on open_clip's transformer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from metrics.errors import MetricsError
from metrics.features.networks.arrays import check_videos, normalise, to_tensor
from metrics.features.networks.loading import file_hash, freeze, read_tensors, require_file
from metrics.features.networks.text import TextAlignment

__all__ = ["ViCLIP", "middle_frames"]


def middle_frames(count: int, wanted: int = 8) -> NDArray[np.int64]:
    """VBench's frames: the middle of each of ``wanted`` intervals; of a short video the last frame
    is repeated.

    Example:
        >>> middle_frames(16, 4).tolist(), middle_frames(2, 4).tolist()
        ([1, 5, 9, 13], [0, 1, 1, 1])
    """
    edges = np.linspace(0, count, min(wanted, count) + 1).astype(np.int64)
    middles = (edges[:-1] + edges[1:] - 1) // 2
    return np.pad(middles, (0, wanted - len(middles)), mode="edge")


class _Vision(nn.Module):
    """Joint attention over the patches of all frames and one class token."""

    def __init__(self, width: int, layers: int, patch: int, grid: int, frames: int, out: int):
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(grid**2 + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, frames, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, width // 64, act_layer=QuickGELU)
        self.proj = nn.Parameter(torch.zeros(width, out))

    def forward(self, video: Tensor) -> Tensor:
        """Embeddings ``[B, D]`` of prepared videos ``[B, 3, T, S, S]``."""
        patches = self.conv1(video).flatten(3).permute(0, 3, 2, 1)  # [B, N, T, C]
        patches = patches + self.positional_embedding[1:, None]
        patches = (patches + self.temporal_positional_embedding).flatten(1, 2)  # [B, N * T, C]
        first = (self.class_embedding + self.positional_embedding[0]).expand(len(video), 1, -1)
        tokens = self.transformer(self.ln_pre(torch.cat([first, patches], dim=1)))
        return self.ln_post(tokens[:, 0]) @ self.proj


class _Text(nn.Module):
    """CLIP's text encoder."""

    def __init__(self, width: int, layers: int, vocabulary: int, context: int, out: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.transformer = Transformer(width, layers, width // 64, act_layer=QuickGELU)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, out))

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings ``[B, D]`` at the end token, whose number is the highest."""
        context = ids.shape[1]
        mask = torch.full((context, context), float("-inf"), device=ids.device).triu_(1)
        tokens = self.token_embedding(ids) + self.positional_embedding
        tokens = self.ln_final(self.transformer(tokens, attn_mask=mask))
        return tokens[torch.arange(len(ids)), ids.argmax(dim=-1)] @ self.text_projection


class ViCLIP:
    """ViCLIP (Wang et al. 2023, arXiv 2307.06942) with the published file's tensors, all of them.

    Frames are resized bicubically without antialiasing and cropped, as VBench does; a prompt is cut
    at 32 tokens.

    Args:
        weights: ``ViClip-InternVid-10M-FLT.pth``.
        device: where to run.

    Raises:
        MetricsError: the file is absent or of another network.
    """

    name = "viclip"

    def __init__(self, weights: str | Path, *, device: str | torch.device = "cpu") -> None:
        path = require_file(weights, "ViCLIP (ViClip-InternVid-10M-FLT.pth)")
        state = read_tensors(path)
        try:
            vision, text = (
                {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
                for start in ("vision_encoder.", "text_encoder.")
            )
            width, _, _, patch, _ = vision["conv1.weight"].shape
            self.frames = vision["temporal_positional_embedding"].shape[1]
            grid = round((len(vision["positional_embedding"]) - 1) ** 0.5)
            seen = _Vision(
                width, _layers(vision), patch, grid, self.frames, vision["proj"].shape[1]
            )
            vocabulary, width = text["token_embedding.weight"].shape
            self.limit, out = len(text["positional_embedding"]), text["text_projection"].shape[1]
            read = _Text(width, _layers(text), vocabulary, self.limit, out)
            seen.load_state_dict(vision, strict=True)
            read.load_state_dict(text, strict=True)
        except (KeyError, ValueError, RuntimeError) as error:
            raise MetricsError(
                f"{path} isn't ViCLIP ({str(error).splitlines()[-1].strip()}); pass the file "
                "ViClip-InternVid-10M-FLT.pth."
            ) from error
        self.version = f"{open_clip.__version__}-{file_hash(path)}"
        self._size = grid * patch
        self._vision, self._text = freeze(seen, device), freeze(read, device)
        self._tokenizer = open_clip.SimpleTokenizer(context_length=self.limit)
        self._device = torch.device(device)

    @torch.no_grad()
    def encode(self, videos: NDArray[np.uint8]) -> Tensor:
        """Features ``[B, D]`` of RGB videos, uint8 ``[B, T, H, W, 3]``, by their middle frames."""
        videos = check_videos(videos, 1, self.name)
        taken = to_tensor(videos[:, middle_frames(videos.shape[1], self.frames)], self._device)
        planes = taken.flatten(0, 1)
        planes = TF.resize(planes, [self._size], InterpolationMode.BICUBIC, antialias=False)
        planes = TF.center_crop(planes, [self._size, self._size]).float() / 255
        statistics = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        pixels = normalise(planes, statistics).unflatten(0, (len(videos), self.frames))
        return self._vision(pixels.transpose(1, 2))

    @torch.no_grad()
    def cosines(self, videos: NDArray[np.uint8], prompts: list[str]) -> list[float]:
        """Cosine of each video, uint8 ``[B, T, H, W, 3]``, and its prompt, -1 to 1."""
        if len(videos) != len(prompts):
            raise MetricsError(
                f"there are {len(videos)} videos and {len(prompts)} prompts; pass one prompt "
                "per video."
            )
        texts = self._text(self._tokenizer(prompts).to(self._device))
        return F.cosine_similarity(self.encode(videos), texts, dim=-1).tolist()

    def tokens(self, prompt: str) -> int:
        """Tokens of a whole prompt, start and end included."""
        return len(self._tokenizer.encode(prompt)) + 2

    def align(self, videos: NDArray[np.uint8], prompts: list[str]) -> list[TextAlignment]:
        """100 x cosine, clamped at 0, of each video, uint8 ``[B, T, H, W, 3]``, and its prompt."""
        return [
            TextAlignment(None, max(0.0, 100 * cosine), self.tokens(prompt), self.limit)
            for cosine, prompt in zip(self.cosines(videos, prompts), prompts, strict=True)
        ]


def _layers(state: dict[str, Tensor]) -> int:
    return 1 + max(int(k.split(".")[2]) for k in state if k.startswith("transformer.resblocks."))
