"""docs/plugins.md works as printed: a package with an entry point, found and used."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image

from media.plugins import GROUP, KINDS
from media.writing import write_video

from .pages import ROOT, blocks

PAGE = ROOT / "docs" / "plugins.md"
NAMED = re.compile(r"# ([\w/.-]+\.(?:py|yaml|toml))\n")


def test_the_page_on_plugins(tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    commands: list[str] = []
    for block in blocks(PAGE):
        if named := NAMED.match(block.text):
            file = site / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        else:
            assert block.language == "bash", block.place
            commands += block.text.strip().splitlines()
    # What pip writes of a pyproject.toml.
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    assert group == GROUP
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))

    here.mkdir()
    Image.new("RGB", (64, 64), "tan").save(here / "ada.png")
    frames = np.random.default_rng(0).random((9, 64, 64, 3))
    write_video(here / "videos" / "ada.mp4", frames, 8.0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=here, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = [run("-m", "bench.cli", *shlex.split(command)[1:]) for command in commands]
    assert "stdrc bench all-pictures" in said[0]
    assert "2 videos: 2 generated, 2 scored" in said[1]
    assert "theirs" in (here / "runs/all-pictures/leaderboard/leaderboard.csv").read_text()
    code = "from bench.checkpoints import checkpoint_source; print(checkpoint_source('tiny'))"
    assert run("-c", code).strip() == str(site / "pictures" / "weights")


def test_every_kind_of_declaration_is_on_the_page() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(KINDS)
