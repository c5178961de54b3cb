"""`stdrc bench push`: a finished run folder copied to an object store, by whatever fsspec knows.

The copy is a run folder, and holds `SHA256SUMS` for `sha256sum -c`. The store is sent last, so that
a copy that was cut off is not a run folder yet; the next push sends what is missing or changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import connect
from tempfile import TemporaryDirectory
from typing import Any

from bench.errors import BenchError
from bench.store import Store
from leaderboards.runfolder import STORE
from media.files import file_sha256

SUMS = "SHA256SUMS"
SUMS_EVERY = 50  # files between two writings of the sums, which tell the next push what is there
_LEFT = {"cache", "videos", "lock.json", "working.json"}  # videos go by the store's rows


@dataclass(frozen=True)
class Pushed:
    """What came of it.

    Attributes:
        sent: files, and bytes of them.
        there: files that were there already.
    """

    sent: int
    bytes: int
    there: int


def push(folder: Path, url: str) -> Pushed:
    """Copy a run folder to `url`: s3://bucket/name, gs://..., another folder.

    Raises:
        BenchError: it is being written to, a video is not what was written, or the store is not
            to be reached.
    """
    fs, root = _place(url)
    with Store(folder) as store, TemporaryDirectory() as made:
        if store.held():
            raise BenchError(
                f"{folder} is being written to by {store.holder() or 'another process'}; push it "
                "when that has ended."
            )
        snapshot = Path(made) / STORE
        with closing(connect(snapshot)) as copy:
            store.db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        known = _read_sums(fs, root)
        sums: dict[str, str] = {}
        unsaved: list[str] = []
        sent = size = 0
        for name, path, expected in [*_files(store), (STORE, snapshot, None)]:
            sha256 = file_sha256(path, {})
            if expected is not None and sha256 != expected:
                raise BenchError(
                    f"{path} is not what was written there (its SHA-256 differs); 'stdrc bench "
                    f"verify {folder} --repair' makes room for a new one."
                )
            if known.get(name) != sha256 or _size(fs, f"{root}/{name}") != path.stat().st_size:
                _send(fs, f"{root}/{name}", path, sha256)
                sent, size = sent + 1, size + path.stat().st_size
                unsaved.append(name)
            sums[name] = sha256
            if len(unsaved) >= SUMS_EVERY:
                _write_sums(fs, root, known | sums)
                unsaved.clear()
        _write_sums(fs, root, sums)
    return Pushed(sent, size, len(sums) - sent)


def check(url: str) -> list[str]:
    """Read a copy back; a sentence for each file that is not what its SHA-256 says.

    Raises:
        BenchError: there is no copy.
    """
    fs, root = _place(url)
    sums = _read_sums(fs, root)
    if not sums:
        raise BenchError(f"{url} has no {SUMS}: nothing was pushed there.")
    wrong = []
    for name, expected in sums.items():
        if _size(fs, f"{root}/{name}") is None:
            wrong.append(f"{url}/{name} is missing")
            continue
        with fs.open(f"{root}/{name}", "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            wrong.append(f"{url}/{name} is not what was pushed (its SHA-256 differs)")
    return wrong


def _place(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(os.path.expanduser(url))
    except (ImportError, ValueError) as error:
        raise BenchError(f"{url} is nothing that fsspec can write to here ({error}).") from None
    return fs, root.rstrip("/")


def _files(store: Store) -> Iterator[tuple[str, Path, str | None]]:
    """(name in the copy, file, its SHA-256 where the store knows it)."""
    for row in store.videos():
        if row.status == "done" and row.path is not None:
            yield row.path, store.folder / row.path, row.sha256
    for path in sorted(store.folder.rglob("*")):
        name = path.relative_to(store.folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not (hidden or name.parts[0] in _LEFT or STORE in name.name):
            yield name.as_posix(), path, None


def _send(fs: Any, name: str, path: Path, sha256: str) -> None:
    fs.makedirs(name.rpartition("/")[0], exist_ok=True)
    digest = hashlib.sha256()
    with path.open("rb") as source, fs.open(name, "wb") as target:
        while block := source.read(2**20):
            digest.update(block)
            target.write(block)
    if digest.hexdigest() != sha256:
        raise BenchError(f"{path} changed while it was sent; give the same command again.")


def _size(fs: Any, name: str) -> int | None:
    try:
        return int(fs.info(name)["size"])
    except FileNotFoundError:
        return None


def _read_sums(fs: Any, root: str) -> dict[str, str]:
    try:
        text = fs.cat_file(f"{root}/{SUMS}").decode()
    except FileNotFoundError:
        return {}
    return {line[66:]: line[:64] for line in text.splitlines()}


def _write_sums(fs: Any, root: str, sums: dict[str, str]) -> None:
    fs.makedirs(root, exist_ok=True)
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in sums.items())
    fs.pipe_file(f"{root}/{SUMS}", text.encode())
