from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leaderboards import Leaderboard, LeaderboardError, ablation
from leaderboards.effects import every_effect
from leaderboards.tables import ablation_latex, effects_latex, latex_escape, select, to_latex
from leaderboards.tables.latex import FALLBACK
from leaderboards.tables.picture import write_picture
from leaderboards.tables.text import told_apart
from tests.leaderboards.runs import make_run
from tests.leaderboards.tables.conftest import nasty_board


def test_latex_escapes() -> None:
    assert latex_escape("a_b & 5%") == r"a\_b \& 5\%"
    assert latex_escape("\\") == r"\textbackslash{}"


def test_latex_marks_best_and_second(board: Leaderboard) -> None:
    """Bold says that the best is told from the second; otherwise both are underlined."""
    whole = [e.key for e, row in zip(board.entries, board.means) if not np.isnan(row).any()]
    board = board.only([whole[0], whole[-1]])
    text = to_latex(board)
    directed = [c for c in select(board).columns if board.columns[c].sign]
    told = [c for c in directed if told_apart(board, c)]
    assert 0 < len(told) < len(directed) == 4
    assert text.count(r"\textbf{") == len(told)
    assert text.count(r"\underline{") == len(told) + 2 * (len(directed) - len(told))
    assert r"\toprule" in text
    assert r"Identity $\uparrow$" in text
    assert re.search(r"\{\\scriptsize \[0\.\d+, 0\.\d+\]\}", text)


def test_published_means_are_told_apart_as_they_are() -> None:
    text = to_latex(nasty_board())
    assert r"\textbf{0.50} & \textbf{170}" in text


def _compiler() -> list[str]:
    if tectonic := shutil.which("tectonic"):
        return [tectonic]
    if pdflatex := shutil.which("pdflatex"):
        found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, text=True)
        if found.stdout.strip():
            return [pdflatex, "-interaction=nonstopmode", "-halt-on-error"]
        pytest.skip("pdflatex is installed, but its booktabs package is not")
    pytest.skip("neither pdflatex nor tectonic is installed")


