"""ST-DRC in a sweep: picks the variant a cell asks for, encodes each prompt and reference once.

One base checkpoint stays loaded; variants are LoRAs that are swapped on it. What the text encoder
and the autoencoder make of a prompt and a reference does not depend on the variant, so it is kept
for the whole sweep.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from bench import config as cfg
from bench.checkpoints import checkpoint_source, shipped_variants
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators import (
    Frames,
    Generator,
    Remarked,
    Resolved,
    Settings,
    canonical,
    checkpoint_hash,
    pick_device,
)
from media.files import file_sha256
from media.wording import did_you_mean
from stdrc.variants import read_lora_metadata

STEPS = 30  # the pipeline's own default
_WITHOUT = {"no-colour": "colour", "no-pose": "pose", "no-layout": "layout"}


@dataclass(frozen=True)
class Variant:
    """A trained LoRA on the base, or the base itself (`path` None)."""

    name: str
    path: Path | None
    placement: str | None  # canonical; None: not trained with any
    augmentation: str | None
    by_name: bool = False  # only `checkpoint` picks it, not a placement and an augmentation


def _variant(name: str, given: cfg.VariantConfig) -> Variant:
    """A variant of the YAML file, by what its own file says of its training.

    Raises:
        BenchError: the file says otherwise than the YAML, or neither says a placement.
    """
    where = f"generator.variants.{name}"
    if given.path.is_dir():
        index = given.path / "model_index.json"
        stated = json.loads(index.read_text()).get("placement") if index.is_file() else None
        about = given.path / "stdrc.json"
        trained = json.loads(about.read_text()) if about.is_file() else {}
    else:
        trained = read_lora_metadata(given.path)
        stated = trained.get("placement")
    said = placement_key(stated) if stated else None
    placement = placement_key(given.placement) if given.placement else said
    if placement is None:
        raise BenchError(
            f"{where}: {given.path.name} doesn't say which placement it was trained with; "
            f"set {where}.placement."
        )
    if said not in (None, placement):
        raise BenchError(
            f"{where}.placement is {placement!r}, and {given.path.name} was trained with {said!r}; "
            "leave the placement out."
        )
    switch = _augmentation(trained)
    if given.augmentation and switch and given.augmentation != switch:
        raise BenchError(
            f"{where}.augmentation is {given.augmentation!r}, and {given.path.name} was trained "
            f"with {switch!r}; leave the augmentation out."
        )
    return Variant(name, given.path, placement, given.augmentation or switch)


def _augmentation(trained: dict[str, Any]) -> str | None:
    """What a sweep calls the augmentation that a training's metadata states; None: nothing."""
    if not (kinds := trained.get("augmentation")):
        return None
    off = [name for name, kind in _WITHOUT.items() if not kinds.get(kind)]
    if not off:
        return "on"
    return off[0] if len(off) == 1 else "off" if len(off) == len(_WITHOUT) else "+".join(off)


