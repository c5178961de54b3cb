"""From a folder of files to a result, on a random-weight pipeline in LTX-2.3's structure."""

from __future__ import annotations

import json
import pickle
import shutil
import types
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from media.errors import UnreadableTableError
from media.video import VideoReader
from media.writing import to_uint8, write_video
from miniature import checkpoint
from miniature.identity_encoder import load_identity_encoder
from stdrc.errors import STDRCError
from stdrc.pipeline import STDRCPipeline
from stdrc.training import TrainConfig, train
from stdrc.training.data import FileRows, TrainingData
from stdrc.training.encoding import prepare
from stdrc.training.folder import read_folder
from stdrc.training.trainer import Trainer
from tests.stdrc.training_tiny import small_checkpoint

BOX = [20.0, 16.0, 52.0, 48.0]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("base"))


def write_clip(path: Path, seed: int, frames: int = 12) -> None:
    """A square that moves over noise."""
    noise = np.random.default_rng(seed).integers(0, 80, (1, 64, 80, 3))
    clip = np.repeat(noise, frames, axis=0).astype(np.uint8)
    for t in range(frames):
        clip[t, 20:44, 24 + t : 48 + t] = 40 * (seed % 6) + 20
    write_video(path, clip, 8.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clips of two people in the trainer's layout."""
    root = tmp_path / "data"
    (root / "refs").mkdir(parents=True)
    rows = []
    for i, person in enumerate(("ann", "ann", "bob")):
        write_clip(root / f"clips/{i}.mp4", i)
        pixels = np.random.default_rng(100 + i).integers(0, 255, (50, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"refs/{i}.png")
        rows.append(
            {
                "video": f"clips/{i}.mp4", "caption": "a person walks left" if i else "a face",
                "identity": person, "references": [f"refs/{i}.png"], "boxes": [BOX] * 12,
            }
        )  # fmt: skip
    write_rows(root, rows)
    return root


def write_rows(root: Path, rows: list[dict]) -> None:
    (root / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def read_rows(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]


def config(base: Path, folder: Path, **changes: object) -> TrainConfig:
    settings: dict = {
        "base": str(base), "output": str(folder.parent / "run"), "data": str(folder),
        "clip": {"frames": 9, "height": 64, "width": 64}, "steps": 2, "batch_size": 2,
        "augmentation": {"variants": 2}, "lora": {"rank": 2}, "log_every": 1,
    }  # fmt: skip
    return TrainConfig.from_dict({**settings, **changes})


def encode(run: TrainConfig) -> tuple[TrainingData, list[str]]:
    pipe = STDRCPipeline.from_pretrained(run.base, transformer=None, audio_vae=None, vocoder=None)
    said: list[str] = []
    return prepare(run, pipe, say=said.append), said


def test_encodings_are_the_pipelines(base: Path, folder: Path) -> None:
    """What is trained on is what `STDRCPipeline` will encode when the result is used."""
    data, _ = encode(config(base, folder))
    pipe = STDRCPipeline.from_pretrained(base)
    plain = pipe.encode_reference([folder / "refs/2.png"], 64, 64).tokens[0, 0]  # [64, 8]
    assert data.choices is not None
    own = [data.references.gather(torch.tensor([r]))[0] for r in data.choices[2]]  # type: ignore
    gaps = [float((r.flatten(1).T - plain).abs().max()) for r in own]
    assert sum(gap < 1e-4 for gap in gaps) == 1  # the plain one; the other two are augmented
    assert len(own) == 3
    text = pipe.encode_text("a person walks left")
    row = data.captions[2]  # type: ignore[index]
    torch.testing.assert_close(data.text.gather(torch.tensor(row)), text.video)  # type: ignore
    torch.testing.assert_close(data.null_text, pipe.encode_text("").video[0])
    assert data.text_mask is None


@pytest.mark.parametrize("crop", ["none", "face", "head"])
@pytest.mark.parametrize("kind", ["pictures", "frames"])
def test_training_and_sampling_cut_references_alike(
    base: Path, folder: Path, crop: str, kind: str
) -> None:
    """The latents trained on are those that the pipeline makes by the result's own statement."""
    rows = read_rows(folder)
    in_picture, head = [8.0, 10.0, 28.0, 30.0], [16.0, 8.0, 56.0, 52.0]
    for i, row in enumerate(rows):
        if kind == "pictures":
            row["reference_boxes"] = [in_picture]
        else:
            del row["references"]
            part = {"box": dict(zip(("x1", "y1", "x2", "y2"), BOX)), "new_track_id": 0}
            whole = {"box": dict(zip(("x1", "y1", "x2", "y2"), head)), "new_track_id": 0}
            frames = {str(n): {"face": [part], "head": [whole]} for n in range(12)}
            (folder / f"{i}.json").write_text(json.dumps(frames))
            row["boxes"] = f"{i}.json"
    write_rows(folder, rows)
    run = config(base, folder, crop=crop, augmentation="off")
    data, _ = encode(run)
    assert data.description["crop"] == crop
    trainer = Trainer(run, data, transformer=STDRCPipeline.from_pretrained(base).transformer)
    pipe = STDRCPipeline.from_pretrained(base)
    pipe.load_lora_weights(trainer.fit())
    assert pipe.trained_crop == crop
    if kind == "pictures":
        image, box = Image.open(folder / "refs/2.png"), in_picture
    else:
        frame = VideoReader(folder / "clips/2.mp4").read([0])[0]
        image, box = Image.fromarray(frame), head if crop == "head" else BOX
    boxes = None if crop == "none" else [box]
    expected = pipe.encode_reference([image], 64, 64, boxes=boxes).tokens[0, 0]
    trained = data.references.gather(torch.tensor(data.choices[2]))[0]  # type: ignore
    torch.testing.assert_close(trained.flatten(1).T, expected, atol=1e-4, rtol=1e-4)


def test_a_crop_that_is_left_out_is_what_was_done(base: Path, folder: Path) -> None:
    assert encode(config(base, folder))[0].description["crop"] == "none"
    rows = read_rows(folder)
    for row in rows[:2]:
        del row["references"]
    write_rows(folder, rows)
    with pytest.raises(STDRCError, match=r"1 clips have reference pictures and 2 have none.* set"):
        encode(config(base, folder))
    del rows[2]["references"]
    write_rows(folder, rows)
    assert encode(config(base, folder))[0].description["crop"] == "face"
    with pytest.raises(STDRCError, match="no boxes of heads, which crop: head needs"):
        encode(config(base, folder, crop="head"))
    for row in rows:
        row["references"] = ["refs/0.png"]
    write_rows(folder, rows)
    with pytest.raises(STDRCError, match=r"no reference_boxes for all .* which crop: face needs"):
        encode(config(base, folder, crop="face"))
    rows[0]["reference_boxes"] = [BOX, BOX]
    write_rows(folder, rows)
    with pytest.raises(STDRCError, match="2 reference_boxes for 1 references"):
        encode(config(base, folder, crop="face"))


def test_references_of_half_the_size(base: Path, folder: Path) -> None:
    placement = {"when": "after", "downscale": 2}
    run = config(base, folder, placement=placement, augmentation="off", sample_every=2,
                 samples={"count": 1, "steps": 2})  # fmt: skip
    data, _ = encode(run)
    assert data.references.gather(torch.tensor([0])).shape[-2:] == (4, 4)  # type: ignore
    pipe = STDRCPipeline.from_pretrained(base)
    pipe.load_lora_weights(train(run))  # type: ignore[arg-type]
    assert pipe.trained_placement is not None
    assert pipe.trained_placement.downscale == 2
    frames = pipe("a face", reference=folder / "refs/0.png", height=64, width=64, num_frames=9,
                  num_inference_steps=2, seeds=0).frames  # fmt: skip
    assert np.isfinite(frames).all()
    with pytest.raises(STDRCError, match="one downscale for all placements"):
        config(base, folder, placement=placement, mixed_placements=["tass"])


def test_people_lend_each_other_references_only_with_pose(base: Path, folder: Path) -> None:
    data, _ = encode(config(base, folder))
    assert data.choices[0] == data.choices[1]  # type: ignore[index]
    assert len(data.choices[0]) == 6  # type: ignore[index]
    assert not set(data.choices[0]) & set(data.choices[2])  # type: ignore[index]
    data, _ = encode(config(base, folder, augmentation={"pose": False, "variants": 2}))
    assert [len(c) for c in data.choices] == [3, 3, 3]  # type: ignore[union-attr]
    data, _ = encode(config(base, folder, augmentation="off"))
    assert data.choices == [[0], [1], [2]]


def test_cache_is_used_and_keyed_by_content(base: Path, folder: Path) -> None:
    first, said = encode(config(base, folder))
    assert any("encoding 3 of 3 clips" in line for line in said)
    second, said = encode(config(base, folder, cache={"in_memory_gb": 0}))
    assert not any(line.startswith("encoding") for line in said)
    assert isinstance(second.latents, FileRows)
    index = torch.tensor([2, 0])
    assert torch.equal(first.latents.gather(index), second.latents.gather(index))  # type: ignore
    write_clip(folder / "clips/1.mp4", 9)
    _, said = encode(config(base, folder))
    assert any("encoding 1 of 3 clips" in line for line in said)
    _, said = encode(config(base, folder, augmentation={"variants": 2, "strength": 0.5}))
    assert any("encoding 6 of 9 references" in line for line in said)


def test_faces_are_mapped_to_tokens(base: Path, folder: Path) -> None:
    """80 pixels are cut to 64 around the box's centre, x 36: from x 4."""
    data, _ = encode(config(base, folder, face_weight=2.0))
    boxes, face = (data.rows(kind).gather(torch.tensor([0])) for kind in ("boxes", "face"))
    assert boxes[0, 0].tolist() == [16.0, 16.0, 48.0, 48.0]
    expected = torch.zeros(8, 8)
    expected[2:6, 2:6] = 1
    assert torch.equal(face[0, 1], expected)


def test_a_turned_clip_is_upright_and_its_boxes_fit(base: Path, folder: Path) -> None:
    """As a telephone writes it: stored on its side, with a matrix that turns it upright."""
    upright = VideoReader(folder / "clips/1.mp4").read(range(12))
    stored = np.rot90(upright, 1, (1, 2))  # a matrix turns it back, clockwise
    with av.open(str(folder / "clips/1.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=8, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = 80, 64, "yuv444p"
        stream.set_display_matrix([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30])
        for image in stored:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rows = read_rows(folder)
    rows[1]["boxes"] = [[70, 5, 79, 60]] * 12  # beyond the stored frame's 64 columns
    write_rows(folder, rows)
    again = VideoReader(folder / "clips/1.mp4").read(range(12)).astype(int)
    assert np.abs(again - upright).max() <= 3
    data, _ = encode(config(base, folder))
    assert len(data) == 3


def test_metadata_is_read_as_other_programs_write_it(base: Path, folder: Path) -> None:
    rows = read_rows(folder)
    rows[0]["caption"] = "a face\u2028that smiles\u0085"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    metadata = folder / "metadata.jsonl"
    metadata.write_text(text, encoding="utf-8-sig", newline="")
    entries, problems = read_folder(folder)
    assert (len(entries), problems) == (3, [])
    assert entries[0].caption == "a face\u2028that smiles"
    metadata.write_bytes(text.replace("smiles", "l\xe4chelt").encode("latin-1", "replace"))
    with pytest.raises(UnreadableTableError, match=r"metadata\.jsonl:1: not UTF-8.*as UTF-8"):
        read_folder(folder)


def test_all_problems_are_listed_at_once(base: Path, folder: Path) -> None:
    rows = read_rows(folder)
    (folder / "clips/junk.mp4").write_bytes(b"not a video" * 100)
    write_clip(folder / "clips/short.mp4", 1, frames=5)
    damaged = (folder / "clips/1.mp4").read_bytes()
    (folder / "clips/cut.mp4").write_bytes(damaged[: len(damaged) // 2])
    good = rows[0]
    bad = [
        {**good, "caption": " "},
        {**good, "video": "clips/junk.mp4"},
        {**good, "video": "clips/gone.mp4"},
        {**good, "video": "clips/cut.mp4"},
        {**good, "video": "clips/short.mp4"},
        {**good, "video": "../../secret.mp4"},
        {**good, "references": ["refs/9.png"]},
        {**good, "boxes": [[0, 0, 400, 30]] * 12},
        {**good, "boxes": [None] * 12},
        {**good, "boxes": ["a"]},
    ]
    write_rows(folder, [*rows, *bad])
    run = config(base, folder)
    with pytest.raises(STDRCError) as caught:
        encode(run)
    message = str(caught.value)
    assert message.startswith(f"{len(bad)} problems in the training data")
    for words in (
        "line 4: clips/0.mp4 has no caption", "junk.mp4: can't be opened as a video",
        "gone.mp4: can't be read (No such file", "cut.mp4: can't be opened as a video",
        "short.mp4: too short: 5 frames", "'../../secret.mp4' leads out of",
        "refs/9.png is missing", "12 boxes outside the 80 x 64 frame",
        "0.mp4: no face in any frame", "boxes must be a list",
    ):  # fmt: skip
        assert words in message
    data, said = encode(config(base, folder, on_bad_data="skip"))
    assert len(data) == 3
    assert any("10 problems" in line for line in said)


def test_sizes_the_model_cannot_take(base: Path, folder: Path) -> None:
    with pytest.raises(STDRCError, match=r"clip.frames is 8; this model takes 4k \+ 1.*9"):
        encode(config(base, folder, clip={"frames": 8, "height": 64, "width": 64}))
    with pytest.raises(STDRCError, match=r"clip.height is 60; .* multiples of 8"):
        encode(config(base, folder, clip={"frames": 9, "height": 60, "width": 64}))


class Gaze(torch.nn.Module):
    """Stands in for a face encoder where only the gradient's way matters."""

    crop_size = 16

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(crops, 4).flatten(1)


def test_lora_run_with_everything_on(base: Path, folder: Path) -> None:
    run = config(
        base, folder, face_weight=3.0, identity={"weight": 0.5, "max_sigma": 1.0, "frames": 2},
        ema={"decay": 0.9}, sample_every=2, samples={"count": 2, "steps": 2}, placement="far",
        gradient_checkpointing=True,
    )  # fmt: skip
    path = train(run, identity_encoder=Gaze())
    assert isinstance(path, Path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["stdrc"])
    assert about["steps"] == 2
    assert about["data"]["clips"] == 3
    assert about["clip"] == {"frames": 9, "height": 64, "width": 64, "fps": 8.0}
    assert len(about["base_hash"]) == 16
    strip = np.asarray(Image.open(run.output / "samples/step-0000002.png"))
    assert strip.shape == (2 * 64, 64 + 2 + 6 * 64, 3)
    assert list((run.output / "logs").glob("events*"))

    pipe = STDRCPipeline.from_pretrained(base)
    pipe.load_lora_weights(path)
    assert str(pipe.trained_placement) == "far"
    frames = pipe(
        "a face", reference=folder / "refs/0.png", height=64, width=64, num_frames=9,
        frame_rate=8.0, num_inference_steps=2, seeds=0,
    ).frames  # fmt: skip
    assert frames.shape == (1, 9, 64, 64, 3)


def test_identity_loss_through_a_matrix_needs_an_autoencoder_that_is_one(
    base: Path, folder: Path
) -> None:
    asked = {
        "weight": 0.5, "max_sigma": 1.0, "decoder": "linear", "rollout": 2, "encoder": "miniature",
    }  # fmt: skip
    with pytest.raises(STDRCError, match=r"set identity\.decoder: vae"):
        train(config(base, folder, identity=asked))
    lines: list[dict[str, float]] = []
    with pytest.raises(STDRCError, match=r"and pixels\.weight: 0"):
        train(config(base, folder, pixels={"weight": 0.5}))
    run = config(checkpoint(), folder, identity=asked, pixels={"weight": 0.5}, log_every=1)
    pipe = STDRCPipeline.from_pretrained(run.base, dtype=torch.float32)
    data = prepare(run, pipe)
    trainer = Trainer(
        run, data, transformer=pipe.transformer, vae=pipe.vae,
        identity_encoder=load_identity_encoder(),
        on_step=lambda _step, numbers: lines.append(numbers),
    )  # fmt: skip
    trainer.fit()
    assert trainer.identity is not None
    assert trainer.identity.linear is not None
    assert all(0 < line["identity"] < 2 for line in lines if "identity" in line)
    for name in ("identity", "rollout", "pixels"):
        assert any(name in line for line in lines), name


def test_full_run_with_connectors_is_a_pipeline_folder(base: Path, folder: Path) -> None:
    run = config(
        base, folder, mode="full", train_connectors=True, placement=None, steps=1,
        save_dtype="fp16", sample_every=1, samples={"count": 1, "steps": 2},
    )  # fmt: skip
    path = train(run)
    assert isinstance(path, Path)
    pipe = STDRCPipeline.from_pretrained(path)
    assert pipe.trained_placement is None
    assert pipe.config.default_size == {
        "height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0,
    }  # fmt: skip
    about = json.loads((path / "stdrc.json").read_text())
    assert about["mode"] == "full"
    before = STDRCPipeline.from_pretrained(base)

    def moved(name: str) -> float:
        old, new = getattr(before, name).state_dict(), getattr(pipe, name).state_dict()
        return max(float((old[k].float() - new[k].float()).abs().max()) for k in old)

    assert moved("vae") == 0
    assert moved("transformer") > 1e-5
    assert moved("connectors") > 1e-5


def test_consisid_portrait(base: Path, tmp_path: Path, media: Path) -> None:
    """ConsisID's own demo clip through ltx23-lora, on random small weights."""
    root = tmp_path / "data"
    (root / "videos").mkdir(parents=True)
    (root / "refine_bbox_jsons").mkdir()
    captions = json.loads((media / "clips/portrait_caption.json").read_text())
    name = captions[0]["path"]
    (root / "captions.json").write_text(json.dumps(captions))
    shutil.copy(media / "clips/portrait.mp4", root / "videos" / name)
    shutil.copy(
        media / "clips/portrait_boxes.json", root / "refine_bbox_jsons" / f"{Path(name).stem}.json"
    )
    settings = Path(__file__).parents[2] / "bench/configs/train/ltx23-lora.yaml"
    run = TrainConfig.load(
        settings,
        [
            f"base={base}", f"output={tmp_path / 'run'}", f"data=[{root}]", "steps=2",
            "clip.frames=9", "clip.height=96", "clip.width=64", "lora.rank=4", "sample_every=0",
            "batch_size=2", "accumulation=1", "augmentation.variants=2",
            "gradient_checkpointing=true",
        ],
    )  # fmt: skip
    assert run.placement["when"] == "after"

    class Means(torch.nn.Module):  # facenet's place: what matters here is the road
        crop_size = 8

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(crops, 2).flatten(1)

    assert run.identity.weight > 0
    path = train(run, identity_encoder=Means())
    assert isinstance(path, Path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["stdrc"])
        assert file.keys()
    assert about["data"]["clips"] == run.clip.windows
    assert about["data"]["references"] > 3  # other frames of the person, plain and augmented


def test_command_line(base: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.cli import main

    file = folder.parent / "run.yaml"
    file.write_text(json.dumps(config(base, folder).model_dump(mode="json")))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["train", str(file), *arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    code, _, err = call("--set", "step=1")
    assert code == 2
    assert "unknown key 'step'" in err.replace("\n", " ")
    code, out, _ = call("--set", "steps=1")
    assert code == 0
    assert out.strip().endswith("pytorch_lora_weights.safetensors")
    code, _, err = call("--set", "steps=1")
    assert code == 2
    assert "--resume" in err
    assert call("--set", "steps=2", "--resume")[0] == 0


def test_dry_run_trains_nothing(base: Path, folder: Path) -> None:
    run = config(base, folder)
    data = train(run, dry_run=True)
    assert isinstance(data, TrainingData)
    assert not (run.output / "checkpoints").exists()


class Average(torch.nn.Module):
    """A face's mean colour, doubled to be no unit vector."""

    crop_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.scale * (crops.mean(dim=(2, 3)) + 1.5)


def test_true_faces_are_embedded_once(base: Path, folder: Path) -> None:
    run = config(base, folder, identity={"alignment": 0.5, "margin": 0.0})
    pipe = STDRCPipeline.from_pretrained(run.base, transformer=None, audio_vae=None, vocoder=None)
    encoder, said = Average(), []
    data = prepare(run, pipe, encoder=encoder, say=said.append)
    assert "embedding the faces of 3 of 3 clips" in said
    assert data.identities is not None
    torch.testing.assert_close(data.identities.norm(dim=1), torch.ones(3))
    for i, clip in enumerate(sorted(folder.glob("clips/*.mp4"))):
        boxes = data.rows("boxes").gather(torch.tensor([i]))[0]
        pixels = VideoReader(clip).read([0, 4, 8])[:, :, 4:68].astype(np.float32) / 127.5 - 1
        found = []
        for frame, box in zip(pixels, boxes[[0, 4, 8]]):
            x0, y0, x1, y1 = (round(float(v)) for v in box)
            colour = torch.from_numpy(frame[y0:y1, x0:x1]).mean(dim=(0, 1)) + 1.5
            found.append(colour / colour.norm())
        mean = torch.stack(found).sum(dim=0)
        torch.testing.assert_close(data.identities[i], mean / mean.norm())
    said.clear()
    again = prepare(run, pipe, encoder=encoder, say=said.append)
    assert not any("faces" in line for line in said)
    torch.testing.assert_close(again.identities, data.identities, rtol=0, atol=0)
    with torch.no_grad():
        encoder.scale.neg_()  # another encoder
    prepare(run, pipe, encoder=encoder, say=said.append)
    assert "embedding the faces of 3 of 3 clips" in said
    with pytest.raises(STDRCError, match=r"needs an encoder that is a torch\.nn\.Module"):
        prepare(run, pipe, encoder=lambda crops: crops)


def test_validation_clips_are_drawn_with_the_weights_of_the_step_and_judged(
    base: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = tmp_path / "held-out"
    shutil.copytree(folder, held_out)
    section = {"data": str(held_out), "every": 2, "count": 2, "steps": 2}
    run = config(base, folder, steps=3, validation=section, optimizer={"lr": 0.05, "warmup": 0})
    seen: list[list[Any]] = []

    def judge(drawn: Any) -> dict[str, float]:
        seen.append(list(drawn))
        return {"identity.test": 0.25}

    with pytest.raises(STDRCError, match="validation needs a judge"):
        train(run)
    lora = train(run, judge=judge)
    assert [[d.video.parent.name for d in drawn] for drawn in seen] == [
        ["step-0000002"] * 2, ["step-0000003"] * 2,
    ]  # fmt: skip
    first, last = (drawn[0] for drawn in seen)
    assert first.prompt == "a face"
    assert (first.references, first.target) == (
        (held_out / "refs/0.png",), held_out / "clips/0.mp4",
    )  # fmt: skip
    assert "step 2/3  validation: identity.test 0.25" in capsys.readouterr().err
    videos = [VideoReader(d.video).read(range(9)) for d in (first, last)]
    assert videos[0].shape == (9, 64, 64, 3)
    assert (videos[0] != videos[1]).any()
    # The result draws the last of them by itself.
    pipe = STDRCPipeline.from_pretrained(base)
    pipe.load_lora_weights(lora)
    again = pipe(
        "a face", reference=held_out / "refs/0.png", seeds=1000, height=64, width=64, num_frames=9,
        frame_rate=8.0, num_inference_steps=2, guidance={"text": 3.0, "reference": 1.5},
    ).frames[0]  # fmt: skip
    write_video(tmp_path / "again.mp4", to_uint8(again), 8.0)
    drawn = VideoReader(tmp_path / "again.mp4").read(range(9)).astype(float)
    gaps = [float(np.abs(drawn - video).mean()) for video in videos]
    assert gaps[1] < 0.5 < gaps[0]


def test_validation_without_pictures_is_one_sentence(
    base: Path, folder: Path, tmp_path: Path
) -> None:
    held_out = tmp_path / "held-out"
    shutil.copytree(folder, held_out)
    write_rows(held_out, [{**row, "references": []} for row in read_rows(held_out)])
    run = config(base, folder, validation={"data": str(held_out)})
    with pytest.raises(STDRCError, match=r"clip .*0\.mp4 has no reference picture; name one"):
        train(run, judge=lambda _: {})
    with pytest.raises(STDRCError, match="validation goes without train_connectors"):
        config(base, folder, validation={"data": "x"}, mode="full", train_connectors=True)


def test_other_ranks_read_the_encodings_and_load_no_model(
    base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stdrc.training import run as running

    asked = config(base, folder)
    data, _ = encode(asked)
    sent = pickle.dumps(data.on_disk())
    monkeypatch.setattr(running, "broadcast_object_list", lambda _: [pickle.loads(sent)])
    monkeypatch.setattr(running, "_encoding_pipeline", lambda *_: pytest.fail("loaded a model"))
    second: Any = types.SimpleNamespace(num_processes=2, is_main_process=False)
    got = running._prepare(asked, second, None, lambda _: None)  # type: ignore[arg-type]
    everything = torch.arange(len(data))
    for kind in ("latents", "text", "references"):
        mine, theirs = (getattr(d, kind).tensor for d in (data, got))
        assert torch.equal(mine, theirs)
        assert mine.nbytes > 0
    assert got.choices == data.choices
    assert torch.equal(got.latents.gather(everything), data.latents.gather(everything))  # type: ignore[union-attr]
    small = data.on_disk().loaded(0.0)
    assert all(isinstance(getattr(small, kind), FileRows) for kind in ("latents", "text"))
