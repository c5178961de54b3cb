"""Configs by name: `stdrc bench quick`, `stdrc train ltx23-lora`.

A name is a YAML file in the folder `bench` or `train` of `bench/configs`, or of a folder that a
plug-in declares under `CONFIGS`. They lie inside packages, since a wheel carries nothing else: a
`configs` at the top would be installed as a package of that name beside everybody's own.

Relative paths in your own config start at its folder. Those of a shipped one start at the
current folder, where the reader's data and runs are; so a copy of it there means the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from bench.errors import BenchError, UnknownNameError
from media.plugins import declared
from media.wording import did_you_mean

Kind = Literal["bench", "train"]
KINDS: tuple[Kind, ...] = ("bench", "train")


class NamedConfig(NamedTuple):
    """A shipped config.

    Attributes:
        kind: the command that reads it, "bench" or "train".
        summary: its description; where it has none, the first sentence of its opening comment.
    """

    name: str
    kind: Kind
    path: Path
    summary: str


def _folders() -> Iterator[Path]:
    for declaration in ("bench.configs", *declared("CONFIGS")):
        package, _, folder = declaration.rpartition(".")
        path = Path(import_module(package).__path__[0]) / folder
        if not path.is_dir():
            raise BenchError(f"A plug-in declares the configs {declaration}; {path} is missing.")
        yield path


def named_configs() -> dict[str, NamedConfig]:
    """Every shipped config by its name.

    Raises:
        BenchError: two plug-ins ship a config of one name, or a declared folder is missing.
    """
    found: dict[str, NamedConfig] = {}
    for folder in _folders():
        for kind in KINDS:
            for path in sorted((folder / kind).glob("*.yaml")):
                if path.stem in found:
                    raise BenchError(
                        f"Two configs are called {path.stem!r}: {found[path.stem].path} and "
                        f"{path}; rename one."
                    )
                found[path.stem] = NamedConfig(path.stem, kind, path, _summary(path))
    return found


def _summary(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    if "description" in data:
        return str(data["description"])
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment).partition(". ")[0].rstrip(".") + "."


def find_config(given: str, kind: Kind) -> tuple[Path, Path]:
    """The file that a command's CONFIG means, and the folder where its relative paths start.

    Args:
        given: the path of a YAML file, or the name of a shipped config.

    Raises:
        UnknownNameError: it is neither a YAML file's path nor a shipped config's name.
    """
    path = Path(given)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        shipped = any(path.resolve().is_relative_to(f.resolve()) for f in _folders())
        return path, Path() if shipped else path.parent
    known = named_configs()
    if given in known and known[given].kind == kind:
        return known[given].path, Path()
    names = [config.name for config in known.values() if config.kind == kind]
    if given in known:
        raise UnknownNameError(
            f"{given} is a config of 'stdrc {known[given].kind}', not of 'stdrc {kind}', whose are "
            f"{', '.join(names)}."
        )
    hint = did_you_mean(given, names)
    raise UnknownNameError(
        f"No config is called {given!r}; name a YAML file, or one of {', '.join(names)}.{hint}"
    )


def copy_config(name: str, to: Path) -> Path:
    """Copy a shipped config to a file, or into a folder under its own name; returns the file.

    Raises:
        UnknownNameError: no config has that name.
        BenchError: the file is there already, or its folder is missing.
    """
    known = named_configs()
    if name not in known:
        raise UnknownNameError.among("No config is called", name, known)
    target = to / f"{name}.yaml" if to.is_dir() else to
    if target.exists():
        raise BenchError(f"{target} already exists; choose another name.")
    if not target.parent.is_dir():
        raise BenchError(f"There is no folder {target.parent} to copy {name} to.")
    shutil.copyfile(known[name].path, target)
    return target
