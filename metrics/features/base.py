"""What the suite computes once per frame, whatever number of metrics asks for it.

A feature turns a batch of frames into one value per frame. Features may build on others
(embeddings on faces), and know how to be written to the cache and read back. Each registers
itself under a name or a pattern such as ``embeddings.{backend}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.errors import UnknownNameError
from metrics.features.face_backends import FaceBackend, load_face_backend
from metrics.frames import Frames
from metrics.weights import require

Indices = NDArray[np.int64]


class Feature(Protocol):
    """One value per frame.

    One that looks at what it requires alone and never at frames says ``late = True``: it is
    computed once a video has been read, over all of the frames that are wanted, and given none.
    """

    name: str
    version: str
    requires: tuple[str, ...]
    """Names of the features that `compute` builds on."""

    def compute(self, frames: Frames, given: Mapping[str, Sequence[Any]]) -> list[Any]:
        """A value for each frame of uint8 ``[N, H, W, 3]``; ``given`` holds what is required."""
        ...

    def pack(self, values: Sequence[Any]) -> dict[str, Tensor]:
        """Values as tensors, for the cache."""
        ...

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """The values that `pack` packed."""
        ...


@runtime_checkable
class ClipFeature(Protocol):
    """One vector per video, of the frames that the feature itself chooses."""

    name: str
    version: str
    asked: int
    """how many frames it looks at where the video has as many"""

    def indices(self, count: int) -> Indices:
        """The frames that it looks at, of a video of ``count``; ascending, each once."""
        ...

    def encode(self, frames: Frames) -> Tensor:
        """A vector ``[D]`` of those frames, uint8 ``[T, H, W, 3]``."""
        ...


Builder = Callable[..., Any]
_BUILDERS: dict[str, tuple[re.Pattern[str], Builder]] = {}


def feature(pattern: str) -> Callable[[Builder], Builder]:
    """Register what builds a feature: ``build(networks, *words in braces) -> Feature``.

    The last word in braces takes all that is left of the name, the others go up to a dot.
    """
    parts = re.split(r"\{\w+\}", pattern)
    groups = [r"([^.]+)"] * (len(parts) - 2) + [r"(.+)"] * (len(parts) > 1)
    expression = re.escape(parts[0])
    for group, part in zip(groups, parts[1:], strict=True):
        expression += group + re.escape(part)

    def decorate(builder: Builder) -> Builder:
        _BUILDERS[pattern] = (re.compile(expression), builder)
        return builder

    return decorate


@contextmanager
def exact_float32() -> Iterator[None]:
    """Run networks on a card in float32 as written: torch's default for convolutions there is TF32
    (10 bits of mantissa), which moves scores in the third digit and which no version names."""
    backends = torch.backends
    switches = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    were = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, was in zip(switches, were, strict=True):
            switch.fp32_precision = was


class Networks:
    """The networks of one machine, each loaded once, and the features that they give.

    Args:
        device: where networks run, "cpu" or "cuda".
        weights: explicit places of weights, by their name in `metrics.weights.WEIGHTS`.
    """

    engine = "torch"
    """what runs the networks that can be handed on; see `metrics.features.networks.engine`"""

    def __init__(
        self, device: str = "cpu", weights: Mapping[str, str | Path] | None = None
    ) -> None:
        self.device = device
        self.weights: Mapping[str, str | Path] = dict(weights or {})
        self._own: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        self._features: dict[str, Any] = {}
        self._models: dict[str, Any] = {}

    def __deepcopy__(self, memo: Any) -> Networks:
        return self  # networks don't change, so copies of a metric share them

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_features", "_models")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    def weight(self, name: str) -> Path:
        """Where weights are.

        Raises:
            MetricsError: they aren't on this machine; the message says how to get them.
        """
        return require(name, self.weights.get(name))

    def shared(self, key: str, load: Callable[[], Any]) -> Any:
        """A network that several features or metrics use, loaded when it is first asked for."""
        if key not in self._models:
            self._models[key] = load()
        return self._models[key]

    def add(self, key: str, thing: Any) -> str:
        """Take a network that the caller has loaded; returns the name that it has here."""
        while self._own.setdefault(key, thing) is not thing:
            key += "'"
        return key

    def own(self, key: str) -> Any:
        """What `add` took, or None."""
        return self._own.get(key)

    def backend(self, name: str) -> FaceBackend:
        """The face backend of that name."""
        return self.own(name) or self.shared(
            f"faces.{name}",
            lambda: load_face_backend(name, self.device, self.weights, self.backend),
        )

    def feature(self, name: str) -> Any:
        """A feature, built when it is first asked for.

        Raises:
            MetricsError: no feature has that name, or weights aren't on this machine.
        """
        if name not in self._features:
            self._features[name] = self._build(name)
        return self._features[name]

    def _build(self, name: str) -> Any:
        for expression, builder in _BUILDERS.values():
            if found := expression.fullmatch(name):
                return builder(self, *found.groups())
        raise UnknownNameError.among("no feature is called", name, _BUILDERS)

    def add_feature(self, feature: Feature) -> None:
        """Take a feature that the caller has built."""
        self._features.setdefault(feature.name, feature)

    def version(self, name: str) -> str:
        """The version of a feature; changes whenever its numbers may."""
        return str(self.feature(name).version)

    def chain(self, names: Iterable[str]) -> list[Feature]:
        """Features and what they require, each after what it builds on."""
        order: dict[str, Feature] = {}

        def visit(name: str) -> None:
            feature = self.feature(name)
            for required in feature.requires:
                visit(required)
            order.setdefault(name, feature)

        for name in names:
            visit(name)
        return list(order.values())

    @exact_float32()
    def compute(
        self, names: Iterable[str], frames: Frames, given: Mapping[str, list[Any]] | None = None
    ) -> dict[str, list[Any]]:
        """Features of frames uint8 ``[N, H, W, 3]``, beside those that are ``given``."""
        values: dict[str, list[Any]] = dict(given or {})
        for feature in self.chain(names):
            if feature.name not in values:
                values[feature.name] = feature.compute(frames, values)
        return values
