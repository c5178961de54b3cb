"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from stdrc.training.config import EmaConfig


class WeightAverage:
    """Keeps a = d a + (1 - d) w for every trained parameter w, in torch's `AveragedModel`.

    With warm-up d = min(decay, (1 + step) / (10 + step)): a random start is soon forgotten.

    Args:
        parameters: the live parameters; the average starts as a copy of them.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], config: EmaConfig) -> None:
        self.parameters = nn.ParameterList(parameters)
        self.config = config
        self.average = AveragedModel(self.parameters, multi_avg_fn=self._take_in)
        self.average.n_averaged.fill_(1)  # at 0 the first update would overwrite the copy
        self._decay = config.decay

    @property
    def values(self) -> list[Tensor]:
        """The averages, as the parameters are ordered."""
        return [value.detach() for value in self.average.module]

    def decay(self, step: int) -> float:
        """d at optimizer step `step`, counted from 0."""
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + step) / (10 + step))

    def update(self, step: int) -> None:
        """Take in the parameters after optimizer step `step`."""
        self._decay = self.decay(step)
        self.average.update_parameters(self.parameters)

    @torch.no_grad()
    def _take_in(self, averages: list[Tensor], live: list[Tensor], _count: Tensor | int) -> None:
        torch._foreach_lerp_(averages, live, 1 - self._decay)

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
