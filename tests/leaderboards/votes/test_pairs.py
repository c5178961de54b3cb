"""Which videos make a pair, what each carries, and what an attention check shows."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leaderboards import LeaderboardError
from leaderboards.runfolder import create, insert
from leaderboards.votes import pairs
from leaderboards.votes.pairs import SPOILT, Pair, pairs_of_run, with_checks
from media.video import VideoReader, read_clip
from tests.leaderboards.runs import encode, moving_square

CELLS = {"a1a1": "tass", "a2a2": "overlap", "b1b1": "far"}


def run_of(
    folder: Path,
    cells: Sequence[str] = tuple(CELLS),
    *,
    samples: int = 4,
    seeds: Sequence[int] = (0,),
    timeline: str | None = None,
    **more: Any,
) -> Path:
    """A run whose videos are files that hold their own name; nothing decodes them."""
    folder.mkdir(parents=True)
    for inner in ("references", "videos"):
        (folder / inner).mkdir()
    db = create(folder)
    with db:
        insert(db, "cells", ({"cell": c, "label": CELLS[c], "axes": "{}"} for c in cells))
        insert(db, "metrics", [{"metric": "m", "backend": "b", "label": "M"}])
        for k in range(samples):
            picture = f"references/{k}.png"
            (folder / picture).write_bytes(b"picture")
            sample = {"sample": f"s{k}", "identity": f"id{k // 2}", "prompt": f"prompt {k}"}
            insert(db, "samples", [sample | {"refs": json.dumps([picture]), "timeline": timeline}])
        for c, k, seed in itertools.product(cells, range(samples), seeds):
            key = f"{c}-{k}-{seed}"
            row = {"video": key, "cell": c, "sample": f"s{k}", "seed": seed, "status": "done"}
            path = f"videos/{key}.mp4"
            insert(db, "videos", [row | {"path": path} | more.get(key.replace("-", "_"), {})])
            insert(db, "planned", [{"video": key, "config": "mine"}])
            score = {"video": key, "metric": "m", "backend": "b", "version": "1"}
            insert(db, "scores", [score | {"value": 0.5, "status": "ok"}])
            (folder / path).write_text(key)
    db.close()
    return folder


def of(shown: Sequence[Pair]) -> set[tuple[str, int, frozenset[str]]]:
    return {(p.sample, p.seed, frozenset((p.left, p.right))) for p in shown}


def test_every_pair_of_entries_on_every_sample_and_seed(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", seeds=(0, 7))
    shown = pairs_of_run(run, ["tass", "overlap", "far"], "ann")
    assert len(shown) == 3 * 4 * 2
    both = (("tass", "overlap"), ("tass", "far"), ("overlap", "far"))
    assert of(shown) == {
        (f"s{k}", seed, frozenset(names)) for k in range(4) for seed in (0, 7) for names in both
    }
    keys = {label: cell for cell, label in CELLS.items()}
    for pair in shown:
        k = int(pair.sample[1:])
        assert pair.left_video.read_text() == f"{keys[pair.left]}-{k}-{pair.seed}"
        assert pair.right_video.read_text() == f"{keys[pair.right]}-{k}-{pair.seed}"
        assert (pair.prompt, pair.identity) == (f"prompt {k}", f"id{k // 2}")
        assert pair.reference == run / f"references/{k}.png"
        assert (pair.timeline, pair.check) == ((), "")


def test_half_of_the_pairs_are_turned_and_the_odd_one_by_lot(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", samples=3)
    lefts = set()
    for n in range(12):
        shown = pairs_of_run(run, ["tass", "overlap"], f"r{n}")
        tass = sum(pair.left == "tass" for pair in shown)
        assert tass in (1, 2)
        lefts.add(tass)
    assert lefts == {1, 2}


def test_the_lot_is_the_raters_and_a_limit_takes_its_beginning(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    whole = pairs_of_run(run, ["tass", "overlap"], "ann")
    assert pairs_of_run(run, ["tass", "overlap"], "ann", 2) == whole[:2]
    assert [pair.sample for pair in whole] != sorted(pair.sample for pair in whole)
    assert whole != pairs_of_run(run, ["tass", "overlap"], "bob")


def test_entries_by_key_label_or_beginning(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    for names in (["a1a1", "overlap"], ["tass", "b"], ["b1b1", "a2"]):
        found = pairs_of_run(run, names, "ann")
        assert len(found) == 4
    assert {found[0].left, found[0].right} == {"far", "overlap"}
    for name in ("a", "x"):  # two entries begin so; none does
        with pytest.raises(LeaderboardError, match=f"'{name}' is not a single entry .*tass, over"):
            pairs_of_run(run, [name, "far"], "ann")
    with pytest.raises(LeaderboardError, match="name at least two"):
        pairs_of_run(run, ["tass", "a1a1"], "ann")


def test_videos_that_are_not_there_make_no_pairs(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run",
        a1a1_0_0={"status": "failed"},
        a2a2_1_0={"status": "pending", "path": None},
        a1a1_3_0={"path": ""},
    )
    (run / "videos" / "a2a2-2-0.mp4").unlink()
    with pytest.raises(LeaderboardError, match=r"no sample of .*run has videos of two .*finish"):
        pairs_of_run(run, ["tass", "overlap"], "ann")
    assert {p.sample for p in pairs_of_run(run, ["tass", "far"], "ann")} == {"s1", "s2"}
    assert {p.sample for p in pairs_of_run(run, ["far", "overlap"], "ann")} == {"s0", "s3"}


@pytest.mark.parametrize("path", ["/etc/passwd", "videos/../../x.mp4"])
def test_a_path_out_of_the_run_folder_is_refused(path: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", a1a1_0_0={"path": path})
    with pytest.raises(LeaderboardError, match=f"'{path}', which leaves the run folder"):
        pairs_of_run(run, ["tass", "overlap"], "ann")
    with pytest.raises(LeaderboardError, match="fix the store"):  # another entry's path as well
        pairs_of_run(run, ["far", "overlap"], "ann")


def test_several_runs_each_with_some_of_the_entries(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "x", ["a1a1"]), run_of(tmp_path / "y", ["a2a2", "b1b1"])]
    (runs[0] / "references" / "1.png").unlink()
    (runs[0] / "references" / "2.png").unlink()
    (runs[1] / "references" / "2.png").unlink()
    shown = {p.sample: p for p in pairs_of_run(runs, ["tass", "far"], "ann")}
    assert len(shown) == 4
    for pair in shown.values():
        videos = {pair.left: pair.left_video, pair.right: pair.right_video}
        assert videos["tass"].parent.parent == runs[0]
        assert videos["far"].parent.parent == runs[1]
    assert shown["s0"].reference == runs[0] / "references/0.png"
    assert shown["s1"].reference == runs[1] / "references/1.png"
    assert shown["s2"].reference is None


def test_labels_have_to_differ(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    for label in ("draw", "both bad"):
        with sqlite3.connect(run / "store.sqlite") as db:
            db.execute("UPDATE cells SET label = ? WHERE cell = 'a1a1'", (label,))
        db.close()
        with pytest.raises(LeaderboardError, match="labels that differ"):
            pairs_of_run(run, ["a1a1", "overlap"], "ann")
    runs = [run_of(tmp_path / "x", ["a1a1"]), run_of(tmp_path / "y", ["a2a2"])]
    with sqlite3.connect(runs[1] / "store.sqlite") as db:
        db.execute("UPDATE cells SET label = 'tass'")
    db.close()
    with pytest.raises(LeaderboardError, match="labels that differ"):
        pairs_of_run(runs, ["a1a1", "a2a2"], "ann")


def test_a_timeline_is_shown_with_its_pair(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", timeline='[[0, 1.5, "waves"], [2, 3, "sits"]]')
    for pair in pairs_of_run(run, ["tass", "overlap"], "ann"):
        assert pair.timeline == ((0.0, 1.5, "waves"), (2.0, 3.0, "sits"))


@pytest.fixture
def real(tmp_path: Path) -> list[Pair]:
    """Seven pairs of two videos that can be read."""
    left = encode(tmp_path / "left.mp4", moving_square(1, frames=5), fps=5)
    right = encode(tmp_path / "right.mp4", moving_square(2, frames=5), fps=5)
    return [Pair(f"s{k}", "x", "y", left, right, "p", None, k) for k in range(7)]


def test_a_check_among_each_so_many_pairs(real: list[Pair], tmp_path: Path) -> None:
    shown = with_checks(real, 3, "ann", tmp_path)
    assert shown == with_checks(real, 3, "ann", tmp_path)
    assert [pair for pair in shown if not pair.check] == real
    assert real[0].timeline == ()
    at = [i for i, pair in enumerate(shown) if pair.check]
    assert len(at) == 3
    assert 0 <= at[0] <= 3 < at[1] + 1 <= 8 <= at[2] + 1 <= 10
    seen: dict[str, set[Any]] = {"side": set(), "label": set(), "place": set()}
    for n in range(12):
        for number, pair in enumerate(with_checks(real[:2], 2, f"r{n}", tmp_path)):
            if not pair.check:
                continue
            good, bad = (pair.left, pair.right)[:: 1 if pair.check == "left" else -1]
            assert bad == good + SPOILT
            videos = {"left": pair.left_video, "right": pair.right_video}
            original = real[0].left_video if good == "x" else real[0].right_video
            assert videos.pop(pair.check) == original
            (spoilt,) = videos.values()
            assert spoilt.parent == tmp_path
            assert pair.sample in ("s0", "s1")
            assert pair.seed == int(pair.sample[1])
            seen["side"].add(pair.check)
            seen["label"].add(good)
            seen["place"].add(number)
    assert seen == {"side": {"left", "right"}, "label": {"x", "y"}, "place": {0, 1, 2}}
    assert with_checks([], 2, "ann", tmp_path) == []
    with pytest.raises(LeaderboardError, match=r"every 1 pairs .*give 2 or more"):
        with_checks(real, 1, "ann", tmp_path)


def test_the_spoilt_video_is_coarse_blocks_of_the_first_frame(tmp_path: Path) -> None:
    frames = np.zeros((4, 65, 97, 3), np.uint8)
    frames[0, :, :48] = 200  # an odd size; what follows the first frame is not shown
    frames[1:] = 90
    video = tmp_path / "v.mkv"
    encode(video, frames, codec="ffv1", pix_fmt="bgr0", fps=5, container="matroska")
    spoilt = tmp_path / "spoilt.mp4"
    spoilt.write_bytes(pairs._spoilt(video))
    info = VideoReader(spoilt).info
    assert (info.count, info.fps, info.width, info.height) == (4, 5.0, 96, 64)
    shown = read_clip(spoilt).frames.astype(int)
    assert abs(shown - shown[0]).max() <= 3
    # Six blocks of 16 columns: three of 200, and three black.
    columns = shown[0].mean(axis=(0, 2))
    assert columns[4:44].mean() == pytest.approx(200, abs=6)
    assert columns[52:].mean() == pytest.approx(0, abs=6)
