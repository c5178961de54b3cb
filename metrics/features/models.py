"""The networks of one machine, each loaded once, and the features that they give of any picture.

`Models` is what a metric stands on: by itself it has one of its own; in the suite all metrics share
one, so that no face is detected twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from media.images import read_image
from media.video import VideoReader, video_sha256
from metrics.errors import MetricsError
from metrics.features.base import ClipFeature, Feature, Indices, build
from metrics.features.cache import FeatureCache, MemoryCache
from metrics.features.face_backends import load_face_backend
from metrics.features.face_backends.base import FaceBackend, pad_grey
from metrics.frames import Frames
from metrics.weights import require

__all__ = ["Models", "Picture"]

MEMORY_BYTES = 256 << 20
"""Most bytes of features of references and targets that are held at a time."""


class Models:
    """Features by name, on the networks that this machine has.

    Args:
        device: where networks run, "cpu" or "cuda".
        weights: explicit places of weights, by their name in `metrics.weights.WEIGHTS`.
        cache: a folder in which features of videos are kept between runs, or None.
    """

    def __init__(
        self,
        device: str = "cpu",
        weights: Mapping[str, str | Path] | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.device = device
        self.weights: Mapping[str, str | Path] = dict(weights or {})
        self.cache = FeatureCache(cache) if cache is not None else None
        self._own: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        self._features: dict[str, Any] = {}
        self._models: dict[str, Any] = {}
        self._memory = MemoryCache(MEMORY_BYTES)

    def __deepcopy__(self, memo: Any) -> Models:
        return self  # networks don't change, so copies of a metric share them

    def __getstate__(self) -> dict[str, Any]:
        kept = ("device", "weights", "cache", "_own")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    # --- networks ----------------------------------------------------------------------------

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
            f"faces.{name}", lambda: load_face_backend(name, self.device, self.weights)
        )

    # --- features ----------------------------------------------------------------------------

    def feature(self, name: str) -> Any:
        """A feature, built when it is first asked for.

        Raises:
            MetricsError: no feature has that name, or weights aren't on this machine.
        """
        if name not in self._features:
            self._features[name] = build(self, name)
        return self._features[name]

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

    def compute(
        self, names: Iterable[str], frames: Frames, given: Mapping[str, list[Any]] | None = None
    ) -> dict[str, list[Any]]:
        """Features of frames uint8 ``[N, H, W, 3]``, beside those that are ``given``."""
        values: dict[str, list[Any]] = dict(given or {})
        for feature in self.chain(names):
            if feature.name not in values:
                values[feature.name] = feature.compute(frames, values)
        return values

    # --- pictures and videos that aren't scored themselves -------------------------------------

    def of_image(self, name: str, path: Path) -> tuple[Any, bool]:
        """A feature of an image file, and whether its faces needed a border; see `Picture`."""
        key = (*_stamp(path), "picture")
        values = self._memory.get(key) or {}
        picture = Picture(self, read_image(path) if name not in values else None, values=values)
        found = picture.feature(name)
        self._memory.put(key, picture.values)
        return found, picture.needed_border(name)

    def of_video(self, name: str, path: Path, indices: Callable[[int], Indices]) -> list[Any]:
        """A feature of a video such as a target, from memory, disk or the video itself.

        Args:
            name: of a feature per frame, or of one per clip, which gives a list of one vector.
            path: the video.
            indices: the frames of a video of so many; not asked for a feature per clip.

        Raises:
            MetricsError: the video can't be read.
        """
        feature = self.feature(name)
        of_clip = isinstance(feature, ClipFeature)
        reader = VideoReader(path)
        taken = (feature.indices if of_clip else indices)(len(reader))
        key = (*_stamp(path), name, taken.tobytes())
        if (held := self._memory.get(key)) is not None:
            return held
        values = self._load_clip(feature, path) if of_clip else []
        if not values and of_clip:
            values = [feature.encode(reader.read(taken))]
            self.store(video_sha256(path), name, feature.version, {"vector": values[0]})
        elif not values:
            for _, part in reader.stream(taken):
                values += self.compute([name], part)[name]
        self._memory.put(key, values)
        return values

    def _load_clip(self, feature: ClipFeature, path: Path) -> list[Any]:
        if self.cache is None:
            return []
        stored = self.load(video_sha256(path), feature.name, feature.version)
        return [stored["vector"]] if stored else []

    def load(self, sha256: str, name: str, version: str) -> dict[str, torch.Tensor]:
        """What the cache on disk has of a video under that name and version, or nothing."""
        return self.cache.load(sha256, name, version) if self.cache else {}

    def store(self, sha256: str, name: str, version: str, tensors: dict[str, torch.Tensor]) -> None:
        """Keep features of a video on disk, where there is a cache."""
        if self.cache is not None:
            self.cache.store(sha256, name, version, tensors)


def _stamp(path: Path) -> tuple[Any, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        raise MetricsError(f"{path} can't be read ({error.strerror}).") from error
    return (path.resolve(), stat.st_mtime_ns, stat.st_size)


class Picture:
    """A reference image with its features, each computed when it is first asked for.

    Where no face is found, it is looked for again in the image with a grey border of 25 %, since
    detectors miss faces that fill the picture.

    Args:
        models: what computes the features.
        pixels: uint8 ``[H, W, 3]``, or None where only ``values`` are asked for.
        label, short: for messages, "the reference" with its path or its file's name.
        values: features that are known already.
    """

    def __init__(
        self,
        models: Models,
        pixels: Frames | None,
        label: str = "the reference",
        short: str = "",
        values: dict[str, Any] | None = None,
    ) -> None:
        self.models, self.label, self.short = models, label, short or label
        self.values = values if values is not None else {}
        self._pixels = pixels

    @property
    def pixels(self) -> Frames:
        """The image, uint8 ``[H, W, 3]``."""
        if self._pixels is None:
            raise MetricsError("the reference is given by its embedding; pass its image instead.")
        return self._pixels

    def feature(self, name: str) -> Any:
        """A feature of the image."""
        if name in self.values:
            return self.values[name]
        frame = self.pixels[None]
        for feature in self.models.chain([name]):
            if feature.name in self.values:
                continue
            stands_on_border = any(f"bordered.{r}" in self.values for r in feature.requires)
            shown = pad_grey(frame[0])[0][None] if stands_on_border else frame
            given: Mapping[str, Sequence[Any]] = {k: [v] for k, v in self.values.items()}
            found = feature.compute(shown, given)[0]
            if feature.name.startswith("faces.") and len(found) == 0:
                self.values[f"bordered.{feature.name}"] = True
                found = feature.compute(pad_grey(frame[0])[0][None], {})[0]
            self.values[feature.name] = found
        return self.values[name]

    def needed_border(self, name: str) -> bool:
        """Whether the image's faces were only found with a border: they fill the picture."""
        self.feature(name)
        return f"bordered.{name}" in self.values


class PictureFile(Picture):
    """A reference image in a file, whose features all videos share."""

    def __init__(self, models: Models, path: Path) -> None:
        super().__init__(models, None, f"the reference {path}", f"the reference {path.name}")
        self.path = path

    @property
    def pixels(self) -> Frames:
        if self._pixels is None:
            self._pixels = read_image(self.path)
        return self._pixels

    def feature(self, name: str) -> Any:
        return self.models.of_image(name, self.path)[0]

    def needed_border(self, name: str) -> bool:
        return self.models.of_image(name, self.path)[1]


def sampled(count: int, num_frames: int) -> Indices:
    """``num_frames`` frames evenly from the first to the last of ``count``, each once."""
    return np.unique(np.linspace(0, count - 1, num_frames).astype(np.int64))
