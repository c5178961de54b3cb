"""The leaderboard and its ablations as booktabs tables that compile whatever entries are called."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from anyascii import anyascii
from pylatexenc.latexencode import UnicodeToLatexEncoder

from leaderboards.ablations import Ablation
from leaderboards.leaderboard import Leaderboard
from leaderboards.scores import Column, axis_text
from leaderboards.tables import text as t

#: Defined in front of a table that needs it. pdfTeX has no font for other scripts: it prints them
#: in Latin letters; XeTeX and LuaTeX print the original where fontspec is loaded and finds a font.
#: The encoding OT1, which a paper has without fontenc, lacks some letters of European languages.
FALLBACK = r"""\providecommand{\otherscript}[2]{\ifdefined\IfFontExistsTF
  \IfFontExistsTF{Noto Serif CJK SC}{{\fontspec{Noto Serif CJK SC}#1}}{#2}\else#2\fi}
\providecommand{\otherletter}[2]{{\edef\inuse{\encodingdefault}\def\old{OT1}%
  \ifx\inuse\old#2\else#1\fi}}
"""
_NOT_IN_OT1 = "«»ÐÞðþĄąĐđĘęĮįŊŋŲų‚„‹›"
_MATH = "∀∂∃∇∈∉∋∏∑−∓∗√∝∞∠∣∥∧∨∩∪∫∼≃≅≈≠≡≤≥≪≫"

#: What LaTeX would read as an argument or a ligature where a name has it.
_OWN = {
    "[": "{[}", "]": "{]}", "*": "{*}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': '{"}',
    "\n": " ", "\t": " ", "±": r"$\pm$", "×": r"$\times$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "–": r"\textendash{}", "—": r"\textemdash{}", "\u00a0": "~", "→": r"$\rightarrow$",
    "\u2011": "-",
}  # fmt: skip

#: Widths in points: a digit at \footnotesize and at \scriptsize, one column and both of a page.
_DIGIT, _SMALL, _COLUMN, _PAGE = 4.25, 3.98, 232.0, 480.0


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it is written, in any script.

    Latin letters, Greek and common symbols become commands of LaTeX itself; other scripts become
    \\otherscript{original}{in Latin letters}, which FALLBACK defines. Emoji and control characters
    are dropped with a warning.
    """
    out: list[str] = []
    other = ""
    dropped = []
    for character in unicodedata.normalize("NFC", text):
        known = _known(character)
        if known is None and unicodedata.category(character) in ("So", "Sk", "Cn", "Co", "Cs"):
            known = ""
            dropped.append(character)
        elif known is None and unicodedata.category(character) in ("Cc", "Cf", "Mn", "Me"):
            known = ""  # joiners, variation selectors, marks on letters that have gone
        if known is None:
            other += character
            continue
        out += [_other(other), known]
        other = ""
    if dropped:
        warnings.warn(
            f"{text!r} is printed without {', '.join(f'U+{ord(c):04X}' for c in dropped)}, which "
            "LaTeX has no glyph for.",
            stacklevel=2,
        )
    made = "".join([*out, _other(other)]).strip()
    return made.replace("--", "-{}-").replace("''", "'{}'")  # no ligatures


def _other(text: str) -> str:
    latin = "".join(_known(c) or "" for c in anyascii(text))
    return rf"\otherscript{{{text}}}{{{latin}}}" if text else ""


_ENCODER = UnicodeToLatexEncoder(
    unknown_char_policy="fail",
    replacement_latex_protection="braces-after-macro",
    unknown_char_warning=False,
)


@lru_cache(maxsize=4096)
def _known(character: str) -> str | None:
    """A character in commands that plain LaTeX has; None where it has none."""
    if character in _OWN:
        return _OWN[character]
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0:
        return None
    plain = code < 0x180 or 0x391 <= code < 0x3D0 or 0x2010 <= code < 0x2035 or character in _MATH
    if not plain or character == "ŉ":
        return None
    try:
        made = str(_ENCODER.unicode_to_latex(character))
    except ValueError:
        return None
    if character in _NOT_IN_OT1:
        return rf"\otherletter{{{made}}}{{{latex_escape(anyascii(character))}}}"
    return made


# --------------------------------------------------------------------------- tables


def to_latex(
    board: Leaderboard,
    intervals: bool = True,
    document: bool = False,
    columns: Sequence[str] | None = None,
    sort: str | None = None,
    top: int | None = None,
    baseline: str | None = None,
) -> str:
    """A booktabs table to paste: best bold where told from the second, second underlined.

    intervals: print [low, high] beside each mean. document: wrap it so that it compiles alone.
    columns, sort, top: as in `select`; six columns where not given, or five or four if those fit a
    page. baseline: an entry whose means are taken from the others'. Columns have short names with
    a key in the caption.

    The table is as wide as one column of a two-column page where that is enough, else as both; what
    is wider still has its intervals below the means, and a warning where that is not enough.
    """
    base = None if baseline is None else board.entries.index(board.entry(baseline))

    def lead_and_tail(chosen: t.Selection) -> tuple[list[Text], list[Text]]:
        places = [board.standings[i].text.replace("-", "–") for i in chosen.entries]
        names = [(head, "l", cells) for head, cells in t.named(board, chosen)]
        total = (board.total_name, "r", [board.total_text(i) for i in chosen.entries])
        return [("#", "r", places), *names], [total]

    for most in (6, 5, 4):
        chosen = t.select(board, columns, sort, top, most)
        layout = Layout(_metrics(board, chosen, intervals, base), *lead_and_tail(chosen), intervals)
        if columns is not None or layout.fits:
            break
    notes = t.caption_notes(board, chosen, intervals, base)
    caption = ["Leaderboard.", t.PLACES, *notes, board.scheme.rule]
    if any(board.entries[i].mismatch for i in chosen.entries):
        caption.append("*: the reference stands where the checkpoint was not trained to have it.")
    return layout.latex(" ".join(caption), "tab:leaderboard", document)


def ablation_latex(
    table: Ablation,
    intervals: bool = True,
    document: bool = False,
    columns: Sequence[str] | None = None,
) -> str:
    """An ablation as a booktabs table, rows in the order of the axis' values."""
    board = table.board
    names = [
        axis_text(board.entries[i].axes[table.axis]) + ("*" if board.entries[i].mismatch else "")
        for i in table.order
    ]
    for most in (6, 5, 4):
        chosen = replace(t.select(board, columns, most=most), entries=tuple(table.order))
        metrics = _metrics(board, chosen, intervals, None)
        layout = Layout(metrics, [(table.axis, "l", names)], [], intervals)
        if columns is not None or layout.fits:
            break
    caption = " ".join([table.caption, *t.caption_notes(board, chosen, intervals, None)])
    label = f"tab:ablation-{table.axis.replace('.', '-').replace('_', '-')}"
    return layout.latex(caption, label, document)


Text = tuple[str, str, list[str]]  # head, alignment, a cell for each row


@dataclass
class Metric:
    """A metric's head, and for each row mean and interval, with their widths in points."""

    head: str
    head_width: float
    means: list[str]
    mean_widths: list[float]
    ends: list[str]
    end_widths: list[float]

    @classmethod
    def of(cls, column: Column, short: str) -> Metric:
        """A column without rows yet."""
        arrow = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}[column.higher_is_better]
        head = short.split()
        widest = max(map(width_of, [*head[:-1], head[-1] + (" m" if arrow else "")]))
        return cls(_stack(short, "r", arrow), widest, [], [], [], [])

    def add(self, mean: str, wide: float, ends: str) -> None:
        """A row: a mean in LaTeX and its width, and an interval as text."""
        self.means.append(mean)
        self.mean_widths.append(wide)
        # In braces, as LaTeX would take a bracket after the end of a row for a distance.
        self.ends.append(rf"{{\scriptsize {signed(ends)}}}" if ends else "")
        self.end_widths.append(width_of(f" {ends}", _SMALL) if ends else 0.0)

    def width(self, stacked: bool) -> float:
        rows = zip(self.mean_widths, self.end_widths)
        wide = max((max(m, e) if stacked else m + e) for m, e in rows)
        return max(self.head_width, wide) + 8


class Layout:
    """A table's columns, and how they fit a page; a rule stands above the rows in `rules`."""

    def __init__(
        self,
        metrics: list[Metric],
        lead: list[Text],
        tail: list[Text],
        intervals: bool,
        rules: Collection[int] = (),
    ) -> None:
        self.lead, self.tail, self.metrics, self.rules = lead, tail, metrics, rules
        self.sides = [
            max(map(width_of, [*head.split(), *cells])) + 8 for head, _, cells in [*lead, *tail]
        ]
        self.stacked = intervals and self._total(stacked=False) > _PAGE
        self.longest = max(
            (n for n in range(len(lead)) if lead[n][1] == "l"), key=lambda n: self.sides[n]
        )
        # A long name goes over several lines.
        over = max(0.0, self._total(self.stacked) - _PAGE)
        self.room = self.sides[self.longest] - 8 - over if over else 0.0
        self.fits = not over or self.room >= 60

    def _total(self, stacked: bool) -> float:
        return sum(self.sides) + sum(metric.width(stacked) for metric in self.metrics)

    def latex(self, caption: str, label: str, document: bool) -> str:
        if not self.fits:
            warnings.warn(
                f"the table of {len(self.metrics)} columns is wider than a page; choose fewer with "
                "--columns, or leave the intervals out.",
                stacklevel=3,
            )
        sides = [
            (_stack(head, align), align, [latex_escape(cell) for cell in cells])
            for head, align, cells in [*self.lead, *self.tail]
        ]
        if self.room and self.fits:
            head, _, cells = sides[self.longest]
            sides[self.longest] = (head, f"p{{{self.room:.0f}pt}}", cells)
        before, after = sides[: len(self.lead)], sides[len(self.lead) :]
        kind = "table" if self._total(self.stacked) <= _COLUMN else "table*"
        align = [*(side[1] for side in before), *"r" * len(self.metrics), *(s[1] for s in after)]
        heads = [*(s[0] for s in before), *(m.head for m in self.metrics), *(s[0] for s in after)]
        lines = [
            "% Needs \\usepackage{booktabs}, and \\usepackage[T1]{fontenc} with pdfTeX.",
            rf"\begin{{{kind}}}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}",
            rf"\caption{{{latex_escape(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{@{{}}{''.join(align)}@{{}}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
        ]
        for k in range(len(self.lead[0][2])):
            lines += [r"\midrule"] if k in self.rules else []
            row = [cells[k] for _, _, cells in before]
            middle = [(metric.means[k], metric.ends[k]) for metric in self.metrics]
            if self.stacked:
                row += [mean for mean, _ in middle] + [cells[k] for _, _, cells in after]
                under = ["" for _ in before] + [ends for _, ends in middle] + ["" for _ in after]
                lines.append(" & ".join(row) + (r" \\*" if any(under) else r" \\[2pt]"))
                lines += [" & ".join(under) + r" \\[2pt]"] if any(under) else []
            else:
                row += [f"{mean} {ends}".rstrip() for mean, ends in middle]
                lines.append(" & ".join([*row, *(cells[k] for _, _, cells in after)]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", rf"\end{{{kind}}}", ""]
        body = "\n".join(lines)
        if r"\other" in body:
            body = FALLBACK + body
        if not document:
            return body
        return (
            "\\documentclass[twocolumn]{article}\n\\usepackage[a4paper,margin=2cm]{geometry}\n"
            "\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\pagestyle{empty}\n\\begin{document}\n"
            + body
            + "\\end{document}\n"
        )


def _metrics(
    board: Leaderboard, chosen: t.Selection, intervals: bool, baseline: int | None
) -> list[Metric]:
    return [_metric(board, chosen, k, intervals, baseline) for k in range(len(chosen.columns))]


def _metric(
    board: Leaderboard, chosen: t.Selection, k: int, intervals: bool, baseline: int | None
) -> Metric:
    c = chosen.columns[k]
    column, places = board.columns[c], t.decimals(board, c)
    told = t.told_apart(board, c)
    metric = Metric.of(column, chosen.short[k])
    for i in chosen.entries:
        cell = board.cell(i, c)
        plain = t.mean_text(cell, places)
        mean, wide = signed(plain), width_of(plain)
        if cell.best and told:
            mean = rf"\textbf{{{mean}}}"
        elif cell.best or cell.second:
            mean = rf"\underline{{{mean}}}"
        if baseline is not None and i != baseline:
            change = t.change_text(board, i, baseline, c, places)
            mean += rf" {{\scriptsize ({signed(change)})}}" if change else ""
            wide += width_of(f" ({change})", _SMALL)
        metric.add(mean, wide, t.interval_text(cell, places) if intervals else "")
    return metric


def _stack(head: str, align: str, arrow: str = "") -> str:
    """A head with its words below each other, so that no column is wider than its numbers."""
    words = [latex_escape(word) for word in head.split()]
    if len(words) < 2:
        return "".join(words) + arrow
    lines = r"\\".join(words) + arrow
    return rf"\shortstack[{align}]{{{lines}}}"


def width_of(text: str, digit: float = _DIGIT) -> float:
    """About how wide a text is in points, given the width of a digit."""
    return digit * sum(0.55 if x in " .,()[]il|" else 1.6 if x in "+-mMWw" else 1.1
                       if not x.isdigit() else 1.0 for x in text)  # fmt: skip


def signed(number: str) -> str:
    """A number with TeX's minus and plus; the en dash of a missing one."""
    return number.replace("-", "$-$").replace("+", "$+$").replace("–", "--")
