"""Runs on a drawn generator: results, restarts, failures, shards."""

from __future__ import annotations

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.generators import Remarked
from bench.local_engine import LocalEngine
from bench.merging import merge_shards
from bench.runner import Runner
from bench.store import Store
from bench.verify import verify
from leaderboards.report import load

from .fakes import DrawnGenerator, PixelJudge, make_config, no_report, table_of


def runner(config: Any, **changes: Any) -> Runner:
    parts: dict[str, Any] = {
        "generator": None if "engine" in changes else config.generator.make(),
        "judge": PixelJudge(),
        "report": no_report,
        "console": Console(file=io.StringIO()),
    }
    return Runner(config, **{**parts, **changes})


def test_a_run_ends_with_every_video_scored(tmp_path: Path) -> None:
    summary = runner(make_config(tmp_path)).run()
    assert (summary.cells, summary.videos, summary.generated) == (4, 16, 16)
    assert summary.scored == 16
    with Store(tmp_path / "run") as store:
        assert store.counts() == {"done": 16}
        assert len(store.metric_counts()) == 2
        assert all((tmp_path / "run" / v.path).is_file() for v in store.videos() if v.path)
        assert [c.mismatch for c, _ in store.cell_counts()] == [False, False, True, True]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["config"]["name"] == "small"
    assert manifest["seeds"] == [0]
    assert manifest["checkpoints"] == {"drawn": "1"}


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    runner(config).run()
    before = table_of(tmp_path / "run")
    generator, judge = DrawnGenerator(), PixelJudge()
    reports: list[Path] = []
    again = runner(config, generator=generator, judge=judge, report=reports.append).run()
    assert (again.generated, again.scored, generator.batches, judge.scored) == (0, 0, [], [])
    assert reports == []
    assert table_of(tmp_path / "run") == before
    manifest = tmp_path / "run" / "manifest.json"
    for lost in ("", "[]", '{"config"'):
        manifest.write_text(lost)
        (problem,) = verify(tmp_path / "run").problems
        assert problem.endswith("run the config again.")
        assert runner(config, report=reports.append).run().generated == 0
        assert verify(tmp_path / "run").problems == ()
    assert reports == []


def test_overlapping_sweeps_share_videos(tmp_path: Path) -> None:
    runner(make_config(tmp_path)).run()
    wider = make_config(tmp_path, sweep={"grid": {"placement": ["tass"], "text": [1.0, 3.0, 5.0]}})
    summary = runner(wider).run()
    assert (summary.videos, summary.generated, summary.scored) == (12, 4, 4)


