"""Settings: YAML files, and what pydantic finds wrong with them, in one sentence per problem.

Each sentence names the file, the line, the key and what is allowed.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from media.errors import UserError
from media.files import special_file
from media.wording import did_you_mean

LARGEST = 10_000_000  # bytes of a file
MOST_VALUES = 1_000_000  # values of a file, aliases written out


def read_yaml(
    path: Path, wants: str, raises: type[UserError]
) -> tuple[dict[str, Any], yaml.Node | None]:
    """The mapping that a YAML file holds, and its node, which knows the lines.

    Args:
        wants: what to say of a file that isn't a mapping.
        raises: the error if it cannot be read, is too large, is not a mapping, or a key is
            duplicated.
    """
    if special := special_file(path):
        raise raises(f"{path}: is {special}; name a YAML file.")
    if path.is_file() and path.stat().st_size > LARGEST:
        raise raises(
            f"{path}: has {path.stat().st_size:,} bytes, and a settings file has at most "
            f"{LARGEST:,}; is it the right file?"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.object.count(b"\n", 0, error.start) + 1
        raise raises(f"{path}:{at}: is not UTF-8 text; save it as UTF-8.") from None
    except FileNotFoundError:
        there = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, there)
        raise raises(f"There is no file {path}; name a YAML file.{hint}") from None
    except OSError as error:
        raise raises(f"{path}: cannot be read ({error.strerror}); name a YAML file.") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        too_many = node is not None and _written_out(node, {}) > MOST_VALUES
        data = None if too_many else yaml.safe_load(text)
    except RecursionError:
        raise raises(f"{path}: is nested too deeply; is it the right file?") from None
    except (ValueError, OverflowError) as error:  # a date or a number that there is not
        raise raises(f"{path}: holds a value that cannot be read ({error}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise raises(f"{path}{line}: not valid YAML ({problem}).") from None
    if too_many:
        raise raises(
            f"{path}: stands for more than {MOST_VALUES:,} values once its aliases are written "
            "out; write it without aliases of aliases."
        )
    if not isinstance(data, dict):
        raise raises(f"{path}: {wants}.")
    if twice := _repeated_key(node):
        raise raises(f"{path}:{twice[1]}: the key {twice[0]!r} is duplicated in one mapping.")
    return data, node


def apply_override(raw: dict[str, Any], override: str, raises: type[UserError]) -> None:
    """Put the value of `key=value`, with dotted keys and a YAML value, into a file's mapping."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise raises(f"--set takes key=value, as in --set optimizer.lr=1e-4, not {override!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise raises(f"--set {override!r}: the value is not valid YAML.") from None
    if isinstance(value, str):
        # YAML 1.1 wants a dot in 1e-4; a person does not.
        with contextlib.suppress(ValueError):
            value = float(value)
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise raises(
                f"--set {override!r}: {parent!r} is {child!r} in the file and has no keys; set it "
                f"as a whole, as in --set '{parent}={{{last}: ...}}'."
            )
        node = child
    node[last] = value


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for, each alias counted as what it names."""
    if id(node) not in known:
        known[id(node)] = float("inf")  # met again below itself: an alias that holds itself
        below = node.value if not isinstance(node, yaml.ScalarNode) else ()
        parts = itertools.chain(*below) if isinstance(node, yaml.MappingNode) else below
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def sentences(
    error: ValidationError, root: type[BaseModel], source: str, node: yaml.Node | None = None
) -> str:
    """What is wrong with the values given to `root`, a line each; `source` names the file."""
    found: dict[str, dict[str, Any]] = {}
    for told in error.errors():
        e: dict[str, Any] = dict(told)
        branch = [p for p in e["loc"] if isinstance(p, str) and re.search(r"^(literal|list)\[", p)]
        e["loc"] = tuple(part for part in e["loc"] if part not in branch)
        e["msg"] = e["msg"].replace("Input should be", "should be", 1)
        key = str(e["loc"])
        if branch and key in found:  # another kind that the value is not either
            found[key]["msg"] += " or" + e["msg"].removeprefix("should be")
        else:
            found[key if branch else f"{key} {len(found)}"] = e
    return "\n".join(_sentence(source, e, node, root) for e in found.values())


def _sentence(source: str, error: Any, node: yaml.Node | None, root: type[BaseModel]) -> str:
    location = list(error["loc"])
    # pydantic puts a union's tag into the location; it is not a key of the file.
    field = root.model_fields.get(str(location[0])) if location else None
    tagged = field is not None and field.discriminator is not None
    keys = [part for i, part in enumerate(location) if not (i == 1 and tagged)]
    line = _line(node, keys)
    place = f"{source}:{line}" if line else source
    dotted = ".".join(str(k) for k in keys)
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _allowed(location, root)
        name = str(keys[-1])
        listing = f"; known are {', '.join(allowed)}" if allowed else ""
        return f"{place}: {dotted}: unknown key {name!r}{listing}.{did_you_mean(name, allowed)}"
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    if error["type"] == "missing":
        return f"{place}: {dotted}: is missing."
    if not dotted:
        return f"{place}: {message}."
    shown = error.get("input")
    whole = isinstance(shown, dict) or len(repr(shown)) > 60  # a section of the file, say
    given = "" if whole else f" (it is {shown!r})"
    return f"{place}: {dotted}: {message[:1].lower()}{message[1:]}{given}."


def _allowed(location: list[Any], root: type[BaseModel]) -> list[str]:
    """Field names of the model that an unknown key was given to."""
    models: list[Any] = [root]
    for part in location[:-1]:
        found: list[Any] = []
        for model in models:
            fields = _fields(model)
            if part in fields:
                found += _models_in(fields[part].annotation)
            else:  # a union's tag, or a key of a mapping of models
                kind = fields.get("kind")
                tagged = kind is not None and part in typing.get_args(kind.annotation)
                found += [model] if tagged or kind is None else []
        models = found
    return sorted({name for m in models for name in _fields(m)})


def _fields(model: Any) -> Any:
    """Of a model, or of a pydantic dataclass."""
    return getattr(model, "__pydantic_fields__", {})


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and hasattr(annotation, "__pydantic_fields__"):
        return [annotation]
    if isinstance(annotation, types.GenericAlias) or typing.get_args(annotation):
        return [m for a in typing.get_args(annotation) for m in _models_in(a)]
    return []


def _line(node: yaml.Node | None, keys: list[Any]) -> int | None:
    """Line, from 1, of the deepest part of `keys` that stands in the file."""
    line: int | None = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(key)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _repeated_key(node: yaml.Node | None) -> tuple[str, int] | None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                return str(key.value), key.start_mark.line + 1
            seen.add(key.value)
            if found := _repeated_key(value):
                return found
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            if found := _repeated_key(value):
                return found
    return None
