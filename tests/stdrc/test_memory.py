"""Memory settings on a tiny bf16 repository: the same videos with less on the device at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stdrc import Memory, STDRCError, STDRCPipeline
from stdrc.pipeline import hide_loading_bars

SIZE = {"height": 32, "width": 48, "num_frames": 5, "frame_rate": 8.0}


@pytest.fixture(scope="module")
def half(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random miniature saved in bfloat16, as LTX-2.3 is."""
    folder = tmp_path_factory.mktemp("half") / "bf16"
    STDRCPipeline.from_pretrained(random_checkpoint, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _no_bars() -> None:
    hide_loading_bars()


def load(half: Path, **memory: Any) -> STDRCPipeline:
    pipe = STDRCPipeline.from_pretrained(half, memory=memory)
    pipe.set_progress_bar_config(disable=True)
    return pipe.place("cpu")


def video(pipe: STDRCPipeline, **changes: Any) -> torch.Tensor:
    reference = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(3))
    given = {"num_inference_steps": 2, "seeds": 0, "output_type": "pt", **SIZE, **changes}
    return pipe("a person waves", reference=reference, **given).frames.float()


@pytest.fixture(scope="module")
def plain(half: Path) -> torch.Tensor:
    return video(load(half))


def test_the_saved_dtype_is_the_default(half: Path) -> None:
    pipe = load(half)
    assert {pipe.transformer.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}


