"""The `stdrc` program: one subcommand a module in `bench/commands/`, each imported when it is called."""

from __future__ import annotations


def main() -> None:
    raise SystemExit("stdrc: no subcommand is installed yet")
