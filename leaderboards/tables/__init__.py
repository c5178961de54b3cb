"""A leaderboard as CSV, Parquet, JSON, Markdown, LaTeX and for the terminal."""

from leaderboards.tables.data import board_data, to_json
from leaderboards.tables.effects_latex import effects_latex
from leaderboards.tables.files import FORMATS, export
from leaderboards.tables.frame import ablation_frame, board_frame, earlier_frame, to_csv, to_parquet
from leaderboards.tables.latex import ablation_latex, latex_escape, to_latex
from leaderboards.tables.markdown import to_markdown
from leaderboards.tables.terminal import terminal_table
from leaderboards.tables.text import Selection, select

__all__ = [
    "FORMATS",
    "Selection",
    "ablation_frame",
    "ablation_latex",
    "board_data",
    "board_frame",
    "earlier_frame",
    "effects_latex",
    "export",
    "latex_escape",
    "select",
    "terminal_table",
    "to_csv",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_parquet",
]
