"""Noise levels for flow matching: which s a training sample is shown.

The default follows LTX-2's own trainer: a logit-normal whose mean grows with the number of *video*
tokens (longer clips need more noise to lose the same information), stretched so that its 0.5th and
99.9th percentiles land on 0 and 1, with a share drawn uniformly so that no level is never seen.
Adding a reference does not move it: reference tokens are not counted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stdrc.training.config import NoiseConfig

EPSILON = 1e-3
# Standard normal quantiles of 0.5 % and 99.9 %.
Z_LOW, Z_HIGH = -2.5758293035489004, 3.090232306167813


def shift_for_tokens(tokens: int, config: NoiseConfig) -> float:
    """Mean of the logit-normal for a clip of `tokens` video tokens.

    The line through (min_tokens, min_shift) and (max_tokens, max_shift), extended beyond both, as
    in LTX-2's trainer and in diffusers' `calculate_shift`, which sets the sampler's schedule.

    Example:
        >>> shift_for_tokens(1024, NoiseConfig()), round(shift_for_tokens(4096, NoiseConfig()), 2)
        (0.95, 2.05)
    """
    slope = (config.max_shift - config.min_shift) / (config.max_tokens - config.min_tokens)
    return config.min_shift + slope * (tokens - config.min_tokens)


def draw_sigmas(
    count: int, tokens: int, config: NoiseConfig, generator: torch.Generator | None = None
) -> Tensor:
    """Noise levels s in [1e-3, 1], 0 being clean.

    Args:
        count: how many.
        tokens: video tokens of a clip, without the reference's.

    Returns:
        float32 [count] on the CPU.
    """
    uniform = torch.rand(count, generator=generator)
    normal = torch.randn(count, generator=generator)
    pick = torch.rand(count, generator=generator)
    flat = EPSILON + (1 - EPSILON) * uniform
    if config.name == "uniform":
        return flat
    mean = shift_for_tokens(tokens, config) if config.name == "shifted" else config.mean
    sigmas = torch.sigmoid(mean + config.std * normal)
    if config.name == "shifted":
        low, high = torch.sigmoid(mean + config.std * torch.tensor([Z_LOW, Z_HIGH])).unbind()
        sigmas = (sigmas - low) / (high - low)
    # What the stretch pushes below zero is reflected, so that nothing piles up at the edge.
    sigmas = torch.where(sigmas < EPSILON, 2 * EPSILON - sigmas, sigmas).clamp(EPSILON, 1.0)
    share = config.uniform
    if share is None:
        share = 0.1 if config.name == "shifted" else 0.0
    return torch.where(pick < share, flat, sigmas)
