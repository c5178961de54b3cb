"""Which trained LoRA a cell is generated with: by its name, or by placement and augmentation."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors import safe_open

from bench.axes import Settings
from bench.checkpoints import checkpoint_source, shipped_variants
from bench.errors import BenchError, UnknownNameError
from bench.generators.base import GeneratorConfig
from bench.keys import canonical, checkpoint_dtype, checkpoint_hash, model_index
from bench.yaml_models import Model, Switch, found_under
from media.files import file_sha256
from media.plugins import declared
from stdrc.defaults import FRAME_RATE, HEIGHT, NUM_FRAMES, WIDTH
from stdrc.errors import STDRCError
from stdrc.variants import read_lora_metadata

_WITHOUT = {"no-colour": "colour", "no-pose": "pose", "no-layout": "layout"}


class VariantConfig(Model):
    """One trained LoRA. What it was trained with is read from the file, which training writes it
    into; where a file says nothing, it is said here."""

    path: str = Field(
        description="A .safetensors LoRA, its hub id, or a whole checkpoint's folder."
    )
    file: str | None = Field(
        default=None, description="Which file of a hub id or a folder, where it has several."
    )
    placement: str | dict[str, Any] | None = Field(default=None, description="None: the file's.")
    augmentation: Switch | None = Field(default=None, description="None: the file's.")


class CheckpointConfig(GeneratorConfig):
    """A base checkpoint, and the variants that were trained on it."""

    checkpoint: str = Field(
        default="miniature",
        description="One that a plug-in declares ('miniature'; 'random', its untrained twin), a "
        "folder, or a hub id.",
    )
    variants: dict[str, VariantConfig] = Field(
        default={}, description="Trained variants by name; a declared checkpoint brings its own."
    )
    train: Literal["refuse", "missing"] = Field(
        default="refuse", description="A variant without a checkpoint is refused, or trained."
    )
    train_config: Path | None = Field(
        default=None, description="The `stdrc train` file for `train: missing`."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="'auto': what the weights are saved in."
    )

    def local_paths(self, base: Path) -> dict[str, Any]:
        """The checkpoint and the variants that are there; others are names, or ids of the hub."""
        variants = {
            name: variant.model_copy(update={"path": found_under(base, variant.path)})
            for name, variant in self.variants.items()
        }
        if self.checkpoint in declared("CHECKPOINTS"):
            return {"variants": variants}
        return {"checkpoint": found_under(base, self.checkpoint), "variants": variants}


@dataclass(frozen=True)
class Variant:
    """A trained LoRA on the base, or the base itself (`path` None)."""

    name: str
    path: Path | None
    placement: str | None  # canonical; None: not trained with any
    augmentation: str | None
    by_name: bool = False  # only `checkpoint` picks it, not a placement and an augmentation
    crop: str | None = None  # of its references in training; None: it does not say


class Variants:
    """The checkpoint of a config and the LoRAs that were trained on it."""

    def __init__(self, config: CheckpointConfig) -> None:
        self.config = config
        self._resolved: dict[str, tuple[Variant, str]] = {}
        self._hashes: dict[str, dict[str, str]] = {}

    @cached_property
    def base(self) -> str:
        """Folder or hub id of the base checkpoint."""
        return checkpoint_source(self.config.checkpoint)

    @cached_property
    def known(self) -> dict[str, Variant]:
        """Trained variants by name; the base alone if there are none."""
        checkpoint_hash(self.base)  # says so first if the base is not here
        found: dict[str, Variant] = {}
        for name, shipped in shipped_variants(self.config.checkpoint).items():
            trained = placement_key(shipped.placement) if shipped.placement else None
            switch = "on" if shipped.augmentation else "off"
            # With the identity objectives it differs in more than placement and augmentation.
            found[name] = Variant(
                name, shipped.path, trained, switch, shipped.identity, shipped.crop
            )
        for name, given in self.config.variants.items():
            found[name] = _variant(name, given)
        if not found:
            index = model_index(self.base)
            about = json.loads(index.read_text()) if index else {}
            trained = placement_key(about["placement"]) if about.get("placement") else None
            found["base"] = Variant("base", None, trained, None, crop=about.get("crop"))
        return found

    @cached_property
    def default_size(self) -> dict[str, Any]:
        """The base's statement; without one LTX-2's own defaults, as the pipeline has them."""
        index = model_index(self.base)
        stated = json.loads(index.read_text()).get("default_size") if index else None
        return {
            "height": HEIGHT,
            "width": WIDTH,
            "num_frames": NUM_FRAMES,
            "frame_rate": FRAME_RATE,
        } | (stated or {})

    def base_of(self, variant: Variant) -> str:
        """What a variant's pipeline is loaded from: the base, or the variant's own folder."""
        whole = variant.path is not None and variant.path.is_dir()
        return str(variant.path) if whole else self.base

    @cache  # noqa: B019
    def encoder(self, base: str) -> tuple[str, str]:
        """What a checkpoint's encodings follow from: its hash, and what it computes in."""
        auto = self.config.dtype == "auto"
        return checkpoint_hash(base), checkpoint_dtype(base) if auto else self.config.dtype

    def of_text(self, variant: Variant, settings: Settings) -> list[str]:
        """Hashes, and strengths, of those LoRAs of a cell that change how prompts are encoded."""
        files = [
            (path, lora.strength) for path, lora in zip(self.loras(settings), settings.loras or ())
        ]
        if variant.path is not None and variant.path.is_file():
            files.insert(0, (variant.path, 1.0))
        return [f"{file_sha256(path)} {at!r}" for path, at in files if _changes_text(path)]

    def weights(self, variant: Variant) -> dict[str, str]:
        """What was hashed -> its hash, once per variant."""
        if variant.name not in self._hashes:
            found = dict(zip(("base", "dtype"), self.encoder(self.base)))
            if variant.path is not None:
                found[variant.name] = checkpoint_hash(variant.path)
            self._hashes[variant.name] = found
        return self._hashes[variant.name]

    def loras(self, settings: Settings) -> list[Path]:
        """The files of the axis `loras`.

        Raises:
            STDRCError: one of them is not there.
        """
        if not settings.loras:
            return []  # a plan need not import diffusers for that
        from stdrc.lora import locate_lora

        return [locate_lora(lora.path, lora.file) for lora in settings.loras]

    def pick(
        self, settings: Settings, *, allow_mismatch: bool, may_train: bool = False
    ) -> tuple[Variant, str]:
        """(variant, canonical placement) for settings.

        Args:
            settings: checkpoint, placement and augmentation are looked at.
            allow_mismatch: take a variant that was trained with another placement.
            may_train: train a variant that is missing, where the config has it so.

        Raises:
            BenchError: for an unknown checkpoint, or a placement that none was trained with.
        """
        loras = [lora.model_dump() for lora in settings.loras or ()]
        key = canonical([settings.checkpoint, settings.placement, settings.augmentation, loras])
        if key not in self._resolved:
            self._resolved[key] = self._pick_with_loras(settings, allow_mismatch, may_train)
        return self._resolved[key]

    def _pick_with_loras(
        self, settings: Settings, allow_mismatch: bool, may_train: bool
    ) -> tuple[Variant, str]:
        """A variant as it is with the LoRAs beside it, where and how they were shown a reference.

        Raises:
            STDRCError: a LoRA is not there, or they were trained in different ways.
        """
        if not settings.loras:
            return self._pick(settings, allow_mismatch, may_train)
        from stdrc.adapters import TrainedAdapters

        about = {str(path): read_lora_metadata(path) for path in self.loras(settings)}
        stated = TrainedAdapters.agreed(about)["placement"]
        key = None if stated is None else placement_key(stated)
        variant, placement = self._pick(settings, allow_mismatch, may_train, key)
        own = {"placement": variant.placement and plain(variant.placement), "crop": variant.crop}
        crop = TrainedAdapters.agreed({variant.name: own, **about})["crop"]
        return replace(variant, crop=crop), placement

    def _pick(
        self, settings: Settings, allow_mismatch: bool, may_train: bool, stated: str | None = None
    ) -> tuple[Variant, str]:
        """As `pick`; `stated` is the placement of the LoRAs beside a variant, if they say one."""
        placement = None if settings.placement is None else placement_key(settings.placement)
        variants = [v for v in self.known.values() if not v.by_name]
        if settings.checkpoint is not None:
            if settings.checkpoint not in self.known:
                raise UnknownNameError.among(
                    "There is no checkpoint", settings.checkpoint, self.known
                )
            variants = [self.known[settings.checkpoint]]
            placement = placement or variants[0].placement
        placement = placement or stated or placement_key("tass")
        # A bare base is as trained as what is loaded on it.
        variants = [replace(v, placement=v.placement or stated) for v in variants]
        trained = [v for v in variants if v.augmentation is not None]
        if trained:
            wanted = settings.augmentation or (
                trained[0].augmentation if settings.checkpoint else "on"
            )
            variants = [v for v in trained if v.augmentation == wanted]
        elif settings.augmentation is not None and self.config.train == "refuse":
            raise BenchError(
                f"augmentation {settings.augmentation!r} picks a trained variant, and the "
                f"checkpoint {self.config.checkpoint} has none; name some in generator.variants."
            )
        fitting = [v for v in variants if v.placement == placement]
        if len(fitting) > 1:
            raise BenchError(
                f"{' and '.join(v.name for v in fitting)} were all trained with placement "
                f"{placement!r} and augmentation {fitting[0].augmentation!r}; set checkpoint to "
                "the one that is meant."
            )
        if fitting:
            return fitting[0], placement
        if self.config.train == "missing" and settings.checkpoint is None:
            variant = self._train(placement, settings.augmentation or "on", may_train)
            return variant, placement
        if not variants or not allow_mismatch:
            augmentation = f" and augmentation {settings.augmentation!r}" if trained else ""
            there = ", ".join(
                f"{v.name} ({v.placement or 'no placement'}, augmentation {v.augmentation})"
                for v in self.known.values()
            )
            raise BenchError(
                f"No checkpoint was trained with placement {placement!r}{augmentation}; there are "
                f"{there}. Train one with 'stdrc train' and name it in generator.variants, or set "
                "sweep.allow_mismatch to run it all the same, marked in every table."
            )
        preferred = placement_key("tass")
        variants.sort(key=lambda v: v.placement != preferred)
        return variants[0], placement

    def _train(self, placement: str, augmentation: str, may_train: bool) -> Variant:
        """The variant of a placement and an augmentation, trained now unless it was before.

        Raises:
            BenchError: without a training config, or for an augmentation it cannot be told.
        """
        if self.config.train_config is None:
            raise BenchError(
                "generator.train is 'missing', and generator.train_config names no training file."
            )
        from stdrc.training import TrainConfig, train

        wanted = [f"placement={placement}"]
        if augmentation == "off":
            wanted.append("augmentation=off")
        elif augmentation in _WITHOUT:
            wanted.append(f"augmentation.{_WITHOUT[augmentation]}=false")
        elif augmentation != "on":
            raise BenchError(
                f"augmentation {augmentation!r} is nothing that can be trained; it is 'on', 'off', "
                f"{', '.join(map(repr, _WITHOUT))}."
            )
        settings = TrainConfig.load(self.config.train_config, wanted)
        name = f"{re.sub(r'[^a-z0-9.]+', '-', placement).strip('-')}-{augmentation}"
        settings = settings.model_copy(update={"output": settings.output.parent / name})
        done = settings.output / "result.txt"
        if done.is_file():
            path = settings.output / done.read_text().strip()
        else:
            if not may_train:
                raise BenchError(
                    f"The variant {name} has to be trained before there is a plan; run without "
                    "--plan, or train it with 'stdrc train'."
                )
            path = Path(str(train(settings, resume=settings.output.is_dir())))
            done.write_text(os.path.relpath(path, settings.output))
        variant = Variant(name, path, placement, augmentation)
        self.known[name] = variant
        return variant


