from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leaderboards import LeaderboardError
from leaderboards.submission import FORMATS, read_eval
from media.errors import UnreadableTableError, UserError

FACIAL = "ipvg2026-facial"


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]"])
def test_bad_eval_json(content: str, tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text(content)
    with pytest.raises(UserError, match="not"):
        read_eval(tmp_path, FORMATS[FACIAL])


def sequential(**changes: Any) -> dict[str, Any]:
    return {
        "img_paths": ["a.webp"], "class_label": "man", "global_prompt": "x",
        "temporal_captions": [{"start": 0, "end": 2.5, "description": "y"}], **changes,
    }  # fmt: skip


def event(**changes: Any) -> dict[str, Any]:
    return sequential(
        temporal_captions=[{"start": 0, "end": 1, "description": "y"},
                           {"start": 1, "end": 2, "description": "z", **changes}]
    )  # fmt: skip


def read(tmp_path: Path, entries: Any, format: str, encoding: str = "utf-8") -> dict[str, Any]:
    (tmp_path / "eval.json").write_text(json.dumps(entries), encoding=encoding)
    return dict(read_eval(tmp_path, FORMATS[format]))


def test_what_is_asked_for(tmp_path: Path) -> None:
    wanted = read(tmp_path, [sequential(), event()], "ipvg2026-sequential")
    assert list(wanted) == ["submission/1.mp4", "submission/2.mp4"]
    assert wanted["submission/1.mp4"].seconds == 2.5
    assert wanted["submission/2.mp4"].timeline == ((0.0, 1.0, "y"), (1.0, 2.0, "z"))
    assert wanted["submission/1.mp4"].references == (tmp_path / "a.webp",)
    pairs = sequential(temporal_captions=[[0, 1, "y"], [1, 4, "z"]])
    assert read(tmp_path, [pairs], "ipvg2026-sequential")["submission/1.mp4"].seconds == 4


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    entries = [{"img": "a.webp", "prompt": " é "}]
    wanted = read(tmp_path, entries, FACIAL, "utf-8-sig")
    assert wanted["submission/1.mp4"].prompt == "é"
    with pytest.raises(UnreadableTableError, match="save the file as UTF-8"):
        read(tmp_path, entries, FACIAL, "utf-16")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (event(end=float("nan")), "sample 1, event 2: end is nan, not a finite number of seconds"),
        (event(end=float("inf")), "event 2: end is inf"),
        (event(start=-1), "event 2: start is -1 s, before the video begins"),
        (event(start=3), "event 2: ends at 2 s, before its start at 3 s"),
        (event(end="two"), "event 2: end is 'two', not a number of seconds"),
        (event(end=True), "event 2: end is True, not a number"),
        (event(end=None), "event 2: end is null, not a number"),
        (event(end=[2]), "event 2: end is a list, not a number"),
        (event(description=5), "description is 5, not text"),
        (sequential(temporal_captions=[]), "temporal_captions is an empty list"),
        (sequential(temporal_captions="0-2 y"), "temporal_captions is '0-2 y'"),
        (sequential(temporal_captions=[[0, 1]]), "event 1: is a list, not start, end and"),
        (sequential(temporal_captions=[{"start": 0}]), "event 1: has no end and no description"),
        (sequential(global_prompt=None), "global_prompt is null, not text"),
        (sequential(img_paths="a.webp"), "img_paths is 'a.webp', not a list of file names"),
        (sequential(img_paths=[1]), "img_paths is a list, not a list of file names"),
        ({"img": "a", "prompt": "x"}, "sample 1 has no global_prompt"),
        (7, "sample 1 is 7, not an object"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(entry: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError) as error:
        read(tmp_path, [entry], "ipvg2026-sequential")
    assert sentence in str(error.value)
    assert "ipvg2026-sequential's eval.json" in str(error.value)


def test_facial_samples_need_texts(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match=r"sample 1: img is 5.*sample 2 has no prompt"):
        read(tmp_path, [{"img": 5, "prompt": "x"}, {"img": "a.webp"}], FACIAL)


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "eval.json")
    with pytest.raises(UnreadableTableError, match="not a regular file"):
        read_eval(tmp_path, FORMATS[FACIAL])


def test_the_testset_of_2025(tmp_path: Path) -> None:
    for person in ("id001", "id002"):
        (tmp_path / person).mkdir()
        (tmp_path / person / "image.webp").write_bytes(b"x")
        for k in (10, 2):
            (tmp_path / person / f"prompt{k}.txt").write_text(f"{person} {k}\n", "utf-8-sig")
    wanted = read_eval(tmp_path, FORMATS["ipvg2025-facial"])
    assert list(wanted)[:2] == ["submission/id001/prompt2.mp4", "submission/id001/prompt10.mp4"]
    first = wanted["submission/id001/prompt2.mp4"]
    assert (first.prompt, first.references) == ("id001 2", (tmp_path / "id001" / "image.webp",))
