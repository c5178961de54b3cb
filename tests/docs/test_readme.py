"""Every command, snippet and link of README.md and docs/*.md is accounted for.

A shell command is parsed by the program it calls, without being executed: targets, subcommands,
options and files exist. Those that are cheap and need no weights are then run in an empty folder.
Python is compiled, and what it imports and calls of this project is looked up.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from bench.config import load_config
from bench.named_configs import find_config, named_configs
from media.errors import UserError
from media.writing import write_video

from .commands import Command, Parsed, Wrong, check, commands, parse_stdrc
from .pages import PAGES, ROOT, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language in ("bash", "sh", "shell", "console")]
COMMANDS = [command for block in SHELL for command in commands(block)]
# The blocks of design.md are signatures side by side, no programs.
PYTHON = [b for b in BLOCKS if b.language == "python" and b.page.name != "design.md"]


def understood(command: Command) -> Parsed | None:
    try:
        return check(command)
    except Wrong as wrong:
        pytest.fail(f"{command}\n  {wrong}", pytrace=False)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_exists_as_printed(command: Command) -> None:
    parsed = understood(command)
    if parsed is not None and parsed.path[:1] == ("bench",) and parsed.params.get("config"):
        path = ROOT / parsed.params["config"]
        if path.is_file():  # else it is the reader's own
            load_config(path)


def test_readme_has_commands_of_every_kind() -> None:
    """The machinery sees the page: a README without commands would pass all the rest."""
    programs = {command.words[0] for command in COMMANDS if command.place.startswith("README")}
    assert {"make", "stdrc"} <= programs
    assert len(COMMANDS) > 20


# What is run -------------------------------------------------------------------------------------


SHIPPED = ("miniature", "random")


def needs_no_download(given: str) -> bool:
    """Whether a bench config runs on what a checkout holds."""
    try:
        path, base = find_config(given, "bench")
        return getattr(load_config(ROOT / path, base).generator, "checkpoint", 0) in SHIPPED
    except UserError:  # said by test_a_command_exists_as_printed
        return False


def runnable(command: Command, folder: Path) -> tuple[list[str], int, str] | None:
    """(arguments, exit code, what is printed) of a cheap command; None for one that is not run.

    Arguments are added where they make a command cheaper and leave what it shows the same.
    """
    if command.words[0] != "stdrc":
        return None
    try:
        parsed = check(command)
    except Wrong:  # said by test_a_command_exists_as_printed
        return None
    assert parsed is not None
    arguments = list(command.words[1:])
    if parsed.help:
        return arguments, 0, "Usage: stdrc"
    match parsed.path:
        case ("doctor",) if parsed.params["checkpoint"]:
            return arguments, 0, "set memory to {text: group, offload: group}"
        case ("doctor",):
            return arguments, 0, "metrics"
        case ("weights", "list"):
            return arguments, 0, "i3d.torchscript"
        case ("compare",) if parsed.params["samples"].name == "people.csv":
            return [*arguments, "-m", "temporal.flicker"], 0, "index.html"
        case ("generate",) if parsed.params["checkpoint"] in SHIPPED:
            return [*arguments, "--steps", "2"], 0, parsed.params["output"].name
        case ("bench", "run") if parsed.params["schema"]:
            return arguments, 0, "properties"
        case ("bench", "run") if parsed.params["plan"] and needs_no_download(
            parsed.params["config"]
        ):
            return [*arguments, "--run", str(folder / "planned")], 0, "model passes"
        case ("train",) if parsed.params["dry_run"]:
            # The configs of the repository need data or weights that a checkout has not.
            return arguments, 2, "stdrc: "
        case ("score",) if not parsed.params["samples"] and not parsed.params["plugin"]:
            return [*arguments, "-m", "temporal.flicker"], 0, "temporal.flicker"
    return None


def unique(found: list[Command]) -> list[Command]:
    """Each command once, however many pages print it."""
    return list({command.words: command for command in reversed(found)}.values())[::-1]


CHEAP = [c for c in unique(COMMANDS) if runnable(c, Path()) is not None]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the reader's own picture and videos in it."""
    picture = Image.new("RGB", (64, 64), "tan")
    for name in ("face.png", "face.jpg"):
        picture.save(tmp_path / name)
    for name in ("videos", "clips", "videos/ours", "videos/theirs"):
        frames = np.random.default_rng(len(name)).random((4, 32, 32, 3))
        write_video(tmp_path / name / "clip.mp4", frames, 8.0)
    (tmp_path / "people.csv").write_text("id,prompt,reference\nclip,a person waves,face.png\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", CHEAP, ids=str)
