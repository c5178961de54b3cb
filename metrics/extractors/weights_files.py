"""Weights from local files: found or named as missing, read without running code, and hashed."""

from __future__ import annotations

import hashlib
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from metrics.errors import MetricsError

__all__ = ["file_hash", "load_tensors", "read_tensors", "require_file"]


def require_file(path: str | Path, what: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        MetricsError: it is not; the message names the file and ``what`` it should hold.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MetricsError(f"{what} are not at {path}; put the file there or pass its path.")
    return path


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def file_hash(path: Path) -> str:
    """First 12 hex digits of the file's SHA-256; part of a backend's version."""
    stat = path.stat()
    return _hash(path.resolve(), stat.st_size, stat.st_mtime_ns)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict, safetensors or ``torch.save`` with ``weights_only``.

    Raises:
        MetricsError: the file is neither, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise a dozen types for a damaged file
        raise MetricsError(
            f"{path} could not be read as weights ({type(error).__name__}: {error}); download it "
            "again, as safetensors where there is the choice."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise MetricsError(f"{path} holds no state dict of tensors; pass the file of the weights.")
    return {key.removeprefix("module."): value for key, value in content.items()}


def load_tensors(model: nn.Module, path: Path) -> None:
    """Load ``path`` into ``model``, every tensor or none.

    Raises:
        MetricsError: a tensor is missing, left over or of another shape.
    """
    try:
        model.load_state_dict(read_tensors(path), strict=True)
    except RuntimeError as error:
        raise MetricsError(
            f"{path} does not fit {type(model).__name__}: {str(error).splitlines()[-1].strip()}; "
            "pass weights of that architecture."
        ) from error


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is a TorchScript archive (a zip with a ``code`` folder)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(
            "/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist()
        )
