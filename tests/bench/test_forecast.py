"""What a plan says of disk, time and card follows from what was seen, else from pixels."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.axes import Settings
from bench.forecast import Trial, card_line, disk_line, time_line
from bench.runner import Runner
from bench.store import Store
from stdrc.footprint import GIB
from stdrc.memory import Memory

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report


def plan_of(**settings: Any) -> Any:
    return SimpleNamespace(cells=[SimpleNamespace(settings=Settings(seed=0, **settings))])


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


def test_disk_of_sizes_seen_of_a_trial_and_of_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 3 * 2**20)
    line: Callable[..., str] = lambda *args: disk_line(*args)  # noqa: E731
    plan, folder, trial = plan_of(height=512, width=768, num_frames=121), tmp_path / "none", None
    assert line(plan, 4, folder, 12, 2**19, trial) == (
        "disk: 2.0 MiB for 4 videos, 512.0 KiB per video (as finished ones); 3.0 MiB are free"
    )
    trial = Trial(1.0, 2**20)
    said = line(plan, 4, folder, 12, None, trial)
    assert said.startswith("disk: 4.0 MiB for 4 videos, 1.0 MiB per video (as a trial of two steps")
    assert said.endswith("; 3.0 MiB are free, too little")
    said = line(plan, 1, folder, 12, None, None)  # 512 * 768 * 121 * 0.3 / 8 bytes
    assert said.startswith("disk: 1.7 MiB for 1 video, 1.7 MiB per video (estimated from pixels")
    assert "871.2 KiB per video" in line(plan, 1, folder, 18, None, None)
    assert line(plan_of(), 1, folder, 12, None, None).startswith("disk: not known before")


def test_time_of_seconds_seen_or_of_a_trial() -> None:
    assert time_line(10, 0, 2, 60.0, None) == "about 5:00 on 2 workers, at 60.00 s per video so far"
    trial = Trial(0.5, 1)
    said = time_line(10, 240, 1, None, trial)
    assert said == "500 ms per model pass here: about 2:00 to generate, on one worker"
    assert time_line(10, 240, 1, None, None) is None


@pytest.mark.parametrize(
    ("memory", "card", "words"),
    [
        (Memory(), None, r"card: 7\d\.\d GiB, most in \w+, at 512 x 768 x 121; there is no CUDA"),
        (Memory(), 80, r"card: 7\d\.\d GiB, .* it fits this card of 80 GiB$"),
        (Memory(), 24, r"it does not fit\. A card of 24 GiB: set memory to \{text: group, offload"),
        (Memory.low(), 24, r"card: \d\.\d GiB, .* it fits this card of 24 GiB$"),
    ],
)
def test_card_of_an_ltx2_checkpoint(memory: Memory, card: int | None, words: str) -> None:
    from bench.generators.stdrc import STDRCConfig

    config = STDRCConfig(kind="stdrc", checkpoint="ltx-2.3", memory=memory)
    plan = plan_of(height=512, width=768, num_frames=121, frame_rate=24.0)
    said = card_line(plan, config, None if card is None else card * GIB)
    assert re.search(words, said), said


def test_card_of_what_is_not_known(tmp_path: Path) -> None:
    from bench.generators.stdrc import STDRCConfig

    plan = plan_of(height=512, width=768, num_frames=121)
    config = STDRCConfig(kind="stdrc", checkpoint=str(tmp_path))
    assert card_line(plan, config, None).startswith(f"card: not known ({tmp_path} is not a check")
    section = make_config(tmp_path).generator
    assert card_line(plan, section, None) == "card: not known of a generator of kind custom"


def test_a_run_that_has_begun_is_planned_from_what_it_made(tmp_path: Path) -> None:
    sweep = {"base": {"steps": 4}, "grid": {"placement": ["tass", "overlap"], "text": [1.0, 3.0]}}
    config = make_config(tmp_path, sweep=sweep)

    def runner(**changes: Any) -> Runner:
        parts = {"generator": DrawnGenerator(), "judge": PixelJudge(), "report": no_report}
        return Runner(config, **{**parts, **changes})

    time_, disk, _ = runner().forecast(16)
    assert "ms per model pass here" in time_
    assert "(as a trial of two steps)" in disk
    runner(limit=1).run()
    with Store(config.folder) as store:
        whole = runner()
        lines, left = whole.describe_plan(store)
        disk, _ = whole.forecast(left, store)
        sizes = [path.stat().st_size for path in config.folder.glob("videos/??/*.mp4")]
        assert (left, len(sizes), store.mean_bytes()) == (12, 4, sum(sizes) / 4)
    assert re.search(r"on one worker, at 0\.\d\d s per video so far$", lines[-1])
    assert "for 12 videos" in disk
    assert "(as finished ones)" in disk
