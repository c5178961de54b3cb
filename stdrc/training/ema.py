"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from stdrc.training.config import EmaConfig


class WeightAverage:
    """Keeps a = d a + (1 - d) w for every trained parameter w.

    With warm-up d = min(decay, (1 + step) / (10 + step)): a random start is soon forgotten.

    Args:
        parameters: the live parameters; the average starts as a copy of them.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], config: EmaConfig) -> None:
        self.parameters = list(parameters)
        self.config = config
        self.values = [p.detach().clone() for p in self.parameters]

    def decay(self, step: int) -> float:
        """d at optimizer step `step`, counted from 0."""
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimizer step `step`."""
        live = [p.detach() for p in self.parameters]
        torch._foreach_lerp_(self.values, live, 1 - self.decay(step))

    @torch.no_grad()
    def copy_from(self, parameters: Sequence[nn.Parameter]) -> None:
        """Set the average to `parameters`."""
        torch._foreach_copy_(self.values, [p.detach() for p in parameters])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model holds the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, value in zip(self.parameters, self.values, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(held)
