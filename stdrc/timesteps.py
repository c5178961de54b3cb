"""Timesteps of a sequence in which the video is noisy and the reference is clean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def shared_timesteps(transformer: nn.Module, groups: list[tuple[Tensor, int]]) -> Iterator[None]:
    """Embed each distinct timestep once, then copy it to its tokens.

    The model embeds a timestep per token though a sample has two, the video's and the reference's
    0. At the miniature's size that is a tenth of a step. Same numbers, fewer of them.

    Args:
        transformer: diffusers' LTX-2.x transformer.
        groups: for each run of tokens that share a timestep, in sequence order, the timesteps
            [B, 1] and how many tokens there are.
    """

    def fewer(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        distinct = torch.cat([time for time, _ in groups], dim=1).flatten()  # [B * groups]
        return (distinct, *args[1:]), kwargs

    def spread(_: nn.Module, __: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        batch = groups[0][0].shape[0]
        spread_out = []
        for values in output:
            values = values.view(batch, len(groups), -1)
            tokens = [
                values[:, i : i + 1].expand(-1, count, -1) for i, (_, count) in enumerate(groups)
            ]
            spread_out.append(torch.cat(tokens, dim=1).flatten(0, 1))  # [B * tokens, D]
        return spread_out[0], spread_out[1]

    embed = transformer.time_embed
    handles = [
        embed.register_forward_pre_hook(fewer, with_kwargs=True),
        embed.register_forward_hook(spread),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
