"""Strips of generated frames while a run goes on: reference | frames, one row per clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from media.writing import to_uint8
from stdrc.guidance import ThreeStreamGuidance
from stdrc.pipeline import EncodedReference, EncodedText, STDRCPipeline
from stdrc.training.checkpoint import whole_file
from stdrc.training.config import TrainConfig
from stdrc.training.data import TrainingData
from stdrc.training.denoiser import pack


def strip_sampler(
    config: TrainConfig, data: TrainingData, pipe: STDRCPipeline
) -> Callable[[int, nn.Module], Tensor | None]:
    """What `Trainer` calls every `sample_every` steps.

    Captions and first references of the first `samples.count` clips (of several shapes: of the
    first), always with the same seeds, so that two strips of a run differ by training alone.
    Written to `<output>/samples/step-N.png`.

    Args:
        pipe: with the trained transformer, the VAE and, where they are trained, the connectors.
    """
    folder = config.output / "samples"

    def sample(step: int, transformer: nn.Module) -> Tensor | None:
        settings = config.samples
        clips = torch.tensor((data.buckets or ())[0][: settings.count])
        with torch.no_grad():
            strip = _draw(config, data, pipe, clips)
        with whole_file(folder / f"step-{step:07d}.png") as partial:
            Image.fromarray(strip).save(partial, format="PNG")
        return torch.from_numpy(strip)

    return sample


def _draw(config: TrainConfig, data: TrainingData, pipe: STDRCPipeline, clips: Tensor) -> Any:
    settings = config.samples
    _, frames, height, width = data.shapes[0]
    device = pipe._execution_device
    captions = torch.tensor([int(data._captions.flat[data._captions.starts[i]]) for i in clips])
    prompt = _text(config, data, pipe, data.rows("text").gather(captions), captions)
    last = -1 if data.text_mask is None else len(data.text_mask) - 1
    negative = _text(config, data, pipe, data.null_text[None], torch.tensor([last]))
    references = shown = None
    if config.placement is not None and data._references is not None:
        rows = data._references.flat[data._references.starts[clips]]
        latents = data.rows("references").gather(rows).float().to(device)
        tokens = pack(latents, pipe.transformer)
        references = EncodedReference(tokens[:, None], *latents.shape[-2:])
        shown = _pixels(pipe, latents)[:, :1]  # [B, 1, H, W, 3]
        d = config.reference_downscale
        shown = shown.repeat(d, axis=2).repeat(d, axis=3)  # as large as the frames beside it
    scale = pipe.vae_spatial_compression_ratio
    progress = getattr(pipe, "_progress_bar_config", {})
    pipe.set_progress_bar_config(disable=True)
    try:
        video = pipe(
            prompt_embeds=prompt,
            negative_prompt_embeds=negative[[0] * len(clips)],
            reference_latents=references,
            placement=config.placement,
            guidance=ThreeStreamGuidance(
                text=settings.text_guidance,
                reference=settings.reference_guidance if references is not None else 0.0,
            ),
            height=height * scale,
            width=width * scale,
            num_frames=(frames - 1) * pipe.vae_temporal_compression_ratio + 1,
            frame_rate=data.fps,
            num_inference_steps=settings.steps,
            seeds=[1000 + int(i) for i in clips],
            output_type="np",
        ).frames
    finally:
        pipe.set_progress_bar_config(**progress)
    video = np.stack([to_uint8(clip) for clip in video])  # [B, T, H, W, 3]
    picked = np.unique(np.linspace(0, video.shape[1] - 1, 6).round().astype(int))
    video = video[:, picked]
    columns = [video[:, t] for t in range(video.shape[1])]  # of [B, H, W, 3]
    if shown is not None:
        gap = np.full((len(video), video.shape[2], max(2, width * scale // 32), 3), 255, np.uint8)
        columns = [shown[:, 0], gap, *columns]
    return np.concatenate(list(np.concatenate(columns, axis=2)), axis=0)


def _text(
    config: TrainConfig, data: TrainingData, pipe: STDRCPipeline, text: Tensor, rows: Tensor
) -> EncodedText:
    device, dtype = pipe._execution_device, pipe.transformer.dtype
    text = text.to(device, dtype)
    mask = torch.ones(text.shape[:2], device=device)
    if data.text_mask is not None:
        mask = data.text_mask[rows].to(device)
    if config.train_connectors:
        return EncodedText(*pipe.connectors(text, mask, padding_side=pipe.tokenizer.padding_side))
    settings = pipe.transformer.config
    width = (
        settings.caption_channels
        if settings.use_prompt_embeddings
        else settings.audio_cross_attention_dim
    )
    # The audio branch is cut off from the video; it only needs something of the right shape.
    return EncodedText(text, text.new_zeros(*text.shape[:2], width), mask)


def _pixels(pipe: STDRCPipeline, latents: Tensor) -> np.ndarray:
    """Normalised latents as uint8 [B, T, H, W, 3]."""
    vae = pipe.vae
    latents = pipe._denormalize_latents(
        latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    ).to(vae.dtype)
    timestep = latents.new_zeros(len(latents)) if vae.config.timestep_conditioning else None
    video = vae.decode(latents, timestep, return_dict=False)[0]
    frames = pipe.video_processor.postprocess_video(video, output_type="np")
    return np.rint(frames * 255).astype(np.uint8)
