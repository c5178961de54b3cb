"""A sample's timeline in a sweep: keys, prompts, cost, and what tables can say of references."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bench import config as cfg
from bench.errors import BenchError
from bench.evalsets import evalset
from bench.evalsets.detect import evalset_at
from bench.evalsets.samples import Event, Sample, Shown
from bench.generators import Settings
from bench.scoring import inputs, item_of
from bench.sweep import plan
from media.writing import write_video
from metrics.suite import MetricSuite
from miniature.world.attributes import ClipAttributes
from miniature.world.identity import Identity
from miniature.world.render import render_portrait

from .test_stdrc_generator import make, section, weights  # noqa: F401  (a fixture)

HALF = 5 / 8 / 2


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    timeline = [[0, HALF, "a person nods"], {"start": HALF, "end": 1, "description": "one waves"}]
    rows = [
        {"prompt": "a person", "reference": "a.png", "timeline": timeline},
        {
            "prompt": "two people",
            "reference": [
                {"image": "a.png", "person": "a", "end": HALF},
                {"image": "b.png", "person": "b", "start": HALF},
            ],
            "timeline": timeline,
        },
        {"prompt": "a person", "reference": "b.png", "timeline": []},
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(table: Path):
    return evalset("jsonl", path=table, timeline="timeline").load(table.parent)


def test_a_table_says_what_happens_when_and_who_is_shown_when(table):
    first, second, third = read(table)
    assert first.timeline == (Event(0, HALF, "a person nods"), Event(HALF, 1, "one waves"))
    assert first.shown == third.shown == third.timeline == ()
    assert second.shown == (Shown("a", None, HALF), Shown("b", HALF, None))
    assert [path.name for path in second.references] == ["a.png", "b.png"]


def test_csv_config_and_the_challenges_file_say_it_too(table):
    """Whom a reference shows, and when: by columns, in the YAML itself, in eval.json."""
    told = (Shown("a", None, HALF), Shown("b", HALF, None))
    csv = table.with_name("people.csv")
    header = "prompt,reference,reference_person,reference_end,reference2,reference2_person"
    csv.write_text(
        f"{header},reference2_start\ntwo people,a.png,a,{HALF},b.png,b,{HALF}\none,a.png,a,,,,\n"
    )
    two, one = evalset_at(csv).load(table.parent)
    assert two.shown == told
    assert [path.name for path in two.references] == ["a.png", "b.png"]
    assert (one.shown, len(one.references)) == ((Shown("a"),), 1)
    row = json.loads(table.read_text().splitlines()[1])
    listed = {"kind": "list", "timeline": "timeline", "samples": [row]}
    run = {"name": "t", "evalset": listed, "generator": {"kind": "folder", "path": "."}}
    path = table.with_name("run.yaml")
    path.write_text(yaml.safe_dump(run))
    (sample,) = cfg.load_config(path).evalset.load(table.parent)
    assert sample == replace(read(table)[1], id="1", index=1)
    images = [{"image": "a.png", "person": "a", "end": HALF}]
    images.append({"image": "b.png", "person": "b", "start": HALF})
    entry = {"global_prompt": "two people", "img_paths": images, "temporal_captions": [[0, 1, "x"]]}
    (table.parent / "eval.json").write_text(json.dumps([entry]))
    (sample,) = evalset_at(table.parent / "eval.json").load(table.parent)
    assert sample.shown == told
    entry |= {"img_paths": ["a.png", "b.png"], "class_label": ["man", "man"]}
    (table.parent / "eval.json").write_text(json.dumps([entry]))
    (sample,) = evalset_at(table.parent / "eval.json").load(table.parent)
    assert [shown.person for shown in sample.shown] == ["man 1", "man 2"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"timeline": [[0, "later", "x"]]}, "an event has start, end and description"),
        ({"timeline": [{"start": 0, "end": 1}]}, "an event has start, end and description"),
        ({"reference": {"image": "a.png", "start": "soon"}}, "start and end are seconds"),
        ({"reference": {"image": "a.png", "start": 2, "end": 1}}, "start at 0 or later"),
        ({"reference": {"image": "a.png", "when": 2}}, "and no 'when'"),
    ],
)
def test_nonsense_is_refused_with_its_line(table, row, problem):
    given = {"prompt": "p", "reference": "a.png", "timeline": [], **row}
    table.write_text(json.dumps(given) + "\n")
    with pytest.raises(BenchError, match=problem):
        read(table)


def config(tmp_path: Path, weights: Path, table: Path, **sentence: str) -> cfg.BenchConfig:  # noqa: F811
    return cfg.BenchConfig.model_validate(
        {
            "name": "t",
            "evalset": {"kind": "jsonl", "path": str(table), "timeline": "timeline"},
            "generator": section(weights, **sentence),
            "sweep": {
                "base": {"placement": "tass", "augmentation": "on", "steps": 2},
                "list": [{}, {"timeline": "joined"}, {"timeline": "blended"}],
            },
        }
    )


def test_ways_are_cells_and_cost_what_they_cost(tmp_path, weights, table):  # noqa: F811
    samples, generator = read(table), make(weights)
    planned = plan(config(tmp_path, weights, table), samples, generator)
    assert [cell.label for cell in planned.cells] == ["stdrc", "joined", "blended"]
    each = planned.cells[0].passes
    # The second sample's references change halfway whatever its text does: two segments always.
    plain, blended = each * (1 + 2 + 1), each * (2 + 2 + 1)
    assert planned.passes == 2 * plain + blended
    told = config(tmp_path, weights, table, event_sentence="{start} {end} {prompt}")
    other = plan(told, samples, make(weights, event_sentence="{start} {end} {prompt}"))
    same = [a.id == b.id for a, b in zip(planned.cells, other.cells)]
    assert same == [True, False, True]


def test_each_way_makes_another_video_and_only_of_samples_with_a_timeline(weights, table):  # noqa: F811
    generator, samples = make(weights), list(read(table))
    asked = Settings(placement="tass", augmentation="on", steps=2, seed=1)
    base = generator.resolve(asked).settings
    made = {
        way: [
            np.asarray(getattr(video, "video", video))
            for video in generator.generate(samples, base.replace(timeline=way))
        ]
        for way in (None, "joined", "blended")
    }
    for way in ("joined", "blended"):
        assert not np.array_equal(made[way][0], made[None][0])
        assert np.array_equal(made[way][2], made[None][2])
    assert not np.array_equal(made["joined"][0], made["blended"][0])


def test_when_a_reference_counts_is_part_of_the_videos_key(weights):  # noqa: F811
    generator = make(weights)
    plain = Sample("1", "p")
    keys = {
        generator.content(sample, 0)
        for sample in (
            plain,
            Sample("1", "p", shown=(Shown("a"),)),
            Sample("1", "p", shown=(Shown("a", 1.0),)),
            Sample("1", "p", timeline=(Event(0, 1, "x"),)),
        )
    }
    assert len(keys) == 4


def test_several_faces_of_opens2v_go_from_its_json_to_scores(tmp_path, weights):  # noqa: F811
    """Its multi-person samples as published: each image is another person."""
    for number, seed in enumerate((110_001, 110_002)):
        pixels = render_portrait(Identity.from_seed(seed), ClipAttributes())[0]
        (tmp_path / "Images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"Images/{number}.png")
    entry = {
        "prompt": "A man and a woman talk.",
        "img_paths": ["Images/0.png", "Images/1.png"],
        "class_label": ["man", "woman"],
    }
    path = tmp_path / "Human-Domain_Eval.json"
    path.write_text(json.dumps({"multiface_1": entry}, indent=4))
    samples = evalset("opens2v", path=path).load(tmp_path)
    assert [shown.person for shown in samples[0].shown] == ["man", "woman"]
    generator = make(weights)
    unnamed = [replace(samples[0], shown=())]  # for all one knows of one person
    for placement, of, warned in (
        ("tass", samples, False),
        ("overlap", samples, True),
        ("overlap", unnamed, False),
    ):
        asked = Settings(placement=placement, augmentation="on", steps=2, seed=1)
        (video,) = generator.generate(of, generator.resolve(asked).settings)
        remark = getattr(video, "remark", "")
        assert ("References of 2 people stand at one place" in remark) == warned
    write_video(tmp_path / "v.mp4", np.asarray(getattr(video, "video", video)), 8.0)
    suite = MetricSuite(["identity.people.miniature", "identity.people.miniature.absence"])
    mean, absence = suite.score([item_of(samples[0], tmp_path / "v.mp4")])
    assert mean.status == absence.status == "ok", mean.reason
    assert len(mean.detail["similarity"]) == 2
    assert 0 <= absence.value <= 1


def test_whom_a_metric_was_shown_is_part_of_a_scores_inputs(table):
    sample = read(table)[1]
    item = item_of(sample, table)
    other = item_of(replace(sample, shown=(Shown("a"), Shown("b"))), table)
    assert inputs(("people",), item, "0") != inputs(("people",), other, "0")
    assert inputs(("reference",), item, "0") == inputs(("reference",), other, "0")
