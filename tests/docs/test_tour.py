"""examples/tour.ipynb runs from top to bottom, on the shipped miniature with fewer steps."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from .pages import ROOT

TOUR = ROOT / "examples" / "tour.ipynb"


def test_the_tour_is_stored_with_its_outputs() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 4
    assert not [output for output in shown if output.get("name") == "stderr"]
    assert not re.search(r'"/(home|root|tmp|usr|work)/', TOUR.read_text(encoding="utf-8"))
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Figures as pictures in the cells' outputs, as a reader's own session has them.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(TOUR, as_version=4)
    parameters = notebook.cells[1].source
    assert 'CHECKPOINT = "miniature"' in parameters
    notebook.cells[1].source, steps = re.subn(r"STEPS = \d+", "STEPS = 2", parameters)
    assert steps == 1
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = "".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    assert "streams a step: {'NONE': -2.0, 'TEXT': 1.5, 'BOTH': 1.5}" in printed
    assert "4 cells x 2 samples x 1 seed = 8 videos, 48 model passes" in printed
    assert "8 generated, 8 scored, 0 failed" in printed
    assert re.search(r"generated +temporal\.flicker +0\.\d{3}", printed)
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4
    assert (tmp_path / "runs/tour/leaderboard/index.html").is_file()
