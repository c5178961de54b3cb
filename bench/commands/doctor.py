"""`stdrc doctor`: what this machine can do, and what each missing thing needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def command(
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            "-c",
            help="Report instead which memory settings this checkpoint needs: a folder, a hub id "
            "(of which only configs are fetched), a plug-in's, or ltx-2.3.",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="HEIGHTxWIDTHxFRAMES of the videos, for --checkpoint.")
    ] = "512x768x121",
    card: Annotated[
        float | None,
        typer.Option(help="GiB of the card, for --checkpoint; by default this machine's."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON instead.")
    ] = False,
) -> None:
    """Say what this machine can do and what is missing.

    Lists packages, devices, the shipped checkpoints, and every metric: whether it can run here and,
    where it can't, the one command or file that would enable it. Nothing is downloaded.

    \b
    stdrc doctor
    stdrc doctor --json | jq '.metrics[] | select(.ready | not)'
    stdrc doctor --checkpoint ltx-2.3 --size 512x768x121 --card 24
    """
    if checkpoint is not None:
        _say_memory(checkpoint, size, card, json_output)
        return
    report = examine()
    if json_output:
        import json

        typer.echo(json.dumps(report, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    machine = report["machine"]
    console.print(
        f"[bold]Machine[/]  Python {machine['python']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB; {machine['device']}",
        highlight=False,
    )
    packages = ", ".join(f"{name} {version}" for name, version in report["packages"].items())
    console.print(f"[bold]Packages[/] {packages}", highlight=False)
    for name, variants in report["checkpoints"].items():
        trained = f", with the LoRAs {', '.join(variants)}" if variants else ""
        console.print(f"[bold]Checkpoint[/] {name}{trained}", highlight=False)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("metric", no_wrap=True)
    table.add_column("what it needs")
    for row in sorted(report["metrics"], key=lambda row: not row["ready"]):
        mark = "[green]yes[/]" if row["ready"] else "[red]no[/]"
        table.add_row(mark, row["metric"], "" if row["ready"] else row["enable"] or row["reason"])
    console.print(table)
    ready = sum(row["ready"] for row in report["metrics"])
    console.print(f"\n{ready} of {len(report['metrics'])} metrics can run here.", highlight=False)


def _say_memory(checkpoint: str, size: str, card: float | None, as_json: bool) -> None:
    import json
    import re

    from bench.checkpoints import checkpoint_source
    from bench.errors import BenchError
    from stdrc.footprint import GIB, VideoShape, card_memory, memory_table, recommendation

    if not re.fullmatch(r"\d+x\d+x\d+", size):
        raise BenchError(f"--size is HEIGHTxWIDTHxFRAMES, for example 512x768x121, not {size}.")
    video = VideoShape(*map(int, size.split("x")))
    table = memory_table(checkpoint_source(checkpoint), video)
    here = card_memory() if card is None else card * GIB
    table["card_gib"] = None if here is None else here / GIB
    table["advice"] = recommendation(table, here)
    if as_json:
        typer.echo(json.dumps(table, indent=2))
        return
    weights = ", ".join(f"{name} {size:.1f}" for name, size in table["weights"].items())
    typer.echo(f"Weights in GiB: {weights}")
    typer.echo(f"Peak on the card in GiB, {table['video']}, with the card's own {table['own']:g}:")
    for row in table["settings"]:
        stages = ", ".join(f"{name} {peak:.1f}" for name, peak in row["stages"].items())
        typer.echo(f"{row['peak']:7.1f}  {row['memory']:<42} {stages}")
    typer.echo(table["advice"])


def examine() -> dict[str, Any]:
    """The whole report as plain data."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import psutil
    import torch

    from bench.checkpoints import shipped_variants
    from media.plugins import declared
    from metrics.catalogue import doctor

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        device = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    elif torch.backends.mps.is_available():
        device = "Apple GPU (mps)"
    else:
        device = "no GPU"
    packages = {}
    for name in ("stdrc-bench", "torch", "diffusers", "transformers", "peft", "ray"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "missing"
    return {
        "machine": {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "device": device,
        },
        "packages": packages,
        "checkpoints": {name: list(shipped_variants(name)) for name in declared("CHECKPOINTS")},
        "metrics": [
            {"metric": row.metric, "ready": row.runs, "reason": row.reason, "enable": row.enable}
            for row in doctor()
        ],
    }
