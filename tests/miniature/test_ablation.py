"""The ablation's frontiers, tests, data and measures, on made-up numbers and two clips."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from miniature.ablation import data, measure, plan, report, training
from miniature.ablation.data import REFERENCES_OF, head_crop
from miniature.ablation.frontier import Difference, compare, gap, mean_interval, polyline
from miniature.ablation.kept import curve_file, is_measured, keep, restore, results_of
from miniature.ablation.results import (
    LEAKS,
    QUESTIONS,
    Frontier,
    question_table,
    read_frontiers,
    verdict,
)
from miniature.ablation.training import base_file, load_transformer, new_transformer, snapshot_file
from miniature.judges.attributes import LEAKING, leakage
from miniature.world import World
from stdrc.training.checkpoint import save_tensors

WEIGHTS = np.array([0.0, 0.5, 1.5, 4.0, 8.0])


def made_up(
    slope: float, start: float, seed: int = 0, people: int = 48, reach: float = 0.6
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """A frontier whose leakage is start + slope * identity, noisy by person."""
    rng = np.random.default_rng(seed)
    level = reach * WEIGHTS[:, None] / WEIGHTS.max()
    identity = level + 0.1 * rng.standard_normal(people)
    leak = start + slope * level + 0.1 * rng.standard_normal(people)
    return (identity, leak), identity


def test_a_planted_difference_is_found_at_matched_identity_though_the_weights_differ() -> None:
    """One frontier reaches twice as far at the same weights; leakage differs by 0.2 everywhere."""
    first = [made_up(0.5, 0.4, seed) for seed in range(3)]
    second = [made_up(0.5, 0.2, seed + 10, reach=0.3) for seed in range(3)]
    found = compare(first, second, least=0.02)
    assert found.low < 0.2 < found.high
    assert found.high - found.low < 0.2
    assert found.p < 0.01
    assert found.shared == pytest.approx((0.0, 0.3), abs=0.05)


def test_a_frontier_against_itself_is_no_difference() -> None:
    sides = [made_up(0.5, 0.2, seed) for seed in range(2)]
    found = compare(sides, sides, least=0.02)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_frontiers_that_share_too_little_cannot_be_compared() -> None:
    (x, y), _ = made_up(0.5, 0.2)
    far = ((x + 5, y), x + 5)
    found = compare([((x, y), x)], [far], least=0.02)
    assert math.isnan(found.mean)
    assert found.p == 1.0
    assert verdict(found, 1.0) == "exploratory: one seed"
    twice = compare([((x, y), x)] * 2, [far] * 2, least=0.02)
    assert verdict(twice, 1.0) == "undecided: the frontiers share too little"


def test_one_seeds_whims_widen_the_interval() -> None:
    same = [made_up(0.5, 0.4, 1)] * 3
    apart = [made_up(0.5, start, 1) for start in (0.3, 0.4, 0.5)]
    other = [made_up(0.5, 0.2, 7)] * 3
    quiet, loud = compare(same, other, 0.02), compare(apart, other, 0.02)
    assert loud.mean == pytest.approx(quiet.mean)
    assert loud.high - loud.low > 2 * (quiet.high - quiet.low)
    assert loud.p > quiet.p


def test_a_frontier_ends_where_more_weight_buys_nothing() -> None:
    identity = np.array([[0.0], [0.3], [0.5], [0.4]])
    x, y = polyline((identity, np.array([[0.1], [0.2], [0.3], [0.9]])), identity)
    assert x.tolist() == [0.0, 0.3, 0.5]
    assert y.tolist() == [0.1, 0.2, 0.3]


lines = st.lists(
    st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=2, max_size=6, unique_by=lambda p: p[0]
).map(lambda points: tuple(np.array(sorted(points)).T))


@settings(deadline=None, max_examples=60)
@given(lines, lines, st.floats(-1, 1))
def test_the_gap_turns_round_and_moves_with_its_frontiers(a, b, shift: float) -> None:
    forward, backward = gap(a, b, 0.02), gap(b, a, 0.02)
    assert forward[1:] == backward[1:]
    if math.isnan(forward[0]):
        assert math.isnan(backward[0])
        return
    assert forward[0] == pytest.approx(-backward[0], abs=1e-9)
    assert gap((a[0], a[1] + shift), b, 0.02)[0] == pytest.approx(forward[0] + shift, abs=1e-9)


def test_mean_interval_covers_people_and_seeds() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        people, seeds = 0.2 * rng.standard_normal(40), 0.05 * rng.standard_normal((3, 1))
        mean, low, high = mean_interval(people + seeds + 0.2 * rng.standard_normal((3, 40)))
        assert low <= mean <= high
        held += low <= 0 <= high
    assert held >= 184  # 92 %; two-way jackknives err on the wide side


def test_verdicts_are_those_of_the_experiment() -> None:
    def answer(mean: float, low: float, high: float) -> Difference:
        return Difference(mean, low, high, 0.5, 3, (0.0, 0.5))

    assert verdict(answer(0.2, 0.1, 0.3), 0.01) == "yes"
    assert verdict(answer(-0.2, -0.3, -0.1), 0.01) == "the reverse"
    assert verdict(answer(0.01, -0.02, 0.04), 0.6) == "no difference worth the name"
    assert verdict(answer(0.1, -0.1, 0.3), 0.4) == "undecided"
    assert verdict(answer(0.2, 0.01, 0.4), 0.2) == "undecided"


def test_the_queue_trains_the_four_main_points_first_and_everything_once() -> None:
    jobs = plan.queue()
    assert len(set(jobs)) == len(jobs) == 3 * len(plan.POINTS)
    assert [job for job, _ in jobs[:4]] == ["train"] * 4
    first = [(point.placement, point.arm, point.seed) for _, point in jobs[:4]]
    assert sorted(first) == sorted(
        (place, arm, 0) for place in ("overlap", "tass") for arm in ("off", "on")
    )
    trained: set[plan.Point] = set()
    for job, point in jobs:
        if job == "train":
            trained.add(point)
        assert point in trained
    assert plan.Point("shift2", "on").where.shift == (2.0, 2.0)
    assert plan.BUDGETS["late"] == plan.SNAPSHOTS[-1]
    assert set(plan.BUDGETS.values()) <= set(plan.SNAPSHOTS)


def test_training_references_are_heads_of_the_clip_or_of_other_scenes() -> None:
    world = World("train", size=2)
    clip = world[1]
    whole = {np.asarray(head_crop(f, b)).tobytes() for f, b in zip(clip.frames, clip.boxes)}
    made = {arm: REFERENCES_OF[arm](clip, 1) for arm in plan.ARMS}
    for images in made.values():
        assert len(images) == plan.REFERENCES
        assert {image.size for image in images} == {(64, 64)}
    seen = {arm: [np.asarray(i).tobytes() for i in images] for arm, images in made.items()}
    assert set(seen["off"]) <= whole
    # Never as they are: augmentation has no plain variant, and other scenes are other scenes.
    assert not set(seen["on"]) & whole
    assert not set(seen["cross"]) & whole
    again = [np.asarray(i).tobytes() for i in REFERENCES_OF["on"](clip, 1)]
    assert again == seen["on"]


def test_leakage_counts_what_the_prompt_asked_otherwise() -> None:
    said = {"expression": "sad", "hat": "red", "color": "green", "pattern": "waves"}
    portrait = {
        "expression": "smiling", "lighting": "cold", "hat": "none", "color": "blue",
        "pattern": "waves",
    }  # fmt: skip
    obedient = {**portrait, "expression": "sad", "hat": "red", "color": "green"}
    kept = leakage(said, obedient, portrait)
    assert [kept[name] for name in ("expression", "hat", "background", "any")] == [0, 0, 0, 0]
    assert math.isnan(kept["lighting"])  # the prompt says nothing of light
    pasted = leakage(said, portrait, portrait)
    assert [pasted[name] for name in ("expression", "hat", "background", "any")] == [1, 1, 1, 1]
    # A third colour is wrong, but it is not the reference's.
    other = leakage(said, {**portrait, "color": "pink"}, portrait)
    assert other["background"] == 0
    assert other["any"] == pytest.approx(2 / 3)
    same = leakage({"lighting": "cold"}, portrait, portrait)
    assert all(math.isnan(same[name]) for name in (*LEAKING, "any"))


def test_weights_come_back_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    model = new_transformer()
    state = {name: value.half() for name, value in model.state_dict().items()}
    state["proj_in.weight"] = state["proj_in.weight"] + 1
    save_tensors(tmp_path / "a.safetensors", state)
    back = load_transformer(tmp_path / "a.safetensors")
    assert torch.equal(back.proj_in.weight, state["proj_in.weight"].float())
    save_tensors(tmp_path / "b.safetensors", {"nothing.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"nothing\.weight"):
        load_transformer(tmp_path / "b.safetensors")


def test_half_measured_points_are_left_out_of_the_tables(tmp_path: Path) -> None:
    point = plan.Point("tass", "on")
    rows = {"identity": [0.3, 0.5], "leak_any": [0.5, None]}
    about = {"own": 0.8, "stranger": 0.2, "rows": rows}
    (tmp_path / point.name).mkdir()
    for weight in plan.REFERENCE_WEIGHTS[:-1]:
        (tmp_path / point.name / f"late-w{weight:g}.json").write_text(json.dumps(about))
    assert read_frontiers(tmp_path) == {}
    last = tmp_path / point.name / f"late-w{plan.REFERENCE_WEIGHTS[-1]:g}.json"
    last.write_text(json.dumps(about))
    found = read_frontiers(tmp_path)[point.name, "late"]
    assert isinstance(found, Frontier)
    np.testing.assert_allclose(found.rows["identity"][0], [1 / 6, 0.5])
    assert np.isnan(found.rows["leak_any"][0, 1])
    table = question_table({}, QUESTIONS)
    assert sum("not measured" in line for line in table) == len(QUESTIONS) == 8


def fake_results(work: Path, point: plan.Point, leak: float) -> None:
    """Every file that measuring a point leaves; identity grows with the weight, leakage as told."""
    rng = np.random.default_rng(abs(hash(point.name)) % 2**32)
    people = 12
    for file in results_of(work, point):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.name.startswith("reading"):
            level = {
                name: (base + 0.01 * rng.standard_normal(people)).tolist()
                for name, base in (("own", 0.8), ("stranger", 0.9), ("none", 0.85), ("same", 0.7))
            }
            value: dict = {"error": {"0.7": level, "0.9": level}}
        elif file.name == "attention.json":
            value = {
                "to_reference": [[0.2] * 192] * 2,
                "received": [[1 / 64] * 64] * 2,
                "offset": [np.full((15, 15), 1 / 225).tolist()] * 2,
            }
        else:
            weight = float(file.stem.split("-w")[1])
            identity = 0.2 + 0.05 * weight + 0.05 * rng.standard_normal(people)
            rows = {name: rng.random(people).tolist() for name in ("copy_paste", "background")}
            rows |= {"identity": identity.tolist(), "text": (80 - weight + identity).tolist()}
            rows |= {name: (leak + 0.1 * rng.random(people)).tolist() for name in LEAKS}
            value = {"own": 0.8, "stranger": 0.2, "rows": rows}
        file.write_text(json.dumps(value))


def test_tables_and_pictures_come_from_whatever_is_there(tmp_path: Path, monkeypatch) -> None:
    for placement, arm, leak in (
        ("overlap", "off", 0.8), ("tass", "off", 0.6), ("overlap", "on", 0.3), ("tass", "on", 0.3),
    ):  # fmt: skip
        for seed in (0, 1):
            fake_results(tmp_path, plan.Point(placement, arm, seed), leak)
    fake_results(tmp_path, plan.Point("strata", "on"), 0.3)
    page = tmp_path / "EXPERIMENT.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "EXPERIMENT", page)
    report.report(tmp_path, tmp_path)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    rows = {
        line.split("|")[1].strip()[0]: line for line in text.splitlines() if "at matched" in line
    }
    assert "| yes |" in rows["a"]
    assert "| yes |" in rows["d"]
    assert "| 2 |" in rows["d"]
    assert "exploratory" in text
    for name in ("frontier", "reading", "attention"):
        assert (tmp_path / f"ablation_{name}.png").stat().st_size > 5000
    page.write_text("no marks")
    with pytest.raises(ValueError, match="made by"):
        report.report(tmp_path, tmp_path)


def test_what_is_kept_lets_another_machine_go_on(tmp_path: Path) -> None:
    work, kept, other = (tmp_path / name for name in ("work", "kept", "other"))
    done, half = plan.Point("overlap", "off"), plan.Point("tass", "off")
    fake_results(work, done, 0.5)
    fake_results(work, half, 0.5)
    results_of(work, half)[3].unlink()
    for file in (base_file(work), snapshot_file(work, done, plan.SNAPSHOTS[-1])):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"weights")
    training = work / "trainings" / done.name
    training.mkdir(parents=True)
    # Killed after step 2, gone on from a checkpoint after step 1.
    lines = [{"step": s, "flow": f, "alignment": 0.0} for s, f in ((1, 3.0), (2, 9.0), (2, 2.0))]
    (training / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    keep(work, kept)
    restore(other, kept)
    assert is_measured(other, done)
    assert not is_measured(other, half)
    assert base_file(other).read_bytes() == b"weights"
    assert json.loads(curve_file(other, done).read_text())["flow"] == [3.0, 2.0]
    # What is there is not overwritten by what was kept before.
    base_file(other).write_bytes(b"newer")
    restore(other, kept)
    assert base_file(other).read_bytes() == b"newer"


def test_points_read_text_as_their_base_learned_it(tmp_path: Path, monkeypatch) -> None:
    """By the experiment's own text side, whatever the shipped one has become."""
    weights = load_file(training.TEXT_SIDE)
    save_tensors(tmp_path / "other.safetensors", {k: v + 1 for k, v in weights.items()})
    monkeypatch.setattr(training, "TEXT_SIDE", tmp_path / "other.safetensors")
    pipe = training.frozen_parts.__wrapped__()
    for name in ("text_encoder", "connectors"):
        for key, value in getattr(pipe, name).state_dict().items():
            other = weights[f"{name}.{key}"].float() + 1
            torch.testing.assert_close(value, other, atol=2e-2, rtol=0)


