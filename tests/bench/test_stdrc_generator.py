"""ST-DRC in a sweep, on random weights: what is encoded, what is loaded, which video comes out."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from bench import config as cfg
from bench.cli import main
from bench.errors import BenchError
from bench.generators import Settings
from bench.generators.stdrc import STDRCConfig, STDRCGenerator
from bench.runner import Runner
from bench.sweep import plan
from media.errors import NoFaceError
from media.files import file_sha256, known_digests
from miniature.build import MiniatureConfig, build_components
from miniature.world import World
from stdrc import ReferencePlacement, STDRCError, STDRCPipeline

from .fakes import PixelJudge, evalset, make_config, no_report, table_of, write_set

TINY = MiniatureConfig(
    heads=2,
    head_dim=16,
    layers=1,
    latent_channels=8,
    vae_channels=(8, 16),
    decoder_channels=(16, 16),
    text_width=16,
    text_layers=1,
    text_tokens=8,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and LoRAs "trained" with two placements, with and without augmentation."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    folder = tmp_path_factory.mktemp("weights")
    size = {"height": 32, "width": 32, "num_frames": 5, "frame_rate": 8.0}
    pipe = STDRCPipeline(**build_components(TINY), default_size=size)
    pipe.save_pretrained(folder / "base")
    for seed, name in enumerate(("tass-on", "tass-off", "overlap-on")):
        torch.manual_seed(seed)
        lora = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
        pipe.transformer.add_adapter(lora, adapter_name=name)
        state = get_peft_model_state_dict(pipe.transformer, adapter_name=name)
        pipe.save_lora_weights(
            folder, transformer_lora_layers=state, weight_name=f"{name}.safetensors"
        )
        pipe.transformer.delete_adapters(name)
    return folder


def section(weights: Path, **changes: Any) -> dict[str, Any]:
    variants = {
        name: {
            "path": str(weights / f"{name}.safetensors"),
            "placement": name.split("-")[0],
            "augmentation": name.split("-")[1],
        }
        for name in ("tass-on", "tass-off", "overlap-on")
    }
    base = {"kind": "stdrc", "checkpoint": str(weights / "base"), "device": "cpu"}
    return {**base, "variants": variants, **changes}


def make(weights: Path, **changes: Any) -> STDRCGenerator:
    return STDRCGenerator(STDRCConfig(**section(weights, **changes)))


def runner(config: cfg.BenchConfig, **changes: Any) -> Runner:
    parts: dict[str, Any] = {"generator": config.generator.make(), "judge": PixelJudge()}
    parts["report"] = no_report
    return Runner(config, console=Console(file=io.StringIO()), **{**parts, **changes})


def test_a_guidance_sweep_encodes_each_prompt_and_reference_once(
    tmp_path: Path, weights: Path
) -> None:
    grid = {"text": [1.0, 2.0, 3.0, 4.0, 5.0], "reference": [0.0, 1.0, 1.5, 2.0, 3.0]}
    config = make_config(
        tmp_path,
        prompts=["a man walks", "a woman smiles"],
        generator=section(weights),
        sweep={"base": {"steps": 2}, "grid": grid},
    )
    generator = make(weights)
    calls = {"text": 0, "reference": 0}
    whole = STDRCPipeline.encode_text, STDRCPipeline._encode_image

    def text(self: Any, prompts: Any, **settings: Any) -> Any:
        calls["text"] += 1
        return whole[0](self, prompts, **settings)

    def image(self: Any, pixels: Any) -> Any:
        calls["reference"] += 1
        return whole[1](self, pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(STDRCPipeline, "encode_text", text)
        patch.setattr(STDRCPipeline, "_encode_image", image)
        summary = runner(config, generator=generator, limit=3).run()
    assert (summary.cells, summary.generated, summary.failed) == (25, 75, 0)
    # Two prompts and the negative one; two people.
    made = {"text": generator.texts.made, "reference": generator.references.made}
    assert calls == made == {"text": 3, "reference": 2}


def test_videos_do_not_depend_on_batch_or_order(tmp_path: Path, weights: Path) -> None:
    sweep = {
        "base": {"steps": 2},
        "grid": {"placement": ["overlap", "tass"], "augmentation": ["on"], "text": [1.0, 3.0]},
    }
    prompts = ["a man walks", "a woman smiles"]
    first = make_config(tmp_path / "a", prompts=prompts, generator=section(weights), sweep=sweep)
    summary = runner(first).run()
    assert (summary.generated, summary.failed) == (16, 0)
    turned = {**sweep, "grid": {"text": [3.0, 1.0], "placement": ["tass", "overlap"]}}
    second = make_config(
        tmp_path / "b",
        prompts=prompts,
        generator=section(weights),
        sweep=turned,
        engine={"batch_size": 4},
    )
    runner(second).run()
    tables = [table_of(tmp_path / x / "run") for x in "ab"]
    assert tables[0] == tables[1]


def test_a_mismatch_is_not_said_once_a_video_but_to_the_next_user(
    tmp_path: Path,
    weights: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = property(lambda _: ReferencePlacement.overlap())
    monkeypatch.setattr(STDRCPipeline, "trained_placement", trained)
    samples = evalset(tmp_path, ["a man walks"])
    generator = make(weights)
    asked = Settings(placement="strata", steps=2)
    resolved = generator.resolve(asked, allow_mismatch=True)
    assert resolved.mismatch
    with caplog.at_level("WARNING"):
        generator.generate(samples[:1], resolved.settings.replace(seed=3))
        assert "never seen" not in caplog.text
        # The same process goes on, in a notebook or a service, with a pipeline of its own.
        pipe = STDRCPipeline.from_pretrained(weights / "base")
        reference = str(samples[0].references[0])
        pipe("a man", reference=reference, placement="strata", num_inference_steps=2, seeds=3)
    assert "never seen" in caplog.text


@pytest.mark.parametrize("parallel", [None, 0.0])
def test_a_cell_is_the_pipeline_called_by_hand(
    tmp_path: Path, weights: Path, parallel: float | None
) -> None:
    samples = evalset(tmp_path, ["a man walks"])
    generator = make(weights)
    asked = Settings(placement="overlap", text=2.0, steps=2, seed=3, parallel=parallel)
    resolved = generator.resolve(asked)
    made = generator.generate(samples[:1], resolved.settings.replace(seed=3))[0]
    pipe = STDRCPipeline.from_pretrained(weights / "base")
    pipe.load_lora_weights(weights / "overlap-on.safetensors")
    byhand = pipe(
        samples[0].prompt,
        reference=str(samples[0].references[0]),
        placement="overlap",
        guidance={"text": 2.0, "reference": 1.5, "parallel": 1.0 if parallel is None else parallel},
        num_inference_steps=2,
        seeds=3,
    ).frames[0]
    assert np.array_equal(made, byhand)
    assert (resolved.passes, resolved.fps, resolved.mismatch) == (6, 8.0, False)


def test_swapping_variants_leaves_no_trace(tmp_path: Path, weights: Path) -> None:
    samples = evalset(tmp_path, ["a man walks"])
    generator = make(weights)
    cells = [
        generator.resolve(Settings(placement=p, augmentation=a, steps=2)).settings
        for p, a in (("tass", "on"), ("tass", "off"), ("overlap", "on"), ("tass", "on"))
    ]
    videos = [generator.generate(samples[:1], cell)[0] for cell in cells]
    assert np.array_equal(videos[0], videos[3])
    assert not np.array_equal(videos[0], videos[1])
    assert not np.array_equal(videos[0], videos[2])


def test_a_placement_that_nothing_was_trained_with(weights: Path) -> None:
    generator = make(weights)
    far = Settings(placement="far", augmentation="on")
    with pytest.raises(BenchError, match=r"No checkpoint was trained with placement 'far' and"):
        generator.resolve(far)
    resolved = generator.resolve(Settings(placement="far"), allow_mismatch=True)
    assert resolved.mismatch
    assert resolved.stage == "tass-on"
    with pytest.raises(BenchError, match="placement 'overlap' and augmentation 'off'"):
        generator.resolve(Settings(placement="overlap", augmentation="off"))
    with pytest.raises(BenchError, match=r"Did you mean 'tass-off'"):
        generator.resolve(Settings(checkpoint="tass-of"))
    assert generator.resolve(Settings(checkpoint="tass-off")).stage == "tass-off"


def test_a_bare_base_has_seen_no_placement(weights: Path) -> None:
    generator = make(weights, variants={})
    with pytest.raises(BenchError, match="allow_mismatch"):
        generator.resolve(Settings(placement="tass"))
    assert generator.resolve(Settings(placement="tass"), allow_mismatch=True).mismatch
    with pytest.raises(BenchError, match=r"has none; name some in generator.variants"):
        generator.resolve(Settings(augmentation="on"), allow_mismatch=True)


def test_two_ways_to_write_one_placement_are_one_cell(weights: Path) -> None:
    generator = make(weights)
    spelled = {"when": "after", "gap": 0, "shift": [1, 1]}
    one, other = (generator.resolve(Settings(placement=p)) for p in ("tass", spelled))
    assert one.settings == other.settings


def test_missing_variants_and_checkpoints(tmp_path: Path, weights: Path) -> None:
    gone = {"x": {"path": str(tmp_path / "x.safetensors")}}
    with pytest.raises(BenchError, match=r"generator.variants.x.path: there is no checkpoint"):
        make(weights, variants=gone).resolve(Settings())
    with pytest.raises(BenchError, match="neither a file or folder here"):
        make(weights, checkpoint=str(tmp_path / "none"), variants={}).resolve(Settings())


def test_a_missing_variant_is_trained_once(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import stdrc.training

    settings = tmp_path / "train.yaml"
    settings.write_text(f"base: {weights / 'base'}\noutput: out/any\ndata: [data]\n")
    trained: list[Any] = []

    def train(config: Any, **_: Any) -> Path:
        trained.append(config)
        config.output.mkdir(parents=True)
        path = config.output / "lora.safetensors"
        shutil.copy(weights / "tass-off.safetensors", path)
        return path

    monkeypatch.setattr(stdrc.training, "train", train)
    changes = {"train": "missing", "train_config": str(settings)}
    wanted = Settings(placement={"when": "after", "gap": 2}, augmentation="no-pose")
    looking = make(weights, **changes)
    looking.may_train = False
    with pytest.raises(BenchError, match="has to be trained before there is a plan"):
        looking.resolve(wanted)
    for _ in range(2):  # the second process finds what the first one trained
        generator = make(weights, **changes)
        resolved = generator.resolve(wanted)
        assert not resolved.mismatch
        assert generator.resolve(Settings(placement="tass")).stage == "tass-on"
    (config,) = trained
    assert config.reference_placements[0].gap == 2
    assert (config.augmentation.pose, config.augmentation.colour) == (False, True)
    with pytest.raises(BenchError, match=r"train_config names no training file"):
        make(weights, train="missing").resolve(wanted)


def test_a_whole_checkpoint_is_a_variant_too(tmp_path: Path, weights: Path) -> None:
    samples = evalset(tmp_path, ["a man walks"])
    variants = {
        "whole": {"path": str(weights / "base"), "placement": "far"},
        "tass-on": {"path": str(weights / "tass-on.safetensors"), "placement": "tass"},
    }
    generator = make(weights, variants=variants)
    cells = [
        generator.resolve(Settings(placement=p, steps=2)).settings for p in ("tass", "far", "tass")
    ]
    videos = [generator.generate(samples[:1], cell)[0] for cell in cells]
    assert np.array_equal(videos[0], videos[2])
    assert not np.array_equal(videos[0], videos[1])


def stated(weights: Path, path: Path, placement: str, **augmentation: bool) -> dict[str, Any]:
    """A variant without settings whose file says how it was trained."""
    about = {
        "placement": ReferencePlacement.parse(placement).to_dict(),
        "augmentation": {"colour": True, "pose": True, "layout": True, **augmentation},
    }
    tensors = load_file(weights / "tass-on.safetensors")
    save_file(tensors, path, metadata={"stdrc": json.dumps(about)})
    return {"path": str(path)}


def test_a_variant_is_what_its_file_says(tmp_path: Path, weights: Path) -> None:
    path = tmp_path / "overlap-on.safetensors"
    alone = stated(weights, path, "overlap", pose=False)
    variant = make(weights, variants={"a": alone}).trained.known["a"]
    assert (variant.placement, variant.augmentation) == ("overlap", "no-pose")
    settings = Settings(placement="tass", augmentation="no-pose")
    assert make(weights, variants={"a": alone}).resolve(settings, allow_mismatch=True).mismatch
    agreed = {**alone, "placement": "overlap", "augmentation": "no-pose"}
    assert make(weights, variants={"a": agreed}).trained.known["a"] == variant
    for changes, words in (
        ({"placement": "tass"}, r"variants\.a\.placement is 'tass', and .* with 'overlap'"),
        ({"augmentation": "on"}, r"variants\.a\.augmentation is 'on', and .* with 'no-pose'"),
    ):
        with pytest.raises(BenchError, match=words):
            make(weights, variants={"a": {**alone, **changes}}).resolve(Settings())
    silent = {"path": str(weights / "tass-on.safetensors")}
    with pytest.raises(BenchError, match=r"set generator\.variants\.a\.placement"):
        make(weights, variants={"a": silent}).resolve(Settings())


def test_a_lora_that_fits_nothing_is_refused_before_it_is_on_a_leaderboard(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(weights / "tass-on.safetensors")
    stranger = {key.replace("transformer.", "unet.", 1): value for key, value in tensors.items()}
    half = {key: value for key, value in tensors.items() if "to_q.lora_A" not in key}
    for name, wrong, words in (
        ("stranger", stranger, r"keys fit nothing, first 'unet"),
        ("half", half, r"to_q has no lora_A"),
    ):
        save_file(wrong, tmp_path / f"{name}.safetensors")
        variants = {name: {"path": f"{name}.safetensors", "placement": "tass"}}
        one = {"generator": section(weights, variants=variants), "sweep": {"base": {"steps": 2}},
               "metrics": {"names": ["temporal.flicker"]}}  # fmt: skip
        config = make_config(tmp_path, **one)
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(cfg.config_json(config)))
        with pytest.raises(SystemExit) as ended:
            main(["bench", str(file), "--run", str(tmp_path / name)])
        assert ended.value.code == 2
        assert re.search(rf"The variant {name} can't be loaded: .*{words}", capsys.readouterr().err)
        assert not (tmp_path / name / "leaderboard").exists()
        assert not list((tmp_path / name).rglob("*.mp4"))


def test_a_variant_of_the_hub_is_its_file_in_the_cache(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--someone--loras" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    stated(weights, snapshot / "a.safetensors", "overlap")
    stated(weights, snapshot / "b.safetensors", "far")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    of = {"path": "someone/loras", "file": "b.safetensors"}
    config = make_config(tmp_path, generator=section(weights, variants={"a": of}))
    generator: Any = cfg._anchor(config, tmp_path).generator.make()
    variant = generator.trained.known["a"]
    assert (variant.placement, variant.path.name) == ("far", "b.safetensors")
    assert file_sha256(snapshot / "b.safetensors") in generator.trained.weights(variant).values()
    for given in ({**of, "file": "c.safetensors"}, {"path": "someone/else"}):
        with pytest.raises(BenchError, match=r"variants\.a\.path: there is no checkpoint someone"):
            make(weights, variants={"a": given}).resolve(Settings())


def test_two_variants_that_fit_are_not_chosen_between(weights: Path) -> None:
    variants = section(weights)["variants"]
    generator = make(weights, variants={**variants, "again": variants["tass-on"]})
    with pytest.raises(
        BenchError, match=r"tass-on and again were all trained with .* set checkpoint"
    ):
        generator.resolve(Settings(placement="tass", augmentation="on"))
    assert generator.resolve(Settings(checkpoint="again")).stage == "again"


def test_a_prompt_that_is_cut_is_said_on_its_row(tmp_path: Path, weights: Path) -> None:
    long = "a man walks and smiles and turns left and looks back and waves"
    settings = {"base": {"steps": 2, "reference": 0, "text": 1}}
    config = make_config(
        tmp_path, prompts=["a man", long], generator=section(weights), sweep=settings
    )
    runner(config).run()
    rows = dict(sqlite3.connect(config.run / "store.sqlite").execute(
        "SELECT prompt, reason FROM videos JOIN samples USING (sample) WHERE status = 'done'"
    ))  # fmt: skip
    assert rows["a man"] is None
    assert "tokens and the model reads 8; what follows from" in rows[long]
    evaluated = evalset(tmp_path, [long])
    cell = make(weights).resolve(Settings(placement="tass", steps=2)).settings
    with pytest.raises(STDRCError, match=r"The prompt has .* shorten it"):
        make(weights, strict=True).generate(evaluated[:1], cell)


def test_what_the_miniature_was_not_taught_is_said_on_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `stdrc generate` says it: a word, and a picture that is not of the drawn world."""
    clip = World(split="test", size=1)[0]
    prompts = [clip.caption.replace(",", ""), "a person plays guitar"]
    small = {"steps": 2, "height": 32, "width": 32, "num_frames": 9, "reference": 0, "text": 1}
    changes = {"generator": {"kind": "stdrc", "device": "cpu"}, "sweep": {"base": small}}
    config = make_config(tmp_path, prompts=prompts, **changes)
    Image.fromarray(clip.reference).save(tmp_path / "data" / "person0.png")
    runner(config).run()

    def said(run: Path, status: str) -> dict[str, str | None]:
        return dict(sqlite3.connect(run / "store.sqlite").execute(
            "SELECT sample, reason FROM videos WHERE status = ?", (status,)
        ))  # fmt: skip

    rows = said(config.folder, "done")
    words, picture = "was not taught 'plays' and 'guitar'", "'person1.png' does not look like"
    assert rows["p0-0"] is None
    assert words in str(rows["p0-1"])
    assert picture not in str(rows["p0-1"])
    assert picture in str(rows["p1-0"])
    assert words in str(rows["p1-1"])
    assert picture in str(rows["p1-1"])
    file = tmp_path / "strict.yaml"
    file.write_text(yaml.safe_dump({**cfg.config_json(config), "run": str(tmp_path / "strict"),
                                    "metrics": {"names": ["temporal.flicker"]}}))  # fmt: skip
    with pytest.raises(SystemExit):
        main(["bench", str(file), "--strict"])
    assert list(said(tmp_path / "strict", "done")) == ["p0-0"]
    failed = said(tmp_path / "strict", "failed")
    assert words in str(failed["p0-1"])
    assert picture in str(failed["p1-0"])
    custom = {**cfg.config_json(config), "generator": {"kind": "custom", "factory": "a:B"}}
    file.write_text(yaml.safe_dump(custom))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(file), "--strict"])
    assert ended.value.code == 2
    assert "--strict: generators of kind 'custom' don't say" in capsys.readouterr().err


