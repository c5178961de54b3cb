"""The training loop: flow matching on video tokens with the reference in context.

One optimizer step: draw clips, noise levels and what is dropped; compute the loss (`loss.py`);
clip, step, average. `Trainer` runs on encoded data; `stdrc.training.train` encodes a folder first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, gather_object
from diffusers import LTX2VideoTransformer3DModel
from torch import Tensor, nn

from media.errors import UserError
from stdrc.errors import STDRCError
from stdrc.training import checkpoint as checkpoints
from stdrc.training.config import OptimizerConfig, TrainConfig
from stdrc.training.data import Batch, BatchSource, TrainingData, seeded
from stdrc.training.denoiser import Denoiser, is_video_parameter
from stdrc.training.ema import WeightAverage
from stdrc.training.linear_decoder import LinearDecoder
from stdrc.training.loss import BatchLoss
from stdrc.training.objectives import (
    IdentityEncoder,
    IdentityHead,
    IdentityLoss,
    PixelError,
    decode_video,
)
from stdrc.training.optimizer import make_optimizer
from stdrc.training.progress import RunLog
from stdrc.training.result import (
    CHECKPOINT_NAME,
    LORA_NAME,
    add_lora,
    describe,
    save_full,
    save_lora,
)
from stdrc.training.saving import Resumable

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

#: Clips that a linear decoder is fitted to.
LINEAR_CLIPS = 96

Sampler = Callable[[int, nn.Module], Tensor | None]


def learning_rate(step: int, total: int, config: OptimizerConfig) -> float:
    """The rate of optimizer step `step`, counted from 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    share = min(1.0, (step - config.warmup) / max(1, total - config.warmup))
    left = 1 - share if config.schedule == "linear" else (1 + math.cos(math.pi * share)) / 2
    return config.lr * (config.final + (1 - config.final) * left)


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Where a run computes: what `accelerate launch` set up, else the GPU, else the CPU."""
    here = [str(getattr(name, "value", name)) for name in get_available_trackers()]
    for name in config.trackers:
        if name not in here:  # accelerate would leave it out in silence
            raise STDRCError(f"trackers: {name} is not installed; pip install it, or leave it out.")
    precision = {"fp32": "no"}.get(config.precision, config.precision)
    # accelerate keeps its precision for the life of the process; a second run may want another.
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision=precision,
        cpu=not torch.cuda.is_available(),
        log_with=list(config.trackers) or None,
        project_dir=config.logs,
        # The main process encodes a whole data set while the others wait.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=48))],
    )


class Trainer(Resumable):
    """Trains a transformer on encoded clips.

    Args:
        config: the run; `config.data` and `config.clip` are not read here.
        data: encoded clips, captions and references.
        transformer: diffusers' LTX-2.x transformer. It is trained in place: with `mode: full` its
            own weights, with `mode: lora` adapters put on it.
        connectors: only with `train_connectors`; `data.text` then comes from before them.
        vae: only for the identity loss and for `pixels`.
        identity_encoder: only for the identity loss; see `objectives.IdentityEncoder`.
        padding_side: the tokenizer's, for LTX-2.0 connectors that are trained.
        base_hash: hash of the base's weights, for the result's metadata.
        validator: called as validator(step) every `validation.every` steps with the averaged
            weights in place; returns numbers by name.
        sampler: called as sampler(step, transformer) every `sample_every` steps with the averaged
            weights in place; returns a strip [H, W, 3] uint8 or None.
        on_step: called as on_step(step, numbers) after each optimizer step.
        accelerator: none: one is made from `config.precision`.

    Raises:
        STDRCError: parts that don't fit together.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        *,
        transformer: LTX2VideoTransformer3DModel,
        connectors: nn.Module | None = None,
        vae: Any = None,
        identity_encoder: IdentityEncoder | None = None,
        padding_side: str = "left",
        base_hash: str | None = None,
        sampler: Sampler | None = None,
        validator: Callable[[int], Mapping[str, float]] | None = None,
        on_step: Callable[[int, dict[str, float]], None] | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.config, self.data = config, data
        self.base_hash, self.sampler, self.on_step = base_hash, sampler, on_step
        self.validator = validator
        self.accelerator = accelerator or make_accelerator(config)
        self.device = self.accelerator.device
        self._check(transformer, connectors, vae, identity_encoder)

        self.identity = None
        if config.identity.weight:
            assert identity_encoder is not None
            if isinstance(identity_encoder, nn.Module):
                identity_encoder.to(self.device)
            self.identity = IdentityLoss(
                vae.to(self.device).eval(), identity_encoder, config.identity
            )
        pixels = None
        if config.pixels.weight or (self.identity and config.identity.decoder == "linear"):
            linear = self._linear_decoder(transformer, vae.to(self.device).eval())
            if self.identity and config.identity.decoder == "linear":
                self.identity.linear = linear
            if config.pixels.weight:
                pixels = PixelError(linear, config.pixels.edges)

        torch.manual_seed(config.seed)
        denoiser = self._prepare_modules(transformer, connectors, padding_side)
        trained = [(name, p) for name, p in denoiser.named_parameters() if p.requires_grad]
        optimizer = make_optimizer(trained, config.optimizer)
        self.model, self.optimizer = self.accelerator.prepare(denoiser, optimizer)
        self.transformer = transformer
        self.connectors = connectors
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.average = (
            WeightAverage(self.parameters, config.ema) if config.ema is not None else None
        )
        self.source = BatchSource(
            data,
            config,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        self.loss = BatchLoss(
            config, self.model, transformer, data.fps, self.identity, self.device, pixels
        )
        self.step = 0
        self.skipped = 0
        self._losses: list[float] = []

    # Setting up ---------------------------------------------------------------------------------

    def _check(
        self, transformer: Any, connectors: Any, vae: Any, encoder: IdentityEncoder | None
    ) -> None:
        config, data = self.config, self.data
        if config.placement is not None and data.references is None:
            raise STDRCError(
                "The run has a placement but its data has no references; "
                "set placement: none to train plain text-to-video."
            )
        if config.base_weights != "saved" and self.accelerator.distributed_type == "FSDP":
            raise STDRCError(
                f"base_weights: {config.base_weights} is not sharded by FSDP; launch with DDP "
                "(accelerate launch --multi_gpu), where each process holds the base."
            )
        if config.train_connectors:
            if connectors is None or data.text_mask is None:
                raise STDRCError(
                    "train_connectors needs the connectors, and text from before them."
                )
            if config.mode == "lora":
                raise STDRCError("train_connectors needs mode: full, not mode: lora.")
        if config.face_weight > 1 and data.face is None:
            raise STDRCError("face_weight > 1 needs face boxes, and the data has none.")
        if config.identity.weight:
            if vae is None or encoder is None:
                raise STDRCError(
                    "identity.weight > 0 needs a VAE and an encoder: set identity.encoder, or pass "
                    "identity_encoder= in Python."
                )
            if data.boxes is None:
                raise STDRCError("identity.weight > 0 needs face boxes, and the data has none.")
        if config.pixels.weight and vae is None:
            raise STDRCError("pixels.weight > 0 needs a VAE, whose decoder draws the pixels.")
        if config.identity.alignment and (data.identities is None or data.face is None):
            raise STDRCError(
                "identity.alignment > 0 needs face boxes and embeddings, and the data has none."
            )
        channels = data.shapes[0][0]
        patch = transformer.config.patch_size**2 * transformer.config.patch_size_t
        if channels * patch != transformer.config.in_channels:
            raise STDRCError(
                f"The latents have {channels} channels and the transformer takes "
                f"{transformer.config.in_channels}; they come from different models."
            )

    def _prepare_modules(
        self, transformer: LTX2VideoTransformer3DModel, connectors: nn.Module | None, side: str
    ) -> Denoiser:
        config = self.config
        if config.mode == "lora":
            if not getattr(transformer, "peft_config", None):
                add_lora(transformer, config.lora)
            if config.precision != "fp32":
                # The frozen base in half precision, what is trained in full.
                half = DTYPES[config.precision]
                _cast(transformer, lambda p: torch.float32 if p.requires_grad else half)
        else:
            _cast(transformer, lambda _: torch.float32)
            for name, parameter in transformer.named_parameters():
                parameter.requires_grad_(is_video_parameter(name))
        if config.train_connectors:
            assert connectors is not None
            _cast(connectors, lambda _: torch.float32)
            for name, parameter in connectors.named_parameters():
                parameter.requires_grad_(is_video_parameter(name))
        else:
            connectors = None
        if config.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        if config.compile:
            # Block by block: all blocks share what is compiled for one.
            transformer.compile_repeated_blocks()
        transformer.train()
        head, layer = self._identity_head(transformer)
        return Denoiser(transformer, connectors, padding_side=side, head=head, layer=layer)

    def _identity_head(
        self, transformer: LTX2VideoTransformer3DModel
    ) -> tuple[IdentityHead | None, int]:
        """The head of the identity alignment, and the block that it reads."""
        identity, blocks = self.config.identity, len(transformer.transformer_blocks)
        if not identity.alignment:
            return None, 0
        layer = identity.layer if identity.layer is not None else 2 * blocks // 3 - 1
        if not 0 <= layer < blocks:
            raise STDRCError(f"identity.layer is {layer}; this model has blocks 0 to {blocks - 1}.")
        assert self.data.identities is not None
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        return IdentityHead(width, self.data.identities.shape[1]), layer

    def _linear_decoder(self, transformer: LTX2VideoTransformer3DModel, vae: Any) -> LinearDecoder:
        """Fitted to the VAE on clips of the data, the same whichever process fits it."""
        rows = max(self.data.buckets or (), key=len)
        clips = torch.linspace(0, len(rows) - 1, min(LINEAR_CLIPS, len(rows))).long()
        latents = self.data.rows("latents").gather(torch.tensor(rows)[clips])
        latents = latents.to(self.device, torch.float32)
        temporal, spatial, _ = transformer.config.vae_scale_factors
        return LinearDecoder.fit(
            lambda latent: decode_video(vae, latent), latents, temporal, spatial
        )

    # One step -----------------------------------------------------------------------------------

    def _optimizer_step(self, batches: list[Batch]) -> dict[str, float] | None:
        """Numbers of the step, or None where it was skipped because they weren't finite."""
        config = self.config
        rate = learning_rate(self.step, config.steps, config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total: dict[str, list[float]] = {}
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            nth = i * self.source.world + self.source.rank
            generator = seeded(config.seed, "frames", self.step, nth, 0)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss, parts = self.loss(batch.to(self.device), generator)
                self.accelerator.backward(loss / len(batches))
            for name, value in {"loss": float(loss.detach()), **parts}.items():
                total.setdefault(name, []).append(value)
        norm = self.accelerator.clip_grad_norm_(self.parameters, config.optimizer.max_grad_norm)
        numbers = {name: sum(values) / len(values) for name, values in total.items()}
        numbers["grad_norm"] = float(norm) if norm is not None else 0.0
        numbers["lr"] = rate
        numbers = self._over_ranks(numbers)
        # fp16's scaler drops steps with infinite gradients itself while it looks for its scale.
        scaled = config.precision == "fp16"
        bad = not math.isfinite(numbers["loss"]) or (
            not scaled and not math.isfinite(numbers["grad_norm"])
        )
        if bad:
            self.optimizer.zero_grad()
            return None
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.step)
        return numbers

    def _over_ranks(self, numbers: dict[str, float]) -> dict[str, float]:
        """Means over the processes: of a step's whole batch, and one verdict on it for all."""
        if self.accelerator.num_processes == 1:
            return numbers
        found: dict[str, list[float]] = {}
        for each in gather_object([numbers]):
            for name, value in each.items():
                found.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}

    # The run ------------------------------------------------------------------------------------

    def fit(self, *, resume: bool = False) -> Path:
        """Train to `config.steps` and write the result.

        Args:
            resume: continue from the newest complete checkpoint in the output folder, if any.

        Returns:
            The LoRA file, or the checkpoint folder.

        Raises:
            STDRCError: the output already holds a run and `resume` is false; a loss that isn't
                finite (see `on_nan`); a full disk; a checkpoint of other settings.
        """
        config = self.config
        self._start(resume)
        if config.trackers:
            named = {"wandb": {"name": config.output.name, "dir": str(config.logs)}}
            settings = {"settings": config.model_dump_json()}  # plain values are all that some take
            self.accelerator.init_trackers("stdrc", settings, named)
        log = RunLog(
            config.logs, total=config.steps, start=self.step,
            main=self.accelerator.is_main_process, trackers=self.accelerator.trackers,
        )  # fmt: skip
        micro = config.accumulation
        with log:
            for remark in self.source.remarks:
                log.say(remark)
            batches = self.source.walk(
                self.step * micro, config.steps * micro, ahead=self.device.type == "cuda"
            )
            while self.step < config.steps:
                numbers = self._optimizer_step([next(batches) for _ in range(micro)])
                self.step += 1
                self._account(numbers, log)
                self._punctuate(log)
                if self.on_step is not None:
                    self.on_step(self.step, numbers or {})
            return self._finish(log)

    def _start(self, resume: bool) -> None:
        folder = self.config.output / "checkpoints"
        found = checkpoints.checkpoints(folder)
        if found and not resume:
            raise STDRCError(
                f"{self.config.output} already holds a run at step "
                f"{int(found[-1].name.removeprefix('step-'))}; add --resume to continue it or "
                "choose another output."
            )
        if found:
            self.load_checkpoint(found[-1])
        elif self.accelerator.is_main_process:
            with checkpoints.readable_disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def _account(self, numbers: dict[str, float] | None, log: RunLog) -> None:
        config = self.config
        if numbers is None:
            self.skipped += 1
            last = checkpoints.checkpoints(config.output / "checkpoints")
            where = f"the last whole checkpoint is {last[-1]}" if last else "no checkpoint was made"
            if config.on_nan == "stop" or self.skipped >= config.max_skipped:
                times = f" {self.skipped} times in a row" if self.skipped > 1 else ""
                raise STDRCError(
                    f"The loss or its gradient was not finite{times} at step {self.step}; {where}. "
                    "Lower optimizer.lr, look for damaged clips, or set on_nan: skip."
                )
            log.say(f"step {self.step}: loss not finite, the step is skipped")
            return
        self.skipped = 0
        self._losses = [*self._losses[-99:], numbers["loss"]]
        log.advance(self.step, sum(self._losses) / len(self._losses))
        if self.step % config.log_every == 0 or self.step == config.steps:
            log.record(self.step, numbers)

    def _punctuate(self, log: RunLog) -> None:
        config, last = self.config, self.step == self.config.steps
        if config.sample_every and (self.step % config.sample_every == 0 or last):
            self._sample(log)
        asked = config.validation
        if asked is not None and (self.step % asked.every == 0 or last):
            self._validate(log)
        if last or (config.checkpoint_every and self.step % config.checkpoint_every == 0):
            self.save_checkpoint()

    def _sample(self, log: RunLog) -> None:
        if self.sampler is None or not self.accelerator.is_main_process:
            return
        try:
            with self._as_result():
                strip = self.sampler(self.step, self.transformer)
        except UserError as problem:
            # A strip is for looking at; the run it belongs to is worth more.
            log.say(f"step {self.step}: no strip was drawn: {problem}")
            return
        if strip is not None:
            log.image(self.step, "samples", strip.numpy())

    def _validate(self, log: RunLog) -> None:
        if self.validator is None or not self.accelerator.is_main_process:
            return
        try:
            with self._as_result():
                numbers = self.validator(self.step)
        except UserError as problem:  # as for a strip
            log.say(f"step {self.step}: not validated: {problem}")
            return
        log.record(self.step, dict(numbers), under="validation")

    @contextmanager
    def _as_result(self) -> Iterator[None]:
        """Within it the model is what the result would be: averaged, and as in sampling."""
        with self.averaged():
            self.transformer.eval()
            try:
                yield
            finally:
                self.transformer.train()

    def _clip_shape(self) -> dict[str, Any]:
        """Pixels, frames and rate of the clips trained on; of several shapes the first."""
        temporal, spatial, _ = self.transformer.config.vae_scale_factors
        shapes = [
            {"frames": (frames - 1) * temporal + 1, "height": h * spatial, "width": w * spatial}
            for _, frames, h, w in self.data.shapes
        ]
        more = {"buckets": shapes[1:]} if len(shapes) > 1 else {}
        return {**shapes[0], "fps": self.data.fps, **more}

    def _finish(self, log: RunLog) -> Path:
        config = self.config
        weights = self.averaged_weights(frozen=config.mode == "full")
        result = config.output / (LORA_NAME if config.mode == "lora" else CHECKPOINT_NAME)
        if self.accelerator.is_main_process:
            about = describe(
                config,
                step=self.step,
                data=self.data.description,
                base_hash=self.base_hash,
                processes=self.accelerator.num_processes,
            )
            about["clip"] = self._clip_shape()
            if config.mode == "lora":
                dtype = DTYPES[config.save_dtype]
                save_lora(result, self.transformer, weights, about, dtype=dtype)
            else:
                modules: dict[str, nn.Module] = {"transformer": self.transformer}
                if config.train_connectors:
                    assert self.connectors is not None
                    modules["connectors"] = self.connectors
                base = Path(config.base)
                save_full(
                    result, modules, weights, about, base if base.is_dir() else None,
                    dtype=DTYPES[config.save_dtype],
                )  # fmt: skip
            log.say(f"done: {result}")
        self.accelerator.wait_for_everyone()
        return result


def _cast(module: nn.Module, dtype: Callable[[nn.Parameter], torch.dtype]) -> None:
    for parameter in module.parameters():
        if parameter.is_floating_point():  # eight and four bits are codes, packed in whole numbers
            parameter.data = parameter.data.to(dtype(parameter))