class STDRCGenerator(Generator):
    """`STDRCPipeline` behind the generator protocol.

    Attributes:
        encoded: how many prompts and references were encoded so far, for tests and logs.
    """

    name = "stdrc"
    version = "1"

    def __init__(self, config: cfg.STDRCConfig) -> None:
        self.config = config
        self.encoded = {"text": 0, "reference": 0}
        self.may_train = True  # False while a plan is only looked at
        self._pipe: Any = None
        self._pipe_of = ""
        self._loaded: Variant | None = None
        self._text: dict[str, Any] = {}
        self._references: dict[tuple[Any, ...], Any] = {}
        self._resolved: dict[str, tuple[Variant, str]] = {}
        self._hashes: dict[str, dict[str, str]] = {}

    # What there is -------------------------------------------------------------------------------

    @cached_property
    def base(self) -> str:
        """Folder or hub id of the base checkpoint."""
        return checkpoint_source(self.config.checkpoint)

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Trained variants by name; the base alone if there are none."""
        checkpoint_hash(self.base)  # says so first if the base is not here
        found: dict[str, Variant] = {}
        for name, shipped in shipped_variants(self.config.checkpoint).items():
            trained = placement_key(shipped.placement) if shipped.placement else None
            switch = "on" if shipped.augmentation else "off"
            # With the identity objectives it differs in more than placement and augmentation.
            found[name] = Variant(name, shipped.path, trained, switch, shipped.identity)
        for name, given in self.config.variants.items():
            if not given.path.exists():
                raise BenchError(
                    f"generator.variants.{name}.path: there is no checkpoint {given.path}."
                )
            found[name] = _variant(name, given)
        if not found:
            index = Path(self.base) / "model_index.json"
            stated = json.loads(index.read_text()).get("placement") if index.is_file() else None
            found["base"] = Variant("base", None, placement_key(stated) if stated else None, None)
        return found

    @cached_property
    def default_size(self) -> dict[str, Any]:
        """The base's statement; without one LTX-2's own defaults, as the pipeline has them."""
        index = Path(self.base) / "model_index.json"
        stated = json.loads(index.read_text()).get("default_size") if index.is_file() else None
        return {"height": 512, "width": 768, "num_frames": 121, "frame_rate": 24.0} | (stated or {})

    def _weights(self, variant: Variant) -> dict[str, str]:
        """What was hashed -> its hash, once a variant."""
        if variant.name not in self._hashes:
            found = {"base": checkpoint_hash(self.base), "dtype": self.config.dtype}
            if variant.path is not None:
                found[variant.name] = checkpoint_hash(variant.path)
            self._hashes[variant.name] = found
        return self._hashes[variant.name]

    def pick(self, settings: Settings, *, allow_mismatch: bool) -> tuple[Variant, str]:
        """(variant, canonical placement) for settings.

        Raises:
            BenchError: for an unknown checkpoint, or a placement that none was trained with.
        """
        key = canonical([settings.checkpoint, settings.placement, settings.augmentation])
        if key not in self._resolved:
            self._resolved[key] = self._pick(settings, allow_mismatch)
        return self._resolved[key]

    def _pick(self, settings: Settings, allow_mismatch: bool) -> tuple[Variant, str]:
        placement = None if settings.placement is None else placement_key(settings.placement)
        variants = [v for v in self.variants.values() if not v.by_name]
        if settings.checkpoint is not None:
            if settings.checkpoint not in self.variants:
                hint = did_you_mean(settings.checkpoint, self.variants)
                raise BenchError(
                    f"There is no checkpoint {settings.checkpoint!r}; known are "
                    f"{', '.join(self.variants)}.{hint}"
                )
            variants = [self.variants[settings.checkpoint]]
            placement = placement or variants[0].placement
        placement = placement or placement_key("tass")
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
            variant = self._train(placement, settings.augmentation or "on")
            return variant, placement
        if not variants or not allow_mismatch:
            augmentation = f" and augmentation {settings.augmentation!r}" if trained else ""
            there = ", ".join(
                f"{v.name} ({v.placement or 'no placement'}, augmentation {v.augmentation})"
                for v in self.variants.values()
            )
            raise BenchError(
                f"No checkpoint was trained with placement {placement!r}{augmentation}; there are "
                f"{there}. Train one with 'stdrc train' and name it in generator.variants, or set "
                "sweep.allow_mismatch to run it all the same, marked in every table."
            )
        preferred = placement_key("tass")
        variants.sort(key=lambda v: v.placement != preferred)
        return variants[0], placement

    def _train(self, placement: str, augmentation: str) -> Variant:
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
            if not self.may_train:
                raise BenchError(
                    f"The variant {name} has to be trained before there is a plan; run without "
                    "--plan, or train it with 'stdrc train'."
                )
            path = Path(str(train(settings, resume=settings.output.is_dir())))
            done.write_text(os.path.relpath(path, settings.output))
        variant = Variant(name, path, placement, augmentation)
        self.variants[name] = variant
        return variant

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        variant, placement = self.pick(settings, allow_mismatch=allow_mismatch)
        size = self.default_size
        filled = replace(
            settings,
            placement=_plain(placement),
            augmentation=settings.augmentation or variant.augmentation,
            text=3.0 if settings.text is None else settings.text,
            reference=1.5 if settings.reference is None else settings.reference,
            order=settings.order or "text_first",
            rescale=settings.rescale or 0.0,
            interval=settings.interval or (0.0, 1.0),
            parallel=1.0 if settings.parallel is None else settings.parallel,
            steps=settings.steps or STEPS,
            height=settings.height or int(size["height"]),
            width=settings.width or int(size["width"]),
            num_frames=settings.num_frames or int(size["num_frames"]),
            frame_rate=settings.frame_rate or float(size["frame_rate"]),
            negative_prompt=settings.negative_prompt or "",
        )
        assert filled.text is not None
        assert filled.reference is not None
        assert filled.order is not None
        streams = _streams(
            filled.text,
            filled.reference,
            filled.order,
            filled.rescale,
            filled.interval,
            filled.parallel,
        )
        return Resolved(
            filled,
            self._weights(variant),
            mismatch=variant.placement != placement,
            passes=(filled.steps or STEPS) * streams,
            fps=filled.frame_rate or 24.0,
            stage=variant.name,
        )

    # Generating ----------------------------------------------------------------------------------

    def _pipeline(self, variant: Variant) -> Any:
        import torch

        from stdrc.pipeline import STDRCPipeline, hide_loading_bars

        whole = variant.path is not None and variant.path.is_dir()
        base = str(variant.path) if whole else self.base
        if self._pipe_of != base:
            torch.set_num_threads(self.config.threads)
            self._pipe = None  # the old one's memory first
            dtype = getattr(torch, self.config.dtype)
            hide_loading_bars()
            pipe = STDRCPipeline.from_pretrained(base, dtype=dtype)
            self._pipe = pipe.to(pick_device(self.config.device))
            self._pipe.set_progress_bar_config(disable=True)
            self._pipe_of, self._loaded = base, None
            self._text.clear()  # another checkpoint may encode in another way
            self._references.clear()
        if self._loaded != variant:
            if self._loaded is not None and self._loaded.path is not None:
                self._pipe.unload_lora_weights()
            if variant.path is not None and not whole:
                self._pipe.load_lora_weights(variant.path)
            self._loaded = variant
        return self._pipe

    def _encode_text(self, pipe: Any, prompt: str) -> Any:
        if prompt not in self._text:
            self._text[prompt] = _to(pipe.encode_text([prompt], strict=self.config.strict), "cpu")
            self.encoded["text"] += 1
        return self._text[prompt]

    def _encode_references(self, pipe: Any, sample: Sample, height: int, width: int) -> Any:
        parts = []
        for path in sample.references:
            key = (file_sha256(path), height, width)
            if key not in self._references:
                encoded = pipe.encode_reference([str(path)], height, width)
                self._references[key] = _to(encoded, "cpu")
                self.encoded["reference"] += 1
            parts.append(self._references[key])
        # K references of one sample stand side by side: [1, K, tokens, channels].
        import torch

        return replace(parts[0], tokens=torch.cat([p.tokens for p in parts], dim=1))

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        variant, placement = self.pick(settings, allow_mismatch=True)
        pipe = self._pipeline(variant)
        device = pick_device(self.config.device)
        # On a CPU the batch's size changes the last bits of a matrix product, and so the video; one
        # sample a pass keeps a video the same whatever it is generated with. A batch also needs the
        # same number of references in every sample.
        groups: dict[tuple[int, int], list[int]] = {}
        for i, sample in enumerate(samples):
            alone = i if device == "cpu" else 0
            groups.setdefault((alone, len(sample.references)), []).append(i)
        videos: dict[int, Any] = {}
        for members in groups.values():
            made = self._batch(pipe, [samples[i] for i in members], settings, placement, device)
            videos.update(zip(members, made))
        return [videos[i] for i in range(len(samples))]

    def _batch(
        self, pipe: Any, samples: Sequence[Sample], settings: Settings, placement: str, device: str
    ) -> Any:
        from stdrc import ThreeStreamGuidance
        from stdrc.pipeline import EncodedReference, EncodedText

        height, width = settings.height, settings.width
        assert height is not None
        assert width is not None
        texts = [self._encode_text(pipe, s.prompt) for s in samples]
        negative = self._encode_text(pipe, settings.negative_prompt or "")
        references = None
        if samples[0].references:
            encoded = [self._encode_references(pipe, s, height, width) for s in samples]
            references = _to(EncodedReference.cat(encoded), device)
        guidance = ThreeStreamGuidance(
            text=settings.text,  # type: ignore[arg-type]  # resolved: none is None
            reference=settings.reference,  # type: ignore[arg-type]
            order=settings.order,  # type: ignore[arg-type]
            rescale=settings.rescale,  # type: ignore[arg-type]
            interval=settings.interval,  # type: ignore[arg-type]
            parallel=settings.parallel,  # type: ignore[arg-type]
        )
        with _quiet_pipeline():
            made = pipe(
                prompt_embeds=_to(EncodedText.cat(texts), device),
                negative_prompt_embeds=_to(negative, device),
                reference_latents=references,
                placement=_plain(placement),
                guidance=guidance,
                height=height,
                width=width,
                num_frames=settings.num_frames,
                frame_rate=settings.frame_rate,
                num_inference_steps=settings.steps,
                seeds=[settings.seed] * len(samples),
                output_type="np",
                **settings.args,
            )
        return [
            Remarked(video, "; ".join(remarks)) if remarks else video
            for video, remarks in zip(made.frames, made.remarks)
        ]


@contextmanager
def _quiet_pipeline() -> Iterator[None]:
    """Within it, this thread's pipeline does not warn of a mismatch.

    The plan says it once, and the tables do; the pipeline would say it once a video. Other threads
    and later calls by the user are heard.
    """
    thread = threading.get_ident()

    def let_through(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or record.thread != thread

    logger = logging.getLogger("stdrc.pipeline")
    logger.addFilter(let_through)
    try:
        yield
    finally:
        logger.removeFilter(let_through)


def placement_key(value: Any) -> str:
    """A placement's one name: its own ("tass"), or its arguments as JSON."""
    return _placement_key(value if isinstance(value, str) else canonical(_mapping(value)))


def _mapping(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value


@cache
def _placement_key(text: str) -> str:
    from stdrc import ReferencePlacement

    parsed = ReferencePlacement.parse(json.loads(text) if text.startswith("{") else text)
    return parsed.name or canonical(parsed.to_dict())


def _plain(key: str) -> Any:
    return json.loads(key) if key.startswith("{") else key


@cache
def _streams(
    text: float, reference: float, order: Any, rescale: Any, interval: Any, parallel: Any
) -> int:
    """Passes of one guided step; also what refuses a bad combination."""
    from stdrc import ThreeStreamGuidance

    return ThreeStreamGuidance(text, reference, order, rescale, interval, parallel).passes()


def _to(encoded: Any, device: str) -> Any:
    """An encoding with its tensors on a device."""
    moved = {
        name: value.to(device)
        for name, value in vars(encoded).items()
        if hasattr(value, "to") and hasattr(value, "dtype")
    }
    return replace(encoded, **moved)
