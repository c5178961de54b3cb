"""The leaderboard as a GitHub table."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.leaderboard import Leaderboard
from leaderboards.tables import text as t


def to_markdown(
    board: Leaderboard,
    intervals: bool = True,
    columns: Sequence[str] | None = None,
    sort: str | None = None,
    top: int | None = None,
    baseline: str | None = None,
) -> str:
    """A GitHub table: the best bold where it is told from the second, the second in italics.

    columns, sort, top: as in `select`; up to six columns where not given, under short names with a
    key. baseline: an entry whose means are taken from the others', the differences in brackets.
    """
    chosen = t.select(board, columns, sort, top)
    base = None if baseline is None else board.entries.index(board.entry(baseline))
    names = t.named(board, chosen)
    head = ["#", *(_escape(name) for name, _ in names)]
    for c, short in zip(chosen.columns, chosen.short):
        head.append(f"{_escape(short)} {board.columns[c].arrow}".rstrip())
    head += [board.total_name, "N"]
    failed = any(board.counts[i]["failed"] or board.counts[i]["pending"] for i in chosen.entries)
    rates = board.face_rates
    faces = any(rates[i] < 0.995 for i in chosen.entries)
    head += (["Failed"] if failed else []) + (["Faces"] if faces else [])
    align = ["--:", *[":--"] * len(names), *["--:"] * (len(head) - 1 - len(names))]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(align)} |"]
    told = {c: t.told_apart(board, c) for c in chosen.columns}
    decimals = {c: t.decimals(board, c) for c in chosen.columns}
    for k, i in enumerate(chosen.entries):
        counts = board.counts[i]
        row = [board.standings[i].text, *(_escape(texts[k]) for _, texts in names)]
        for c in chosen.columns:
            cell, places = board.cell(i, c), decimals[c]
            mean = t.mean_text(cell, places)
            if cell.best and told[c]:
                mean = f"**{mean}**"
            elif cell.second or cell.best:
                mean = f"*{mean}*"
            change = "" if base in (None, i) else t.change_text(board, i, base, c, places)
            ends = t.interval_text(cell, places) if intervals else ""
            row.append(" ".join(part for part in (mean, f"({change})" if change else "", ends)
                                if part))  # fmt: skip
        row += [board.total_text(i), str(counts["done"])]
        row += [str(counts["failed"] + counts["pending"])] if failed else []
        row += [t.percent(rates[i])] if faces else []
        lines.append(f"| {' | '.join(row)} |")
    notes = [t.PLACES, *t.caption_notes(board, chosen, intervals, base, "Italic"), *board.notes]
    return "\n".join([*lines, "", *(f"- {_escape(note)}" for note in notes)]) + "\n"


def _escape(text: str) -> str:
    for character in "\\|*_`<[":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
