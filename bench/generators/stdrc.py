"""ST-DRC in a sweep: one base checkpoint stays loaded, LoRAs are swapped on it.

What the text encoder and the autoencoder make of a prompt and a reference does not depend on the
variant, so it is kept for the whole sweep.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
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
from bench.generators.encodings import Encodings, to_device
from bench.generators.variants import CheckpointConfig, Variant, Variants, plain
from bench.keys import checkpoint_hash
from bench.provenance import packages
from media.files import file_sha256
from stdrc import guidance as _guidance
from stdrc.defaults import FRAME_RATE, STEPS
from stdrc.errors import STDRCError
from stdrc.memory import NOT_ASKED, NOT_TEXT, TEXT_SIDE, Memory, release_memory

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


@dataclass(frozen=True)
class Rewritten:
    """A prompt as a language model made it."""

    text: str


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
        texts, references: what was encoded so far.
    """

    name = "stdrc"
    version = "1"
    enhances = True

    def __init__(self, config: STDRCConfig) -> None:
        self.config = config
        self.trained = Variants(config)
        self.apart = config.memory.text != "keep"  # the text side is loaded alone, and first
        self.texts, self.references = Encodings(self.apart), Encodings(self.apart)
        self.rewritten = Encodings(on_disk=True)
        self._pipe: Any = None
        self._pipe_of = ""
        self._only_text: tuple[str, Any] | None = None  # a base, and what encodes its prompts
        self._loaded: tuple[Variant, tuple[Lora, ...]] | None = None
        self._upscale: dict[SecondStage, Any] = {}
        self._of_text: list[str] = []  # LoRAs that are loaded and change how prompts are encoded
        self._remarks: dict[tuple[Any, ...], list[str]] = {}

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        variant, placement = self.trained.pick(
            settings, allow_mismatch=allow_mismatch, may_train=self.may_train
        )
        _refuse_args(settings)
        if self.apart and self.trained.of_text(variant, settings):
            raise BenchError(
                f"A LoRA of {variant.name} and its axis loras changes how prompts are encoded, so "
                "that they can't be before it is loaded; set generator.memory.text to keep."
            )
        size = self.trained.default_size
        guidance = _guidance_of(settings)
        steps = settings.steps
        if settings.schedule in (None, "dev"):
            steps, passes = (steps or STEPS,) * 2
        else:
            passes = _distilled_steps()
        passes *= guidance.passes()
        if settings.upscale is not None:
            passes += _distilled_steps("STAGE_2_")
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

    def unprepared(
        self, tasks: Iterable[tuple[Sample, Settings]]
    ) -> Sequence[tuple[Sample, Settings]]:
        seen: set[tuple[str, str]] = set()
        missing = []
        for sample, settings in tasks:
            if not (self.apart or sample.enhance):
                continue
            base = self.trained.base_of(self.trained.pick(settings, allow_mismatch=True)[0])
            if sample.enhance and self.config.memory.text == "group":
                raise BenchError(
                    "evalset.enhance needs generator.memory.text: free or keep, as diffusers puts "
                    "the whole language model on the card for it."
                )
            if sample.enhance and not self.rewritten.has(
                self._rewritten_content(base, sample.prompt)
            ):
                missing.append((sample, settings))
                continue
            asked = {(base, text) for text in self._prompts(base, sample, settings)} - seen
            seen |= asked
            if self.apart and not all(self.texts.has(self._text_content(*t)) for t in asked):
                missing.append((sample, settings))
        return missing

    def prepare(self, tasks: Iterable[tuple[Sample, Settings]]) -> None:
        """Rewrite and encode the prompts of a run before the text side leaves the card."""
        for sample, settings in tasks:
            base = self.trained.base_of(self.trained.pick(settings, allow_mismatch=True)[0])
            for text in self._prompts(base, sample, settings):
                if self.apart:
                    self._encode_text(base, text, strict=False)
        self._leave()

    def _text_side(self, base: str, alone: bool) -> Any:
        """What reads prompts: the pipeline at work or, `alone`, one that does nothing else."""
        if not alone:
            return self._pipe
        if self._only_text is None or self._only_text[0] != base:
            self._leave()
            if self._pipe is not None:  # it makes room, as where both were in one pipeline
                with self.config.memory.encoding_text(self._pipe, self._pipe._execution_device):
                    pass
            self._only_text = base, self._load(base, (*NOT_TEXT, "duration_head"))
        return self._only_text[1]

    def _leave(self) -> None:
        """The text side leaves the card, if it was loaded alone."""
        if self._only_text is not None:
            self._only_text = None
            release_memory()

    def _load(self, base: str, without: Sequence[str]) -> Any:
        import torch

        from stdrc.pipeline import STDRCPipeline, hide_loading_bars

        torch.set_num_threads(self.config.threads)
        hide_loading_bars()
        pipe = STDRCPipeline.from_pretrained(
            base,
            dtype=getattr(torch, self.config.dtype, None),
            memory=self.config.memory,
            **dict.fromkeys(without),
        ).place(self.config.device)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _pipeline(self, variant: Variant, settings: Settings) -> Any:
        base, loras = self.trained.base_of(variant), settings.loras or ()
        if self._pipe_of != base:
            self._pipe = None  # the old one's memory first
            self._pipe = self._load(base, (*NOT_ASKED, *(TEXT_SIDE if self.apart else ())))
            self._pipe_of, self._loaded = base, None
            self.texts.clear()  # they are of another checkpoint
            self.references.clear()
        if self._loaded != (variant, loras):
            own = variant.path is not None and str(variant.path) != base
            given = [lora.model_dump() for lora in loras]
            self._pipe.load_loras([{"path": variant.path}, *given] if own else given)
            self._loaded = variant, loras
            self._of_text = self.trained.of_text(variant, settings)
        return self._pipe

    def _encoder(self, base: str) -> list[str]:
        """What tells a checkpoint's encodings from another's."""
        given = self.config.device  # of the worker, which this process needn't have
        device = (pick_device(given) if given == "auto" else given).partition(":")[0]
        made_by = [packages()[name] for name in ("torch", "diffusers", "transformers")]
        return [*self.trained.encoder(base), device, *made_by]

    def _text_content(self, base: str, prompt: str) -> list[Any]:
        return ["text", *self._encoder(base), *self._of_text, prompt]

    def _encode_text(self, base: str, prompt: str, *, strict: bool) -> Any:
        """A prompt as the transformer reads it.

        Raises:
            STDRCError: it was not read whole, and has to be.
        """
        from stdrc.conditions import EncodedText

        text = self.texts.get(
            self._text_content(base, prompt),
            EncodedText,
            lambda: self._text_side(base, self.apart).encode_text([prompt]),
        )
        return text.whole() if strict else text

    def _encode_references(
        self, pipe: Any, sample: Sample, settings: Settings, downscale: int, smaller: int = 1
    ) -> Any:
        """The references of a sample for a stage of 1/smaller of the video's size."""
        import torch

        from stdrc.conditions import EncodedReference

        size = (settings.height or 0) // smaller, (settings.width or 0) // smaller
        crop = settings.crop or "none"
        found = None if crop == "none" else detector(crop)
        how = [*size, crop, found and found.version, downscale]

        def encode(path: Path) -> Any:
            boxes = found and found.boxes
            return pipe.encode_reference(
                [str(path)], *size, crop=crop, boxes=boxes, downscale=downscale
            )

        parts = [
            self.references.get(
                ["reference", *self._encoder(self._pipe_of), file_sha256(path), *how],
                EncodedReference,
                partial(encode, path),
            )
            for path in sample.references
        ]
        # K references of one sample stand side by side: [1, K, tokens, channels].
        times = tuple(_timed(shown) for shown in sample.shown)
        return replace(parts[0], tokens=torch.cat([p.tokens for p in parts], dim=1), times=times)

    def _unread_events(self, sample: Sample, settings: Settings) -> list[str]:
        """What of the prompts of a blended timeline was not read, in words."""
        events = sample.timeline if settings.timeline == "blended" else ()
        texts = [self._encode_text(self._pipe_of, e.description, strict=False) for e in events]
        cut = [(event.start, text.remarks[0]) for event, text in zip(events, texts)]
        return [f"event at {start:g} s: {remark}" for start, remark in cut if remark]

    def _rewritten_content(self, base: str, prompt: str) -> list[Any]:
        return ["rewritten", *self._encoder(base), prompt]

    def _enhanced(self, base: str, prompt: str) -> str:
        """What the checkpoint's language model makes of a prompt."""

        def rewrite() -> Rewritten:
            return Rewritten(self._text_side(base, alone=True).rewrite_prompt(prompt))

        return self.rewritten.get(self._rewritten_content(base, prompt), Rewritten, rewrite).text

    def _prompts(self, base: str, sample: Sample, settings: Settings) -> list[str]:
        """All that is read for a video: its prompt, the negative one, those of its events."""
        events = sample.timeline if settings.timeline == "blended" else ()
        texts = [self._prompt(base, sample, settings), settings.negative_prompt or ""]
        return texts + [event.description for event in events]

    def _prompt(self, base: str, sample: Sample, settings: Settings) -> str:
        prompt = self._enhanced(base, sample.prompt) if sample.enhance else sample.prompt
        if settings.timeline != "joined" or not sample.timeline:
            return prompt
        from stdrc.timeline import joined_prompt

        return joined_prompt(prompt, _events(sample), self.config.event_sentence)

    def _untaught(self, sample: Sample, settings: Settings) -> list[str]:
        """What of a sample the base was not taught, in words.

        Raises:
            STDRCError: there is something, and the config is strict.
        """
        texts = self._prompts(self._pipe_of, sample, settings)
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
        pipe = self._pipeline(variant, settings)
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
                if samples[i].enhance:
                    said.append(
                        f"enhanced prompt: {self._enhanced(self._pipe_of, samples[i].prompt)}"
                    )
                said += _other_crop(variant, samples[i], settings)
                said += _at_one_place(samples[i], placement)
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

        def encoded(prompt: str) -> Any:
            return self._encode_text(self._pipe_of, prompt, strict=self.config.strict)

        texts = [encoded(self._prompt(self._pipe_of, s, settings)) for s in samples]
        negative = encoded(settings.negative_prompt or "")
        references, upscale = None, self._second_stage(settings)
        d = ReferencePlacement.parse(plain(placement)).downscale

        def shown(smaller: int) -> Any:
            each = [self._encode_references(pipe, s, settings, d, smaller) for s in samples]
            return to_device(EncodedReference.cat(each), device)

        if samples[0].references:
            references = shown(1 if upscale is None else 2)
            if upscale is not None and upscale.reference == "keep":
                upscale = replace(upscale, reference_latents=shown(1))
        arguments = settings.arguments()
        for name in ("crop", "negative_prompt"):  # they are in what is encoded
            arguments.pop(name, None)
        if settings.timeline == "blended":
            arguments["timeline"] = [
                replace(event, prompt=to_device(encoded(str(event.prompt)), device))
                for event in _events(samples[0])
            ]
        self._leave()
        with _quiet_pipeline():
            return pipe(
                prompt_embeds=to_device(EncodedText.cat(texts), device),
                negative_prompt_embeds=to_device(negative, device),
                reference_latents=references,
                seeds=[settings.seed] * len(samples),
                output_type="np",
                upscale=upscale,
                **arguments,
            )


@contextmanager
def _quiet_pipeline() -> Iterator[None]:
    """Within it, this thread's pipeline does not warn of a mismatch.

    The plan says it once, and the tables do; the pipeline would say it once per video. Other
    threads and later calls by the user are heard.
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


def _at_one_place(sample: Sample, placement: str) -> list[str]:
    """A warning where references of several people can't be told apart."""
    from stdrc import ReferencePlacement
    from stdrc.timeline import at_one_place

    people = {shown.person for shown in sample.shown if shown.person}
    said = at_one_place(len(people), ReferencePlacement.parse(plain(placement)))
    return [said] if said else []


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


def _distilled_steps(stage: str = "") -> int:
    from diffusers.pipelines.ltx2 import utils

    return len(getattr(utils, f"{stage}DISTILLED_SIGMA_VALUES"))


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
