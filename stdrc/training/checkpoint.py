"""Saving and resuming a run: folders of safetensors, written beside their name, then renamed.

A folder that has its final name is complete: it was written under another name, checked for
finite numbers, read back, flushed to disk and renamed. A kill or a full disk at any moment leaves
the checkpoints before it untouched. Nothing is pickled.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from media import files
from stdrc.errors import STDRCError

STEP_FOLDER = re.compile(r"step-(\d{7,})")


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A folder to write into that gets its name only when the block ends without an error.

    Raises:
        STDRCError: the disk is full or not writable; nothing is left under `final` or beside it.
    """
    with readable_disk_errors(final), files.whole_folder(final) as partial:
        yield partial


@contextmanager
def whole_file(final: Path) -> Iterator[Path]:
    """The same for one file.

    Raises:
        STDRCError: the disk is full or not writable.
    """
    with readable_disk_errors(final), files.whole_file(final) as partial:
        yield partial


@contextmanager
def readable_disk_errors(target: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one sentence.

    Raises:
        STDRCError: for what the operating system said while writing near `target`.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        code = getattr(error, "errno", None)
        text = str(error).lower()
        if code in (errno.ENOSPC, errno.EDQUOT) or "no space left" in text or "quota" in text:
            raise STDRCError(
                f"The disk is full: {target} could not be written and nothing was left of it; free "
                "some space and start again with --resume, from the last complete checkpoint."
            ) from error
        if isinstance(error, OSError):
            raise STDRCError(f"Cannot write {target}: {error.strerror or error}.") from error
        raise


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse to save numbers that would load and be useless.

    Raises:
        STDRCError: naming the first tensor with a NaN or an infinity.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise STDRCError(
                f"{what} is not saved: {name} holds numbers that are not finite; "
                "resume from the last checkpoint with a lower learning rate."
            )


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file and read its header back.

    Raises:
        STDRCError: what came back isn't what was written.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    save_file(plain, path, metadata={"format": "pt", **(metadata or {})})
    with safe_open(path, framework="pt") as stored:
        if set(stored.keys()) != set(plain):
            raise STDRCError(f"{path} did not come back as it was written; check the disk.")


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state dict, keyed by parameter names, as tensors and plain data."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}

    def put(name: str, value: Any) -> None:
        if isinstance(value, Mapping):  # bitsandbytes keeps its moments a level deeper
            for key, inner in value.items():
                put(f"{name}|{key}", inner)
        elif isinstance(value, Tensor):
            tensors[name] = value
        else:
            plain[name] = value

    for parameter, values in state["state"].items():
        put(parameter, values)
    return tensors, plain


def unflatten_optimizer(
    tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The inverse: {parameter: {key: value}}."""
    state: dict[str, dict[str, Any]] = {}
    for name, value in {**tensors, **plain}.items():
        *way, key = name.split("|")
        at: dict[str, Any] = state
        for part in way:
            at = at.setdefault(part, {})
        at[key] = value
    return state


def write_checkpoint(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
    ema: Mapping[str, Tensor] | None,
    state: Mapping[str, Any],
) -> None:
    """Everything a run needs to continue, in one folder.

    Args:
        weights: trained parameters by name.
        optimizer: {"state": {parameter: {key: tensor}}, ...}.
        ema: averaged parameters by the same names, or None.
        state: plain data: step, configuration, counts.

    Raises:
        STDRCError: weights that aren't finite, or a disk that won't take them.
    """
    check_finite(weights, f"The checkpoint {folder.name}")
    moments, plain = flatten_optimizer(optimizer)
    with whole_folder(folder) as partial:
        save_tensors(partial / "weights.safetensors", weights)
        save_tensors(partial / "optimizer.safetensors", moments)
        if ema is not None:
            check_finite(ema, f"The checkpoint {folder.name}")
            save_tensors(partial / "ema.safetensors", ema)
        (partial / "state.json").write_text(
            json.dumps({**state, "optimizer": plain}, indent=1), encoding="utf-8"
        )


def read_checkpoint(
    folder: Path,
) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]], dict[str, Tensor] | None, dict[str, Any]]:
    """What `write_checkpoint` wrote: weights, optimizer state, EMA, plain state.

    Raises:
        STDRCError: a file is missing or damaged.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors")
        optimizer = unflatten_optimizer(
            load_file(folder / "optimizer.safetensors"), state.pop("optimizer")
        )
        ema_file = folder / "ema.safetensors"
        ema = load_file(ema_file) if ema_file.exists() else None
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise STDRCError(
            f"The checkpoint {folder} is damaged ({error}); remove it to resume from the last one."
        ) from None
    return weights, optimizer, ema, state


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints in a run's folder, oldest first."""
    found = [p for p in folder.glob("step-*") if STEP_FOLDER.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, oldest first."""
    for old in checkpoints(folder)[:-keep]:
        # Renamed first: a kill in between leaves no half checkpoint under a whole one's name.
        gone = old.with_name(f".{old.name}.old")
        old.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
