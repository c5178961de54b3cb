"""What several commands have in common, said once: options, groups of subcommands, printing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

Device = Annotated[str, typer.Option(help="auto, cuda, cuda:1, cpu, mps, ...")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first N samples.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]

SAMPLES = (
    "What the videos were made from: an eval.json, a CSV or JSONL table (columns prompt, reference "
    "and, where there are, id, identity, target, video), or a folder of idNNN/ folders."
)
Match = Annotated[
    str,
    typer.Option(
        help="Which video is which sample's: a pattern of {sample}, {identity} and {index}, or "
        "'order' for the files in natural order. A table's column video goes before patterns."
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        "-m",
        help="Names, patterns such as 'temporal.*', families such as 'identity', or presets such "
        "as 'opens2v', with commas between them, or 'all'; default: those that can run here and "
        "fit what is given, each by one backend. 'stdrc doctor' lists them.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="A metric of your own, module:Class (repeat it for several)."),
]
NumFrames = Annotated[int, typer.Option(min=1, help="Frames sampled of each video.")]


def group(help: str, default: str = "") -> typer.Typer:
    """A group of subcommands; `default` is meant where an argument stands in a subcommand's place,
    so that `stdrc bench CONFIG` is `stdrc bench run CONFIG`."""

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if default and args and args[0] not in {*self.commands, "--help", "-h"}:
                args = [default, *args]
            return super().parse_args(ctx, args)

    return typer.Typer(
        cls=Group, add_completion=False, no_args_is_help=True, rich_markup_mode=None, help=help
    )


def plain_console(**options: Any) -> Any:
    """A `rich` console that colours nothing by itself; imported where a command prints."""
    from rich.console import Console

    return Console(highlight=False, **options)


def plain_table(*heads: str, left: Sequence[str], title: str | None = None, **column: Any) -> Any:
    """A `rich` table with a line below its heads; numbers are right-aligned, `left` is text."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right", **column)
    return table


def print_table(console: Any, table: Any) -> None:
    """Print a table that was made for the console's width."""
    # A number cut at the edge is another number; a line that is too long is only ugly.
    console.print(table, crop=False, overflow="ignore", soft_wrap=False)


def say(console: Any, *lines: object) -> None:
    """Print lines as they are: no markup, and a line that is too long is broken by the terminal."""
    for line in lines:
        console.print(str(line), markup=False, highlight=False, soft_wrap=True)
