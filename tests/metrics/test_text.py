"""CLIP scores against torchmetrics, open_clip and transformers on the same tiny random weights."""

import json

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torchmetrics.multimodal import CLIPScore as TheirCLIPScore
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    VideoMAEImageProcessor,
    XCLIPConfig,
    XCLIPModel,
)

from metrics.errors import MetricsError
from metrics.features.networks.clip import XCLIP, OpenCLIP, TransformersCLIP
from metrics.text import (
    CLIPScore,
    ImageTextModel,
    VideoTextModel,
    clip_score,
    text_alignment,
    video_clip_score,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PROMPT = "a person waves"


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer over single letters, so that nothing is to be downloaded."""
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    vocabulary = {word: i for i, word in enumerate(words)}
    vocabulary["<|startoftext|>"] = len(words)
    vocabulary["<|endoftext|>"] = len(words) + 1
    return CLIPTokenizer(vocab=vocabulary, merges=[])


TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
    "vocab_size": 54,
    "bos_token_id": 52,
    "eos_token_id": 53,
    "pad_token_id": 53,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    network = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8))
    network.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer()).save_pretrained(folder)
    return folder


class PooledCLIP(CLIPModel):
    """The methods give tensors, as they did when torchmetrics was written."""

    def get_image_features(self, *args, **kwargs):
        return super().get_image_features(*args, **kwargs).pooler_output

    def get_text_features(self, input_ids, attention_mask):
        return super().get_text_features(input_ids, attention_mask).pooler_output


def theirs(folder) -> TheirCLIPScore:
    return TheirCLIPScore(
        lambda: (
            PooledCLIP.from_pretrained(folder, local_files_only=True).eval(),
            CLIPProcessor.from_pretrained(folder, local_files_only=True),
        )
    )


def test_the_score_equals_torchmetrics_on_the_same_weights(clip_folder):
    ours, reference = TransformersCLIP(clip_folder, batch_size=3), theirs(clip_folder)
    assert isinstance(ours, ImageTextModel)
    positive = 0
    for seed, prompt in enumerate([PROMPT, "red hair", "zoo", "the quick fox"]):
        frames = noise(seed, 5, 40 + 8 * seed, 56)
        reference.reset()
        with torch.no_grad():
            reference.update(torch.from_numpy(frames).permute(0, 3, 1, 2), [prompt] * len(frames))
        expected = float(reference.compute())
        positive += expected > 0
        assert text_alignment(ours, frames, prompt).frames == pytest.approx(expected, abs=1e-4)
    assert positive  # it is not all a comparison of zeros


def test_a_long_prompt_is_reported_and_keeps_its_end(clip_folder):
    model = TransformersCLIP(clip_folder)
    text = model.encode_text(["abc", "abcdefghij " * 4])
    assert text.limit == 24
    assert text.tokens == (5, 42)
    assert text.truncated == (False, True)
    whole = tokenizer()("abcdefghij " * 4, truncation=True, max_length=24).input_ids
    assert whole[-1] == 53
    with torch.no_grad():
        expected = (
            CLIPModel.from_pretrained(clip_folder)
            .eval()
            .get_text_features(torch.tensor([whole]))
            .pooler_output[0]
        )
    torch.testing.assert_close(text.features[1], expected)
    alignment = text_alignment(model, noise(0, 2, 32, 32), "abcdefghij " * 4)
    assert (alignment.tokens, alignment.limit, alignment.truncated) == (42, 24, True)


def test_prompts_do_not_depend_on_their_neighbours(clip_folder):
    model = TransformersCLIP(clip_folder)
    alone = model.encode_text(["abc"]).features[0]
    among = model.encode_text(["abc", "abcdefgh ijklmnop"]).features[0]
    torch.testing.assert_close(alone, among, rtol=1e-4, atol=1e-5)


def test_frames_are_read_as_rgb(clip_folder):
    model = TransformersCLIP(clip_folder)
    frames = noise(0, 2, 32, 32)
    assert not torch.allclose(model.encode(frames), model.encode(frames[..., ::-1]), atol=1e-3)


def test_the_metric_is_the_mean_over_videos_and_counts_cut_prompts(clip_folder):
    model = TransformersCLIP(clip_folder)
    clips = [(noise(s, 3, 32, 32), p) for s, p in enumerate(["abc", "wxyz", "abcdefghij " * 4])]
    for of in ("frames", "video"):
        parts = [CLIPScore(model, of=of) for _ in range(2)]
        for i, (frames, prompt) in enumerate(clips):
            parts[i % 2].update(frames, prompt)
        parts[0].merge_state(parts[1])
        expected = np.mean([getattr(text_alignment(model, f, p), of) for f, p in clips])
        assert float(parts[0].compute()) == pytest.approx(expected)
        assert int(parts[0].truncated) == 1


# --- open_clip


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    config = {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 16,
            "head_width": 8,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 20,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    torch.manual_seed(1)
    network = open_clip.model.CLIP(**config).eval()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder, network


def test_open_clip_equals_its_own_model_and_transform(open_clip_folder):
    folder, network = open_clip_folder
    model = OpenCLIP(f"local-dir:{folder}", batch_size=2)
    assert isinstance(model, ImageTextModel)
    frames = noise(0, 3, 50, 40)
    transform = open_clip.image_transform(32, is_train=False)
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=20)([PROMPT])
    with torch.no_grad():
        images = torch.cat(
            [network.encode_image(transform(Image.fromarray(f))[None], True) for f in frames]
        )
        text = network.encode_text(tokens, True)
        expected = max(0.0, 100 * float((images @ text.T).mean()))
    alignment = text_alignment(model, frames, PROMPT)
    assert alignment.frames == pytest.approx(expected, abs=1e-4)
    assert (alignment.tokens, alignment.limit) == (5, 20)


def test_open_clip_reports_what_it_cut(open_clip_folder):
    model = OpenCLIP(f"local-dir:{open_clip_folder[0]}")
    text = model.encode_text(["one two three", "one two three " * 10])
    assert text.tokens == (5, 32)
    assert text.truncated == (False, True)


def test_open_clip_with_a_file_of_another_architecture_is_refused(open_clip_folder):
    folder, _ = open_clip_folder
    with pytest.raises(MetricsError, match="open_clip can't load ViT-S-32"):
        OpenCLIP("ViT-S-32", folder / "open_clip_model.safetensors")


def test_a_tag_gets_the_activation_it_was_trained_with(open_clip_folder, tmp_path, monkeypatch):
    folder, network = open_clip_folder
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {"tiny": config})
    weights = folder / "open_clip_model.safetensors"
    tags = {
        "quick": {"file": str(weights), "quick_gelu": True},
        "plain": {"file": str(weights)},
        "gone": {"file": str(tmp_path / "gone.safetensors")},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    frames = noise(0, 2, 32, 32)
    quick, plain = (OpenCLIP("tiny", tag) for tag in ("quick", "plain"))
    expected = open_clip.model.CLIP(**config, quick_gelu=True).eval()
    expected.load_state_dict(network.state_dict())
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    pixels = (torch.from_numpy(frames) / 255 - torch.tensor(mean)) / torch.tensor(std)
    with torch.no_grad():
        features = expected.encode_image(pixels.permute(0, 3, 1, 2))
    torch.testing.assert_close(quick.encode(frames), features, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain.encode(frames), features, atol=1e-4)
    with pytest.raises(MetricsError, match="gone"):
        OpenCLIP("tiny", "gone")


# --- X-CLIP


@pytest.fixture(scope="module")
def xclip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xclip")
    torch.manual_seed(2)
    config = XCLIPConfig(
        text_config=TEXT,
        vision_config=VISION
        | {
            "num_frames": 4,
            "mit_hidden_size": 16,
            "mit_intermediate_size": 32,
            "mit_num_hidden_layers": 1,
            "mit_num_attention_heads": 2,
        },
        projection_dim=16,
        prompt_layers=1,
        prompt_num_attention_heads=2,
    )
    XCLIPModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    VideoMAEImageProcessor(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    return folder


def test_xclip_equals_its_own_logits(xclip_folder):
    model = XCLIP(xclip_folder)
    assert isinstance(model, VideoTextModel)
    assert not isinstance(model, ImageTextModel)
    videos = noise(3, 2, 4, 32, 32)
    network = XCLIPModel.from_pretrained(xclip_folder).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(videos) / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    prompts = [PROMPT, "zoo"]
    for video, prompt, alignment in zip(pixels, prompts, model.align(videos, prompts), strict=True):
        tokens = torch.tensor(tokenizer()([prompt]).input_ids)
        with torch.no_grad():
            output = network(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                pixel_values=video[None],
            )
        cosine = float(output.logits_per_video / network.logit_scale.detach().exp())
        assert alignment.video == pytest.approx(max(0.0, 100 * cosine), abs=1e-3)
        assert alignment.frames is None
    metric = CLIPScore(model, of="video")
    metric.update(videos[0], PROMPT)
    assert float(metric.compute()) == pytest.approx(model.align(videos[:1], [PROMPT])[0].video)
    with pytest.raises(MetricsError, match="of='video'"):
        CLIPScore(model).update(videos[0], PROMPT)


def test_xclip_samples_evenly_and_refuses_short_videos(xclip_folder):
    model = XCLIP(xclip_folder)
    video = noise(4, 1, 10, 32, 32)
    long = model.align(video, [PROMPT])[0].video
    assert long == pytest.approx(model.align(video[:, [0, 3, 6, 9]], [PROMPT])[0].video)
    with pytest.raises(MetricsError, match="needs 4 frames"):
        model.align(video[:, :3], [PROMPT])
    with pytest.raises(MetricsError, match="one prompt per video"):
        model.align(video, [])


# --- the formulas


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 6))
def test_lengths_do_not_matter_and_averaging_does_not_lower(seed, frames, d):
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(frames, d, generator=generator)
    t = torch.randn(d, generator=generator)
    score = clip_score(f, t)
    assert 0 <= score <= 100 + 1e-4
    scale = torch.rand(frames, 1, generator=generator) + 0.1
    assert clip_score(f * scale, 3 * t) == pytest.approx(score, abs=1e-3)
    assert video_clip_score(f * scale, 3 * t) == pytest.approx(video_clip_score(f, t), abs=1e-3)
    assert video_clip_score(f, t) >= score - 1e-3


def test_features_of_two_models_are_refused():
    with pytest.raises(MetricsError, match="same model"):
        clip_score(torch.zeros(2, 3), torch.zeros(4))
    with pytest.raises(MetricsError, match="NaN"):
        clip_score(torch.full((2, 3), torch.nan), torch.zeros(3))
    with pytest.raises(MetricsError, match="matrix"):
        clip_score(torch.zeros(3), torch.zeros(3))
    with pytest.raises(MetricsError, match="no video"):
        CLIPScore(None).compute()


def test_quirk_consisid_clip_score_exchanges_red_and_blue(clip_folder, tmp_path):
    """`consisid.clip_score` from end to end against a plain loop over int(i*n/16), in BGR."""
    from media.video import read_clip
    from metrics.scores import VideoItem
    from metrics.suite import MetricSuite

    colours = np.linspace(40, 220, 20).astype(np.uint8)
    folder = tmp_path / "video"
    folder.mkdir()
    for i, colour in enumerate(colours):  # red above, a changing blue below: the order matters
        frame = np.zeros((48, 48, 3), np.uint8)
        frame[:24, :, 0], frame[24:, :, 2] = 250, colour
        Image.fromarray(frame).save(folder / f"{i:03d}.png")
    suite = MetricSuite(["consisid.clip_score"], weights={"clip.vit_b32": clip_folder})
    assert suite.absent == {}
    item = VideoItem(folder, key="video", prompt=PROMPT)
    (score,) = [s for s in suite.stream([item]) if s.metric == "consisid.clip_score"]

    frames = read_clip(folder).frames
    network = CLIPModel.from_pretrained(clip_folder).eval()
    processor = CLIPProcessor.from_pretrained(clip_folder)
    tokens = processor(text=[PROMPT], return_tensors="pt", padding=True)

    def slow(bgr: bool) -> float:
        values = []
        for i in range(16):
            frame = frames[int(i * len(frames) / 16)]
            image = Image.fromarray(np.ascontiguousarray(frame[..., ::-1]) if bgr else frame)
            pixels = processor(images=image, return_tensors="pt").pixel_values
            with torch.no_grad():
                output = network(pixel_values=pixels, **tokens)
            values.append(100 * float((output.image_embeds @ output.text_embeds.T).squeeze()))
        return float(np.mean(values))

    assert score.status == "ok"
    assert score.value == pytest.approx(slow(bgr=True), abs=1e-3)
    assert abs(slow(bgr=True) - slow(bgr=False)) > 0.05, "the exchange shows on these frames"
