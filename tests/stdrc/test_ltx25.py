"""LTX-2.5 in small: Gemma 4, a feed-forward without bias, keyframe embedding and duration head."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTX2Pipeline, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2.duration_head import LTX2DurationHead
from diffusers.pipelines.ltx2.utils import (
    LTX2_5_T2V_DEFAULT_SYSTEM_PROMPT,
    T2V_DEFAULT_SYSTEM_PROMPT,
)
from PIL import Image
from transformers import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

from miniature.build import MiniatureConfig, build_components
from stdrc import Memory, ReferencePlacement, STDRCError, STDRCPipeline, ThreeStreamGuidance
from stdrc.footprint import Footprint, VideoShape
from stdrc.published import LTX25_TRANSFORMER
from stdrc.training import TrainConfig, train

from .test_training_run import BOX, write_clip, write_rows

CONFIG = MiniatureConfig(
    heads=2, layers=2, latent_channels=8, vae_channels=(16, 32), decoder_channels=(32, 32),
    text_width=32,
)  # fmt: skip
CALL = {"height": 32, "width": 64, "num_frames": 5, "frame_rate": 8.0, "num_inference_steps": 2}
PLAIN = {
    "audio_guidance_scale": 3.0, "modality_scale": 1.0, "audio_modality_scale": 1.0,
    "stg_scale": 0.0, "audio_stg_scale": 0.0, "guidance_rescale": 0.0,
    "audio_guidance_rescale": 0.0, "use_cross_timestep": True, "max_sequence_length": 32,
}  # fmt: skip


def text_encoder(config: MiniatureConfig, vocabulary: int) -> Any:
    text = {
        "vocab_size": vocabulary, "hidden_size": config.text_width,
        "intermediate_size": 2 * config.text_width, "num_hidden_layers": config.text_layers,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": config.text_width // 2,
        "global_head_dim": config.text_width // 2, "num_global_key_value_heads": 1,
        "max_position_embeddings": 4 * config.text_tokens, "sliding_window": config.text_tokens,
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": vocabulary,
    }  # fmt: skip
    found = Gemma4UnifiedConfig(
        text_config=text, vision_config=None, audio_config=None,
        image_token_id=3, boi_token_id=3, eoi_token_id=3, video_token_id=3, boa_token_id=3,
        eoa_token_index=3, audio_token_id=3,
    )  # fmt: skip
    return Gemma4UnifiedForConditionalGeneration(found).eval()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `Lightricks/LTX-2.5-Diffusers` is made up, in bfloat16's place float32 for parity."""
    components = build_components(CONFIG)
    torch.manual_seed(0)
    of_25 = {k: LTX25_TRANSFORMER[k] for k in ("ff_bias", "use_keyframes_abs_pos_embedding")}
    old = components["transformer"].config
    components["transformer"] = LTX2VideoTransformer3DModel.from_config({**old, **of_25}).eval()
    components["text_encoder"] = text_encoder(CONFIG, len(components["tokenizer"]))
    width = components["transformer"].config.cross_attention_dim
    head = LTX2DurationHead(width, 16, pooler_hidden_dim=16, num_pooler_heads=2, mlp_hidden_dim=16)
    folder = tmp_path_factory.mktemp("ltx25") / "repository"
    STDRCPipeline(**components, duration_head=head.eval()).save_pretrained(folder)
    return folder


@pytest.fixture
def pipe(repository: Path) -> STDRCPipeline:
    pipe = STDRCPipeline.from_pretrained(repository)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_it_is_diffusers_own_pipeline(pipe: STDRCPipeline) -> None:
    theirs = LTX2Pipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    given = {"generator": torch.Generator().manual_seed(0), "output_type": "pt"}
    expected = theirs("a person waves", guidance_scale=3.0, **given, **PLAIN, **CALL)
    given["generator"] = torch.Generator().manual_seed(0)
    ours = pipe(
        "a person waves", guidance=ThreeStreamGuidance(3.0, 0.0), audio=True, **given, **CALL
    )
    assert float((expected.frames - ours.frames).abs().max()) < 1e-4
    assert float((expected.audio - ours.audio).abs().max()) < 1e-4


def test_references_stand_at_this_autoencoders_cells(pipe: STDRCPipeline) -> None:
    placement = ReferencePlacement.tass()
    coords = placement.coords(
        pipe.transformer.rope, frames=2, height=4, width=6, fps=8.0, index=0, device="cpu"
    )
    assert coords.shape == (1, 3, 24, 2)
    spans = coords[0, :, :, 1] - coords[0, :, :, 0]
    assert spans[1].unique().tolist() == [pipe.vae.spatial_compression_ratio]
    reference = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1))
    video = {
        scale: pipe(
            "a person waves", reference=reference, seeds=0, output_type="pt",
            guidance=ThreeStreamGuidance(3.0, scale), **CALL,
        ).frames
        for scale in (0.0, 1.5)
    }  # fmt: skip
    assert float((video[0.0] - video[1.5]).abs().mean()) > 1e-5


