"""`stdrc weights`: the networks that metrics use, where they are, and fetching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.options import group, plain_table

if TYPE_CHECKING:
    from metrics.weights import Weights

app = group(
    "List the weights of metrics, and fetch them; nothing is fetched unasked.\n\n"
    "Example: stdrc weights list",
)


@app.command("list")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """One line per weights: whether they are here, their size, who uses them, their licence.

    Example: stdrc weights list --json
    """
    import json
    import textwrap

    from rich.console import Console
    from rich.markup import escape

    rows = survey()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    heads, text = ("here", "weights", "MB", "metrics", "licence"), ("here", "weights", "licence")
    table = plain_table(*heads, left=text, no_wrap=True)
    for row in rows:
        here = "[green]yes[/]" if row["path"] else "[red]no[/]"
        size = f"{row['megabytes']:.0f}" if row["megabytes"] else "?"
        licence = textwrap.shorten(row["license"], 29, placeholder=" ...")
        table.add_row(here, row["name"], size, str(len(row["metrics"])), escape(licence))
    Console().print(table)
    typer.echo("stdrc weights fetch NAME, or --for METRIC; --json has places and checksums")


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Names that 'list' shows.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--for", help="All that a metric, a pattern or a family needs; repeat."),
    ] = None,
) -> None:
    """Download weights, print their licence, and check them where a checksum is published.

    \b
    stdrc weights fetch dino.vitb16
    stdrc weights fetch --for fvd.i3d
    """
    from media.files import file_sha256
    from metrics.catalogue import choose, metric_info
    from metrics.errors import MetricsError
    from metrics.weights import WEIGHTS, find
    from metrics.weights import fetch as download

    needed = [w for name in choose(metric or []) for w in metric_info(name).weights]
    wanted = list(dict.fromkeys([*(names or []), *needed]))
    if not wanted:
        raise MetricsError("Name weights that 'stdrc weights list' shows, or give --for METRIC.")
    lacking = [name for name in wanted if find(name) is None]
    for name in wanted:
        row = WEIGHTS[name]
        if name in lacking:
            size = f"{row.megabytes:.0f} MB" if row.megabytes else "of unknown size"
            typer.echo(f"{name}: {size}, from {_source(row)}; licence: {row.license}")
            download(name)
        place = find(name)
        if place is not None and place.is_file():
            checked = " (as published)" if row.sha256 else " (no checksum is published)"
            typer.echo(f"{name}: {place}, SHA-256 {file_sha256(place)}{checked}")
        else:
            typer.echo(f"{name}: {place}")


def _source(row: Weights) -> str:
    return row.url or (f"https://huggingface.co/{row.hub}" if row.hub else row.enable)


def survey() -> list[dict[str, Any]]:
    """Every weights as plain data, those that ship with this package left out."""
    from metrics.catalogue import metrics_by_name
    from metrics.weights import WEIGHTS, find

    users: dict[str, list[str]] = {}
    for info in metrics_by_name().values():
        for name in info.weights:
            users.setdefault(name, []).append(info.name)
    return [
        {
            "name": row.name,
            "purpose": row.purpose,
            "path": str(place) if (place := find(row.name)) else "",
            "source": _source(row),
            "megabytes": row.megabytes,
            "sha256": row.sha256,
            "license": row.license,
            "enable": row.enable,
            "metrics": users.get(row.name, []),
        }
        for row in WEIGHTS.values()
        if "this package" not in row.purpose
    ]
