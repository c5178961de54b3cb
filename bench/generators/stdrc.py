"""ST-DRC in a sweep: one base checkpoint stays loaded, LoRAs are swapped on it.

What the text encoder and the autoencoder make of a prompt and a reference does not depend on the
variant, so it is kept for the whole sweep.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bench.axes import GUIDANCE, Lora, SecondStage, Settings
from bench.checkpoints import remarks
from bench.crops import detector
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.evalsets.samples import Shown
from bench.generators.base import (
    Frames,
    Generator,
    Remarked,
    Resolved,
    pick_device,
    refuse_overruled,
)
from bench.generators.variants import CheckpointConfig, Variant, Variants, plain
from bench.keys import checkpoint_hash
from media.files import file_sha256
from stdrc import guidance as _guidance
from stdrc.defaults import FRAME_RATE, STEPS
from stdrc.errors import STDRCError
from stdrc.memory import Memory

#: Arguments of the pipeline that the bench sets itself, and what sets them.
_SET_BY = {
    "prompt": "the evaluation set",
    "reference": "the evaluation set",
    "prompt_embeds": "the evaluation set",
    "reference_latents": "the evaluation set",
    "negative_prompt_embeds": "the axis negative_prompt",
    "num_inference_steps": "the axis steps",
    "guidance": "the axes of guidance",
    "seeds": "sweep.seeds",
    "generator": "sweep.seeds",
    "face_detector": "the axis crop",
    "reference_boxes": "the axis crop",
    "preset": "the axes of guidance and negative_prompt",
    "strict": "generator.strict",
    "upscale": "the axis upscale",
    "audio": "'stdrc generate --audio': a sweep's videos are judged without sound",
    "audio_latents": "'stdrc generate --audio': a sweep's videos are judged without sound",
    "output_type": "nothing: frames are always arrays",
    "return_dict": "nothing: frames are always arrays",
}


class STDRCConfig(CheckpointConfig):
    """The ST-DRC pipeline, on a checkpoint that a plug-in declares or on any of LTX-2."""

    kind: Literal["stdrc"]
    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda', 'cuda:1'.")
    memory: Annotated[Memory, BeforeValidator(lambda m: Memory.low() if m == "low" else m)] = Field(
        default=Memory(),
        description="How it fits the card: 'low', or text, offload, transformer, tiling, "
        "attention and compile, as in stdrc.Memory.",
    )
    threads: int = Field(default=1, ge=1, description="CPU threads of one generating worker.")
    strict: bool = Field(
        default=False,
        description="Whether a prompt that the model can't read whole, or a word or picture that "
        "it was not taught, fails its videos; otherwise their rows say so.",
    )
    event_sentence: str = Field(
        default="From {start:g} to {end:g} seconds: {prompt}.",
        description="What a joined timeline adds to the prompt for each event.",
    )

    def make(self) -> Generator:
        return STDRCGenerator(self)


class STDRCGenerator(Generator):
    """`STDRCPipeline` behind the generator protocol.

    Attributes:
        encoded: how many prompts and references were encoded so far, for tests and logs.
    """

    name = "stdrc"
    version = "1"

    def __init__(self, config: STDRCConfig) -> None:
        self.config = config
        self.trained = Variants(config)
        self.encoded = {"text": 0, "reference": 0}
        self._pipe: Any = None
        self._pipe_of = ""
        self._loaded: tuple[Variant, tuple[Lora, ...]] | None = None
        self._upscale: dict[SecondStage, Any] = {}
        self._text: dict[str, Any] = {}
        self._references: dict[tuple[Any, ...], Any] = {}
        self._remarks: dict[tuple[Any, ...], list[str]] = {}

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        variant, placement = self.trained.pick(
            settings, allow_mismatch=allow_mismatch, may_train=self.may_train
        )
        _refuse_args(settings)
        size = self.trained.default_size
        guidance = _guidance_of(settings)
        steps = settings.steps
        if settings.schedule in (None, "dev"):
            steps, passes = (steps or STEPS,) * 2
        else:
            passes = _distilled_steps()
        passes *= guidance.passes()
        if settings.upscale is not None:
            passes += _second_stage_passes()
        crop = settings.crop or variant.crop
        filled = settings.replace(
            placement=plain(placement),
            augmentation=settings.augmentation or variant.augmentation,
            crop=None if crop == "none" else crop,  # all of it: nothing is done
            schedule=None if settings.schedule == "dev" else settings.schedule,
            loras=settings.loras or None,
            steps=steps,
            height=settings.height or int(size["height"]),
            width=settings.width or int(size["width"]),
            num_frames=settings.num_frames or int(size["num_frames"]),
            frame_rate=settings.frame_rate or float(size["frame_rate"]),
            negative_prompt=settings.negative_prompt or "",
            **dict.fromkeys(GUIDANCE),
        ).replace(**guidance.acting())
        return Resolved(
            filled,
            self._weights(variant, filled),
            mismatch=variant.placement != placement,
            passes=passes,
            fps=filled.frame_rate or FRAME_RATE,
            stage=" + ".join([variant.name, *(l.model_dump_json() for l in settings.loras or ())]),
        )

    def _weights(self, variant: Variant, filled: Settings) -> dict[str, str]:
        """What a video depends on beside its axes -> its hash or value."""
        weights = dict(self.trained.weights(variant))
        files = self.trained.loras(filled)
        for number, (lora, file) in enumerate(zip(filled.loras or (), files), start=1):
            weights[f"lora {number}"] = f"{file_sha256(file)} {lora.strength!r}"
        if (second := filled.upscale) is not None:
            weights["upscale"] = checkpoint_hash(second.path, "latent_upsampler")
        if filled.crop is not None:
            weights["crop"] = detector(filled.crop).version
        if filled.timeline == "joined":
            weights["event_sentence"] = self.config.event_sentence
        size = {n: getattr(filled, n) for n in ("height", "width", "num_frames")}
        return weights | self.config.memory.acting(**size)

    def repeats(self, sample: Sample, settings: Settings) -> int:
        blended = settings.timeline == "blended" and sample.timeline
        if not blended and not any(_timed(shown) for shown in sample.shown):
            return 1
        from stdrc.timeline import segments

        seconds = (settings.num_frames or 1) / (settings.frame_rate or FRAME_RATE)
        events = _events(sample) if blended else ()
        return len(segments(seconds, events, [_timed(shown) for shown in sample.shown]))

    def check(self, settings: Sequence[Settings]) -> None:
        """Refuse LoRAs that do not fit the base, before their names are on a leaderboard."""
        picked = [self.trained.pick(each, allow_mismatch=True)[0] for each in settings]
        files = {
            f"variant {v.name}": v.path for v in picked if v.path is not None and v.path.is_file()
        }
        for each in settings:
            names = [f"LoRA {lora}" for lora in each.loras or ()]
            files |= dict(zip(names, self.trained.loras(each)))
        if not files:
            return
        from stdrc.loading import without_weights
        from stdrc.lora import read_lora

        modules = without_weights(self.trained.base)
        for name, path in files.items():
            try:
                read_lora(path, modules)
            except STDRCError as error:
                raise BenchError(f"The {name} can't be loaded: {error}") from None

    # Generating ----------------------------------------------------------------------------------

    def _pipeline(self, variant: Variant, loras: tuple[Lora, ...]) -> Any:
        import torch

        from stdrc.pipeline import STDRCPipeline, hide_loading_bars

        whole = variant.path is not None and variant.path.is_dir()
        base = str(variant.path) if whole else self.trained.base
        if self._pipe_of != base:
            torch.set_num_threads(self.config.threads)
            self._pipe = None  # the old one's memory first
            dtype = getattr(torch, self.config.dtype, None)
            hide_loading_bars()
            pipe = STDRCPipeline.from_pretrained(base, dtype=dtype, memory=self.config.memory)
            self._pipe = pipe.place(self.config.device)
            self._pipe.set_progress_bar_config(disable=True)
            self._pipe_of, self._loaded = base, None
            self._text.clear()  # another checkpoint may encode in another way
            self._references.clear()
        if self._loaded != (variant, loras):
            own = [] if variant.path is None or whole else [{"path": variant.path}]
            self._pipe.load_loras([*own, *(lora.model_dump() for lora in loras)])
            self._loaded = variant, loras
        return self._pipe

    def _encode_text(self, pipe: Any, prompt: str) -> Any:
        if prompt not in self._text:
            self._text[prompt] = _to(pipe.encode_text([prompt], strict=self.config.strict), "cpu")
            self.encoded["text"] += 1
        return self._text[prompt]

    def _encode_references(
        self, pipe: Any, sample: Sample, settings: Settings, downscale: int, smaller: int = 1
    ) -> Any:
        """The references of a sample for a stage of 1/smaller of the video's size."""
        parts = []
        size = (settings.height or 0) // smaller, (settings.width or 0) // smaller
        how = (*size, settings.crop, downscale)
        for path in sample.references:
            key = (file_sha256(path), *how)
            if key not in self._references:
                crop = settings.crop or "none"
                boxes = None if crop == "none" else detector(crop).boxes
                encoded = pipe.encode_reference(
                    [str(path)], how[0], how[1], crop=crop, boxes=boxes, downscale=downscale
                )
                self._references[key] = _to(encoded, "cpu")
                self.encoded["reference"] += 1
            parts.append(self._references[key])
        # K references of one sample stand side by side: [1, K, tokens, channels].
        import torch

        times = tuple(_timed(shown) for shown in sample.shown)
        return replace(parts[0], tokens=torch.cat([p.tokens for p in parts], dim=1), times=times)

    def _unread_events(self, sample: Sample, settings: Settings) -> list[str]:
        """What of the prompts of a blended timeline was not read, in words."""
        events = sample.timeline if settings.timeline == "blended" else ()
        cut = [(e.start, self._text[e.description].remarks[0]) for e in events]
        return [f"event at {start:g} s: {remark}" for start, remark in cut if remark]

    def _prompt(self, sample: Sample, settings: Settings) -> str:
        if settings.timeline != "joined" or not sample.timeline:
            return sample.prompt
        from stdrc.timeline import joined_prompt

        return joined_prompt(sample.prompt, _events(sample), self.config.event_sentence)

    def _untaught(self, sample: Sample, settings: Settings) -> list[str]:
        """What of a sample the base was not taught, in words.

        Raises:
            STDRCError: there is something, and the config is strict.
        """
        texts = [self._prompt(sample, settings), settings.negative_prompt or ""]
        if settings.timeline == "blended":
            texts += [event.description for event in sample.timeline]
        pictures = {path.name: file_sha256(path) for path in sample.references}
        key = (*texts, *pictures.items(), settings.crop)
        if key not in self._remarks:
            self._remarks[key] = remarks(
                self.config.checkpoint, texts, sample.references, settings.crop
            )
        if self.config.strict and self._remarks[key]:
            raise STDRCError(" ".join(self._remarks[key]))
        return self._remarks[key]

    def generate(self, samples: Sequence[Sample], settings: Settings) -> Sequence[Frames | Path]:
        variant, placement = self.trained.pick(settings, allow_mismatch=True)
        pipe = self._pipeline(variant, settings.loras or ())
        device = pick_device(self.config.device)
        # On a CPU the batch's size changes the last bits of a matrix product, and so the video; one
        # sample a pass keeps a video the same whatever it is generated with. A batch also needs the
        # same number of references, and the same times, in every sample.
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, sample in enumerate(samples):
            alone = i if device == "cpu" else 0
            timed = sample.timeline if settings.timeline == "blended" else ()
            alike = (alone, len(sample.references), timed, sample.shown)
            groups.setdefault(alike, []).append(i)
        whole = variant.path is not None and variant.path.is_dir()  # and so another base
        untaught = [[] if whole else self._untaught(s, settings) for s in samples]
        videos: dict[int, Any] = {}
        for members in groups.values():
            made = self._batch(pipe, [samples[i] for i in members], settings, placement, device)
            for i, video, unread in zip(members, made.frames, made.remarks):
                said = [*unread, *self._unread_events(samples[i], settings), *untaught[i]]
                said += _other_crop(variant, samples[i], settings)
                videos[i] = Remarked(video, "; ".join(said)) if said else video
        return [videos[i] for i in range(len(samples))]

    def _second_stage(self, settings: Settings) -> Any:
        """The pipeline's second stage; its upsampler is loaded once."""
        if (asked := settings.upscale) is None:
            return None
        from stdrc.stages import Upscale

        if asked not in self._upscale:
            self._upscale[asked] = Upscale.load(asked.path, reference=asked.reference)
        return self._upscale[asked]

    def _batch(
        self, pipe: Any, samples: Sequence[Sample], settings: Settings, placement: str, device: str
    ) -> Any:
        from stdrc import ReferencePlacement
        from stdrc.conditions import EncodedReference, EncodedText

        texts = [self._encode_text(pipe, self._prompt(s, settings)) for s in samples]
        negative = self._encode_text(pipe, settings.negative_prompt or "")
        references, upscale = None, self._second_stage(settings)
        d = ReferencePlacement.parse(plain(placement)).downscale

        def shown(smaller: int) -> Any:
            each = [self._encode_references(pipe, s, settings, d, smaller) for s in samples]
            return _to(EncodedReference.cat(each), device)

        if samples[0].references:
            references = shown(1 if upscale is None else 2)
            if upscale is not None and upscale.reference == "keep":
                upscale = replace(upscale, reference_latents=shown(1))
        arguments = settings.arguments()
        for name in ("crop", "negative_prompt"):  # they are in what is encoded
            arguments.pop(name, None)
        if settings.timeline == "blended":
            arguments["timeline"] = [
                replace(event, prompt=_to(self._encode_text(pipe, str(event.prompt)), device))
                for event in _events(samples[0])
            ]
        with _quiet_pipeline():
            return pipe(
                prompt_embeds=_to(EncodedText.cat(texts), device),
                negative_prompt_embeds=_to(negative, device),
                reference_latents=references,
                seeds=[settings.seed] * len(samples),
                output_type="np",
                upscale=upscale,
                **arguments,
            )


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


