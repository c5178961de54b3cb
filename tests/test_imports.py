"""Who may call whom: a reader can open any one package and understand it without the others."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "media": {"torch", "stdrc", "metrics", "bench", "leaderboards", "diffusers", "transformers"},
    "stdrc": {"metrics", "bench", "leaderboards"},
    "metrics": {"stdrc", "bench", "leaderboards"},
    "leaderboards": {"torch", "stdrc", "metrics", "bench", "diffusers", "transformers"},
    "bench": set(),
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_import_only_what_they_may(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        str(file.relative_to(ROOT)): sorted(imported(file) & FORBIDDEN[package])
        for file in files
        if imported(file) & FORBIDDEN[package]
    }
    assert wrong == {}


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