def test_references_are_encoded_anew_for_another_crop_or_size(
    tmp_path: Path, weights: Path
) -> None:
    """A variant trained on faces must not get the whole picture that another one left behind."""
    path = tmp_path / "face.safetensors"
    about = {"placement": ReferencePlacement.tass().to_dict(), "crop": "face"}
    tensors = load_file(weights / "tass-on.safetensors")
    save_file(tensors, path, metadata={"stdrc": json.dumps(about)})
    whole = {"path": str(weights / "tass-on.safetensors"), "placement": "tass"}
    generator = make(weights, variants={"whole": whole, "face": {"path": str(path)}})
    samples = evalset(tmp_path, ["a man walks"])[:1]
    cells = {
        name: generator.resolve(Settings(checkpoint=name, placement="tass", steps=2)).settings
        for name in ("whole", "face")
    }
    assert [cells[name].crop for name in cells] == [None, "face"]
    generator.generate(samples, cells["whole"])
    with pytest.raises(NoFaceError, match="No face was found in the reference"):
        generator.generate(samples, cells["face"])
    other = Settings(checkpoint="face", placement="tass", steps=2, crop="none")
    (made,) = generator.generate(samples, generator.resolve(other).settings)
    assert made.remark == "face was trained with crop 'face', and is shown 'none'"
    asked = Settings(checkpoint="whole", placement="tass", steps=2, crop="face")
    assert "crop" in generator.resolve(asked).weights  # what finds the face is part of the key
    with pytest.raises(BenchError, match="crop: head needs a box of the head"):
        generator.resolve(asked.replace(crop="head"))
    with pytest.raises(BenchError, match=r"args\.face_detector .* use the axis crop"):
        generator.resolve(asked.replace(args={"face_detector": "mtcnn"}))
    half = Settings(checkpoint="whole", placement={"downscale": 2}, steps=2)
    resolved = generator.resolve(half, allow_mismatch=True).settings
    frames = generator.generate(samples, resolved.model_copy(update={"height": 32, "width": 32}))[0]
    assert np.isfinite(frames).all()


