"""The ablation's trainings: a base without references, and every point from it alike."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import LTX2VideoTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor

from miniature import CHECKPOINTS, checkpoint
from miniature.ablation.data import training_data
from miniature.ablation.plan import HERE, SNAPSHOTS, Point
from miniature.build import MiniatureConfig, build_transformer
from stdrc.pipeline import STDRCPipeline, hide_loading_bars
from stdrc.training import TrainConfig
from stdrc.training.checkpoint import save_tensors, whole_file
from stdrc.training.trainer import Trainer

_TRANSFORMER = "transformer."
#: Text encoder and connectors of the base and of every point.
TEXT_SIDE = CHECKPOINTS / "ablation" / "weights" / "text.safetensors"


@lru_cache(maxsize=1)
def frozen_parts() -> STDRCPipeline:
    """The shipped autoencoder and the experiment's text side; the transformer is the caller's to
    replace.

    The text side is kept with the experiment: another training of it would mean something else to
    every transformer trained here. The autoencoder's latents are in closed form, the same whenever
    it is made.
    """
    hide_loading_bars()
    pipe = STDRCPipeline.from_pretrained(checkpoint(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    weights = load_file(TEXT_SIDE)
    for name in ("text_encoder", "connectors"):
        own = {k[len(name) + 1 :]: v for k, v in weights.items() if k.startswith(f"{name}.")}
        getattr(pipe, name).load_state_dict(own)
    return pipe


def new_transformer() -> LTX2VideoTransformer3DModel:
    """Four blocks with random weights, the same whenever it is asked for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_transformer(MiniatureConfig())


def base_file(work: Path) -> Path:
    return work / "weights" / "base.safetensors"


def snapshot_file(work: Path, point: Point, step: int) -> Path:
    return work / "weights" / point.name / f"step-{step:04d}.safetensors"


def load_transformer(file: Path) -> LTX2VideoTransformer3DModel:
    """The transformer whose trained weights lie in `file`, float32, in eval mode."""
    transformer = new_transformer()
    wrong = transformer.load_state_dict(
        {name: value.float() for name, value in load_file(file).items()}, strict=False
    )
    if wrong.unexpected_keys:
        raise ValueError(f"{file} holds {wrong.unexpected_keys[0]!r}, which the miniature lacks.")
    return transformer.eval()


def _keep(trainer: Trainer, file: Path) -> None:
    """The averaged weights of what was trained of the transformer, in half precision."""
    weights: dict[str, Tensor] = {
        name.removeprefix(_TRANSFORMER): value.half().contiguous()
        for name, value in trainer.averaged_weights().items()
        if name.startswith(_TRANSFORMER)
    }
    with whole_file(file) as partial:
        save_tensors(partial, weights)


def _train(
    config: TrainConfig,
    work: Path,
    arm: str | None,
    transformer: LTX2VideoTransformer3DModel,
    kept: dict[int, Path],
) -> None:
    """Train or resume; `kept` says after which steps the weights are put where."""
    config.output.mkdir(parents=True, exist_ok=True)
    curve = config.output / "curve.jsonl"

    def on_step(step: int, numbers: dict[str, float]) -> None:
        with curve.open("a", encoding="utf-8") as lines:
            shown = {name: round(value, 5) for name, value in numbers.items()}
            lines.write(json.dumps({"step": step, **shown}) + "\n")
        if step in kept:
            _keep(trainer, kept[step])

    data = training_data(work / "data", arm, frozen_parts)
    trainer = Trainer(config, data, transformer=transformer, on_step=on_step)
    trainer.fit(resume=True)
    # A run that was killed right after its last checkpoint has nothing left to step through.
    if not kept[config.steps].is_file():
        _keep(trainer, kept[config.steps])


def train_base(work: Path) -> None:
    """Text-to-video, from random weights."""
    if base_file(work).is_file():
        return
    config = TrainConfig.load(HERE / "base.yaml", [f"output={work / 'trainings' / 'base'}"])
    _train(config, work, None, new_transformer(), {config.steps: base_file(work)})


def train_point(work: Path, point: Point) -> None:
    """A point, from the base as it is kept."""
    train_base(work)
    kept = {step: snapshot_file(work, point, step) for step in SNAPSHOTS}
    if all(file.is_file() for file in kept.values()):
        return
    config = TrainConfig.load(
        HERE / "point.yaml",
        [
            f"output={work / 'trainings' / point.name}",
            f"seed={point.seed}",
            f"placement={json.dumps(point.where.to_dict())}",
            f"steps={SNAPSHOTS[-1]}",
        ],
    )
    _train(config, work, point.arm, load_transformer(base_file(work)), kept)
