"""The run folder's reader: today's schema, the one before it, and what is retired."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.store import Store
from leaderboards.errors import LeaderboardError
from leaderboards.ranking import anchors_of
from leaderboards.runfolder import (
    FRAMES,
    SCHEMA_VERSION,
    STORE,
    MetricRow,
    RunFolder,
    create,
    unique_labels,
)
from leaderboards.runs import read_run
from metrics import metric_info
from tests.leaderboards.runs import make_run

#: As `stdrc bench` made it before there was a schema 2.
SCHEMA_1 = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE cells(cell TEXT PRIMARY KEY, label TEXT, axes TEXT, mismatch INTEGER);
CREATE TABLE samples(
    sample TEXT PRIMARY KEY, identity TEXT, prompt TEXT, refs TEXT, target TEXT, timeline TEXT);
CREATE TABLE videos(
    video TEXT PRIMARY KEY, cell TEXT, sample TEXT, seed INTEGER, status TEXT, path TEXT,
    sha256 TEXT, reason TEXT, seconds REAL);
CREATE TABLE scores(
    video TEXT, metric TEXT, backend TEXT, version TEXT, value REAL, status TEXT, reason TEXT,
    detail TEXT, PRIMARY KEY (video, metric, backend)) WITHOUT ROWID;
CREATE TABLE set_scores(
    cell TEXT, metric TEXT, backend TEXT, version TEXT, value REAL, low REAL, high REAL, n INTEGER,
    status TEXT, reason TEXT, PRIMARY KEY (cell, metric, backend));
CREATE TABLE metrics(
    metric TEXT, backend TEXT, label TEXT, higher_is_better INTEGER, low REAL, high REAL,
    PRIMARY KEY (metric, backend));
CREATE INDEX videos_by_cell ON videos(cell, status);
CREATE INDEX scores_by_metric ON scores(metric, backend, status, value);
INSERT INTO meta VALUES ('schema_version', '1'), ('complete', ''), ('reported', '1'),
    ('set:c1', 'b5bb9d80');
INSERT INTO cells VALUES ('c1c1', 'tass', '{"placement":"tass"}', 0),
    ('c2c2', 'tass', '{"placement":"tass"}', 0), ('c3c3', 'far', '{"placement":"far"}', 1);
INSERT INTO samples VALUES ('1', 'ada', 'a person waves', '["ada.png"]', NULL, '[[0,1.5,"waves"]]');
INSERT INTO videos VALUES
    ('aa01', 'c1c1', '1', 0, 'done', 'videos/aa/aa01.mp4', 'f00d', NULL, 1.0),
    ('bb02', 'c2c2', '1', 0, 'done', 'videos/bb/bb02.mp4', 'beef', NULL, 3.0),
    ('cc03', 'c3c3', '1', 0, 'failed', NULL, NULL, 'RuntimeError: it fell over', NULL);
INSERT INTO scores VALUES
    ('aa01', 'identity.dlib', 'dlib', '1', 0.8, 'ok', NULL, '{"frames": 4, "frames_with_face": 3}'),
    ('bb02', 'identity.dlib', 'dlib', '1', 0.6, 'ok', NULL, NULL);
INSERT INTO set_scores VALUES
    ('c1c1', 'fid.inception', 'inception', '1', 9.5, 8, 11, 1, 'ok', NULL);
INSERT INTO metrics VALUES ('identity.dlib', 'dlib', 'Identity', 1, -1.0, 1.0),
    ('fid.inception', 'inception', 'FID', 0, 0.0, NULL);
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run folder of schema 1 with two cells under one label and a failed video."""
    folder = tmp_path / "old"
    for name in ("aa/aa01", "bb/bb02"):
        file = folder / "videos" / f"{name}.mp4"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"video")
    db = sqlite3.connect(folder / "store.sqlite")
    db.executescript(SCHEMA_1)
    db.close()
    manifest = {"config": {"name": "mine"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def everything(run: Path) -> list[object]:
    with RunFolder(run) as folder:
        frames = [folder.frame(table).to_dict("records") for table in FRAMES]
        return [
            *frames,
            *(folder.cells(), folder.metrics(), folder.samples(), folder.videos()),
            *(folder.counts(), folder.cell_counts(), folder.metric_counts(), folder.failures()),
            *(folder.mean("c1c1", "identity.dlib"), folder.mean("c1c1", "fid.inception")),
            *(folder.face_rates(), folder.retired(), folder.mean_seconds()),
        ]


def test_the_face_rate_is_counted_by_identity_metrics_alone(old: Path) -> None:
    """Protocols look at other frames, and at padded ones; their counts are no share of ours."""
    db = sqlite3.connect(old / "store.sqlite")
    db.execute(
        "INSERT INTO scores VALUES ('aa01', 'consisid.face_arc', 'consisid', '1', 0.5, 'ok', NULL, "
        """'{"frames": 16, "frames_with_face": 16}')"""
    )
    db.commit()
    db.close()
    with RunFolder(old) as folder:
        assert folder.face_rates() == {"c1c1": 0.75}


def test_a_folder_of_schema_1_is_read(old: Path) -> None:
    before = (old / "store.sqlite").read_bytes()
    with RunFolder(old) as folder:
        assert [(c.label, c.mismatch) for c in folder.cells()] == [
            ("tass [c1c1]", False),
            ("tass [c2c2]", False),
            ("far", True),
        ]
        assert folder.counts() == {"done": 2, "failed": 1}
        assert folder.samples()["1"].timeline == ((0.0, 1.5, "waves"),)
        identity, fid = folder.metrics()
        assert (identity.family, identity.diagnostic, identity.needs) == ("identity", False, ())
        assert fid.higher_is_better is False
        assert folder.face_rates() == {"c1c1": 0.75}
    rows = read_run(old)
    assert [e.label for e in rows.entries] == ["tass [c1c1]", "tass [c2c2]", "far"]
    assert list(rows.scores["value"]) == [0.8, 0.6]
    assert list(rows.summaries["value"]) == [9.5]
    assert (old / "store.sqlite").read_bytes() == before


def test_upgrading_a_folder_changes_nothing_that_is_read(old: Path) -> None:
    before = everything(old)
    Store(old, write=True).close()
    assert everything(old) == before
    with Store(old) as store:
        assert store.meta("schema_version") == "6"
        assert store.meta("set:c1") is None  # it stands with the set scores now
        assert set(store.db.execute("SELECT config FROM planned")) == {("mine",)}


def test_a_metrics_anchors_travel_to_the_column_and_older_folders_have_none(old: Path) -> None:
    stated = metric_info("identity.miniature").anchors
    assert stated == (0.0054, 0.847)
    assert metric_info("copy_paste.miniature").anchors is None
    with Store(old, write=True) as store:
        store.register_metrics([MetricRow("identity.x", "x", "1", "X", True, anchors=stated)])
        assert [row.anchors for row in store.metrics()] == [None, None, stated]
    column = read_run(old).meanings["identity.x", "x"]
    assert anchors_of(column) == stated
    with sqlite3.connect(old / "store.sqlite") as db:
        db.executescript("ALTER TABLE metrics DROP COLUMN anchors;")
        db.execute("UPDATE meta SET value = '4' WHERE key = 'schema_version'")
    db.close()
    with RunFolder(old) as folder:
        assert [row.anchors for row in folder.metrics()] == [None, None, None]


def test_a_killed_upgrade_is_done_again(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(old)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_set_meta", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store(old, write=True)
    assert everything(old) == before
    Store(old, write=True).close()
    assert everything(old) == before


def test_what_no_plan_has_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", failed=[(3, 2)])
    whole = read_run(run)
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute(
            "DELETE FROM planned WHERE video IN (SELECT video FROM videos WHERE cell = 'cell0' "
            "OR sample = 's000')"
        )
    rows = read_run(run)
    assert len(rows.entries) == len(whole.entries) - 1
    assert len(rows.scores) == (17 * 15 - 1) * 4
    assert set(rows.scores["entry"]) == set(rows.summaries["entry"]) == set(rows.face_rate)
    assert "s000" not in set(rows.samples["sample"]) | set(rows.videos["sample"])
    with RunFolder(run) as folder:
        assert folder.counts() == {"done": 17 * 15 - 1, "failed": 1}
        assert [n["ok"] for _, _, n, _ in folder.metric_counts()] == [17 * 15 - 1] * 4
        assert sum(n for _, n, _ in folder.retired()) == 16 + 17
        assert len(folder.videos("cell0", retired=True)) == 16


def test_a_folder_without_cells_says_so(tmp_path: Path) -> None:
    Store(tmp_path, write=True).close()
    with pytest.raises(LeaderboardError, match="has no cells yet"):
        read_run(tmp_path)


def test_labels_lengthen_until_they_are_unique() -> None:
    labels = {"abcd1x": "a", "abcd2x": "a", "ffff": "b", "abce": "a"}
    assert unique_labels(labels) == {
        "abcd1x": "a [abcd1]",
        "abcd2x": "a [abcd2]",
        "abce": "a [abce]",
        "ffff": "b",
    }


#: Dies in the middle of a transaction that has already reached the file.
CUT_OFF = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode=DELETE")
db.execute("PRAGMA cache_size=1")
db.execute("PRAGMA cache_spill=1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
db.executemany("INSERT INTO meta VALUES (?, ?)", [(f"k{i}", "x" * 500) for i in range(500)])
os._exit(9)
"""


def test_a_transaction_that_a_kill_cut_off_is_rolled_back_by_a_reader(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert subprocess.run([sys.executable, "-c", CUT_OFF, run / STORE], check=False).returncode == 9
    assert (run / f"{STORE}-journal").stat().st_size > 0
    with RunFolder(run) as folder:
        assert folder.meta("schema_version") == str(SCHEMA_VERSION)
        assert folder.meta("k0") is None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            folder.db.execute("DELETE FROM meta")


def test_a_new_store_has_its_journal_when_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def connect(path: Path, **settings: Any) -> sqlite3.Connection:
        if path == tmp_path / STORE:
            raise Killed
        return sqlite3_connect(path, **settings)

    sqlite3_connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(Killed):
        create(tmp_path)
    assert (tmp_path / STORE).read_bytes()[18:20] == b"\x02\x02"  # a write-ahead log, in its header
    assert [path.name for path in tmp_path.iterdir()] == [STORE]
