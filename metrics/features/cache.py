"""Where features are kept: on disk between runs, and in memory up to a number of bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from media.files import whole_file
from media.video import DECODER


class FeatureCache:
    """Features on disk, by the video's hash, its decoder, and the feature's name and version.

    Args:
        folder: made when the first feature is written; safe to share between processes, since a
            file is written beside its final name and renamed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def _path(self, sha256: str, name: str, version: str) -> Path:
        key = hashlib.sha256(f"{name}\0{version}\0{DECODER}".encode()).hexdigest()[:16]
        return self.folder / sha256[:2] / sha256 / f"{name}-{key}.safetensors"

    def load(self, sha256: str, name: str, version: str) -> dict[str, Tensor]:
        """What is stored, or nothing. A damaged file counts as nothing and is computed again."""
        path = self._path(sha256, name, version)
        if not path.is_file():
            return {}
        try:
            return load_file(path)
        except (SafetensorError, OSError):  # the file is rewritten on store
            path.unlink(missing_ok=True)
            return {}

    def store(self, sha256: str, name: str, version: str, tensors: dict[str, Tensor]) -> None:
        """Write ``tensors`` under that key, replacing what was there."""
        path = self._path(sha256, name, version)
        with whole_file(path) as part:
            save_file({k: v.contiguous() for k, v in tensors.items()}, part)


def size_of(value: Any) -> int:
    """Bytes of the arrays and tensors in a value; what holds none counts 64."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(size_of(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return sum(size_of(one) for one in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return sum(size_of(one) for one in value)
    return 64


class MemoryCache:
    """Values in memory, at most ``limit`` bytes of them; what was used longest ago goes first.

    A value larger than the limit isn't kept at all.

    Example:
        >>> cache = MemoryCache(limit=100)
        >>> cache.put("a", np.zeros(60, np.uint8))
        >>> cache.put("b", np.zeros(60, np.uint8))
        >>> "a" in cache, "b" in cache, cache.size
        (False, True, 60)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value, in the place of an older one of that key."""
        if key in self._held:
            self.size -= self._held.pop(key)[1]
        size = size_of(value)
        if size > self.limit:
            return
        self._held[key] = (value, size)
        self.size += size
        while self.size > self.limit:
            self.size -= self._held.popitem(last=False)[1][1]
