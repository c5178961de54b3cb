"""Your own model in: a generator turns samples and settings into frames or files.

`Generator.generate` is all that a model needs to enter the sweeps and the leaderboards; the rest
has defaults. Here are ST-DRC's own, a folder of finished videos, and any other diffusers pipeline.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from bench import config as cfg
from bench.errors import BenchError
from bench.evalsets import Sample
from media.files import file_sha256, tree_sha256


@dataclass(frozen=True)
class Remarked:
    """A generated video, and what is to be known of it: its row in the run folder says it."""

    video: Any
    remark: str


Frames = Any  # [T, H, W, 3]: uint8, or float in 0..1; an array, CPU tensor or list of PIL images


@dataclass(frozen=True, slots=True)
class Settings:
    """One cell of a sweep, and a seed. None means that the generator's default holds."""

    checkpoint: str | None = None
    placement: Any = None  # a name, or a mapping of ReferencePlacement's arguments
    augmentation: str | None = None
    text: float | None = None
    reference: float | None = None
    order: str | None = None
    rescale: float | None = None
    interval: tuple[float, float] | None = None
    parallel: float | None = None
    steps: int | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    frame_rate: float | None = None
    negative_prompt: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def axes(self) -> dict[str, Any]:
        """What is set, as plain data; everything but the seed, which makes no new cell."""
        axes = {n: value for n, value in zip(_AXES, _VALUES(self)) if value is not None}
        for name in sorted(self.args):
            axes[f"args.{name}"] = self.args[name]
        return axes


_AXES = tuple(f.name for f in fields(Settings) if f.name not in ("args", "seed"))
_VALUES = attrgetter(*_AXES)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a generator makes of settings.

    Attributes:
        settings: with every default filled in, so that equal videos have equal keys.
        weights: what was hashed -> its hash; part of each video's key.
        mismatch: the placement is not the one that the checkpoint was trained with.
        passes: model passes that one video takes; 0 if none.
        fps: frames a second of the file.
        stage: settings that share a stage need nothing loaded or swapped between them.
    """

    settings: Settings
    weights: Mapping[str, str] = field(default_factory=dict)
    mismatch: bool = False
    passes: int = 0
    fps: float = 8.0
    stage: str = ""


class Generator(ABC):
    """A model of one's own.

    `name` and `version` are part of every video's key: change the version when the same settings
    would give another video. Construction must be cheap; load weights at the first `generate`.

    Example:
        >>> import numpy as np
        >>> class Grey(Generator):
        ...     name = "grey"
        ...     def generate(self, samples, settings):
        ...         return [np.full((9, 64, 64, 3), 128, np.uint8) for _ in samples]
        >>> from bench.evalsets import Sample
        >>> Grey().generate([Sample("1", "a face")], Settings(seed=0))[0].shape
        (9, 64, 64, 3)
    """

    name: str = ""
    version: str = "1"

    @abstractmethod
    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        """One video for each sample, in order: its frames, or the path of a finished MP4.

        An exception fails these samples (after the batch was tried in halves) and nothing else.
        The same sample, settings and seed must give the same video whatever the batch.
        """

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        """Fill in defaults and say what the video depends on; called while planning.

        Raises:
            BenchError: if no video can be made with these settings.
        """
        return Resolved(settings, passes=settings.steps or 0, fps=settings.frame_rate or 8.0)


class FunctionGenerator(Generator):
    """A bare function `generate(samples, settings)` as a generator."""

    def __init__(self, function: Callable[..., Any], name: str, version: str = "1") -> None:
        self.function, self.name, self.version = function, name, version

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        result: Sequence[Frames | Path] = self.function(samples, settings)
        return result


class FolderGenerator(Generator):
    """Finished videos of any model, found by a pattern; a video's key holds its file's hash."""

    def __init__(self, config: cfg.FolderConfig) -> None:
        self.folder, self.pattern, self.name = config.path, config.pattern, config.name
        self._index: dict[str, int] = {}
        if not self.folder.is_dir():
            raise BenchError(
                f"generator.path: there is no folder {self.folder}; name the one with the videos."
            )
        unknown = set(re.findall(r"\{(.*?)\}", self.pattern)) - _PATTERN
        if unknown:
            raise BenchError(
                f"generator.pattern: unknown {{{sorted(unknown)[0]}}}; known are "
                f"{', '.join(f'{{{p}}}' for p in sorted(_PATTERN))}."
            )

    def number(self, samples: Sequence[Sample]) -> None:
        """Fix what {index} means: a sample's place, from 1, in the evaluation set."""
        self._index = {sample.id: i for i, sample in enumerate(samples, start=1)}

    def find(self, sample: Sample, settings: Settings) -> Path:
        """The file of a sample."""
        return self.folder / self.pattern.format(
            sample=sample.id,
            identity=sample.identity,
            index=self._index.get(sample.id, sample.id),
            seed=settings.seed,
        )

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        paths = [self.find(sample, settings) for sample in samples]
        for path in paths:
            if not path.is_file():
                raise BenchError(f"There is no video {path}.")
        return paths

    def content(self, sample: Sample, settings: Settings) -> str:
        """Hash of a sample's finished video, so that a replaced file is scored anew."""
        path = self.find(sample, settings)
        return file_sha256(path) if path.is_file() else "missing"


