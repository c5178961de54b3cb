"""Names made of contents: equal things have equal keys, wherever they lie and whenever made."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from media.files import file_sha256, tree_sha256


def checkpoint_hash(checkpoint: str | Path) -> str:
    """SHA-256 over the weights and configs of a checkpoint: a file, a folder, or a hub id.

    Raises:
        BenchError: if it is not on this machine, or holds no safetensors file.
    """
    path = Path(checkpoint)
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        path = _hub_snapshot(str(checkpoint))
    wanted = sorted(
        p for p in path.rglob("*") if p.suffix in (".safetensors", ".json", ".model", ".txt")
    )
    if not any(p.suffix == ".safetensors" for p in wanted):
        raise BenchError(
            f"The checkpoint {checkpoint} holds no .safetensors file; only those are loaded."
        )
    return tree_sha256(path, wanted)


def _hub_snapshot(repo: str) -> Path:
    problem = (
        f"The checkpoint {repo!r} is neither a file or folder here nor in the Hugging Face cache; "
        f"check the path, or download it with 'hf download {repo}'."
    )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise BenchError(problem)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repo, local_files_only=bool(os.environ.get("HF_HUB_OFFLINE")))
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BenchError(f"{problem} ({str(error).splitlines()[0]})") from None


def canonical(value: Any) -> str:
    """Plain data as one JSON text: sorted keys, no spaces, so that equal data hash alike."""
    return _ENCODE(value)


_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
