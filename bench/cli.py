"""The `stdrc` program: a subcommand is a module of `bench/commands/`, imported on demand.

What a user can fix is printed as one sentence and exits with 2; an interrupt exits with 130; only
a defect of ours shows a traceback.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from media.errors import UserError
from media.wording import did_you_mean

#: In the order of a first visit.
COMMANDS = (
    "generate",
    "bench",
    "score",
    "compare",
    "leaderboard",
    "submission",
    "prepare",
    "train",
    "weights",
    "configs",
    "doctor",
)


class LazyCommands(TyperGroup):
    """Lists the subcommands by name and imports a module only when its command is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise UserError(
                f"No such command {name!r}.{did_you_mean(name, COMMANDS)} "
                f"There are {', '.join(COMMANDS)}."
            )
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"bench.commands.{cmd_name}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False, rich_markup_mode=None)
            app.command(cmd_name)(module.command)
        command = get_command(app)
        command.name = cmd_name
        return command


def _expand_home(argument: str) -> str:
    """Let `--out=~/x` be what it means: a shell expands `~` only where it begins a word."""
    return re.sub(r"^([\w-]+=)?~(?=/|$)", lambda m: f"{m[1] or ''}{Path.home()}", argument)


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


@app.callback()
def root() -> None:
    """Identity-preserving text-to-video: generate, sweep, score, rank.

    \b
    A first look, without a GPU or a download:
      stdrc generate -p "a person turns left, smiling" -r face.png -o out.mp4
      stdrc bench quick
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the program; never returns."""
    # Long before any library looks at them: quiet, offline-friendly defaults a user can override.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    command = get_command(app)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        command.main(args=[_expand_home(one) for one in given], prog_name="stdrc")
    except UserError as error:
        print(f"stdrc: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        print("stdrc: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
