"""Processes that share a run do each job once, and what a dead one had claimed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.claims import Claims
from bench.merging import merge_shards
from bench.runner import Runner
from bench.status import read_status
from bench.sweep import Job
from leaderboards.errors import LeaderboardError
from leaderboards.runfolder import RunFolder, on_network, parts

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report, table_of


def shared(config: Any, **changes: Any) -> Runner:
    parts = {"judge": PixelJudge(), "report": no_report, "console": Console(file=io.StringIO())}
    return Runner(config, share=True, **{"generator": DrawnGenerator(), **parts, **changes})


def test_two_processes_share_a_run(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    Runner(
        config.model_copy(update={"run": tmp_path / "whole"}),
        generator=DrawnGenerator(),
        judge=PixelJudge(),
        report=no_report,
        console=Console(file=io.StringIO()),
    ).run()
    second: list[int] = []

    class Interleaved(DrawnGenerator):
        """Half way, another process does what is left."""

        def draw(self, sample: Any, settings: Any) -> Any:
            if len(self.batches) == 8 and not second:
                second.append(0)
                other = shared(config)
                assert other.folder.name.endswith("-2")
                second[0] = other.run().generated
            return super().draw(sample, settings)

    first = shared(config, generator=Interleaved()).run()
    assert first.generated + second[0] == 16
    assert second[0] >= 7
    assert read_status(tmp_path / "run")["videos"] == {"done": 16, "failed": 0, "pending": 0}
    with pytest.raises(LeaderboardError, match=r"by 2 processes .* merge \S+run \S+run-"):
        RunFolder(tmp_path / "run")
    stand_ins = {"judge": PixelJudge(), "report": no_report, "generator": DrawnGenerator()}
    summary, remarks = merge_shards(tmp_path / "run", parts(tmp_path / "run"), **stand_ins)
    assert (summary.videos, summary.generated, remarks) == (16, 0, [])
    assert table_of(tmp_path / "run") == table_of(tmp_path / "whole")


def test_a_claim_is_taken_once_until_its_owner_is_gone(tmp_path: Path) -> None:
    mine, theirs = Claims(tmp_path, "mine"), Claims(tmp_path, "theirs")
    job = Job((), "", 0, "a job")
    assert mine.take(job)
    assert not theirs.take(job)
    assert Claims(tmp_path, "mine").take(job)  # started again
    (claim,) = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    os.utime(claim, (1, 1))
    assert theirs.take(job)


def test_what_is_settled_is_not_taken(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    job = next(Runner(config, generator=DrawnGenerator()).plan.jobs())
    mine = Claims(tmp_path / "claims", "mine")
    assert mine.take(job)
    mine.settle(job.tasks[0].key)
    assert not Claims(tmp_path / "claims", "mine").take(job)


@pytest.mark.parametrize(
    ("kind", "network"), [("ext4", False), ("nfs4", True), ("lustre", True), ("tmpfs", False)]
)
def test_network_file_systems_are_known(tmp_path: Path, kind: str, network: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} {kind} rw 0 0\n")
    assert on_network(tmp_path, mounts) == network
