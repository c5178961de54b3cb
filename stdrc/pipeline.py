"""The ST-DRC pipeline: LTX-2 with a reference memory that is attended to and never decoded.

`STDRCPipeline` is diffusers' `LTX2Pipeline` and adds what ST-DRC adds: the reference's clean latent
tokens behind the noisy video tokens, their place in the position grid, and three-stream guidance.
Encoding text and references is separate from sampling, so that a sweep over guidance weights does
either once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.pipelines.ltx2.pipeline_output import LTX2PipelineOutput
from diffusers.utils import logging
from torch import Tensor

from stdrc.conditions import EncodedReference, EncodedText, references_per_sample
from stdrc.decoding import VideoSize
from stdrc.defaults import FRAME_RATE, HEIGHT, NUM_FRAMES, WIDTH
from stdrc.errors import STDRCError, WeightsMissingError
from stdrc.guidance import Stream, ThreeStreamGuidance
from stdrc.images import Crop, FaceDetector
from stdrc.loading import check_checkpoint, pick_device, saved_dtype
from stdrc.memory import Memory
from stdrc.positions import ReferencePlacement
from stdrc.presets import resolve_guidance
from stdrc.sampling import Sampler, noise_levels, sample_euler, seeded_generators
from stdrc.stages import Stages, Upscale
from stdrc.timeline import Event, warn_of_people

logger = logging.get_logger(__name__)


@dataclass
class STDRCOutput(LTX2PipelineOutput):
    """Videos, and what is to be known of them.

    Args:
        frames: as `output_type` says.
        audio: [B, channels, samples], or None.
        remarks: for each video what of its conditions was not used, in words.
    """

    remarks: list[list[str]] = field(default_factory=list)


class STDRCPipeline(Stages):
    """Identity-preserving text-to-video: a face image and a prompt in, a video of that person out.

    Load any LTX-2.x repository in diffusers format with `from_pretrained`, then an ST-DRC LoRA with
    `load_lora_weights`.

    Args:
        placement: the placement this checkpoint was trained with, as `ReferencePlacement.to_dict`.
        crop: what its references were cut to in training: "none", "face", "head" or not stated.
        default_size: {"height", "width", "num_frames", "frame_rate"} used where a call names none.
        (others): as in `diffusers.LTX2Pipeline`.

    Example:
        >>> pipe = STDRCPipeline.from_pretrained("diffusers/LTX-2.3-Diffusers")  # doctest: +SKIP
        >>> pipe.load_lora_weights("my-stdrc-lora.safetensors")                  # doctest: +SKIP
        >>> frames = pipe("a person waves", reference="face.jpg", seeds=0).frames  # doctest: +SKIP
    """

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

    def __init__(
        self,
        scheduler,
        vae,
        audio_vae,
        text_encoder,
        tokenizer,
        connectors,
        transformer,
        vocoder,
        processor=None,
        prompt_enhancer=None,
        duration_head=None,
        placement=None,
        crop=None,
        default_size=None,
    ):
        super().__init__(
            scheduler, vae, audio_vae, text_encoder, tokenizer, connectors, transformer, vocoder,
            processor, prompt_enhancer, duration_head,
        )  # fmt: skip
        self.register_to_config(
            placement=dict(placement) if placement else None,
            crop=crop,
            default_size=dict(default_size) if default_size else None,
        )
        self.memory = Memory()
        self._about: dict[str, dict[str, Any]] = {}
        self._before_fusing: dict[str, Any] | None = None

    # Loading

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *, memory=None, **kwargs):
        """Load an LTX-2.x checkpoint in diffusers format, from a folder or a hub id.

        Args:
            memory: `Memory`, a mapping of its fields, or "low"; `place` puts it into effect.
            dtype: of all components; none or "auto": what the transformer's weights are saved in
                (float16, which is storage here, is read as float32). A mapping sets components
                apart, as in diffusers.
            kwargs: as in diffusers, but only safetensors are read. A component given as None is
                left out: without `text_encoder` and `connectors` the pipeline takes `prompt_embeds`
                alone.

        Raises:
            STDRCError: if there is none, if it is another model, or if the memory settings need
                what is not here.
        """
        name = str(pretrained_model_name_or_path)
        check_checkpoint(name)
        memory = Memory.parse(memory)
        kwargs = {**kwargs, "use_safetensors": True, **memory.loading()}
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        try:
            folder = Path(name) if Path(name).exists() else Path(cls.download(name, **kwargs))
            if dtype is None or dtype == "auto":
                dtype = saved_dtype(folder, variant=kwargs.get("variant"))
            pipe = super().from_pretrained(folder, dtype=dtype, **kwargs)
        except (OSError, ValueError) as error:
            if not Path(name).exists():
                raise WeightsMissingError(
                    f"The checkpoint {name} is not on this machine and could not be fetched; "
                    f"download it with 'hf download {name}', or give a folder."
                ) from error
            reason = str(error).strip().splitlines()[0]
            raise STDRCError(f"The checkpoint {name} cannot be loaded: {reason}") from error
        pipe.memory = memory
        return pipe

    def place(self, device: str | torch.device = "auto") -> Self:
        """Put the parts where `memory` wants them, after weights and LoRAs are loaded.

        Args:
            device: to run on: "auto" (a card if there is one), "cpu", "cuda:1", ...

        Raises:
            STDRCError: there is no such device here, or the settings can't be used together.
        """
        self.memory.place(self, pick_device(device))
        return self

    # Sampling

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        reference: Any = None,
        *,
        placement: str | Mapping[str, Any] | ReferencePlacement | None = None,
        crop: Crop | None = None,
        reference_boxes: Any = None,
        face_detector: FaceDetector | None = None,
        guidance: ThreeStreamGuidance | Mapping[str, Any] | None = None,
        preset: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        frame_rate: float | None = None,
        schedule: str = "dev",
        num_inference_steps: int | None = None,
        sigmas: Sequence[float] | None = None,
        sampler: Sampler = sample_euler,
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: EncodedText | None = None,
        negative_prompt_embeds: EncodedText | None = None,
        reference_latents: EncodedReference | None = None,
        timeline: Sequence[Event] | None = None,
        fade: float = 0.25,
        upscale: Upscale | None = None,
        audio: bool = False,
        audio_latents: Tensor | None = None,
        decode_timestep: float = 0.0,
        decode_noise_scale: float | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., dict[str, Tensor] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        strict: bool = False,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> STDRCOutput | tuple[Any, Any]:
        """Generate videos.

        Args:
            prompt: one prompt or B of them; or `prompt_embeds` from `encode_text`.
            negative_prompt: what "no text" means; one for all or one each; none: the preset's, else
                the empty one.
            reference: with one prompt, an image or a list of images of the person; with B prompts,
                one image for all or a list of B, each an image or a list of the same length. An
                image is a path, a PIL image, an array or a tensor, or a `Reference`, which says
                when it is shown: its tokens stand beside that time. Or `reference_latents` from
                `encode_reference`. None runs plain text-to-video.
            placement: name, mapping or `ReferencePlacement`; None takes the one the checkpoint was
                trained with, else TASS. Another one than the checkpoint's is warned about.
            crop, reference_boxes, face_detector: what of the references is shown to the model, and
                where that is: boxes nested as the references are, or what finds them. As
                `encode_reference` takes them; by default as the checkpoint was trained.
            guidance: `ThreeStreamGuidance` or a mapping of its arguments.
            preset: "ltx23" for Lightricks' own guidance and negative prompt (see `presets`).
            height, width: pixels, multiples of the autoencoder's factor (32 for LTX-2.3).
            num_frames: 1 + a multiple of the autoencoder's factor (8k+1 for LTX-2.3).
            frame_rate: frames per second; it sets the temporal coordinates.
            schedule: "dev", the scheduler's noise levels, shifted by the number of video tokens; or
                "distilled", the eight levels of the distilled model and LoRA as they are, by
                default without guidance.
            num_inference_steps: denoising steps; none: 30, or the distilled schedule's.
            sigmas: noise levels in 0..1, descending, in place of evenly spaced ones ("dev") or of
                the eight ("distilled"); the step to 0 is added.
            sampler: walks from noise to video along the guided velocity; see `stdrc.sampling`.
            seeds: one for each sample, so that a sample's video does not depend on the batch; or
                `generator` as in diffusers.
            latents: starting noise [B, tokens, C], packed.
            timeline: what happens when, for all prompts: while an event lasts, its prompt holds
                instead of `prompt`. A step costs as many times its passes as there are stretches of
                the video that differ in prompt or references (see `stdrc.timeline`).
            fade: seconds of the cross-fade from one such stretch to the next.
            upscale: generate at half the height and width, enlarge the latents with a trained
                upsampler, and denoise once more; see `Upscale`.
            audio: also generate sound; otherwise the two modalities are isolated and one silent
                token stands for the sound.
            decode_timestep, decode_noise_scale: for autoencoders conditioned on a timestep.
            callback_on_step_end: called as callback(pipeline, step, timestep, {"latents": ...}).
            strict: refuse a prompt that is too long for the model, instead of warning.
            output_type: "np" float [B, T, H, W, 3] in 0..1, "pt" [B, T, 3, H, W], "pil", "latent".

        Returns:
            `STDRCOutput` with `frames`, `audio` (None unless asked for) and `remarks`.

        Raises:
            STDRCError: for sizes, frames, images, placements or weights that cannot be used.
        """
        size = first = self._resolve_size(height, width, num_frames, frame_rate)
        if upscale is not None:
            first = self._first_stage(size, upscale, audio, reference_latents is not None)
        guidance, negative_prompt = resolve_guidance(guidance, negative_prompt, preset, schedule)
        placement = self._resolve_placement(placement)
        warn_of_people(reference, placement)

        # 1. Text: every stream's embeddings
        text, negative = self._texts(
            prompt,
            negative_prompt,
            prompt_embeds,
            negative_prompt_embeds,
            [guidance] if upscale is None else [guidance, upscale.guidance],
            strict,
        )
        events = [
            replace(e, prompt=self.encode_text([e.prompt], strict=strict))
            if isinstance(e.prompt, str)
            else e
            for e in timeline or ()
        ]

        # 2. Reference: clean tokens and where they stand
        cut = {"crop": crop, "reference_boxes": reference_boxes, "face_detector": face_detector}
        references = self._references(
            reference, reference_latents, len(text), first, placement, cut
        )

        # 3. Noise
        generator = seeded_generators(seeds, generator, len(text))
        latents, sound = self._noise(len(text), first, generator, latents, audio, audio_latents)
        levels, timesteps = noise_levels(
            self.scheduler,
            schedule,
            num_inference_steps,
            sigmas,
            tokens=latents.shape[1],
            device=latents.device,
        )
        if not guidance.linear and float(levels[-2]) <= 0:
            raise STDRCError(
                "The last of sigmas is 0, where rescale and parallel are not defined; leave it "
                "out, the step to 0 is added."
            )
        # 4. Denoise, and once more at the full size
        how: dict[str, Any] = {
            "text": text,
            "negative": negative,
            "events": events,
            "fade": fade,
            "placement": placement,
            "sampler": sampler,
            "attention_kwargs": attention_kwargs,
            "callback": (callback_on_step_end, callback_on_step_end_tensor_inputs),
        }
        latents, sound = self._denoise(
            latents, sound, first, references, guidance, levels, timesteps, **how
        )
        if upscale is not None:
            again = partial(
                self._references, reference, upscale.reference_latents, len(text), size,
                placement, cut,
            )  # fmt: skip
            latents = self._second_stage(latents, first, size, upscale, generator, again, **how)

        # 5. Decode the video; the reference never was part of `latents`
        video = self._decode(
            latents, size, generator, decode_timestep, decode_noise_scale, output_type
        )
        waveform = None if sound is None else self._decode_audio(sound, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return video, waveform
        remarks = [
            [text for text in (given, f"negative: {against}" if against else "") if text]
            for given, against in zip(text.remarks, negative.remarks)
        ]
        return STDRCOutput(frames=video, audio=waveform, remarks=remarks)

    def _resolve_size(
        self,
        height: int | None,
        width: int | None,
        num_frames: int | None,
        frame_rate: float | None,
    ) -> VideoSize:
        stated = self.config.get("default_size") or {}
        height = int(stated.get("height", HEIGHT) if height is None else height)
        width = int(stated.get("width", WIDTH) if width is None else width)
        num_frames = int(stated.get("num_frames", NUM_FRAMES) if num_frames is None else num_frames)
        frame_rate = float(
            stated.get("frame_rate", FRAME_RATE) if frame_rate is None else frame_rate
        )
        self._check_size(height, width, num_frames)
        if not 0 < frame_rate < float("inf"):
            raise STDRCError(f"The frame rate must be a positive number, not {frame_rate}.")
        return VideoSize(
            height,
            width,
            num_frames,
            frame_rate,
            frames=(num_frames - 1) // self.vae_temporal_compression_ratio + 1,
            rows=height // self.vae_spatial_compression_ratio,
            columns=width // self.vae_spatial_compression_ratio,
        )

    def _texts(
        self,
        prompt: str | Sequence[str] | None,
        negative_prompt: str | Sequence[str],
        text: EncodedText | None,
        negative: EncodedText | None,
        guidances: Sequence[ThreeStreamGuidance],
        strict: bool,
    ) -> tuple[EncodedText, EncodedText]:
        """The prompts, and as many of what "no text" means."""
        if text is None:
            if prompt is None:
                raise STDRCError("Give a prompt, or prompt_embeds from encode_text.")
            text = self.encode_text(prompt, strict=strict)
        count = len(text)
        if negative is None:
            against = negative_prompt
            against = [against] * count if isinstance(against, str) else list(against)
            if any(not s.has_text for g in guidances for s in self._all_streams(g)):
                negative = self.encode_text(against, strict=strict)
            else:  # never read; neither is what was cut off it
                negative = replace(text, remarks=())
        if len(negative) == 1:
            negative = negative[[0] * count]
        if len(negative) != count:
            raise STDRCError(
                f"{count} prompts need one negative prompt or {count}, not {len(negative)}."
            )
        return text, negative

    def _references(
        self,
        reference: Any,
        encoded: EncodedReference | None,
        count: int,
        size: VideoSize,
        placement: ReferencePlacement,
        cut: Mapping[str, Any],
    ) -> EncodedReference | None:
        """References for each of `count` samples, or None."""
        boxes, detector = cut["reference_boxes"], cut["face_detector"]
        idle = [name for name, value in cut.items() if value is not None]
        if idle and (reference is None or encoded is not None):
            raise STDRCError(
                f"{idle[0]} would do nothing: "
                + ("the references are encoded already." if encoded else "there is no reference.")
            )
        if boxes is not None and detector is not None:
            raise STDRCError("Give reference_boxes or a face_detector, not both.")
        d = placement.downscale
        if encoded is None:
            if reference is None:
                return None
            samples = references_per_sample(reference, count)
            encoded = self.encode_reference(
                samples,
                size.height,
                size.width,
                crop=cut["crop"],
                boxes=detector if boxes is None else boxes,
                downscale=d,
            )
        if len(encoded) == 1:
            encoded = encoded[[0] * count]
        if len(encoded) != count:
            raise STDRCError(f"{count} prompts need one reference or {count}, not {len(encoded)}.")
        if (encoded.height * d, encoded.width * d) != (size.rows, size.columns):
            raise STDRCError(
                "The encoded references belong to another video size: "
                f"{encoded.height} x {encoded.width} latents "
                f"instead of {size.rows / d:g} x {size.columns / d:g}."
            )
        return replace(encoded, tokens=encoded.tokens.to(self._execution_device))

    @staticmethod
    def _all_streams(guidance: ThreeStreamGuidance) -> set[Stream]:
        """Streams that any noise level asks for."""
        inside = set(guidance.coefficients())
        return inside | set(guidance.coefficients(has_reference=False)) | {Stream.BOTH}

    def _resolve_placement(self, placement: Any) -> ReferencePlacement:
        trained = self.trained_placement
        if placement is None:
            return trained or ReferencePlacement.tass()
        placement = ReferencePlacement.parse(placement)
        if trained is not None and placement != trained:
            logger.warning(
                "This checkpoint was trained with the reference placed as '%s'; '%s' is a "
                "placement it has never seen.",
                trained,
                placement,
            )
        return placement


def hide_loading_bars() -> None:
    """Silence the bars drawn while weights load; sampling keeps its own."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
