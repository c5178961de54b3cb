"""The ST-DRC pipeline: LTX-2 with a reference memory that is attended to and never decoded.

`STDRCPipeline` is diffusers' `LTX2Pipeline` and adds what ST-DRC adds: the reference's clean latent
tokens behind the noisy video tokens, their place in the position grid, and three-stream guidance.
Encoding text and references is separate from sampling, so that a sweep over guidance weights does
either once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline
from diffusers.pipelines.ltx2.pipeline_ltx2 import calculate_shift, retrieve_timesteps
from diffusers.pipelines.ltx2.pipeline_output import LTX2PipelineOutput
from diffusers.utils import logging
from torch import Tensor

from stdrc.conditions import EncodedReference, EncodedText
from stdrc.errors import STDRCError
from stdrc.guidance import Stream, ThreeStreamGuidance
from stdrc.images import FaceDetector, ReferenceImage, reference_pixels
from stdrc.loading import check_checkpoint, saved_dtype
from stdrc.lora import read_lora
from stdrc.positions import ReferencePlacement
from stdrc.sampling import GuidedVelocity, Sampler, check_sigmas, sample_euler
from stdrc.sequence import TokenSequence

logger = logging.get_logger(__name__)

#: LoRAs whose silence about their placement was remarked on; once is enough.
_SILENT: set[str] = set()


class _Interrupted(Exception):
    """A callback set `pipe._interrupt`: the state reached is the result."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


@dataclass
class STDRCOutput(LTX2PipelineOutput):
    """Videos, and what is to be known of them.

    Args:
        frames: as `output_type` says.
        audio: [B, channels, samples], or None.
        remarks: for each video what of its conditions was not used, in words.
    """

    remarks: list[list[str]] = field(default_factory=list)


