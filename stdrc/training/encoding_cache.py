"""Encodings on disk, found again by what they were made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from media.files import file_sha256
from media.video import DECODER
from stdrc.training.checkpoint import save_tensors, whole_file

VERSION = 1  # raised when an encoding's numbers change


class EncodingCache:
    """Tensors in files named by the hash of what they were made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes_file = folder / "file_hashes.json"
        self._hashes: dict[str, str] = {}
        if self._hashes_file.is_file():
            try:
                self._hashes = json.loads(self._hashes_file.read_text(encoding="utf-8"))
            except ValueError:
                self._hashes = {}  # only saves hashing again
        self._known = len(self._hashes)

    def path(self, **made_from: Any) -> Path:
        """Where the encoding of `made_from` lies."""
        text = json.dumps({"version": VERSION, "decoder": DECODER, **made_from}, sort_keys=True)
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return self.folder / key[:2] / f"{key}.safetensors"

    def has(self, path: Path) -> bool:
        """Whether an encoding is there and whole."""
        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                return bool(file.keys())
        except SafetensorError:
            return False

    def put(self, path: Path, tensors: dict[str, Tensor]) -> None:
        """Keep an encoding."""
        with whole_file(path) as partial:
            save_tensors(partial, tensors)

    def file_hash(self, path: Path) -> str:
        """SHA-256 of a file; looked up if it was seen in an earlier run."""
        return file_sha256(path, self._hashes)

    def close(self) -> None:
        """Keep the file hashes for the next run."""
        if len(self._hashes) != self._known:
            with whole_file(self._hashes_file) as partial:
                partial.write_text(json.dumps(self._hashes), encoding="utf-8")
