"""A run folder on an object store: whole, resumed where it was cut off, its bytes compared."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from rich.console import Console

from bench import push as pushing
from bench.cli import main
from bench.errors import BenchError
from bench.push import SUMS, check, push
from bench.runner import Runner
from bench.store import Store

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report, table_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = make_config(tmp_path / "here")
    parts: dict[str, Any] = {"generator": DrawnGenerator(), "judge": PixelJudge()}
    Runner(config, report=no_report, console=Console(file=io.StringIO()), **parts).run()
    (config.folder / "leaderboard" / "index.html").write_text("a page")
    (config.folder / "cache").mkdir(exist_ok=True)
    (config.folder / "cache" / "features").write_text("kept here")
    return config.folder


@pytest.fixture(params=["memory", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield "memory://bucket/run" if request.param == "memory" else str(tmp_path / "there")
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_a_copy_is_the_run(run: Path, url: str, tmp_path: Path) -> None:
    done = push(run, url)
    assert (done.there, check(url)) == (0, [])
    fs, root = fsspec.core.url_to_fs(url)
    fs.get(root, str(tmp_path / "back"), recursive=True)
    back = tmp_path / "back"
    assert table_of(back) == table_of(run)
    assert (back / "leaderboard" / "index.html").read_text() == "a page"
    names = {path.relative_to(back).as_posix() for path in back.rglob("*") if path.is_file()}
    assert len(names) == done.sent + 1
    assert len([name for name in names if name.endswith(".mp4")]) == 16
    assert not [name for name in names if name.startswith(("cache", ".", "lock"))]
    program = ["sha256sum", "--check", "--quiet", SUMS]
    assert subprocess.run(program, cwd=back, check=False).returncode == 0
    again = push(run, url)
    assert (again.sent, again.there) == (0, done.sent)


def test_one_that_was_cut_off_goes_on(run: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "SUMS_EVERY", 3)
    send, left = pushing._send, [10]

    def cut_off(*args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        send(*args)

    monkeypatch.setattr(pushing, "_send", cut_off)
    with pytest.raises(KeyboardInterrupt):
        push(run, url)
    fs, root = fsspec.core.url_to_fs(url)
    assert not fs.exists(f"{root}/store.sqlite")  # not a run folder yet
    monkeypatch.setattr(pushing, "_send", send)
    done = push(run, url)
    assert done.there == 9  # sums are written after each third
    assert check(url) == []


def test_what_changed_is_sent_again_and_what_rotted_is_found(run: Path, url: str) -> None:
    push(run, url)
    (run / "leaderboard" / "index.html").write_text("a Page")
    assert push(run, url).sent == 1
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/leaderboard/index.html", b"a rage")
    assert check(url) == [
        f"{url}/leaderboard/index.html is not what was pushed (its SHA-256 differs)"
    ]
    fs.rm(f"{root}/leaderboard/index.html")
    assert check(url) == [f"{url}/leaderboard/index.html is missing"]
    assert push(run, url).sent == 1


def test_what_may_not_be_sent_is_a_sentence(run: Path, tmp_path: Path) -> None:
    there = str(tmp_path / "there")
    with Store(run, write=True), pytest.raises(BenchError, match="is being written to by process"):
        push(run, there)
    with pytest.raises(BenchError, match=r"nothing\?://x is nothing that fsspec can write to here"):
        push(run, "nothing?://x")
    with pytest.raises(BenchError, match="nothing was pushed there"):
        check(there)
    video = next(run.glob("videos/??/*.mp4"))
    data = bytearray(video.read_bytes())
    data[len(data) // 2] ^= 1
    video.write_bytes(data)
    with pytest.raises(BenchError, match=r"is not what was written there .* --repair"):
        push(run, there)
    shutil.rmtree(there)


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "push", str(run), str(tmp_path / "there"), "--check"])
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert (ended.value.code, "all as they were sent" in out) == (0, True)
