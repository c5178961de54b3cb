"""From how many steps on compiled blocks (`memory.compile: blocks`) pay, on this machine.

    python benchmarks/compile_cost.py [--checkpoint FOLDER] [--repeats 3]

A guided step of a default video as it is and with the transformer's blocks compiled, interleaved;
the break-even is what the first compiled step takes over a plain one, by what each later one saves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.guidance_cost import interleaved
from stdrc.pipeline import STDRCPipeline, hide_loading_bars

STEPS = 4  # of a video; every schedule has as many


def stepper(checkpoint: str, compile_: str) -> Any:
    """What runs one guided step of a default video."""
    pipe = STDRCPipeline.from_pretrained(checkpoint, memory={"compile": compile_}).place()
    pipe.set_progress_bar_config(disable=True)
    size = pipe.config.default_size or {}
    picture = torch.zeros(3, size.get("height", 512), size.get("width", 768))
    text, shown = pipe.encode_text(["a person waves"]), pipe.encode_reference(
        [picture], picture.shape[1], picture.shape[2], crop="none"
    )  # fmt: skip

    def step() -> None:
        pipe(
            prompt_embeds=text, negative_prompt_embeds=text, reference_latents=shown, seeds=0,
            num_inference_steps=STEPS, output_type="latent",
        )  # fmt: skip

    return step


def cost(checkpoint: str, repeats: int) -> dict[str, float]:
    """Seconds of a step either way, of the first compiled one, and the steps to the break-even."""
    plain, compiled = stepper(checkpoint, "none"), stepper(checkpoint, "blocks")
    plain()
    started = time.perf_counter()
    compiled()
    first = time.perf_counter() - started
    times = interleaved({"plain": plain, "compiled": compiled}, repeats)
    each = {name: statistics.median(found) / STEPS for name, found in times.items()}
    saved = each["plain"] - each["compiled"]
    return {
        **{f"{name}_s": round(seconds, 4) for name, seconds in each.items()},
        "compiling_s": round(first - STEPS * each["compiled"], 1),
        "break_even_steps": round((first - STEPS * each["compiled"]) / saved) if saved > 0 else -1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shipped = Path(__file__).parents[1] / "miniature" / "checkpoints" / "base"
    parser.add_argument("--checkpoint", default=str(shipped))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    hide_loading_bars()
    # What an earlier run compiled would be loaded, and its compiling counted as nothing.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        print(json.dumps(cost(args.checkpoint, args.repeats)))


if __name__ == "__main__":
    main()