def compiled(source: str, folder: Path, *packages: str, program: str = "pdflatex") -> str:
    """The log of a two-column paper that pastes `source`; fails where it does not compile."""
    compiler = _compiler()
    if program != "pdflatex":
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
        compiler = [program, *compiler[1:]]
    (folder / "table.tex").write_text(source, encoding="utf-8")
    use = "".join(f"\\usepackage{name}" for name in ("{booktabs}", *packages))
    (folder / "paper.tex").write_text(
        f"\\documentclass[twocolumn]{{article}}\\usepackage[a4paper,margin=2cm]{{geometry}}{use}"
        "\\begin{document}Text.\\input{table}\\end{document}"
    )
    done = subprocess.run(
        [*compiler, "paper.tex"], cwd=folder, capture_output=True, text=True, timeout=120,
        errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.parametrize("intervals", [True, False])
def test_latex_compiles_as_it_is(board: Leaderboard, tmp_path: Path, intervals: bool) -> None:
    tables = [
        to_latex(board, intervals),
        to_latex(board, intervals, baseline=board.entries[0].key),
        to_latex(nasty_board(), intervals),
        ablation_latex(ablation(board, "placement")),
    ]
    log = compiled("\n".join(tables), tmp_path, "[T1]{fontenc}")
    assert "Overfull" not in log  # fits a two-column page
    assert (tmp_path / "paper.pdf").stat().st_size > 5000


def test_latex_document_compiles_alone(board: Leaderboard, tmp_path: Path) -> None:
    compiler = _compiler()
    (tmp_path / "alone.tex").write_text(to_latex(board, document=True), encoding="utf-8")
    done = subprocess.run(
        [*compiler, "alone.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]


NAMES = [
    "[x] y", "*star", "α-model Ω", "你好 model", "日本語", "한국어", "Привет", "العربية",
    "naïve œuvre ß",
    "ħ ŋ Ħ ĸ ŉ ſ", "x^2_i", "a--b", '"quoted"', "`tick'", "100 % & more", "a\\b", "~", "e\u0301",
    "≤ ∈ ∞ ·…—", "①②", "ﬁne", "½ ² µ", "a\u200bb", "",
]  # fmt: skip


def named_board(names: list[str]) -> Leaderboard:
    names = [name or "(none)" for name in names]
    frame = pd.DataFrame({"team": names, "FID v": [k / 7 for k in range(len(names))]})
    return Leaderboard.from_table(frame)


@pytest.mark.parametrize(
    ("program", "packages"),
    [("pdflatex", ("[T1]{fontenc}",)), ("pdflatex", ()), ("xelatex", ("{fontspec}",)),
     ("xelatex", ())],
)  # fmt: skip
def test_any_unicode_name_compiles(program: str, packages: tuple[str, ...], tmp_path: Path) -> None:
    text = to_latex(named_board(NAMES))
    assert text.startswith(FALLBACK)
    compiled(text, tmp_path, *packages, program=program)


def test_every_letter_that_is_said_to_be_known_compiles(tmp_path: Path) -> None:
    letters = [
        chr(code) for code in range(0x21, 0x3100) if unicodedata.category(chr(code))[0] in "LNPS"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lines = [f"{latex_escape(x)} " for x in letters]
    compiled(FALLBACK + "\n".join(lines), tmp_path, "[T1]{fontenc}")


def test_emoji_are_dropped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"without U\+1F600"):
        assert latex_escape("fast 😀 model") == "fast  model"
    with pytest.warns(UserWarning, match=r"U\+1F468, U\+1F469"):
        latex_escape("👨‍👩")


def test_other_scripts_have_a_fallback() -> None:
    assert latex_escape("你好 x") == r"\otherscript{你好}{NiHao} x"
    assert latex_escape("α") == r"\ensuremath{\alpha}"


def test_a_table_that_fits_no_page_is_said(tmp_path: Path) -> None:
    frame = pd.DataFrame({"team": ["a", "b"], **{f"metric{k} ^": [0.123456, 7] for k in range(30)}})
    board = Leaderboard.from_table(frame)
    with pytest.warns(UserWarning, match="wider than a page; choose fewer with --columns"):
        to_latex(board, columns=["all"])


def test_long_names_go_over_several_lines(tmp_path: Path) -> None:
    names = [
        f"a model with a very long name that nobody would call short, number {k}" for k in "ab"
    ]
    frame = pd.DataFrame({"team": names, **{f"metric{k} ^": [0.1234, 0.9] for k in range(6)}})
    text = to_latex(Leaderboard.from_table(frame))
    assert "Overfull" not in compiled(text, tmp_path, "[T1]{fontenc}")


def test_effects_are_a_table_of_differences_from_each_baseline(tmp_path: Path) -> None:
    board = Leaderboard.from_run(make_run(tmp_path / "run"))
    found = every_effect(board)
    text = effects_latex(board, found, document=True)
    rows = [line for line in text.splitlines() if line.endswith((r"\\[2pt]", r"\\", r"\\*"))]
    axes = [row.split(" & ")[0] for row in rows if row[:1].isalpha()]
    assert axes == ["Axis", "placement", "text", "reference"]
    assert text.count(r"\midrule") == 3
    marginal = [effect for effect in found if effect.where == "marginal"]
    decided = [effect for effect in marginal if effect.decided]
    assert 0 < len(decided) < len(marginal)
    assert text.count(r"\textbf{") == len(decided)
    one = decided[0]
    assert f"{abs(one.difference):.{one.decimals}f}"[:-1] in text
    assert not re.search(r"\$[-+]\$0\.?0*[ }]", text)
    # The baseline's row is its mean over all points.
    base = [i for i, e in enumerate(board.entries) if e.axes["placement"] == one.baseline]
    column = board.columns.index(one.column)
    assert one.baseline_mean == pytest.approx(np.nanmean(board.common[column, base]))
    compiled(effects_latex(board, found), tmp_path, "[T1]{fontenc}")


def test_a_table_becomes_a_picture(tmp_path: Path) -> None:
    _compiler()
    board = named_board(["ours", "theirs"])
    paths = write_picture(to_latex(board, document=True), tmp_path / "table.tex")
    assert [path.name for path in paths] == ["table.tex", "table.pdf", "table.png"]
    with Image.open(paths[2]) as picture:
        grey = np.asarray(picture.convert("L"))
    assert min(grey.shape) > 100
    assert grey.min() < 60
    assert (grey[:5] == 255).all()
    assert (grey[:, :5] == 255).all()
    with pytest.raises(LeaderboardError, match=r"refused the table \(Undefined control sequence"):
        write_picture(
            r"\documentclass{article}\begin{document}\no\end{document}", tmp_path / "x.tex"
        )
    assert not (tmp_path / "x.tex").exists()


def test_without_latex_the_picture_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        LeaderboardError, match=r"needs LaTeX \(pdflatex or tectonic\), which is not"
    ):
        write_picture("", tmp_path / "table.tex")
