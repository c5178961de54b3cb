"""What each write of the store leaves in each row, read back by SQL of the test's own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.evalsets import Event, Sample
from bench.generators import Settings
from bench.store import Store, file_stamp
from bench.sweep import Cell, Task
from leaderboards.runfolder import MetricRow
from metrics.scores import Score, SetScore


def cell(name: str, label: str = "tass", mismatch: bool = False) -> Cell:
    axes = {"text": 3.0, "placement": label}
    names, values = tuple(axes), tuple(axes.values())
    return Cell(name, names, values, {}, mismatch, 4, 8.0, "stage", label)


def task(key: str, of: str = "c1", sample: str = "s1", seed: int = 0) -> Task:
    return Task(key, of, Sample(sample, f"prompt of {sample}"), Settings(seed=seed), 8.0)


def plan(store: Store, tasks: Sequence[Task], config: str = "mine", **how: Any) -> None:
    samples = {t.sample.id: t.sample for t in tasks}
    cells = [cell(name) for name in dict.fromkeys(t.cell for t in tasks)]
    store.register_plan(config, cells, list(samples.values()), tasks, **how)


def write(store: Store, key: str, data: bytes) -> str:
    path = store.video_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def rows(store: Store, table: str, columns: str = "*", order: str = "1") -> list[tuple[Any, ...]]:
    return store.db.execute(f"SELECT {columns} FROM {table} ORDER BY {order}").fetchall()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run", write=True) as opened:
        yield opened


def test_a_plan_in_its_rows(store: Store, tmp_path: Path) -> None:
    inside = store.folder / "evalset" / "a.png"
    sample = Sample(
        "s1", "a person waves", (inside, tmp_path / "b.png"), tmp_path / "t.mp4", "ann",
        (Event(0, 1.5, "waves"), Event(2, 3, "sits")),
    )  # fmt: skip
    tasks = [task("v1", "c1"), task("v2", "c2", seed=7)]
    cells = [cell("c1"), cell("c2", "far", True)]
    store.register_plan("mine", cells, [sample], tasks)
    assert rows(store, "cells") == [
        ("c1", "tass", '{"placement":"tass","text":3.0}', 0),
        ("c2", "far", '{"placement":"far","text":3.0}', 1),
    ]
    assert rows(store, "samples") == [
        (
            "s1", "ann", "a person waves", json.dumps(["evalset/a.png", str(tmp_path / "b.png")]),
            str(tmp_path / "t.mp4"), '[[0,1.5,"waves"],[2,3,"sits"]]',
            '[["reference 1",null,null],["reference 2",null,null]]',
        )
    ]  # fmt: skip
    none = (None,) * 6
    assert rows(store, "videos") == [
        ("v1", "c1", "s1", 0, "pending", *none),
        ("v2", "c2", "s1", 7, "pending", *none),
    ]
    assert rows(store, "planned") == [("v1", "mine"), ("v2", "mine")]
    store.register_plan("mine", [cell("c1", "tass text=3")], [Sample("s1", "p")], tasks[:1])
    assert rows(store, "cells", "label") == [("far",), ("tass text=3",)]  # as what is swept says
    assert rows(store, "samples", "identity, prompt, refs, target, timeline") == [
        ("", "p", "[]", None, None)
    ]
    assert rows(store, "planned") == [("v1", "mine")]


def test_a_plan_takes_the_place_of_the_configs_last_one_or_is_added(store: Store) -> None:
    plan(store, [task("v1"), task("v2", seed=1)])
    plan(store, [task("v3", "c2", "s2")], "theirs")
    plan(store, [task("v4", "c3")], add=True)
    assert rows(store, "planned", "video") == [("v1",), ("v2",), ("v3",), ("v4",)]
    write(store, "v1", b"video")
    store.finish("v1", "x", 1.0)
    plan(store, [task("v1")])
    assert rows(store, "planned") == [("v1", "mine"), ("v3", "theirs")]
    assert rows(store, "videos", "video, status") == [
        ("v1", "done"), ("v2", "pending"), ("v3", "pending"), ("v4", "pending"),
    ]  # fmt: skip


def test_what_two_configs_may_not_share(store: Store) -> None:
    plan(store, [task("v1")])
    other = Task("v9", "c9", Sample("s1", "another", source="set.csv:3"), Settings(), 8.0)
    with pytest.raises(BenchError) as refused:
        plan(store, [other], "theirs")
    assert str(refused.value) == (
        f"set.csv:3: the sample 's1' stands in {store.folder} with another prompt, planned by "
        "'mine'; choose another run folder (--run)."
    )
    with pytest.raises(BenchError, match="has other videos of the cell c1, planned by 'mine'"):
        plan(store, [task("v2")], "theirs")
    assert rows(store, "planned") == [("v1", "mine")]  # nothing of a refused plan is kept
    plan(store, [task("v1"), task("v2", seed=1), task("v3", "c2")], "theirs")
    plan(store, [task("v2", seed=1)])  # one's own plan may change
    assert rows(store, "planned", "*", "1, 2") == [
        ("v1", "theirs"), ("v2", "mine"), ("v2", "theirs"), ("v3", "theirs"),
    ]  # fmt: skip


def test_what_is_known_of_a_finished_video(store: Store) -> None:
    plan(store, [task("v1"), task("v2", seed=1), task("v3", seed=2)])
    machine = {"device": "card", "torch": "2"}
    text = '{"device":"card","torch":"2"}'
    made_by = hashlib.sha256(text.encode()).hexdigest()[:12]
    for key, remark in (("v1", "a remark"), ("v2", "")):
        sha256 = write(store, key, key.encode())
        store.prepare(key, sha256, 1.5, remark, machine)
        prepared = "status, sha256, seconds, reason, environment, path, stamp"
        assert rows(store, f"videos WHERE video = '{key}'", prepared) == [
            ("pending", sha256, 1.5, remark or None, made_by, None, None)
        ]
        store.finish(key, sha256, 1.5, remark)
    assert rows(store, "environments") == [(made_by, text)]
    assert store.environments() == {made_by: machine}
    third = write(store, "v3", b"v3")
    store.prepare("v3", third, None, "")
    store.finish("v3", third, None)
    columns = "video, status, path, sha256, reason, seconds, environment"
    digest = {key: hashlib.sha256(key.encode()).hexdigest() for key in ("v1", "v2", "v3")}
    assert rows(store, "videos", columns) == [
        ("v1", "done", "videos/v1/v1.mp4", digest["v1"], "a remark", 1.5, made_by),
        ("v2", "done", "videos/v2/v2.mp4", digest["v2"], None, 1.5, made_by),
        ("v3", "done", "videos/v3/v3.mp4", digest["v3"], None, None, None),
    ]
    for key in digest:
        stat = store.video_path(key).stat()
        assert store.stamp(key) == f"{stat.st_size} {stat.st_mtime_ns}"
    assert store.stamp("v9") is None
    assert file_stamp(store.folder / "nothing") is None


def scored(store: Store, key: str, of: str = "c1", status: str = "ok", **more: Any) -> None:
    value = 0.5 if status == "ok" else None
    for metric in ("m", "n"):
        score = Score(key, of, metric, "b", "1", value, status, **more)  # type: ignore[arg-type]
        store.add_scores([(score, "i")])
        group = SetScore(of, f"set.{metric}", "b", "1", value, None, None, 2, status)  # type: ignore[arg-type]
        store.add_set_scores([(group, "i")])


def test_another_file_drops_the_scores_and_what_made_the_last_one(store: Store) -> None:
    plan(store, [task("v1"), task("v2", "c2")])
    for key, of in (("v1", "c1"), ("v2", "c2")):
        sha256 = write(store, key, key.encode())
        store.prepare(key, sha256, 1.0, "", {"device": "x"})
        store.finish(key, sha256, 1.0)
        scored(store, key, of)
    store.finish("v1", sha256=hashlib.sha256(b"v1").hexdigest(), seconds=2.0)  # the same file
    assert [row[0] for row in rows(store, "scores", "video")] == ["v1", "v1", "v2", "v2"]
    store.finish("v1", write(store, "v1", b"new"), 3.0)
    assert rows(store, "scores", "video, metric", "2") == [("v2", "m"), ("v2", "n")]
    assert rows(store, "set_scores", "cell, metric", "2") == [("c2", "set.m"), ("c2", "set.n")]
    environments = rows(store, "videos", "environment")
    assert environments[0] == (None,)
    assert environments[1] != (None,)


def test_a_failure_is_kept_whole_and_tried_again_when_asked(store: Store) -> None:
    plan(store, [task("v1"), task("v2", seed=1), task("v3", seed=2)])
    plan(store, [task("v4", "c2")], "theirs")
    for key in ("v1", "v2", "v4"):
        store.fail(key, f"{key} broke", "line 1\nline 2")
    log = (store.folder / "logs" / "videos" / "v1.log").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d v1 broke\nline 1\nline 2", log)
    assert rows(store, "videos", "video, status, reason") == [
        ("v1", "failed", "v1 broke"), ("v2", "failed", "v2 broke"), ("v3", "pending", None),
        ("v4", "failed", "v4 broke"),
    ]  # fmt: skip
    plan(store, [task("v1"), task("v3", seed=2)])  # v2 is retired
    scored(store, "v3", status="failed")
    scored(store, "v1")
    store.retry_failed()
    assert rows(store, "videos", "video, status, reason") == [
        ("v1", "pending", None), ("v2", "failed", "v2 broke"), ("v3", "pending", None),
        ("v4", "pending", None),
    ]  # fmt: skip
    assert {row[0] for row in rows(store, "scores", "status")} == {"ok"}
    scored(store, "v3", status="failed")
    store.retry_failed()
    assert rows(store, "set_scores", "status") == []


def test_files_and_rows_are_brought_in_line(store: Store) -> None:
    keys = ["aa1", "bb2", "cc3", "dd4", "ee5", "ff6"]
    plan(store, [task(key, seed=n) for n, key in enumerate(keys)])
    sha256 = {key: write(store, key, key.encode()) for key in keys}
    store.prepare("aa1", sha256["aa1"], 2.5, "short", {"device": "x"})  # killed after the rename
    store.prepare("bb2", "another file's", 2.5, "short", {"device": "x"})  # and before it
    for key in keys[2:]:
        store.finish(key, sha256[key], 1.0)
        scored(store, key)
    os.utime(store.video_path("cc3"), ns=(1, 1))  # touched
    write(store, "dd4", b"damaged")
    store.video_path("ee5").unlink()
    part = store.folder / "videos" / "aa" / ".aa1.mp4.7.part"
    part.write_bytes(b"half")
    strange = store.folder / "videos" / "zz" / "zz9.mp4"
    strange.parent.mkdir()
    strange.write_bytes(b"whose")
    assert store.adopt() == 2
    columns = "video, status, sha256, seconds, reason"
    assert rows(store, "videos", columns) == [
        ("aa1", "done", sha256["aa1"], 2.5, "short"),
        ("bb2", "done", sha256["bb2"], None, None),
        ("cc3", "done", sha256["cc3"], 1.0, None),
        ("dd4", "pending", None, None, None),
        ("ee5", "pending", None, None, None),
        ("ff6", "done", sha256["ff6"], 1.0, None),
    ]
    assert rows(store, "videos", "video, environment IS NULL")[:2] == [("aa1", 0), ("bb2", 1)]
    assert rows(store, "videos WHERE status = 'pending'", "path") == [(None,), (None,)]
    assert {row[0] for row in rows(store, "scores", "video")} == {"cc3", "ff6"}
    assert rows(store, "set_scores") == []
    assert store.stamp("cc3") == file_stamp(store.video_path("cc3"))
    assert [store.video_path(key).exists() for key in ("dd4", "ee5")] == [False, False]
    assert (part.exists(), strange.exists()) == (False, True)
    assert store.adopt() == 0


def test_scores_in_their_rows(store: Store) -> None:
    store.add_scores(
        [
            (Score("v1", "c1", "m", "b", "2", 0.5, "ok", "a remark", {"y": 1, "x": 0.5}), "i1"),
            (Score("v1", "c1", "n", "b", "2", None, "failed", "why"), None),
        ]
    )
    store.add_set_scores(
        [
            (SetScore("c1", "s", "b", "2", 9.0, 8.0, 10.0, 4, "ok", influences=(("p", 0.1),)), "j"),
            (SetScore("c2", "s", "b", "2", None, None, None, 0, "failed", "why"), None),
        ]
    )
    assert rows(store, "scores", order="2") == [
        ("v1", "m", "b", "2", 0.5, "ok", "a remark", '{"x": 0.5, "y": 1}', "i1"),
        ("v1", "n", "b", "2", None, "failed", "why", None, None),
    ]
    assert rows(store, "set_scores") == [
        ("c1", "s", "b", "2", 9.0, 8.0, 10.0, 4, "ok", None, "j", '[["p", 0.1]]'),
        ("c2", "s", "b", "2", None, None, None, 0, "failed", "why", None, None),
    ]
    column, group = MetricRow("m", "b", "2", "M"), MetricRow("s", "b", "2", "S", per_video=False)
    assert store.scored(column) == {"v1": ("2", "i1")}
    assert store.scored(MetricRow("m", "other", "2", "M")) == {}
    assert store.set_scored(group) == {"c1": ("2", "j"), "c2": ("2", None)}
    again = Score("v1", "c1", "m", "b", "3", 0.7, "ok")
    store.add_scores([(again, "i2")])
    assert store.scored(column) == {"v1": ("3", "i2")}  # in the place of the last


def test_what_is_to_be_tried_again(store: Store) -> None:
    assert store.to_retry() is False
    score = Score("v1", "c1", "m", "b", "1", None, "failed", "why")
    store.add_scores([(score, "i")])  # by what it was shown: the same again
    assert store.to_retry() is False
    store.add_scores([(score, None)])
    assert store.to_retry() is True
    store.drop_scores([("v1", "m", "b")])
    assert store.to_retry() is False
    store.add_set_scores([(SetScore("c1", "s", "b", "1", None, None, None, 0, "absent"), None)])
    assert store.to_retry() is False
    store.add_set_scores([(SetScore("c1", "s", "b", "1", None, None, None, 0, "failed"), None)])
    assert store.to_retry() is True


def test_scores_are_dropped_by_name(store: Store) -> None:
    store.register_metrics(
        MetricRow(name, "b", "1", name, per_video=not name.startswith("set"))
        for name in ("m", "n", "set.m", "set.n")
    )
    plan(store, [task("v1"), task("v2", "c2")])
    for key, of in (("v1", "c1"), ("v2", "c2")):
        scored(store, key, of)
    store.drop_scores([("v1", "m", "b"), ("v2", "n", "other")])
    assert rows(store, "scores", "video, metric", "1, 2") == [
        ("v1", "n"), ("v2", "m"), ("v2", "n"),
    ]  # fmt: skip
    store.drop_set_scores(
        (of, metric, "b")
        for of, metric in store.db.execute("SELECT cell, metric FROM set_scores WHERE cell = 'c1'")
    )
    assert rows(store, "set_scores", "cell, metric", "2") == [("c2", "set.m"), ("c2", "set.n")]
    with pytest.raises(BenchError) as refused:
        store.forget_metrics(["nothing"])
    assert str(refused.value) == (
        f"{store.folder} has no scores of the metric 'nothing'; it has m, n, set.m, set.n."
    )
    store.forget_metrics(["m", "set.*"])
    assert rows(store, "scores", "video, metric", "1") == [("v1", "n"), ("v2", "n")]
    assert rows(store, "set_scores") == []


def test_metrics_in_their_rows(store: Store) -> None:
    store.register_metrics(
        [
            MetricRow("m", "b", "1", "M", True, 0.0, None, True, "identity", False, ("prompt",)),
            MetricRow("n", "b", "1", "N", False, None, 1.0, False, "", True),
            MetricRow("o", "b", "1", "O", anchors=(0.0, 2.0)),
        ]
    )
    assert rows(store, "metrics") == [
        ("m", "b", "M", 1, 0.0, None, "identity", "video", 0, '["prompt"]', None),
        ("n", "b", "N", 0, None, 1.0, "", "set", 1, "[]", None),
        ("o", "b", "O", None, None, None, "", "video", 0, "[]", "[0.0, 2.0]"),
    ]


def test_cleaning_removes_what_is_retired_and_says_how_much(store: Store) -> None:
    plan(store, [task("v1"), task("v2", "c2", "s2"), task("v3", "c3", "s3")])
    for key, data, of in (("v1", b"four", "c1"), ("v2", b"seven77", "c2")):
        store.finish(key, write(store, key, data), 1.0)
        scored(store, key, of)
    plan(store, [task("v1")])
    assert store.clean() == (2, 7)  # v3 was never made
    for table, column in (("videos", "video"), ("scores", "DISTINCT video")):
        assert rows(store, table, column) == [("v1",)]
    for table in ("cells", "set_scores"):
        assert rows(store, table, "DISTINCT cell") == [("c1",)]
    assert rows(store, "samples", "sample") == [("s1",)]
    assert [store.video_path(key).exists() for key in ("v1", "v2")] == [True, False]
    assert store.clean() == (0, 0)


def test_who_writes_is_said_and_waited_for(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    with Store(run, write=True) as first:
        said = json.loads((run / "lock.json").read_text())
        assert (said["pid"], said["host"]) == (os.getpid(), socket.gethostname())
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", said["since"])
        words = f"process {os.getpid()} on {socket.gethostname()} since {said['since']}"
        assert first.holder() == words
        assert first.held()
        for wait in (0, 0.1):
            with pytest.raises(BenchError) as refused:
                Store(run, write=True, wait=wait)
            assert str(refused.value) == (
                f"The run folder {run} is in use by {words}; wait for it (--wait), or choose "
                "another folder (--run)."
            )
        assert (run / "lock.json").exists()
        (run / "lock.json").write_text('{"pid": 1}')
        assert first.holder() == ""
        with pytest.raises(BenchError, match="in use by another process;"):
            Store(run, write=True)
    assert not (run / "lock.json").exists()
    with Store(run) as reader:
        assert (reader.holder(), reader.held()) == ("", False)
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"cannot be made .*; choose another"):
        Store(tmp_path / "file" / "run", write=True)


def test_waiting_without_end_for_another_writer(tmp_path: Path) -> None:
    Store(tmp_path, write=True).close()
    other = (tmp_path / ".lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)  # as another process' FileLock; one of this would be told
    threading.Timer(1.4, other.close).start()  # longer than one asks who holds it
    Store(tmp_path, write=True, wait=None).close()


def test_what_a_killed_start_left_is_removed(tmp_path: Path) -> None:
    Store(tmp_path, write=True).close()
    left = [tmp_path / ".store.sqlite.123.part", tmp_path / ".store.sqlite.123.part-wal"]
    for path in left:
        path.write_bytes(b"half")
    Store(tmp_path, write=True).close()
    assert not any(path.exists() for path in left)


def test_meta_and_manifest(store: Store) -> None:
    store.set_meta("complete", "a")
    store.set_meta("complete", "b")
    assert (store.meta("complete"), store.meta("other")) == ("b", None)
    store.write_manifest({"b": 1, "a": {"c": [2]}})
    text = (store.folder / "manifest.json").read_text()
    assert text == '{\n  "a": {\n    "c": [\n      2\n    ]\n  },\n  "b": 1\n}\n'
