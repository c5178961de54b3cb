"""Make the miniature from nothing: world, autoencoder, text side, base, and a LoRA a point.

    python -m bench.make_miniature                  # everything; a night on two cores
    python -m bench.make_miniature --stage base     # one stage, those before it taken as they are

Each stage leaves its result under its final name in the work folder and is skipped when that is
there; trainings go on from their last checkpoint. `ship` copies what belongs in the package.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.world import World, vocabulary
from bench.world.attributes import ClipAttributes, write_caption
from metrics.miniature import words
from stdrc.miniature import CHECKPOINTS
from stdrc.miniature.autoencoder import (
    AutoencoderTraining,
    measure_latents,
    reconstruction_psnr,
    train_autoencoder,
    write_report,
)
from stdrc.miniature.build import MiniatureConfig, build_components
from stdrc.miniature.text import train_text
from stdrc.pipeline import STDRCPipeline
from stdrc.training import TrainConfig, train

ROOT = Path(__file__).resolve().parents[1]
SIZE = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0}
STAGES = ("world", "autoencoder", "text", "base", "variants", "ship")
FIELDS = ("color", "pattern", "motion", "expression", "lighting", "hat")
ANSWERS = (
    words.COLORS,
    words.PATTERNS,
    words.MOTIONS,
    words.EXPRESSIONS,
    words.LIGHTINGS,
    words.HATS,
)

#: name -> overrides of configs/train_miniature_variant.yaml
POINTS: dict[str, list[str]] = {
    **{
        f"{placement}-{switch}": [f"placement={placement}", f"augmentation={switch}"]
        for placement in ("tass", "overlap", "strata", "spatial", "far")
        for switch in ("off", "on")
    },
    "tass-on-identity": [
        "placement=tass",
        "augmentation=on",
        "face_weight=3.0",
        "identity.weight=0.1",
    ],
}


@dataclass(frozen=True)
class Plan:
    """How much of everything; the defaults are the shipped miniature's.

    Args:
        clips: of the training world, one identity each.
        frame_steps, clip_steps: of the autoencoder, on single frames and then on clips.
        text_steps: of the text side's reading test.
        overrides: further `key=value` for both diffusion trainings.
    """

    work: Path
    clips: int = 8000
    frame_steps: int = 6000
    clip_steps: int = 20_000
    text_steps: int = 500
    config: MiniatureConfig = field(default_factory=MiniatureConfig)
    overrides: tuple[str, ...] = ()


def read_clips(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The world's clips and boxes for the autoencoder, drawn once into two arrays on disk.

    Returns:
        frames uint8 [N, 9, 64, 64, 3] (memory-mapped) and boxes float32 [N, 9, 4].
    """
    frames_file, boxes_file = folder / "frames.npy", folder / "boxes.npy"
    if not boxes_file.is_file():
        world = World(split="train", size=count)
        shape = (count, world.frames, world.resolution, world.resolution, 3)
        part = folder / "frames.part.npy"
        frames = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        boxes = np.empty((count, world.frames, 4), np.float32)
        for i, clip in enumerate(world):
            frames[i], boxes[i] = clip.frames, clip.boxes
            if (i + 1) % 500 == 0:
                print(f"drawn {i + 1}/{count} clips", flush=True)
        frames.flush()
        part.rename(frames_file)
        np.save(folder / "boxes.part.npy", boxes)
        (folder / "boxes.part.npy").rename(boxes_file)
    return np.load(frames_file, mmap_mode="r"), np.load(boxes_file)


def make_world(plan: Plan) -> None:
    """The training folder, in the layout that `stdrc train` reads."""
    folder = plan.work / "world"
    if not (folder / "metadata.jsonl").is_file():
        part = plan.work / "world.part"
        shutil.rmtree(part, ignore_errors=True)
        World(split="train", size=plan.clips).write(part, layout="trainer")
        part.rename(folder)


