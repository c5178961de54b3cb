import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2InContextPipeline, LTX2Pipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from PIL import Image

from media.errors import UserError
from stdrc.errors import STDRCError
from stdrc.guidance import Stream, ThreeStreamGuidance
from stdrc.pipeline import EncodedReference, STDRCPipeline
from stdrc.presets import PRESETS
from stdrc.sampling import guide

SIZE = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0}
CALL = {**SIZE, "num_inference_steps": 3, "output_type": "latent"}
# diffusers' further guidance terms, off
PLAIN = {
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_scale": 3.0,
    "audio_stg_scale": 0.0,
    "audio_modality_scale": 1.0,
    "audio_guidance_rescale": 0.0,
    "spatio_temporal_guidance_blocks": None,
    "max_sequence_length": 32,
}
PROMPT = "a person walks left"


def picture(seed=0):
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def largest(a, b):
    return float((a - b).abs().max())


def count_calls(monkeypatch, module):
    """Shapes of every call to a module's forward."""
    calls = []
    forward = module.forward

    def counted(*args, **kwargs):
        hidden = kwargs.get("hidden_states", args[0] if args else None)
        calls.append(None if hidden is None else tuple(hidden.shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(module, "forward", counted)
    return calls


def test_without_reference_it_is_diffusers_ltx2_pipeline(pipe, random_checkpoint):
    theirs = LTX2Pipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(PROMPT, generator=seeded(), guidance_scale=3.0, **PLAIN, **CALL)
    ours = pipe(
        PROMPT, generator=seeded(), guidance=ThreeStreamGuidance(3.0, 0.0), audio=True, **CALL
    )
    assert expected.frames.std() > 0.1
    assert largest(expected.frames, ours.frames) < 1e-4
    assert largest(expected.audio, ours.audio) < 1e-4


def test_guidance_rescale_is_diffusers(pipe):
    theirs = LTX2Pipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    settings = {**PLAIN, "guidance_rescale": 0.7, "audio_guidance_rescale": 0.7}
    expected = theirs(PROMPT, generator=seeded(), guidance_scale=3.0, **settings, **CALL)
    guidance = ThreeStreamGuidance(3.0, 0.0, rescale=0.7)
    ours = pipe(PROMPT, generator=seeded(), guidance=guidance, audio=True, **CALL)
    assert largest(expected.frames, ours.frames) < 1e-4


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_stg_is_diffusers(pipe, scale, rescale):
    theirs = LTX2Pipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    settings = {
        **PLAIN, "stg_scale": 1.5, "audio_stg_scale": 1.5, "spatio_temporal_guidance_blocks": [1],
        "guidance_rescale": rescale, "audio_guidance_rescale": rescale,
        "audio_guidance_scale": scale,
    }  # fmt: skip
    expected = theirs(PROMPT, generator=seeded(), guidance_scale=scale, **settings, **CALL)
    guidance = ThreeStreamGuidance(scale, 0.0, rescale=rescale, stg=1.5, stg_blocks=(1,))
    ours = pipe(PROMPT, generator=seeded(), guidance=guidance, audio=True, **CALL)
    assert largest(expected.frames, ours.frames) < 1e-4
    assert largest(expected.audio, ours.audio) < 1e-4
    plain = replace(guidance, stg=0.0)
    without = pipe(PROMPT, generator=seeded(), guidance=plain, audio=True, **CALL)
    assert largest(expected.frames, without.frames) > 1e-3


def test_stg_is_one_more_pass_and_none_at_0(pipe, monkeypatch):
    calls = count_calls(monkeypatch, pipe.transformer)
    twice = {**CALL, "num_inference_steps": 2, "reference": picture(), "seeds": 0}
    pipe(PROMPT, guidance=ThreeStreamGuidance(1, 1, stg=1, stg_blocks=(0,)), **twice)
    assert calls == [(1, 256, 8)] * 4
    calls.clear()
    pipe(PROMPT, guidance=ThreeStreamGuidance(1, 1, stg=0, stg_blocks=(0,)), **twice)
    assert calls == [(1, 256, 8)] * 2


def test_the_preset_is_lightricks_settings(pipe, monkeypatch):
    from diffusers.pipelines.ltx2.utils import DEFAULT_NEGATIVE_PROMPT

    guidance = ThreeStreamGuidance.ltx23()
    assert (guidance.text, guidance.stg, guidance.stg_blocks) == (3.0, 1.0, (28,))
    assert guidance.rescale == 0.7
    here = replace(guidance, stg_blocks=(1,))  # the tiny model has no block 28
    monkeypatch.setitem(PRESETS, "ltx23", (here, PRESETS["ltx23"][1]))
    call = {**CALL, "reference": picture(), "seeds": 0}
    ours = pipe(PROMPT, preset="ltx23", **call).frames
    by_hand = pipe(PROMPT, DEFAULT_NEGATIVE_PROMPT, guidance=here, **call).frames
    assert torch.equal(ours, by_hand)
    theirs = LTX2Pipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    settings = {
        **PLAIN, "stg_scale": 1.0, "audio_stg_scale": 1.0, "spatio_temporal_guidance_blocks": [1],
        "guidance_rescale": 0.7, "audio_guidance_rescale": 0.7, "audio_guidance_scale": 3.0,
        "negative_prompt": DEFAULT_NEGATIVE_PROMPT,
    }  # fmt: skip
    expected = theirs(PROMPT, generator=seeded(), guidance_scale=3.0, **settings, **CALL)
    alone = pipe(PROMPT, preset="ltx23", generator=seeded(), audio=True, **CALL)
    assert largest(expected.frames, alone.frames) < 1e-4


def test_the_distilled_schedule_is_not_shifted(pipe):
    levels = []

    def peek(velocity, x, sigmas, callback):
        levels.append(sigmas.tolist())
        return x

    call = {**SIZE, "output_type": "latent", "reference": picture(), "seeds": 0, "sampler": peek}
    eight = [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0]
    pipe(PROMPT, schedule="distilled", **call)
    pipe(PROMPT, schedule="distilled", sigmas=[0.909375, 0.725, 0.421875], **call)
    assert levels[0] == pytest.approx(eight)
    assert levels[1] == pytest.approx([*eight[5:8], 0.0])


def test_the_distilled_schedule_is_without_guidance_and_diffusers_own(pipe, monkeypatch):
    from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES

    calls = count_calls(monkeypatch, pipe.transformer)
    ours = pipe(PROMPT, schedule="distilled", generator=seeded(), audio=True, **{
        **CALL, "num_inference_steps": None
    })  # fmt: skip
    assert [shape[0] for shape in calls] == [1] * 8
    theirs = LTX2Pipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        pipe.scheduler.config, use_dynamic_shifting=False, shift_terminal=None
    )
    settings = {**PLAIN, "audio_guidance_scale": 1.0}
    expected = theirs(
        PROMPT, generator=seeded(), guidance_scale=1.0, sigmas=DISTILLED_SIGMA_VALUES, **settings,
        **{**CALL, "num_inference_steps": 8},
    )  # fmt: skip
    assert largest(expected.frames, ours.frames) < 1e-4


@pytest.mark.parametrize("downscale", [1, 2])
def test_a_smaller_reference_is_diffusers_in_context_pipeline(pipe, downscale):
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    components = {k: v for k, v in pipe.components.items() if k != "duration_head"}
    theirs = LTX2InContextPipeline(**components)
    theirs.set_progress_bar_config(disable=True)
    small = picture().resize((64 // downscale, 64 // downscale))
    noise = torch.randn(1, 8, 3, 8, 8, generator=seeded(1))
    sound = torch.randn(1, 2, 28, 4, generator=seeded(2))
    expected = theirs(
        PROMPT, reference_conditions=[LTX2ReferenceCondition(small)], latents=noise,
        reference_downscale_factor=downscale, audio_latents=sound, noise_scale=0.0,
        guidance_scale=3.0, **PLAIN, **CALL,
    )  # fmt: skip
    ours = pipe(
        PROMPT, reference=small, placement={
            "when": "start", "shift": [0, 0], "downscale": downscale
        },
        guidance=ThreeStreamGuidance(3.0, 1.0, "joint"), latents=pipe._pack_latents(noise),
        audio_latents=sound, audio=True, **CALL,
    )  # fmt: skip
    assert largest(expected.frames, ours.frames) < 1e-4


def test_the_parallel_part_is_taken_out_of_the_clean_prediction():
    generator = seeded(3)
    velocities = {s: torch.randn(2, 6, 4, generator=generator) for s in Stream}
    latents, sigma = torch.randn(2, 6, 4, generator=generator), torch.tensor(0.7)
    guidance = ThreeStreamGuidance(3.0, 5.0, parallel=0.0)
    guided = guide(guidance, velocities, latents, sigma, True)
    conditional = latents - sigma * velocities[Stream.BOTH]
    added = (latents - sigma * guided) - conditional
    assert added.square().sum() > 1
    along = (added * conditional).sum((1, 2)) / conditional.square().sum((1, 2))
    torch.testing.assert_close(along, torch.zeros(2), atol=1e-5, rtol=0)


def test_guidance_parallel_changes_the_video(pipe):
    plain = pipe(PROMPT, generator=seeded(), guidance=ThreeStreamGuidance(5.0, 0.0), **CALL)
    guidance = ThreeStreamGuidance(5.0, 0.0, parallel=0.0)
    across = pipe(PROMPT, generator=seeded(), guidance=guidance, **CALL)
    assert largest(plain.frames, across.frames) > 1e-3


def test_overlap_with_text_guidance_is_diffusers_in_context_pipeline(pipe):
    # diffusers counts the reference's tokens in the schedule's shift, ST-DRC does not: a fixed
    # shift takes that difference out.
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    components = {k: v for k, v in pipe.components.items() if k != "duration_head"}
    theirs = LTX2InContextPipeline(**components)
    theirs.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 8, 3, 8, 8, generator=seeded(1))
    sound = torch.randn(1, 2, 28, 4, generator=seeded(2))
    expected = theirs(
        PROMPT,
        reference_conditions=[LTX2ReferenceCondition(picture())],
        latents=noise,
        audio_latents=sound,
        noise_scale=0.0,
        guidance_scale=3.0,
        **PLAIN,
        **CALL,
    )
    packed = pipe._pack_latents(noise)
    for order in ("reference_first", "joint"):
        ours = pipe(
            PROMPT,
            reference=picture(),
            placement="overlap",
            guidance=ThreeStreamGuidance(3.0, 1.0, order),
            latents=packed,
            audio_latents=sound,
            audio=True,
            **CALL,
        )
        assert largest(expected.frames, ours.frames) < 1e-4


def test_the_schedule_depends_on_video_tokens_only(pipe):
    pipe(PROMPT, seeds=0, **CALL)
    without = pipe.scheduler.sigmas.clone()
    pipe(PROMPT, reference=picture(), seeds=0, **CALL)
    assert torch.equal(pipe.scheduler.sigmas, without)


def test_placement_matters(pipe):
    near, on_top = (
        pipe(PROMPT, reference=picture(), placement=p, seeds=0, **CALL).frames
        for p in ("tass", "overlap")
    )
    assert largest(near, on_top) > 1e-3


def test_reference_tokens_are_a_set_with_coordinates(pipe, monkeypatch):
    encoded = pipe.encode_reference([picture()], 64, 64)
    expected = pipe(PROMPT, reference_latents=encoded, seeds=0, **CALL).frames
    order = torch.randperm(64, generator=seeded(3))
    shuffled = EncodedReference(encoded.tokens[:, :, order], encoded.height, encoded.width)
    wrong = pipe(PROMPT, reference_latents=shuffled, seeds=0, **CALL).frames
    assert largest(expected, wrong) > 1e-4, (
        "moved without their coordinates they mean another image"
    )

    from stdrc.positions import ReferencePlacement

    coords = ReferencePlacement.coords
    monkeypatch.setattr(
        ReferencePlacement, "coords", lambda self, *a, **k: coords(self, *a, **k)[:, :, order]
    )
    ours = pipe(PROMPT, reference_latents=shuffled, seeds=0, **CALL).frames
    assert largest(expected, ours) < 1e-4


def test_streams_run_without_what_they_lack(pipe, monkeypatch):
    calls = count_calls(monkeypatch, pipe.transformer)
    twice = {**CALL, "num_inference_steps": 2}
    # v(0,0) and v(T,0) share a pass of 192 tokens, v(T,R) has 64 more
    pipe(PROMPT, reference=picture(), guidance={"text": 3, "reference": 1.5}, seeds=0, **twice)
    assert calls == [(2, 192, 8), (1, 256, 8)] * 2
    calls.clear()
    pipe(PROMPT, reference=picture(), guidance={"text": 1, "reference": 1}, seeds=0, **twice)
    assert calls == [(1, 256, 8)] * 2
    calls.clear()
    pipe(PROMPT, reference=picture(), guidance={"text": 3, "reference": 0}, seeds=0, **twice)
    assert calls == [(2, 192, 8)] * 2


def test_a_sweep_encodes_text_and_reference_once(pipe, monkeypatch):
    texts = count_calls(monkeypatch, pipe.text_encoder)
    images = count_calls(monkeypatch, pipe.vae.encoder)
    text = pipe.encode_text([PROMPT, PROMPT])
    negative = pipe.encode_text("")
    reference = pipe.encode_reference([picture()], 64, 64)
    for weight in (1.0, 2.0, 3.0):
        pipe(
            prompt_embeds=text[0],
            negative_prompt_embeds=negative,
            reference_latents=reference,
            guidance={"text": weight, "reference": weight / 2},
            seeds=0,
            **{**CALL, "num_inference_steps": 2},
        )
    assert len(texts) == 2  # the prompt and the empty one
    assert len(images) == 1


def test_a_sample_does_not_depend_on_its_batch(pipe):
    prompts = [PROMPT, "a woman smiles", "a man turns right"]
    references = [picture(1), picture(2), picture(3)]
    together = pipe(prompts, reference=references, seeds=[5, 6, 7], **CALL).frames
    for i in range(3):
        alone = pipe(prompts[i], reference=references[i], seeds=5 + i, **CALL).frames
        assert largest(together[i], alone[0]) < 1e-4


def test_several_references_each_have_their_place(pipe):
    one = pipe(PROMPT, reference=[picture(1)], seeds=0, **CALL).frames
    two = pipe(PROMPT, reference=[picture(1), picture(2)], seeds=0, **CALL).frames
    swapped = pipe(PROMPT, reference=[picture(2), picture(1)], seeds=0, **CALL).frames
    assert largest(one, two) > 1e-4
    assert largest(two, swapped) > 1e-5


def test_a_source_phase_changes_the_reference_alone(pipe):
    settings = {"reference": picture(), "seeds": 0, **CALL}
    plain = pipe(PROMPT, placement={"when": "start", "shift": [0, 0]}, **settings).frames
    phased = pipe(
        PROMPT, placement={"when": "start", "shift": [0, 0], "phase": 1.0}, **settings
    ).frames
    assert largest(plain, phased) > 1e-4
    without = pipe(PROMPT, placement={"phase": 1.0}, seeds=0, **CALL).frames
    assert torch.equal(without, pipe(PROMPT, seeds=0, **CALL).frames)


def test_frames_come_in_every_type(pipe):
    once = {**SIZE, "num_inference_steps": 2, "seeds": 0}
    frames = pipe(PROMPT, **once).frames
    assert frames.shape == (1, 9, 64, 64, 3)
    assert 0 <= frames.min() <= frames.max() <= 1
    assert pipe(PROMPT, output_type="pt", **once).frames.shape == (1, 9, 3, 64, 64)
    assert pipe(PROMPT, output_type="pil", **once).frames[0][0].size == (64, 64)
    sound = pipe(PROMPT, audio=True, **once).audio
    assert sound.shape[:2] == (1, 2)


def test_a_callback_sees_and_replaces_latents(pipe):
    seen = []

    def callback(_, step, timestep, state):
        seen.append((step, state["latents"].shape))
        return {"latents": torch.zeros_like(state["latents"])} if step == 2 else {}

    frames = pipe(
        PROMPT, reference=picture(), seeds=0, callback_on_step_end=callback, **CALL
    ).frames
    assert seen == [(i, (1, 192, 8)) for i in range(3)]
    assert frames.abs().max() == 0


def test_the_interval_saves_passes(pipe, monkeypatch):
    calls = count_calls(monkeypatch, pipe.transformer)
    guidance = ThreeStreamGuidance(3, 1.5, interval=(0.0, 0.5))
    pipe(PROMPT, reference=picture(), guidance=guidance, seeds=0, **CALL)
    sigmas = pipe.scheduler.sigmas[:3].tolist()
    assert len(calls) == sum(2 if s <= 0.5 else 1 for s in sigmas) < 6


def save_lora(pipe, path, metadata):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    state = {
        f"transformer.{k}": torch.full_like(v, 0.05).contiguous()
        for k, v in get_peft_model_state_dict(pipe.transformer).items()
    }
    pipe.transformer.delete_adapters("default")
    save_file(state, path, metadata={"stdrc": json.dumps(metadata)} if metadata else None)


def test_a_lora_brings_its_placement(pipe, tmp_path, caplog):
    path = tmp_path / "lora.safetensors"
    save_lora(pipe, path, {"placement": {"when": "after", "gap": 0, "shift": [0, 0]}})
    before = pipe(PROMPT, reference=picture(), placement="strata", seeds=0, **CALL).frames
    pipe.load_lora_weights(str(path))
    assert str(pipe.trained_placement) == "strata"
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        after = pipe(PROMPT, reference=picture(), seeds=0, **CALL).frames
        assert "never seen" not in caplog.text
        pipe(PROMPT, reference=picture(), placement="tass", seeds=0, **CALL)
    assert "'strata'" in caplog.text
    assert "'tass'" in caplog.text
    assert largest(before, after) > 1e-4, "the LoRA's weights act"
    pipe.unload_lora_weights()
    assert pipe.trained_placement is None
    again = pipe(PROMPT, reference=picture(), placement="strata", seeds=0, **CALL).frames
    assert largest(before, again) < 1e-6


def test_a_checkpoint_brings_its_placement_and_size(random_checkpoint, tmp_path):
    pipe = STDRCPipeline.from_pretrained(
        random_checkpoint,
        placement={"when": "start", "gap": 0, "shift": [1.0, 1.0]},
        default_size=SIZE,
    )
    pipe.save_pretrained(tmp_path / "saved")
    loaded = STDRCPipeline.from_pretrained(tmp_path / "saved")
    loaded.set_progress_bar_config(disable=True)
    assert str(loaded.trained_placement) == "spatial"
    assert loaded(PROMPT, seeds=0, num_inference_steps=2).frames.shape == (1, 9, 64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"height": 60}, "multiple of 8 pixels, not 60; use 64"),
        ({"width": 0}, "width must be"),
        ({"frame_rate": 0}, "frame rate must be"),
        ({"num_frames": 8}, r"4k\+1, not 8; use 9"),
        ({"num_inference_steps": 0}, "At least one step"),
        ({"num_inference_steps": 1}, "take at least 2"),
        ({"placement": "nearby"}, "Unknown placement"),
        ({"guidance": {"text": float("nan")}}, "finite"),
        ({"reference": "nowhere.png"}, "nowhere.png can't be read as an image: No such file"),
        ({"reference": []}, "empty"),
        ({"seeds": [1, 2]}, "2 seeds for 1 sample"),
        ({"seeds": 1, "generator": torch.Generator()}, "not both"),
        ({"prompt": None}, "Give a prompt"),
        ({"seeds": 1.5}, "whole number"),
        ({"schedule": "fast"}, "dev or distilled, not 'fast'"),
        ({"schedule": "distilled"}, "has 8 steps, not 3; leave num_inference_steps out"),
        ({"preset": "ltx24"}, "no preset 'ltx24'; choose one of ltx23"),
        ({"preset": "ltx23", "guidance": {"text": 1}}, "sets guidance and negative prompt"),
        ({"preset": "ltx23"}, "names block 28; this transformer has 0 to 1"),
        ({"guidance": {"stg": 1, "stg_blocks": []}}, "'stg_blocks'"),
        ({"placement": {"downscale": 3}, "reference": picture()}, "multiple of 24 pixels, not 64"),
        ({"sigmas": []}, "at least one noise level"),
        ({"sigmas": 0.5}, "at least one noise level"),
        ({"sigmas": [0.5, 1.0]}, r"must go down .*\[0\.5, 1\.0\]"),
        ({"sigmas": [1.0, 0.5, 0.5]}, "without repeats"),
        ({"sigmas": [1.5, 0.5]}, "in 0..1, and one of them is 1.5"),
        ({"sigmas": [1.0, float("nan")]}, "in 0..1, and one of them is nan"),
        ({"sigmas": ["high"]}, "noise levels in 0..1"),
        ({"negative_prompt": ["a", "b"]}, "one negative prompt or 1"),
        ({"prompt": ["a", "b"], "reference": [picture()] * 3}, "one reference or 2"),
        ({"prompt": ["a", "b"], "reference": [[picture()], [picture()] * 2]}, "same number"),
    ],
)
def test_bad_arguments_say_what_is_wrong(pipe, arguments, words):
    call = {**CALL, "prompt": PROMPT, "width": 64, **arguments}
    with pytest.raises(UserError, match=words):
        pipe(**call)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_sigmas_may_end_in_0_where_guidance_is_linear(pipe, shift):
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    call = {**CALL, "seeds": 0, "reference": picture()}
    ended = pipe(PROMPT, sigmas=torch.tensor([1.0, 0.5, 0.0]), **call).frames
    assert largest(ended, pipe(PROMPT, sigmas=np.array([1.0, 0.5]), **call).frames) < 1e-6
    for guidance in ({"rescale": 0.5}, {"parallel": 0.0}):
        with pytest.raises(STDRCError, match="last of sigmas is 0, where rescale and parallel"):
            pipe(PROMPT, sigmas=[1.0, 0.5, 0.0], guidance=guidance, **call)


