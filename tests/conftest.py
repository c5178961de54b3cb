"""Offline, single-threaded and deterministic: what every test stands on."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path

import pytest
from hypothesis import settings

# Time limits belong in benchmarks/, and the examples are the same in every run.
settings.register_profile("stdrc", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("stdrc")

MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"


@pytest.fixture(scope="session")
def media() -> Path:
    """Folder of real photographs and clips that lies beside a checkout; not part of the project."""
    if not MEDIA.is_dir():
        pytest.skip("needs shared/media beside the checkout, which is not part of the repository")
    return MEDIA
