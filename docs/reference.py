"""The parts of the documentation that the code writes: `python -m docs.reference`.

docs/metrics.md gets its entries from the metrics' classes, docs/api.md from signatures and
docstrings, each between a pair of markers. `--check` writes nothing and exits with 1 where a file
is out of date.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Any

from metrics.catalogue import metrics_by_name
from metrics.facts import MetricInfo
from metrics.weights import WEIGHTS

DOCS = Path(__file__).parent
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"
_BLOCK = re.compile(r"<!-- generated: ([^>]+) -->\n.*?<!-- end -->", re.DOTALL)

# Metrics -----------------------------------------------------------------------------------------

#: Section of docs/metrics.md -> families, the part of a metric's name before the first dot.
FAMILIES = {
    "faces": ("faces", "identity"),
    "protocols": ("consisid", "opens2v", "vbench"),
    "copying": ("copy_paste", "leakage"),
    "text": ("text", "world"),
    "temporal": ("temporal", "motion"),
    "timelines": ("timeline",),
    "quality": ("quality",),
    "sets": ("fvd", "kvd", "fid", "kid", "jedi"),
}


def metric_entries(section: str) -> str:
    """Entries of a section's metrics; those that differ only in their backend share one."""
    groups: dict[tuple[Any, ...], list[MetricInfo]] = {}
    for info in metrics_by_name().values():
        if info.name.split(".")[0] in FAMILIES[section]:
            same = (info.formula, info.range, info.higher_is_better, info.needs)
            groups.setdefault((*same, info.frames, info.level), []).append(info)
    return "\n".join(_entry(rows) for rows in groups.values())


def _entry(rows: list[MetricInfo]) -> str:
    first = rows[0]
    label = first.label.removesuffix(f" ({first.backend})") if len(rows) > 1 else first.label
    names = ", ".join(f"`{info.name}`" for info in rows)
    better = "higher is better" if first.higher_is_better else "lower is better"
    words = {"people": "references of several people", "times": "times of references"}
    needs = [words.get(need, need) for need in first.needs]
    given = f"needs the {' and the '.join(needs)}" if needs else "needs the video only"
    usual = {"sampled": "the sampled frames", "all": "all frames"}
    frames = usual.get(first.frames, f"frames: {first.frames}")
    if first.level == "set":
        frames = f"one value per cell; {frames}"
    sources = "; ".join(dict.fromkeys(info.source for info in rows))
    lines = [
        f"**{label}**: {names}",
        f"- Formula: {_text(first.formula)}.",
        f"- Range {_range(first.range)}, {better}; {given}; {frames}. Source: {sources}.",
    ]
    if quirks := _quirks(rows):
        lines.append(f"- Quirks: {_text(quirks)}.")
    return "\n".join(lines) + "\n"


def _text(words: str) -> str:
    """Plain text that Markdown leaves alone."""
    return re.sub(r"([|*_<>])", r"\\\1", words)


def _range(bounds: tuple[float | None, float | None]) -> str:
    low, high = ("unbounded" if b is None else f"{b:g}" for b in bounds)
    return "unbounded" if bounds == (None, None) else f"{low} to {high}"


def _quirks(rows: list[MetricInfo]) -> str:
    """Every quirk once; one that not all of the rows have says whose it is."""
    owners: dict[str, list[str]] = {}
    for info in rows:
        for quirk in filter(None, info.quirks.split("; ")):
            owners.setdefault(quirk, []).append(info.backend)
    return "; ".join(
        quirk if len(who) == len(rows) else f"{', '.join(who)}: {quirk}"
        for quirk, who in owners.items()
    )


def metric_costs() -> str:
    """One row per metric: what it costs and what has to be on the machine."""
    lines = ["| metric | backend | cost per video | weights | packages |", "|---|---|---|---|---|"]
    for info in metrics_by_name().values():
        weights = "<br>".join(f"`{w}`" for w in info.weights) or "none"
        modules = ", ".join(f"`{m}`" for m in info.modules) or "none"
        lines.append(f"| `{info.name}` | {info.backend} | {info.cost} | {weights} | {modules} |")
    return "\n".join(lines) + "\n"


