"""Odd run files are plain sentences in bounded time, or runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml

from bench.config import Metrics, load_config
from bench.runner import Runner
from bench.scoring import check_metrics
from media.errors import UserError

from .fakes import write_set

GOOD = """
name: odd
evalset: {kind: csv, path: data/set.csv, id: id, identity: person}
generator: {kind: custom, factory: "tests.bench.fakes:DrawnGenerator"}
metrics: {names: [identity.facenet]}
"""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)
VALUES = "[" + ", ".join(map(str, range(1, 1001))) + "]"

ODD = {
    "empty": "",
    "comment": "# nothing",
    "a number": "5",
    "a list": "[1, 2]",
    "a text": "hello",
    "null": "null",
    "two documents": "a: 1\n---\nb: 2",
    "a tab": "a:\n\t- b",
    "no end": "a: [1, 2",
    "a control character": "a: \x07",
    "an alias bomb": BOMB,
    "an alias of itself": "a: &a [*a]",
    "an alias of itself in a sweep": GOOD + "sweep: &s {list: [*s]}",
    "no such alias": "a: *b",
    "deep": "[" * 1000,
    "deep and closed": "a: " + "[" * 1000 + "]" * 1000,
    "a Python object": "a: !!python/object:os.system {}",
    "a list as a key": "? [a, b]\n: c",
    "a mapping as a key": "? {a: b}\n: c",
    "a number as a key": GOOD + "1: x",
    "null as a key": GOOD + "~: x",
    "a key twice": GOOD + "name: again",
    "merged numbers": "<<: 5",
    "a date that is none": "a: 2020-13-01",
    "a date": GOOD + "description: 2020-12-01",
    "a huge number": "a: 1" + "0" * 5000,
    "bytes": GOOD + "description: !!binary aGVsbG8=",
    "a set": GOOD + "sweep: {grid: {args.x: [!!set {a, b}]}}",
    "bytes in args": GOOD + "sweep: {grid: {args.x: [!!binary aGVsbG8=]}}",
    "a date in args": GOOD + "sweep: {grid: {args.x: [2020-12-01]}}",
    "a date in the base": GOOD + "sweep: {base: {args: {x: 2020-12-01}}}",
    "null in args": GOOD + "sweep: {grid: {args.x: [~]}}",
    "not a number in args": GOOD + "sweep: {grid: {args.x: [.nan, .inf]}}",
    "an axis without a name": GOOD + "sweep: {grid: {'': [1]}}",
    "args without a name": GOOD + "sweep: {grid: {args.: [1]}}",
    "an unknown axis": GOOD + "sweep: {grid: {speed: [1]}}",
    "a value for values": GOOD + "sweep: {grid: {text: 3}}",
    "no values": GOOD + "sweep: {grid: {text: []}}",
    "infinite": GOOD + "sweep: {grid: {text: [.inf]}}",
    "not a number": GOOD + "sweep: {grid: {text: [.nan]}}",
    "a truth": GOOD + "sweep: {grid: {steps: [true]}}",
    "a billion cells": GOOD + f"sweep: {{grid: {{args.a: {VALUES}, args.b: {VALUES}, "
    f"args.c: {VALUES}}}}}",
    "a seed too large": GOOD + "sweep: {seeds: [18446744073709551616]}",
    "a negative seed": GOOD + "sweep: {seeds: [-1]}",
    "half a seed": GOOD + "sweep: {seeds: [0.5]}",
    "no seed": GOOD + "sweep: {seeds: []}",
    "everything excluded": GOOD + "sweep: {base: {text: 1}, exclude: [{}]}",
    "an unknown metric": GOOD.replace("identity.facenet", "motion.smothness"),
    "an unknown plug-in": GOOD.replace("names: [identity.facenet]", "plugins: ['no.such:Thing']"),
    "a name that is a path": GOOD.replace("name: odd", "name: ../odd"),
    "a number as a name": GOOD.replace("name: odd", "name: 5"),
    "no kind": GOOD.replace("kind: csv, ", ""),
    "a kind of its own": GOOD.replace("kind: csv", "kind: [csv]"),
    "a folder as a set": GOOD.replace("data/set.csv", "data"),
    "no set": GOOD.replace("data/set.csv", "none.csv"),
    "null for a set": GOOD.replace("data/set.csv", "~"),
    "a module that is not there": GOOD.replace("tests.bench.fakes", "no.such.module"),
    "a module without it": GOOD.replace("DrawnGenerator", "Nothing"),
    "what is not a generator": GOOD.replace("fakes:DrawnGenerator", "fakes:RETURNED"),
    "arguments it does not take": GOOD.replace('Generator"', 'Generator", args: {colour: red}'),
    "negative workers": GOOD + "engine: {workers: -1}",
    "no time": GOOD + "engine: {timeout_s: 0}",
    "all may fail": GOOD + "engine: {max_failures: .nan}",
    "scoring workers here": GOOD + "engine: {score_workers: 2}",
    "a crf out of range": GOOD + "video: {crf: 99}",
    "weights that are text": GOOD + "rank: {by: score, weights: {identity: much}}",
}


@pytest.fixture(scope="module")
def metrics_known() -> None:
    """Importing what the metrics are made of takes longer than any file may."""
    check_metrics(Metrics())


@pytest.mark.usefixtures("metrics_known")
@pytest.mark.parametrize("name", ODD)
def test_odd_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "data", ["a red square"])
    (tmp_path / "odd.yaml").write_text(ODD[name])
    started = time.process_time()
    try:
        Runner(load_config(tmp_path / "odd.yaml")).describe_plan()
    except UserError as error:
        text = str(error)
        assert text.strip()
        assert len(text) < 2000
    assert time.process_time() - started < 5


def test_files_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"a" * 10_000_001)
    (tmp_path / "utf16.yaml").write_text(GOOD, encoding="utf-16")
    for name, words in (
        ("pipe.yaml", "is a pipe"),
        ("large.yaml", "has 10,000,001 bytes"),
        ("utf16.yaml", "is not UTF-8 text"),
        (".", "cannot be read"),
    ):
        with pytest.raises(UserError, match=words):
            load_config(tmp_path / name)


def test_what_is_not_odd_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "data", ["a red square"])
    assert yaml.safe_load(GOOD)["name"] == "odd"
    (tmp_path / "good.yaml").write_text(GOOD)
    lines, left = Runner(load_config(tmp_path / "good.yaml")).describe_plan()
    assert (lines[0][:6], left) == ("1 cell", 2)
