"""docs/metrics.md and docs/api.md say what the registry and the docstrings say."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from docs import reference
from metrics.catalogue import metric_names
from metrics.facts import MetricInfo


@pytest.mark.parametrize("path", reference.generated_files(), ids=lambda path: path.name)
def test_generated_parts_are_up_to_date(path: Path) -> None:
    now, should = path.read_text(encoding="utf-8"), reference.written(path)
    changes = difflib.unified_diff(now.splitlines(), should.splitlines(), "file", "code", n=0)
    first = "\n".join(list(changes)[:12])
    assert now == should, f"{path} is out of date; run 'python -m docs.reference'.\n{first}"


def test_both_references_are_generated() -> None:
    assert {p.name for p in reference.generated_files()} == {"api.md", "metrics.md"}


def test_every_metric_has_an_entry_and_a_row() -> None:
    text = (reference.DOCS / "metrics.md").read_text(encoding="utf-8")
    families = [family for group in reference.FAMILIES.values() for family in group]
    assert {name.split(".")[0] for name in metric_names()} == set(families)
    for section in reference.FAMILIES:
        assert f"<!-- generated: metrics {section} -->" in text
    entries = [line for line in text.splitlines() if line.startswith("**")]
    for name in metric_names():
        assert sum(f"`{name}`" in line for line in entries) == 1, name
        assert f"| `{name}` |" in text


def test_an_entry_says_everything_and_whose_quirk_it_is() -> None:
    shared = {
        "formula": "x | y",
        "source": "a paper",
        "needs": ("reference",),
        "range": (0.0, None),
        "higher_is_better": False,
    }
    rows = [
        MetricInfo("f.a", "a", "Label (a)", quirks="both; only a", **shared),
        MetricInfo("f.b", "b", "Label (b)", quirks="both", **shared),
    ]
    assert reference._entry(rows) == (
        "**Label**: `f.a`, `f.b`\n"
        "- Formula: x \\| y.\n"
        "- Range 0 to unbounded, lower is better; needs the reference; the sampled frames. "
        "Source: a paper.\n"
        "- Quirks: both; a: only a.\n"
    )


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- generated: weights -->\n\nold\n\n<!-- end -->\n\nafter\n")
    text = reference.written(page)
    assert text != page.read_text()
    assert text.startswith("before\n\n<!-- generated: weights -->\n\n| weights |")
    assert text.endswith("<!-- end -->\n\nafter\n")
    page.write_text(text)
    assert reference.written(page) == text


def function(a, *rest: int, b: float = 1.0, **others: str) -> str:
    """What it does,
    on two lines.

    More that is left out.

    Args:
        a: the first, with ``code`` and a * star,
            going on here.
        b: the second.

    Returns:
        Words.
    """
    return ""


def test_a_docstring_becomes_markdown() -> None:
    assert "\n".join(reference._describe("function", function)) == (
        "### `function`\n\n"
        "```text\nfunction(a, *rest: int, b: float = 1.0, **others: str) -> str\n```\n\n"
        "What it does, on two lines.\n\n"
        "Args:\n\n"
        "- `a`: the first, with `code` and a \\* star, going on here.\n"
        "- `b`: the second.\n\n"
        "Returns: Words.\n"
    )


def test_no_address_of_an_object_gets_into_the_page() -> None:
    text = (reference.DOCS / "api.md").read_text(encoding="utf-8")
    assert re.findall(r".* at 0x[0-9a-f]+.*|<factory>", text) == []
