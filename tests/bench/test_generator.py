"""Other models in: functions, classes, folders of videos, diffusers pipelines."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bench import config as cfg
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators import FunctionGenerator, Settings, checkpoint_hash
from bench.generators.custom import CustomConfig
from bench.generators.diffusers_pipeline import DiffusersConfig, DiffusersGenerator
from bench.generators.folder import FolderConfig, FolderGenerator
from bench.runner import Runner
from bench.store import Store
from media.files import file_sha256
from media.writing import write_video

from .fakes import PixelJudge, make_config, no_report


def run(config: cfg.BenchConfig) -> Any:
    parts: dict[str, Any] = {"generator": config.generator.make(), "judge": PixelJudge()}
    return Runner(config, report=no_report, console=Console(file=io.StringIO()), **parts).run()


MODULE = """
import numpy as np
from bench.generators import Generator

def grey(samples, settings):
    return [np.full((3, 16, 16, 3), 100 + settings.seed, np.uint8) for _ in samples]

class Shade(Generator):
    def __init__(self, level):
        self.level = level
    def generate(self, samples, settings):
        return [np.full((3, 16, 16, 3), self.level) for _ in samples]

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_model.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    return "my_model"


def custom(factory: str, **args: Any) -> CustomConfig:
    return CustomConfig(kind="custom", factory=factory, args=args)


def test_a_function_and_a_class_of_ones_own(tmp_path: Path, module: str) -> None:
    generator = custom(f"{module}:grey").make()
    assert isinstance(generator, FunctionGenerator)
    assert generator.name == "grey"
    made = custom(f"{module}:Shade", level=0.5).make()
    assert made.name == "my_model:Shade"
    section = {"kind": "custom", "factory": f"{module}:Shade", "args": {"level": 0.5}}
    summary = run(make_config(tmp_path, generator=section, sweep={}))
    assert (summary.generated, summary.scored, summary.failed) == (4, 4, 0)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("my_model:none", "cannot be imported .*has no attribute"),
        ("no_such_model:x", "cannot be imported .*No module named"),
        ("my_model:number", "is a int; name a Generator class"),
    ],
)
def test_factories_that_are_none(module: str, factory: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        custom(factory).make()


def test_a_folder_of_finished_videos(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for number in (1, 2, 3):
        write_video(videos / f"{number}.mp4", np.full((3, 16, 16, 3), number / 8), 8.0)
    (videos / "3.mp4").write_bytes(b"no video at all")
    section = {"kind": "folder", "path": str(videos), "pattern": "{index}.mp4", "name": "theirs"}
    config = make_config(tmp_path, generator=section, sweep={})
    summary = run(config)
    assert (summary.generated, summary.failed) == (2, 2)
    with Store(tmp_path / "run") as store:
        reasons = sorted(reason for _, _, reason in store.failures())
        assert "can't be opened as a video" in reasons[0]
        assert "There is no video" in reasons[1]
        assert store.cells()[0].label == "theirs"
        done = [v for v in store.videos() if v.status == "done"]
    assert {v.sha256 for v in done} == {file_sha256(videos / f"{n}.mp4") for n in (1, 2)}
    # Another file under the old name is another video.
    write_video(videos / "1.mp4", np.full((3, 16, 16, 3), 0.9), 8.0)
    assert run(config).generated == 1


def test_folder_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no folder"):
        FolderGenerator(FolderConfig(kind="folder", path=tmp_path / "none"))
    with pytest.raises(BenchError, match=r"unknown \{name\}; known are \{identity\}"):
        FolderGenerator(FolderConfig(kind="folder", path=tmp_path, pattern="{name}.mp4"))


def test_another_diffusers_pipeline(tmp_path: Path) -> None:
    """LTX-Video's image-to-video pipeline, random weights, through the adapter."""
    build_ltx(tmp_path / "ltx")
    generator = DiffusersGenerator(
        DiffusersConfig(kind="diffusers", checkpoint=str(tmp_path / "ltx"), device="cpu")
    )
    Image.new("RGB", (32, 32), "red").save(tmp_path / "face.png")
    sample = Sample("1", "a person", (tmp_path / "face.png",))
    settings = Settings(
        height=32, width=32, num_frames=9, steps=2, text=2.0, args={"max_sequence_length": 8}
    )
    first, again = (generator.generate([sample], settings)[0] for _ in range(2))
    assert first.shape == (9, 32, 32, 3)
    assert np.array_equal(first, again)
    other = generator.generate([sample], settings.replace(seed=1))[0]
    assert not np.array_equal(first, other)
    resolved = generator.resolve(settings)
    assert resolved.passes == 4
    assert len(resolved.weights["checkpoint"]) == 64


def build_ltx(folder: Path) -> None:
    import torch
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXImageToVideoPipeline,
        LTXVideoTransformer3DModel,
    )
    from transformers import T5Config, T5EncoderModel

    from miniature.build import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer(["a", "person"], 8)
    LTXImageToVideoPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
        ),
        text_encoder=T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer), d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2
            )
        ),
        tokenizer=tokenizer,
        transformer=LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=16,
        ),
    ).save_pretrained(folder)


def test_checkpoints_that_are_not_here(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="neither a file or folder here"):
        checkpoint_hash("no/where/at/all")
    with pytest.raises(BenchError, match="nor in the Hugging Face cache"):
        checkpoint_hash("nobody/no-such-model")
    with pytest.raises(BenchError, match=r"holds no .safetensors file"):
        checkpoint_hash(tmp_path)


def test_a_checkpoints_hash_is_its_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "README.md").write_text(name)
    assert checkpoint_hash(tmp_path / "a") == checkpoint_hash(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text("{}")
    assert checkpoint_hash(tmp_path / "a") != checkpoint_hash(tmp_path / "b")


def test_the_hub_caches_own_hash_is_taken(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"40 GB that are not read")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert file_sha256(tmp_path / "model.safetensors") == "ab" * 32