# Memory ------------------------------------------------------------------------------------------


def frames(generator: STDRCGenerator, samples: Any) -> np.ndarray:
    settings = generator.resolve(Settings(steps=2)).settings
    generator.prepare((sample, settings) for sample in samples)
    return np.stack(list(generator.generate(samples, settings)))


def test_prompts_are_encoded_first_and_then_no_text_side_is_loaded(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STDRC_CACHE", str(tmp_path / "cache"))
    loaded: list[set[str]] = []
    original = STDRCPipeline.from_pretrained.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, name: Any, **kwargs: Any) -> Any:
        pipe = original(cls, name, **kwargs)
        loaded.append({n for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)})
        return pipe

    monkeypatch.setattr(STDRCPipeline, "from_pretrained", classmethod(watched))
    samples = evalset(tmp_path, ["a person waves"])
    kept = frames(make(weights), samples)
    freed = make(weights, memory={"text": "free"})
    np.testing.assert_array_equal(frames(freed, samples), kept)
    text, rest = {"text_encoder", "connectors"}, {"transformer", "vae", "audio_vae", "vocoder"}
    assert loaded == [text | rest, text, rest]
    again = make(weights, memory={"text": "free"})  # a restart, or another worker
    np.testing.assert_array_equal(frames(again, samples), kept)
    assert loaded[3:] == [rest]
    assert (again.texts.made, again.references.made) == (0, 0)


