"""What a metric stands on: networks, and the features that they give of any picture or video.

`Models` is what a metric stands on: by itself it has one of its own; in the suite all metrics share
one, so that no face is detected twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from media.images import read_image
from media.video import VideoReader, video_sha256
from metrics.errors import MetricsError
from metrics.features.base import ClipFeature, Indices, Networks
from metrics.features.cache import FeatureCache, MemoryCache
from metrics.features.face_backends.base import pad_grey
from metrics.frames import Frames

MEMORY_BYTES = 256 << 20
"""Most bytes of features of references and targets that are held at a time."""


class Models(Networks):
    """Features by name, and what is kept of pictures and videos that aren't scored themselves.

    Args:
        device, weights: see :class:`~metrics.features.base.Networks`.
        cache: a folder in which features of videos are kept between runs, or None.
        engine: what runs the networks that can be handed on, "torch", "torch-float16" or
            "openvino"; see `metrics.features.networks.engine`.
    """

    def __init__(
        self,
        device: str = "cpu",
        weights: Mapping[str, str | Path] | None = None,
        cache: str | Path | None = None,
        engine: str = "torch",
    ) -> None:
        super().__init__(device, weights)
        self.engine = engine
        self.cache = FeatureCache(cache) if cache is not None else None

    def _clear(self) -> None:
        super()._clear()
        self._memory = MemoryCache(MEMORY_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_memory"}

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
            indices: which frames to take, given how many there are; not for a feature per clip.

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
        values: list[Any] = []
        if of_clip:
            digest = video_sha256(path) if self.cache else ""
            stored = self.load(digest, name, feature.version)
            vector = stored["vector"] if stored else feature.encode(reader.read(taken))
            values.append(vector)
            if not stored:
                self.store(digest, name, feature.version, {"vector": vector})
        else:
            for _, part in reader.stream(taken):
                values += self.compute([name], part)[name]
        self._memory.put(key, values)
        return values

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