@pytest.mark.parametrize(
    "memory",
    [
        {"text": "free"},
        {"text": "group"},
        {"offload": "model"},
        {"offload": "group"},
        {"offload": "group", "text": "free"},
        {"offload": "group", "text": "group"},
        {"offload": "group", "text": "group", "tiling": "off"},
        {"tiling": "on"},  # one tile covers this video
        {"transformer": "bf16"},
        {"attention": "native"},
    ],
    ids=str,
)
def test_where_weights_lie_changes_no_video(
    half: Path, plain: torch.Tensor, memory: dict[str, str]
) -> None:
    pipe = load(half, **memory)
    torch.testing.assert_close(video(pipe), plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(video(pipe), plain, atol=1e-5, rtol=0)  # and again, once moved


def test_freed_text_is_off_the_device_but_while_it_encodes(
    half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = load(half, text="free")
    moves: list[str] = []
    monkeypatch.setattr(pipe.text_encoder, "to", lambda device: moves.append(str(device)))
    encode = pipe._encode_each
    monkeypatch.setattr(pipe, "_encode_each", lambda *a: [moves.append("encodes"), encode(*a)][1])
    pipe.encode_text("a person waves")
    assert moves == ["cpu", "encodes", "cpu"]


def test_the_transformer_and_the_text_side_take_turns(half: Path) -> None:
    pipe = load(half, text="free")
    turns: list[tuple[str, str]] = []
    for name in ("text_encoder", "connectors", "transformer"):
        module = getattr(pipe, name)
        module.to = lambda device, name=name: turns.append((name, str(device)))
    with pipe.memory.encoding_text(pipe, torch.device("meta")):
        pass
    pipe.memory.denoising(pipe, torch.device("meta"))
    assert turns == [
        ("transformer", "cpu"),
        ("text_encoder", "meta"),
        ("connectors", "meta"),
        ("text_encoder", "cpu"),
        ("connectors", "cpu"),
        ("transformer", "meta"),
    ]


def test_eight_bits_are_stored_and_the_video_stays_near(half: Path, plain: torch.Tensor) -> None:
    pipe = load(half, transformer="fp8")
    block = pipe.transformer.transformer_blocks[0]
    assert block.attn1.to_q.weight.dtype == torch.float8_e4m3fn
    other = video(pipe)
    assert 0 < float((other - plain).abs().mean()) < 0.05


def test_eight_bits_come_in_groups_too(half: Path) -> None:
    resident = video(load(half, transformer="fp8"))
    grouped = load(half, transformer="fp8", offload="group", text="group")
    torch.testing.assert_close(video(grouped), resident, atol=1e-5, rtol=0)


def test_a_lora_loaded_on_eight_bits_acts_as_on_the_checkpoint(half: Path, tmp_path: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    made = load(half)
    torch.manual_seed(0)
    config = LoraConfig(
        r=4, lora_alpha=32, target_modules=["to_q", "to_v"], init_lora_weights=False
    )
    made.transformer.add_adapter(config, adapter_name="x")
    made.save_lora_weights(tmp_path, get_peft_model_state_dict(made.transformer, adapter_name="x"))
    with_it, without = load(half, transformer="fp8"), load(half, transformer="fp8")
    with_it.load_lora_weights(tmp_path)
    a = next(p for n, p in with_it.transformer.named_parameters() if "lora_A" in n)
    assert a.dtype == torch.bfloat16
    bare, moved = video(without), video(with_it)
    exact = load(half)
    exact.load_lora_weights(tmp_path)
    assert float((moved - video(exact)).abs().mean()) < 0.5 * float((moved - bare).abs().mean())


def test_a_pipeline_without_its_text_side_takes_embeddings_alone(
    half: Path, plain: torch.Tensor
) -> None:
    text_only = STDRCPipeline.from_pretrained(
        half, transformer=None, vae=None, audio_vae=None, vocoder=None
    )
    prompt, negative = text_only.encode_text("a person waves"), text_only.encode_text("")
    rest = STDRCPipeline.from_pretrained(half, text_encoder=None, connectors=None, tokenizer=None)
    rest.set_progress_bar_config(disable=True)
    with pytest.raises(STDRCError, match="loaded without its text side"):
        video(rest)
    reference = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(3))
    made = rest(
        prompt_embeds=prompt,
        negative_prompt_embeds=negative,
        reference=reference,
        num_inference_steps=2,
        seeds=0,
        output_type="pt",
        **SIZE,
    ).frames.float()
    torch.testing.assert_close(made, plain, atol=1e-5, rtol=0)


def test_tiling_is_by_size_alone() -> None:
    memory = Memory()
    assert not memory.tiles(height=512, width=768, num_frames=121)
    assert memory.tiles(height=1088, width=1920, num_frames=121)
    assert Memory(tiling=True).tiles(height=64, width=64, num_frames=9)  # a bare `on` of YAML
    assert not Memory(tiling="off").tiles(height=1088, width=1920, num_frames=121)


def test_tiles_are_those_of_diffusers_and_references_stay_whole(half: Path) -> None:
    pipe = load(half, tiling="on")
    pipe.vae.tile_sample_min_height = pipe.vae.tile_sample_min_width = 32
    pipe.vae.tile_sample_stride_height = pipe.vae.tile_sample_stride_width = 16
    large = {**SIZE, "height": 64, "width": 64}
    tiled = video(pipe, **large)
    torch.testing.assert_close(video(pipe, **large), tiled, atol=1e-5, rtol=0)
    latents = video(pipe, **large, output_type="latent").to(pipe.vae.dtype)
    with torch.no_grad():
        whole = pipe.vae.decode(latents).sample
        pipe.vae.use_tiling = True
        theirs = pipe.vae.decode(latents).sample
    shown = pipe.video_processor.postprocess_video(theirs, output_type="pt").float()
    torch.testing.assert_close(tiled, shown, atol=1e-5, rtol=0)
    assert float((theirs - whole).abs().mean()) > 0.01  # seams, hence part of a video's key
    assert Memory(tiling="on").acting(**{k: large[k] for k in ("height", "width", "num_frames")})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"offload": "disk"}, "Memory 'offload' must be 'none', 'model' or 'group', not 'disk'"),
        ({"ofload": "model"}, "Unknown key 'ofload' in memory; known are text, offload"),
        ({"attention": "natve"}, "Memory 'attention' must be one of auto, .*native.*, not 'natve'"),
        ({"transformer": "nf4"}, "nf4 needs a CUDA card; use fp8"),
        ({"attention": "xformers"}, "These memory settings can't be used here"),
        ("tiny", "Memory is 'low' or a mapping of settings, not 'tiny'"),
    ],
)
def test_what_cannot_be_is_one_sentence(half: Path, given: Any, message: str) -> None:
    if given == {"transformer": "nf4"} and torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(STDRCError, match=message):
        STDRCPipeline.from_pretrained(half, memory=given).place("cpu")
