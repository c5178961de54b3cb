"""The model wrappers, on tiny random checkpoints of the real classes, saved and loaded here."""

import json

import numpy as np
import open_clip
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchvision.models.optical_flow import raft_small
from transformers import (
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
)

from metrics.catalogue import metric_info
from metrics.distribution import FeatureEncoder
from metrics.errors import MetricsError
from metrics.features.clips import crop_short_side
from metrics.features.networks.clip import OpenCLIP, TransformersCLIP
from metrics.features.networks.flow import RAFTFlow
from metrics.features.networks.image import DINO, ScriptedInception
from metrics.features.networks.loading import load_tensors, model_hash, read_tensors
from metrics.features.networks.lpips import LPIPS
from metrics.features.networks.video import I3D, VJEPA2, VideoMAE, VideoMAEv2
from metrics.leakage import CropDistance, PerceptualDistance, crop_lpips
from metrics.motion import FlowBackend, warping_error
from metrics.temporal import feature_consistency


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


# --- DINO


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=224,
        patch_size=16,
    )
    network = ViTModel(config, add_pooling_layer=False).eval()
    network.save_pretrained(folder)
    return folder, network


def test_dino_equals_its_network_one_frame_at_a_time(dino):
    folder, network = dino
    frames = noise(0, 5, 224, 224)
    encoder = DINO(folder, batch_size=2)
    assert isinstance(encoder, FeatureEncoder)
    features = encoder.encode(frames)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for frame, feature in zip(frames, features, strict=True):
        image = ((torch.from_numpy(frame) / 255 - mean) / std).permute(2, 0, 1)[None]
        with torch.no_grad():
            plain = network(image).last_hidden_state[0, 0]
        torch.testing.assert_close(feature, plain, rtol=1e-4, atol=1e-5)


def test_dino_keeps_the_aspect_ratio(dino):
    features = DINO(dino[0]).encode(noise(0, 2, 60, 107))
    assert features.shape == (2, 16)
    assert torch.isfinite(features).all()


def test_a_version_follows_the_weights(dino, tmp_path):
    folder, network = dino
    first = DINO(folder)
    assert first.version == DINO(folder).version
    assert first.name == f"dino:{folder.name}"
    changed = ViTModel(network.config, add_pooling_layer=False)
    changed.load_state_dict(network.state_dict())
    with torch.no_grad():
        changed.layernorm.bias[0] += 1
    changed.save_pretrained(tmp_path)
    assert DINO(tmp_path).version != first.version


def test_a_checkpoint_without_a_tensor_is_refused_not_filled_in(dino, tmp_path):
    _, network = dino
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("layernorm")}
    network.config.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MetricsError, match="lacks 2 tensor"):
        DINO(tmp_path)


# --- video models


@pytest.fixture(scope="module")
def videomae_config():
    return VideoMAEConfig(
        image_size=32,
        patch_size=16,
        num_frames=4,
        tubelet_size=2,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
    )


def test_videomae_features_are_what_its_classifier_sees(videomae_config, tmp_path):
    torch.manual_seed(0)
    network = VideoMAEForVideoClassification(videomae_config).eval()
    network.save_pretrained(tmp_path)
    encoder = VideoMAE(tmp_path, batch_size=2)
    videos = noise(1, 3, 4, 32, 32)
    features = encoder.encode(videos)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(videos) / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        logits = network(pixels).logits
    torch.testing.assert_close(network.classifier(features).detach(), logits, rtol=1e-4, atol=1e-5)


def test_videomae_samples_long_videos_evenly_and_refuses_short_ones(videomae_config, tmp_path):
    VideoMAEModel(videomae_config).save_pretrained(tmp_path)
    encoder = VideoMAE(tmp_path)
    assert encoder.frames == 4
    video = noise(2, 1, 10, 40, 50)
    taken = video[:, [0, 3, 6, 9]]
    torch.testing.assert_close(encoder.encode(video), encoder.encode(taken))
    with pytest.raises(MetricsError, match="needs 4 frames and the video has 3"):
        encoder.encode(video[:, :3])


