"""Pipes and devices are refused before they are opened: a pipe waits for a writer for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from media.errors import UserError
from media.files import file_sha256
from media.images import read_image
from media.video import VideoReader


@pytest.mark.parametrize("read", [read_image, VideoReader, file_sha256])
def test_a_pipe_is_refused_by_name(read: Callable[[Path], object], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="is a pipe, not a file"):
        read(pipe)


@pytest.mark.parametrize("read", [read_image, VideoReader, file_sha256])
def test_a_device_is_refused_by_name(read: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match="is a device, not a file"):
        read(Path("/dev/zero"))
