"""Evaluation sets from their published layouts, and every way to break one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.errors import BenchError
from bench.evalsets import EvalSet, Sample, evalset
from media.files import file_sha256
from media.images import read_image


def load(tmp_path: Path, kind: str, **fields: Any) -> EvalSet:
    return evalset(kind, **fields).load(tmp_path / "cache")


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_ipvg2025(tmp_path: Path) -> None:
    for person in ("id2", "id10"):
        image(tmp_path / person / "image.png")
        for k in (1, 2):
            (tmp_path / person / f"prompt{k}.txt").write_text(f"{person} does {k}\n")
    samples = load(tmp_path, "ipvg2025", path=tmp_path)
    assert [s.id for s in samples] == ["id2/prompt1", "id2/prompt2", "id10/prompt1", "id10/prompt2"]
    assert samples[0].prompt == "id2 does 1"
    assert samples.identities == ("id2", "id10")


def test_ipvg2025_lists_every_problem(tmp_path: Path) -> None:
    (tmp_path / "id1").mkdir()
    image(tmp_path / "id2" / "image.webp")
    image(tmp_path / "id3" / "image.png").write_bytes(b"no image")
    (tmp_path / "id3" / "prompt1.txt").write_text("  ")
    with pytest.raises(BenchError) as caught:
        load(tmp_path, "ipvg2025", path=tmp_path)
    text = str(caught.value)
    assert "has 4 problems" in text
    for part in ("id1: needs exactly one", "id2: has no prompt1", "prompt is empty", "as an image"):
        assert part in text


FACIAL = """[
  {"img": "id001.webp", "prompt": "smiles"},
  {
    "img": "id002.webp",
    "prompt": "walks"
  }
]
"""


def facial(folder: Path, text: str = FACIAL) -> Path:
    for k in (1, 2):
        image(folder / "images" / f"id00{k}.webp")
    (folder / "eval.json").write_text(text)
    return folder


def test_ipvg2026_facial(tmp_path: Path) -> None:
    samples = load(tmp_path, "ipvg2026-facial", path=facial(tmp_path / "final"))
    assert [(s.id, s.prompt, s.identity) for s in samples] == [
        ("1", "smiles", "id001"),
        ("2", "walks", "id002"),
    ]
    assert samples[1].source.endswith("eval.json:3")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id002.webp", "/etc/passwd", r"eval.json:3: the path '/etc/passwd' is absolute"),
        ("id002.webp", "../x.webp", r"eval.json:3: the path '../x.webp' leaves its folder"),
        ("id002.webp", "C:\\\\x.webp", r"eval.json:3: the path .* is absolute"),
        ("id002.webp", "id009.webp", r"eval.json:3: there is no file .*id009.webp"),
        ('"walks"', "7", r"eval.json:3: 'prompt' must be a str"),
        ('"prompt": "walks"', '"prompts": "walks"', r"eval.json:3: 'prompt' is missing"),
        ('"walks"', '"walks', r"eval.json:5: not valid JSON"),
        ("]", "", r"not valid JSON"),
        ("[", "{", r"eval.json:1: must be a JSON list"),
    ],
)
def test_ipvg2026_facial_problems(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        load(tmp_path, "ipvg2026-facial", path=facial(tmp_path, FACIAL.replace(old, new)))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    outside = image(tmp_path / "outside.webp")
    folder = facial(tmp_path / "set")
    (folder / "images" / "id002.webp").unlink()
    (folder / "images" / "id002.webp").symlink_to(outside)
    with pytest.raises(BenchError, match="leads out of"):
        load(tmp_path, "ipvg2026-facial", path=folder)


def test_ipvg2026_sequential(tmp_path: Path) -> None:
    folder = facial(tmp_path)
    entry = {
        "img_paths": ["id001.webp", "id002.webp"],
        "class_label": ["man", "woman"],
        "global_prompt": "two people",
        "temporal_captions": [
            {"start": 0, "end": 2, "description": "wave"},
            [2, 4.5, "sit"],
        ],
    }
    (folder / "eval.json").write_text(json.dumps([entry]))
    (sample,) = load(tmp_path, "ipvg2026-sequential", path=folder)
    assert len(sample.references) == 2
    assert [(e.start, e.end, e.description) for e in sample.timeline] == [
        (0, 2, "wave"),
        (2, 4.5, "sit"),
    ]
    entry["temporal_captions"] = [{"start": 3, "end": 1, "description": "x"}, {"start": 1}]
    (folder / "eval.json").write_text(json.dumps([entry]))
    with pytest.raises(BenchError, match=r"(?s)start, end and description.*before it starts"):
        load(tmp_path, "ipvg2026-sequential", path=folder)
    for start, end in ((math.nan, 1), (-1, 1), (0, math.inf)):
        entry["temporal_captions"] = [{"start": start, "end": end, "description": "x"}]
        (folder / "eval.json").write_text(json.dumps([entry]))
        with pytest.raises(BenchError, match=f"from {float(start)} to {float(end)} seconds; both"):
            load(tmp_path, "ipvg2026-sequential", path=folder)


def test_consisid_words_a_prompt_for_the_face(tmp_path: Path) -> None:
    image(tmp_path / "eval/face_images/1_man.png")
    image(tmp_path / "eval/face_images/2_woman.png")
    (tmp_path / "video_caption_eval_old.csv").write_text(
        "index,Class,Original_Prompt,Refined_man,Refined_woman\n"
        '1,person,x,"a {class_token}, his hat","a {class_token}, her hat"\n'
        "2,boy,x,he runs,she runs\n"
    )
    samples = load(tmp_path, "consisid", path=tmp_path)
    assert [(s.id, s.prompt) for s in samples] == [
        ("1_man--1", "a person, his hat"),
        ("1_man--2", "he runs"),
        ("2_woman--1", "a person, her hat"),
        ("2_woman--2", "she runs"),
    ]


def test_opens2v(tmp_path: Path) -> None:
    image(tmp_path / "Images/man/1.png")
    table = tmp_path / "Human-Domain_Eval.json"
    entry = {"prompt": "a man", "img_paths": ["Images/man/1.png"], "class_label": ["man"]}
    table.write_text(json.dumps({"singleface_1": entry}, indent=1))
    (sample,) = load(tmp_path, "opens2v", path=table)
    assert sample.id == "singleface_1"
    table.write_text(json.dumps({"a": entry, "b": {**entry, "img_paths": ["../x"]}}, indent=1))
    with pytest.raises(BenchError, match=r"Eval.json:11: the path '../x' leaves"):
        load(tmp_path, "opens2v", path=table)


def test_csv_and_jsonl_give_the_same_samples(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    rows = [("one", "a red hat, worn", "a.png", "b.png"), ("two", "a\nb", "b.png", "a.png")]
    lines = ["key,text,first,second"]
    lines += [f'{k},"{p}",{x},{y}' for k, p, x, y in rows]
    (tmp_path / "set.csv").write_text("\n".join(lines))
    (tmp_path / "set.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(("key", "text", "first", "second"), r))) for r in rows)
    )
    fields: dict[str, Any] = {"prompt": "text", "references": ["first", "second"], "id": "key"}
    sets = [load(tmp_path, k, path=tmp_path / f"set.{k}", **fields) for k in ("csv", "jsonl")]
    assert list(sets[0]) == list(sets[1])
    assert sets[0][1].prompt == "a\nb"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,image\nx,a.png\n", r"set.csv:1: has no column 'reference'; its columns are"),
        ("prompt,reference\nx,a.png\ny\n", r"set.csv:3: has another number of columns"),
        ('prompt,reference\n"x,a.png\n', r"set.csv:\d: not valid CSV"),
        ("prompt,reference\n", "it has no samples"),
        ("", "has no column"),
        ("prompt,reference\nx,\n", r"set.csv:2: a path is missing"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(BenchError, match=message):
        load(tmp_path, "csv", path=tmp_path / "set.csv")


def test_bad_jsonl_lists_lines(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(
        '{"prompt": "x"\n\n[1]\n{"prompt": "y", "reference": "/a"}\n'
    )
    with pytest.raises(BenchError) as caught:
        load(tmp_path, "jsonl", path=tmp_path / "set.jsonl")
    text = str(caught.value)
    assert "set.jsonl:1: not valid JSON" in text
    assert "set.jsonl:3: a line is an object" in text
    assert "set.jsonl:4: there is no file /a" in text


def test_ids_stand_once_and_are_plain(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "set.csv").write_text("i,prompt,reference\nx,p,a.png\nx,q,a.png\n../y,r,a.png\n")
    with pytest.raises(BenchError) as caught:
        load(tmp_path, "csv", path=tmp_path / "set.csv", id="i")
    text = str(caught.value)
    assert "set.csv:3: the sample id 'x' is duplicated (first at" in text
    assert "set.csv:4: '../y' cannot be a sample's id" in text


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for kind in ("ipvg2025", "ipvg2026-facial", "consisid", "opens2v", "csv"):
        with pytest.raises(BenchError, match="does not exist"):
            load(tmp_path, kind, path=tmp_path / "none")


def test_a_prefix_is_put_before_an_identitys_prompts(tmp_path: Path) -> None:
    folder = facial(tmp_path)
    samples = load(tmp_path, "ipvg2026-facial", path=folder, prefix={"id002": "A man of 50. "})
    assert [s.prompt for s in samples] == ["smiles", "A man of 50. walks"]
    words = tmp_path / "prefix.json"
    words.write_text('{"id001": "Young,"}')
    samples = load(tmp_path, "ipvg2026-facial", path=folder, prefix=words)
    assert samples[0].prompt == "Young, smiles"
    with pytest.raises(BenchError, match="a prefix for 'id9', which is not an identity"):
        load(tmp_path, "ipvg2026-facial", path=folder, prefix={"id9": "x"})


def test_limit(tmp_path: Path) -> None:
    assert len(load(tmp_path, "ipvg2026-facial", path=facial(tmp_path), limit=1)) == 1


def test_the_world_has_one_reference_a_person_and_true_videos(tmp_path: Path) -> None:
    first = load(tmp_path, "world", identities=2, prompts=2)
    assert [s.id for s in first] == [f"id00{i}/prompt{k}" for i in (1, 2) for k in (1, 2)]
    assert first[0].references == first[1].references != first[2].references
    assert len({s.prompt for s in first}) > 1
    assert all(s.target is not None and s.target.is_file() for s in first)
    other = evalset("world", identities=2, prompts=2).load(tmp_path / "another")
    assert [file_sha256(s.references[0]) for s in first] == [
        file_sha256(s.references[0]) for s in other
    ]
    assert not list(tmp_path.rglob("*.part"))


def test_a_hub_sets_pictures_are_read_as_everywhere(tmp_path: Path) -> None:
    """Cut-outs on white, 16-bit grey scaled: the very pixels that generator and metrics see."""
    import datasets

    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:, :4, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(np.full((8, 8), 32896, np.uint16)).save(tmp_path / "deep.png")
    files = [str(tmp_path / name) for name in ("clear.png", "deep.png")]
    rows = {"prompt": ["a", "b"], "face": files}
    (tmp_path / "hub").mkdir()
    datasets.Dataset.from_dict(rows).cast_column("face", datasets.Image()).to_parquet(
        tmp_path / "hub" / "train.parquet"
    )
    samples = load(tmp_path, "hub", repo=str(tmp_path / "hub"), split="train", references=["face"])
    for sample, file in zip(samples, files):
        np.testing.assert_array_equal(read_image(sample.references[0]), read_image(file))
    assert (read_image(samples[0].references[0])[:, 4:] == 255).all()
    assert (read_image(samples[1].references[0]) == 128).all()


def test_a_data_set_of_the_hub(tmp_path: Path) -> None:
    import datasets

    rows = {"text": ["walks", "runs"], "who": ["a", "b"]}
    rows["face"] = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]  # type: ignore[assignment]
    folder = tmp_path / "hub"
    folder.mkdir()
    datasets.Dataset.from_dict(rows).cast_column("face", datasets.Image()).to_parquet(
        folder / "test.parquet"
    )
    fields: dict[str, Any] = {"repo": str(folder), "prompt": "text", "references": ["face"]}
    samples = load(tmp_path, "hub", identity="who", **fields)
    assert [(s.id, s.prompt, s.identity) for s in samples] == [
        ("0", "walks", "a"),
        ("1", "runs", "b"),
    ]
    with Image.open(samples[1].references[0]) as opened:
        assert opened.getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(BenchError, match=r"has no column 'caption'; its columns are"):
        load(tmp_path, "hub", **{**fields, "prompt": "caption"})
    with pytest.raises(BenchError, match="cannot be loaded"):
        load(tmp_path, "hub", repo=str(tmp_path / "none"))


def test_a_set_as_a_hugging_face_data_set(tmp_path: Path) -> None:
    rows = load(tmp_path, "ipvg2026-facial", path=facial(tmp_path)).to_dataset()
    assert rows.column_names == ["id", "prompt", "references", "target", "identity", "timeline"]
    assert rows[1]["prompt"] == "walks"


def test_a_set_needs_samples() -> None:
    with pytest.raises(BenchError, match="The evaluation set x has a problem"):
        EvalSet([], name="x")
    with pytest.raises(BenchError, match="the prompt is empty"):
        EvalSet([Sample("1", "")], name="x")


def test_people_of_the_shipped_photograph(tmp_path: Path) -> None:
    config = evalset("photograph", people=2, prompts=["a", "b", "c"])
    samples = list(config.load(tmp_path))
    assert [s.id for s in samples[2:4]] == ["person1/prompt3", "person2/prompt1"]
    crops = {s.references[0] for s in samples}
    assert len(crops) == 2
    assert all(min(Image.open(path).size) > 60 for path in crops)
