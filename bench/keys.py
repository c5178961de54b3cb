"""Keys made from contents: equal things have equal keys, wherever they lie and whenever made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from pathlib import Path, PurePosixPath
from typing import Any

from bench.errors import BenchError
from media.files import file_sha256, tree_sha256

_NO_WEIGHTS = "The checkpoint {} holds no .safetensors file; only those are loaded."
_HASHED = (".safetensors", ".json", ".model", ".txt")


def checkpoint_hash(checkpoint: str | Path, part: str | None = None) -> str:
    """SHA-256 over the weights and configs of a checkpoint: a file, a folder, or a hub id.

    Of a hub id the hub's own digests of the weights are taken, and only small files are fetched;
    offline, what lies in its cache.

    Args:
        part: only this folder of it, where it is one of several.

    Raises:
        BenchError: if it is not on this machine, or holds no safetensors file.
    """
    path = Path(checkpoint)
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        path = path / part if part is not None and (path / part).is_dir() else path
        return _tree(path, str(checkpoint), [p for p in path.rglob("*") if p.suffix in _HASHED])
    return _hub_hash(str(checkpoint), part)


def _tree(folder: Path, name: str, files: Sequence[Path]) -> str:
    if not any(p.suffix == ".safetensors" for p in files):
        raise BenchError(_NO_WEIGHTS.format(name))
    return tree_sha256(folder, sorted(files))


@cache
def _hub_hash(repo: str, part: str | None) -> str:
    files = _hub_files(repo)
    if files is None:
        folder = _cached(repo)
        parts = {part} if part else _parts(folder / "model_index.json")
        here = [p for p in folder.rglob("*") if p.suffix in _HASHED]
        return _tree(folder, repo, [p for p in here if p.relative_to(folder).parts[0] in parts])
    parts = {part} if part else _parts(_hub_file(repo, "model_index.json"))
    digest, weights = hashlib.sha256(), False
    for name in sorted(files, key=PurePosixPath):
        path = PurePosixPath(name)
        if path.suffix in _HASHED and path.parts[0] in parts:
            weights = weights or path.suffix == ".safetensors"
            digest.update(f"{name} {files[name] or file_sha256(_hub_file(repo, name))}\n".encode())
    if not weights:
        raise BenchError(_NO_WEIGHTS.format(repo))
    return digest.hexdigest()


def _parts(index: Path) -> set[str]:
    """What of a repository belongs to the pipeline: its index, and one folder per component."""
    return {"model_index.json", *json.loads(index.read_text())}


@cache
def _hub_files(repo: str) -> dict[str, str | None] | None:
    """Files of a repository and, of large ones, the hub's SHA-256; None where it can't be asked.

    Raises:
        BenchError: it isn't a repository's name.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise BenchError(_PROBLEM.format(repo=repo))
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        found = HfApi().model_info(repo, files_metadata=True).siblings or []
    except (OfflineModeIsEnabled, HfHubHTTPError, OSError):
        return None
    return {file.rfilename: file.lfs.sha256 if file.lfs else None for file in found}


_PROBLEM = (
    "The checkpoint {repo!r} is neither a file or folder here nor in the Hugging Face cache; "
    "check the path, or download it with 'hf download {repo}'."
)


def _hub_file(repo: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo, name))


def _cached(repo: str) -> Path:
    """The snapshot in the cache.

    Raises:
        BenchError: there is none.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BenchError(f"{_PROBLEM.format(repo=repo)} ({reason})") from None


def model_index(checkpoint: str) -> Path | None:
    """The model_index.json of a folder or a hub id; None where a folder or file has none."""
    path = Path(checkpoint)
    if path.exists():
        return path / "model_index.json" if (path / "model_index.json").is_file() else None
    if _hub_files(checkpoint) is None:
        return _cached(checkpoint) / "model_index.json"
    return _hub_file(checkpoint, "model_index.json")


def checkpoint_dtype(checkpoint: str) -> str:
    """What `dtype: auto` means for a folder or a hub id, of which only a header is fetched."""
    from stdrc.loading import computed_in, saved_dtype

    path = Path(checkpoint)
    if not path.exists():
        if (files := _hub_files(checkpoint)) is not None:
            return str(computed_in(_hub_dtypes(checkpoint, files))).removeprefix("torch.")
        path = _cached(checkpoint)
    return str(saved_dtype(path)).removeprefix("torch.")


def _hub_dtypes(repo: str, files: Iterable[str]) -> dict[str, int]:
    from huggingface_hub import HfApi

    names = sorted(f for f in files if re.fullmatch(r"transformer/.*\.safetensors", f))
    if not names:
        return {}
    counts = HfApi().parse_safetensors_file_metadata(repo, names[0]).parameter_count
    return {str(kind): size for kind, size in counts.items()}


def canonical(value: Any) -> str:
    """Plain data as one JSON text: sorted keys, no spaces, so that equal data hash alike."""
    return "".join(_ENCODE(value, 0))


# What JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False) makes for each text.
_ENCODE: Any = c_make_encoder(
    None, json.JSONEncoder().default, encode_basestring, None, ":", ",", True, False, True
)
