"""From real clips to a leaderboard: the three commands of docs/training.md on small settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from bench.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "own"
RULES = ["--set", "every=40", "--set", "several=1.0", "--set", "cut=0.9"]


@pytest.fixture(scope="module")
def source(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ConsisID's layout with the boxes of one of two clips."""
    pytest.importorskip("dlib")
    folder = tmp_path_factory.mktemp("own") / "clips"
    (folder / "refine_bbox_jsons").mkdir(parents=True)
    (folder / "videos").symlink_to(media / "clips")
    shutil.copyfile(
        media / "clips" / "portrait_boxes.json", folder / "refine_bbox_jsons" / "portrait.json"
    )
    caption = json.loads((media / "clips" / "portrait_caption.json").read_text())[0]["cap"]
    rows = [
        {"path": "portrait.mp4", "cap": caption},
        {"path": "ensemble_1080p.mp4", "cap": "people talk in a room"},
    ]
    (folder / "captions.json").write_text(json.dumps(rows))
    return folder


def call(*words: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_the_documented_road(
    source: Path, random_small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, lora = tmp_path / "data", tmp_path / "lora"
    given = ["--out", str(data), "--faces", "dlib", "--device", "cpu", *RULES]
    assert call("prepare", str(source), *given) == 0
    report = json.loads((data / "report.json").read_text())
    assert report["kept"] == 2
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    boxes = {len(row["boxes"]): sum(b is not None for b in row["boxes"]) for row in rows}
    assert boxes[244] > 200  # the given ones
    assert boxes[105] > 50

    changes = [
        f"base={random_small}", f"data=[{data}]", f"output={lora}", "steps=2", "lora.rank=2",
        "clip.frames=5", "clip.height=32", "clip.width=32", "clip.windows=1",
    ]  # fmt: skip
    overrides = [part for change in changes for part in ("--set", change)]
    assert call("train", str(EXAMPLES / "train.yaml"), *overrides) == 0

    config = yaml.safe_load((EXAMPLES / "bench.yaml").read_text())
    config["evalset"]["path"] = str(data / "evalset.csv")
    config["generator"]["checkpoint"] = str(random_small)
    config["generator"]["variants"]["own"]["path"] = str(lora / "pytorch_lora_weights.safetensors")
    config["sweep"] = {"base": {"steps": 2, "height": 32, "width": 32, "num_frames": 5}}
    config["metrics"]["names"] = ["temporal.flicker"]
    config["run"] = str(tmp_path / "run")
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(config))
    assert call("bench", str(tmp_path / "bench.yaml")) == 0
    assert (tmp_path / "run" / "leaderboard" / "index.html").is_file()


@pytest.fixture(scope="module")
def random_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from miniature.build import MiniatureConfig, build_random

    config = MiniatureConfig(
        heads=2, layers=1, latent_channels=8, vae_channels=(8, 16), decoder_channels=(16, 16),
        text_width=16, text_layers=1,
    )  # fmt: skip
    return build_random(tmp_path_factory.mktemp("base") / "random", config)