def test_an_omitted_length_is_the_default_and_the_duration_head_is_not_asked(
    pipe: STDRCPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every video of a sample has the length that its evaluation names; a head would vary it."""
    monkeypatch.setattr(pipe.duration_head, "forward", lambda *_: pytest.fail("asked"))
    pipe.register_to_config(default_size={**CALL, "num_frames": 9})
    size = {k: v for k, v in CALL.items() if k != "num_frames"}
    assert pipe("a person waves", seeds=0, output_type="pt", **size).frames.shape[1] == 9


def test_its_memory_is_counted_and_its_parts_are_placed(repository: Path) -> None:
    footprint = Footprint.of(repository, torch.float32)
    assert "duration_head" in footprint.configs
    peaks = footprint.fits(Memory(text="free"), VideoShape(32, 64, 5, 8.0))
    assert set(peaks) == {"text", "denoising", "decoding"}
    grouped = STDRCPipeline.from_pretrained(repository, memory="low").place("cpu")
    grouped.set_progress_bar_config(disable=True)
    plain = STDRCPipeline.from_pretrained(repository)
    plain.set_progress_bar_config(disable=True)
    videos = [
        p("a person waves", seeds=0, output_type="pt", **CALL).frames for p in (grouped, plain)
    ]
    torch.testing.assert_close(*videos, atol=1e-5, rtol=0)


class Asked:
    """Stands for Gemma's processor: words to numbers and back, through a template."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.words = tokenizer, tokenizer
        self.tokenizer.apply_chat_template = self.template
        self.seen: list[str] = []

    def template(self, messages: Any, **_: Any) -> str:
        self.seen = [message["content"] for message in messages]
        return messages[-1]["content"]

    def __call__(self, text: str, images: Any, return_tensors: str) -> Any:
        assert images is None
        return self.words(text, return_tensors=return_tensors)


@pytest.mark.parametrize("dedicated", [True, False])
def test_prompts_are_rewritten_by_the_model_that_the_checkpoint_has_for_it(
    pipe: STDRCPipeline, monkeypatch: pytest.MonkeyPatch, dedicated: bool
) -> None:
    with pytest.raises(STDRCError, match=r"can't be enhanced: this checkpoint has no processor"):
        pipe.rewrite_prompt("a person waves")
    processor = Asked(copy.deepcopy(pipe.tokenizer))
    monkeypatch.setattr(pipe, "processor", processor)
    if dedicated:
        monkeypatch.setattr(pipe, "prompt_enhancer", pipe.text_encoder)
    first = pipe.rewrite_prompt("a person waves", max_new_tokens=6)
    assert first
    assert pipe.rewrite_prompt("a person waves", max_new_tokens=6) == first
    assert processor.seen[1] == "user prompt: a person waves"
    system = LTX2_5_T2V_DEFAULT_SYSTEM_PROMPT if dedicated else T2V_DEFAULT_SYSTEM_PROMPT
    assert processor.seen[0] == system
    pipe.memory = Memory(text="group")
    with pytest.raises(STDRCError, match="use text: free"):
        pipe.rewrite_prompt("a person waves")


def test_a_lora_is_trained_on_it_and_its_head_is_left_alone(
    repository: Path, pipe: STDRCPipeline, tmp_path: Path
) -> None:
    rows = []
    for i in range(2):
        write_clip(tmp_path / f"data/clips/{i}.mp4", i)
        Image.new("RGB", (40, 50), (60 * i, 90, 120)).save(tmp_path / f"data/{i}.png")
        rows.append(
            {"video": f"clips/{i}.mp4", "caption": "a person waves", "identity": str(i),
             "references": [f"{i}.png"], "boxes": [BOX] * 12}
        )  # fmt: skip
    write_rows(tmp_path / "data", rows)
    run = TrainConfig.from_dict(
        {
            "base": str(repository), "output": str(tmp_path / "run"),
            "data": str(tmp_path / "data"),
            "clip": {"frames": 5, "height": 32, "width": 64}, "steps": 2, "batch_size": 1,
            "lora": {"rank": 2}, "optimizer": {"lr": 0.05, "warmup": 0}, "augmentation": "off",
        }
    )  # fmt: skip
    lora = train(run)
    shown = {"reference": tmp_path / "data/0.png", "seeds": 0, "output_type": "pt", **CALL}
    before = pipe("a person waves", **shown).frames
    head = {name: value.clone() for name, value in pipe.duration_head.state_dict().items()}
    pipe.load_lora_weights(lora)
    assert pipe.trained_placement == ReferencePlacement.tass()
    assert float((pipe("a person waves", **shown).frames - before).abs().max()) > 1e-4
    pipe.save_pretrained(tmp_path / "saved")
    again = STDRCPipeline.from_pretrained(tmp_path / "saved").duration_head
    assert all(torch.equal(head[name], value) for name, value in again.state_dict().items())


@pytest.mark.parametrize("kind", ["LTX2DFRPipeline", "LTX2VideoDiffusionDecodePipeline"])
def test_passes_over_latents_are_refused_in_words(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(STDRCError, match=f"holds a {kind}, a pass over latents"):
        STDRCPipeline.from_pretrained(tmp_path)