def test_a_cheap_command_runs(
    command: Command, checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = runnable(command, checkout)
    assert plan is not None
    arguments, code, said = plan
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = "".join(capfd.readouterr())
    assert (ended.value.code or 0) == code, f"{command}\n{printed}"
    assert said in printed, f"{command}\n{printed}"


def test_commands_are_run_at_all() -> None:
    kinds = {command.words[1] for command in CHEAP}
    assert {"doctor", "train", "generate", "bench", "score", "compare", "weights"} <= kinds


def test_commands_on_a_finished_run(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the pages do with `make bench`'s run, on a quicker run of the same name."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", "first", "--run", "runs/quick"])
    assert not ended.value.code
    count = 0
    for command in unique(COMMANDS):
        # Nobody's bucket: the same copy, to fsspec's store in memory.
        words = [word.replace("s3://", "memory://") for word in command.words]
        if words[0] != "stdrc" or "runs/quick" not in words:
            continue
        if words[1] == "bench" and words[2] in named_configs():
            continue  # a sweep, not something done with a finished one
        if "vote" in words:
            continue  # it serves until Ctrl-C, and names entries of the real run
        count += 1
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
        assert not ended.value.code, f"{command}\n{''.join(capfd.readouterr())}"
    assert count >= 2


HELP = ["", "generate", "bench", "bench run", "bench status", "bench merge", "bench tune", "score"]
HELP += [
    "leaderboard",
    "leaderboard table",
    "submission",
    "submission pack",
    "train",
    "compare",
    "weights",
    "weights list",
    "weights fetch",
    "configs",
    "doctor",
]


@pytest.mark.parametrize("path", HELP)
def test_help_fits_eighty_columns(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = parse_stdrc([*path.split(), "--help"]).help
    assert text.startswith("Usage: stdrc")
    assert max(map(len, text.splitlines())) <= 80


# Python ------------------------------------------------------------------------------------------

OURS = ("stdrc", "metrics", "bench", "leaderboards")


class Lookup(ast.NodeVisitor):
    """Follows names that a snippet imports from this project, and checks what it does with them.

    Only what is certain is checked: attributes of classes and modules, and whether a call's
    keywords and number of arguments fit the signature.
    """

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.instances: dict[str, type] = {}
        self.wrong: list[tuple[int, str]] = []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and node.module.split(".")[0] in OURS:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if hasattr(module, alias.name):
                    self.known[alias.asname or alias.name] = getattr(module, alias.name)
                else:
                    self.wrong.append((node.lineno, f"{node.module} has no {alias.name}"))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        made = self._made(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.known.pop(target.id, None)
                self.instances.pop(target.id, None)
                if made is not None:
                    self.instances[target.id] = made

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function, bound = self._resolve(node.func)
        if function is None or any(isinstance(a, ast.Starred) for a in node.args):
            return
        if any(keyword.arg is None for keyword in node.keywords):
            return
        try:
            signature = inspect.signature(function)
            first = [None] if bound else []
            signature.bind(*first, *node.args, **{k.arg or "": k.value for k in node.keywords})
        except ValueError:  # written in C, without a signature
            return
        except TypeError as error:
            self.wrong.append((node.lineno, f"{ast.unparse(node.func)}: {error}"))

    def _resolve(self, node: ast.expr) -> tuple[Any, bool]:
        """(what a name stands for, whether it still wants its `self`)."""
        if isinstance(node, ast.Name):
            if node.id in self.instances:
                return inspect.getattr_static(self.instances[node.id], "__call__", None), True
            return self.known.get(node.id), False
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            return None, False
        name = node.value.id
        owner = self.known.get(name) or self.instances.get(name)
        if owner is None:
            return None, False
        if not hasattr(owner, node.attr):
            if name in self.known:  # an instance has attributes of its own
                self.wrong.append((node.lineno, f"there is no {name}.{node.attr}"))
            return None, False
        method = inspect.isfunction(inspect.getattr_static(owner, node.attr, None))
        found = getattr(owner, node.attr)
        return (found if callable(found) else None), method and name in self.instances

    def _made(self, node: ast.expr) -> type | None:
        """The class of what a call gives, for constructors and `from_pretrained`."""
        if not isinstance(node, ast.Call):
            return None
        if isinstance(node.func, ast.Name) and inspect.isclass(self.known.get(node.func.id)):
            return self.known[node.func.id]
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "from_pretrained"
            and isinstance(node.func.value, ast.Name)
        ):
            return self.known.get(node.func.value.id)
        return None


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_uses_what_there_is(block: Block) -> None:
    try:
        tree = ast.parse(block.text)
    except SyntaxError as error:
        line = block.line + (error.lineno or 1) - 1
        pytest.fail(f"{block.page.name}:{line}: {error.msg}: {error.text}", pytrace=False)
    lookup = Lookup()
    lookup.visit(tree)
    found = [f"{block.page.name}:{block.line + line - 1}: {what}" for line, what in lookup.wrong]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from stdrc import NoSuchThing", "stdrc has no NoSuchThing"),
        (
            "from stdrc import ReferencePlacement\nReferencePlacement.tas()",
            "ReferencePlacement.tas",
        ),
        ("from stdrc import ThreeStreamGuidance\nThreeStreamGuidance(txt=3)", "txt"),
        (
            "from stdrc import STDRCPipeline\npipe = STDRCPipeline.from_pretrained('x')\n"
            "pipe('a', refrence='face.jpg')",
            "refrence",
        ),
    ],
)
def test_a_wrong_snippet_is_noticed(text: str, message: str) -> None:
    lookup = Lookup()
    lookup.visit(ast.parse(text))
    assert len(lookup.wrong) == 1
    assert message in lookup.wrong[0][1]


# Links and the checks themselves -----------------------------------------------------------------


def links(page: Path) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced:
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                yield number, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for number, target in links(page):
        if re.match(r"^(https?:|mailto:|#)", target):
            continue
        path = (page.parent / target.partition("#")[0]).resolve()
        place = f"{page.relative_to(ROOT)}:{number}"
        assert path.is_relative_to(ROOT), f"{place}: {target} leads out of the repository."
        assert path.exists(), f"{place}: there is no {target}."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("make benhc", "no target 'benhc'"),
        ("stdrc generat -p x", "generat"),
        ("stdrc score videos/ --referense face.jpg", "--referense"),
        ("stdrc submission pack runs/x", "--entry"),
        ("stdrc bench bench/configs/none.yaml", "no file bench/configs/none.yaml"),
        ("stdrc bench quik", "Did you mean 'quick'?"),
        ("stdrc bench ltx23-lora", "a config of 'stdrc train'"),
        ("stdrc bench x.yaml --limit many", "--limit"),
        ("python benchmarks/guidance_cost.py --ltx24", "no option --ltx24"),
        ("python -m docs.nothing", "no module 'docs.nothing'"),
        ("accelerate launch -m bench.cli train x.yaml --dryrun", "--dryrun"),
        ("pip install -e .[cuda]", "no extra 'cuda'"),
        ("curl https://example.org", "'curl' is not a program"),
    ],
)
def test_a_wrong_command_is_noticed(line: str, message: str) -> None:
    block = Block(ROOT / "README.md", 7, "bash", f"# words\n{line}\n")
    (command,) = commands(block)
    assert command.place == "README.md:8"
    with pytest.raises(Wrong, match=re.escape(message)):
        check(command)


def test_commands_are_taken_apart_as_a_shell_does() -> None:
    text = 'A=1 stdrc score v \\\n  -p "a # b" | jq .x > o.json && make test  # no\n\nmake bench\n'
    block = Block(ROOT / "docs" / "x.md", 10, "bash", text)
    assert [(c.place, *c.words) for c in commands(block)] == [
        ("docs/x.md:10", "stdrc", "score", "v", "-p", "a # b"),
        ("docs/x.md:10", "jq", ".x"),
        ("docs/x.md:10", "make", "test"),
        ("docs/x.md:13", "make", "bench"),
    ]
