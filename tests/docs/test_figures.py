"""What docs/images shows is what the code does: the drawings' data, against the paper's example."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from docs.figures import (
    IMAGES,
    ORDERS,
    draw_positions,
    draw_streams,
    placement_drawing,
    stream_drawing,
)
from stdrc.guidance import ThreeStreamGuidance
from stdrc.positions import NAMED_PLACEMENTS


def test_the_papers_worked_example() -> None:
    """Figure 2b, h = 3 and w = 4: the reference stands at (t, 3..5, 4..7)."""
    drawing = placement_drawing("tass", frames=3, height=3, width=4)
    assert sorted(drawing.cells) == [(3, r, c) for r in range(3, 6) for c in range(4, 8)]
    assert [drawing.span(axis) for axis in range(3)] == [(3, 3), (3, 5), (4, 7)]


@pytest.mark.parametrize(
    ("name", "frame", "rows", "columns"),
    [
        ("overlap", 0, (0, 2), (0, 3)),
        ("strata", 3, (0, 2), (0, 3)),
        ("spatial", 0, (3, 5), (4, 7)),
        ("far", 7, (3, 5), (4, 7)),
    ],
)
def test_the_other_placements(
    name: str, frame: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    drawing = placement_drawing(name)
    assert [drawing.span(axis) for axis in range(3)] == [(frame, frame), rows, columns]


def test_every_named_placement_has_a_panel_and_both_are_drawn(tmp_path: Path) -> None:
    assert set(NAMED_PLACEMENTS) == {"tass", "overlap", "strata", "spatial", "far"}
    for draw in (draw_positions, draw_streams):
        with Image.open(draw(tmp_path / "drawing.png")) as drawn:
            assert drawn.width > drawn.height


weights = st.floats(-4, 8, allow_nan=False).map(lambda w: round(w, 2))


@pytest.mark.parametrize("order", ORDERS)
@given(text=weights, reference=weights)
def test_drawn_coefficients_are_the_guidances(order, text: float, reference: float) -> None:
    real = ThreeStreamGuidance(text, reference, order).coefficients()
    drawn = {part.stream: part.at(text, reference) for part in stream_drawing(order)}
    assert set(real) <= set(drawn)
    for stream, value in drawn.items():
        assert value == pytest.approx(real.get(stream, 0.0), abs=1e-9)


def test_formulas_as_the_page_prints_them() -> None:
    printed = {order: [part.formula for part in stream_drawing(order)] for order in ORDERS}
    assert printed == {
        "text_first": ["$(1 - w_{text})$", "$(w_{text} - w_{ref})$", "$w_{ref}$"],
        "reference_first": ["$(1 - w_{ref})$", "$(w_{ref} - w_{text})$", "$w_{text}$"],
        "joint": ["$(1 - w_{ref})$", "$(1 - w_{text})$", "$(w_{text} + w_{ref} - 1)$"],
    }


@pytest.mark.parametrize("name", ["positions.png", "streams.png"])
def test_the_shipped_drawings_are_small(name: str) -> None:
    assert 5_000 < (IMAGES / name).stat().st_size < 150_000
