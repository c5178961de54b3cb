"""Precision and device are what the weights and the machine say; README's snippet runs on bf16."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LTX2Pipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from miniature.build import MiniatureConfig, build_components
from stdrc import loading
from stdrc.errors import STDRCError
from stdrc.loading import pick_device, saved_dtype
from stdrc.pipeline import STDRCPipeline

README = Path(__file__).parents[2] / "README.md"
SMALL = MiniatureConfig(
    heads=2, layers=2, latent_channels=8, vae_channels=(16, 32), decoder_channels=(32, 32),
    text_width=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def bf16_repository(tmp_path_factory):
    """LTX-2.3's structure in bfloat16, saved by diffusers' own pipeline."""
    folder = tmp_path_factory.mktemp("repository") / "tiny"
    LTX2Pipeline(**build_components(SMALL)).to(torch.bfloat16).save_pretrained(folder)
    return folder


def dtypes(pipe):
    return {
        parameter.dtype
        for part in pipe.components.values() if isinstance(part, torch.nn.Module)
        for parameter in part.parameters()
    }  # fmt: skip


def test_the_readmes_snippet_runs_on_a_bf16_repository(bf16_repository, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (snippet,) = (block for block in blocks if "diffusers/LTX-2.3-Diffusers" in block)
    pipe = STDRCPipeline.from_pretrained(bf16_repository)
    weight = pipe.transformer.proj_in.weight
    lora = {
        "transformer.proj_in.lora_A.weight": torch.ones(1, weight.shape[1]),
        "transformer.proj_in.lora_B.weight": torch.full((weight.shape[0], 1), 0.01),
    }
    save_file(lora, tmp_path / "my-stdrc-lora.safetensors")
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    small = "seeds=0, height=64, width=64, num_frames=9, num_inference_steps=2,"
    assert "seeds=0," in snippet
    snippet = snippet.replace("diffusers/LTX-2.3-Diffusers", str(bf16_repository))
    found = {}
    exec(snippet.replace("seeds=0,", small), found)
    assert found["frames"].shape == (1, 9, 64, 64, 3)
    assert np.isfinite(found["frames"]).all()


@pytest.mark.parametrize("dtype", [None, "auto"])
def test_one_dtype_the_transformers(bf16_repository, dtype):
    settings = {} if dtype is None else {"dtype": dtype}
    assert dtypes(STDRCPipeline.from_pretrained(bf16_repository, **settings)) == {torch.bfloat16}


def test_a_dtype_that_is_asked_for_is_taken(bf16_repository):
    for settings in ({"dtype": torch.float32}, {"torch_dtype": torch.float32}):
        assert dtypes(STDRCPipeline.from_pretrained(bf16_repository, **settings)) == {torch.float32}
    apart = {"vae": torch.float32, "default": torch.bfloat16}
    pipe = STDRCPipeline.from_pretrained(bf16_repository, dtype=apart)
    assert (pipe.vae.dtype, pipe.transformer.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("saved", "computed"),
    [
        (torch.float16, torch.float32), (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16), (torch.float8_e4m3fn, torch.bfloat16),
    ],
)  # fmt: skip
def test_half_precision_is_storage(tmp_path, saved, computed):
    (tmp_path / "transformer").mkdir()
    tensors = {"norm": torch.ones(2), "weight": torch.ones(4, 4).to(saved)}
    save_file(tensors, tmp_path / "transformer" / "model.safetensors")
    assert saved_dtype(tmp_path) == computed
    assert saved_dtype(tmp_path, variant="fp16") == torch.float32  # no fp16 file here


def test_the_shipped_storage_is_read_as_float32(bf16_repository, tmp_path):
    pipe = STDRCPipeline.from_pretrained(bf16_repository, dtype=torch.float32)
    pipe.to(torch.float16).save_pretrained(tmp_path / "half")
    (file,) = (tmp_path / "half" / "transformer").glob("*.safetensors")
    assert {t.dtype for t in load_file(file).values()} == {torch.float16}
    assert dtypes(STDRCPipeline.from_pretrained(tmp_path / "half")) == {torch.float32}


def test_the_device_is_there_or_it_is_said(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    assert pick_device() == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    assert pick_device("auto") == torch.device("cuda")
    with pytest.raises(STDRCError, match=r"no device 'gpu'; .* Did you mean 'cuda'\?$"):
        pick_device("gpu")
    with pytest.raises(STDRCError, match=r"no device 'cudda:0'; .* Did you mean 'cuda'\?$"):
        pick_device("cudda:0")
    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: False)
    with pytest.raises(STDRCError, match=r"'cuda' is asked for and this machine has none; use"):
        pick_device("cuda")
    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading.torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(STDRCError, match=r"'cuda:2' is asked for and this machine has cuda:0 to"):
        pick_device("cuda:2")
