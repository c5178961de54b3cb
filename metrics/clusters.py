"""What is resampled in a distance between sets: people, or videos where nobody is named.

Frames of a video are alike, and so are videos of a person: an interval that takes them for
independent promises more than it knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError


class Interval(NamedTuple):
    """A value with its interval, None where there are too few videos for one."""

    value: float
    low: float | None
    high: float | None


def labels(given: Tensor | None, samples: int, name: str) -> Tensor:
    """Labels ``[N]``, one of its own for every sample where none are given."""
    if given is None:
        return torch.arange(samples)
    given = torch.as_tensor(given).detach().cpu()
    if given.shape != (samples,):
        raise MetricsError(
            f"{name} has shape {tuple(given.shape)} for {samples} samples; pass one label each."
        )
    return given


class Clusters(NamedTuple):
    """Who each sample of two sets shows; people of both sets come first, with the same numbers."""

    x: Tensor
    y: Tensor
    shared: int
    only_x: int
    only_y: int

    @classmethod
    def of(
        cls, x_videos: Tensor, y_videos: Tensor, x_people: Tensor | None, y_people: Tensor | None
    ) -> Clusters:
        """From labels; a set without people has its videos for people, none of them shared."""
        x = x_videos if x_people is None else labels(x_people, len(x_videos), "x_people")
        y = y_videos if y_people is None else labels(y_people, len(y_videos), "y_people")
        first, second = x.unique().tolist(), y.unique().tolist()
        linked = x_people is not None and y_people is not None
        both = sorted(set(first) & set(second)) if linked else []
        order_x = {v: i for i, v in enumerate([*both, *(v for v in first if v not in both)])}
        order_y = {v: i for i, v in enumerate([*both, *(v for v in second if v not in both)])}
        return cls(
            torch.tensor([order_x[v] for v in x.tolist()]),
            torch.tensor([order_y[v] for v in y.tolist()]),
            len(both),
            len(first) - len(both),
            len(second) - len(both),
        )

    @property
    def fewest(self) -> int:
        """People in the smaller set."""
        return self.shared + min(self.only_x, self.only_y)

    def draw(self, rng: np.random.Generator, resamples: int) -> tuple[Tensor, Tensor]:
        """How often each person is drawn ``[R, people]``, in both sets alike where in both."""

        def counts(people: int) -> Tensor:
            if people == 0:
                return torch.zeros(resamples, 0)
            drawn = rng.multinomial(people, np.full(people, 1 / people), size=resamples)
            return torch.from_numpy(drawn)

        shared, x, y = counts(self.shared), counts(self.only_x), counts(self.only_y)
        return torch.cat([shared, x], dim=1), torch.cat([shared, y], dim=1)

    def parts(self, most: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """For people of both sets, of the first only and of the second only: who stays, in turn.

        Each entry leaves out one of at most ``most`` groups of people of that kind; masks of the
        samples that stay, ``[N]`` and ``[M]``.
        """
        starts = ((0, self.shared), (self.shared, self.only_x), (self.shared, self.only_y))
        for kind, (start, people) in enumerate(starts):
            groups = min(most, people)
            masks = []
            for group in range(groups):
                gone = torch.arange(start + group, start + people, groups)
                stay_x = ~torch.isin(self.x, gone) if kind < 2 else torch.ones_like(self.x).bool()
                stay_y = ~torch.isin(self.y, gone) if kind != 1 else torch.ones_like(self.y).bool()
                masks.append((stay_x, stay_y))
            yield masks
