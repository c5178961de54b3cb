"""Make the miniature from nothing: world, autoencoder, text side, base, and a LoRA per point.

    python -m miniature.make --stage text     # one stage, those before it taken as they are
    torchrun --nproc-per-node 2 -m miniature.make --stage base

`make miniature` runs them all. The base's trainings (`base`, `identity`, `likeness`, `rollout`) are
written for two processes on a processor that share each batch; another number of them, or one on a
card, shares the same batch. The last takes minutes on a card and most of a day on two cores. Each
stage leaves its result under its final name in the work folder and is skipped when that is there;
trainings resume from their last checkpoint. `ship` copies what belongs in the package.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Video

from media.files import whole_file, whole_folder, write_atomic
from miniature import CHECKPOINTS
from miniature.autoencoder import (
    DecoderTraining,
    fit_components,
    measure_latents,
    reconstruction_psnr,
    train_decoder,
)
from miniature.build import MiniatureConfig, build_components, deepen
from miniature.crowd import CrowdEncoder, encode_crowd, read_crowd
from miniature.identity_encoder import load_identity_encoder
from miniature.text import train_text
from miniature.words import FIELDS
from miniature.world import World, vocabulary, write_layout
from miniature.world.attributes import ClipAttributes, write_caption
from stdrc.pipeline import STDRCPipeline
from stdrc.training import TrainConfig, TrainingData, train

CONFIGS = Path(__file__).parent / "configs" / "train"
SIZE = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0}
#: What the base's trainings before the last say of themselves, beside the last one's `stdrc.json`.
EARLIER_TRAININGS = ("first_training.json", "second_training.json", "third_training.json")
#: A training -> what it starts from, and where that keeps what it said of itself.
TRAININGS = {
    "base": ("start", ""),
    "identity": ("deeper", ""),
    "likeness": ("identity/checkpoint", EARLIER_TRAININGS[1]),
    "rollout": ("likeness/checkpoint", EARLIER_TRAININGS[2]),
}
#: Processes that the files of the base's trainings are written for.
PROCESSES = 2
CROWD = "crowd.safetensors"
#: The four blocks of the base among the six of what is trained on: two new ones, to read and draw.
DEEPER = (0, 1, None, 2, None, 3)
#: Clips whose own frames are the references of the ablation's points; 400 steps see no more.
OWN_CLIPS = 3200
#: name -> overrides of miniature-variant.yaml
POINTS: dict[str, list[str]] = {
    **{
        f"{placement}-{name}": [f"placement={placement}", *switch]
        for placement in ("tass", "overlap", "strata", "spatial", "far")
        for name, switch in (("off", ["augmentation=off"]), ("on", []))
    },
    "tass-on-identity": [
        "placement=tass",
        "steps=300",
        "augmentation.variants=1",
        "augmentation.plain=true",
        "face_weight=3.0",
        "pixels.weight=0.5",
        "identity.weight=0.5",
        "identity.alignment=0.3",
        "identity.rollout=4",
    ],
}


@dataclass(frozen=True)
class Plan:
    """How much of everything; the defaults are the shipped miniature's.

    Args:
        clips: of the training world, one identity each.
        crowd: of the same world, for the base's last training.
        decoder_steps: of the autoencoder's decoder.
        text_steps: of the text side's reading test.
        overrides: further `key=value` for all diffusion trainings.
        variants: which points to train.
    """

    work: Path
    clips: int = 8000
    crowd: int = 32_000
    decoder_steps: int = 600
    text_steps: int = 500
    config: MiniatureConfig = field(default_factory=MiniatureConfig)
    overrides: tuple[str, ...] = ()
    variants: tuple[str, ...] = tuple(POINTS)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_clips(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The world's clips and boxes for the autoencoder, drawn once into two arrays on disk.

    Returns:
        frames uint8 [N, 9, 64, 64, 3] (memory-mapped) and boxes float32 [N, 9, 4].
    """
    frames_file, boxes_file = folder / "frames.npy", folder / "boxes.npy"
    if not boxes_file.is_file():
        world = World(split="train", size=count)
        shape = (count, world.frames, world.resolution, world.resolution, 3)
        with whole_file(frames_file) as part:
            frames = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            boxes = np.empty((count, world.frames, 4), np.float32)
            for i, clip in enumerate(world):
                frames[i], boxes[i] = clip.frames, clip.boxes
                if (i + 1) % 500 == 0:
                    print(f"drawn {i + 1}/{count} clips", flush=True)
            frames.flush()
        with whole_file(boxes_file) as part, part.open("wb") as file:
            np.save(file, boxes)
    return np.load(frames_file, mmap_mode="r"), np.load(boxes_file)


