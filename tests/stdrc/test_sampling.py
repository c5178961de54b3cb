"""The sampler against diffusers' scheduler, and the guided velocity in other loops than ours."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stdrc.errors import STDRCError
from stdrc.positions import ReferencePlacement
from stdrc.sampling import noise_levels, sample_euler
from stdrc.sequence import TokenSequence
from stdrc.training.denoiser import Denoiser

CALL = {
    "height": 64, "width": 64, "num_frames": 9, "frame_rate": 8.0, "num_inference_steps": 3,
    "output_type": "latent", "seeds": 0,
}  # fmt: skip
PROMPT = "a person walks left"


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def test_euler_is_the_schedulers_step_bit_for_bit():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(5)
    x = expected = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))

    def velocity(x, sigma):
        return torch.sin(3 * x) - sigma * x

    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas):
        expected = scheduler.step(velocity(expected, sigma), t, expected, return_dict=False)[0]
    assert torch.equal(sample_euler(velocity, x, scheduler.sigmas), expected)


@given(
    levels=st.lists(st.floats(0, 1), min_size=2, max_size=8),
    start=st.lists(st.floats(-5, 5), min_size=2, max_size=2),
)
def test_a_straight_path_ends_where_it_leads_whatever_the_steps(levels, start):
    sigmas = torch.tensor(sorted(levels, reverse=True), dtype=torch.float64)
    clean, x = torch.tensor([[1.0], [-2.0]]).double(), torch.tensor(start).double()[:, None]
    noise = clean + 1.0
    x = (1 - sigmas[0]) * clean + sigmas[0] * noise
    end = sample_euler(lambda x, sigma: noise - clean, x, sigmas)
    torch.testing.assert_close(end, (1 - sigmas[-1]) * clean + sigmas[-1] * noise)


def test_each_sample_may_have_its_own_noise_levels():
    sigmas = torch.tensor([[1.0, 0.8], [0.5, 0.4], [0.0, 0.1]])
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))

    def velocity(x, sigma):
        return x * torch.as_tensor(sigma).reshape(-1, 1, 1)

    together = sample_euler(velocity, x, sigmas)
    for i in range(2):
        alone = sample_euler(velocity, x[i : i + 1], sigmas[:, i])
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("audio", [False, True])
def test_any_loop_can_take_the_guided_velocity(pipe, audio):
    seen = []

    def by_hand(velocity, x, sigmas, callback):
        seen.append(tuple(x.shape))
        for i in range(len(sigmas) - 1):
            x = callback(i, x + (sigmas[i + 1] - sigmas[i]) * velocity(x, sigmas[i]))
        return x

    def heun(velocity, x, sigmas, callback):
        for i in range(len(sigmas) - 1):
            step = sigmas[i + 1] - sigmas[i]
            first = velocity(x, sigmas[i])
            if sigmas[i + 1] > 0:
                first = (first + velocity(x + step * first, sigmas[i + 1])) / 2
            x = x + step * first
        return x

    settings = {"reference": picture(), "audio": audio, **CALL}
    ours = pipe(PROMPT, **settings)
    theirs = pipe(PROMPT, sampler=by_hand, **settings)
    assert torch.equal(ours.frames, theirs.frames)
    if audio:
        assert torch.equal(ours.audio, theirs.audio)
        assert len(seen[0]) == 2
    else:
        assert seen == [(1, 192, 8)]
    assert not torch.allclose(ours.frames, pipe(PROMPT, sampler=heun, **settings).frames)


def test_a_callback_may_stop_the_sampling(pipe):
    calls = []

    def callback(pipeline, step, timestep, state):
        calls.append(float(timestep))
        pipeline._interrupt = step == 0
        return None

    halted = pipe(PROMPT, callback_on_step_end=callback, **CALL).frames
    assert len(calls) == 1
    assert calls[0] == pytest.approx(1000 * float(pipe.scheduler.sigmas[0]))
    assert not torch.allclose(halted, pipe(PROMPT, **CALL).frames)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchHeunDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
    ],
)
def test_a_scheduler_that_would_not_be_asked_is_refused(pipe, scheduler):
    pipe.scheduler = scheduler
    with pytest.raises(STDRCError, match="pass sampler="):
        pipe(PROMPT, **CALL)


@pytest.mark.parametrize("phase", [0.0, 0.7])
def test_training_and_sampling_ask_the_model_the_same(pipe, phase):
    """One sequence: the velocity that training sees is the one that sampling walks along."""
    placement = ReferencePlacement(phase=phase)
    found = {}

    def peek(velocity, x, sigmas, callback):
        found.update(x=x, sigma=sigmas[0], v=velocity(x, sigmas[0]), velocity=velocity)
        return x

    pipe(
        PROMPT, reference=picture(), placement=placement, sampler=peek,
        guidance={"text": 1, "reference": 1}, **CALL,
    )  # fmt: skip
    given = found["velocity"]
    sequence = TokenSequence.of(
        pipe.transformer.rope, placement, frames=3, height=8, width=8, fps=8.0
    )
    with torch.no_grad():
        trained, _ = Denoiser(pipe.transformer)(
            found["x"], found["sigma"][None], given.text.video, given.text.mask, given.reference,
            sequence,
        )  # fmt: skip
    torch.testing.assert_close(trained, found["v"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tokens", [300_000, 10_000_000])
def test_a_schedule_that_a_large_video_breaks_is_said_to_be_so(tokens):
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, shift_terminal=0.1, base_shift=0.95, max_shift=2.05,
        base_image_seq_len=1024, max_image_seq_len=4096,
    )  # fmt: skip
    common = {"schedule": "dev", "sigmas": None, "device": "cpu"}
    levels, _ = noise_levels(scheduler, steps=4, tokens=6144, **common)
    assert levels[-1] == 0
    assert (levels[:-1] > levels[1:]).all()
    with pytest.raises(STDRCError, match=f"4 step.*of {tokens} tokens.*choose a smaller size"):
        noise_levels(scheduler, steps=4, tokens=tokens, **common)
    with pytest.raises(STDRCError, match=r"1 step.*; take at least 2"):
        noise_levels(scheduler, steps=1, tokens=6144, **common)
