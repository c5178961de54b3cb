"""Files are written whole or not at all, known by their bytes, and kept inside their folder."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import files
from media.errors import UnreadableFileError, UserError
from media.files import (
    file_sha256,
    inside,
    natural_order,
    tree_sha256,
    whole_file,
    whole_folder,
    write_atomic,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = write_atomic(tmp_path / "new" / "a.txt", "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    with pytest.raises(FileNotFoundError), whole_file(path) as part:
        (part.write_text("half"), part.with_name("gone").read_text())
    assert path.read_text(encoding="utf-8") == "grün\n"
    with whole_file(path) as part:
        part.write_text("second")
        assert path.read_text(encoding="utf-8") == "grün\n"
    assert path.read_text() == "second"
    assert names(path.parent) == ["a.txt"]
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "sub" / "folder"
    for text in ("first", "second"):
        with whole_folder(folder) as part:
            (part / "a").write_text(text)
        assert (folder / "a").read_text() == text
    with pytest.raises(FileNotFoundError), whole_folder(folder) as part:
        ((part / "a").write_text("third"), (part / "gone").read_text())
    assert (folder / "a").read_text() == "second"
    with whole_folder(folder, keep=True) as part:
        (part / "a").write_text("of another process")
    assert (folder / "a").read_text() == "second"
    assert names(folder.parent) == ["folder"]


def test_a_digest_is_read_once_and_again_after_any_change(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    known: dict[str, str] = {}
    first = file_sha256(path, known)
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    monkeypatch.setattr(files.hashlib, "file_digest", None)
    assert file_sha256(path, known) == first
    monkeypatch.undo()
    before = path.stat()
    path.write_bytes(b"abd")  # as long, and with its time of change put back
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_sha256(path, known) != first
    with pytest.raises(UnreadableFileError, match="No such file"):
        file_sha256(tmp_path / "missing")


def test_a_blob_of_the_hub_cache_is_known_by_its_name(tmp_path):
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert file_sha256(tmp_path / "model.safetensors") == "ab" * 32
    assert file_sha256(blob) != "ab" * 32


def test_a_folders_digest_covers_names_and_bytes(tmp_path):
    for name, text in (("a", "1"), ("b", "2")):
        (tmp_path / name).write_text(text)
    a, b = tmp_path / "a", tmp_path / "b"
    whole = tree_sha256(tmp_path, [a, b])
    assert whole == tree_sha256(tmp_path, [a, b])
    assert len({whole, tree_sha256(tmp_path, [b, a]), tree_sha256(tmp_path, [a])}) == 3
    c = b.rename(tmp_path / "c")
    assert tree_sha256(tmp_path, [a, c]) != whole


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "out/x", "", None, 3])
def test_a_path_stays_inside_its_folder(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"leads out of|no video is named"):
        inside(folder, name, "video")
    assert inside(folder, "a/b.mp4") == folder / "a" / "b.mp4"
    assert inside(folder, "a/../b.mp4").resolve() == folder / "b.mp4"


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_counts(numbers):
    paths = [Path(f"f{n}.png") for n in numbers]
    assert natural_order(paths) == [Path(f"f{n}.png") for n in sorted(numbers)]