def make_autoencoder(plan: Plan) -> None:
    """Single frames first: they cost a ninth of a clip; then clips, until they look right."""
    folder = plan.work / "autoencoder"
    if (folder / "psnr.json").is_file():
        return
    folder.mkdir(exist_ok=True)
    frames, boxes = read_clips(plan.work, plan.clips)
    held_out = min(64, plan.clips // 10)
    known = slice(0, plan.clips - held_out)
    vae = build_components(plan.config)["vae"]
    # Rates above 3e-4 learn several times slower here, and small batches faster at equal time.
    stages = (
        ("frames", AutoencoderTraining(plan.frame_steps, 6, 2e-4, 1, edges=0.0, kl_weight=1e-5)),
        ("clips", AutoencoderTraining(plan.clip_steps, 2, 2e-4, 9, edges=0.1, kl_weight=1e-5)),
    )
    for name, training in stages:
        vae = train_autoencoder(
            vae, frames[known], boxes[known], training, checkpoint=folder / f"{name}.pt"
        )
    measure_latents(vae, np.asarray(frames[: min(512, plan.clips)]))
    vae.save_pretrained(folder / "vae")
    numbers = reconstruction_psnr(vae, np.asarray(frames[-held_out:]), boxes[-held_out:])
    write_report(folder / "psnr.json", numbers)
    print(numbers, flush=True)


def draw_captions(count: int, step: int) -> tuple[list[str], torch.Tensor]:
    """Captions and the answers to what they say, for the text side's reading test."""
    rng = np.random.default_rng([11, step])
    scenes = [ClipAttributes.sample(rng) for _ in range(count)]
    truth = [
        [answers.index(getattr(scene, field)) for field, answers in zip(FIELDS, ANSWERS)]
        for scene in scenes
    ]
    return [write_caption(scene, rng) for scene in scenes], torch.tensor(truth)


def make_start(plan: Plan) -> None:
    """The pipeline that the base starts from: everything trained but the transformer."""
    folder = plan.work / "start"
    if (folder / "model_index.json").is_file():
        return
    from diffusers import AutoencoderKLLTX2Video

    components = build_components(plan.config, vocabulary())
    accuracy = train_text(
        components, draw_captions, [len(a) for a in ANSWERS], steps=plan.text_steps
    )
    numbers = dict(zip(FIELDS, accuracy))
    print("read from captions:", {k: round(v, 4) for k, v in numbers.items()}, flush=True)
    components["vae"] = AutoencoderKLLTX2Video.from_pretrained(plan.work / "autoencoder" / "vae")
    part = plan.work / "start.part"
    shutil.rmtree(part, ignore_errors=True)
    STDRCPipeline(**components, default_size=SIZE).save_pretrained(part)
    write_report(part / "text.json", numbers)
    part.rename(folder)


def run_training(plan: Plan, config: str, output: Path, base: Path, overrides: list[str]) -> None:
    """One `stdrc train` with the work folder's paths; goes on where it stopped."""
    settings = [f"base={base}", f"output={output}", f"data=[{plan.work / 'world'}]"]
    settings.append(f"cache.folder={plan.work / 'cache'}")
    loaded = TrainConfig.load(ROOT / "configs" / config, [*settings, *overrides, *plan.overrides])
    train(loaded, resume=any(output.glob("checkpoints/*")))


def make_base(plan: Plan) -> None:
    output = plan.work / "base"
    if not (output / "checkpoint" / "model_index.json").is_file():
        run_training(plan, "train_miniature_base.yaml", output, plan.work / "start", [])


def make_variants(plan: Plan) -> None:
    for name, overrides in POINTS.items():
        output = plan.work / "variants" / name
        if not (output / "pytorch_lora_weights.safetensors").is_file():
            print(f"variant {name}", flush=True)
            base = plan.work / "base" / "checkpoint"
            run_training(plan, "train_miniature_variant.yaml", output, base, overrides)


def ship(plan: Plan) -> None:
    """Copy base (fp16) and LoRAs into the package."""
    source = plan.work / "base" / "checkpoint"
    part = CHECKPOINTS / "base.part"
    shutil.rmtree(part, ignore_errors=True)
    pipeline = STDRCPipeline.from_pretrained(source, torch_dtype=torch.float16)
    pipeline.save_pretrained(part)
    shutil.rmtree(CHECKPOINTS / "base", ignore_errors=True)
    part.rename(CHECKPOINTS / "base")
    folder = CHECKPOINTS / "variants"
    folder.mkdir(parents=True, exist_ok=True)
    for name in POINTS:
        lora = plan.work / "variants" / name / "pytorch_lora_weights.safetensors"
        shutil.copyfile(lora, folder / f"{name}.safetensors")
    size = sum(f.stat().st_size for f in CHECKPOINTS.rglob("*") if f.is_file())
    print(f"{CHECKPOINTS}: {size / 1e6:.1f} MB", flush=True)


MAKERS: dict[str, Callable[[Plan], Any]] = {
    "world": make_world,
    "autoencoder": make_autoencoder,
    "text": make_start,
    "base": make_base,
    "variants": make_variants,
    "ship": ship,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "miniature")
    parser.add_argument("--stage", action="append", choices=STAGES, help="only these; repeat")
    for name in ("clips", "frame-steps", "clip-steps", "text-steps"):
        default = getattr(Plan, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument(
        "--threads", type=int, default=1, help="of PyTorch; one is best on two cores"
    )
    parser.add_argument("--set", action="append", default=[], help="key=value for both trainings")
    given = parser.parse_args(arguments)
    if given.clips < 20:
        parser.error(f"--clips must be at least 20, not {given.clips}")
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    plan = Plan(
        given.work.resolve(),
        given.clips,
        given.frame_steps,
        given.clip_steps,
        given.text_steps,
        overrides=tuple(given.set),
    )
    plan.work.mkdir(parents=True, exist_ok=True)
    for name in given.stage or STAGES:
        print(f"== {name}", flush=True)
        MAKERS[name](plan)


if __name__ == "__main__":
    main()