@pytest.mark.slow
def test_a_tiny_ablation_runs_is_killed_and_goes_on(tmp_path: Path, monkeypatch) -> None:
    """Base, a point and its measures on four clips, two steps each; a second run adds nothing."""
    monkeypatch.setattr(data, "CLIPS", 4)
    monkeypatch.setattr(data, "GROUP", 2)
    monkeypatch.setattr(training, "SNAPSHOTS", (1, 2))
    monkeypatch.setattr(measure, "SNAPSHOTS", (1, 2))
    monkeypatch.setattr(measure, "BUDGETS", {"late": 2})
    monkeypatch.setattr(measure, "PEOPLE", 2)
    monkeypatch.setattr(measure, "ATTENTION_PEOPLE", 2)
    monkeypatch.setattr(measure, "REFERENCE_WEIGHTS", (0.0, 1.0))
    read = training.TrainConfig.load
    monkeypatch.setattr(
        training.TrainConfig, "load", lambda path, more: read(path, [*more, "steps=2"])
    )
    for cached in (measure.judges, measure.encoded):
        cached.cache_clear()
    point = plan.Point("tass", "on")
    try:
        for _ in range(2):
            training.train_base(tmp_path)
            training.train_point(tmp_path, point)
            measure.measure_base(tmp_path)
            measure.measure_point(tmp_path, point, "late")
    finally:
        for cached in (measure.judges, measure.encoded):
            cached.cache_clear()
    base = load_file(base_file(tmp_path))
    first, last = (load_file(snapshot_file(tmp_path, point, step)) for step in (1, 2))
    assert set(base) == set(first) == set(last)
    assert all("audio" not in name for name in base)
    moved = [name for name in base if not torch.equal(first[name], last[name])]
    assert len(moved) > 20
    curve = (tmp_path / "trainings" / point.name / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in curve] == [1, 2]
    folder = tmp_path / "results" / point.name
    assert len(list(folder.iterdir())) == 2 + 2 + 1
    rows = json.loads((folder / "late-w1.json").read_text())["rows"]
    assert {len(values) for values in rows.values()} == {2}
    seen = json.loads((folder / "attention.json").read_text())
    for block, mass in enumerate(seen["to_reference"]):
        # Every block's softmax over 192 video and 64 reference tokens: the parts add up.
        assert 0 < np.mean(mass) < 1
        assert sum(seen["received"][block]) == pytest.approx(1, abs=1e-2)
        assert np.sum(seen["offset"][block]) == pytest.approx(1, abs=1e-2)
