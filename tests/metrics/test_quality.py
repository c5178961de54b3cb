"""Quality networks on random weights in their published layout, against plain restatements."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.functional.multimodal.clip_iqa import _clip_iqa_compute

from metrics.errors import MetricsError
from metrics.features.frames import FrameFeature
from metrics.features.models import Models
from metrics.features.networks.quality import AestheticHead, PyIQA
from metrics.features.networks.text import TextFeatures
from metrics.protocols import opens2v_frames
from metrics.quality import Aesthetics, ClipIQA, ImageQuality, OpenS2VAesthetics, VBenchAesthetics
from metrics.smoothness import AMT, MotionSmoothness


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


class Colours:
    """Stands for CLIP: 768 numbers that are a function of a frame's mean colour."""

    name, version = "colours", "1"

    def encode(self, frames):
        mean = torch.from_numpy(frames).double().mean(dim=(1, 2)) / 255
        return torch.sin(mean @ torch.arange(3 * 768).reshape(3, 768).double()).float()

    def encode_text(self, prompts):
        rows = torch.stack([torch.cos(torch.arange(768) * (len(p) + 1.0)) for p in prompts])
        return TextFeatures(rows, (4,) * len(prompts), 77)


def improved() -> nn.Sequential:
    """The improved predictor as its repository writes it."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(768, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2),
        nn.Linear(128, 64), nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    ).eval()  # fmt: skip


@pytest.fixture
def models(tmp_path):
    whole = {f"layers.{k}": v for k, v in improved().state_dict().items()}
    whole["layers.7.bias"] = torch.tensor([5.0])
    torch.save(whole, tmp_path / "mlp.pth")
    torch.manual_seed(2)
    torch.save(nn.Linear(768, 1).state_dict(), tmp_path / "linear.pth")
    weights = {"laion.mlp": tmp_path / "mlp.pth", "laion.linear": tmp_path / "linear.pth"}
    made = Models(weights=weights)
    for name in ("clip_l14.rgb", "clip_l14.vbench", "clip.rgb"):
        made.add_feature(FrameFeature(name, Colours()))
    return made


def test_aesthetics_are_the_published_networks(models, tmp_path):
    clip = noise(0, 40, 8, 9)
    network = improved()
    with torch.no_grad():
        network[7].bias.fill_(5.0)
        raw = network(F.normalize(Colours().encode(clip), dim=-1))[:, 0]
    ours, theirs = Aesthetics(models=models), OpenS2VAesthetics(models=models)
    for metric in (ours, theirs):
        metric.update(clip)
    assert float(ours.compute()) == pytest.approx(float(raw.mean()), abs=1e-5)
    expected = (min(max(float(raw[opens2v_frames(40)].mean()), 4.0), 7.0) - 4) / 3
    assert float(theirs.compute()) == pytest.approx(expected, abs=1e-5)
    short = OpenS2VAesthetics(models=models)
    short.update(clip[:5])  # 32 frames of 5, the repeats counted
    expected = (float(raw[opens2v_frames(5)].mean()) - 4) / 3
    assert float(short.compute()) == pytest.approx(expected, abs=1e-5)

    vbench = VBenchAesthetics(models=models)
    vbench.update(clip)
    linear = nn.Linear(768, 1)
    linear.load_state_dict(torch.load(tmp_path / "linear.pth"))
    with torch.no_grad():
        scores = linear(F.normalize(Colours().encode(clip), dim=-1)).squeeze() / 10
    assert float(vbench.compute()) == pytest.approx(float(scores.mean()), abs=1e-6)
    assert ours.version != vbench.version


def test_a_head_of_another_network_is_refused(models, tmp_path):
    with pytest.raises(MetricsError, match="does not fit"):
        AestheticHead(tmp_path / "linear.pth", deep=True)
    with pytest.raises(MetricsError, match="laion-linear"):
        VBenchAesthetics(models=Models(weights={"laion.linear": tmp_path / "laion-linear"}))


def test_clip_iqa_is_torchmetrics_formula(models, monkeypatch):
    monkeypatch.setattr("metrics.quality.text_model", lambda *_: Colours())
    clip = noise(3, 6, 8, 8)
    metric = ClipIQA(models=models)
    metric.update(clip)
    anchors = F.normalize(Colours().encode_text(list(ClipIQA.words)).features, dim=-1)
    rows = F.normalize(Colours().encode(clip), dim=-1)
    theirs = _clip_iqa_compute(rows, anchors, ["quality"], format_as_dict=False)
    assert float(metric.compute()) == pytest.approx(float(theirs.mean()), abs=1e-6)


def test_musiq_is_pyiqas_with_vbenchs_preprocessing(tmp_path):
    arch = pytest.importorskip("pyiqa.archs.musiq_arch")
    from torchvision.transforms import Resize

    torch.manual_seed(0)
    network = arch.MUSIQ(pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "musiq.pth")
    clip = noise(0, 2, 60, 600)
    planes = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
    scale = 512.0 / 600
    small = Resize(size=(int(scale * 60), int(scale * 600)), antialias=False)(planes) / 255
    with torch.no_grad():
        whole = [float(network(f[None] / 255)) for f in planes]
        reduced = [float(network(f[None])) for f in small]
    assert PyIQA("musiq", tmp_path / "musiq.pth").encode(clip)[:, 0].tolist() == (
        pytest.approx(whole, abs=1e-4)
    )
    vbench = ImageQuality("musiq.vbench", weights={"musiq.spaq": tmp_path / "musiq.pth"})
    vbench.update(clip)
    assert float(vbench.compute()) == pytest.approx(np.mean(reduced) / 100, abs=1e-6)


def test_maniqa_is_what_pyiqa_makes_of_its_koniq_file(tmp_path, monkeypatch):
    """One crop in the place of twenty, and a random ViT: pyiqa's own settings decide the rest."""
    arch = pytest.importorskip("pyiqa.archs.maniqa_arch")
    from pyiqa import create_metric

    vit = arch.timm.create_model
    monkeypatch.setattr(arch.timm, "create_model", lambda name, pretrained: vit(name))
    torch.manual_seed(0)
    theirs = create_metric("maniqa", pretrained=False, test_sample=1, device="cpu")
    torch.save(theirs.net.state_dict(), tmp_path / "maniqa.pt")
    ours = PyIQA("maniqa", tmp_path / "maniqa.pt")
    ours._model.test_sample = 1
    (clip,) = noise(0, 1, 240, 250)[None]
    with torch.no_grad():
        expected = theirs.net(torch.from_numpy(clip).permute(0, 3, 1, 2) / 255)
    assert float(ours.encode(clip)) == pytest.approx(float(expected), abs=1e-6)


