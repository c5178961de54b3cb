"""Memory without numbers: LTX-2.3's published sizes, and a small network's true peaks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stdrc import Memory, STDRCError
from stdrc.footprint import (
    GIB,
    Footprint,
    VideoShape,
    _Peak,
    memory_table,
    recommendation,
)


def test_live_bytes_are_counted_and_views_and_inputs_are_not() -> None:
    x = torch.zeros(1000)
    with _Peak() as peak:
        y = x.view(10, 100)  # the input's own
        z = y + 1  # 4000
        w = z * 2  # 4000 more
        del z
        v = w[0] + 1  # 400, the 4000 before are gone
        assert peak.live == 4400
        assert peak.peak == 8000
        del v, w
    assert peak.live == 0


def test_weights_are_those_of_the_files(random_checkpoint: Path) -> None:
    footprint = Footprint.of(random_checkpoint, torch.float32)
    for part in ("transformer", "vae", "connectors"):
        saved = load_file(random_checkpoint / part / "diffusion_pytorch_model.safetensors")
        assert footprint.weights(part) == sum(t.nbytes for t in saved.values()), part
    text = load_file(random_checkpoint / "text_encoder" / "model.safetensors")
    assert footprint.weights("text_encoder") == pytest.approx(
        sum(t.nbytes for t in text.values()), rel=0.05
    )  # constants that are not saved


def test_ltx23_is_as_large_as_published_and_advice_follows() -> None:
    table = memory_table("ltx-2.3", VideoShape())
    weights = table["weights"]
    assert weights["transformer"] == pytest.approx(35.4, abs=0.1)
    assert weights["text_encoder"] == pytest.approx(22.7, abs=0.1)
    assert weights["connectors"] == pytest.approx(5.9, abs=0.1)
    assert sum(weights.values()) == pytest.approx(65.7, abs=0.2)
    peaks = [row["peak"] for row in table["settings"]]
    assert peaks == sorted(peaks, reverse=True)
    assert recommendation(table, 80 * GIB) == "A card of 80 GiB: set memory to {}."
    assert recommendation(table, 48 * GIB) == "A card of 48 GiB: set memory to {text: free}."
    assert "text: group" in recommendation(table, 24 * GIB)
    assert "holds none of these settings" in recommendation(table, 4 * GIB)
    assert "no CUDA card" in recommendation(table, None)


def test_decoding_takes_what_the_operators_say_and_tiles_take_less() -> None:
    footprint = Footprint.of("ltx-2.3")
    whole = footprint.decoding(VideoShape())
    assert whole / GIB == pytest.approx(3.2, abs=0.1)
    fits = footprint.fits(Memory(text="free"), VideoShape())
    assert max(fits.values()) / GIB == pytest.approx(40.6, abs=0.3)


def test_what_is_not_a_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(STDRCError, match="has no model_index"):
        Footprint.of(tmp_path)
    with pytest.raises(STDRCError, match=r"could not be fetched; give a folder, a hub id, or ltx"):
        Footprint.of("nobody/nothing")


def test_the_cards_benchmark_runs_in_each_memory_setting(
    random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import card

    video = VideoShape(32, 32, 5, 8.0)
    for memory in card.SETTINGS:
        row = card.measure(memory, video, 1, torch.device("cpu"), str(random_checkpoint), rate=1e9)
        assert row["seconds_a_pass"] >= 0
        assert row["share_of_matrix_rate"] > 0
    monkeypatch.setattr(sys, "argv", ["card.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"needs a CUDA card; benchmarks/memory_plan\.py counts"):
        card.main()
