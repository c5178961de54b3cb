"""What has to be written before it can be read: rendered worlds, a hub set's images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from media.files import whole_folder


def write_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """`folder`, filled by `fill(path)` under another name first, so that a kill leaves no half."""
    if not folder.is_dir():
        with whole_folder(folder, keep=True) as part:
            fill(part)
    return folder


def digest(*values: object) -> str:
    """Sixteen hex digits that name a folder after what it holds."""
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:16]