class Detector(nn.Module):
    """Takes what StyleGAN-V's detector takes: its signature, 400 features, and no training."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 400)

    def forward(
        self,
        x: torch.Tensor,
        rescale: bool = True,
        resize: bool = True,
        return_features: bool = False,
    ) -> torch.Tensor:
        assert not rescale
        assert not resize
        assert return_features
        mean, top = x.mean(dim=[2, 3, 4]), x.amax(dim=[2, 3, 4])
        return self.project(torch.cat([mean, top], dim=1))


def test_i3d_is_called_as_stylegan_v_calls_it(tmp_path):
    detector = Detector()
    torch.jit.script(detector).save(str(tmp_path / "i3d_torchscript.pt"))
    encoder = I3D(tmp_path / "i3d_torchscript.pt", batch_size=2)
    assert isinstance(encoder, FeatureEncoder)
    videos = noise(0, 3, 10, 224, 224)
    features = encoder.encode(videos)
    assert features.shape == (3, 400)
    scaled = 2.0 * torch.from_numpy(videos).permute(0, 4, 1, 2, 3).float() / 255 - 1
    with torch.no_grad():
        plain = detector(scaled, rescale=False, resize=False, return_features=True)
    torch.testing.assert_close(features, plain, rtol=1e-4, atol=1e-5)
    assert encoder.encode(noise(1, 1, 10, 30, 50)).shape == (1, 400)
    with pytest.raises(MetricsError, match="needs 10 frames"):
        encoder.encode(videos[:, :9])


class Pooled(nn.Module):
    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert return_features
        assert x.dtype == torch.uint8
        return x.float().mean(dim=[2, 3])


def test_scripted_inception_hands_over_bytes(tmp_path):
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(Pooled()).save(str(path))
    frames = noise(0, 5, 20, 30)
    features = ScriptedInception(path, batch_size=2).encode(frames)
    np.testing.assert_allclose(features, frames.mean(axis=(1, 2)), rtol=1e-5)


def test_videomae_v2_is_cd_fvds_network_under_other_names(tmp_path):
    theirs = pytest.importorskip("cdfvd.third_party.VideoMAEv2.videomaev2_finetune")
    from cdfvd.third_party.VideoMAEv2.utils import preprocess_videomae

    torch.manual_seed(0)
    network = theirs.VisionTransformer(
        img_size=224, patch_size=56, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2,
        qkv_bias=True, num_classes=3, norm_layer=lambda d: nn.LayerNorm(d, eps=1e-6),
    ).eval()  # fmt: skip
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    path = tmp_path / "vit_g.pth"
    torch.save({"module": network.state_dict()}, path)
    model = VideoMAEv2(path, heads=2, batch_size=1)
    videos = noise(0, 2, 16, 60, 90)
    with torch.no_grad():
        expected = network.forward_features(preprocess_videomae(videos))
    torch.testing.assert_close(model.encode(videos), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(MetricsError, match="takes 16 frames, not 20"):
        model.encode(noise(0, 1, 20, 60, 60))
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(MetricsError, match="isn't VideoMAE-v2"):
        VideoMAEv2(path)


@pytest.mark.parametrize(("height", "width"), [(40, 70), (70, 40), (300, 260), (256, 256)])
def test_the_short_side_is_cropped_as_cd_fvds_loader_does(height, width):
    data_utils = pytest.importorskip("cdfvd.utils.data_utils")
    frames = noise(0, 3, height, width)
    theirs = data_utils.preprocess(torch.from_numpy(frames), 256)["video"]  # [3, T, 256, 256]
    expected = (theirs * 255).byte().permute(1, 2, 3, 0).numpy()
    assert np.array_equal(crop_short_side(frames, 256), expected)


# --- flow and LPIPS


def test_raft_loads_a_file_and_pads_small_frames(tmp_path):
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    flow = RAFTFlow(tmp_path / "raft.pth", architecture="raft_small", updates=2)
    assert isinstance(flow, FlowBackend)
    assert flow.name == "raft"
    pair = noise(0, 2, 60, 75)
    assert flow.flow(pair[:1], pair[1:]).shape == (1, 2, 60, 75)
    assert np.isfinite(warping_error(pair, flow))
    with pytest.raises(MetricsError, match="does not fit RAFT"):
        RAFTFlow(tmp_path / "raft.pth")


def lpips_backbone(path, seed=0):
    torch.manual_seed(seed)
    features = torchvision.models.alexnet(weights=None).features
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    torch.save(state, path)
    return state


def test_lpips_equals_torchmetrics_on_the_same_backbone(tmp_path):
    path = tmp_path / "alexnet.pth"
    state = lpips_backbone(path)
    model = LPIPS(path, batch_size=2)
    assert isinstance(model, PerceptualDistance)
    theirs = _NoTrainLpips(net="alex", pnet_rand=True)
    with torch.no_grad():
        for name, parameter in theirs.net.named_parameters():
            parameter.copy_(state[f"features.{name.partition('.')[2]}"])
    generated, reference = noise(0, 3, 64, 64), noise(1, 64, 64)
    pair = [
        torch.tensor(x).permute(0, 3, 1, 2) / 255
        for x in (generated, np.broadcast_to(reference, generated.shape).copy())
    ]
    with torch.no_grad():
        expected = theirs(*pair, normalize=True).mean()
    assert crop_lpips(generated, reference, model) == pytest.approx(float(expected), rel=1e-5)
    assert crop_lpips(reference, reference, model) == pytest.approx(0, abs=1e-7)
    metric = CropDistance(model)
    metric.update(generated, reference)
    assert float(metric.compute()) == pytest.approx(float(expected), rel=1e-5)


def test_lpips_of_another_network_is_refused(tmp_path):
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(MetricsError, match="lacks 9 tensors of LPIPS's alex"):
        LPIPS(tmp_path / "other.safetensors")


# --- what is missing, damaged or hostile


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (lambda f: I3D(f / "i3d_torchscript.pt"), "i3d_torchscript.pt"),
        (lambda f: ScriptedInception(f / "x.pt"), "inception-2015-12-05.pt"),
        (lambda f: LPIPS(f / "x.pth"), "alexnet-owt"),
        (lambda f: RAFTFlow(f / "x.pth"), "raft_large_C_T_SKHT_V2"),
        (lambda f: DINO("nobody/no-such-dino"), "hf download nobody/no-such-dino"),
        (lambda f: DINO(f), "is neither a folder with a model"),
        (lambda f: VideoMAE("nobody/no-such-mae"), "nobody/no-such-mae"),
        (lambda f: TransformersCLIP("nobody/no-such-clip"), "nobody/no-such-clip"),
        (lambda f: OpenCLIP("ViT-B-32", "laion2b_s34b_b79k"), "hf download laion/"),
        (lambda f: OpenCLIP("ViT-B-32", f / "x.pt"), "no tag of it is named"),
        (lambda f: OpenCLIP(f"local-dir:{f}"), "no weights in"),
        (lambda f: OpenCLIP("hf-hub:nobody/x"), "not an open_clip architecture"),
    ],
)
def test_missing_weights_are_named(load, words, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MetricsError) as caught:
        load(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Payload:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_pickles_are_not_run(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": Payload()}, path)
    with pytest.raises(MetricsError, match="can't be read as weights"):
        read_tensors(path)
    assert "never run" not in capsys.readouterr().out


def test_damaged_files_are_named(tmp_path):
    for name in ("a.pt", "b.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(MetricsError, match=name):
            load_tensors(nn.Linear(1, 1), tmp_path / name)
    with pytest.raises(MetricsError, match="not a TorchScript archive"):
        I3D(tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(MetricsError, match="no state dict"):
        read_tensors(tmp_path / "list.pt")


def test_state_dicts_of_trainers_are_read(tmp_path):
    layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    wrapped = {f"module.{key}": value for key, value in layer.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "a.pt")
    load_tensors(other, tmp_path / "a.pt")
    assert model_hash(other) == model_hash(layer)
    with pytest.raises(MetricsError, match="does not fit Linear"):
        load_tensors(nn.Linear(5, 3), tmp_path / "a.pt")


@pytest.mark.parametrize("frames", [noise(0, 4, 4)[0], noise(0, 1, 4, 4).astype(float)])
def test_frames_of_another_form_are_refused(dino, frames):
    with pytest.raises(MetricsError, match="must be uint8"):
        DINO(dino[0]).encode(frames)


def test_open_clip_folders_need_only_their_files(tmp_path):
    # Written as open_clip's own push to the hub writes it.
    config = {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 16,
            "head_width": 8,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    network = open_clip.model.CLIP(**config)
    save_file(network.state_dict(), tmp_path / "open_clip_model.safetensors")
    first = OpenCLIP(f"local-dir:{tmp_path}")
    assert first.name == f"open_clip:{tmp_path.name}"
    assert first.version.endswith(model_hash(network))
    assert first.encode(noise(0, 2, 40, 50)).shape == (2, 8)


# --- VBench's frames


def test_background_consistency_sees_frames_as_vbench_does(tmp_path):
    """Bicubic without antialiasing, cropped in the middle; VBench's transform of its floats."""
    from torchvision import transforms
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from metrics.features.models import Models
    from metrics.features.networks.clip import VBenchCLIP
    from tests.metrics.test_text import TEXT, VISION, tokenizer

    torch.manual_seed(0)
    network = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)).eval()
    network.save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    clip = TransformersCLIP(tmp_path)
    frames = noise(0, 3, 120, 200)
    vbench = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC, antialias=False),
            transforms.CenterCrop(32),
            transforms.Lambda(lambda x: x.float().div(255.0)),
            transforms.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
        ]
    )
    pixels = vbench(torch.Tensor(frames).permute(0, 3, 1, 2))  # as its load_video gives them
    with torch.no_grad():
        expected = network.get_image_features(pixels).pooler_output
    found = VBenchCLIP(clip).encode(frames)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(clip.encode(frames), expected, atol=1e-3)  # antialiased
    feature = Models(weights={"clip.vit_b32": tmp_path}).feature("clip.vbench")
    torch.testing.assert_close(torch.stack(feature.compute(frames, {})), expected)
    metric = metric_info("temporal.background_consistency").make(weights={"clip.vit_b32": tmp_path})
    metric.update(frames)
    assert float(metric.compute()) == pytest.approx(feature_consistency(expected), abs=1e-6)


def test_vjepa2_features_are_what_its_classifier_sees(tmp_path):
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

    torch.manual_seed(0)
    config = VJEPA2Config(
        patch_size=8,
        crop_size=32,
        frames_per_clip=4,
        tubelet_size=2,
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=1,
        mlp_ratio=2.0,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        num_pooler_layers=1,
        num_labels=3,
    )
    network = VJEPA2ForVideoClassification(config).eval()
    network.save_pretrained(tmp_path)
    processor = VJEPA2VideoProcessor(crop_size={"height": 32, "width": 32}, size=36)
    processor.save_pretrained(tmp_path)
    clips = noise(0, 2, 9, 40, 50)
    taken = torch.from_numpy(clips[:, [0, 3, 5, 8]]).permute(0, 1, 4, 2, 3)
    pixels = processor(list(taken), return_tensors="pt")["pixel_values_videos"]
    encoder = VJEPA2(tmp_path)
    assert encoder.frames == 4
    features = encoder.encode(clips)
    assert features.shape == (2, 24)
    with torch.no_grad():
        logits = network(pixel_values_videos=pixels).logits
        torch.testing.assert_close(network.classifier(features), logits, rtol=1e-4, atol=1e-5)
