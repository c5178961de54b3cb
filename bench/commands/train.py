"""`stdrc train`: train ST-DRC from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    config: Annotated[
        str, typer.Argument(help="A training file, or a name that 'stdrc configs' lists.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key: --set optimizer.lr=1e-4; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest complete checkpoint.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and encode the data, load the model, and stop.")
    ] = False,
) -> None:
    """Train ST-DRC: a LoRA or a whole checkpoint, with the reference in context.

    Runs on the CPU or one GPU; on several through `accelerate launch`.

    Example: stdrc train ltx23-lora --set data=[clips] --dry-run
    """
    from bench.face_encoders import NAMES, face_encoder
    from bench.named_configs import find_config
    from stdrc.training import TrainConfig, train

    file, folder = find_config(config, "train")
    settings = TrainConfig.load(file, set_ or [], folder=folder)
    encoder = None
    if settings.identity.encoder in NAMES:
        from stdrc.loading import pick_device

        encoder = face_encoder(settings.identity.encoder, pick_device())
    judge = None
    if settings.validation is not None:
        from bench.validation import suite_judge

        judge = suite_judge(settings.validation.metrics, settings.output / "validation" / "cache")
    result = train(settings, identity_encoder=encoder, judge=judge, resume=resume, dry_run=dry_run)
    if isinstance(result, Path):
        typer.echo(str(result))
