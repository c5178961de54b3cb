"""What TensorBoard and W&B are told, read back from what they keep on disk."""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import trackers
from bench.errors import BenchError
from bench.runner import Runner
from bench.store import Store

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report


def run(folder: Path, names: list[str], **changes: Any) -> Path:
    config = make_config(folder, trackers=names, prompts=["a red square", "please raise"])
    parts = {"generator": DrawnGenerator(), "judge": PixelJudge(), "report": no_report}
    Runner(config, console=Console(file=io.StringIO()), **{**parts, **changes}).run()  # type: ignore[arg-type]
    return config.folder


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of all event files, in order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_tensorboard_is_told_progress_and_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "PLAIN_EVERY", 0.0)  # every time it is asked
    folder = run(tmp_path, ["tensorboard"], limit=2)
    assert scalars(folder)["sweep/done"][-1] == (8, 4.0)
    run(tmp_path, ["tensorboard"])  # goes on
    told = scalars(folder)
    steps = [step for step, _ in told["sweep/done"]]
    assert (steps[-1], steps) == (16, sorted(steps))
    assert (told["sweep/done"][-1][1], told["sweep/failed"][-1][1]) == (8.0, 8.0)
    assert told["sweep/scored"][-1] == (16, 8.0)
    assert told["sweep/videos_per_second"][-1][1] > 0
    with Store(folder) as store:
        means = {
            f"{metric}/{cell.label}": store.mean(cell.cell, metric)
            for cell in store.cells()
            for metric in ("pixel.mean", "pixel.change", "set.spread")
        }
    assert set(means) == {tag for tag in told if not tag.startswith("sweep/")}
    assert {tag: told[tag][-1][1] for tag in means} == pytest.approx(means)
    assert any(step < 16 for step, _ in told["pixel.mean/tass text=1"]), "as soon as it is whole"


def test_nothing_is_written_where_none_is_named(tmp_path: Path) -> None:
    assert not (run(tmp_path, []) / "tensorboard").exists()


def test_a_tracker_that_is_not_installed_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"trackers: wandb is not installed; pip install wandb"):
        run(tmp_path, ["wandb"])


def log_records(data: bytes) -> Iterator[bytes]:
    """Records of a log in LevelDB's format, after W&B's header: pieces in blocks of 32 KiB."""
    place, record = 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = run(tmp_path, ["wandb"])
    (kept,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    told: dict[str, float] = {}
    for record in map(Record.FromString, log_records(kept.read_bytes())):
        for item in record.history.item:
            told[item.key or "/".join(item.nested_key)] = float(item.value_json)
    assert (told["sweep/done"], told["sweep/failed"], told["_step"]) == (8.0, 8.0, 16.0)
    with Store(folder) as store:
        (cell, *_) = store.cells()
        mean = store.mean(cell.cell, "set.spread")
        assert store.meta("wandb") in kept.name
    assert told[f"set.spread/{cell.label}"] == pytest.approx(mean)
