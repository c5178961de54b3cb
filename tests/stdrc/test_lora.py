"""LoRA files of every maker act with the scale they state, or are refused and nothing changes."""

import json
import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from stdrc.errors import STDRCError
from stdrc.pipeline import STDRCPipeline
from stdrc.positions import ReferencePlacement

RANK, SCALE = 2, 0.75
# Our module, and what Lightricks' code and ComfyUI call it.
MODULES = {
    "transformer_blocks.0.attn1.to_q": "transformer_blocks.0.attn1.to_q",
    "transformer_blocks.1.ff.net.0.proj": "transformer_blocks.1.ff.net.0.proj",
    "proj_in": "patchify_proj",
    "time_embed.linear": "adaln_single.linear",
}


def factors(pipe):
    """Module -> (A [r, in], B [out, r]), random."""
    g = torch.Generator().manual_seed(0)
    found = {}
    for name in MODULES:
        out, width = pipe.transformer.get_submodule(name).weight.shape
        found[name] = (torch.randn(RANK, width, generator=g), torch.randn(out, RANK, generator=g))
    return found


def written(path, tensors, metadata=None):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    return path


def diffusers_file(folder, ab):
    tensors = {
        f"transformer.{m}.lora_{s}.weight": t for m, p in ab.items() for s, t in zip("AB", p)
    }
    about = {"transformer.r": RANK, "transformer.lora_alpha": RANK * SCALE}
    metadata = {"lora_adapter_metadata": json.dumps(about)}
    return written(folder / "lora.safetensors", tensors, metadata)


def comfyui_file(folder, ab):
    tensors = {}
    for m, (a, b) in ab.items():
        tensors[f"diffusion_model.{MODULES[m]}.lora_A.weight"] = a
        tensors[f"diffusion_model.{MODULES[m]}.lora_B.weight"] = b * SCALE  # it states no alpha
    return written(folder / "lora.safetensors", tensors)