def test_arguments_are_taken_as_in_diffusers(pipe):
    expected = pipe(PROMPT, negative_prompt="", seeds=3, **CALL).frames
    for seeds in (np.int64(3), [np.int64(3)], np.array([3]), torch.tensor(3), 3.0):
        assert torch.equal(pipe(PROMPT, negative_prompt=None, seeds=seeds, **CALL).frames, expected)
    heard = pipe(PROMPT, seeds=3, callback_on_step_end=lambda *_: None, **CALL).frames
    assert torch.equal(heard, expected)


def test_a_prompt_that_is_too_long_is_remarked_on_or_refused(pipe, caplog):
    logging.getLogger("diffusers").propagate = True
    words = " ".join(["a person walks left and smiles"] * 20)
    call = {**CALL, "seeds": 0, "reference": picture(), "guidance": {"text": 1, "reference": 1}}
    with caplog.at_level(logging.WARNING):
        short = pipe(PROMPT, strict=True, **call)
        assert short.remarks == [[]]
        assert "tokens" not in caplog.text
        one = pipe([words, PROMPT], **call)
    assert "the prompt has" in caplog.text
    count = len(pipe.tokenizer(words).input_ids)
    (remark,) = one.remarks[0]
    assert remark.startswith(f"the prompt has {count} tokens and the model reads 32; what follows")
    assert one.remarks[1] == []
    # That is all it reads: another ending makes the same video.
    assert torch.equal(pipe(f"{words} and jumps", **call).frames[0], pipe(words, **call).frames[0])
    with pytest.raises(STDRCError, match=r"The prompt has \d+ tokens .* shorten it"):
        pipe(words, strict=True, **call)
    guided = {**call, "guidance": {"text": 3, "reference": 1}}
    assert pipe(PROMPT, words, **guided).remarks[0][0].startswith("negative: the prompt has")
    encoded = pipe.encode_text([words, PROMPT])
    assert pipe(prompt_embeds=encoded[[1, 0]], **call).remarks == [[], [remark]]


