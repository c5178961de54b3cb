"""What prompts and references became in their encoders: kept in memory, or on disk by content.

On disk, so that a restart and the workers of a run read what one process encoded, and only that one
ever loads the text encoder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.keys import canonical
from media.files import write_atomic

log = logging.getLogger("stdrc.bench")
Encoded = TypeVar("Encoded")


def cache_folder() -> Path:
    """Where encodings lie: `encoded` in STDRC_CACHE, by default ~/.cache/stdrc."""
    return Path(os.environ.get("STDRC_CACHE", "~/.cache/stdrc")).expanduser() / "encoded"


class Encodings:
    """Encodings by what they follow from.

    Args:
        on_disk: keep them in `cache_folder()`, not in memory.

    Attributes:
        made: how many were encoded here, not read.
    """

    def __init__(self, on_disk: bool) -> None:
        self.folder = cache_folder() if on_disk else None
        self.made = 0
        self._known: dict[str, Any] = {}

    def has(self, content: Sequence[Any]) -> bool:
        """Whether it is there, without reading it."""
        if self.folder is None:
            return canonical(content) in self._known
        return self._path(content).is_file()

    def get(
        self, content: Sequence[Any], kind: type[Encoded], encode: Callable[[], Encoded]
    ) -> Encoded:
        """The encoding of `content`, on the CPU.

        Args:
            content: plain data that it follows from, the encoder's own hash included.
            kind: its dataclass.
            encode: makes it where it isn't there yet.
        """
        if self.folder is None:
            key = canonical(content)
            if key not in self._known:
                self._known[key] = self._made(encode)
            return self._known[key]
        path = self._path(content)
        kept = self._read(path, kind)
        if kept is None:
            kept = self._made(encode)
            self._write(path, kept)
        return kept

    def _made(self, encode: Callable[[], Encoded]) -> Encoded:
        self.made += 1
        return to_device(encode(), "cpu")

    def clear(self) -> None:
        """Forget what is in memory."""
        self._known.clear()

    def _path(self, content: Sequence[Any]) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(canonical(content).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"

    @staticmethod
    def _write(path: Path, encoded: Any) -> None:
        from safetensors.torch import save

        tensors = {n: v.contiguous() for n, v in vars(encoded).items() if hasattr(v, "dtype")}
        plain = {n: v for n, v in vars(encoded).items() if n not in tensors}
        write_atomic(path, save(tensors, {"plain": json.dumps(plain)}))

    @staticmethod
    def _read(path: Path, kind: type[Encoded]) -> Encoded | None:
        """What is kept in a file; None where there is none, or a damaged one."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                given = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                plain = json.loads((file.metadata() or {})["plain"])
        except (SafetensorError, KeyError) as error:
            log.warning("%s is damaged (%s); it is made again", path, error)
            return None
        given |= {n: tuple(v) if isinstance(v, list) else v for n, v in plain.items()}
        return kind(**{field.name: given[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def to_device(encoded: Encoded, device: str) -> Encoded:
    """An encoding with its tensors on a device."""
    moved = {
        name: value.to(device)
        for name, value in vars(encoded).items()
        if hasattr(value, "to") and hasattr(value, "dtype")
    }
    return replace(encoded, **moved)  # type: ignore[type-var]