# --- motion smoothness


class Mean:
    """Stands for AMT: the mean of two images, cut to bytes as VBench does."""

    version = "mean"

    def between(self, first, second):
        return AMT(lambda a, b, t: (a + b) * t, "1").between(first, second)


def vbench_smoothness(frames: np.ndarray) -> float:
    """VBench's script on frames uint8 [T, H, W, 3] with the mean for AMT."""
    even = [torch.tensor(f).permute(2, 0, 1)[None] / 255.0 for f in frames[::2]]
    outputs = [even[0]]
    for a, b in pairwise(even):
        outputs += [(a + b) * 0.5, b]
    images = [
        (o * 255.0).squeeze(0).permute(1, 2, 0).numpy().clip(0, 255).astype(np.uint8)
        for o in outputs
    ]
    between, truth = images[1::2], frames[1::2]
    scores = [np.mean(cv2.absdiff(truth[i], between[i])) for i in range(len(between))]
    return (255.0 - np.mean(scores)) / 255.0


@pytest.mark.parametrize("count", [3, 4, 9, 12])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 12])
def test_smoothness_is_vbenchs_whatever_the_chunks(count, chunk):
    clip = noise(count, count, 17, 20)  # of no multiple of 16
    metric = MotionSmoothness(Mean())
    for start in range(0, count, chunk):
        metric.update(clip[start : start + chunk], start=start == 0)
    assert float(metric.compute()) == pytest.approx(vbench_smoothness(clip), abs=1e-9)


def test_smoothness_falls_with_the_size_of_jerks():
    ramp = np.arange(9) * 8.0

    def jerky(size: float) -> float:
        levels = ramp + size * (np.arange(9) % 2)
        frames = np.broadcast_to(levels[:, None, None, None], (9, 16, 16, 3)).astype(np.uint8)
        metric = MotionSmoothness(Mean())
        metric.update(frames)
        return float(metric.compute())

    values = [jerky(size) for size in (0, 10, 30, 60)]
    assert all(a > b for a, b in pairwise(values))
    assert values[0] > 0.99


def test_a_scripted_network_is_loaded_and_a_wrong_one_refused(tmp_path):
    class Halfway(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, t: torch.Tensor):
            return {"imgt_pred": a * t + b * t}

    class Small(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, t: torch.Tensor):
            return a[:, :, ::2]

    clip = noise(0, 5, 20, 40)
    for network, name in ((Halfway(), "amt.pt"), (Small(), "small.pt")):
        torch.jit.script(network).save(str(tmp_path / name))
    metric = MotionSmoothness(weights={"amt.torchscript": tmp_path / "amt.pt"})
    metric.update(clip)
    assert float(metric.compute()) == pytest.approx(vbench_smoothness(clip), abs=1e-6)
    with pytest.raises(MetricsError, match="no image of the size"):
        MotionSmoothness(weights={"amt.torchscript": tmp_path / "small.pt"}).update(clip)
    with pytest.raises(MetricsError, match=r"amt-s\.pt"):
        MotionSmoothness()
    short = MotionSmoothness(Mean())
    short.update(clip[:2])
    with pytest.raises(MetricsError, match="no video"):
        short.compute()
