"""The wheel works from an empty folder: named configs, checkpoints, judges and world are inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"media", "stdrc", "metrics", "leaderboards", "bench", "miniature"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from a copy, so that nothing an earlier build left behind gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip(
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(folder),
        str(source),
    )
    (built,) = folder.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_our_packages_and_what_they_read(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == PACKAGES
    tracked = subprocess.run(
        ["git", "ls-files", *sorted(PACKAGES)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    left_out = {n for n in tracked if (ROOT / n).is_file()} - set(names)
    assert left_out == set()


#: One process, since each would load torch anew. Two steps of one cell, one step of training.
VISIT = """
import sys, yaml
from pathlib import Path
from bench.cli import main
from miniature import checkpoint
from miniature.world import World, write_layout

def stdrc(*arguments):
    print("$", *arguments, flush=True)
    try:
        main(list(arguments))
    except SystemExit as ended:
        assert not ended.code, ended.code

print(checkpoint())
stdrc("bench", "quick", "--plan")
stdrc("configs", "copy", "quick")
config = yaml.safe_load(Path("quick.yaml").read_text())
config["sweep"] = {"base": {"steps": 2}}
config["metrics"]["names"] = ["identity.miniature", "world.background"]
Path("quick.yaml").write_text(yaml.safe_dump(config))
stdrc("bench", "quick.yaml", "--limit", "1")
write_layout(World(size=4, clips_per_identity=2), "clips")
changes = f"base={checkpoint()} data=[clips] output=trained steps=1 batch_size=2".split()
stdrc("train", "miniature-variant", *(word for change in changes for word in ("--set", change)))
"""


def test_it_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip("install", "--no-deps", "--no-index", "--target", str(site), str(wheel))

    def run(*command: str) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    listed = run(str(site / "bin" / "stdrc"), "configs")
    assert any(line.startswith("stdrc bench quick ") for line in listed)
    assert any(line.startswith("stdrc train ltx23-lora ") for line in listed)

    said = run(sys.executable, "-c", VISIT)
    assert Path(said[0]).is_relative_to(site)
    assert any("192 videos" in line for line in said)
    assert any("1 generated, 1 scored" in line for line in said)
    assert (empty / "runs" / "quick" / "leaderboard" / "index.html").is_file()
    assert (empty / said[-1]).is_file()  # the trained LoRA
    assert Path(said[-1]).suffix == ".safetensors"
