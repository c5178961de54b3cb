"""A leaderboard as CSV, Parquet, JSON, Markdown, LaTeX and for the terminal."""

from leaderboards.tables.formats import (
    ablation_frame,
    ablation_latex,
    export,
    latex_escape,
    terminal_table,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_parquet,
)

__all__ = [
    "ablation_frame",
    "ablation_latex",
    "export",
    "latex_escape",
    "terminal_table",
    "to_csv",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_parquet",
]