def make_world(plan: Plan) -> None:
    """The training folder, in the layout that `stdrc train` reads."""
    folder = plan.work / "world"
    if not (folder / "metadata.jsonl").is_file():
        with whole_folder(folder) as part:
            write_layout(World(split="train", size=plan.clips), part)


def make_encoder(plan: Plan) -> None:
    """The autoencoder in closed form: latents are final from here on."""
    folder = plan.work / "encoder"
    if (folder / "fit.json").is_file():
        return
    folder.mkdir(exist_ok=True)
    frames, _ = read_clips(plan.work, plan.clips)
    vae = build_components(plan.config)["vae"]
    numbers = fit_components(vae, frames[: min(300, plan.clips)])
    measure_latents(vae, np.asarray(frames[: min(512, plan.clips)]))
    vae.save_pretrained(folder / "vae")
    write_json(folder / "fit.json", numbers)
    print(numbers, flush=True)


def make_decoder(plan: Plan) -> None:
    """The decoder's training; the diffusion trainings need nothing of it and may run beside it."""
    folder = plan.work / "decoder"
    if (folder / "psnr.json").is_file():
        return
    folder.mkdir(exist_ok=True)
    frames, boxes = read_clips(plan.work, plan.clips)
    held_out = min(64, plan.clips // 10)
    known = slice(0, plan.clips - held_out)
    vae = AutoencoderKLLTX2Video.from_pretrained(plan.work / "encoder" / "vae")
    last = np.asarray(frames[-held_out:]), boxes[-held_out:]
    linear = reconstruction_psnr(vae, *last)
    training = DecoderTraining(plan.decoder_steps)
    train_decoder(vae, frames[known], boxes[known], training, checkpoint=folder / "training.pt")
    vae.save_pretrained(folder / "vae")
    numbers = reconstruction_psnr(vae, *last)
    numbers.update({f"closed_form_{name}": value for name, value in linear.items()})
    write_json(folder / "psnr.json", numbers)
    print(numbers, flush=True)


def draw_captions(count: int, step: int) -> tuple[list[str], torch.Tensor]:
    """Captions and the answers to what they say, for the text side's reading test."""
    rng = np.random.default_rng([11, step])
    scenes = [ClipAttributes.sample(rng) for _ in range(count)]
    truth = [
        [values.index(getattr(scene, field)) for field, values in FIELDS.items()]
        for scene in scenes
    ]
    return [write_caption(scene, rng) for scene in scenes], torch.tensor(truth)


def make_start(plan: Plan) -> None:
    """The pipeline that the base starts from: everything trained but the transformer."""
    folder = plan.work / "start"
    if (folder / "model_index.json").is_file():
        return
    components = build_components(plan.config, vocabulary())
    sizes = [len(values) for values in FIELDS.values()]
    accuracy = train_text(components, draw_captions, sizes, steps=plan.text_steps)
    numbers = dict(zip(FIELDS, accuracy))
    print("read from captions:", {k: round(v, 4) for k, v in numbers.items()}, flush=True)
    components["vae"] = AutoencoderKLLTX2Video.from_pretrained(plan.work / "encoder" / "vae")
    with whole_folder(folder) as part:
        STDRCPipeline(**components, default_size=SIZE).save_pretrained(part)
        write_json(part / "text.json", numbers)


def read_config(
    plan: Plan, config: str, output: Path, base: Path, overrides: Sequence[str] = ()
) -> TrainConfig:
    """A file of `configs` with the work folder's paths."""
    settings = [f"base={base}", f"output={output}", f"data=[{plan.work / 'world'}]"]
    settings.append(f"cache.folder={plan.work / 'cache'}")
    return TrainConfig.load(CONFIGS / config, [*settings, *overrides, *plan.overrides])


def sharing(config: TrainConfig) -> list[str]:
    """Overrides by which as many processes as there are take the batch of `PROCESSES` together."""
    here = int(os.environ.get("WORLD_SIZE", "1"))
    numbers = {
        "batch_size": config.batch_size,
        "identity.samples": config.identity.samples,
        "identity.rollout": config.identity.rollout,
    }
    uneven = [name for name, number in numbers.items() if number * PROCESSES % here]
    if uneven:
        raise SystemExit(f"{here} processes can't share {' and '.join(uneven)} evenly; start two.")
    overrides = [f"{name}={number * PROCESSES // here}" for name, number in numbers.items()]
    # On an H100 the first ten steps of the last training were not done in 90 s with compiled
    # blocks; without, all of it takes seven minutes.
    return [*overrides, "compile=false"] if torch.cuda.is_available() else overrides


def train_on(name: str, plan: Plan) -> None:
    """One of `TRAININGS`: the base; deeper, until it reads a face from its reference; until it
    draws the face that it reads; and until it keeps to that face by its own steps."""
    output, (before, record) = plan.work / name, TRAININGS[name]
    if (output / "checkpoint" / "model_index.json").is_file():
        return
    start = plan.work / before
    # The other processes read nothing before the main one has encoded the data.
    if record and int(os.environ.get("RANK", "0")) == 0:
        if name == "likeness":
            take_decoder(plan)
        shutil.copyfile(start / "stdrc.json", start / record)
    shared = sharing(read_config(plan, f"miniature-{name}.yaml", output, start))
    config = read_config(plan, f"miniature-{name}.yaml", output, start, shared)
    data = read_crowd(plan.work / CROWD, SIZE["frame_rate"]) if name == "rollout" else None
    train(config, data=data, resume=any(output.glob("checkpoints/*")))


def make_crowd(plan: Plan) -> None:
    """What the last training reads: many more people, encoded as they are drawn."""
    if (plan.work / CROWD).is_file():
        return
    base = plan.work / "likeness" / "checkpoint"
    pipe = STDRCPipeline.from_pretrained(base, dtype=torch.float32, audio_vae=None, vocoder=None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    margin = read_config(plan, "miniature-rollout.yaml", base, base).identity.margin
    encoder = CrowdEncoder(pipe.to(device), load_identity_encoder(device), margin)
    encode_crowd(World(split="train", size=plan.crowd), encoder, plan.work / CROWD)


def make_encodings(plan: Plan) -> None:
    """What the first training reads, encoded beforehand: one process does that, beside another."""
    output = plan.work / "base"
    if not (output / "checkpoint" / "model_index.json").is_file():
        config = read_config(plan, "miniature-base.yaml", output, plan.work / "start")
        train(config, dry_run=True)


def make_deeper(plan: Plan) -> None:
    """The base in six blocks instead of four: the same function, with room to read a face."""
    folder = plan.work / "deeper"
    if (folder / "model_index.json").is_file():
        return
    base = plan.work / "base" / "checkpoint"
    pipe = STDRCPipeline.from_pretrained(base, dtype=torch.float32)
    pipe.register_modules(transformer=deepen(pipe.transformer, DEEPER))
    with whole_folder(folder) as part:
        pipe.save_pretrained(part)
        # The next training keeps what it finds beside the weights, and says only its own part.
        shutil.copyfile(base / "stdrc.json", part / EARLIER_TRAININGS[0])


def take_decoder(plan: Plan) -> None:
    """Put the trained decoder into the base, which was trained beside it."""
    base = plan.work / "identity" / "checkpoint"
    trained = plan.work / "decoder"
    if not (trained / "psnr.json").is_file():
        raise SystemExit(f"{trained} holds no trained decoder; run --stage decoder first.")
    if not (base / "autoencoder.json").is_file():
        shutil.copytree(trained / "vae", base / "vae", dirs_exist_ok=True)
        shutil.copyfile(trained / "psnr.json", base / "autoencoder.json")


def make_own(plan: Plan) -> None:
    """The points' training folder, whose references are frames of the clips."""
    folder = plan.work / "own"
    if not (folder / "metadata.jsonl").is_file():
        with whole_folder(folder) as part:
            clips = World(split="train", size=min(plan.clips, OWN_CLIPS))
            write_layout(clips, part, own_frames=True)


def make_variants(plan: Plan) -> None:
    base = plan.work / "rollout" / "checkpoint"
    # Points differ in two sets of references, and in what they ask about the face.
    encoded: dict[tuple[str, str, bool, str], TrainingData] = {}
    for name in plan.variants:
        output = plan.work / "variants" / name
        if not (output / "pytorch_lora_weights.safetensors").is_file():
            print(f"variant {name}", flush=True)
            source = [] if name == "tass-on-identity" else [f"data=[{plan.work / 'own'}]"]
            overrides = [*source, *POINTS[name]]
            config = read_config(plan, "miniature-variant.yaml", output, base, overrides)
            key = (
                str(config.data),
                config.augmentation.model_dump_json(),
                config.face_weight > 1,
                config.identity.model_dump_json(),
            )
            if key not in encoded:
                data = train(config, dry_run=True)
                assert isinstance(data, TrainingData)
                encoded[key] = data
            train(config, data=encoded[key], resume=any(output.glob("checkpoints/*")))


def ship(plan: Plan) -> None:
    """Copy the base in half precision and the LoRAs into the package."""
    source = plan.work / "rollout" / "checkpoint"
    pipeline = STDRCPipeline.from_pretrained(source, dtype=torch.float16)
    with whole_folder(CHECKPOINTS / "base") as part:
        pipeline.save_pretrained(part)
        for file in (*part.glob("*/config.json"), part / "model_index.json"):
            # diffusers notes where a component was loaded from; on another machine that is nowhere.
            stated = json.loads(file.read_text())
            stated.pop("_name_or_path", None)
            write_json(file, stated)
        for name in ("autoencoder.json", *EARLIER_TRAININGS, "stdrc.json"):
            shutil.copyfile(source / name, part / name)
    folder = CHECKPOINTS / "variants"
    folder.mkdir(parents=True, exist_ok=True)
    for name in POINTS:
        lora = plan.work / "variants" / name / "pytorch_lora_weights.safetensors"
        shutil.copyfile(lora, folder / f"{name}.safetensors")
    size = sum(f.stat().st_size for f in CHECKPOINTS.rglob("*") if f.is_file())
    print(f"{CHECKPOINTS}: {size / 1e6:.1f} MB", flush=True)


MAKERS: dict[str, Callable[[Plan], Any]] = {
    "world": make_world,
    "encoder": make_encoder,
    "decoder": make_decoder,
    "text": make_start,
    "encodings": make_encodings,
    "base": partial(train_on, "base"),
    "deepen": make_deeper,
    "identity": partial(train_on, "identity"),
    "likeness": partial(train_on, "likeness"),
    "crowd": make_crowd,
    "rollout": partial(train_on, "rollout"),
    "own": make_own,
    "variants": make_variants,
    "ship": ship,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/miniature"))
    parser.add_argument(
        "--stage", action="append", choices=tuple(MAKERS), help="only these; repeat"
    )
    for name in ("clips", "crowd", "decoder-steps", "text-steps"):
        default = getattr(Plan, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument(
        "--threads", type=int, default=1, help="of PyTorch; one is best on two cores"
    )
    parser.add_argument("--set", action="append", default=[], help="key=value for both trainings")
    parser.add_argument("--variant", default="*", help="only points that this pattern matches")
    given = parser.parse_args(arguments)
    if given.clips < 20:
        parser.error(f"--clips must be at least 20, not {given.clips}")
    torch.set_num_threads(given.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a card
    torch.manual_seed(0)
    plan = Plan(
        given.work.resolve(),
        given.clips,
        given.crowd,
        given.decoder_steps,
        given.text_steps,
        overrides=tuple(given.set),
        variants=tuple(fnmatch.filter(POINTS, given.variant)),
    )
    if not plan.variants:
        parser.error(f"--variant {given.variant} matches none of {', '.join(POINTS)}")
    plan.work.mkdir(parents=True, exist_ok=True)
    for name in given.stage or MAKERS:
        print(f"== {name}", flush=True)
        MAKERS[name](plan)


if __name__ == "__main__":
    main()
