"""The seam for plug-ins: packages that add checkpoints, evaluation sets, metrics and networks.

An installed distribution names a module under the entry point group `stdrc.plugins`::

    [project.entry-points."stdrc.plugins"]
    mine = "my_package.plugin"

The module holds plain values that spell what they offer as "module:attribute", so that nothing
heavy is imported before it is used. All are optional:

- `CHECKPOINTS`: name -> a function that returns the checkpoint's folder
- `VARIANTS`: name of a checkpoint -> a function that returns its LoRAs, variant -> file, the one
  to take where none is named first
- `REMARKS`: name of a checkpoint -> a function of texts and of pictures by name that returns a
  sentence for each thing in them that the checkpoint was not taught
- `EVALSETS`: the evaluation set's `kind` -> its model class
- `METRICS`: a tuple of metric classes
- `FACE_BACKENDS`, `FACE_ENCODERS`: name -> a function that builds one
- `CONFIGS`: "package.folder" with named YAML configs, or a tuple of such
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from media.errors import UnknownNameError, UserError

GROUP = "stdrc.plugins"
KINDS = (
    "CHECKPOINTS",
    "VARIANTS",
    "REMARKS",
    "EVALSETS",
    "METRICS",
    "FACE_BACKENDS",
    "FACE_ENCODERS",
    "CONFIGS",
)


def declared(kind: str) -> dict[str, str]:
    """What all installed plug-ins declare of one kind.

    Args:
        kind: one of `KINDS`.

    Returns:
        Name -> "module:attribute", in the order of the plug-ins' names. `METRICS` and `CONFIGS`,
        which have no names of their own, are named by what they say.

    Raises:
        UserError: a plug-in can't be imported or is malformed, or a name is declared twice.
    """
    if kind not in KINDS:
        raise UnknownNameError.among("A plug-in declares nothing called", kind, KINDS)
    found: dict[str, str] = {}
    origin: dict[str, str] = {}
    for point in _installed(tuple(sys.path)):
        try:
            module = point.load()
        except Exception as error:
            raise UserError(
                f"The plug-in {point.name!r} can't be imported from {point.value} "
                f"({type(error).__name__}: {error}); repair or uninstall it."
            ) from error
        for name, target in _entries(getattr(module, kind, ()), f"{point.value}.{kind}").items():
            if name in found:
                raise UserError(
                    f"{name!r} is declared in {kind} by two plug-ins, {origin[name]!r} and "
                    f"{point.name!r}; rename one or uninstall one plug-in."
                )
            found[name], origin[name] = target, point.name
    return found


@lru_cache(maxsize=8)
def _installed(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The plug-ins on a module path: looking through all that is installed takes 0.1 s."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: point.name))


def _entries(value: Any, where: str) -> dict[str, str]:
    if isinstance(value, str):
        value = (value,)
    items = value.items() if isinstance(value, Mapping) else [(one, one) for one in value]
    entries: dict[str, str] = {}
    for name, target in items:
        if not isinstance(name, str) or not isinstance(target, str):
            raise UserError(f"{where} holds {name!r}: {target!r}; both must be text.")
        if name in entries:
            raise UserError(f"{where} names {name!r} twice; remove one.")
        entries[name] = target
    return entries


def load(target: str) -> Any:
    """The object that "module:attribute" names.

    Raises:
        UserError: the text has another form, or there is no such module or attribute.
    """
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise UserError(f"{target!r} is not of the form 'module:attribute'.")
    try:
        value: Any = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a module that the plug-in's module needs
        raise UserError(
            f"There is no module {error.name!r}, which {target!r} names; install it, or put its "
            "folder on PYTHONPATH."
        ) from error
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            raise UserError(f"{name} has no {attribute!r}, which {target!r} names.") from error
    return value
