"""docs/extending.md and docs/method.md work as printed; examples/wan_generator.py runs on Wan."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import config as cfg
from bench.cli import main
from bench.evalsets import Sample
from bench.generators import Settings
from bench.generators.custom import CustomConfig
from media.writing import write_video
from metrics.facts import unregister

from .pages import ROOT, Block, blocks

NAMED = re.compile(r"# ([\w-]+\.(?:py|yaml|csv))\n")


def run(block: Block, names: dict[str, Any]) -> None:
    """Write a block that names a file, execute Python, call `stdrc` for commands."""
    if named := NAMED.match(block.text):
        text = block.text[named.end() :] if named[1].endswith(".csv") else block.text
        Path(named[1]).write_text(text)
    elif block.language == "python":
        # Empty lines first, so that a traceback has the page's own line numbers.
        exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
    elif block.language == "bash":
        for line in block.text.strip().splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "stdrc", f"{block.place}: this page's commands are run, not {line!r}."
            with pytest.raises(SystemExit) as ended:
                main(arguments)
            assert ended.value.code in (0, None), f"{block.place}: {line!r} failed."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What extending.md takes for granted: two pictures and two finished videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, colour in (("ada", "tan"), ("ben", "brown")):
        Image.new("RGB", (64, 64), colour).save(f"{name}.png")
    Path("videos").mkdir()
    for number in (1, 2):
        ramp = np.linspace(0.2 * number, 0.9, 9)[:, None, None, None]
        write_video(Path(f"videos/clip-{number}.mp4"), np.tile(ramp, (1, 64, 64, 3)), 8.0)
    return tmp_path


def test_the_page_on_extending(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("grey_model", "exposure"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    names: dict[str, Any] = {"__name__": "extending"}
    try:
        for block in blocks(ROOT / "docs" / "extending.md"):
            run(block, names)
    finally:
        unregister("exposure.drift")
        for module in ("grey_model", "exposure"):
            sys.modules.pop(module, None)
    assert len((folder / "exposure.py").read_text().splitlines()) <= 25
    assert names["suite"].absent == {}
    drifts = pd.read_csv(folder / "scores/scores.csv").set_index(["key", "metric"])["value"]
    assert drifts["clip-2.mp4", "exposure.drift"] == pytest.approx(0.25, abs=0.02)
    assert "exposure.drift" in (folder / "runs/drift/leaderboard/leaderboard.csv").read_text()
    # The brightness rises evenly from 0.4 to 0.9: half of that on average.
    assert names["values"]["clip-2", "exposure.drift"] == pytest.approx(0.25, abs=0.02)
    table = (folder / "runs/theirs/leaderboard/leaderboard.csv").read_text()
    assert "their-model" in table
    for name in ("ltx.yaml", "wan.yaml"):  # need weights; that they are valid is checked here
        cfg.load_config(folder / name)


def test_the_page_on_the_method() -> None:
    names: dict[str, Any] = {"__name__": "method"}
    ran = [block for block in blocks(ROOT / "docs" / "method.md") if block.language == "python"]
    for block in ran:
        run(block, names)
    assert ran


def test_wan_in_under_thirty_lines(tmp_path: Path) -> None:
    """Random weights of Wan's own classes, through the example."""
    source = (ROOT / "examples" / "wan_generator.py").read_text().splitlines()
    assert len(source) < 30
    checkpoint = tmp_path / "wan"
    build_wan(checkpoint)
    section = CustomConfig(
        kind="custom",
        factory="examples.wan_generator:Wan",
        args={"checkpoint": str(checkpoint), "device": "cpu", "dtype": "float32"},
    )
    generator = section.make()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "face.png")
    samples = [Sample(f"{n}", words, (tmp_path / "face.png",)) for n, words in enumerate("ab")]
    settings = Settings(
        height=32, width=32, num_frames=5, steps=2, text=2.0, args={"max_sequence_length": 8}
    )
    together = generator.generate(samples, settings)
    alone = generator.generate(samples[1:], settings)
    assert [np.shape(video) for video in together] == [(5, 32, 32, 3)] * 2
    assert np.array_equal(together[1], alone[0])
    assert not np.array_equal(together[0], together[1])
    resolved = generator.resolve(settings)
    assert resolved.passes == 4
    assert len(resolved.weights["wan"]) == 64


def build_wan(folder: Path) -> None:
    import torch
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanImageToVideoPipeline,
        WanTransformer3DModel,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    from miniature.build import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer(["a", "b"], 8)
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2
    )
    WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text),
        vae=AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=36,
            out_channels=16,
            text_dim=16,
            freq_dim=16,
            ffn_dim=16,
            num_layers=1,
        ),
    ).save_pretrained(folder)
