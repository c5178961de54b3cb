"""Tables and pictures of what is measured, into `miniature/EXPERIMENT.md` and `docs/images`."""

from __future__ import annotations

from pathlib import Path

from miniature.ablation.figures import draw
from miniature.ablation.kept import gather_curve
from miniature.ablation.plan import HERE, POINTS
from miniature.ablation.results import tables

EXPERIMENT = HERE.parent / "EXPERIMENT.md"
IMAGES = HERE.parents[1] / "docs" / "images"
BEGIN, END = "<!-- made by `python -m miniature.ablation report` -->", "<!-- end -->"


def report(work: Path, images: Path = IMAGES) -> None:
    """Replace what lies between the two marks of EXPERIMENT.md, and draw the pictures.

    Raises:
        ValueError: the marks are gone.
    """
    text = EXPERIMENT.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{EXPERIMENT} lacks {BEGIN!r} and {END!r}; the tables stand between.")
    for point in POINTS:
        gather_curve(work, point)
    made = "\n".join(tables(work / "results"))
    EXPERIMENT.write_text(f"{head}{BEGIN}\n{made}\n{END}{tail}", encoding="utf-8")
    draw(work, images)
    print(made)
