"""The second stage: diffusers' upsampler and its levels, with the reference or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTX2LatentUpsamplePipeline, LTX2Pipeline
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.utils import STAGE_2_DISTILLED_SIGMA_VALUES

from stdrc import STDRCError, STDRCPipeline, ThreeStreamGuidance
from stdrc.stages import Upscale

SIZE = {"height": 32, "width": 48, "num_frames": 5, "frame_rate": 8.0}


def tiny(**changes: Any) -> LTX2LatentUpsamplerModel:
    torch.manual_seed(0)
    given = {"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 1, **changes}
    return LTX2LatentUpsamplerModel(**{"use_rational_resampler": False, **given}).eval()


def test_two_stages_are_those_of_diffusers(pipe: STDRCPipeline, random_checkpoint: Path) -> None:
    """Their upsampling pipeline between two of our stages, whose parity has tests of its own."""
    upsampler, off = tiny(), ThreeStreamGuidance(1.0, 1.0)
    ours = pipe(
        "a person waves",
        guidance=off,
        upscale=Upscale(upsampler),
        num_inference_steps=3,
        seeds=0,
        output_type="pt",
        **{**SIZE, "height": 64, "width": 96},
    ).frames
    theirs = LTX2Pipeline.from_pretrained(random_checkpoint)
    theirs.set_progress_bar_config(disable=True)
    generator = [torch.Generator("cpu").manual_seed(0)]
    first = pipe(
        "a person waves", guidance=off, num_inference_steps=3,
        generator=generator, output_type="latent", **SIZE,
    ).frames  # fmt: skip
    enlarge = LTX2LatentUpsamplePipeline(vae=theirs.vae, latent_upsampler=upsampler)
    enlarge.set_progress_bar_config(disable=True)
    with torch.no_grad():
        large = enlarge(latents=first, output_type="latent", height=32, width=48, num_frames=5)
    latents = theirs.prepare_latents(
        latents=large[0],
        noise_scale=STAGE_2_DISTILLED_SIGMA_VALUES[0],
        generator=generator,
        dtype=torch.float32,
        device="cpu",
    )
    second = pipe(
        "a person waves", guidance=off, schedule="distilled", latents=latents, output_type="pt",
        sigmas=STAGE_2_DISTILLED_SIGMA_VALUES, **{**SIZE, "height": 64, "width": 96},
    ).frames  # fmt: skip
    torch.testing.assert_close(ours, second, atol=1e-5, rtol=0)


def test_the_reference_is_kept_at_the_second_stage_or_left(pipe: STDRCPipeline) -> None:
    upsampler = tiny()
    seen: list[int] = []
    forward = pipe.transformer.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["hidden_states"].shape[1])
        return forward(*args, **kwargs)

    pipe.transformer.forward = watched
    reference = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(3))
    large = {**SIZE, "height": 64, "width": 96, "guidance": ThreeStreamGuidance(1.0, 1.0)}
    videos = {}
    for kept, extra in (("keep", 96), ("leave", 0)):
        seen.clear()
        videos[kept] = pipe(
            "a person waves",
            reference=reference,
            upscale=Upscale(upsampler, reference=kept),
            num_inference_steps=2,
            seeds=0,
            output_type="pt",
            **large,
        ).frames
        assert seen == [2 * 24 + 24] * 2 + [2 * 96 + extra] * 3
    assert float((videos["keep"] - videos["leave"]).abs().mean()) > 1e-5


def test_what_cannot_be_enlarged_is_one_sentence(pipe: STDRCPipeline, tmp_path: Path) -> None:
    upscale = Upscale(tiny())
    with pytest.raises(STDRCError, match=r"height must be a multiple of 16 pixels, not 40"):
        pipe("x", upscale=upscale, **{**SIZE, "height": 40})
    with pytest.raises(STDRCError, match="Sound is not enlarged along"):
        pipe("x", upscale=upscale, audio=True, **SIZE)
    with pytest.raises(STDRCError, match="is keep or leave, not 'drop'"):
        Upscale(tiny(), reference="drop")  # type: ignore[arg-type]
    with pytest.raises(STDRCError, match="holds no latent upsampler"):
        Upscale.load(tmp_path)
    tiny(temporal_upsample=True, spatial_upsample=False).save_pretrained(tmp_path / "in-time")
    with pytest.raises(STDRCError, match="doesn't double height and width alone"):
        Upscale.load(tmp_path / "in-time")
    encoded = pipe.encode_reference([torch.rand(3, 40, 40)], 32, 48)
    large = {**SIZE, "height": 64, "width": 96}
    with pytest.raises(STDRCError, match=r"give the second's in upscale\.reference_latents"):
        pipe("x", reference_latents=encoded, upscale=upscale, num_inference_steps=2, **large)
