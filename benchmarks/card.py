"""LTX-2.3's real transformer on a card: seconds per step, peak memory, share of the matrix rate.

    python benchmarks/card.py                          # resident, fp8, in groups
    python benchmarks/card.py --size 512x768x121 --steps 3 --out card.json

Random bfloat16 weights are made on the card (in groups: in the CPU's memory), a pass of two streams
with a reference is warmed up and timed, in three memory settings: resident, fp8 weights, and blocks
that come in groups. `stdrc doctor --checkpoint ltx-2.3` counts the peaks. Needs a CUDA card.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.guidance_cost import matrix_rate
from media.files import write_atomic
from stdrc.footprint import GIB, PROMPT_TOKENS, Footprint, VideoShape, described
from stdrc.memory import Memory, release_memory

SETTINGS = (
    Memory(text="free"),
    Memory(text="free", transformer="fp8"),
    Memory(text="group", offload="group"),
)


def transformer_on(device: torch.device, footprint: Footprint) -> Any:
    """A checkpoint's transformer with random bfloat16 weights."""
    from diffusers import LTX2VideoTransformer3DModel
    from transformers.initialization import no_init_weights

    torch.set_default_dtype(torch.bfloat16)
    try:
        with device, no_init_weights():
            model = LTX2VideoTransformer3DModel.from_config(footprint.configs["transformer"][1])
    finally:
        torch.set_default_dtype(torch.float32)
    model.eval().requires_grad_(False)
    # A processor draws forty gigabytes of numbers in minutes, a card in a second.
    fast = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for parameter in model.parameters():
        parameter.copy_(0.02 * torch.randn(parameter.shape, device=fast, dtype=parameter.dtype))
    return model


@torch.no_grad()
def measure(
    memory: Memory,
    video: VideoShape,
    steps: int,
    device: torch.device,
    checkpoint: str = "ltx-2.3",
    rate: float | None = None,
) -> dict[str, Any]:
    """Seconds, peak and rate of a pass of two streams in one setting.

    Args:
        rate: FLOP/s that the device reaches on matrix products; measured if None.
    """
    from torch.utils.flop_counter import FlopCounterMode

    grouped = memory.offload == "group"
    footprint = Footprint.of(checkpoint)
    model = transformer_on(torch.device("cpu") if grouped else device, footprint)
    parts = {"transformer": model}
    memory.place(SimpleNamespace(transformer=model, components=parts), device)
    if not grouped:
        model.to(device)
    frames, rows, columns = footprint.latents(video)
    run = _pass(model, frames, rows, columns, video.fps, device)
    started = time.perf_counter()
    run()
    on_card = device.type == "cuda"
    if on_card:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    first = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(steps):
        run()
    if on_card:
        torch.cuda.synchronize()
    each = (time.perf_counter() - started) / steps
    peak = torch.cuda.max_memory_allocated() / GIB if on_card else math.nan
    with FlopCounterMode(display=False) as counter:
        run()
    rate = matrix_rate(device, torch.bfloat16) if rate is None else rate
    share = counter.get_total_flops() / each / rate
    del model, run
    release_memory()
    return {
        "memory": described(memory),
        "seconds_a_pass": round(each, 3),
        "first_pass_s": round(first, 1),
        "peak_gib": round(peak, 1),
        "share_of_matrix_rate": round(share, 3),
    }


def _pass(
    model: Any, frames: int, rows: int, columns: int, fps: float, device: torch.device
) -> Any:
    from stdrc.positions import ReferencePlacement
    from stdrc.sequence import TokenSequence

    sequence = TokenSequence.of(
        model.rope, ReferencePlacement.tass(), references=1, frames=frames, height=rows,
        width=columns, fps=fps, device=device,
    )  # fmt: skip

    def zeros(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=torch.bfloat16)

    config = model.config
    text = {"video": config.cross_attention_dim, "audio": config.audio_cross_attention_dim}
    if config.use_prompt_embeddings:
        text = dict.fromkeys(text, config.caption_channels)
    given = {
        "audio_hidden_states": zeros(2, 1, model.config.audio_in_channels),
        "encoder_hidden_states": zeros(2, PROMPT_TOKENS, text["video"]),
        "audio_encoder_hidden_states": zeros(2, PROMPT_TOKENS, text["audio"]),
        "audio_num_frames": 1,
        "isolate_modalities": True,
    }
    video = zeros(2, sequence.tokens, config.in_channels)
    reference = zeros(2, rows * columns, config.in_channels)
    sigmas = torch.full((2,), 0.7, device=device)
    return lambda: sequence.velocities(model, video, reference, sigmas, **given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="512x768x121", help="HEIGHTxWIDTHxFRAMES")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", help="JSON to write")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("This needs a CUDA card; benchmarks/memory_plan.py counts without one.")
    device, video = torch.device("cuda"), VideoShape(*map(int, args.size.split("x")))
    found = {"card": torch.cuda.get_device_name(), "video": str(video), "settings": []}
    for memory in SETTINGS:
        try:
            row = measure(memory, video, args.steps, device)
        except torch.OutOfMemoryError:
            row = {"memory": described(memory), "does_not_fit": True}
            release_memory()
        found["settings"].append(row)
        print(row, flush=True)
    if args.out:
        write_atomic(args.out, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