_PATTERN = {"sample", "identity", "index", "seed"}


class DiffusersGenerator(Generator):
    """Any diffusers pipeline that takes a prompt and an image and returns `.frames`."""

    def __init__(self, config: cfg.DiffusersConfig) -> None:
        self.config, self.name = config, f"diffusers:{config.checkpoint}"
        self._pipe: Any = None

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        import torch
        from diffusers import DiffusionPipeline
        from diffusers.utils import load_image

        device = pick_device(self.config.device)
        if self._pipe is None:
            dtype = getattr(torch, self.config.dtype)
            pipe = DiffusionPipeline.from_pretrained(self.config.checkpoint, dtype=dtype)
            self._pipe = pipe.to(device)
        names = {"steps": "num_inference_steps", "text": "guidance_scale"}
        shared = ("height", "width", "num_frames", "negative_prompt")
        arguments = {name: getattr(settings, name) for name in shared}
        arguments |= {theirs: getattr(settings, ours) for ours, theirs in names.items()}
        arguments = {k: v for k, v in arguments.items() if v is not None} | dict(settings.args)
        videos = []
        for sample in samples:
            if self.config.image_argument:
                arguments[self.config.image_argument] = load_image(str(sample.references[0]))
            noise = torch.Generator("cpu").manual_seed(settings.seed)
            out = self._pipe(prompt=sample.prompt, generator=noise, output_type="np", **arguments)
            videos.append(out.frames[0])
        return videos

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        digest = checkpoint_hash(self.config.checkpoint)
        return Resolved(
            settings,
            {self.config.checkpoint: digest, "dtype": self.config.dtype},
            passes=(settings.steps or 0) * 2,
            fps=settings.frame_rate or 8.0,
        )


def make_generator(config: cfg.GeneratorConfig) -> Generator:
    """The generator a config names.

    Raises:
        BenchError: if it cannot be made.
    """
    if isinstance(config, cfg.FolderConfig):
        return FolderGenerator(config)
    if isinstance(config, cfg.DiffusersConfig):
        return DiffusersGenerator(config)
    if isinstance(config, cfg.CustomConfig):
        return _custom(config)
    from bench.generators.stdrc import STDRCGenerator

    return STDRCGenerator(config)


def _custom(config: cfg.CustomConfig) -> Generator:
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
    if isinstance(found, type) and issubclass(found, Generator):
        generator = found(**config.args)
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


def pick_device(name: str) -> str:
    """The device that a name means, "auto" being the one that this machine has.

    Raises:
        STDRCError: there is no such device here.
    """
    from stdrc import loading

    return str(loading.pick_device(name))


# Hashes ------------------------------------------------------------------------------------------


def checkpoint_hash(checkpoint: str | Path) -> str:
    """SHA-256 over the weights and configs of a checkpoint: a file, a folder, or a hub id.

    Raises:
        BenchError: if it is not on this machine, or holds no safetensors file.
    """
    path = Path(checkpoint)
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        path = _hub_snapshot(str(checkpoint))
    wanted = sorted(
        p for p in path.rglob("*") if p.suffix in (".safetensors", ".json", ".model", ".txt")
    )
    if not any(p.suffix == ".safetensors" for p in wanted):
        raise BenchError(
            f"The checkpoint {checkpoint} holds no .safetensors file; only those are loaded."
        )
    return tree_sha256(path, wanted)


def _hub_snapshot(repo: str) -> Path:
    problem = (
        f"The checkpoint {repo!r} is neither a file or folder here nor in the Hugging Face cache; "
        f"check the path, or download it with 'hf download {repo}'."
    )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise BenchError(problem)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repo, local_files_only=bool(os.environ.get("HF_HUB_OFFLINE")))
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BenchError(f"{problem} ({str(error).splitlines()[0]})") from None


def canonical(value: Any) -> str:
    """Plain data as one JSON text: sorted keys, no spaces, so that equal data hash alike."""
    return _ENCODE(value)


_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def with_seed(settings: Settings, seed: int) -> Settings:
    """The same cell with another seed."""
    return replace(settings, seed=seed)
