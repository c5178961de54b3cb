from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from leaderboards import Leaderboard, LeaderboardError, ablation
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
from tests.leaderboards.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("exports") / "run", failed=[(2, 0)])


@pytest.fixture(scope="module")
def board(run: Path) -> Leaderboard:
    return Leaderboard.from_run(run, on_mixed="blank")


NASTY = "50% of_a & b #1 {x} ~ ^ \\ <é> $|$ ±"


def nasty_board() -> Leaderboard:
    return Leaderboard.from_table(
        pd.DataFrame({"team": [NASTY, "plain"], "Face_Arc ^": [0.5, -0.25], "FID v": [170, 214]})
    )


def test_csv_reads_back(board: Leaderboard) -> None:
    frame = pd.read_csv(io.BytesIO(to_csv(board.to_frame())))
    assert len(frame) == 18
    again = Leaderboard.from_table(frame)
    assert [e.key for e in again.entries] == [e.key for e in board.entries]
    assert again.means[:, 0] == pytest.approx(board.means[:, 0], rel=1e-5)
    assert again.lows[:, 0] == pytest.approx(board.lows[:, 0], rel=1e-5)
    assert again.columns[0].backend == "dlib"
    assert again.column("motion.degree").higher_is_better is None
    assert again.entries[0].axes["placement"] == "tass"


def test_parquet_has_the_same_numbers(board: Leaderboard) -> None:
    a = pd.read_parquet(io.BytesIO(to_parquet(board.to_frame())))
    b = pd.read_csv(io.BytesIO(to_csv(board.to_frame())))
    assert a["identity.dlib ↑"].tolist() == b["identity.dlib ↑"].tolist()


def test_json_is_whole(board: Leaderboard) -> None:
    data = json.loads(to_json(board))
    assert len(data["entries"]) == 18
    assert data["columns"][0]["backend"] == "dlib"
    first = data["entries"][0]["cells"][0]
    assert first["low"] < first["mean"] < first["high"]
    assert any("sets of different size" in note for note in data["notes"])


@pytest.mark.parametrize("format", ["csv", "parquet", "json", "md", "tex"])
def test_same_bytes_every_time(run: Path, tmp_path: Path, format: str) -> None:
    paths = [
        export(Leaderboard.from_run(run, on_mixed="blank"), tmp_path / f"{n}.{format}")
        for n in (1, 2)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_unknown_format(board: Leaderboard, tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="in no format"):
        export(board, tmp_path / "table.docx")


def test_markdown() -> None:
    text = to_markdown(nasty_board())
    assert "$\\|$" in text
    assert "**0.500**" in text
    assert "*214.0*" in text


def test_latex_escapes() -> None:
    assert latex_escape("a_b & 5%") == r"a\_b \& 5\%"
    assert latex_escape("\\") == r"\textbackslash{}"


def test_latex_marks_best_and_second(board: Leaderboard) -> None:
    text = to_latex(board)
    assert text.count(r"\textbf{") == 4  # one a column that has a direction
    assert text.count(r"\underline{") == 4
    assert r"\toprule" in text
    assert r"Identity $\uparrow$" in text
    assert r"{\scriptsize$\pm$" in text


def _compiler() -> list[str]:
    if tectonic := shutil.which("tectonic"):
        return [tectonic]
    if pdflatex := shutil.which("pdflatex"):
        found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, text=True)
        if found.stdout.strip():
            return [pdflatex, "-interaction=nonstopmode", "-halt-on-error"]
        pytest.skip("pdflatex is installed, but its booktabs package is not")
    pytest.skip("neither pdflatex nor tectonic is installed")


@pytest.mark.parametrize("interval", ["pm", "range", "none"])
def test_latex_compiles_as_it_is(board: Leaderboard, tmp_path: Path, interval: str) -> None:
    compiler = _compiler()
    tables = [
        to_latex(board, interval),  # type: ignore[arg-type]
        to_latex(nasty_board(), interval),  # type: ignore[arg-type]
        ablation_latex(ablation(board, "placement")),
    ]
    for n, table in enumerate(tables):
        (tmp_path / f"table{n}.tex").write_text(table, encoding="utf-8")
    inputs = "".join(f"\\input{{table{n}}}" for n in range(len(tables)))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}"
        f"\\begin{{document}}{inputs}\\end{{document}}"
    )
    done = subprocess.run(
        [*compiler, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 5000


def test_latex_document_compiles_alone(board: Leaderboard, tmp_path: Path) -> None:
    compiler = _compiler()
    (tmp_path / "alone.tex").write_text(to_latex(board, document=True), encoding="utf-8")
    done = subprocess.run(
        [*compiler, "alone.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_ablation_frame_states_the_point(board: Leaderboard) -> None:
    frame = ablation_frame(ablation(board, "text", {"placement": "overlap"}))
    assert frame["text"].tolist() == ["1", "3", "5"]
    assert set(frame["at:placement"]) == {"overlap"}
    assert "identity.dlib ↑" in frame.columns


def test_terminal(board: Leaderboard) -> None:
    from rich.console import Console

    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(terminal_table(board))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Identity ↑" in text
    assert "dlib" in text
    assert "90 %" in text
    assert "sets of different size" in text
