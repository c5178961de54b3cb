"""A preset fills a paper's table from a folder of videos by one command, on stand-in networks."""

import csv
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.cli import main
from metrics.features import base
from metrics.features.networks.flow import DISFlow
from metrics.features.networks.text import TextFeatures
from metrics.features.protocol import AlignedFeature
from metrics.presets import PRESETS
from metrics.smoothness import MotionSmoothness
from metrics.weights import WEIGHTS
from tests.media.clips import write_video
from tests.metrics.test_passes import networks  # noqa: F401  the faces' stand-ins


class Colours:
    """Stands for every network of frames and prompts: mean colours in 768 numbers."""

    name, version, scale, limit, frames = "colours", "1", 100.0, 77, 8

    def __init__(self, *_, **__) -> None:
        pass

    def encode(self, frames):
        rows = torch.from_numpy(frames).float().mean(dim=(1, 2)) / 255 + 0.1
        return torch.cat([rows, torch.zeros(len(rows), 765)], dim=1)

    def encode_text(self, prompts):
        return TextFeatures(torch.ones(len(prompts), 768), (4,) * len(prompts), 77)

    def cosines(self, clips, prompts):
        return [0.25]

    def tokens(self, prompt):
        return 4


class Quality(Colours):
    def encode(self, frames):
        return torch.full((len(frames), 1), 60.0)


class Mean:
    version = "mean"

    def between(self, first, second):
        return ((first.astype(int) + second) // 2).astype(np.uint8)


@pytest.fixture
def folder(networks, tmp_path, monkeypatch):  # noqa: F811
    """Files for all weights, networks that stand for theirs, and two videos of unequal size."""
    weights = tmp_path / "weights"
    for info in WEIGHTS.values():
        path = weights / info.file
        if info.file.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            path = path / "config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stands for weights")
    torch.save(nn.Linear(768, 1).state_dict(), weights / WEIGHTS["laion.linear"].file)
    widths = (768, 1024, 128, 64, 16, 1)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    deep = {f"layers.{i}.{k}": v for i, m in zip((0, 2, 4, 6, 7), layers)
            for k, v in m.state_dict().items()}  # fmt: skip
    torch.save(deep, weights / WEIGHTS["laion.mlp"].file)
    monkeypatch.setenv("STDRC_WEIGHTS", str(weights))
    (tmp_path / "pyiqa.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("metrics.features.frames.load", lambda target: Colours)
    monkeypatch.setattr("metrics.features.networks.quality.PyIQA", Quality)
    monkeypatch.setattr("metrics.features.networks.flow.RAFTFlow", lambda *_, **__: DISFlow())
    monkeypatch.setattr(MotionSmoothness, "_load", lambda metric: Mean())
    inception = AlignedFeature("protocol.inception", lambda f: torch.ones(len(f), 8), "1")
    entry = (base._BUILDERS["protocol.inception"][0], lambda models: inception)
    monkeypatch.setitem(base._BUILDERS, "protocol.inception", entry)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, side in (("a", 64), ("b", 96)):
        noise = np.random.default_rng(side).integers(0, 256, (17, side, side, 3), dtype=np.uint8)
        write_video(videos / f"{name}.mp4", noise)
        Image.fromarray(noise[0]).save(tmp_path / "face.png")
    return tmp_path


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_fills_its_columns_for_every_video(folder, name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["score", str(folder / "videos"), "--reference", str(folder / "face.png"), "--prompt",
              "A person smiles.", "--metrics", name, "--out", str(folder / "out")])  # fmt: skip
    said = capsys.readouterr()
    with (folder / "out/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = [column.metric for column in PRESETS[name].columns.values() if column.metric]
    filled = {(r["metric"], r["key"]) for r in rows if r["status"] == "ok"}
    assert filled >= {(m, v) for m in columns for v in ("a.mp4", "b.mp4")}, said.out + said.err
    for column in PRESETS[name].lacking:
        assert f"{name} {column}" in " ".join(said.out.split())
    assert ("has no metric here" in said.out) == bool(PRESETS[name].lacking)
    assert ended.value.code == 0, said.err
    shown = dict(published(said.out, name))
    for column, of in PRESETS[name].columns.items():
        values = [float(r["value"]) for r in rows if r["metric"] == of.metric]
        if of.metric:
            mean = sum(values) / 2 * (100 if name in ("opens2v", "vbench") else 1)
            assert float(shown.pop(column)) == pytest.approx(mean, rel=1e-3, abs=5e-3)
        else:
            assert shown.pop(column) == "-"
    assert list(shown) == {"opens2v": ["TotalScore"], "vbench": ["quality score"]}.get(name, [])
    if name == "vbench":
        at = {r["metric"]: 0.0 for r in rows}
        for row in rows:
            at[row["metric"]] += float(row["value"]) / 2
        quality = (  # VBench's scripts/cal_final_score.py
            (at["temporal.subject_consistency"] - 0.1462) / (1 - 0.1462)
            + (at["temporal.background_consistency"] - 0.2615) / (1 - 0.2615)
            + (at["temporal.flicker"] - 0.6293) / (1 - 0.6293)
            + (at["motion.smoothness"] - 0.706) / (0.9975 - 0.706)
            + at["vbench.dynamic_degree"] * 0.5
            + at["vbench.aesthetic_quality"]
            + at["vbench.imaging_quality"]
        ) / 6.5
        assert float(shown["quality score"]) == pytest.approx(100 * quality, abs=0.01)
    assert " ".join(PRESETS[name].total.replace("`", "'").split()) in " ".join(said.out.split())
    if name == "opens2v":
        assert shown["TotalScore"] == "-"  # three of its columns come from elsewhere


def published(said: str, name: str):
    """Columns and values of a preset's table, by the names of its paper."""
    table = said[said.index(f"{name}: {PRESETS[name].source.split(',')[0]}") :]
    lines = table.splitlines()
    start = next(i for i, line in enumerate(lines) if "───" in line)
    for line in lines[start + 1 :]:
        if not line.strip():
            return
        column, value, *_ = re.split(r" {2,}", line.strip())
        yield column, value