def weight_table() -> str:
    """One row per file of weights: what it is, its licence, how to get it."""
    used = {name for info in metrics_by_name().values() for name in info.weights}
    lines = ["| weights | what they are | licence | how to get them |", "|---|---|---|---|"]
    for row in WEIGHTS.values():
        if row.name in used:
            how = f"`{row.enable}`" if re.match(r"(pip|stdrc) ", row.enable) else row.enable
            lines.append(f"| `{row.name}` | {row.purpose} | {row.license} | {how} |")
    return "\n".join(lines) + "\n"


# Interface ---------------------------------------------------------------------------------------

#: Module -> public names; None takes the module's `__all__`.
PUBLIC: dict[str, tuple[str, ...] | None] = {
    "stdrc": None,
    "miniature": ("load_miniature", "random_checkpoint", "checkpoint", "variants"),
    "metrics": None,
    "bench.generators": ("Generator", "Settings", "Resolved", "FunctionGenerator"),
    "bench.evalsets": ("Sample",),
    "leaderboards": None,
}
#: Methods that a class inherits or that start with an underscore, and are called by users.
EXTRA = {"STDRCPipeline": ("__call__",)}
_SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")


def interface(module: str) -> str:
    """Signature, first paragraph and arguments of each public name of a module."""
    home = import_module(module)
    names = PUBLIC[module] or tuple(home.__all__)
    return "\n".join("\n".join(_describe(name, getattr(home, name))) for name in names)


def _describe(name: str, thing: Any) -> Iterator[str]:
    yield f"### `{name}`\n"
    if inspect.isclass(thing):
        # An enumeration's call looks a member up; its members say more than that signature.
        plain = not issubclass(thing, Exception) and not hasattr(thing, "__members__")
        if plain and inspect.signature(thing).parameters:
            yield _code(f"{name}{_signature(thing)}")
        yield from _prose(thing)
        if fields := getattr(thing, "__pydantic_fields__", {}):
            lines = [f"- `{field}`: {_markdown(_field(about))}" for field, about in fields.items()]
            yield "Fields:\n\n" + "\n".join(lines) + "\n"
        for method, function in _methods(thing):
            yield f"#### `{name}.{method}`\n"
            if not isinstance(function, property):
                bare = getattr(function, "__func__", function)
                shown = "pipe" if method == "__call__" else method
                yield _code(
                    f"{shown}{_signature(bare, skip_first=not isinstance(function, staticmethod))}"
                )
            yield from _prose(function)
    elif callable(thing):
        yield _code(f"{name}{_signature(thing)}")
        yield from _prose(thing)
    else:
        keys = ", ".join(f"`{key}`" for key in thing)
        yield f"A mapping with the keys {keys}.\n"


def _field(about: Any) -> str:
    """What a pydantic field is and, where it is bounded on both sides, its range."""
    bounds = [getattr(m, k) for m in about.metadata for k in ("ge", "le") if hasattr(m, k)]
    return about.description + (f"; {bounds[0]}..{bounds[1]}" if len(bounds) == 2 else "")


