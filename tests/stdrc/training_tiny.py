"""A transformer and data small enough that a training step takes milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import LTX2VideoTransformer3DModel

from miniature.build import MiniatureConfig, build_random
from stdrc.training import TrainConfig, TrainingData


def tiny_transformer(seed: int = 0, **changes: Any) -> LTX2VideoTransformer3DModel:
    """LTX-2.3's switches, two layers, width 16."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
        "cross_attention_dim": 16, "vae_scale_factors": (4, 8, 8), "base_height": 512,
        "base_width": 512, "audio_in_channels": 4, "audio_out_channels": 4,
        "audio_num_attention_heads": 2, "audio_attention_head_dim": 8,
        "audio_cross_attention_dim": 16, "num_layers": 2, "caption_channels": 16,
        "gated_attn": True, "cross_attn_mod": True, "audio_gated_attn": True,
        "audio_cross_attn_mod": True, "perturbed_attn": True, "use_prompt_embeddings": False,
        "rope_type": "split",
    }  # fmt: skip
    return LTX2VideoTransformer3DModel(**{**settings, **changes})


def tiny_data(clips: int = 6, *, seed: int = 0, face: bool = True) -> TrainingData:
    """Random latents 4 x 2 x 3 x 3 with two references each."""
    g = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([4.0, 4.0, 20.0, 20.0]).expand(clips, 5, 4).clone()
    return TrainingData(
        latents=torch.randn(clips, 4, 2, 3, 3, generator=g),
        text=torch.randn(clips, 5, 16, generator=g),
        null_text=torch.randn(5, 16, generator=g),
        references=torch.randn(2 * clips, 4, 1, 3, 3, generator=g),
        choices=[[i, clips + i] for i in range(clips)],
        face=torch.rand(clips, 2, 3, 3, generator=g) if face else None,
        boxes=boxes if face else None,
        identities=F.normalize(torch.randn(clips, 6, generator=g), dim=1) if face else None,
        fps=8.0,
    )


def tiny_config(output: Path, **changes: Any) -> TrainConfig:
    """A few steps of batch 3."""
    settings: dict[str, Any] = {
        "base": "none", "output": str(output), "mode": "full", "steps": 6, "batch_size": 3,
        "optimizer": {"lr": 1e-3, "warmup": 2}, "checkpoint_every": 0, "log_every": 3,
    }  # fmt: skip
    return TrainConfig.from_dict({**settings, **changes})


def small_checkpoint(folder: Path) -> Path:
    """A whole checkpoint of one block, random, for trainings that start from files."""
    small = MiniatureConfig(
        heads=2, head_dim=16, layers=1, latent_channels=8, vae_channels=(16, 32),
        decoder_channels=(16, 16), text_width=16, text_layers=1, text_tokens=16,
    )  # fmt: skip
    return build_random(folder / "ltx", small)
