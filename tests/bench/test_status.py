"""Watching a run: in place in a terminal, a line a change elsewhere, until nobody writes to it."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.cli import main
from bench.runner import Runner
from bench.status import watch_status
from bench.store import Store

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report


@contextmanager
def going(folder: Path, **generator: Any) -> Iterator[Path]:
    """A run that has begun, and goes on in a thread."""
    config, begun = make_config(folder), threading.Event()

    class Slow(DrawnGenerator):
        def draw(self, sample: Any, settings: Any) -> Any:
            begun.set()
            return super().draw(sample, settings)

    run = Runner(
        config,
        generator=Slow(**generator),
        judge=PixelJudge(),
        report=no_report,
        console=Console(file=io.StringIO()),
    )
    thread = threading.Thread(target=run.run)
    thread.start()
    assert begun.wait(60)
    yield config.folder
    thread.join()


def watched(folder: Path, **how: Any) -> str:
    out = io.StringIO()
    watch_status(folder, Console(file=out, width=80, **how), every=0.02)
    return out.getvalue()


def test_piped_it_is_a_line_a_change(tmp_path: Path) -> None:
    with going(tmp_path, delay=0.05) as folder:
        lines = watched(folder).splitlines()
    done = [int(n) for line in lines for n in re.findall(r": (\d+) of 16 videos done", line)]
    assert "\x1b" not in "".join(lines)
    assert (done[0] < 16, done[-1], done) == (True, 16, sorted(done))
    assert len(done) > 5
    assert len(set(lines)) == len(lines)
    assert any(re.search(r"done, about \d.* left$", line) for line in lines)
    (last,) = [line for line in lines if line.endswith("nobody writes to it")]
    assert "16 of 16" in last


def test_in_a_terminal_it_is_refreshed_in_place(tmp_path: Path) -> None:
    with going(tmp_path, delay=0.05) as folder:
        out = watched(folder, force_terminal=True)
    assert out.count("\x1b[2K") > 20  # lines erased before they are written anew
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out).replace("\r", "\n")
    assert max(map(len, plain.splitlines()[:-30])) <= 80  # those that are refreshed
    assert plain.count("nobody writes to it") == 1


def test_of_a_run_that_is_over_it_is_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(tmp_path / "run", write=True).close()
    for extra, code, said in (([], 0, "nobody writes to it"), (["--json"], 2, "leave one out")):
        with pytest.raises(SystemExit) as ended:
            main(["bench", "status", str(tmp_path / "run"), "--watch", *extra])
        assert ended.value.code == code
        assert said in "".join(capsys.readouterr())
