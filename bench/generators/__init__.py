"""Generators: ST-DRC's own, a folder of finished videos, other pipelines, and your own model.

A kind of generator is a file here; `GENERATORS` names them. What your own model must offer is
`Generator`.
"""

from __future__ import annotations

from bench.axes import Settings
from bench.generators.base import (
    Frames,
    Generator,
    GeneratorConfig,
    Remarked,
    Resolved,
    pick_device,
)
from bench.generators.custom import FunctionGenerator
from bench.keys import checkpoint_hash
from media.plugins import load

__all__ = [
    "GENERATORS",
    "Frames",
    "FunctionGenerator",
    "Generator",
    "GeneratorConfig",
    "Remarked",
    "Resolved",
    "Settings",
    "checkpoint_hash",
    "generator_models",
    "pick_device",
]

#: The `kind` of a generator -> its settings' class.
GENERATORS = {
    "stdrc": "bench.generators.stdrc:STDRCConfig",
    "folder": "bench.generators.folder:FolderConfig",
    "diffusers": "bench.generators.diffusers_pipeline:DiffusersConfig",
    "custom": "bench.generators.custom:CustomConfig",
}


def generator_models() -> list[type[GeneratorConfig]]:
    """The classes of all kinds."""
    return [load(target) for target in GENERATORS.values()]