def test_a_changed_metric_scores_again_without_generating(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    runner(config).run()
    judge = PixelJudge(version="2")
    summary = runner(config, judge=judge).run()
    assert (summary.generated, summary.scored, len(judge.scored)) == (0, 16, 16)


@pytest.mark.parametrize("size", [2, 3, 16])
def test_batch_size_changes_no_video(tmp_path: Path, size: int) -> None:
    runner(make_config(tmp_path / "one")).run()
    generator = DrawnGenerator()
    config = make_config(tmp_path / "many", engine={"batch_size": size})
    runner(config, generator=generator).run()
    assert max(generator.batches) == min(size, 4)
    assert table_of(tmp_path / "one" / "run") == table_of(tmp_path / "many" / "run")


def test_stages_are_visited_once(tmp_path: Path) -> None:
    class Watched(DrawnGenerator):
        def generate(self, samples: Any, settings: Any) -> Any:
            visited.append(settings.augmentation)
            return super().generate(samples, settings)

    visited: list[str] = []
    sweep = {"grid": {"text": [1.0, 2.0], "augmentation": ["on", "off"]}}
    runner(make_config(tmp_path, sweep=sweep), generator=Watched()).run()
    assert visited == ["on"] * 8 + ["off"] * 8


@pytest.mark.parametrize("size", [1, 4])
def test_bad_samples_fail_alone(tmp_path: Path, size: int) -> None:
    prompts = ["a red square", "please raise", "a nan square"]
    config = make_config(tmp_path, prompts=prompts, engine={"batch_size": size})
    judge = PixelJudge()
    summary = runner(config, judge=judge).run()
    assert (summary.generated, summary.failed, summary.scored) == (8, 16, 8)
    with Store(tmp_path / "run") as store:
        reasons = {sample: reason for _, sample, reason in store.failures(100)}
        assert reasons["p0-1"] == "RuntimeError: the model fell over"
        assert "NaN" in reasons["p0-2"]
        assert not store.db.execute(
            "SELECT 1 FROM scores s JOIN videos v ON v.video = s.video WHERE v.status != 'done'"
        ).fetchone()
    again = runner(config).run()
    assert (again.generated, again.failed) == (0, 16)
    generator = DrawnGenerator()
    runner(config, generator=generator).run(retry_failed=True)
    assert sum(generator.batches) >= 16


def test_a_full_memory_halves_the_batch_and_remembers(tmp_path: Path) -> None:
    class Small(DrawnGenerator):
        def generate(self, samples: Any, settings: Any) -> Any:
            if len(samples) > 2:
                tried.append(len(samples))
                raise MemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return super().generate(samples, settings)

    tried: list[int] = []
    config = make_config(tmp_path, engine={"batch_size": 4})
    summary = runner(config, generator=Small()).run()
    assert (summary.generated, summary.failed) == (16, 0)
    assert tried == [4]


def test_a_video_too_large_for_memory_fails_alone(tmp_path: Path) -> None:
    class Tiny(DrawnGenerator):
        def draw(self, sample: Any, settings: Any) -> Any:
            if sample.id == "p0-0":
                raise RuntimeError("CUDA out of memory")
            return super().draw(sample, settings)

    config = make_config(tmp_path, engine={"batch_size": 4})
    summary = runner(config, generator=Tiny()).run()
    assert (summary.generated, summary.failed) == (12, 4)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, r"disk of .* is full; free some space"),
        (errno.EROFS, r"disk of .* cannot be written to \(.*\), as when a quota"),
    ],
)
def test_a_full_or_read_only_disk_stops_with_a_sentence_and_goes_on_later(
    code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import media.files

    written: list[Path] = []
    whole = media.files.write_atomic

    def full(path: Path, data: bytes) -> None:
        if len(written) == 5:
            raise OSError(code, os.strerror(code), str(path))
        written.append(path)
        whole(path, data)

    config = make_config(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(media.files, "write_atomic", full)
        with pytest.raises(BenchError, match=words):
            runner(config).run()
    with Store(tmp_path / "run") as store:
        assert store.counts() == {"done": 5, "pending": 11}
    assert runner(config).run().generated == 11


def test_a_judge_that_breaks_loses_no_video(tmp_path: Path) -> None:
    class Broken(PixelJudge):
        def score(self, items: Any, metrics: Any) -> Any:
            next(iter(items))
            raise RuntimeError("no weights")
            yield

    config = make_config(tmp_path)
    with pytest.raises(RuntimeError, match="no weights"):
        runner(config, judge=Broken()).run()
    with Store(tmp_path / "run") as store:
        assert store.counts() == {"done": 16}
    assert runner(config).run().scored == 16


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    class Stopped(LocalEngine):
        def run(self, jobs: Any) -> Any:
            for number, result in enumerate(r for r in super().run(jobs) if r is not None):
                if number == 3:
                    raise KeyboardInterrupt
                yield result

    config = make_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        runner(config, engine=Stopped(DrawnGenerator(), crf=12)).run()
    with Store(tmp_path / "run") as store:
        assert store.counts()["done"] == 3
    assert runner(config).run().generated == 13


def test_a_kill_between_a_file_and_its_row_loses_no_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Remarking(DrawnGenerator):
        def generate(self, samples: Any, settings: Any) -> Any:
            made = super().generate(samples, settings)
            return [Remarked(v, f"of {s.prompt}") for v, s in zip(made, samples)]

    def killed(self: Store, *_: Any) -> None:
        raise KeyboardInterrupt

    calm, rough = make_config(tmp_path / "calm"), make_config(tmp_path / "rough")
    runner(calm, generator=Remarking()).run()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            runner(rough, generator=Remarking()).run()
    again = runner(rough, generator=Remarking()).run()
    assert (again.adopted, again.generated) == (1, 15)
    assert table_of(rough.folder) == table_of(calm.folder)


def test_a_lost_file_is_made_again(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    runner(config).run()
    before = table_of(tmp_path / "run")
    next((tmp_path / "run" / "videos").glob("??/*.mp4")).unlink()
    assert runner(config).run().generated == 1
    assert table_of(tmp_path / "run") == before


def test_shards_merge_into_the_whole(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    runner(config).run()
    whole = table_of(tmp_path / "run")
    split = config.model_copy(update={"run": tmp_path / "split"})
    made = [runner(split, shard=(i, 3)).run() for i in (1, 2, 3)]
    assert sum(s.generated for s in made) == 16
    shards = [tmp_path / f"split-shard-{i}-of-3" for i in (1, 2, 3)]
    stand_ins = {"judge": PixelJudge(), "report": no_report, "generator": DrawnGenerator()}
    with pytest.raises(BenchError, match="lacks 6 of 16 videos; finish the shards"):
        merge_shards(tmp_path / "split", shards[:2], **stand_ins)
    summary, remarks = merge_shards(tmp_path / "split", shards, **stand_ins)
    assert remarks == []
    assert (summary.generated, summary.scored) == (0, 0)
    assert table_of(tmp_path / "split") == whole


def test_shards_of_different_runs_do_not_merge(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    other = make_config(tmp_path, sweep={"seeds": [7]})
    runner(config.model_copy(update={"run": tmp_path / "a"})).run()
    runner(other.model_copy(update={"run": tmp_path / "b"})).run()
    with pytest.raises(BenchError, match="not a shard of the same run"):
        merge_shards(tmp_path / "c", [tmp_path / "a", tmp_path / "b"])


def test_plain_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.progress.PLAIN_EVERY", 0.0)
    out = io.StringIO()
    runner(make_config(tmp_path), console=Console(file=out, width=200)).run()
    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert any("/16 videos" in line and "left" in line for line in lines)


def test_a_live_table_in_a_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    runner(make_config(tmp_path), console=console).run()
    assert "pixel.mean" in out.getvalue()
    assert "overlap text=3 *" in out.getvalue()


def test_calibration_times_a_pass(tmp_path: Path) -> None:
    config = make_config(tmp_path, sweep={"base": {"steps": 4}})
    generator = DrawnGenerator(delay=0.02)
    trial = runner(config, generator=generator).calibrate()
    assert trial is not None
    assert 0.005 < trial.seconds < 0.2
    assert 500 < trial.bytes < 50_000


def test_metrics_that_cannot_run_are_not_counted_with_columns_without_a_metric(
    tmp_path: Path,
) -> None:
    out = io.StringIO()
    absent = dict.fromkeys(("text.clip", "opens2v GmeScore", "opens2v NaturalScore"), "why")
    console = Console(file=out, width=200)
    runner(make_config(tmp_path), judge=PixelJudge(absent=absent), console=console).run()
    assert "metrics that cannot run here: 1; 'stdrc doctor' says why" in out.getvalue()
    assert "columns that no metric fills: opens2v GmeScore, opens2v NaturalScore" in out.getvalue()


@pytest.mark.parametrize(
    "rank", [{"by": "families"}, {"by": "score", "weights": {"pixel.mean": 1.0}}]
)
def test_a_metric_out_of_its_range_does_not_break_the_report(
    tmp_path: Path, rank: dict[str, Any]
) -> None:
    class Narrow(PixelJudge):
        """Says 0..1 of what is 0..255."""

        @property
        def columns(self) -> list[Any]:
            return [replace(column, low=0, high=1) for column in super().columns]

    config = make_config(tmp_path, rank=rank)
    summary = runner(config, judge=Narrow(), report=None).run()
    page = config.folder / "leaderboard" / "index.html"
    assert page.stat().st_size > 10_000
    board = load(config.folder)
    np.testing.assert_array_equal(summary.board.means, board.means)
    column = [column.metric for column in board.columns].index("pixel.mean")
    found = {entry.key: board.means[i, column] for i, entry in enumerate(board.entries)}
    with Store(config.folder) as store:
        means = {c.cell: store.mean(c.cell, "pixel.mean") for c in store.cells()}
    assert found == pytest.approx(means)
    known = np.isfinite(board.lows)
    assert (board.lows <= board.means)[known].all()
    assert (board.means <= board.highs)[known].all()
    told = "outside of its stated range, 0 to 1; the range is taken to reach"
    assert told in page.read_text()