class STDRCPipeline(LTX2Pipeline):
    """Identity-preserving text-to-video: a face image and a prompt in, a video of that person out.

    Load any LTX-2.x repository in diffusers format with `from_pretrained`, then an ST-DRC LoRA with
    `load_lora_weights`.

    Args:
        placement: the placement this checkpoint was trained with, as `ReferencePlacement.to_dict`.
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
        default_size=None,
    ):
        super().__init__(
            scheduler,
            vae,
            audio_vae,
            text_encoder,
            tokenizer,
            connectors,
            transformer,
            vocoder,
            processor,
            prompt_enhancer,
            duration_head,
        )
        self.register_to_config(
            placement=dict(placement) if placement else None,
            default_size=dict(default_size) if default_size else None,
        )
        self._adapter_placements: dict[str, ReferencePlacement | None] = {}
        self._before_fusing: list[dict[str, Any] | None] = []

    # Loading

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Load an LTX-2.x checkpoint in diffusers format, from a folder or a hub id.

        Args:
            dtype: of all components; none or "auto": what the transformer's weights are saved in
                (float16, which is storage here, is read as float32). A mapping sets components
                apart, as in diffusers.
            kwargs: as in diffusers. Only safetensors are read.

        Raises:
            STDRCError: if there is none, or if it is another model.
        """
        name = str(pretrained_model_name_or_path)
        check_checkpoint(name)
        kwargs = {"use_safetensors": True, **kwargs}
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        try:
            folder = Path(name) if Path(name).exists() else Path(cls.download(name, **kwargs))
            if dtype is None or dtype == "auto":
                dtype = saved_dtype(folder, variant=kwargs.get("variant"))
            return super().from_pretrained(folder, dtype=dtype, **kwargs)
        except (OSError, ValueError) as error:
            if not Path(name).exists():
                raise STDRCError(
                    f"The checkpoint {name} is not on this machine and could not be fetched; "
                    f"download it with 'hf download {name}', or give a folder."
                ) from error
            reason = str(error).strip().splitlines()[0]
            raise STDRCError(f"The checkpoint {name} cannot be loaded: {reason}") from error

    def load_lora_weights(
        self, pretrained_model_name_or_path_or_dict, adapter_name=None, hotswap=False, **kwargs
    ):
        """Load a LoRA of any maker beside those already loaded, and its placement with it.

        Files of diffusers, ltx-trainer, ComfyUI, PEFT and Kohya are read with the scale that they
        state. Unlike in diffusers, adapters loaded before stay active.

        Args:
            pretrained_model_name_or_path_or_dict: a safetensors file, a folder, a hub id, or
                tensors by name.
            adapter_name: none: diffusers numbers them.
            hotswap, kwargs: as in diffusers (`weight_name`, `revision`, `cache_dir`, ...).

        Raises:
            STDRCError: if not all of the file fits (see `stdrc.lora.read_lora`), or if it was
                trained with another placement than a LoRA that is active. Nothing is loaded then.
        """
        peft = {k: kwargs.pop(k) for k in ("low_cpu_mem_usage",) if k in kwargs}
        modules = {"transformer": self.transformer, "connectors": self.connectors}
        modules = {name: module for name, module in modules.items() if module is not None}
        kwargs.pop("use_safetensors", None)  # always
        lora = read_lora(pretrained_model_name_or_path_or_dict, modules, **kwargs)
        active = [] if hotswap else self.get_active_adapters()
        stated = lora.about.get("placement")
        placement = ReferencePlacement.parse(stated) if stated else None
        known = self._placement_of(active)
        if placement is not None and known is not None and placement != known:
            raise STDRCError(
                f"{lora.name} was trained with the reference placed as '{placement}' and "
                f"{', '.join(active)} as '{known}'; one reference can't stand in both places."
            )
        before = set(self._adapters())
        super().load_lora_weights(lora.tensors, adapter_name=adapter_name, hotswap=hotswap, **peft)
        for name in set(self._adapters()) - before or {adapter_name}:
            self._adapter_placements[name] = placement
        for module in modules.values():
            here = [n for n in self._adapters() if n in getattr(module, "peft_config", {})]
            if keep := [n for n in here if n in active or n not in before]:
                module.set_adapter(keep)
        if not lora.about and lora.name not in _SILENT:
            _SILENT.add(lora.name)
            logger.warning(
                "%s doesn't say which reference placement it was trained with; the reference is "
                "placed as '%s' unless a call says otherwise.",
                lora.name,
                self.trained_placement or ReferencePlacement.tass(),
            )

    def _adapters(self) -> list[str]:
        return sorted({name for names in self.get_list_adapters().values() for name in names})

    def _placement_of(self, adapters: Sequence[str]) -> ReferencePlacement | None:
        """The placement that these LoRAs were trained with; None where none of them says."""
        stated = {name: self._adapter_placements.get(name) for name in adapters}
        different = {str(p): name for name, p in stated.items() if p is not None}
        if len(different) > 1:
            raise STDRCError(
                "These LoRAs were trained with different placements of the reference: "
                + ", ".join(f"{name} as '{p}'" for p, name in different.items())
                + "; activate one."
            )
        return next((p for p in stated.values() if p is not None), None)

    def set_adapters(self, adapter_names, adapter_weights=None):
        """As diffusers'.

        Raises:
            STDRCError: if two of them were trained with different placements.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._placement_of(names)
        super().set_adapters(adapter_names, adapter_weights)

    def delete_adapters(self, adapter_names):
        """As diffusers', and forgets their placements."""
        super().delete_adapters(adapter_names)
        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            self._adapter_placements.pop(name, None)

    def unload_lora_weights(self):
        """As diffusers', and forgets the LoRAs' placements; a fused one's stays."""
        super().unload_lora_weights()
        self._adapter_placements.clear()

    def fuse_lora(self, components=("transformer",), lora_scale=1.0, adapter_names=None, **kwargs):
        """As diffusers'; the checkpoint is from now on one of the LoRA's placement."""
        names = self.get_active_adapters() if adapter_names is None else adapter_names
        placement = self._placement_of(names)
        super().fuse_lora(
            components=list(components),
            lora_scale=lora_scale,
            adapter_names=adapter_names,
            **kwargs,
        )
        if placement is not None:
            self._before_fusing.append(self.config.get("placement"))
            self.register_to_config(placement=placement.to_dict())

    def unfuse_lora(self, components=("transformer",), **kwargs):
        """As diffusers', and the checkpoint is again what it was."""
        super().unfuse_lora(components=list(components), **kwargs)
        if self._before_fusing:
            self.register_to_config(placement=self._before_fusing[0])
            self._before_fusing.clear()

    @property
    def trained_placement(self) -> ReferencePlacement | None:
        """The placement the active LoRAs, or else the checkpoint, say they were trained with."""
        placement = self._placement_of(self.get_active_adapters())
        if placement is not None:
            return placement
        stated = self.config.get("placement")
        return ReferencePlacement.parse(stated) if stated else None

    # Encoding

    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str], *, strict: bool = False) -> EncodedText:
        """Prompts to what the transformer reads, each unique one encoded once.

        One prompt a pass, so that an embedding never depends on what else is in the batch.

        Args:
            prompts: one or B of them. Of one that is longer than the tokenizer's limit the rest is
                not read; that is warned about and kept in `remarks`.
            strict: such a prompt is refused instead.

        Raises:
            STDRCError: if `strict` and a prompt is too long.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        device = self._execution_device
        encoded: dict[str, EncodedText] = {}
        for prompt in dict.fromkeys(prompts):
            remark = self._cut(prompt)
            if remark and strict:
                raise STDRCError(f"{remark[:1].upper()}{remark[1:]}; shorten it.")
            if remark:
                logger.warning("%s.", remark)
            embeds, mask, _, _ = self.encode_prompt(
                [prompt],
                do_classifier_free_guidance=False,
                max_sequence_length=self.prompt_limit,
                device=device,
            )
            video, audio, mask = self.connectors(
                embeds, mask, padding_side=self.tokenizer.padding_side
            )
            encoded[prompt] = EncodedText(video, audio, mask, (remark,))
        return EncodedText.cat([encoded[prompt] for prompt in prompts])

    @property
    def prompt_limit(self) -> int:
        """Tokens of a prompt that the model reads."""
        return min(self.tokenizer_max_length, 1024)

    def _cut(self, prompt: str) -> str:
        """What is lost of a prompt, in words; "" where nothing is."""
        tokens = self.tokenizer(prompt.strip(), truncation=False).input_ids
        if len(tokens) <= self.prompt_limit:
            return ""
        lost = self.tokenizer.decode(tokens[self.prompt_limit :][:8], skip_special_tokens=True)
        return (
            f"the prompt has {len(tokens)} tokens and the model reads {self.prompt_limit}; what "
            f"follows from {lost.strip()!r} on is not read"
        )

    @torch.no_grad()
    def encode_reference(
        self,
        references: Sequence[ReferenceImage | Sequence[ReferenceImage]],
        height: int,
        width: int,
        *,
        detector: FaceDetector | None = None,
        margin: float = 0.5,
    ) -> EncodedReference:
        """Reference images to clean latent tokens.

        Args:
            references: one entry a sample, an image or several of them; the same number everywhere.
            height, width: the video's size in pixels.
            detector: crops every image around its largest face first.
            margin: of that crop, in face sizes.
        """
        self._check_size(height, width)
        samples = [list(r) if isinstance(r, list | tuple) else [r] for r in references]
        counts = {len(sample) for sample in samples}
        if len(counts) != 1 or 0 in counts:
            raise STDRCError(
                "Every sample of a batch takes the same number of references, at least one; "
                f"given are {sorted(counts)}."
            )
        tokens = [
            torch.cat(
                [
                    self._encode_image(
                        reference_pixels(image, height, width, detector=detector, margin=margin)
                    )
                    for image in sample
                ]
            )
            for sample in samples
        ]
        scale = self.vae_spatial_compression_ratio
        return EncodedReference(torch.stack(tokens), height // scale, width // scale)

    def _encode_image(self, pixels: Tensor) -> Tensor:
        """[3, 1, H, W] in -1..1 -> [1, h*w, C], the mode of the posterior, normalised."""
        pixels = pixels[None].to(device=self._execution_device, dtype=self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode().float()
        latents = self._normalize_latents(
            latents, self.vae.latents_mean, self.vae.latents_std, self.vae.config.scaling_factor
        )
        return self._pack_latents(
            latents, self.transformer_spatial_patch_size, self.transformer_temporal_patch_size
        )

    def _check_size(self, height: int, width: int, num_frames: int | None = None) -> None:
        unit = self.vae_spatial_compression_ratio * self.transformer_spatial_patch_size
        for name, value in (("height", height), ("width", width)):
            if value <= 0 or value % unit:
                near = max(unit, round(value / unit) * unit)
                raise STDRCError(
                    f"The {name} must be a multiple of {unit} pixels, not {value}; use {near}."
                )
        if num_frames is not None:
            unit = self.vae_temporal_compression_ratio
            if num_frames < 1 or (num_frames - 1) % unit:
                near = max(0, round((num_frames - 1) / unit)) * unit + 1
                raise STDRCError(
                    f"The number of frames must be {unit}k+1, not {num_frames}; use {near}."
                )

    # Sampling

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        reference: Any = None,
        *,
        placement: str | Mapping[str, Any] | ReferencePlacement | None = None,
        guidance: ThreeStreamGuidance | Mapping[str, Any] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        frame_rate: float | None = None,
        num_inference_steps: int = 30,
        sigmas: Sequence[float] | None = None,
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: EncodedText | None = None,
        negative_prompt_embeds: EncodedText | None = None,
        reference_latents: EncodedReference | None = None,
        face_detector: FaceDetector | None = None,
        audio: bool = False,
        audio_latents: Tensor | None = None,
        decode_timestep: float = 0.0,
        decode_noise_scale: float | None = None,
        sampler: Sampler = sample_euler,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., dict[str, Tensor]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        strict: bool = False,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> STDRCOutput | tuple[Any, Any]:
        """Generate videos.

        Args:
            prompt: one prompt or B of them; or `prompt_embeds` from `encode_text`.
            negative_prompt: what "no text" means; one for all or one each; none: the empty one.
            reference: with one prompt, an image or a list of images of the person; with B prompts,
                one image for all or a list of B, each an image or a list of the same length. An
                image is a path, a PIL image, an array or a tensor. Or `reference_latents` from
                `encode_reference`. None runs plain text-to-video.
            placement: name, mapping or `ReferencePlacement`; None takes the one the checkpoint was
                trained with, else TASS. Another one than the checkpoint's is warned about.
            guidance: `ThreeStreamGuidance` or a mapping of its arguments.
            height, width: pixels, multiples of the autoencoder's factor (32 for LTX-2.3).
            num_frames: 8k+1 for LTX-2.3; 4k+1 for the miniature.
            frame_rate: frames a second; it sets the temporal coordinates.
            num_inference_steps: denoising steps; `sigmas` overrides them, values in 0..1.
            seeds: one a sample, so that a sample's video does not depend on the batch; or
                `generator` as in diffusers.
            latents: starting noise [B, tokens, C], packed.
            face_detector: crops references around the largest face.
            audio: also generate sound; otherwise the two modalities are isolated and one silent
                token stands for the sound.
            decode_timestep, decode_noise_scale: for autoencoders conditioned on a timestep.
            sampler: walks from noise to video along the guided velocity; see `stdrc.sampling`.
            callback_on_step_end: called as callback(pipeline, step, timestep, {"latents": ...}).
            strict: refuse a prompt that is too long for the model, instead of warning.
            output_type: "np" float [B, T, H, W, 3] in 0..1, "pt" [B, T, 3, H, W], "pil", "latent".

        Returns:
            `STDRCOutput` with `frames`, `audio` (None unless asked for) and `remarks`.

        Raises:
            STDRCError: for sizes, frames, images, placements or weights that cannot be used.
        """
        size = self.config.get("default_size") or {}
        height = int(size.get("height", 512) if height is None else height)
        width = int(size.get("width", 768) if width is None else width)
        num_frames = int(size.get("num_frames", 121) if num_frames is None else num_frames)
        frame_rate = float(size.get("frame_rate", 24.0) if frame_rate is None else frame_rate)
        self._check_size(height, width, num_frames)
        if not 0 < frame_rate < float("inf"):
            raise STDRCError(f"The frame rate must be a positive number, not {frame_rate}.")
        if num_inference_steps < 1:
            raise STDRCError(f"At least one step is needed, not {num_inference_steps}.")
        guidance = ThreeStreamGuidance.parse(guidance or ThreeStreamGuidance())
        placement = self._resolve_placement(placement)

        # 1. Text: every stream's embeddings
        if prompt_embeds is None:
            if prompt is None:
                raise STDRCError("Give a prompt, or prompt_embeds from encode_text.")
            prompt_embeds = self.encode_text(prompt, strict=strict)
        batch_size = len(prompt_embeds)
        if negative_prompt_embeds is None:
            negative_prompt = "" if negative_prompt is None else negative_prompt
            negatives = (
                [negative_prompt] * batch_size
                if isinstance(negative_prompt, str)
                else list(negative_prompt)
            )
            if any(not s.has_text for s in self._all_streams(guidance)):
                negative_prompt_embeds = self.encode_text(negatives, strict=strict)
            else:  # never read; neither is what was cut off it
                negative_prompt_embeds = replace(prompt_embeds, remarks=())
        if len(negative_prompt_embeds) == 1:
            negative_prompt_embeds = negative_prompt_embeds[[0] * batch_size]
        if len(negative_prompt_embeds) != batch_size:
            raise STDRCError(
                f"{batch_size} prompts need one negative prompt or {batch_size}, "
                f"not {len(negative_prompt_embeds)}."
            )

        # 2. Reference: clean tokens and where they stand
        if reference_latents is None and reference is not None:
            reference_latents = self.encode_reference(
                self._split_references(reference, batch_size),
                height,
                width,
                detector=face_detector,
            )
        if reference_latents is not None and len(reference_latents) == 1:
            reference_latents = reference_latents[[0] * batch_size]
        if reference_latents is not None and len(reference_latents) != batch_size:
            raise STDRCError(
                f"{batch_size} prompts need one reference or {batch_size}, "
                f"not {len(reference_latents)}."
            )
        # 3. Noise
        device = self._execution_device
        generator = self._make_generators(seeds, generator, batch_size)
        frames = (num_frames - 1) // self.vae_temporal_compression_ratio + 1
        rows = height // self.vae_spatial_compression_ratio
        columns = width // self.vae_spatial_compression_ratio
        latents = self.prepare_latents(
            batch_size,
            self.transformer.config.in_channels,
            height,
            width,
            num_frames,
            dtype=torch.float32,
            device=device,
            generator=generator,
            latents=latents,
        )
        sound, audio_frames = None, 1
        if audio:
            rate = self.audio_sampling_rate / self.audio_hop_length
            rate /= self.audio_vae_temporal_compression_ratio
            audio_frames = round(num_frames / frame_rate * rate)
            sound = self.prepare_audio_latents(
                batch_size,
                num_channels_latents=self.audio_vae.config.latent_channels,
                audio_latent_length=audio_frames,
                num_mel_bins=self.audio_vae.config.mel_bins,
                dtype=torch.float32,
                device=device,
                generator=generator,
                latents=audio_latents,
            )

        # 4. Noise schedule: its shift depends on the video's tokens only
        config = self.scheduler.config
        if not isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler) or config.get(
            "stochastic_sampling"
        ):
            raise STDRCError(
                "The noise levels come from a FlowMatchEulerDiscreteScheduler without "
                f"stochastic_sampling, not from {type(self.scheduler).__name__}; to sample in "
                "another way, pass sampler= a function such as stdrc.sampling.sample_euler."
            )
        mu = calculate_shift(
            latents.shape[1],
            config.get("base_image_seq_len", 1024),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.95),
            config.get("max_shift", 2.05),
        )
        steps = num_inference_steps
        levels = np.linspace(1.0, 1 / steps, steps) if sigmas is None else check_sigmas(sigmas)
        timesteps, steps = retrieve_timesteps(self.scheduler, steps, device, sigmas=levels, mu=mu)
        if not torch.isfinite(self.scheduler.sigmas).all():
            # The stretch to `shift_terminal` divides by the distance between first and last level.
            raise STDRCError(
                f"This checkpoint's noise schedule is not defined for {len(levels)} step(s); "
                "take at least 2."
            )
        if not guidance.linear and float(self.scheduler.sigmas[-2]) <= 0:
            raise STDRCError(
                "The last of sigmas is 0, where rescale and parallel are not defined; leave it "
                "out, the step to 0 is added."
            )
        self._num_timesteps = len(timesteps)
        self._interrupt = False

        # 5. Positions
        memory, references = None, 0
        if reference_latents is not None:
            if (reference_latents.height, reference_latents.width) != (rows, columns):
                raise STDRCError(
                    "The encoded references belong to another video size: "
                    f"{reference_latents.height} x {reference_latents.width} latents "
                    f"instead of {rows} x {columns}."
                )
            references = reference_latents.tokens.shape[1]
            memory = reference_latents.tokens.flatten(1, 2).to(device)  # [B, K*h*w, C]
        sequence = TokenSequence.of(
            self.transformer.rope,
            placement if references else None,
            references=references,
            frames=frames,
            height=rows,
            width=columns,
            fps=frame_rate,
            device=device,
        )

        # 6. Denoise
        velocity = GuidedVelocity(
            self.transformer,
            sequence,
            guidance,
            prompt_embeds,
            negative_prompt_embeds,
            reference=memory,
            audio=None if sound is None else (sound.shape[1], sound.shape[2]),
            attention_kwargs=attention_kwargs,
        )
        with self.progress_bar(total=steps) as progress:

            def after(i: int, x: Tensor) -> Tensor:
                self._current_timestep = timesteps[i]
                if callback_on_step_end is not None:
                    video, heard = velocity.split(x)
                    state = {"latents": video}
                    wanted = {k: state[k] for k in callback_on_step_end_tensor_inputs}
                    changed = callback_on_step_end(self, i, timesteps[i], wanted) or {}
                    x = velocity.join(changed.get("latents", video), heard)
                progress.update()
                if self._interrupt:
                    raise _Interrupted(x)
                return x

            sigmas = self.scheduler.sigmas.to(device)
            try:
                x = sampler(velocity, velocity.join(latents, sound), sigmas, after)
            except _Interrupted as stopped:
                x = stopped.x
        latents, sound = velocity.split(x)

        # 7. Decode the video; the reference never was part of `latents`
        latents = self._unpack_latents(
            latents,
            frames,
            rows,
            columns,
            self.transformer_spatial_patch_size,
            self.transformer_temporal_patch_size,
        )
        video = self._decode(latents, generator, decode_timestep, decode_noise_scale, output_type)
        waveform = None
        if sound is not None:
            waveform = self._decode_audio(sound, audio_frames, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return video, waveform
        remarks = [
            [text for text in (given, f"negative: {against}" if against else "") if text]
            for given, against in zip(prompt_embeds.remarks, negative_prompt_embeds.remarks)
        ]
        return STDRCOutput(frames=video, audio=waveform, remarks=remarks)

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

    @staticmethod
    def _split_references(reference: Any, batch_size: int) -> list[Any]:
        """One entry a sample, from one image for all, several for one prompt, or one entry each."""
        if not isinstance(reference, list | tuple):
            return [reference] * batch_size
        if not reference:
            raise STDRCError("The list of references is empty; give an image, or None for none.")
        if batch_size == 1:
            nested = len(reference) == 1 and isinstance(reference[0], list | tuple)
            return [reference[0]] if nested else [list(reference)]
        if len(reference) != batch_size:
            raise STDRCError(
                f"{batch_size} prompts need one reference or {batch_size}, not {len(reference)}."
            )
        return list(reference)

    @staticmethod
    def _make_generators(
        seeds: int | Sequence[int] | None,
        generator: torch.Generator | list[torch.Generator] | None,
        batch_size: int,
    ) -> torch.Generator | list[torch.Generator] | None:
        if seeds is None:
            return generator
        if generator is not None:
            raise STDRCError("Give seeds or a generator, not both.")
        each: list[Any] = [seeds] * batch_size if np.ndim(seeds) == 0 else list(seeds)  # type: ignore[arg-type]
        if len(each) != batch_size:
            raise STDRCError(f"{batch_size} samples need {batch_size} seeds, not {len(each)}.")
        if wrong := [seed for seed in each if int(seed) != seed]:
            raise STDRCError(f"A seed is a whole number, not {wrong[0]!r}.")
        # On the CPU, so that a seed means the same video on every device.
        return [torch.Generator("cpu").manual_seed(int(seed)) for seed in each]

    def _decode(
        self,
        latents: Tensor,
        generator: Any,
        decode_timestep: float,
        decode_noise_scale: float | None,
        output_type: str,
    ) -> Any:
        """[B, C, t, h, w] normalised latents to frames, one sample a pass."""
        mean, std = self.vae.latents_mean, self.vae.latents_std
        factor = self.vae.config.scaling_factor
        if output_type == "latent":
            return self._denormalize_latents(latents, mean, std, factor)
        videos = []
        for i, sample in enumerate(latents.split(1)):
            timestep = None
            if self.vae.config.timestep_conditioning:
                scale = decode_timestep if decode_noise_scale is None else decode_noise_scale
                source = generator[i] if isinstance(generator, list) else generator
                noise = torch.randn(
                    sample.shape, generator=source, device=source.device if source else None
                )
                sample = (1 - scale) * sample + scale * noise.to(sample)
                timestep = torch.tensor([decode_timestep], device=sample.device, dtype=sample.dtype)
            sample = self._denormalize_latents(sample, mean, std, factor).to(self.vae.dtype)
            videos.append(self.vae.decode(sample, timestep, return_dict=False)[0])
        return self.video_processor.postprocess_video(torch.cat(videos), output_type=output_type)

    def _decode_audio(self, sound: Tensor, audio_frames: int, output_type: str) -> Tensor:
        vae = self.audio_vae
        sound = self._denormalize_audio_latents(sound, vae.latents_mean, vae.latents_std)
        mel_bins = vae.config.mel_bins // self.audio_vae_mel_compression_ratio
        sound = self._unpack_audio_latents(sound, audio_frames, num_mel_bins=mel_bins)
        if output_type == "latent":
            return sound
        return self.vocoder(vae.decode(sound.to(vae.dtype), return_dict=False)[0])


def hide_loading_bars() -> None:
    """Silence the bars drawn while weights load; sampling keeps its own."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
