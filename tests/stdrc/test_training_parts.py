"""The parts of a step: noise levels, face weights, the identity loss, settings, box files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from media.video import VideoInfo
from miniature import checkpoint
from miniature.build import MiniatureConfig, build_vae
from miniature.identity_encoder import load_identity_encoder
from miniature.world import World
from stdrc.errors import STDRCError
from stdrc.pipeline import STDRCPipeline
from stdrc.positions import NAMED_PLACEMENTS
from stdrc.training import TrainConfig
from stdrc.training.config import ClipConfig, EmaConfig, IdentityConfig, NoiseConfig
from stdrc.training.ema import WeightAverage
from stdrc.training.folder import frame_to_clip, read_consisid_boxes, window_frames
from stdrc.training.linear_decoder import LinearDecoder
from stdrc.training.noise import draw_sigmas, shift_for_tokens
from stdrc.training.objectives import (
    IdentityLoss,
    PixelError,
    add_noise,
    face_coverage,
    face_crops,
    flow_matching_loss,
    identity_alignment_loss,
)

from .training_tiny import tiny_config

# Noise levels


@given(
    name=st.sampled_from(["shifted", "logit_normal", "uniform"]),
    tokens=st.integers(1, 20_000),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_sigmas_are_levels(name: str, tokens: int, seed: int) -> None:
    sigmas = draw_sigmas(500, tokens, NoiseConfig(name=name), torch.Generator().manual_seed(seed))
    assert sigmas.shape == (500,)
    assert float(sigmas.min()) > 0
    assert float(sigmas.max()) <= 1


def test_shifted_is_stretched_to_its_percentiles() -> None:
    config = NoiseConfig(uniform=0.0)
    sigmas = draw_sigmas(200_000, 1024, config, torch.Generator().manual_seed(0))
    # Half-way through the normal, before the stretch: sigmoid(0.95) between its two percentiles.
    low, middle, high = torch.sigmoid(torch.tensor([0.95 - 2.5758, 0.95, 0.95 + 3.0902]))
    expected = float((middle - low) / (high - low))
    assert float(sigmas.median()) == pytest.approx(expected, abs=0.005)
    assert float((sigmas >= 1).float().mean()) == pytest.approx(0.001, abs=0.0005)


def test_longer_clips_see_more_noise_and_a_tenth_is_uniform() -> None:
    g = torch.Generator().manual_seed(0)
    short, long = (float(draw_sigmas(20_000, n, NoiseConfig(), g).mean()) for n in (200, 6000))
    assert long > short + 0.15
    assert shift_for_tokens(2560, NoiseConfig()) == pytest.approx(1.5)
    pure, mixed = (
        float((draw_sigmas(100_000, 6000, NoiseConfig(uniform=share), g) < 0.2).float().mean())
        for share in (0.0, None)
    )
    assert mixed == pytest.approx(0.9 * pure + 0.1 * 0.2, abs=0.003)


def test_plain_logit_normal_has_its_mean() -> None:
    config = NoiseConfig(name="logit_normal", mean=-0.5, std=0.7)
    sigmas = draw_sigmas(100_000, 1, config, torch.Generator().manual_seed(0))
    logits = torch.logit(sigmas)
    assert float(logits.mean()) == pytest.approx(-0.5, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.7, abs=0.02)


# Flow matching and the face


def test_the_target_takes_the_noise_away() -> None:
    clean, noise = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    s = torch.tensor([0.3, 0.8])
    noisy = add_noise(clean, noise, s)
    torch.testing.assert_close(noisy - s.view(2, 1, 1, 1, 1) * (noise - clean), clean)


@given(constant=st.floats(0.5, 20))
@settings(max_examples=10, deadline=None)
def test_weights_move_the_loss_and_do_not_scale_it(constant: float) -> None:
    velocity, target = torch.randn(2, 6, 3), torch.randn(2, 6, 3)
    plain = flow_matching_loss(velocity, target)
    even = flow_matching_loss(velocity, target, torch.full((2, 6), constant))
    torch.testing.assert_close(even, plain)
    weight = torch.ones(2, 6)
    weight[:, 0] = 1e9
    torch.testing.assert_close(
        flow_matching_loss(velocity, target, weight),
        (velocity - target).square().mean(2)[:, 0],
        rtol=1e-3,
        atol=1e-3,
    )


def test_face_coverage_follows_the_box_through_compressed_time() -> None:
    """Latent frame 1 covers pixel frames 1..4; the box moves right for the last of them."""
    boxes = torch.tensor([[0.0, 0, 8, 16]] * 4 + [[8.0, 0, 16, 16]])
    share = face_coverage(boxes, frames=2, height=2, width=2, temporal=4, spatial=8)
    assert share[0].tolist() == [[1, 0], [1, 0]]
    assert share[1].tolist() == [[0.75, 0.25], [0.75, 0.25]]
    boxes[0] = float("nan")
    boxes[1:] = torch.tensor([4.0, 4, 12, 12])
    share = face_coverage(boxes, frames=2, height=2, width=2, temporal=4, spatial=8)
    assert float(share[0].sum()) == 0
    assert share[1].tolist() == [[0.25, 0.25], [0.25, 0.25]]
    with pytest.raises(STDRCError, match=r"needs boxes of shape \(5, 4\)"):
        face_coverage(boxes[:3], frames=2, height=2, width=2, temporal=4, spatial=8)


def test_face_crops_show_the_box() -> None:
    video = torch.zeros(1, 3, 32, 32)
    video[0, 0, 8:16, 20:28] = 1
    crop = face_crops(video, torch.tensor([[20.0, 8.0, 28.0, 16.0]]), size=8, margin=0.0)
    assert crop.shape == (1, 3, 8, 8)
    assert float(crop[0, 0, 1:-1, 1:-1].min()) > 0.99
    wide = face_crops(video, torch.tensor([[20.0, 8.0, 28.0, 16.0]]), size=16, margin=0.5)
    assert float(wide[0, 0].mean()) == pytest.approx(0.25, abs=0.03)


class Colour(torch.nn.Module):
    """Embeds a crop as its coarse colours."""

    crop_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.nn.functional.adaptive_avg_pool2d(crops, 2).flatten(1)


def test_identity_loss_reaches_the_prediction_and_nothing_frozen() -> None:
    torch.manual_seed(0)
    small = MiniatureConfig(latent_channels=4, vae_channels=(8, 16), decoder_channels=(16, 16))
    vae = build_vae(small).eval()
    encoder = Colour()
    loss = IdentityLoss(vae, encoder, IdentityConfig(weight=1.0, max_sigma=0.5, frames=3))
    clean = torch.randn(3, 4, 2, 4, 4)
    boxes = torch.tensor([4.0, 4.0, 24.0, 24.0]).expand(3, 5, 4).clone()
    boxes[1] = float("nan")
    sigmas, clips = torch.tensor([0.4, 0.1, 0.9]), torch.tensor([7, 8, 9])
    g = torch.Generator().manual_seed(0)

    same = loss(clean, clean, sigmas, boxes, clips, g)
    assert same is not None
    assert float(same) == pytest.approx(0, abs=1e-5)

    predicted = torch.randn(3, 4, 2, 4, 4, requires_grad=True)
    value = loss(predicted, clean, sigmas, boxes, clips, g)
    assert value is not None
    assert float(value.detach()) > 1e-3
    value.backward()
    assert predicted.grad is not None
    reached = predicted.grad.flatten(1).abs().sum(dim=1) > 0
    assert reached.tolist() == [True, False, False]  # no face in the second, the third too noisy
    assert encoder.scale.grad is None
    assert all(p.grad is None for p in vae.parameters())
    assert loss(predicted, clean, sigmas + 0.6, boxes, clips, g) is None


def plain_decoder(latents: torch.Tensor) -> torch.Tensor:
    """Four channels as grey, red, green and blue of 2 x 4 x 4 pixels; one frame for the first."""
    colours = latents[:, 1:] + latents[:, :1] + 0.5
    pixels = colours.repeat_interleave(2, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    return pixels[:, :, 1:].transpose(1, 2)


def test_linear_decoder_is_a_linear_decoder() -> None:
    latents = torch.randn(8, 4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    fitted = LinearDecoder.fit(plain_decoder, latents, temporal=2, spatial=4)
    assert fitted.share == pytest.approx(1, abs=1e-5)
    other = torch.randn(2, 4, 3, 2, 5, requires_grad=True)
    drawn = fitted(other)
    assert drawn.shape == (2, 5, 3, 8, 20)
    torch.testing.assert_close(drawn, plain_decoder(other), atol=1e-3, rtol=1e-3)
    drawn[0].sum().backward()
    assert other.grad is not None
    assert (other.grad.flatten(1).abs().sum(1) > 0).tolist() == [True, False]


def test_linear_decoder_refuses_what_is_not_linear() -> None:
    latents = torch.randn(8, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(STDRCError, match=r"holds \d+ % of .* set identity.decoder: vae"):
        LinearDecoder.fit(lambda z: plain_decoder(z).sign(), latents, temporal=2, spatial=4)
    with pytest.raises(STDRCError, match="two clips or more"):
        LinearDecoder.fit(plain_decoder, latents[:1], temporal=2, spatial=4)


def test_linear_decoder_follows_the_shipped_autoencoder() -> None:
    pipe = STDRCPipeline.from_pretrained(checkpoint(), dtype=torch.float32, transformer=None)
    loss = IdentityLoss(pipe.vae, load_identity_encoder(), IdentityConfig(weight=1.0, margin=0.25))
    clips = [World("val", size=20)[i] for i in range(20)]
    pixels = torch.stack([torch.from_numpy(clip.frames) for clip in clips])
    boxes = torch.from_numpy(np.stack([clip.boxes for clip in clips])).float()
    with torch.no_grad():
        encoded = pipe.vae.encode(pixels.permute(0, 4, 1, 2, 3).float() / 127.5 - 1)
        latents = pipe._normalize_latents(
            encoded.latent_dist.mode(), pipe.vae.latents_mean, pipe.vae.latents_std
        )
        everything = torch.zeros(20), boxes, torch.arange(20), torch.Generator()
        loss.linear = LinearDecoder.fit(loss.decode, latents, temporal=4, spatial=8)
        assert loss.linear.share > 0.99
        # The truth is kept under the row's number: drawn by the VAE first, then by the matrix.
        matrix, loss.linear = loss.linear, None
        assert loss(latents, latents, *everything) == pytest.approx(0, abs=1e-5)
        loss.linear = matrix
        apart = loss(latents, latents, *everything)
    assert apart is not None
    assert float(apart) < 0.02


def test_a_matrix_draws_all_samples_as_one_by_one() -> None:
    latents = torch.randn(8, 4, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    fitted = LinearDecoder.fit(plain_decoder, latents, temporal=2, spatial=4)
    config = IdentityConfig(weight=1.0, max_sigma=0.5, frames=2, samples=8)
    torch.manual_seed(1)
    predicted, sigmas, clips = torch.randn_like(latents), torch.rand(8), torch.arange(8)
    boxes = torch.tensor([2.0, 1.0, 12.0, 14.0]).repeat(8, 5, 1) + torch.rand(8, 5, 4)
    boxes[2] = boxes[4, 1:4] = float("nan")

    def loss() -> IdentityLoss:
        vae = torch.nn.Module()
        return IdentityLoss(vae, Colour(), config, fitted)

    rows = [slice(i, i + 1) for i in range(8)]
    together, each = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    one = loss()
    alone = [
        one(predicted[r], latents[r], sigmas[r], boxes[r], clips[r], each)
        for r in rows  # the same generator: the same frames
    ]
    found = [value for value in alone if value is not None]
    assert 2 <= len(found) < 8
    value = loss()(predicted, latents, sigmas, boxes, clips, together)
    assert value is not None
    torch.testing.assert_close(value, torch.stack(found).mean())


def pixel_error(edges: float = 0.0) -> PixelError:
    latents = torch.randn(8, 4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    fitted = LinearDecoder.fit(lambda z: plain_decoder(z) + 0.3, latents, temporal=2, spatial=4)
    return PixelError(fitted, edges)


def test_pixel_error_is_that_of_the_drawn_difference() -> None:
    measure = pixel_error()
    a, b = torch.randn(2, 3, 4, 3, 2, 5, generator=torch.Generator().manual_seed(1))
    drawn = (plain_decoder(a) - plain_decoder(b)).square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(measure(a - b) * measure.unit, drawn, rtol=1e-3, atol=1e-4)
    assert measure(a - a).tolist() == [0, 0, 0]
    # Weighted, each latent's pixels count by its own weight.
    weight = torch.ones(3, 3, 2, 5)
    weight[:, 2] = 1e6
    last = (plain_decoder(a) - plain_decoder(b))[:, -2:].square().mean(dim=(1, 2, 3, 4))
    found = measure(a - b, weight) * measure.unit
    torch.testing.assert_close(found, last, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("edges", [0.0, 2.0])
def test_noise_has_as_much_pixel_error_as_flow_loss(edges: float) -> None:
    noise = torch.randn(9, 4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    assert float(pixel_error(edges)(noise).mean()) == pytest.approx(1, abs=0.05)


def test_edges_blame_neighbours_that_disagree() -> None:
    """Errors of one size: in all latents alike, or with the sign turned in every other one."""
    alike = torch.zeros(1, 4, 1, 4, 4)
    alike[:, 0] = 1
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    turned = alike * torch.where((rows + columns) % 2 == 0, 1.0, -1.0)
    flat, edged = pixel_error(0.0), pixel_error(2.0)
    torch.testing.assert_close(flat(alike), flat(turned))
    assert float(edged(turned)) > 1.3 * float(edged(alike))


def test_average_is_a_mean_and_comes_and_goes() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = WeightAverage([parameter], EmaConfig(decay=0.5, warmup=False))
    for step, value in enumerate((1.0, 2.0)):
        parameter.data.fill_(value)
        average.update(step)
    with average.in_place():
        assert parameter.tolist() == [1.25] * 3
    assert parameter.tolist() == [2.0] * 3
    warm = WeightAverage([parameter], EmaConfig(decay=0.999))
    assert [round(warm.decay(s), 3) for s in (0, 10, 10**6)] == [0.1, 0.55, 0.999]


def test_identity_alignment_weighs_tokens_by_the_face_and_the_reference_by_half() -> None:
    true = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # Cosines with the truth: 1, 0, -1 on three video tokens, then 0 and 1 on the reference's two.
    one = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    other = [[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]]
    found = torch.tensor([one, other])
    face = torch.tensor([[1.0, 0.5, 0.0], [0.5, 0.0, 0.5]])
    alone = identity_alignment_loss(found, true, face)
    torch.testing.assert_close(alone, torch.tensor([1 - 1 / 1.5, 1.0]))
    reference = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    together = identity_alignment_loss(torch.cat([found, reference], dim=1), true, face)
    torch.testing.assert_close(together, (alone + 0.5) / 2)
    # A clip without a face says nothing, and divides by nothing.
    assert identity_alignment_loss(found, 0 * true, 0 * face).tolist() == [1.0, 1.0]


# Settings


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: x", r"run.yaml: base: is missing"),
        (
            "base: b\noutput: x\nstep: 3",
            r"run.yaml:3: step: unknown key 'step'; .* Did you mean 'steps'\?",
        ),
        (
            "base: b\noutput: x\noptimizer: {rate: 1}",
            r":3: optimizer.rate: unknown key 'rate'; known are betas, eps",
        ),
        (
            "base: b\noutput: x\nsteps: none",
            r"run.yaml:3: steps: .* a valid integer.* \(it is 'none'\)",
        ),
        ("base: b\noutput: x\nmode: half", r"mode: .*should be 'lora' or 'full' \(it is 'half'\)"),
        (
            "base: b\noutput: x\nplacement: tas",
            r"placement: .*Did you mean 'tass'.* \(it is 'tas'\)",
        ),
        (
            "base: b\noutput: x\nidentity: {weight: 1, rollout_to: [0.2, 0.95]}",
            r"run.yaml:3: identity: rollout_to must lie below rollout_from",
        ),
        ("base: b\noutput: x\nidentity: {rollout: 2}", r"identity: rollout needs a weight"),
        (
            "base: b\noutput: x\nidentity: {rollout_from: [0.9, 1.2]}",
            r":3: identity.rollout_from: .* two noise levels.* \(it is \[0.9, 1.2\]\)",
        ),
        ("base: b\noutput: x\nema: {decay: 2}", r"ema.decay: .*should be less than 1 \(it is 2\)"),
        ("base: b\noutput: x\ndropout: {text: 0.9}", r":3: dropout: .* must add up to at most 1"),
        ("base: [", r"run.yaml:\d+: not valid YAML"),
        ("- 1", r"a training config is keys and values"),
    ],
)
def test_mistakes_in_a_file_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(STDRCError, match=message) as caught:
        TrainConfig.load(write(tmp_path / "run.yaml", text))
    assert "\n" not in str(caught.value)


def test_overrides_and_relative_paths(tmp_path: Path) -> None:
    file = write(tmp_path / "run.yaml", "base: b/c\noutput: out\ndata: clips\nema: {decay: 0.9}\n")
    config = TrainConfig.load(
        file, ["optimizer.lr=1e-5", "augmentation=off", "placement=none", "lora.targets=[ff]"]
    )
    assert config.optimizer.lr == 1e-5
    assert not config.augmentation.active
    assert config.reference_placements == []
    assert config.lora.targets == ["ff"]
    assert config.output == tmp_path / "out"
    assert config.data == [tmp_path / "clips"]
    assert config.base == "b/c"  # not a folder here: a hub id
    with pytest.raises(STDRCError, match="--set takes key=value"):
        TrainConfig.load(file, ["steps"])
    with pytest.raises(STDRCError, match=r"There is no file .*none.yaml"):
        TrainConfig.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "name",
    [
        "miniature/configs/train/miniature-base.yaml",
        "miniature/configs/train/miniature-variant.yaml",
        "bench/configs/train/ltx23-lora.yaml",
    ],
)
def test_shipped_settings_are_valid(name: str) -> None:
    file = Path(__file__).parents[2] / name
    config = TrainConfig.load(file)
    assert config.output.is_relative_to(file.parent)
    trained = [str(p) for p in config.reference_placements]
    if file.stem == "miniature-base":  # favours none of the points that are trained on top of it
        assert trained[0] == "tass"
        assert sorted(trained) == sorted(NAMED_PLACEMENTS)
    else:
        assert len(trained) == 1


def test_a_config_survives_its_own_dump(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, placement={"when": "after", "gap": 2, "shift": [0.5, 0]})
    assert TrainConfig.from_dict(config.model_dump(mode="json")) == config


# Folders


def test_windows_are_spread_and_fit() -> None:
    clip = tiny_config(Path("x"), clip={"frames": 5, "windows": 3, "fps": 10}).clip
    windows = window_frames(VideoInfo(count=50, height=1, width=1, fps=25.0), clip)
    assert windows == [[0, 2, 5, 7, 10], [20, 22, 25, 27, 30], [39, 41, 44, 46, 49]]
    assert window_frames(VideoInfo(count=10, height=1, width=1, fps=25.0), clip) == []
    assert len(window_frames(VideoInfo(count=11, height=1, width=1, fps=25.0), clip)) == 1


def test_consisid_boxes_are_of_the_main_person(tmp_path: Path) -> None:
    def face(track: int, x: float) -> dict:
        return {"new_track_id": track, "box": {"x1": x, "y1": 0, "x2": x + 9, "y2": 9}}

    frames = {
        "0": {"face": [face(2, 50)], "head": []},
        "1": {"face": [face(2, 50), face(1, 5)], "head": [face(1, 3)]},
        "3": {"face": [face(1, 6)]},
        "4": {"face": [face(1, 7)]},
    }
    file = write(tmp_path / "boxes.json", json.dumps(frames))
    faces, heads = read_consisid_boxes(file)
    assert [f and f[0] for f in faces] == [None, 5, None, 6, 7]
    assert [h and h[0] for h in heads] == [None, 3, None, None, None]
    with pytest.raises(STDRCError, match="not in ConsisID's form"):
        read_consisid_boxes(write(tmp_path / "bad.json", '{"a": 1}'))
    nobody = json.dumps({"0": {"face": [{"box": face(1, 5)["box"]}]}})  # a face of no track
    with pytest.raises(STDRCError, match="not in ConsisID's form"):
        read_consisid_boxes(write(tmp_path / "untracked.json", nobody))


# A window of the clip, and aligned faces ----------------------------------------------------------


def test_a_window_shows_the_frames_that_are_asked_for(pipe):
    """With a decoder that draws each latent's number, frame f shows latent ceil(f / 4)."""
    loss = IdentityLoss(pipe.vae, lambda x: x.mean((2, 3)), IdentityConfig(weight=1.0, window=3))
    seen: list[int] = []

    def decode(latents):
        numbers = latents[0, 0, :, 0, 0]
        seen.append(len(numbers))
        frames = torch.cat([numbers[:1], numbers[1:].repeat_interleave(4)])
        return frames[None, :, None, None, None]

    loss.decode = decode
    latents = torch.arange(6.0).view(1, 1, 6, 1, 1)
    shown = [int(loss._frames(latents, torch.tensor([f]))[0, 0, 0, 0]) for f in range(21)]
    assert shown == [-(-f // 4) for f in range(21)]
    assert set(seen) == {3}


def test_a_windows_loss_looks_at_one_latents_frames_and_has_gradients(pipe):
    torch.manual_seed(0)
    clean = torch.randn(2, 8, 4, 4, 4)
    predicted = (clean + 0.3 * torch.randn_like(clean)).requires_grad_()
    boxes = torch.tensor([4.0, 4.0, 28.0, 28.0]).repeat(2, 13, 1)
    loss = IdentityLoss(
        pipe.vae, load_identity_encoder(), IdentityConfig(weight=1.0, window=3, frames=4)
    )
    shown: list[list[int]] = []
    frames = loss._frames
    loss._frames = lambda x, f: shown.append(f.tolist()) or frames(x, f)
    value = loss(
        predicted, clean, torch.zeros(2), boxes, torch.arange(2), torch.Generator().manual_seed(1)
    )
    value.backward()
    assert predicted.grad.abs().sum() > 0
    for each in shown:
        assert len({-(-f // 4) for f in each}) == 1
    untouched = predicted.grad.abs().sum(dim=(1, 3, 4)) == 0  # [2, F] latents outside the window
    assert untouched.any(dim=1).all()
    same = loss(
        clean, clean, torch.zeros(2), boxes, torch.arange(2), torch.Generator().manual_seed(1)
    )
    assert float(same) == pytest.approx(0, abs=1e-5)


def test_aligned_crops_are_opencvs_and_carry_gradients():
    from metrics.features.face_backends.base import Faces, align_five_points
    from stdrc.training.objectives import aligned_crops

    generator = np.random.default_rng(0)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(generator.random((1, 3, 12, 12), np.float32)), size=(120, 160),
        mode="bicubic", align_corners=False,
    ).clamp(0, 1)  # fmt: skip
    frame = (smooth[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    marks = torch.tensor([[60.0, 50.0], [90.0, 56.0], [74.0, 70.0], [60.0, 84.0], [84.0, 88.0]])
    faces = Faces(torch.tensor([[50.0, 40.0, 100.0, 100.0]]), marks[None], torch.ones(1))
    theirs = align_five_points(frame, faces, 112)[0]
    video = torch.from_numpy(frame).permute(2, 0, 1)[None].float().requires_grad_()
    ours = aligned_crops(video, marks[None], 112)
    difference = ours[0].detach().permute(1, 2, 0).numpy() - theirs.astype(np.float32)
    assert np.abs(difference).mean() < 1.0
    ours.sum().backward()
    assert video.grad.abs().sum() > 0


def test_landmarks_are_cut_and_scaled_with_the_frames():
    frames = np.zeros((2, 100, 200, 3), np.uint8)
    points = [x for i in range(5) for x in (100.0 + i, 40.0 + i)]
    rows = [(90.0, 30.0, 110.0, 50.0, *points), None]
    clip = ClipConfig(frames=2, height=50, width=50)
    _, found = frame_to_clip(frames, rows, clip)
    assert found.shape == (2, 14)
    assert torch.isnan(found[1]).all()
    torch.testing.assert_close(found[0, :4], torch.tensor([20.0, 15.0, 30.0, 25.0]))
    torch.testing.assert_close(found[0, 4:6], torch.tensor([25.0, 20.0]))
    torch.testing.assert_close(found[0, 12:], torch.tensor([27.0, 22.0]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_four_and_eight_bits_are_refused_without_a_card(random_checkpoint, tmp_path):
    from stdrc.training.config import OptimizerConfig
    from stdrc.training.optimizer import make_optimizer

    with pytest.raises(STDRCError, match="adamw8bit needs a CUDA card and bitsandbytes"):
        make_optimizer(
            [("x", torch.nn.Parameter(torch.ones(1)))], OptimizerConfig(name="adamw8bit")
        )
    for held in ("int8", "nf4"):
        with pytest.raises(STDRCError, match=f"{held} needs mode: lora"):
            TrainConfig.from_dict(
                {"base": "x", "output": str(tmp_path), "mode": "full", "base_weights": held}
            )
        with pytest.raises(STDRCError, match=f"{held} needs a CUDA card"):
            STDRCPipeline.from_pretrained(random_checkpoint, memory={"transformer": held})
