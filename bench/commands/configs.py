"""`stdrc configs`: the configs that come with the package, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the shipped configs of `stdrc bench` and `stdrc train`; copy one to change it.",
)


@app.callback()
def listing(context: typer.Context) -> None:
    """List the shipped configs of `stdrc bench` and `stdrc train`; copy one to change it.

    Example: stdrc configs copy quick
    """
    if context.invoked_subcommand is not None:
        return
    from bench.named_configs import named_configs

    known = named_configs().values()
    width = max(len(f"{config.kind} {config.name}") for config in known)
    for config in known:
        typer.echo(f"stdrc {f'{config.kind} {config.name}':{width}}  {config.summary}")


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A config that 'stdrc configs' lists.")],
    to: Annotated[Path, typer.Argument(help="A new file, or a folder.")] = Path(),
) -> None:
    """Copy a shipped config, to change it.

    Example: stdrc configs copy quick mine.yaml
    """
    from bench.named_configs import copy_config

    typer.echo(str(copy_config(name, to)))