def test_references_of_another_size_are_refused(pipe):
    encoded = pipe.encode_reference([picture()], 64, 96)
    with pytest.raises(STDRCError, match="another video size"):
        pipe(PROMPT, reference_latents=encoded, seeds=0, **CALL)


def test_other_models_are_refused(tmp_path):
    with pytest.raises(STDRCError, match="no checkpoint"):
        STDRCPipeline.from_pretrained(str(tmp_path / "missing"))
    with pytest.raises(STDRCError, match="hf download nobody/nothing"):
        STDRCPipeline.from_pretrained("nobody/nothing")
    with pytest.raises(STDRCError, match="model_index"):
        STDRCPipeline.from_pretrained(str(tmp_path))
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(STDRCError, match="StableDiffusionPipeline"):
        STDRCPipeline.from_pretrained(str(tmp_path))


def test_ltx23_full_size_on_the_meta_device():
    """METHOD's numbers: 48 layers of 32 heads x 128, 121 frames at 512 x 768, 8 x 32 x 32."""
    from diffusers import LTX2VideoTransformer3DModel

    from stdrc.positions import ReferencePlacement
    from stdrc.published import LTX23_TRANSFORMER

    with torch.device("meta"):
        transformer = LTX2VideoTransformer3DModel(**LTX23_TRANSFORMER)
    assert len(transformer.transformer_blocks) == 48
    assert (
        LTX23_TRANSFORMER["num_attention_heads"] * LTX23_TRANSFORMER["attention_head_dim"] == 4096
    )
    video = sum(
        p.numel()
        for name, p in transformer.transformer_blocks[0].named_parameters()
        if not name.startswith("audio") and "audio" not in name
    )
    # q, k, v, out of self- and cross-attention and a fourfold feed-forward at width 4096
    assert video > 8 * 4096**2 + 2 * 4 * 4096**2
    total = sum(p.numel() for p in transformer.parameters())
    assert 18e9 < total < 23e9
    frames, rows, columns = (121 - 1) // 8 + 1, 512 // 32, 768 // 32
    coords = transformer.rope.prepare_video_coords(1, frames, rows, columns, "cpu", fps=24.0)
    assert coords.shape == (1, 3, 6144, 2)
    assert coords[0, 0].max() == pytest.approx(121 / 24.0)
    reference = ReferencePlacement.tass().coords(
        transformer.rope, frames=frames, height=rows, width=columns, fps=24.0
    )
    assert reference.shape == (1, 3, 384, 2)
    assert reference[0, 1].min() == 512
    assert reference[0, 2].min() == 768
    assert reference[0, 0].min() == pytest.approx(121 / 24.0)
    hidden = torch.empty(1, 6144 + 384, 128, device="meta")
    assert transformer.proj_in(hidden).shape == (1, 6528, 4096)