def test_a_damaged_encoding_is_made_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STDRC_CACHE", str(tmp_path / "cache"))
    samples = evalset(tmp_path, ["a person waves"])
    first = frames(make(weights, memory={"text": "free"}), samples)
    kept = sorted((tmp_path / "cache" / "encoded").rglob("*.safetensors"))
    for file in kept:
        file.write_bytes(file.read_bytes()[:-8])
    again = make(weights, memory={"text": "free"})
    assert list(again.unprepared([(samples[0], again.resolve(Settings()).settings)])) == []
    with caplog.at_level("WARNING", logger="stdrc.bench"):
        np.testing.assert_array_equal(frames(again, samples), first)
    assert again.texts.made + again.references.made == len(kept)
    assert "is damaged" in caplog.text


class Watched(STDRCGenerator):
    """Notes what each process loads, and whether it was told what the base's files hash to."""

    def __init__(self, log: str, **section: Any) -> None:
        super().__init__(STDRCConfig(**section))
        self.log = Path(log)
        self.note("told" if any("transformer" in key for key in known_digests()) else "untold")

    def note(self, what: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {what}\n")

    def _load(self, base: str, without: Any) -> Any:
        self.note("rest" if "text_encoder" in without else "text")
        return super()._load(base, without)


def test_the_second_worker_never_loads_the_text_encoder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STDRC_CACHE", str(tmp_path / "cache"))
    log = tmp_path / "log"
    args = {"log": str(log), **section(weights, memory={"text": "free"})}
    config = make_config(
        tmp_path,
        prompts=["a man walks", "a woman smiles"],
        generator={
            "kind": "custom", "factory": "tests.bench.test_stdrc_generator:Watched", "args": args,
        },
        engine={"workers": 2},
        sweep={"base": {"steps": 2, "checkpoint": "tass-on"}},
    )  # fmt: skip
    runner(config, generator=None).run()
    with sqlite3.connect(tmp_path / "run" / "store.sqlite") as db:
        found = db.execute("SELECT status, reason FROM videos").fetchall()
    assert [status for status, _ in found] == ["done"] * 4, found
    said = [line.split() for line in log.read_text().splitlines()]
    here = str(os.getpid())  # the driver, which plans
    assert len({pid for pid, what in said if pid != here}) == 2
    assert sum(what == "text" for _, what in said) == 1
    assert {what for pid, what in said if pid != here} == {"told", "text", "rest"}
    assert {what for pid, what in said if pid == here} <= {"told", "untold"}


def test_the_driver_prepares_for_all_jobs_of_a_run(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STDRC_CACHE", str(tmp_path / "cache"))
    generator = make(weights, memory={"text": "free"})
    config = make_config(tmp_path, generator=section(weights, memory={"text": "free"}))
    prepared: list[int] = []
    prepare = generator.prepare
    monkeypatch.setattr(
        generator, "prepare", lambda tasks: [prepared.append(len(t := list(tasks))), prepare(t)]
    )
    config = config.model_copy(update={"sweep": cfg.Sweep(base={"steps": 2}, seeds=[0, 1])})
    run = Runner(
        config,
        generator=generator,
        judge=PixelJudge(),
        report=no_report,
        samples=evalset(tmp_path, ["a person waves"]),
        console=Console(file=io.StringIO()),
    )
    assert run.run().generated == 4
    assert prepared == [1]  # four videos of one prompt
    assert generator.texts.made == 2


def test_settings_that_change_a_video_are_in_its_key(weights: Path) -> None:
    def key(**memory: str) -> dict[str, str]:
        return dict(make(weights, memory=memory).resolve(Settings()).weights)

    plain = key()
    assert plain["dtype"] == "float32"  # what this base is saved in
    same = {"text": "free", "offload": "group"}
    assert key(**same) == plain
    assert key(transformer="fp8") == {**plain, "transformer": "fp8"}
    assert key(tiling="on") == {**plain, "tiling": "on"}


def test_memory_in_yaml_is_checked_with_its_place(weights: Path, tmp_path: Path) -> None:
    def message(memory: Any) -> str:
        with pytest.raises(BenchError) as error:
            make_config(tmp_path, generator=section(weights, memory=memory))
        return str(error.value)

    said = message({"ofload": "group"})
    assert "generator.memory.ofload: unknown key 'ofload'; known are attention, compile" in said
    assert "Did you mean 'offload'" in said
    assert "'none', 'model' or 'group' (it is 'disk')" in message({"offload": "disk"})
    low = make_config(tmp_path, generator=section(weights, memory="low"))
    assert cfg.parse_config(cfg.config_json(low), "again").generator == low.generator


def test_a_lora_of_the_connectors_has_its_own_texts(weights: Path, tmp_path: Path) -> None:
    base = STDRCPipeline.from_pretrained(weights / "base")
    name, layer = next(
        (n, m) for n, m in base.connectors.named_modules() if isinstance(m, torch.nn.Linear)
    )
    torch.manual_seed(1)
    tensors = {
        f"connectors.{name}.lora_A.weight": torch.randn(2, layer.in_features),
        f"connectors.{name}.lora_B.weight": torch.randn(layer.out_features, 2),
    }
    save_file(tensors, tmp_path / "text.safetensors")
    variants = {
        **section(weights)["variants"],
        "text": {"path": str(tmp_path / "text.safetensors"), "placement": "tass"},
    }
    generator = make(weights, variants=variants)
    samples = evalset(tmp_path, ["a person waves"])
    for checkpoint in ("tass-on", "text", "tass-on"):
        settings = generator.resolve(Settings(steps=2, checkpoint=checkpoint)).settings
        generator.generate(samples, settings)
    assert generator.texts.made == 4  # the prompt and "", with either
    with pytest.raises(
        BenchError, match=r"LoRA of text .* changes how prompts are encoded.*text to keep"
    ):
        make(weights, variants=variants, memory={"text": "free"}).resolve(
            Settings(checkpoint="text")
        )


# Several LoRAs, and a second stage ----------------------------------------------------------------


def test_loras_are_an_axis_whose_strengths_are_swept(weights: Path, tmp_path: Path) -> None:
    lora = {"path": "tass-off.safetensors"}
    sweep = {
        "base": {"steps": 2, "placement": "tass", "checkpoint": "tass-on"},
        "grid": {"loras": [[], [lora], [{**lora, "strength": 0.5}]]},
    }
    data = {
        "name": "small",
        "evalset": {"kind": "csv", "path": "set.csv"},
        "generator": section(weights),
        "sweep": sweep,
    }
    config = cfg.parse_config(data, "test", base=weights)  # LoRAs lie beside the file
    samples = evalset(tmp_path, ["a person waves"])[:1]
    generator = config.generator.make()
    planned = plan(config, evalset(tmp_path, ["a person waves"]), generator)
    assert [cell.label for cell in planned.cells] == [
        "loras=none",
        f"loras={weights.name}/tass-off",
        f"loras={weights.name}/tass-off=0.5",
    ]
    assert len({cell.digest for cell in planned.cells}) == 3
    made = [generator.generate(samples, cell.settings)[0] for cell in planned.cells]
    assert generator.texts.made == 2
    pipe = STDRCPipeline.from_pretrained(weights / "base")
    pipe.load_loras(
        [weights / "tass-on.safetensors", {"path": weights / lora["path"], "strength": 0.5}]
    )
    settings = planned.cells[2].settings
    arguments = {k: v for k, v in settings.arguments().items() if k != "negative_prompt"}
    by_hand = pipe(
        samples[0].prompt, reference=str(samples[0].references[0]), seeds=0, **arguments
    ).frames[0]
    np.testing.assert_allclose(made[2], by_hand, atol=1e-5)
    assert np.abs(np.asarray(made[0]) - made[1]).mean() > 1e-4
    again = cfg.parse_config(cfg.config_json(config), "again")
    assert again.sweep == config.sweep
    assert not planned.cells[0].settings.loras
    assert planned.cells[0].digest == only_cell(config, tmp_path, weights, loras=None).digest


def only_cell(config: cfg.BenchConfig, folder: Path, base: Path, **axes: Any) -> Any:
    """The one cell of a config's base with other axes, whose paths start at `base`."""
    asked = {**config.sweep.base.model_dump(exclude_none=True), **axes}
    sweep = {"base": {name: value for name, value in asked.items() if value is not None}}
    data = {**cfg.config_json(config), "sweep": sweep}
    changed = cfg.parse_config(data, "test", base=base)
    (cell,) = plan(changed, evalset(folder, ["a person waves"]), changed.generator.make()).cells
    return cell


def test_a_changed_lora_or_strength_is_another_video_and_another_place_is_not(
    weights: Path, tmp_path: Path
) -> None:
    config = make_config(
        tmp_path, generator=section(weights), sweep={"base": {"checkpoint": "tass-on"}}
    )
    tensors = load_file(weights / "tass-off.safetensors")

    def digest(folder: str, scale: float = 1.0, **lora: Any) -> str:
        path = tmp_path / folder / "trained" / "lora.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value * scale for name, value in tensors.items()}, path)
        given = [{"path": f"{folder}/trained/lora.safetensors", **lora}]
        return only_cell(config, tmp_path, tmp_path, loras=given).digest

    first = digest("here")
    assert digest("there") == first
    others = [digest("here", strength=x) for x in (0.5, 0.5000001)] + [digest("here", scale=2.0)]
    assert len({first, *others}) == 4


def test_loras_bring_their_placement_and_must_agree(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights / "tass-on.safetensors")
    for name in ("tass", "overlap"):
        about = {"placement": ReferencePlacement.parse(name).to_dict()}
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata={"stdrc": json.dumps(about)})

    def loras(*names: str) -> list[dict[str, str]]:
        return [{"path": str(tmp_path / f"{name}.safetensors")} for name in names]

    crops = {"placement": ReferencePlacement.parse("overlap").to_dict(), "crop": "face"}
    save_file(tensors, tmp_path / "face.safetensors", metadata={"stdrc": json.dumps(crops)})
    alone = make(weights, variants={})
    resolved = alone.resolve(Settings(loras=loras("overlap")))
    assert resolved.settings.placement == "overlap"
    assert not resolved.mismatch
    assert alone.resolve(Settings(loras=loras("face"))).settings.crop == "face"
    assert make(weights).resolve(Settings(loras=loras("overlap"))).stage.startswith("overlap-on")
    with pytest.raises(STDRCError, match="trained with different placements of the reference"):
        alone.resolve(Settings(loras=loras("tass", "overlap")))
    with pytest.raises(BenchError, match="No checkpoint was trained with placement 'tass'"):
        alone.resolve(Settings(loras=loras("overlap"), placement="tass"))
    assert alone.resolve(
        Settings(loras=loras("overlap"), placement="tass"), allow_mismatch=True
    ).mismatch
    with pytest.raises(STDRCError, match=r"tass-on with 'tass', .*overlap.* with 'overlap'"):
        make(weights).resolve(Settings(loras=loras("overlap"), checkpoint="tass-on"))
    with pytest.raises(STDRCError, match="There is no LoRA at"):
        alone.resolve(Settings(loras=[{"path": "nowhere.safetensors"}]))


@pytest.fixture(scope="module")
def upsampler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel

    folder = tmp_path_factory.mktemp("upsampler") / "x2"
    torch.manual_seed(0)
    LTX2LatentUpsamplerModel(
        in_channels=8, mid_channels=32, num_blocks_per_stage=1, use_rational_resampler=False
    ).save_pretrained(folder)
    return folder


def test_the_second_stage_is_the_pipelines_and_part_of_the_key(
    weights: Path, upsampler: Path, tmp_path: Path
) -> None:
    from stdrc.stages import Upscale

    samples = evalset(tmp_path, ["a person waves"])[:1]
    asked = {"steps": 2, "height": 64, "width": 64, "checkpoint": "tass-on"}
    once = (generator := make(weights)).resolve(Settings(**asked))
    made = {}
    for reference in ("keep", "leave"):
        second = {"path": str(upsampler), "reference": reference}
        resolved = generator.resolve(Settings(**asked, upscale=second))
        assert resolved.passes == once.passes + 3
        assert resolved.settings.axes()["upscale"].endswith(f"x2 {reference}")
        assert set(resolved.weights) - set(once.weights) == {"upscale"}
        made[reference] = generator.generate(samples, resolved.settings)[0]
        assert np.asarray(made[reference]).shape[1:3] == (64, 64)
    assert np.abs(np.asarray(made["keep"]) - made["leave"]).mean() > 1e-5
    pipe = STDRCPipeline.from_pretrained(weights / "base")
    pipe.load_lora_weights(weights / "tass-on.safetensors")
    arguments = {k: v for k, v in resolved.settings.arguments().items() if k != "negative_prompt"}
    for reference, video in made.items():
        by_hand = pipe(
            samples[0].prompt,
            reference=str(samples[0].references[0]),
            seeds=0,
            upscale=Upscale.load(upsampler, reference=reference),
            **arguments,
        ).frames[0]
        np.testing.assert_allclose(video, by_hand, atol=1e-5)


@pytest.mark.parametrize("text", ["keep", "free"])
def test_an_enhanced_prompt_is_read_and_kept_with_the_videos_row(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("STDRC_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []

    def rewrite(self: Any, prompt: str, seed: int = 10) -> str:
        asked.append(prompt)
        return "a red square"

    monkeypatch.setattr(STDRCPipeline, "rewrite_prompt", rewrite)
    table = write_set(tmp_path / "data", ["a person waves"])
    section_of = {"kind": "csv", "path": str(table), "id": "id", "identity": "person"}
    config = make_config(
        tmp_path,
        prompts=["a person waves"],
        evalset={**section_of, "enhance": True},
        generator=section(weights, memory={"text": text}),
        sweep={"base": {"steps": 2, "checkpoint": "tass-on"}},
    )
    run = runner(config)
    assert run.run().generated == 2
    assert asked == ["a person waves"]
    with sqlite3.connect(run.folder / "store.sqlite") as db:
        rows = db.execute("SELECT reason FROM videos").fetchall()
        prompts = db.execute("SELECT DISTINCT prompt FROM samples").fetchall()
    assert rows == [("enhanced prompt: a red square",)] * 2
    assert prompts == [("a person waves",)]
    settings = run.plan.cells[0].settings
    by_name = evalset(tmp_path / "data", ["a red square"])[:1]
    plain = np.asarray(make(weights).generate(by_name, settings)[0])
    told = [replace(by_name[0], prompt="a person waves", enhance=True)]
    made: Any = run.generator.generate(told, settings)[0]
    np.testing.assert_array_equal(made.video, plain)


def test_a_generator_without_a_language_model_refuses_to_enhance(tmp_path: Path) -> None:
    table = write_set(tmp_path / "data", ["a person waves"])
    config = make_config(tmp_path, evalset={"kind": "csv", "path": str(table), "enhance": True})
    with pytest.raises(BenchError, match=r"evalset\.enhance does nothing in the generator"):
        Runner(config, judge=PixelJudge()).plan  # noqa: B018
    config = make_config(
        tmp_path / "group",
        evalset={"kind": "csv", "path": str(table), "enhance": True},
        generator={"kind": "stdrc", "memory": "low"},
    )
    samples = config.evalset.load(tmp_path)
    task = (samples[0], Settings())
    with pytest.raises(BenchError, match=r"enhance needs generator\.memory\.text: free or keep"):
        config.generator.make().unprepared([task])  # type: ignore[attr-defined]