def _bare(annotation: Any) -> Any:
    """A type without what pydantic checks of it."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return reduce(or_, map(_bare, typing.get_args(annotation)))
    return annotation


def _methods(thing: type) -> list[tuple[str, Any]]:
    own = []
    for name, value in vars(thing).items():
        public = not name.startswith("_") or name in EXTRA.get(thing.__name__, ())
        function = isinstance(value, property | classmethod | staticmethod)
        documented = bool(_doc(value))
        if public and documented and (function or inspect.isfunction(value)):
            own.append((name, value))
    return own


def _doc(thing: Any) -> str:
    if isinstance(thing, classmethod | staticmethod):
        thing = thing.__func__
    if inspect.isclass(thing):
        text = thing.__dict__.get("__doc__") or ""
        # A dataclass without a docstring is given its signature for one.
        return "" if text.startswith(f"{thing.__name__}(") else inspect.cleandoc(text)
    return inspect.getdoc(thing) or ""


def _signature(thing: Callable[..., Any], *, skip_first: bool = False) -> str:
    signature = inspect.signature(thing)
    parameters = list(signature.parameters.values())[1 if skip_first else 0 :]
    # Fields with ranges and descriptions: the type alone belongs in the signature.
    fields = getattr(thing, "__pydantic_fields__", {})
    parameters = [
        p.replace(annotation=_bare(fields[p.name].annotation)) if p.name in fields else p
        for p in parameters
    ]
    parts, starred = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parts.append(_parameter(parameter))
    returns = "" if inspect.isclass(thing) else _annotation(signature.return_annotation)
    tail = f" -> {returns}" if returns else ""
    line = f"({', '.join(parts)}){tail}"
    return line if len(line) < 70 else "(\n    " + ",\n    ".join(parts) + f",\n){tail}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = str(parameter).split(":")[0].split("=")[0].strip()  # the name with its stars
    annotation = _annotation(parameter.annotation)
    if annotation:
        text += f": {annotation}"
    if parameter.default is not inspect.Parameter.empty:
        value = repr(parameter.default)
        value = "..." if value.startswith("<") else value
        text += f" = {value}" if annotation else f"={value}"
    return text


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _code(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _prose(thing: Any) -> Iterator[str]:
    """First paragraph of a docstring, then its sections of arguments and the like as lists."""
    text = _doc(thing)
    if not text:
        return
    yield _markdown(" ".join(text.split("\n\n")[0].split())) + "\n"
    for section in _SECTIONS:
        found = re.search(rf"^{section}:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
        if found is None:
            continue
        body = textwrap.dedent(found[1]).strip("\n")
        entries = [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", body)]
        if section in ("Returns", "Yields"):
            yield f"{section}: {_markdown(' '.join(entries))}\n"
            continue
        lines = []
        for entry in entries:
            name, colon, rest = entry.partition(": ")
            lines.append(f"- `{name}`: {_markdown(rest)}" if colon else f"- {_markdown(entry)}")
        yield f"{section}:\n\n" + "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    """reStructuredText's roles and double backticks as Markdown has them."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    # Outside of code, angle brackets and stars would be read as markup.
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<>])", r"\\\1", p) for p in parts)


# Files -------------------------------------------------------------------------------------------


def block(name: str) -> str:
    """What stands between the markers of that name.

    Raises:
        KeyError: for a marker that nothing writes.
    """
    kind, _, what = name.partition(" ")
    writers: dict[str, Callable[[], str]] = {
        "metrics": lambda: metric_entries(what),
        "costs": metric_costs,
        "weights": weight_table,
        "interface": lambda: interface(what),
    }
    return writers[kind]()


def written(path: Path) -> str:
    """A file's text with its generated parts as they should be now."""

    def fill(found: re.Match[str]) -> str:
        return f"{BEGIN.format(found[1])}\n\n{block(found[1]).strip()}\n\n{END}"

    return _BLOCK.sub(fill, path.read_text(encoding="utf-8"))


def generated_files() -> list[Path]:
    """The files of docs/ that have generated parts."""
    return [p for p in sorted(DOCS.glob("*.md")) if _BLOCK.search(p.read_text(encoding="utf-8"))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the generated parts of docs/.")
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    check = parser.parse_args().check
    stale = []
    for path in generated_files():
        text = written(path)
        if text != path.read_text(encoding="utf-8"):
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
    words = "out of date" if check else "written"
    print(f"{words}: {', '.join(stale)}" if stale else "everything is up to date")
    sys.exit(bool(check and stale))


if __name__ == "__main__":
    main()