def peft_folder(folder, ab):
    tensors = {
        f"base_model.model.{m}.lora_{s}.weight": t for m, p in ab.items() for s, t in zip("AB", p)
    }
    written(folder / "adapter_model.safetensors", tensors)
    config = {
        "peft_type": "LORA", "r": RANK, "lora_alpha": 1, "target_modules": list(ab),
        "alpha_pattern": dict.fromkeys(ab, RANK * SCALE),
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def rank_stabilised_peft_folder(folder, ab):
    peft_folder(folder, ab)
    config = {"r": RANK, "lora_alpha": SCALE * RANK**0.5, "use_rslora": True}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def bare_file(folder, ab):
    tensors = {f"{m}.lora_A.weight": a for m, (a, _) in ab.items()}
    tensors |= {f"{m}.lora_B.weight": b * SCALE for m, (_, b) in ab.items()}
    return written(folder / "lora.safetensors", tensors)


def bare_file_with_adapter_name(folder, ab):
    tensors = {f"{m}.lora_A.default.weight": a for m, (a, _) in ab.items()}
    tensors |= {f"{m}.lora_B.default.weight": b * SCALE for m, (_, b) in ab.items()}
    return written(folder / "lora.safetensors", tensors)


def kohya_file(folder, ab):
    tensors = {}
    for m, (a, b) in ab.items():
        flat = "lora_unet_" + m.replace(".", "_")
        tensors[f"{flat}.lora_down.weight"] = a
        tensors[f"{flat}.lora_up.weight"] = b
        tensors[f"{flat}.alpha"] = torch.tensor(RANK * SCALE)
    return written(folder / "lora.safetensors", tensors)


def comfyui_file_with_alpha(folder, ab):
    tensors = {}
    for m, (a, b) in ab.items():
        tensors[f"diffusion_model.{MODULES[m]}.lora_down.weight"] = a
        tensors[f"diffusion_model.{MODULES[m]}.lora_up.weight"] = b
        tensors[f"diffusion_model.{MODULES[m]}.alpha"] = torch.tensor(RANK * SCALE)
    return written(folder / "lora.safetensors", tensors)


def tensors_by_name(folder, ab):
    return {
        f"transformer.{m}.lora_{s}.weight": t * (SCALE if s == "B" else 1)
        for m, p in ab.items() for s, t in zip("AB", p)
    }  # fmt: skip


@pytest.mark.parametrize(
    "maker",
    [
        diffusers_file, comfyui_file, comfyui_file_with_alpha, peft_folder,
        rank_stabilised_peft_folder, bare_file, bare_file_with_adapter_name, kohya_file,
        tensors_by_name,
    ],
)  # fmt: skip
def test_every_makers_file_changes_the_weights_by_what_it_states(
    pipe, tmp_path, maker, record_property
):
    ab = factors(pipe)
    pipe.load_lora_weights(maker(tmp_path, ab))
    wrapped = [n for n, m in pipe.transformer.named_modules() if hasattr(m, "lora_A")]
    assert sorted(wrapped) == sorted(ab)
    for name, (a, b) in ab.items():
        layer = pipe.transformer.get_submodule(name)
        x = torch.randn(3, a.shape[1], generator=torch.Generator().manual_seed(1))
        by_hand = layer.base_layer(x) + x @ (SCALE * b @ a).T
        torch.testing.assert_close(layer(x), by_hand, atol=1e-4, rtol=1e-4)
    before = {name: m.base_layer.weight.clone() for name, m in pipe.transformer.named_modules()
              if name in ab}  # fmt: skip
    pipe.fuse_lora()
    worst = 0.0
    for name, (a, b) in ab.items():
        delta = pipe.transformer.get_submodule(name).weight - before[name]
        torch.testing.assert_close(delta, SCALE * b @ a, atol=1e-4, rtol=1e-4)
        worst = max(worst, float((delta - SCALE * b @ a).detach().abs().max()))
    record_property("seen", f"weights within {worst:.0e} in each of the layouts")


def test_half_precision_files_are_scaled_in_single(pipe, tmp_path):
    ab = {m: (a.half(), b.half()) for m, (a, b) in factors(pipe).items()}
    pipe.load_lora_weights(kohya_file(tmp_path, ab))
    layer = pipe.transformer.get_submodule("proj_in")
    a, b = ab["proj_in"]
    delta = layer.get_delta_weight(layer.active_adapters[0])
    torch.testing.assert_close(delta, SCALE * b.float() @ a.float(), atol=1e-5, rtol=1e-5)


def other_model(ab):
    return {f"unet.{m}.lora_{s}.weight": t for m, p in ab.items() for s, t in zip("AB", p)}


def half_fits(ab):
    tensors = tensors_by_name(None, ab)
    return tensors | {
        "transformer.transformer_blocks.99.attn1.to_q.lora_A.weight": torch.zeros(2, 32),
        "transformer.transformer_blocks.99.attn1.to_q.lora_B.weight": torch.zeros(32, 2),
    }


def without(key):
    return lambda ab: {k: v for k, v in tensors_by_name(None, ab).items() if key not in k}


def with_key(key, value):
    return lambda ab: {**tensors_by_name(None, ab), key: value}


A = "transformer.proj_in.lora_A.weight"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (other_model, r"8 of 8 keys fit nothing, first 'unet\."),
        (half_fits, r"2 of 10 keys fit nothing, first 'transformer\.transformer_blocks\.99"),
        (without("proj_in.lora_B"), r"transformer\.proj_in has no lora_B"),
        (without("proj_in.lora_A"), r"transformer\.proj_in has no lora_A"),
        (with_key("transformer.proj_out.alpha", torch.tensor(1.0)), "proj_out has no lora_A"),
        (with_key("transformer.proj_in.dora_scale", torch.ones(4)), "1 of 9 keys fit nothing"),
        (with_key("transformer.proj_in.diff_b", torch.ones(4)), "1 of 9 keys fit nothing"),
        (with_key("diffusion_model.patchify_proj.lora_A.weight", torch.ones(2, 8)), "twice"),
        (with_key(A, torch.ones(2, 5)), r"another size: transformer\.proj_in is \(\d+, 8\) here"),
        (with_key(A, torch.full((2, 8), torch.nan)), "not finite"),
        (lambda _: {}, "it is empty"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_loaded(pipe, tmp_path, make, words):
    about = {"stdrc": json.dumps({"placement": {"when": "start"}})}
    path = written(tmp_path / "lora.safetensors", make(factors(pipe)), about)
    weights = {k: v.clone() for k, v in pipe.transformer.state_dict().items()}
    with pytest.raises(STDRCError, match=words):
        pipe.load_lora_weights(path)
    assert pipe.trained_placement is None
    assert pipe.get_list_adapters() == {}
    after = pipe.transformer.state_dict()
    assert all(torch.equal(after[k], v) for k, v in weights.items())


def test_a_file_that_trains_more_than_it_holds_is_refused(pipe, tmp_path):
    ab = factors(pipe)
    peft_folder(tmp_path, ab)
    config = {"r": RANK, "lora_alpha": RANK, "target_modules": ["to_q"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(STDRCError, match=r"says that it trains \d+ modules .* no weights for \d+"):
        pipe.load_lora_weights(tmp_path)


def test_files_that_are_no_lora_files_are_named(pipe, tmp_path):
    with pytest.raises(STDRCError, match="There is no LoRA at"):
        pipe.load_lora_weights(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(STDRCError, match="is not a safetensors file"):
        pipe.load_lora_weights(tmp_path / "text.safetensors")
    (tmp_path / "more.safetensors").write_text("hello")
    with pytest.raises(STDRCError, match=r"it has more\.safetensors, text\.safetensors; name one"):
        pipe.load_lora_weights(tmp_path)
    with pytest.raises(STDRCError, match=r"has no a\.safetensors"):
        pipe.load_lora_weights(tmp_path, weight_name="a.safetensors")


# Placements ---------------------------------------------------------------------------------------


def lora(pipe, path, placement=None, **about):
    if placement:
        about["placement"] = ReferencePlacement.parse(placement).to_dict()
    metadata = {"stdrc": json.dumps(about)} if about else None
    small = {k: 0.01 * v for k, v in tensors_by_name(None, factors(pipe)).items()}
    return written(path, small, metadata)


def test_each_adapter_keeps_its_placement(pipe, tmp_path, caplog):
    logging.getLogger("diffusers").propagate = True
    strata = lora(pipe, tmp_path / "strata.safetensors", "strata")
    tass = lora(pipe, tmp_path / "tass.safetensors", "tass")
    silent = lora(pipe, tmp_path / f"{tmp_path.name}-silent.safetensors")
    pipe.load_lora_weights(strata, adapter_name="first")
    with caplog.at_level(logging.WARNING):
        pipe.load_lora_weights(silent, adapter_name="second")
        pipe.load_lora_weights(silent, adapter_name="third")
    assert len(re.findall(r"doesn't say which reference placement", caplog.text)) == 1
    assert pipe.get_active_adapters() == ["first", "second", "third"]
    assert str(pipe.trained_placement) == "strata"
    with pytest.raises(
        STDRCError, match=r"different placements .* 'strata', .*tass.safetensors with 'tass'"
    ):
        pipe.load_lora_weights(tass, adapter_name="fourth")
    assert "fourth" not in str(pipe.get_list_adapters())
    pipe.set_adapters("second")
    assert pipe.trained_placement is None
    pipe.load_lora_weights(tass, adapter_name="fourth")
    assert str(pipe.trained_placement) == "tass"
    with pytest.raises(
        STDRCError, match=r"different placements .*first with 'strata', fourth with 'tass'"
    ):
        pipe.set_adapters(["first", "fourth"])
    pipe.set_adapters(["first", "third"], [0.5, 1.0])
    assert str(pipe.trained_placement) == "strata"
    pipe.delete_adapters("first")
    assert pipe.trained_placement is None


def test_loras_add_up(pipe, tmp_path):
    path = lora(pipe, tmp_path / "a.safetensors", "strata")
    pipe.load_lora_weights(path, adapter_name="first")
    pipe.set_adapters("first", 0.5)
    pipe.load_lora_weights(path, adapter_name="second")
    layer = pipe.transformer.get_submodule("proj_in")
    a, b = factors(pipe)["proj_in"]
    x = torch.randn(3, a.shape[1], generator=torch.Generator().manual_seed(1))
    by_hand = layer.base_layer(x) + 1.5 * x @ (SCALE * 1e-4 * b @ a).T
    torch.testing.assert_close(layer(x), by_hand)


def test_a_fused_lora_keeps_its_placement(pipe, tmp_path):
    pipe.load_lora_weights(lora(pipe, tmp_path / "a.safetensors", "strata"))
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert str(pipe.trained_placement) == "strata"
    pipe.save_pretrained(tmp_path / "fused")
    assert str(STDRCPipeline.from_pretrained(tmp_path / "fused").trained_placement) == "strata"


def test_unfusing_forgets(pipe, tmp_path):
    pipe.load_lora_weights(lora(pipe, tmp_path / "a.safetensors", "strata"))
    pipe.fuse_lora()
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    assert pipe.trained_placement is None


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "mine.safetensors"])
def test_hub_ids_are_asked_too(pipe, tmp_path, name):
    snapshot = tmp_path / "models--someone--a-lora" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--someone--a-lora" / "refs").mkdir()
    (tmp_path / "models--someone--a-lora" / "refs" / "main").write_text("abc")
    lora(pipe, snapshot / name, "strata")
    weight_name = None if name.startswith("pytorch") else name
    pipe.load_lora_weights("someone/a-lora", weight_name=weight_name, cache_dir=tmp_path)
    assert str(pipe.trained_placement) == "strata"
    with pytest.raises(STDRCError, match="hf download someone/another"):
        pipe.load_lora_weights("someone/another", cache_dir=tmp_path)


def test_several_loras_at_their_strengths(pipe, tmp_path):
    identity = lora(pipe, tmp_path / "identity.safetensors", "strata")
    (tmp_path / "distilled").mkdir()
    lora(pipe, tmp_path / "distilled" / "a.safetensors")
    lora(pipe, tmp_path / "distilled" / "b.safetensors")
    pipe.load_loras(
        [
            {"path": identity, "strength": 0.5},
            {"path": tmp_path / "distilled", "file": "b.safetensors", "strength": 2},
        ]
    )
    layer = pipe.transformer.get_submodule("proj_in")
    a, b = factors(pipe)["proj_in"]
    x = torch.randn(3, a.shape[1], generator=torch.Generator().manual_seed(1))
    delta = SCALE * 1e-4 * b @ a
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 2.5 * x @ delta.T)
    assert str(pipe.trained_placement) == "strata"
    pipe.load_loras([str(identity)])
    layer = pipe.transformer.get_submodule("proj_in")
    torch.testing.assert_close(layer(x), layer.base_layer(x) + x @ delta.T)
    for wrong, words in (
        ({"file": "a"}, "needs its path"),
        ({"path": identity, "weight": 1}, "Unknown key 'weight' in a LoRA; known are path, file"),
        ({"path": identity, "strength": "1"}, "strength is a number, not '1'"),
    ):
        with pytest.raises(STDRCError, match=words):
            pipe.load_loras([wrong])


# Crops --------------------------------------------------------------------------------------------


def face_at(box):
    """A picture with a pattern in one place, and a detector that knows it."""
    pixels = np.full((96, 128, 3), 200, np.uint8)
    x0, y0, x1, y1 = box
    pattern = np.random.default_rng(0).integers(0, 256, (y1 - y0, x1 - x0, 3), dtype=np.uint8)
    pixels[y0:y1, x0:x1] = pattern
    return Image.fromarray(pixels), lambda _: [box]


def test_the_crop_is_the_trainings_by_default(pipe, tmp_path, caplog):
    logging.getLogger("diffusers").propagate = True
    image, detector = face_at((40, 30, 60, 60))
    whole, face, head = (
        pipe.encode_reference([image], 64, 64, crop=crop, boxes=boxes).tokens
        for crop, boxes in (("none", None), ("face", detector), ("head", detector))
    )
    assert not torch.equal(whole, face)
    assert not torch.equal(face, head)
    assert torch.equal(whole, pipe.encode_reference([image], 64, 64).tokens)
    assert torch.equal(face, pipe.encode_reference([image], 64, 64, boxes=detector).tokens)
    assert torch.equal(
        head, pipe.encode_reference([image], 64, 64, crop="head", boxes=[(40, 30, 60, 60)]).tokens
    )
    pipe.load_lora_weights(lora(pipe, tmp_path / "head.safetensors", "tass", crop="head"))
    assert pipe.trained_crop == "head"
    assert torch.equal(head, pipe.encode_reference([image], 64, 64, boxes=detector).tokens)
    with pytest.raises(STDRCError, match="cut to the head, as the checkpoint was trained, and"):
        pipe.encode_reference([image], 64, 64)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(whole, pipe.encode_reference([image], 64, 64, crop="none").tokens)
    assert "references cut to 'head'; 'none' is another picture" in caplog.text
    with pytest.raises(STDRCError, match=r"different crops .* 'head', .* with 'none'"):
        pipe.load_lora_weights(lora(pipe, tmp_path / "none.safetensors", "tass", crop="none"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"crop": "none", "face_detector": list}, "would do nothing: the crop is 'none'"),
        ({"crop": "face"}, "nothing says where it is"),
        ({"crop": "nose", "face_detector": list}, "'none', 'face' or 'head', not 'nose'"),
        ({"crop": "face", "reference_boxes": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "1 references and"),
        ({"face_detector": list, "reference_boxes": [[1, 2, 3, 4]]}, "not both"),
        ({"reference": None, "crop": "none"}, "crop would do nothing: there is no reference"),
        ({"audio_latents": torch.zeros(1)}, "audio_latents would do nothing"),
    ],
)
def test_an_argument_that_would_be_overruled_is_refused(pipe, arguments, words):
    image, _ = face_at((40, 30, 60, 60))
    call = {"reference": image, "height": 64, "width": 64, "num_frames": 9, **arguments}
    with pytest.raises(STDRCError, match=words):
        pipe("a person", seeds=0, num_inference_steps=2, **call)


def test_boxes_of_encoded_references_are_refused(pipe):
    image, detector = face_at((40, 30, 60, 60))
    encoded = pipe.encode_reference([image], 64, 64)
    with pytest.raises(STDRCError, match="face_detector would do nothing: the references are enc"):
        pipe("a person", reference_latents=encoded, face_detector=detector)


def test_boxes_are_nested_as_references(pipe):
    image, _ = face_at((40, 30, 60, 60))
    box, other = (40, 30, 60, 60), (0, 0, 40, 40)
    one = pipe.encode_reference([image], 64, 64, boxes=[box]).tokens
    another = pipe.encode_reference([image], 64, 64, boxes=[other]).tokens
    both = pipe.encode_reference([[image, image]], 64, 64, boxes=[[box, other]]).tokens
    assert torch.equal(both[:, 0], one[:, 0])
    assert torch.equal(both[:, 1], another[:, 0])
    batch = pipe.encode_reference([image, image], 64, 64, boxes=[box, other]).tokens
    assert torch.equal(batch, torch.cat([one, another]))


def test_a_checkpoint_keeps_its_crop(pipe, tmp_path):
    pipe.register_to_config(crop="face")
    pipe.save_pretrained(tmp_path / "saved")
    assert STDRCPipeline.from_pretrained(tmp_path / "saved").trained_crop == "face"
