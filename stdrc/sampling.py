"""Samplers, and the guided velocity that they walk along.

As in k-diffusion: a sampler is a function of a callable, a starting point and noise levels, and
knows nothing of text, references or guidance; `GuidedVelocity` is that callable. Any other loop
over `velocity(x, sigma)` can take the sampler's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx2.pipeline_ltx2 import calculate_shift, retrieve_timesteps
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES
from torch import Tensor

from media.wording import counted
from stdrc.conditions import EncodedText
from stdrc.defaults import STEPS
from stdrc.errors import STDRCError
from stdrc.guidance import Stream, ThreeStreamGuidance
from stdrc.sequence import TokenSequence

#: velocity(x, sigma): x [B, ...] and sigma, a scalar tensor or [B], to dx/dsigma [B, ...].
Velocity = Callable[[Tensor, Tensor], Tensor]


class Sampler(Protocol):
    """Walks from noise to a clean state; see `sample_euler`."""

    def __call__(
        self,
        velocity: Velocity,
        x: Tensor,
        sigmas: Tensor,
        callback: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor: ...


def sample_euler(
    velocity: Velocity,
    x: Tensor,
    sigmas: Tensor,
    callback: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """Euler's method along dx/dsigma = v(x, sigma), as `FlowMatchEulerDiscreteScheduler` steps.

    Args:
        velocity: called once per step.
        x: [B, ...] state at noise level sigmas[0].
        sigmas: [S + 1] descending noise levels, or [S + 1, B], each sample its own.
        callback: called as callback(step, x) after each step; what it returns goes on.

    Returns:
        The state at sigmas[-1].

    Example:
        >>> v = torch.tensor([[2.0]])
        >>> sample_euler(lambda x, sigma: v, torch.ones(1, 1), torch.tensor([1.0, 0.5, 0.0]))
        tensor([[-1.]])
    """
    for i in range(len(sigmas) - 1):
        step = (sigmas[i + 1] - sigmas[i]).reshape(-1, *[1] * (x.ndim - 1))
        x = x + step * velocity(x, sigmas[i])
        if callback is not None:
            x = callback(i, x)
    return x


def check_sigmas(sigmas: Sequence[float] | Tensor | np.ndarray) -> np.ndarray:
    """Noise levels from outside, as the scheduler takes them.

    Returns:
        float64 [S], strictly descending, in 0..1.

    Raises:
        STDRCError: none are given, or they are something else.
    """
    if isinstance(sigmas, Tensor):
        sigmas = sigmas.detach().cpu().numpy()
    try:
        levels = np.asarray(sigmas, dtype=np.float64)
    except (TypeError, ValueError):
        raise STDRCError(f"sigmas are noise levels in 0..1, not {sigmas!r}.") from None
    if levels.ndim != 1 or not len(levels):
        raise STDRCError("sigmas must be a list of at least one noise level, such as [1.0, 0.5].")
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 1:
        wrong = next(s for s in levels.tolist() if not 0 <= s <= 1)
        raise STDRCError(f"sigmas are noise levels in 0..1, and one of them is {wrong:g}.")
    if not (np.diff(levels) < 0).all():
        raise STDRCError(
            f"sigmas must go down from noise to video, without repeats, not {levels.tolist()}."
        )
    return levels


def noise_levels(
    scheduler: Any,
    schedule: str,
    steps: int | None,
    sigmas: Sequence[float] | None,
    *,
    tokens: int,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    """The noise levels of a sampling, and the timesteps that callbacks are told.

    Args:
        scheduler: the checkpoint's `FlowMatchEulerDiscreteScheduler`.
        schedule: "dev" or "distilled"; see `STDRCPipeline.__call__`.
        steps: how many; None: the schedule's own number.
        sigmas: in place of the schedule's levels.
        tokens: of the video, which the "dev" schedule is shifted by; the reference's don't count.

    Returns:
        [S + 1] descending, the last 0, and [S].

    Raises:
        STDRCError: another scheduler, a number of steps that the schedule hasn't got, or bad
            sigmas.
    """
    if steps is not None and steps < 1:
        raise STDRCError(f"At least one step is needed, not {steps}.")
    config = scheduler.config
    if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or config.get(
        "stochastic_sampling"
    ):
        raise STDRCError(
            "The noise levels come from a FlowMatchEulerDiscreteScheduler without "
            f"stochastic_sampling, not from {type(scheduler).__name__}; to sample in another way, "
            "pass sampler= a function such as stdrc.sampling.sample_euler."
        )
    if schedule == "distilled":
        given = check_sigmas(DISTILLED_SIGMA_VALUES if sigmas is None else sigmas)
        if steps not in (None, len(given)):
            raise STDRCError(
                f"The distilled schedule has {len(given)} steps, not {steps}; leave "
                "num_inference_steps out."
            )
        # As they are: the model was distilled at these levels, not at shifted ones.
        levels = torch.tensor([*given, 0.0], dtype=torch.float32, device=device)
        return levels, levels[:-1] * config.num_train_timesteps
    steps = STEPS if steps is None else steps
    given = np.linspace(1.0, 1 / steps, steps) if sigmas is None else check_sigmas(sigmas)
    mu = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 1024),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.95),
        config.get("max_shift", 2.05),
    )
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # said below, in words
            timesteps, _ = retrieve_timesteps(scheduler, steps, device, sigmas=given, mu=mu)
        finite = bool(torch.isfinite(scheduler.sigmas).all())
    except OverflowError:  # e^mu
        finite = False
    if not finite:
        # The stretch to `shift_terminal` divides by the distance between first and last level,
        # which is 0 too where a shift for very many tokens moves all levels to 1.
        raise STDRCError(
            f"This checkpoint's noise schedule is not defined for {counted(len(given), 'step')}"
            + (
                f" of a video of {tokens} tokens, whose shift leaves no noise level below 1; "
                "choose a smaller size, fewer frames or the distilled schedule."
                if len(given) > 1
                else "; take at least 2."
            )
        )
    return scheduler.sigmas.to(device), timesteps


@dataclass
class GuidedVelocity:
    """v(x, sigma) under three-stream guidance, with all that stays the same from step to step.

    Streams with equally many tokens share a pass; streams without the reference run without its
    tokens, and nothing is padded.

    Args:
        transformer: diffusers' LTX-2.x transformer.
        sequence: of the video and its references.
        guidance: the weights.
        text, negative: [B] prompts, and what "no text" means.
        reference: [B, R, C] clean tokens, or None.
        audio: (M, A), how many audio tokens of which width are sampled along; None: the video
            alone, both modalities isolated, one silent token standing for the sound.
        attention_kwargs: as diffusers' transformer takes them.

    Raises:
        STDRCError: if the guidance perturbs blocks that this transformer hasn't got, or if it is
            an LTX-2.0, which can't be perturbed.
    """

    transformer: Any
    sequence: TokenSequence
    guidance: ThreeStreamGuidance
    text: EncodedText
    negative: EncodedText
    reference: Tensor | None = None
    audio: tuple[int, int] | None = None
    attention_kwargs: dict[str, Any] | None = None
    _texts: dict[tuple[Stream, ...], EncodedText] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.guidance.stg:
            return
        blocks = len(self.transformer.transformer_blocks)
        if wrong := [b for b in self.guidance.stg_blocks if b >= blocks]:
            raise STDRCError(
                f"Guidance 'stg_blocks' names block {wrong[0]}; this transformer has 0 to "
                f"{blocks - 1}."
            )
        if not self.transformer.config.perturbed_attn:
            raise STDRCError(
                "This checkpoint's attention can't be perturbed (it is an LTX-2.0); set stg to 0."
            )

    def join(self, video: Tensor, audio: Tensor | None = None) -> Tensor:
        """The state that a sampler walks: video tokens, or both modalities [B, N*C + M*A]."""
        if self.audio is None:
            return video
        assert audio is not None
        return torch.cat([video.flatten(1), audio.flatten(1)], dim=1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Video tokens [B, N, C], and audio tokens [B, M, A] where there are any."""
        if self.audio is None:
            return x, None
        length = self.audio[0] * self.audio[1]
        video = x[:, :-length].unflatten(1, (self.sequence.tokens, -1))
        return video, x[:, -length:].unflatten(1, self.audio)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The guided velocity at `x`, in its shape; sigma is a scalar tensor in 0..1."""
        video, audio = self.split(x)
        given = self.reference is not None
        streams = list(self.guidance.coefficients(float(sigma), has_reference=given))
        of_video, of_audio = self.streams(streams, video, audio, sigma)
        guided = guide(self.guidance, of_video, video, sigma, given)
        if audio is None:
            return guided
        return self.join(guided, guide(self.guidance, of_audio, audio, sigma, given))

    def streams(
        self, streams: Sequence[Stream], video: Tensor, audio: Tensor | None, sigma: Tensor
    ) -> tuple[dict[Stream, Tensor], dict[Stream, Tensor]]:
        """Each stream's velocity of the video [B, N, C] and of the audio [B, M, A]."""
        if audio is None:
            width = self.transformer.config.audio_in_channels
            audio = video.new_zeros(len(video), 1, width)
        of_video: dict[Stream, Tensor] = {}
        of_audio: dict[Stream, Tensor] = {}
        for kind in ((False, False), (True, False), (False, True), (True, True)):
            group = tuple(s for s in streams if (s.has_reference, s.perturbed) == kind)
            if group:
                found = self._run(group, video, audio, sigma)
                of_video.update(zip(group, found[0], strict=True))
                of_audio.update(zip(group, found[1], strict=True))
        return of_video, of_audio

    def _run(
        self, group: tuple[Stream, ...], video: Tensor, audio: Tensor, sigma: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The streams of a group, which agree in reference and perturbation, in one pass."""
        if group not in self._texts:
            self._texts[group] = EncodedText.cat(
                [self.text if s.has_text else self.negative for s in group]
            )
        text, copies = self._texts[group], len(group)
        dtype = text.video.dtype
        sequence, memory = self.sequence.video, None
        if group[0].has_reference:
            assert self.reference is not None
            sequence, memory = self.sequence, self.reference.to(video.device, dtype)
            memory = torch.cat([memory] * copies)
        batch, frames = copies * len(video), audio.shape[1]
        coords = self.transformer.audio_rope.prepare_audio_coords(batch, frames, audio.device)
        name = "plain" if memory is None else "reference"
        perturbed = list(self.guidance.stg_blocks) if group[0].perturbed else None
        with self.transformer.cache_context(f"{name} perturbed" if perturbed else name):
            of_video, of_audio = sequence.velocities(
                self.transformer,
                torch.cat([video] * copies).to(dtype),
                memory,
                sigma.expand(batch),
                audio_hidden_states=torch.cat([audio] * copies).to(dtype),
                encoder_hidden_states=text.video,
                audio_encoder_hidden_states=text.audio,
                encoder_attention_mask=text.mask,
                audio_encoder_attention_mask=text.mask,
                audio_coords=coords,
                isolate_modalities=self.audio is None,
                spatio_temporal_guidance_blocks=perturbed,
                attention_kwargs=self.attention_kwargs,
            )
        return of_video.float().chunk(copies), of_audio.float().chunk(copies)


def guide(
    guidance: ThreeStreamGuidance,
    velocities: dict[Stream, Tensor],
    x: Tensor,
    sigma: Tensor,
    has_reference: bool,
) -> Tensor:
    """The guided velocity; what is not linear is done on x_0, as diffusers' LTX-2 does.

    Args:
        velocities: each stream's [B, N, C] at `x`.
        x: [B, N, C] the noisy state.
        sigma: scalar noise level in (0, 1].
    """
    level = float(sigma)
    if guidance.linear:
        return guidance.combine(velocities, level, has_reference=has_reference)
    clean = {stream: x - sigma * v for stream, v in velocities.items()}
    guided = guidance.combine(clean, level, has_reference=has_reference)
    return (x - guided) / sigma


def seeded_generators(
    seeds: int | Sequence[int] | None,
    generator: torch.Generator | list[torch.Generator] | None,
    count: int,
) -> torch.Generator | list[torch.Generator] | None:
    """A generator for each of `count` samples from seeds, or the one that is given.

    Raises:
        STDRCError: both are given, or seeds that aren't as many whole numbers.
    """
    if seeds is None:
        return generator
    if generator is not None:
        raise STDRCError("Give seeds or a generator, not both.")
    each: list[Any] = [seeds] * count if np.ndim(seeds) == 0 else list(seeds)  # type: ignore[arg-type]
    if len(each) != count:
        raise STDRCError(
            f"There are {counted(len(each), 'seed')} for {counted(count, 'sample')}; give one each."
        )
    if wrong := [seed for seed in each if int(seed) != seed]:
        raise STDRCError(f"A seed is a whole number, not {wrong[0]!r}.")
    # On the CPU, so that a seed means the same video on every device.
    return [torch.Generator("cpu").manual_seed(int(seed)) for seed in each]
