"""Files: written whole or not at all, known by their bytes, kept inside their folder, in order."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from natsort import natsorted

from media.errors import UnreadableFileError, UserError

_DIGESTS: dict[str, str] = {}


# Writing --------------------------------------------------------------------------------------


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path to write to that becomes `path` when the block ends without an error.

    What is written is flushed to disk before it gets its name, so that a kill at any moment leaves
    the file of before or the new one. Folders above `path` are made.

    Raises:
        OSError: as writing does; nothing is left beside `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    try:
        yield part
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """`data`, text as UTF-8, at `path`: all of it or none; returns the path. See `whole_file`."""
    path = Path(path)
    with whole_file(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@contextmanager
def whole_folder(path: str | Path, *, keep: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `path` when the block ends without an error.

    Args:
        keep: if there is a folder of that name by then (another process was first, with the same
            content), leave it as it is; by default it is replaced.

    Raises:
        OSError: as writing does; nothing is left beside `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, old = _beside(path), _beside(path)
    try:
        part.mkdir()
        yield part
        for file in [*part.rglob("*"), part]:
            _flush(file)
        if keep and path.is_dir():
            return
        if path.exists():
            path.rename(old)  # a folder can't be renamed onto a filled one
        try:
            part.rename(path)
        except OSError:
            if not (keep and path.is_dir()):
                raise
        _flush(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A name for what isn't whole yet, in the same folder, of no other process or thread."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Reading --------------------------------------------------------------------------------------


def special_file(path: str | Path) -> str:
    """What a path is that is neither a regular file nor a folder; empty for those and for nothing.

    Opening a pipe waits for a writer for ever, and a device never ends: ask before opening.

    Returns:
        "a pipe", "a socket", "a device" or "".
    """
    path = Path(path)
    if path.is_fifo():
        return "a pipe"
    if path.is_socket():
        return "a socket"
    return "a device" if path.is_char_device() or path.is_block_device() else ""


def file_sha256(path: str | Path, known: MutableMapping[str, str] | None = None) -> str:
    """SHA-256 of a file's bytes, in hex.

    Args:
        known: digests of before, which are looked up and added to; the process's own by default.
            A file is known by its place, size, and times of change.

    Raises:
        UnreadableFileError: the file can't be read.
    """
    known = _DIGESTS if known is None else known
    try:
        real = Path(path).resolve()
        # The Hugging Face cache names large files by their SHA-256: 40 GB needn't be read for it.
        if (
            real != Path(path).absolute()
            and real.parent.name == "blobs"
            and re.fullmatch(r"[0-9a-f]{64}", real.name)
        ):
            return real.name
        if special := special_file(real):
            raise UnreadableFileError(f"{path} is {special}, not a file; save it to a file first.")
        status = real.stat()
        key = f"{real}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
        if key not in known:
            with real.open("rb") as file:
                known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return known[key]
    except OSError as error:
        raise UnreadableFileError(
            f"{path} can't be read ({error.strerror}); check the path and its permissions."
        ) from error


def known_digests() -> MutableMapping[str, str]:
    """What this process has hashed, as `file_sha256` knows it; another may be told of it."""
    return _DIGESTS


def tree_sha256(folder: str | Path, files: Iterable[Path]) -> str:
    """SHA-256 over files of a folder, in the order given: their paths within it and their bytes.

    Raises:
        UnreadableFileError: a file can't be read.
    """
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def inside(folder: str | Path, name: Any, what: str = "path") -> Path:
    """`name` of a data file as a path within `folder`, which it may not leave.

    Args:
        what: what the path is called in a message.

    Raises:
        UserError: it is empty, not text, or leads out of the folder, links followed.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"no {what} is named")
    path = Path(folder) / name
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise UserError(f"the {what} {name!r} leads out of {folder}")
    return path


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Paths in the order in which people count: frame2 before frame10, folder by folder."""
    return natsorted(paths, key=lambda path: path.parts)
