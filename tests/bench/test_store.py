"""The run folder: what may open it, and what it remembers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators import Settings
from bench.store import Store
from bench.sweep import Task
from leaderboards.runfolder import MetricRow

from .fakes import FakeScore


def task(key: str, cell: str = "c", seed: int = 0) -> Task:
    return Task(key, cell, Sample("s", "a prompt"), Settings(seed=seed), 8.0)


def plan(store: Store, tasks: list[Task], config: str = "mine") -> None:
    samples = {t.sample.id: t.sample for t in tasks}
    store.register_plan(config, [], list(samples.values()), tasks)


def test_the_schema_is_the_contract(tmp_path: Path) -> None:
    with Store(tmp_path / "run", write=True) as store:
        columns = {
            table: [row[1] for row in store.db.execute(f"PRAGMA table_info({table})")]
            for (table,) in store.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        assert store.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store.meta("schema_version") == "3"
    assert columns == {
        "meta": ["key", "value"],
        "cells": ["cell", "label", "axes", "mismatch"],
        "samples": ["sample", "identity", "prompt", "refs", "target", "timeline"],
        "videos": [
            *("video", "cell", "sample", "seed", "status", "path", "sha256", "reason", "seconds"),
            "stamp",
        ],
        "planned": ["video", "config"],
        "scores": [
            *("video", "metric", "backend", "version", "value", "status", "reason", "detail"),
            "inputs",
        ],
        "set_scores": [
            *("cell", "metric", "backend", "version", "value", "low", "high", "n"),
            *("status", "reason", "inputs", "influences"),
        ],
        "metrics": ["metric", "backend", "label", "higher_is_better", "low", "high"]
        + ["family", "level", "diagnostic", "needs"],
    }


def test_a_store_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        store.set_meta("schema_version", "4")
    for write in (True, False):
        with pytest.raises(BenchError, match=r"written by another version \(schema version 4"):
            Store(tmp_path, write=write)


def test_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is not a run folder"):
        Store(tmp_path)
    (tmp_path / "store.sqlite").write_text("nothing of the kind, and long enough to be read")
    for write in (True, False):
        with pytest.raises(BenchError, match="cannot be opened as a store"):
            Store(tmp_path, write=write)
    assert not Store.held(_closed(tmp_path / "other"))


def _closed(folder: Path) -> Store:
    store = Store(folder, write=True)
    store.close()
    return store


def test_it_is_read_while_it_is_written(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as writer, Store(tmp_path) as reader:
        assert reader.held()
        plan(writer, [task("v1"), task("v2")])
        assert reader.counts() == {"pending": 2}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.set_meta("a", "b")


def test_adopting_complete_files_and_missing_lost_ones(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        plan(store, [task("aa1"), task("bb2"), task("cc3")])
        for key in ("aa1", "zz9"):
            store.video_path(key).parent.mkdir(parents=True, exist_ok=True)
            store.video_path(key).write_bytes(b"whole")
        part = tmp_path / "videos" / "aa" / ".aa2.mp4.1.part"
        part.write_bytes(b"ha")
        store.finish("bb2", "hash", 1.0)
        store.add_scores([(FakeScore("bb2", "c", "m", "b", "1", 0.5), "i")])
        assert store.adopt() == 1
        assert store.statuses() == {"aa1": "done", "bb2": "pending", "cc3": "pending"}
        assert not part.exists()
        assert store.metric_counts() == []


def test_failed_scores_count_as_scored_and_absent_ones_do_not(tmp_path: Path) -> None:
    column = MetricRow("m", "b", "1", "M")
    with Store(tmp_path, write=True) as store:
        plan(store, [task("v1"), task("v2"), task("v3")])
        for key in ("v1", "v2", "v3"):
            store.finish(key, "hash", 1.0)
        assert store.scored(column) == {}
        store.add_scores(
            [
                (FakeScore("v1", "c", "m", "b", "1", 0.5), "i1"),
                (FakeScore("v2", "c", "m", "b", "1", None, status="absent"), "i2"),
                (FakeScore("v3", "c", "m", "b", "1", None, status="failed"), "i3"),
            ]
        )
        assert store.scored(column) == {"v1": ("1", "i1"), "v3": ("1", "i3")}
        assert store.failed_scores() == 1
        assert store.mean("c", "m") == 0.5
        assert store.mean("c", "other") is None


def test_a_sample_id_cannot_stand_for_two_prompts(tmp_path: Path) -> None:
    def one(key: str, prompt: str) -> list[Task]:
        return [Task(key, "c", Sample("s", prompt), Settings(), 8.0)]

    with Store(tmp_path, write=True) as store:
        plan(store, one("v1", "one"))
        plan(store, one("v1", "one"), config="other")
        with pytest.raises(BenchError, match=r"stands in .* with another prompt.*'mine'"):
            plan(store, one("v2", "two"), config="other")
        assert [v.video for v in store.videos()] == ["v1"]


def test_paths_inside_the_run_folder_are_relative(tmp_path: Path) -> None:
    inside, outside = tmp_path / "run" / "evalset" / "a.png", tmp_path / "b.png"
    with Store(tmp_path / "run", write=True) as store:
        store.register_plan("mine", [], [Sample("s", "p", (inside, outside), inside)], [])
        row = store.db.execute("SELECT refs, target FROM samples").fetchone()
    assert row == (f'["evalset/a.png", "{outside}"]', "evalset/a.png")


def test_merging_refuses_two_videos_under_one_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with Store(tmp_path / name, write=True) as store:
            plan(store, [task("v1")])
            store.video_path("v1").parent.mkdir(parents=True)
            store.video_path("v1").write_bytes(name.encode())
            store.finish("v1", name, 1.0)
    with Store(tmp_path / "all", write=True) as store:
        assert store.merge(tmp_path / "a") == 1
        assert store.merge(tmp_path / "a") == 0
        with pytest.raises(BenchError, match="different videos under the key v1"):
            store.merge(tmp_path / "b")
        assert store.video_path("v1").read_bytes() == b"a"
