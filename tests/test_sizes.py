"""What one sitting can read: no function and no file outgrows it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("media", "stdrc", "metrics", "leaderboards", "bench", "miniature")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FUNCTION, FILE = 80, 620


def bodies(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each function's name and lines, without its signature and docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1:2] if ast.get_docstring(node) else node.body
            yield node.name, node.end_lineno - first[0].lineno + 1 if first else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE
    assert {name: lines for name, lines in bodies(ast.parse(text)) if lines > FUNCTION} == {}


def test_a_long_function_is_seen() -> None:
    text = "def f(\n    a,\n):\n    '''Says.'''\n" + "    a += 1\n" * 81
    assert dict(bodies(ast.parse(text))) == {"f": 81}
