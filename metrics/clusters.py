"""What is resampled in a distance between sets: people, or videos where nobody is named.

Frames of a video are alike, and so are videos of a person: an interval that takes them for
independent promises more than it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.errors import MetricsError


class Influence(NamedTuple):
    """What people have to do with a distance: leaving them out moves it, one way or the other.

    The sum over all groups of ``effect * z``, with uncorrelated ``z`` of variance 1, varies as the
    jackknife says that the distance does. Of a resample with each person drawn ``w`` times, ``z``
    is the sum of ``w - 1`` over the group's people, divided by the root of their number.
    """

    people: tuple[int, ...]
    """numbers, as in :class:`Clusters`; or labels"""
    effect: float


class Interval(NamedTuple):
    """A value with its interval, None where there are too few videos for one."""

    value: float
    low: float | None
    high: float | None
    influences: tuple[Influence, ...] = ()
    """of the people in the set under test, by their labels"""


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

    def without(self, most: int) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
        """For people of both sets, of the first only and of the second only: who leaves, in turn.

        Each entry leaves out one of at most ``most`` groups of people of that kind: their numbers,
        and masks of the samples that stay, ``[N]`` and ``[M]``.
        """
        starts = ((0, self.shared), (self.shared, self.only_x), (self.shared, self.only_y))
        for kind, (start, people) in enumerate(starts):
            groups = min(most, people)
            masks = []
            for group in range(groups):
                gone = torch.arange(start + group, start + people, groups)
                stay_x = ~torch.isin(self.x, gone) if kind < 2 else torch.ones_like(self.x).bool()
                stay_y = ~torch.isin(self.y, gone) if kind != 1 else torch.ones_like(self.y).bool()
                masks.append((gone, stay_x, stay_y))
            yield masks

    def jackknife(
        self, most: int, distances: Callable[[list[tuple[Tensor, Tensor]]], Iterable[float]]
    ) -> list[list[Influence]]:
        """Influences of at most ``most`` groups of people of each kind (Shao and Wu 1989).

        distances: of pairs of masks of the samples that stay, ``[N]`` and ``[M]``. A kind of one
        group only shows no influence.
        """
        found: list[list[Influence]] = []
        for kind in self.without(most):
            n = len(kind)
            values = np.array(list(distances([(x, y) for _, x, y in kind])) if n > 1 else [])
            effects = (values.mean() - values) * ((n - 1) / n) ** 0.5 if n > 1 else values
            gone = (tuple(people.tolist()) for people, *_ in kind)
            found.append([Influence(*pair) for pair in zip(gone, effects.tolist(), strict=n > 1)])
        return found

    def counts(self, stay: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """How often each person is there ``[R, people]``, of masks of the samples that stay."""
        x = torch.zeros(len(stay), self.shared + self.only_x)
        y = torch.zeros(len(stay), self.shared + self.only_y)
        for r, (stay_x, stay_y) in enumerate(stay):
            x[r, self.x[stay_x]], y[r, self.y[stay_y]] = 1.0, 1.0
        return x, y

    def labelled(self, influences: list[Influence], people: Tensor) -> tuple[Influence, ...]:
        """The same influences, by the labels ``[N]`` of the people in ``x``."""
        label = dict(zip(self.x.tolist(), people.tolist(), strict=True))
        return tuple(Influence(tuple(label[p] for p in i.people), i.effect) for i in influences)