@cache
def _changes_text(lora: Path) -> bool:
    with safe_open(lora, framework="np") as file:
        return any("connector" in name or "text_embedding" in name for name in file.keys())  # noqa: SIM118


def _variant(name: str, given: VariantConfig) -> Variant:
    """A variant of the YAML file, by what its own file says of its training.

    Raises:
        BenchError: the file says otherwise than the YAML, or neither says a placement.
    """
    where = f"generator.variants.{name}"
    path = Path(given.path)
    if not path.exists() or given.file is not None:
        from stdrc.lora import locate_lora

        try:
            path = locate_lora(given.path, given.file)
        except STDRCError as error:
            raise BenchError(
                f"{where}.path: there is no checkpoint {given.path} ({error})"
            ) from None
    if path.is_dir():
        index, about = path / "model_index.json", path / "stdrc.json"
        stated = json.loads(index.read_text()) if index.is_file() else {}
        trained = json.loads(about.read_text()) if about.is_file() else {}
    else:
        stated = trained = read_lora_metadata(path)
    said = placement_key(stated["placement"]) if stated.get("placement") else None
    placement = placement_key(given.placement) if given.placement else said
    if placement is None:
        raise BenchError(
            f"{where}: {path.name} doesn't say which placement it was trained with; "
            f"set {where}.placement."
        )
    if said not in (None, placement):
        raise BenchError(
            f"{where}.placement is {placement!r}, and {path.name} was trained with {said!r}; "
            "leave the placement out."
        )
    switch = _augmentation(trained)
    if given.augmentation and switch and given.augmentation != switch:
        raise BenchError(
            f"{where}.augmentation is {given.augmentation!r}, and {path.name} was trained "
            f"with {switch!r}; leave the augmentation out."
        )
    crop = stated.get("crop")
    return Variant(name, path, placement, given.augmentation or switch, crop=crop)


def _augmentation(trained: dict[str, Any]) -> str | None:
    """What a sweep calls the augmentation that a training's metadata states; None: nothing."""
    if not (kinds := trained.get("augmentation")):
        return None
    off = [name for name, kind in _WITHOUT.items() if not kinds.get(kind)]
    if not off:
        return "on"
    return off[0] if len(off) == 1 else "off" if len(off) == len(_WITHOUT) else "+".join(off)


def placement_key(value: Any) -> str:
    """A placement's one name: its own ("tass"), or its arguments as JSON."""
    plain = value.to_dict() if hasattr(value, "to_dict") else value
    return _placement_key(plain if isinstance(plain, str) else canonical(plain))


@cache
def _placement_key(text: str) -> str:
    from stdrc import ReferencePlacement

    parsed = ReferencePlacement.parse(json.loads(text) if text.startswith("{") else text)
    return parsed.name or canonical(parsed.to_dict())


def plain(key: str) -> Any:
    return json.loads(key) if key.startswith("{") else key
