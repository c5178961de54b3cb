"""What follows when one field of a config changes: decided for every field there is.

A field that somebody adds has no decision, and the first test says so. What a change of a
file's bytes or of a sample does again is in test_kept.py.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save_file

from bench import config as cfg
from bench.axes import AXIS_NAMES, Settings
from bench.evalsets import EvalSet, Sample
from bench.evalsets.samples import Shown
from bench.generators import generator_models
from bench.generators.base import Generator
from bench.sweep import plan
from media.images import read_image

from .fakes import DrawnGenerator, write_set
from .test_kept import CELLS, EVERY, NEEDS, SAMPLES, World, again, of

Effect = tuple[int, list[Any], int]  # videos made again, scores made again, sets scored again
NOTHING: Effect = (0, [], 0)
ALL: Effect = (CELLS * SAMPLES, of(EVERY, NEEDS), CELLS)
ONE_MORE: Effect = (SAMPLES, of(EVERY, NEEDS), 1)

#: Field of a run -> (another value, what is done again). The judge here is given and so are the
#: samples: what metrics and evaluation sets do has tables of its own below.
RUN: dict[str, tuple[Any, Effect]] = {
    "name": ("another", NOTHING),
    "description": ("words", NOTHING),
    "sweep.base": ({"steps": 3}, ALL),
    "sweep.grid": ({"text": [1, 3, 5]}, ONE_MORE),
    "sweep.list": ([{"text": 5}], ONE_MORE),
    "sweep.ablations": ({"more": {"text": [5, 1]}}, (2 * SAMPLES, of(EVERY, NEEDS), 2)),  # and base
    "sweep.exclude": ([{"text": 3}], NOTHING),
    "sweep.seeds": ([7], ALL),
    "sweep.allow_mismatch": (True, NOTHING),
    "metrics.device": ("cpu:0", NOTHING),
    "metrics.threads": (2, NOTHING),
    "engine.kind": ("local", NOTHING),
    "engine.batch_size": (2, NOTHING),
    "engine.workers": (2, NOTHING),
    "engine.cpus_per_worker": (2, NOTHING),
    "engine.gpus_per_worker": (1, NOTHING),
    "engine.address": ("auto", NOTHING),
    "engine.retries": (1, NOTHING),
    "engine.place_s": (900, NOTHING),
    "engine.max_failures": (7, NOTHING),
    "trackers": (["tensorboard"], NOTHING),
    "video.crf": (20, ALL),
    "rank.by": ("score", NOTHING),
    "rank.weights": ({"pixel.alone": 1.0}, NOTHING),
    "rank.anchors": ({"pixel.alone": [0, 1]}, NOTHING),
    "rank.missing": ("drop", NOTHING),
}
#: Fields of a search, which plans cells of its own; those that need processes of their own; and
#: the metrics', which are in a column's version.
ELSEWHERE = {f"tune.{field}" for field in cfg.Tune.model_fields} | {
    "run", "engine.score_workers", "engine.placement", "engine.timeout_s", "metrics.names",
    "metrics.plugins", "metrics.num_frames", "metrics.engine",
}  # fmt: skip


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field of a config as sweep.seeds; a model's fields in its place."""
    for name, info in model.model_fields.items():
        kinds = typing.get_args(info.annotation) or (info.annotation,)
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if name in ("evalset", "generator") or inner == [cfg.Axes]:
            yield prefix + name
        elif inner:
            yield from paths(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_field_of_a_run_is_decided() -> None:
    decided = set(RUN) | ELSEWHERE | {"evalset", "generator"}
    assert set(paths(cfg.BenchConfig)) == decided
    assert {f"{m.__name__}.{f}" for m in generator_models() for f in m.model_fields} == set(KEYS)
    assert set(AXES) | {"args", "seed"} == set(Settings.model_fields)
    assert {f.name for f in fields(Sample)} == set(SAMPLE)


@pytest.mark.parametrize("field", RUN)
def test_a_field_of_a_run_does_again_what_is_decided(tmp_path: Path, field: str) -> None:
    world = World(tmp_path)
    world.run()
    section, _, name = field.rpartition(".")
    value, effect = RUN[field]
    if section:
        extra = {"by": "score"} if section == "rank" else {}
        extra |= {"weights": {"pixel.alone": 1.0}} if section == "rank" else {}
        world.config[section] = {**world.config.get(section, {}), **extra, name: value}
    else:
        world.config[name] = value
    assert again(world.run()) == effect


# Generators --------------------------------------------------------------------------------------


class Made(DrawnGenerator):
    """A model of one's own that takes arguments."""

    def __init__(self, size: int = 16, **_: Any) -> None:
        super().__init__()
        self.size = size


class Other(Made):
    name = "other"


HERE = "tests.bench.test_every_field"
SAME, ANOTHER = False, True
#: Class and field -> (a value, another, whether a video of the other is another video).
KEYS: dict[str, tuple[Any, Any, bool]] = {
    "CustomConfig.kind": ("custom", "custom", SAME),
    "CustomConfig.factory": (f"{HERE}:Made", f"{HERE}:Other", ANOTHER),
    "CustomConfig.args": ({}, {"size": 32}, ANOTHER),
    "FolderConfig.kind": ("folder", "folder", SAME),
    "FolderConfig.path": ("videos", "others", ANOTHER),
    "FolderConfig.pattern": ("{sample}.mp4", "{sample}-b.mp4", ANOTHER),
    "FolderConfig.videos": ({}, {"p0-0": "p0-0-b.mp4"}, ANOTHER),
    "FolderConfig.fps": (24, 12, ANOTHER),
    "FolderConfig.name": ("folder", "a-model", ANOTHER),
    "DiffusersConfig.kind": ("diffusers", "diffusers", SAME),
    "DiffusersConfig.checkpoint": ("base", "base2", ANOTHER),
    "DiffusersConfig.image_argument": (None, "image", ANOTHER),
    "DiffusersConfig.device": ("cpu", "auto", SAME),
    "DiffusersConfig.dtype": ("float32", "bfloat16", ANOTHER),
    "STDRCConfig.kind": ("stdrc", "stdrc", SAME),
    "STDRCConfig.checkpoint": ("base", "base2", ANOTHER),
    "STDRCConfig.variants": (
        {"a": {"path": "base", "placement": "tass"}},
        {"a": {"path": "base2", "placement": "tass"}},
        ANOTHER,
    ),
    "STDRCConfig.train": ("refuse", "missing", SAME),
    "STDRCConfig.train_config": (None, "train.yaml", SAME),
    "STDRCConfig.dtype": ("float32", "bfloat16", ANOTHER),
    "STDRCConfig.memory": ({"text": "free"}, {"transformer": "fp8"}, ANOTHER),  # what acts of it
    "STDRCConfig.device": ("cpu", "auto", SAME),
    "STDRCConfig.threads": (1, 2, SAME),
    "STDRCConfig.strict": (False, True, SAME),
    "STDRCConfig.event_sentence": ("{description}", "Then {description}", ANOTHER),
}
#: Axes beside which a field acts.
BESIDE: dict[str, dict[str, Any]] = {"STDRCConfig.event_sentence": {"timeline": "joined"}}
NEEDED = {
    "CustomConfig": {"kind": "custom", "factory": f"{HERE}:Made"},
    "FolderConfig": {"kind": "folder", "path": "videos"},
    "DiffusersConfig": {"kind": "diffusers", "checkpoint": "base"},
    "STDRCConfig": {"kind": "stdrc", "checkpoint": "base", "device": "cpu"},
}


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalSet:
    """Two checkpoints, two folders of videos and a set of one sample, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("base", "base2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes([i]))
        (tmp_path / name / "model_index.json").write_text('{"placement": "tass"}')
    for i, name in enumerate(("one", "two")):
        save_file({"a": torch.full((1,), i)}, tmp_path / f"{name}.safetensors")
    for i, name in enumerate(("videos", "others")):
        (tmp_path / name).mkdir()
        for j, file in enumerate(("p0-0.mp4", "p0-0-b.mp4")):
            (tmp_path / name / file).write_bytes(bytes([i, j]))
    table = write_set(tmp_path / "data", ["a square"], 1)
    evalset = {"kind": "csv", "path": str(table), "id": "id", "identity": "person"}
    return config(evalset, {"kind": "custom", "factory": f"{HERE}:Made"}, {}).evalset.load(tmp_path)


def config(evalset: Any, generator: Any, base: Any) -> cfg.BenchConfig:
    data = {"name": "a", "evalset": evalset, "generator": generator, "sweep": {"base": base}}
    return cfg.parse_config(data, "test")


def key(samples: EvalSet, generator: dict[str, Any], **base: Any) -> str:
    """The key of the only video."""
    made = config({"kind": "csv", "path": "data/set.csv"}, generator, base)
    (job,) = plan(made, samples, made.generator.make()).jobs()
    return job.tasks[0].key


@pytest.mark.parametrize("field", KEYS)
def test_a_field_of_a_generator_is_in_the_key_where_it_matters(inputs: EvalSet, field: str) -> None:
    model, _, name = field.partition(".")
    one, other, differs = KEYS[field]
    beside = BESIDE.get(field, {})
    keys = [key(inputs, {**NEEDED[model], name: value}, **beside) for value in (one, other)]
    assert (keys[0] != keys[1]) is differs


#: Axis -> another value than its default, beside what makes it act.
AXES: dict[str, tuple[Any, dict[str, Any]]] = {
    "checkpoint": ("b", {}),
    "placement": ("tass", {}),
    "augmentation": ("off", {}),
    "text": (5.0, {}),
    "reference": (5.0, {}),
    "order": ("joint", {}),
    "rescale": (0.5, {}),
    "interval": ([0.2, 0.8], {}),
    "parallel": (0.5, {}),
    "stg": (1.0, {}),
    "stg_blocks": ([3], {"stg": 1.0}),
    "steps": (7, {}),
    "height": (96, {}),
    "width": (96, {}),
    "num_frames": (17, {}),
    "frame_rate": (12.0, {}),
    "negative_prompt": ("blurred", {}),
    "crop": ("face", {}),
    "timeline": ("blended", {}),
    "schedule": ("distilled", {}),
    "loras": ([{"path": "two.safetensors"}], {}),
    "upscale": ({"path": "base2"}, {}),
}


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_is_in_the_key(inputs: EvalSet, axis: str) -> None:
    variants = {
        name: {"path": path, "placement": placement, "augmentation": augmentation}
        for name, path, placement, augmentation in (
            ("a", "one.safetensors", "overlap", "on"),
            ("b", "two.safetensors", "overlap", "off"),
            ("c", "two.safetensors", "tass", "on"),
        )
    }
    generator = {**NEEDED["STDRCConfig"], "variants": variants}
    value, beside = AXES[axis]
    base = {"placement": "overlap", "augmentation": "on", **beside}
    if axis == "checkpoint":
        base = {"placement": "overlap"}
    first, other = key(inputs, generator, **base), key(inputs, generator, **{**base, axis: value})
    assert first != other
    assert set(AXES) == set(AXIS_NAMES)


def test_an_argument_of_the_pipeline_is_in_the_key(inputs: EvalSet) -> None:
    made = [
        key(inputs, NEEDED["CustomConfig"], **base)
        for base in ({}, {"args": {"eta": 1}}, {"args": {"eta": 2}})
    ]
    assert len(set(made)) == 3


#: Field of a sample -> (another value, whether it is another video).
SAMPLE: dict[str, tuple[Any, bool]] = {
    "id": ("another", ANOTHER),
    "prompt": ("another", ANOTHER),
    "references": ((), ANOTHER),
    "target": (Path("base/model.safetensors"), SAME),
    "identity": ("another", SAME),
    "timeline": ((types.SimpleNamespace(start=0, end=1, description="waves"),), ANOTHER),
    "shown": ((Shown(start=1.0),), ANOTHER),
    "enhance": (True, ANOTHER),
    "source": ("another.csv:3", SAME),
    "index": (7, SAME),
    "video": (Path("videos/p0-0-b.mp4"), SAME),  # a generator makes its own; see FolderConfig
}


@pytest.mark.parametrize("field", SAMPLE)
def test_a_field_of_a_sample_is_in_the_key_where_it_matters(inputs: EvalSet, field: str) -> None:
    value, differs = SAMPLE[field]
    values = {f.name: getattr(inputs[0], f.name) for f in fields(Sample)}
    generator: Generator = Made()
    one, other = (generator.content(Sample(**v), 0) for v in (values, {**values, field: value}))
    assert (one != other) is differs


def test_a_diffusers_pipeline_sees_a_cut_out_as_the_metrics_do(inputs: EvalSet) -> None:
    """On white, and not on the black that its transparent pixels hold."""
    from PIL import Image

    from bench.generators.diffusers_pipeline import DiffusersConfig, DiffusersGenerator

    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(inputs[0].references[0])
    generator = DiffusersGenerator(
        DiffusersConfig(kind="diffusers", checkpoint="base", image_argument="image", device="cpu")
    )
    seen: dict[str, Any] = {}

    def pipe(**given: Any) -> Any:
        seen.update(given)
        return types.SimpleNamespace(frames=[None])

    generator._pipe = pipe
    generator.generate(inputs[:1], Settings(seed=0))
    assert (read_image(seen["image"]) == 255).all()
