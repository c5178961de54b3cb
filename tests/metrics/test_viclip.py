"""ViCLIP on small random weights in the published layout, against its published forward pass."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metrics.errors import MetricsError
from metrics.features.models import Models
from metrics.features.networks.text import VideoTextModel
from metrics.features.networks.viclip import ViCLIP, middle_frames
from metrics.text import CLIPScore, OverallConsistency

WIDTH, LAYERS, PATCH, GRID, FRAMES, OUT = 64, 2, 8, 4, 8, 16


class Block(nn.Module):
    """A residual block as ViCLIP's repository writes it: tokens first."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, WIDTH // 64)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH)}
        )

    def forward(self, x, mask=None):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        hidden = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))


class Published(nn.Module):
    """Both encoders with the published file's names, and forward passes that restate its own."""

    def __init__(self):
        super().__init__()
        seen = self.vision_encoder = nn.Module()
        seen.conv1 = nn.Conv3d(3, WIDTH, (1, PATCH, PATCH), (1, PATCH, PATCH), bias=False)
        seen.class_embedding = nn.Parameter(torch.randn(WIDTH))
        seen.positional_embedding = nn.Parameter(torch.randn(GRID**2 + 1, WIDTH))
        seen.temporal_positional_embedding = nn.Parameter(torch.randn(1, FRAMES, WIDTH))
        seen.ln_pre, seen.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        seen.proj = nn.Parameter(torch.randn(WIDTH, OUT))
        read = self.text_encoder = nn.Module()
        read.token_embedding = nn.Embedding(49408, WIDTH)
        read.positional_embedding = nn.Parameter(torch.randn(32, WIDTH))
        read.ln_final = nn.LayerNorm(WIDTH)
        read.text_projection = nn.Parameter(torch.randn(WIDTH, OUT))
        for encoder in (seen, read):
            encoder.transformer = nn.Module()
            encoder.transformer.resblocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.temp = nn.Parameter(torch.ones([]))

    def video(self, pixels):  # [B, 3, T, S, S]
        e = self.vision_encoder
        x = e.conv1(pixels)
        b, c, t, h, w = x.shape
        x = x.permute(0, 2, 3, 4, 1).reshape(b * t, h * w, c)
        x = torch.cat([e.class_embedding.expand(b * t, 1, c), x], dim=1) + e.positional_embedding
        first, x = x[:b, :1], x[:, 1:]
        x = x.reshape(b, t, h * w, c).permute(0, 2, 1, 3).reshape(b * h * w, t, c)
        x = x + e.temporal_positional_embedding
        x = torch.cat([first, x.reshape(b, h * w * t, c)], dim=1)
        x = e.ln_pre(x).permute(1, 0, 2)
        for block in e.transformer.resblocks:
            x = block(x)
        return e.ln_post(x)[0] @ e.proj

    def text(self, ids):
        e = self.text_encoder
        mask = torch.empty(32, 32).fill_(float("-inf")).triu_(1)
        x = (e.token_embedding(ids) + e.positional_embedding).permute(1, 0, 2)
        for block in e.transformer.resblocks:
            x = block(x, mask)
        x = e.ln_final(x.permute(1, 0, 2))
        return x[torch.arange(len(ids)), ids.argmax(dim=-1)] @ e.text_projection


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    torch.manual_seed(0)
    network = Published().eval()
    path = tmp_path_factory.mktemp("viclip") / "viclip.pth"
    torch.save({"model": network.state_dict()}, path)
    return network, path


def clip(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def vbench_indices(count: int, wanted: int = 8) -> list[int]:
    """VBench's get_frame_indices with sample="middle"."""
    acc = min(wanted, count)
    edges = np.linspace(start=0, stop=count, num=acc + 1).astype(int)
    found = [(a + b - 1) // 2 for a, b in pairwise(edges)]
    return found + [found[-1]] * (wanted - len(found))


def test_middle_frames_are_vbenchs():
    for count in range(1, 60):
        assert middle_frames(count).tolist() == vbench_indices(count)


@pytest.mark.parametrize("count", [3, 8, 29])
def test_overall_consistency_is_vbenchs(published, count):
    network, path = published
    prompt = "a woman in a red coat waves, and turns around slowly in front of a wide green door"
    video = clip(count)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1, 1)
    taken = torch.from_numpy(video[vbench_indices(count)]).permute(3, 0, 1, 2).float() / 255
    model = ViCLIP(path)
    assert isinstance(model, VideoTextModel)
    ids = model._tokenizer([prompt])
    assert ids.shape == (1, 32)
    with torch.no_grad():
        seen = network.video(((taken - mean) / std)[None])
        expected = float(F.cosine_similarity(seen, network.text(ids.int()))[0])
    metric = OverallConsistency(weights={"viclip.l14": path})
    metric.update(video, prompt=prompt)
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-6)
    score = CLIPScore("viclip", "video", models=Models(weights={"viclip.l14": path}))
    score.update(video, prompt)
    assert float(score.compute()) == pytest.approx(max(0, 100 * expected), abs=1e-4)


def test_long_prompts_are_cut_with_a_remark_and_other_files_refused(published, tmp_path):
    metric = OverallConsistency(weights={"viclip.l14": published[1]})
    (video,) = metric.videos_of(clip(8), prompt="word " * 40)
    found = metric.measure(video)
    assert found.detail["tokens"] == 42
    assert "the rest was cut" in found.reason
    state = published[0].state_dict()
    del state["vision_encoder.ln_post.bias"]
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(MetricsError, match="isn't ViCLIP"):
        ViCLIP(tmp_path / "other.pth")
