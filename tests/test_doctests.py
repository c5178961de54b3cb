"""Every example in a docstring of any package runs and shows what it says."""

from __future__ import annotations

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("media", "stdrc", "metrics", "leaderboards", "bench", "miniature")


def has_examples(file: Path) -> bool:
    """Whether a docstring in the file holds an example; told without importing it."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, documented))
    return any(">>> " in (ast.get_docstring(node) or "") for node in nodes)


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(
    module_of(file)
    for package in PACKAGES
    for file in (ROOT / package).rglob("*.py")
    if has_examples(file)
)


def test_there_are_examples() -> None:
    assert len(MODULES) >= 20


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = import_module(name)
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    written = Path(str(module.__file__)).read_text().count(">>> ")
    assert sum(len(test.examples) for test in found) == written  # none is passed over
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        report: list[str] = []
        runner.run(test, out=report.append)
        assert not report, "".join(report)
