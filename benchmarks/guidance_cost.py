"""What three-stream guidance costs, as ratios measured in one run.

    python benchmarks/guidance_cost.py                 # random-weight miniature, any machine
    python benchmarks/guidance_cost.py --ltx23         # LTX-2.3's real transformer on a GPU

Two questions. How long is a fully guided step over one conditional forward, beside the token bound
(3 N_v + N_r) / (N_v + N_r)? And how long does STDRCPipeline take over diffusers'
LTX2InContextPipeline when both evaluate the same streams? Timings interleave the two sides and
report medians, so that a noisy machine hits both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2InContextPipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from PIL import Image

from miniature.build import MiniatureConfig, build_random
from stdrc.guidance import Stream, ThreeStreamGuidance
from stdrc.pipeline import EncodedText, STDRCPipeline
from stdrc.positions import ReferencePlacement
from stdrc.published import LTX23_TRANSFORMER
from stdrc.sampling import GuidedVelocity
from stdrc.sequence import TokenSequence


def interleaved(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, one after the other, `repeats` times after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, run in sides.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                times[name].append(time.perf_counter() - began)
    return times


def ratio(times: dict[str, list[float]], over: str, under: str) -> dict[str, float]:
    """Median and quartiles of the pairwise ratios."""
    pairs = [a / b for a, b in zip(times[over], times[under], strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4)
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


@torch.no_grad()
def step_cost(
    transformer: Any, text: EncodedText, frames: int, rows: int, columns: int, repeats: int
) -> dict[str, Any]:
    """A guided step over a single conditional forward, and the token bound."""
    device, dtype = text.video.device, text.video.dtype
    size = {"frames": frames, "height": rows, "width": columns, "fps": 24.0}
    video, reference = frames * rows * columns, rows * columns
    channels = transformer.config.in_channels
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, video, channels, generator=generator).to(device, dtype)
    call = GuidedVelocity(
        transformer,
        TokenSequence.of(transformer.rope, ReferencePlacement.tass(), **size, device=device),
        ThreeStreamGuidance(3.0, 1.5),
        text,
        text,
        reference=torch.randn(1, reference, channels, generator=generator).to(device, dtype),
    )
    level = torch.tensor(0.5, device=device)
    three = list(ThreeStreamGuidance(3.0, 1.5).coefficients())
    times = interleaved(
        {
            "conditional": lambda: call.streams([Stream.BOTH], latents, None, level),
            "guided": lambda: call.streams(three, latents, None, level),
        },
        repeats,
    )
    bound = (3 * video + reference) / (video + reference)
    measured = ratio(times, "guided", "conditional")
    return {
        "video_tokens": video,
        "reference_tokens": reference,
        "conditional_s": round(statistics.median(times["conditional"]), 4),
        "guided_s": round(statistics.median(times["guided"]), 4),
        "ratio": measured,
        "token_bound": round(bound, 3),
        "over_bound": round(measured["median"] / bound, 3),
    }


@torch.no_grad()
def pipeline_cost(pipe: STDRCPipeline, repeats: int) -> dict[str, Any]:
    """STDRCPipeline over LTX2InContextPipeline, both with v(0,R) and v(T,R) and with sound."""
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    components = {k: v for k, v in pipe.components.items() if k != "duration_head"}
    theirs = LTX2InContextPipeline(**components)
    for each in (pipe, theirs):
        each.set_progress_bar_config(disable=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    size = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0}
    shared = {**size, "num_inference_steps": 8, "output_type": "latent"}

    def diffusers_side() -> None:
        theirs(
            "a person walks",
            reference_conditions=[LTX2ReferenceCondition(image)],
            guidance_scale=3.0,
            audio_guidance_scale=3.0,
            stg_scale=0.0,
            audio_stg_scale=0.0,
            modality_scale=1.0,
            audio_modality_scale=1.0,
            guidance_rescale=0.0,
            audio_guidance_rescale=0.0,
            spatio_temporal_guidance_blocks=None,
            max_sequence_length=32,
            generator=torch.Generator().manual_seed(0),
            **shared,
        )

    def our_side() -> None:
        pipe(
            "a person walks",
            reference=image,
            placement="overlap",
            guidance=ThreeStreamGuidance(3.0, 1.0, "joint"),
            audio=True,
            seeds=0,
            **shared,
        )

    times = interleaved({"diffusers": diffusers_side, "stdrc": our_side}, repeats)
    return {
        "stdrc_s": round(statistics.median(times["stdrc"]), 3),
        "diffusers_s": round(statistics.median(times["diffusers"]), 3),
        "ratio": ratio(times, "stdrc", "diffusers"),
    }


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The card's measured rate in FLOP/s on 8192 x 8192 matrix products."""
    a = torch.randn(8192, 8192, device=device, dtype=dtype)
    times = interleaved({"product": lambda: a @ a}, 10)["product"]
    return 2 * 8192**3 / statistics.median(times)


@torch.no_grad()
def ltx23_cost(repeats: int) -> dict[str, Any]:
    """LTX-2.3's real transformer with random bf16 weights, 121 frames at 512 x 768."""
    from diffusers import LTX2VideoTransformer3DModel
    from torch.utils.flop_counter import FlopCounterMode

    device, dtype = torch.device("cuda"), torch.bfloat16
    torch.set_default_dtype(dtype)
    with device:
        transformer = LTX2VideoTransformer3DModel(**LTX23_TRANSFORMER).eval()
    torch.set_default_dtype(torch.float32)
    text = EncodedText(
        torch.randn(1, 1024, 4096, device=device, dtype=dtype),
        torch.randn(1, 1024, 2048, device=device, dtype=dtype),
        torch.ones(1, 1024, device=device, dtype=torch.int64),
    )
    torch.cuda.reset_peak_memory_stats()
    result = step_cost(transformer, text, 16, 16, 24, repeats)
    result["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    with FlopCounterMode(display=False) as counter:
        step_cost(transformer, text, 16, 16, 24, 2)
    # One warm-up and two measured runs of a conditional and a guided step each.
    flops = counter.get_total_flops() / 3
    rate = flops / (result["conditional_s"] + result["guided_s"])
    result["share_of_matrix_rate"] = round(rate / matrix_rate(device, dtype), 3)
    result["device"] = torch.cuda.get_device_name()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ltx23", action="store_true", help="the real size; needs a GPU of 80 GB")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    if arguments.ltx23:
        if not torch.cuda.is_available():
            raise SystemExit("--ltx23 needs a CUDA device; none is visible.")
        print(json.dumps(ltx23_cost(arguments.repeats), indent=2))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pipe = STDRCPipeline.from_pretrained(build_random(folder, MiniatureConfig()))
    steps = step_cost(
        pipe.transformer, pipe.encode_text("a person walks"), 3, 8, 8, arguments.repeats
    )
    print(json.dumps({"step": steps, "pipeline": pipeline_cost(pipe, arguments.repeats)}, indent=2))


if __name__ == "__main__":
    main()
