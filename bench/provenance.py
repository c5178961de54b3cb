"""What another person needs to run this again: packages, machine, commit; and the run's log."""

from __future__ import annotations

import logging
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

log = logging.getLogger("stdrc.bench")
PACKAGES = ("stdrc-bench", "torch", "diffusers", "transformers", "peft", "av", "numpy")


@cache
def packages() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> dict[str, Any]:
    """This machine: processor, cores, memory."""
    import os

    import psutil

    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


def gpus() -> list[str]:
    """This machine's GPUs, if torch is loaded anyway."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


@cache
def environment() -> dict[str, Any]:
    """What a video depends on beside its key: packages, Python, device, commit.

    Asked after a video was made, when whatever loads torch has loaded it.
    """
    return {
        "packages": packages(),
        "python": platform.python_version(),
        "device": gpus() or [f"{platform.machine()} {_processor()}"],
        "git": git_commit(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


@cache
def git_commit() -> str | None:
    """The commit this package was checked out at, with '+' if files were changed; None if none."""
    git = shutil.which("git")
    if git is None:
        return None
    here = str(Path(__file__).resolve().parent)
    try:
        commit = subprocess.run(
            [git, "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
        if commit.returncode:
            return None
        dirty = subprocess.run(
            [git, "-C", here, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")


class log_file:
    """Within it, the bench's log goes to `logs/` of a run folder, a file a start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "logs"

    def __enter__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.handler = logging.FileHandler(self.folder / f"{stamp}.log", delay=True)
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(self.handler)
        log.setLevel(logging.INFO)
        log.propagate = False

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self.handler)
        self.handler.close()
