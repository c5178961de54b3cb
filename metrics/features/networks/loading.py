"""Weights from local files or the hub's cache: read without running code, named where missing.

Nothing here downloads. A file that is absent, damaged or of another architecture is a
:class:`MetricsError` that says which; a model with a single tensor left at its random initial
value never comes out.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from media.files import file_sha256
from media.wording import counted
from metrics.errors import MetricsError, WeightsMissingError


def require_file(path: str | Path, what: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        MetricsError: it is not; the message names the file and ``what`` it should hold.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsMissingError(
            f"the weights of {what} are not at {path}; put the file there or pass its path."
        )
    return path


def file_hash(path: Path) -> str:
    """First 12 hex digits of the file's SHA-256; part of a backend's version."""
    return file_sha256(path)[:12]


def model_hash(model: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 over all tensors of a model and their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def freeze(model: nn.Module, device: str | torch.device) -> nn.Module:
    """The model in evaluation mode, without gradients, on ``device``."""
    return model.eval().requires_grad_(False).to(device)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or, with ``weights_only``, from ``torch.save``.

    Raises:
        MetricsError: the file can't be read, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise a dozen types for a damaged file
        reason = (str(error).splitlines() or [""])[0]
        raise MetricsError(
            f"{path} can't be read as weights ({type(error).__name__}: {reason}); get the file "
            "again, as safetensors where there is the choice."
        ) from error
    for name in ("state_dict", "model", "module"):  # of Lightning, of VideoMAE, of DeepSpeed
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise MetricsError(f"{path} holds no state dict of tensors; pass the file of the weights.")
    return {key.removeprefix("module."): value for key, value in content.items()}


def load_tensors(model: nn.Module, path: Path) -> None:
    """Load a state dict, safetensors or ``torch.save`` with ``weights_only``, into ``model``.

    Raises:
        MetricsError: the file can't be read, or a tensor is missing, left over or of another shape.
    """
    try:
        model.load_state_dict(read_tensors(path), strict=True)
    except RuntimeError as error:
        raise MetricsError(
            f"{path} does not fit {type(model).__name__} "
            f"({str(error).splitlines()[-1].strip()}); pass weights of that architecture."
        ) from error


def load_torchscript(path: Path, device: str | torch.device) -> Any:
    """A TorchScript archive, in evaluation mode.

    Raises:
        MetricsError: the file is not one.
    """
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise MetricsError(
            f"{path} is not a TorchScript archive; pass the scripted detector, not a state dict."
        ) from error


def _missing(source: str | Path, error: Exception) -> MetricsError:
    reason = (str(error).splitlines() or [""])[0]
    return WeightsMissingError(
        f"{source} is neither a folder with a model nor complete in the hub's cache ({reason}); "
        f"run `hf download {source}` where there is a network, or pass a folder."
    )


def load_pretrained(model_class: Any, source: str | Path, **options: Any) -> Any:
    """``model_class.from_pretrained`` from a folder or the hub's cache, float32, nothing random.

    Args:
        model_class: of transformers.
        source: a folder, or a hub id whose files are in the cache already.
        options: for ``from_pretrained``.

    Raises:
        MetricsError: the files are not there or not readable, or do not hold every tensor.
    """
    try:
        model, report = model_class.from_pretrained(
            str(source),
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(source, error) from error
    lacking = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if lacking:
        raise MetricsError(
            f"{source} lacks {counted(len(lacking), 'tensor')} of {model_class.__name__}, first "
            f"{lacking[0]}; pass a checkpoint of that model."
        )
    return model


def load_processor(processor_class: Any, source: str | Path) -> Any:
    """``processor_class.from_pretrained`` from a folder or the hub's cache.

    Raises:
        MetricsError: its files are not there.
    """
    try:
        return processor_class.from_pretrained(str(source), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise _missing(source, error) from error
