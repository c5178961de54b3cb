"""What a user of the generator can fix, in one sentence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from media import errors
from media.errors import UserError

Settings = TypeVar("Settings")


class STDRCError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(STDRCError, errors.UnknownNameError):
    """A name that this package doesn't know."""


class WeightsMissingError(STDRCError, errors.WeightsMissingError):
    """A checkpoint or LoRA that isn't on this machine."""


class NoFaceError(STDRCError, errors.NoFaceError):
    """A reference image in which no face was found."""


def one_sentence(what: str) -> Callable[[type[Settings]], type[Settings]]:
    """Class decorator: a pydantic dataclass raises an `STDRCError` instead of a `ValidationError`.

    Args:
        what: what the class is called in the sentence, for example "Guidance".
    """

    def decorate(cls: type[Settings]) -> type[Settings]:
        checked = cls.__init__

        @functools.wraps(checked)
        def init(self: Settings, *args: Any, **kwargs: Any) -> None:
            try:
                checked(self, *args, **kwargs)
            except ValidationError as error:
                fields = cls.__pydantic_fields__  # type: ignore[attr-defined]
                raise STDRCError(_sentence(what, fields, error)) from None

        setattr(cls, "__init__", init)  # noqa: B010
        return cls

    return decorate


def _sentence(what: str, fields: dict[str, Any], error: ValidationError) -> str:
    first = error.errors()[0]
    key = first["loc"][0] if first["loc"] else ""
    name = list(fields)[key] if isinstance(key, int) and key < len(fields) else str(key)
    if name not in fields:
        return f"Unknown key {name!r} in {what.lower()}; known are {', '.join(fields)}."
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = message.replace("should", "must")
    bounds = [getattr(m, k) for m in fields[name].metadata for k in ("ge", "le") if hasattr(m, k)]
    if first["type"] in ("less_than_equal", "greater_than_equal") and len(bounds) == 2:
        message = f"must be in {bounds[0]}..{bounds[1]}"
    return f"{what} '{name}' {message}, not {first['input']!r}."