def test_ltx20_checkpoints_run_as_in_diffusers():
    """LTX-2.0: one text projection, caption projections, interleaved rotary, no gates."""
    from diffusers import LTX2VideoTransformer3DModel
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    from miniature.build import MiniatureConfig, build_components

    config = MiniatureConfig(
        layers=1, latent_channels=8, vae_channels=(16, 32), decoder_channels=(32, 32), text_width=32
    )
    components = build_components(config)
    torch.manual_seed(0)
    components["transformer"] = LTX2VideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        vae_scale_factors=(4, 8, 8),
        audio_in_channels=8,
        audio_out_channels=8,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=1,
        caption_channels=32,
    ).eval()
    components["connectors"] = LTX2TextConnectors(
        caption_channels=32,
        text_proj_in_factor=config.text_layers + 1,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=16,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=32,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=16,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=32,
        connector_rope_base_seq_len=32,
    ).eval()
    pipe = STDRCPipeline(**components)
    theirs = LTX2Pipeline(**pipe.components)
    for each in (pipe, theirs):
        each.set_progress_bar_config(disable=True)
    old = {**PLAIN, "use_cross_timestep": False}
    expected = theirs(PROMPT, generator=seeded(), guidance_scale=3.0, **old, **CALL)
    ours = pipe(
        PROMPT, generator=seeded(), guidance=ThreeStreamGuidance(3.0, 0.0), audio=True, **CALL
    )
    assert largest(expected.frames, ours.frames) < 1e-4
    with_reference = pipe(PROMPT, reference=picture(), seeds=0, **CALL).frames
    assert torch.isfinite(with_reference).all()
