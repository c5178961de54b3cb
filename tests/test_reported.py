"""The table of reported cases names tests that are there."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_case_names_tests_that_are_there(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS.parent / "benchmarks"))
    import reported

    for case in reported.CASES:
        for test in case.tests:
            file, _, name = test.partition("::")
            assert name in functions(file), f"{case.name}: there is no {test}"
    del sys.modules["reported"]