def _events(sample: Sample) -> list[Any]:
    """A sample's timeline as the pipeline takes it."""
    from stdrc.timeline import Event

    return [Event(e.start, e.end, e.description) for e in sample.timeline]


def _timed(shown: Shown) -> tuple[float, float] | None:
    """Seconds between which a reference counts; None: always."""
    if shown.start is None and shown.end is None:
        return None
    return shown.start or 0.0, math.inf if shown.end is None else shown.end


def _other_crop(variant: Variant, sample: Sample, settings: Settings) -> list[str]:
    """What to say of references that are cut otherwise than in training."""
    shown = settings.crop or "none"
    if variant.crop in (None, shown) or not sample.references:
        return []
    return [f"{variant.name} was trained with crop {variant.crop!r}, and is shown {shown!r}"]


def _guidance_of(settings: Settings) -> _guidance.ThreeStreamGuidance:
    """Guidance of a cell; a distilled model's own where the cell names none of it."""
    given = settings.guidance()
    if settings.schedule == "distilled":
        from stdrc.presets import resolve_guidance

        return resolve_guidance(given or None, None, None, settings.schedule)[0]
    return _guidance.ThreeStreamGuidance(**given)


def _distilled_steps() -> int:
    from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES

    return len(DISTILLED_SIGMA_VALUES)


def _second_stage_passes() -> int:
    from diffusers.pipelines.ltx2.utils import STAGE_2_DISTILLED_SIGMA_VALUES

    return len(STAGE_2_DISTILLED_SIGMA_VALUES)


def _refuse_args(settings: Settings) -> None:
    """Raise for `args` that the pipeline does not take, or that the bench overrules."""
    if not settings.args:
        return
    from stdrc.pipeline import STDRCPipeline

    set_by = {name: f"the axis {name}" for name in type(settings).model_fields} | _SET_BY
    taken = inspect.signature(STDRCPipeline.__call__).parameters
    refuse_overruled(settings.args, [n for n in taken if n not in {"self", *set_by}], set_by)
    if "sigmas" in settings.args and settings.steps is not None:
        raise BenchError("args.sigmas would overrule the axis steps; give one of them.")


def _to(encoded: Any, device: str) -> Any:
    """An encoding with its tensors on a device."""
    moved = {
        name: value.to(device)
        for name, value in vars(encoded).items()
        if hasattr(value, "to") and hasattr(value, "dtype")
    }
    return replace(encoded, **moved)
