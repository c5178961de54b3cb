"""The run folder: what may open it, and what it remembers."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import leaderboards.runfolder
from bench.errors import BenchError
from bench.evalsets import Sample
from bench.generators import Settings
from bench.merging import merge
from bench.store import Store
from bench.sweep import Task
from bench.verify import Verdict, verify
from leaderboards.runfolder import MetricRow, create

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
        assert store.meta("schema_version") == "6"
    assert columns == {
        "meta": ["key", "value"],
        "cells": ["cell", "label", "axes", "mismatch"],
        "samples": ["sample", "identity", "prompt", "refs", "target", "timeline", "shown"],
        "videos": [
            *("video", "cell", "sample", "seed", "status", "path", "sha256", "reason", "seconds"),
            *("stamp", "environment"),
        ],
        "environments": ["environment", "what"],
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
        + ["family", "level", "diagnostic", "needs", "anchors"],
    }


def test_a_store_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        store.set_meta("schema_version", "7")
    for write in (True, False):
        with pytest.raises(BenchError, match=r"written by another version \(schema version 7"):
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
        keys = ("v1", "v2", "v3", "v4")
        plan(store, [task(key) for key in keys])
        for key in keys:
            store.finish(key, "hash", 1.0)
        assert store.scored(column) == {}
        store.add_scores(
            [
                (FakeScore("v1", "c", "m", "b", "1", 0.5), "i1"),
                (FakeScore("v2", "c", "m", "b", "1", None, status="absent"), "i2"),
                (FakeScore("v3", "c", "m", "b", "1", None, status="failed"), "i3"),
                (FakeScore("v4", "c", "m", "b", "1", None, status="inapplicable"), "i4"),
            ]
        )
        scored = {"v1": ("1", "i1"), "v3": ("1", "i3"), "v4": ("1", "i4")}
        assert store.scored(column) == scored
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
            store.finish("v1", hashlib.sha256(name.encode()).hexdigest(), 1.0)
    with Store(tmp_path / "all", write=True) as store:
        assert merge(store, tmp_path / "a") == (1, [])
        assert merge(store, tmp_path / "a") == (0, [])
        with pytest.raises(BenchError, match="different videos under the key v1"):
            merge(store, tmp_path / "b")
        assert store.video_path("v1").read_bytes() == b"a"
        assert merge(store, tmp_path / "b", tmp_path / "b") == (1, [])
        assert store.video_path("v1").read_bytes() == b"b"
        assert store.videos()[0].sha256 == hashlib.sha256(b"b").hexdigest()


def test_merging_takes_no_flipped_bit_and_no_missing_file(tmp_path: Path) -> None:
    keys = ["v1", "v2", "v3"]
    with Store(tmp_path / "a", write=True) as store:
        plan(store, [task(key) for key in keys])
        for key in keys:
            store.video_path(key).parent.mkdir(parents=True, exist_ok=True)
            store.video_path(key).write_bytes(key.encode())
            sha256 = hashlib.sha256(key.encode()).hexdigest()
            store.prepare(key, sha256, 1.0, "", {"device": ["x"]})
            store.finish(key, sha256, 1.0)
        store.video_path("v1").write_bytes(b"w1")
        store.video_path("v2").unlink()
    with Store(tmp_path / "all", write=True) as store:
        came, remarks = merge(store, tmp_path / "a")
        assert came == 1
        assert "v1.mp4 is not what was written there" in remarks[0]
        assert "v2.mp4 is missing" in remarks[1]
        assert store.statuses() == {"v1": "pending", "v2": "pending", "v3": "done"}
        assert not store.video_path("v1").exists()
        ((environment, what),) = store.environments().items()
        assert what == {"device": ["x"]}
        assert store.db.execute("SELECT environment FROM videos WHERE video = 'v3'").fetchone() == (
            environment,
        )


def test_verify_finds_what_changed_and_repairs_it(tmp_path: Path) -> None:
    keys = ["v1", "v2", "v3", "v4"]
    with Store(tmp_path, write=True) as store:
        plan(store, [task(key) for key in keys])
        store.write_manifest({})
        for key in keys:
            store.video_path(key).parent.mkdir(parents=True, exist_ok=True)
            store.video_path(key).write_bytes(key.encode())
            store.finish(key, hashlib.sha256(key.encode()).hexdigest(), 1.0)
    assert verify(tmp_path) == Verdict(4, {}, ())
    path = {key: tmp_path / "videos" / key / f"{key}.mp4" for key in keys}
    times = path["v1"].stat()
    path["v1"].write_bytes(b"w1")
    os.utime(path["v1"], ns=(times.st_atime_ns, times.st_mtime_ns))  # a flipped bit changes no time
    path["v2"].unlink()
    path["v3"].write_bytes(b"longer")
    (tmp_path / "videos" / "v1" / "v9.mp4").write_bytes(b"whose?")
    found = verify(tmp_path)
    assert {key: text.split("mp4 ")[1] for key, text in found.damaged.items()} == {
        "v1": "is not what was written there (its SHA-256 differs)",
        "v2": "is missing",
        "v3": "has 6 bytes, not 2",
    }
    assert "v9.mp4 belongs to no row of the store; remove it." in found.problems[0]
    verify(tmp_path, repair=True)
    with Store(tmp_path) as store:
        assert store.counts() == {"pending": 3, "done": 1}
    assert [key for key in keys if path[key].exists()] == ["v4"]
    with (tmp_path / "store.sqlite").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)
    assert any(
        "damaged" in problem and "move it" in problem for problem in verify(tmp_path).problems
    )


def test_a_store_gets_its_name_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("leaderboards.runfolder.insert", killed)
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path, write=True)
    assert not (tmp_path / "store.sqlite").exists()
    (tmp_path / "store.sqlite").touch()  # what earlier versions left
    Store(tmp_path, write=True).close()
    assert Store(tmp_path).counts() == {}


def test_a_new_store_is_whole_without_a_log_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a full disk lets closing write nothing of the log into the store."""
    others, insert = [], leaderboards.runfolder.insert

    def watched(db: sqlite3.Connection, *rest: Any) -> None:
        # While another connection looks at it, closing the first leaves its log as it is.
        others.append(sqlite3.connect(db.execute("PRAGMA database_list").fetchone()[2]))
        others[0].execute("SELECT * FROM sqlite_master").fetchall()
        insert(db, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("leaderboards.runfolder.insert", watched)
        create(tmp_path).close()
    others[0].close()
    with Store(tmp_path, write=True) as store:
        assert store.counts() == {}
    assert verify(tmp_path).problems[0].endswith("run the config again.")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_only_be_read_is_refused_to_a_writer(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / ".lock"))

    Store(tmp_path, write=True).close()
    monkeypatch.setattr("filelock.FileLock.acquire", denied)
    with pytest.raises(BenchError, match=r"cannot be written to \(.*\); copy it to where you may"):
        Store(tmp_path, write=True)
    assert Store(tmp_path).counts() == {}


def test_asking_who_writes_refuses_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path, write=True)
    reader = Store(tmp_path)
    assert reader.held()
    store.close()
    assert not reader.held()
    probe = reader.held
    ends = time.monotonic() + 0.5
    asking = threading.Thread(
        target=lambda: [probe() for _ in iter(lambda: time.monotonic() < ends, False)]
    )
    asking.start()
    opened = 0
    while time.monotonic() < ends:
        Store(tmp_path, write=True).close()
        opened += 1
    asking.join()
    assert opened > 5
