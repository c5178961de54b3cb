"""A whole run from a configuration: encode the data, load what is trained, train, sample."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from media import plugins
from stdrc.errors import STDRCError
from stdrc.pipeline import STDRCPipeline
from stdrc.training.config import TrainConfig
from stdrc.training.data import TrainingData
from stdrc.training.encoding import prepare
from stdrc.training.objectives import IdentityEncoder
from stdrc.training.result import weights_fingerprint
from stdrc.training.samples import strip_sampler
from stdrc.training.trainer import DTYPES, Trainer, make_accelerator
from stdrc.training.validation import Judge, Validation


def train(
    config: TrainConfig,
    *,
    data: TrainingData | None = None,
    identity_encoder: IdentityEncoder | None = None,
    judge: Judge | None = None,
    resume: bool = False,
    dry_run: bool = False,
) -> Path | TrainingData:
    """Run a training configuration.

    Args:
        config: the run.
        data: encoded data; none: `config.data` is read and encoded.
        identity_encoder: for the identity loss; none: the one `config.identity.encoder` names.
        judge: for `config.validation`: what it says of the videos is logged; 'stdrc train' brings
            the metrics that the section names.
        resume: continue from the newest checkpoint.
        dry_run: read, check and encode the data, load the models, and stop before the first step.

    Returns:
        The LoRA file or checkpoint folder; the encoded data after a dry run.

    Raises:
        STDRCError: whatever a user can fix: settings, data, disk, a loss that isn't finite.
    """
    accelerator = make_accelerator(config)
    say = _Teller(accelerator.is_main_process)
    half = DTYPES[config.precision]
    encoder = identity_encoder
    if encoder is None and (config.identity.weight or config.identity.alignment):
        encoder = load_identity_encoder(config.identity.encoder, accelerator.device)
    if data is None:
        data = _prepare(config, accelerator, encoder, say)
    validation = _validation(config, accelerator, judge)
    # Full training keeps its weights in float32; a frozen base is loaded as it is used.
    dtype = half if config.mode == "lora" else torch.float32
    objectives = bool(config.identity.weight or config.pixels.weight)
    wants_vae = bool(objectives or config.sample_every or config.validation)
    wants_connectors = config.train_connectors
    unused = {"text_encoder": None, "audio_vae": None, "vocoder": None}
    if not wants_vae:
        unused["vae"] = None
    if not wants_connectors:
        unused["connectors"] = None
    held = config.base_weights
    memory = None if held == "saved" else {"transformer": held}
    pipe = STDRCPipeline.from_pretrained(config.base, dtype=dtype, memory=memory, **unused)
    if wants_vae:
        pipe.vae.to(accelerator.device)
    sampler = None
    if config.sample_every:
        sampler = strip_sampler(config, data, pipe)
    trainer = Trainer(
        config,
        data,
        transformer=pipe.transformer,
        connectors=pipe.connectors if wants_connectors else None,
        vae=pipe.vae if objectives else None,
        identity_encoder=encoder,
        padding_side=pipe.tokenizer.padding_side,
        base_hash=weights_fingerprint(pipe.transformer),
        sampler=sampler,
        validator=None if validation is None else lambda step: validation(step, pipe, data.fps),
        accelerator=accelerator,
    )
    if dry_run:
        trained = sum(p.numel() for p in trainer.parameters)
        say(
            f"dry run: {len(data)} clips of {' and '.join(map(str, data.shapes))}, {trained:,} "
            f"trained parameters on {accelerator.device}; nothing was trained"
        )
        for remark in trainer.source.remarks:
            say(remark)
        return data
    return trainer.fit(resume=resume)


def _validation(
    config: TrainConfig, accelerator: Accelerator, judge: Judge | None
) -> Validation | None:
    """The validation clips, encoded; on the main process alone, which draws them."""
    if config.validation is None or not accelerator.is_main_process:
        return None
    if judge is None:
        raise STDRCError(
            "validation needs a judge: 'stdrc train' brings the metrics; in Python pass judge=."
        )
    return Validation(config, _encoding_pipeline(config, accelerator), judge)


def _encoding_pipeline(config: TrainConfig, accelerator: Accelerator) -> STDRCPipeline:
    return STDRCPipeline.from_pretrained(
        config.base,
        # Everything after this is made of latents: the autoencoder runs in full precision.
        dtype={"vae": torch.float32, "default": DTYPES[config.precision]},
        transformer=None,
        audio_vae=None,
        vocoder=None,
    ).to(accelerator.device)


def _prepare(
    config: TrainConfig, accelerator: Accelerator, encoder: IdentityEncoder | None, say: _Teller
) -> TrainingData:
    """Encode on the main process; the others, which load no model, receive the list of files."""

    def encode() -> TrainingData:
        pipe = _encoding_pipeline(config, accelerator)
        return prepare(config, pipe, encoder=encoder, say=say)

    data = encode() if accelerator.is_main_process else None
    if accelerator.num_processes > 1:
        sent = broadcast_object_list([None if data is None else data.on_disk()])
        if data is None:
            data = sent[0].loaded(config.cache.in_memory_gb)
    assert data is not None
    return data


def load_identity_encoder(name: str | None, device: torch.device) -> IdentityEncoder:
    """The face encoder a configuration names.

    Args:
        name: one that a plug-in declares under `FACE_ENCODERS`, or the path of a TorchScript file
            that maps crops [N, 3, S, S] in -1..1 to embeddings [N, D], with an optional attribute
            `crop_size`.

    Raises:
        STDRCError: no encoder is named, or the file is missing or isn't TorchScript.
    """
    known = plugins.declared("FACE_ENCODERS")
    choices = " or ".join([*map(repr, known), "a TorchScript file"])
    if name is None:
        raise STDRCError(f"The identity objectives need identity.encoder: {choices}.")
    if name in known:
        return plugins.load(known[name])(device)
    path = Path(name)
    if not path.is_file():
        raise STDRCError(f"There is no identity encoder {path}; name {choices}.")
    try:
        module: nn.Module = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise STDRCError(f"{path} is not a TorchScript file ({reason}).") from None
    return module.eval()


class _Teller:
    """Prints a line on the main process."""

    def __init__(self, main: bool) -> None:
        self.main = main

    def __call__(self, text: str) -> None:
        if self.main:
            print(text, file=sys.stderr, flush=True)
