"""Pydantic models that configs are read into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _on_off(value: Any) -> Any:
    # YAML 1.1 reads the bare words on and off as booleans.
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Switch = Annotated[str, BeforeValidator(_on_off)]


class Model(BaseModel):
    """Unknown keys are errors, and a config does not change after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def found_under(base: Path, given: str) -> str:
    """A file or folder that is there under `base`; else `given`, a name or an id of the hub."""
    local = base / Path(given).expanduser()
    return str(local) if local.exists() else given
