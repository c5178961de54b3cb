"""Who may call whom: a reader can open any one package and understand it without the others."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_packages_import_only_what_they_may():
    """The contracts of import-linter in pyproject.toml, as `make lint` reads them."""
    lint = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [lint, "--no-cache"], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout


def test_commands_and_help_import_nothing_heavy():
    code = (
        "import sys, importlib, pkgutil, bench.cli, bench.commands\n"
        "for m in pkgutil.iter_modules(bench.commands.__path__):\n"
        "    importlib.import_module('bench.commands.' + m.name)\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'pandas', 'matplotlib', 'datasets', 'av'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_lazy_and_there():
    code = (
        "import sys, stdrc; assert 'torch' not in sys.modules\n"
        "from stdrc import ReferencePlacement, ThreeStreamGuidance; print('ok')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "ok"
