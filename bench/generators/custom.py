"""Your own model: an importable `Generator`, or a function that is one."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bench.axes import Settings
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators.base import Frames, Generator, GeneratorConfig
from media.errors import UserError


class CustomConfig(GeneratorConfig):
    """Your own model: an importable factory of a `bench.generators.Generator`."""

    several_gpus: ClassVar[bool] = True
    kind: Literal["custom"]
    factory: str = Field(description="'package.module:name'", pattern=r"^[\w.]+:\w+$")
    args: dict[str, Any] = Field(default={}, description="What the class is made with.")

    def make(self) -> Generator:
        return _imported(self)


class FunctionGenerator(Generator):
    """A bare function `generate(samples, settings)` as a generator."""

    def __init__(self, function: Callable[..., Any], name: str, version: str = "1") -> None:
        self.function, self.name, self.version = function, name, version

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        result: Sequence[Frames | Path] = self.function(samples, settings)
        return result


def _imported(config: CustomConfig) -> Generator:
    module, _, name = config.factory.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a model of one's own usually lies where the command is given
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BenchError(
            f"generator.factory: {config.factory!r} cannot be imported ({error}); "
            "it is 'package.module:name', found from the current folder or installed."
        ) from None
    except Exception as error:  # whatever a module does when it is imported
        raise BenchError(
            f"generator.factory: importing {module} fails ({type(error).__name__}: {error}, "
            f"{_where(error)})."
        ) from error
    if isinstance(found, type) and issubclass(found, Generator):
        try:
            generator = found(**config.args)
        except UserError:
            raise
        except Exception as error:
            raise BenchError(
                f"generator.factory: {config.factory}(**args) fails "
                f"({type(error).__name__}: {error}, {_where(error)})."
            ) from error
        generator.made_with = config.args
    elif isinstance(found, Generator):
        generator = found
    elif callable(found) and not config.args:
        generator = FunctionGenerator(found, name)
    else:
        raise BenchError(
            f"generator.factory: {config.factory!r} is a {type(found).__name__}; name a Generator "
            "class (which 'args' go to) or a function generate(samples, settings) (which has none)."
        )
    if not generator.name:
        generator.name = config.factory
    return generator


def _where(error: Exception) -> str:
    """The line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
