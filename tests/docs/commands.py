"""Shell commands of a page: taken apart, and checked without being executed."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from bench.cli import app
from bench.named_configs import find_config
from media.errors import UserError

from .pages import PAGES, ROOT, Block

#: Programs of others that a page may call; nothing of their arguments is checked but files.
EXTERNAL = {"cd", "cp", "git", "hf", "jq", "jupyter", "mkdir", "ray", "unzip"}
#: Top-level folders whose files a command may name.
FOLDERS = "bench|benchmarks|docs|examples|leaderboards|media|metrics|miniature|stdrc|tests"
OPERATORS = {"|", "||", "&", "&&", ";"}


class Wrong(Exception):
    """What is wrong with a command, in words."""


@dataclass(frozen=True)
class Command:
    """One command: where it stands, its words, and its text as printed."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block; lines are joined at a backslash, pipes and lists taken apart.

    Raises:
        Wrong: if a line is not what a shell could read.
    """
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        start, text = number, lines[number]
        while text.endswith("\\") and number + 1 < len(lines):
            number += 1
            text = text[:-1] + " " + lines[number]
        number += 1
        place = f"{block.page.relative_to(ROOT)}:{block.line + start}"
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;><")
        lexer.whitespace_split = True
        words: list[str] = []
        try:
            tokens = list(lexer)
        except ValueError as error:
            raise Wrong(f"{place}: {text!r} cannot be read as a command ({error}).") from None
        for token in [*tokens, ";"]:
            if token in OPERATORS:
                if words:
                    yield Command(place, tuple(words))
                words = []
            elif words and words[-1] in (">", ">>", "<"):
                words.pop()  # a redirection and its file
            elif words or not re.match(r"^\w+=", token):  # not a variable set for one command
                words.append(token)


@dataclass(frozen=True)
class Parsed:
    """An `stdrc` command as its own parser understands it."""

    path: tuple[str, ...]  # ("bench", "run")
    params: dict[str, Any]
    help: str  # what --help printed, where it was asked for


def parse_stdrc(arguments: list[str]) -> Parsed:
    """Walk the command tree as `stdrc` does, up to where it would start to work.

    Raises:
        Wrong: for an unknown command or option, a value of the wrong type, or a missing argument.
    """
    command: Any = get_command(app)
    path: list[str] = []
    context = None
    name, rest = "stdrc", list(arguments)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            while True:
                context = command.make_context(name, rest, parent=context)
                if not isinstance(command, TyperGroup):
                    _check_config(path, context.params.get("config"))
                    return Parsed(tuple(path), dict(context.params), "")
                rest = [*getattr(context, "_protected_args", ()), *context.args]
                if not rest and command.invoke_without_command:
                    return Parsed(tuple(path), dict(context.params), "")
                if not rest:
                    raise Wrong(f"{' '.join(['stdrc', *path])} needs a subcommand.")
                name, command, rest = command.resolve_command(context, rest)
                path.append(name)
    except Wrong:
        raise
    except UserError as error:  # the program's own: no such command
        raise Wrong(str(error)) from None
    except Exception as error:  # the parser's own, of whichever package typer brings along
        if getattr(error, "exit_code", None) == 0 or "--help" in arguments:
            return Parsed(tuple(path), {}, printed.getvalue())
        if hasattr(error, "format_message"):
            raise Wrong(error.format_message()) from None
        raise


def _check_config(path: list[str], given: str | None) -> None:
    printed = "".join(page.read_text() for page in PAGES)
    if given is None or given.startswith("$") or f"/{given}.yaml\n" in printed:
        return  # a variable of a script, or the config of a package that a page shows
    try:
        find_config(given, "train" if path == ["train"] else "bench")
    except UserError as error:
        raise Wrong(str(error)) from None


def check(command: Command) -> Parsed | None:
    """See that a command could run in a checkout: programs, options, files.

    Returns:
        The parsed command where it is one of `stdrc`.

    Raises:
        Wrong: naming what does not exist.
    """
    program, *arguments = command.words
    _check_files(arguments)
    if program == "stdrc":
        return parse_stdrc(arguments)
    if program == "make":
        _check_make(arguments)
    elif program == "python":
        return _check_python(arguments)
    elif program == "accelerate":
        return _check_python(arguments[arguments.index("-m") :])
    elif program == "pip":
        _check_pip(arguments)
    elif program == "sbatch":
        _check_batch(next(a for a in arguments if not a.startswith("-")))
    elif program not in EXTERNAL:
        raise Wrong(f"{program!r} is not a program that tests/docs knows; add it to EXTERNAL.")
    return None


def _check_files(arguments: list[str]) -> None:
    for word in arguments:
        path = word.rpartition("=")[2]
        if re.match(rf"^({FOLDERS})/", path) and not glob.glob(str(ROOT / path)):
            raise Wrong(f"there is no file {path} in the repository.")


def _check_make(arguments: list[str]) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in arguments:
        if not word.startswith("-") and "=" not in word and word not in targets:
            raise Wrong(
                f"the Makefile has no target {word!r}; it has {', '.join(sorted(targets))}."
            )


def _check_python(arguments: list[str]) -> Parsed | None:
    if arguments[0] == "-c":
        compile(arguments[1], "-c", "exec")
        return None
    if arguments[0] == "-m":
        module = arguments[1]
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise Wrong(f"there is no module {module!r}.")
        if module == "bench.cli":
            return parse_stdrc(arguments[2:])
        source, options = found.origin, arguments[2:]
    else:
        source, options = str(ROOT / arguments[0]), arguments[1:]
    text = None  # the options of other people's modules are theirs
    if source is not None and source.startswith(str(ROOT)) and "site-packages" not in source:
        text = Path(source).read_text(encoding="utf-8")
    for option in options:
        name = option.split("=")[0]
        if text is not None and name.startswith("--") and f'"{name}"' not in text:
            raise Wrong(f"{arguments[0]} has no option {name}.")
    return None


def _check_pip(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for word in arguments:
        for extra in re.findall(r"(?:^\.|stdrc-bench)\[([\w,]+)\]", word):
            if missing := set(extra.split(",")) - set(extras):
                raise Wrong(f"pyproject.toml has no extra {missing.pop()!r}.")


def _check_batch(script: str) -> None:
    """The `stdrc` lines of a shell script, with variables standing for values."""
    found = 0
    for line in (ROOT / script).read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].endswith("bin/stdrc"):
            parse_stdrc(words[1:])
            found += 1
    if not found:
        raise Wrong(f"{script} calls no stdrc.")
