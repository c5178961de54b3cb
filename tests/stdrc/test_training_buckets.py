"""Clips of several shapes in one training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from media.video import VideoReader
from media.writing import write_video
from stdrc.errors import STDRCError
from stdrc.pipeline import STDRCPipeline
from stdrc.training import TrainConfig, TrainingData, train
from stdrc.training.config import ClipConfig
from stdrc.training.data import BatchSource, bucket_steps, seeded
from stdrc.training.encoding import prepare
from stdrc.training.folder import nearest_shape
from stdrc.training.loss import BatchLoss
from tests.stdrc.training_tiny import small_checkpoint, tiny_config, tiny_data

#: Height, width and frames of each video, two of one person; what it is cut to.
VIDEOS = [
    (64, 96, 12), (64, 98, 12), (96, 64, 12), (66, 96, 13), (64, 96, 20), (96, 64, 12), (64, 96, 25)
]  # fmt: skip
OWN, PORTRAIT, LONG = (3, 8, 12), (3, 12, 8), (5, 8, 12)  # of the latents
SHAPES = [OWN, OWN, PORTRAIT, OWN, LONG, PORTRAIT, LONG]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landscape, portrait and longer clips of two people."""
    root = tmp_path_factory.mktemp("mixed") / "data"
    (root / "refs").mkdir(parents=True)
    rows = []
    for i, (height, width, frames) in enumerate(VIDEOS):
        clip = np.random.default_rng(i).integers(0, 80, (1, height, width, 3))
        clip = np.repeat(clip, frames, axis=0).astype(np.uint8)
        clip[:, 20:44, 20:44] = 30 * i + 20
        write_video(root / f"clips/{i}.mp4", clip, 8.0)
        pixels = np.random.default_rng(100 + i).integers(0, 255, (50, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"refs/{i}.png")
        rows.append(
            {
                "video": f"clips/{i}.mp4", "caption": f"clip {i}", "identity": "ab"[i % 2],
                "references": [f"refs/{i}.png"], "boxes": [[20.0, 16.0, 52.0, 48.0]] * frames,
            }
        )  # fmt: skip
    (root / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return root


def config(base: Path, folder: Path, output: Path, **changes: object) -> TrainConfig:
    settings: dict = {
        "base": str(base), "output": str(output), "data": str(folder),
        "cache": {"folder": str(folder.parent / "cache")},
        "clip": {"frames": 9, "height": 64, "width": 96, "buckets": ["96x64x9", "64x96x17"]},
        "steps": 8, "batch_size": 2, "accumulation": 2, "lora": {"rank": 2}, "log_every": 1,
        "augmentation": {"variants": 1}, "face_weight": 2.0, "placement": "far",
    }  # fmt: skip
    return TrainConfig.from_dict({**settings, **changes})


class Gaze(torch.nn.Module):
    crop_size = 16

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(crops, 4).flatten(1)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each micro-batch holds, and its loss."""
    seen: list[dict[str, Any]] = []
    plain = BatchLoss.__call__

    def call(self: BatchLoss, batch: Any, generator: torch.Generator) -> Any:
        loss, parts = plain(self, batch, generator)
        tokens = [sequence.coords.shape[2] for sequence in self.sequences(batch)]
        shape = tuple(batch.latents.shape[2:])
        assert batch.reference is None or batch.reference.shape[2:] == (1, *shape[1:])
        seen.append(
            {"shape": shape, "clips": batch.clips.tolist(), "loss": float(loss.detach()),
             "parts": parts, "tokens": tokens}
        )  # fmt: skip
        return loss, parts

    monkeypatch.setattr(BatchLoss, "__call__", call)
    return seen


def test_a_mixed_folder_trains_a_shape_at_a_time_and_resumes_exactly(
    base: Path, folder: Path, tmp_path: Path, watched: list, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = {"data": str(folder), "every": 8, "count": 5, "steps": 2}
    how: dict[str, Any] = {
        "identity": {"weight": 0.5, "max_sigma": 1.0, "window": 3},
        "validation": validation, "sample_every": 8, "samples": {"count": 2, "steps": 2},
    }  # fmt: skip
    drawn: list[Any] = []

    def judge(videos: Any) -> dict[str, float]:
        drawn[:] = [VideoReader(d.video).info for d in videos]
        return {}

    run = config(base, folder, tmp_path / "whole", **how)
    lora = train(run, identity_encoder=Gaze(), judge=judge)
    said = capsys.readouterr().err
    assert "clips by shape: 64x96x9 3, 96x64x9 2, 64x96x17 2" in said
    assert "a step holds 4 clips and there are 2 of latents 3x12x8" in said
    whole = [dict(seen) for seen in watched]
    for seen in whole:
        frames, height, width = seen["shape"]
        assert {SHAPES[i] for i in seen["clips"]} == {seen["shape"]}
        assert np.isfinite(seen["loss"])
        # Positions are of the batch's own shape, with a reference as large as a frame of it.
        assert seen["tokens"] == [frames * height * width, (frames + 1) * height * width]
    steps = [whole[i]["shape"] for i in range(0, 16, 2)]
    assert steps == [whole[i]["shape"] for i in range(1, 16, 2)]  # a step is of one shape
    assert set(steps) == {OWN, PORTRAIT, LONG}
    assert any("identity" in seen["parts"] for seen in whole)
    assert [(d.height, d.width, d.count) for d in drawn] == [
        (64, 96, 9), (64, 96, 9), (96, 64, 9), (64, 96, 9), (64, 96, 17)
    ]  # fmt: skip
    assert Image.open(run.output / "samples/step-0000008.png").height == 2 * 64
    with safe_open(lora, framework="pt") as file:
        about = json.loads(file.metadata()["stdrc"])
    assert about["data"]["buckets"] == {"64x96x9": 3, "96x64x9": 2, "64x96x17": 2}
    assert about["clip"]["buckets"][1] == {"frames": 17, "height": 64, "width": 96}

    watched.clear()
    for steps in (3, 8):  # three steps are in the middle of an epoch
        train(
            config(base, folder, tmp_path / "cut", **{**how, "steps": steps}),
            identity_encoder=Gaze(), judge=judge, resume=True,
        )  # fmt: skip
    assert watched == whole
    cut, never = (load_file(tmp_path / name / lora.name) for name in ("cut", "whole"))  # type: ignore[union-attr]
    assert all(torch.equal(cut[key], never[key]) for key in never)


def test_buckets_that_no_video_takes_change_nothing(
    base: Path, folder: Path, tmp_path: Path
) -> None:
    """One shape is trained on as if there were no buckets, to the bit."""
    found = []
    for name, clip in (
        ("plain", {}), ("same", {"buckets": ["64x96x9"]}), ("unused", {"buckets": ["64x96x97"]})
    ):  # fmt: skip
        run = config(
            base, folder, tmp_path / name, steps=2,
            clip={"frames": 9, "height": 64, "width": 96, **clip},
        )  # fmt: skip
        found.append(load_file(train(run)))  # type: ignore[arg-type]
    for other in found[1:]:
        assert all(torch.equal(other[key], found[0][key]) for key in found[0])


def test_one_shape_is_a_walk_through_shuffled_epochs(tmp_path: Path) -> None:
    source = BatchSource(tiny_data(6), tiny_config(tmp_path, accumulation=2), rank=1, world=2)
    orders = [torch.randperm(6, generator=seeded(0, "order", epoch)) for epoch in range(4)]
    walk = torch.cat(orders).tolist()
    for number in range(4):
        at = (2 * number + 1) * 3
        assert source.clips(number).tolist() == walk[at : at + 3]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 3000), st.integers(0, 9)
)
def test_steps_are_shared_out_by_clips(clips: list[int], steps: int, seed: int) -> None:
    found = bucket_steps(clips, steps, seed)
    for bucket, count in enumerate(clips):
        nth = [k for b, k in found if b == bucket]
        assert nth == list(range(len(nth)))
        assert abs(len(nth) - steps * count / sum(clips)) <= len(clips)
    assert bucket_steps(clips, steps + 700, seed)[:steps] == found


def test_every_rank_draws_the_same_shapes_and_another_number_the_same_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = mixed_data()
    one = BatchSource(data, tiny_config(tmp_path, batch_size=1, accumulation=4))
    two = [
        BatchSource(data, tiny_config(tmp_path, batch_size=1, accumulation=2), rank=r, world=2)
        for r in (0, 1)
    ]
    for step in range(30):
        shapes = {tuple(s.batch(2 * step + i).latents.shape[2:]) for s in two for i in (0, 1)}
        assert len(shapes) == 1
        of_two = [int(s.clips(2 * step + i)) for i in (0, 1) for s in two]
        assert [int(one.clips(4 * step + i)) for i in range(4)] == of_two
    drawn: list[int] = []

    def sigmas(count: int, tokens: int, *_: Any) -> torch.Tensor:
        drawn.append(tokens)
        return torch.full((count,), 0.5)

    monkeypatch.setattr("stdrc.training.data.draw_sigmas", sigmas)
    latents = [one.batch(4 * step).latents for step in range(30)]
    assert drawn == [latent[0, 0].numel() for latent in latents]  # the noise is the shape's
    ordered = [one.bucket(4 * step) for step in range(30)]
    assert ordered != sorted(ordered)


def mixed_data(**changes: Any) -> TrainingData:
    """Six clips 4 x 2 x 3 x 3 and three 4 x 2 x 4 x 2, each its own reference."""
    clips = [torch.randn(4, 2, 3, 3) for _ in range(6)] + [torch.randn(4, 2, 4, 2)] * 3
    return TrainingData(
        latents=clips, text=torch.randn(9, 5, 16), null_text=torch.randn(5, 16), fps=8.0,
        references=[clip[:, :1] for clip in clips],
        **{"buckets": [range(6), range(6, 9)], **changes},
    )  # fmt: skip


def test_buckets_name_each_clip_once() -> None:
    with pytest.raises(STDRCError, match="buckets must name each of the 9 clips once"):
        mixed_data(buckets=[range(6), range(5, 9)])
    with pytest.raises(STDRCError, match="holds an empty one"):
        mixed_data(buckets=[range(9), []])


def test_a_video_takes_the_shape_that_it_fills() -> None:
    clip = ClipConfig(frames=9, height=64, width=96, buckets=["96x64x9", "64x96x17", "128x192x17"])

    def taken(height: int, width: int, count: int, fps: float = 8.0) -> str:
        return nearest_shape(height, width, count, fps, clip.shapes).name

    assert taken(720, 1280, 9) == "64x96x9"
    assert taken(1280, 720, 40) == "96x64x9"
    assert taken(720, 1280, 40) == "128x192x17"
    assert taken(100, 150, 40) == "64x96x17"  # the other would be enlarged
    assert taken(720, 1280, 3) == "64x96x9"  # reported as too short
    # Of a video of 30 frames a second every third or so is taken.
    slow = clip.model_copy(update={"fps": 10.0})
    assert nearest_shape(720, 1280, 48, 30.0, slow.shapes).name == "64x96x9"
    assert nearest_shape(720, 1280, 49, 30.0, slow.shapes).name == "128x192x17"


def test_shapes_that_cannot_be(base: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(STDRCError, match=r"clip.*buckets.*'96x64' is not HEIGHTxWIDTHxFRAMES"):
        config(base, folder, tmp_path, clip={"buckets": ["96x64"]})
    pipe = STDRCPipeline.from_pretrained(base)
    with pytest.raises(STDRCError, match=r"height is 60 in the bucket 60x64x9; .* multiples of 8"):
        prepare(config(base, folder, tmp_path, clip={"buckets": ["60x64x9"]}), pipe)
