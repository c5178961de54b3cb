"""The fenced code of README.md and docs/*.md, with where it stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page at which its text starts."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order; fences may be indented, as in lists."""
    found = []
    language = indent = None
    start, lines = 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.match(r"^( *)```(\w*)\s*$", line)
        if fence and language is None:
            indent, language, start, lines = fence[1], fence[2], number + 1, []
        elif fence and not fence[2]:
            found.append(Block(page, start, language or "", "\n".join(lines) + "\n"))
            language = None
        elif language is not None:
            lines.append(line.removeprefix(indent or ""))
    assert language is None, f"{page.name}:{start - 1}: this fence is never closed."
    return found
