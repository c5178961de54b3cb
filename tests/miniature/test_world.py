"""The procedural world: determinism, truth, captions, splits, layouts."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniature import words
from miniature.errors import MiniatureError
from miniature.judges.attributes import parse_prompt
from miniature.world import (
    SPLITS,
    ClipAttributes,
    Identity,
    World,
    render_clip,
    vocabulary,
    write_caption,
    write_layout,
)

SCENES = st.builds(
    ClipAttributes,
    color=st.sampled_from(words.COLORS),
    pattern=st.sampled_from(words.PATTERNS),
    motion=st.sampled_from(words.MOTIONS),
    expression=st.sampled_from(words.EXPRESSIONS),
    lighting=st.sampled_from(words.LIGHTINGS),
    hat=st.sampled_from(words.HATS),
)
SEEDS = st.integers(0, 10**6)

FROZEN_CAPTION = (
    "a portrait of someone who approaches against a wall of yellow bricks, with a frown"
)
FROZEN = [230, 204, 80, 207, 184, 75, 217, 192, 75, 215, 191, 74, 241, 213, 84, 215, 178, 80, 211, 180, 76, 198, 176, 74, 223, 198, 79, 170, 123, 75, 181, 146, 74, 210, 186, 73, 219, 197, 93, 204, 185, 152, 199, 184, 132, 204, 182, 76, 230, 204, 80, 207, 184, 75, 217, 192, 75, 215, 191, 74, 240, 213, 84, 181, 131, 75, 184, 145, 73, 198, 176, 74, 219, 190, 78, 161, 113, 83, 164, 122, 77, 210, 186, 73, 220, 196, 87, 177, 130, 84, 182, 148, 83, 204, 182, 76]  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def world() -> World:
    return World("test", size=6, seed=3, clips_per_identity=3)


def test_equal_seeds_give_equal_pixels_and_others_do_not():
    one = render_clip(Identity.from_seed(5), ClipAttributes(motion="left"), seed=2)
    two = render_clip(Identity.from_seed(5), ClipAttributes(motion="left"), seed=2)
    assert np.array_equal(one.frames, two.frames)
    assert one.caption == two.caption
    assert not np.array_equal(
        one.frames, render_clip(Identity.from_seed(6), ClipAttributes(motion="left"), seed=2).frames
    )
    assert not np.array_equal(
        one.frames, render_clip(Identity.from_seed(5), ClipAttributes(motion="left"), seed=4).frames
    )


def test_the_look_is_frozen():
    """The shipped weights were trained on this look; whoever changes it has to retrain them.

    Coarse, since another OpenCV may round a pixel on an edge differently.
    """
    clip = World("train", size=3)[2]
    coarse = clip.frames.reshape(9, 4, 16, 4, 16, 3).mean((2, 4))[[0, 8]].round().astype(int)
    assert clip.caption == FROZEN_CAPTION
    assert np.abs(coarse - np.array(FROZEN).reshape(2, 4, 4, 3)).max() <= 2


@settings(max_examples=40, deadline=None)
@given(scene=SCENES, seed=SEEDS)
def test_boxes_and_landmarks_lie_where_the_face_is(scene: ClipAttributes, seed: int):
    clip = render_clip(Identity.from_seed(seed), scene, frames=3, seed=seed)
    for box, points in [
        *zip(clip.boxes, clip.landmarks),
        (clip.reference_box, clip.reference_landmarks),
    ]:
        assert (box >= 0).all()
        assert (box <= 64).all()
        assert box[2] - box[0] > 12
        assert 18 < box[3] - box[1] < 50
        assert (points >= box[:2] - 3).all()
        assert (points <= box[2:] + 3).all()
        left, right, nose, *mouth = points
        assert left[0] < right[0]
        assert max(left[1], right[1]) < mouth[0][1] + 1
        assert nose[1] > min(left[1], right[1])


@settings(max_examples=60, deadline=None)
@given(scene=SCENES, seed=SEEDS)
def test_captions_read_back(scene: ClipAttributes, seed: int):
    caption = write_caption(scene, np.random.default_rng(seed))
    said = parse_prompt(caption)
    truth = scene.as_dict()
    assert {"color", "pattern", "motion"} <= set(said)
    assert all(truth[name] == value for name, value in said.items())
    unsaid = set(truth) - set(said)
    assert all(truth[name] in ("neutral", "none") for name in unsaid)
    assert len(caption.split()) <= 32
    assert caption == caption.lower()
    assert set(words.split_words(caption)) <= set(vocabulary())


def test_captions_say_nothing_of_identity():
    told = (
        "hair bald beard stubble goatee moustache glasses skin eyes brows nose lips mole moles "
        "freckles ears man woman boy girl he she his her tall young old blond brown black"
    )
    assert not set(told.split()) & set(vocabulary())
    assert len(vocabulary()) <= 250


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)],
)
def test_faces_move_where_the_caption_says(motion: str, axis: int, sign: int):
    for seed in range(4):
        clip = render_clip(Identity.from_seed(seed), ClipAttributes(motion=motion), seed=seed)
        steps = np.diff((clip.boxes[:, axis] + clip.boxes[:, axis + 2]) / 2)
        assert (sign * steps > 0.8).all()
        assert (np.abs(steps) < 4).all()


def test_faces_grow_shrink_turn_nod_and_hold_still():
    def boxes(motion: str) -> np.ndarray:
        return render_clip(Identity.from_seed(1), ClipAttributes(motion=motion), seed=1).boxes

    def nose(motion: str) -> np.ndarray:
        clip = render_clip(Identity.from_seed(1), ClipAttributes(motion=motion), seed=1)
        return clip.landmarks[:, 2] - (clip.boxes[:, :2] + clip.boxes[:, 2:]) / 2

    height = {m: (b := boxes(m))[:, 3] - b[:, 1] for m in ("towards", "away", "still")}
    assert (np.diff(height["towards"]) > 0.5).all()
    assert (np.diff(height["away"]) < -0.5).all()
    assert np.ptp(boxes("still"), axis=0).max() == 0
    assert np.ptp(nose("turning")[:, 0]) > 6
    assert np.ptp(nose("nodding")[:, 1]) > 4
    assert np.ptp(nose("still"), axis=0).max() == 0


def test_the_reference_is_the_same_person_in_another_scene():
    for clip in World("train", size=20):
        scene, portrait = clip.attributes, clip.reference_attributes
        assert portrait.color != scene.color
        assert portrait.pattern != scene.pattern
        assert portrait.expression != scene.expression
        assert portrait.lighting != scene.lighting
        assert portrait.hat == "none"


def test_splits_share_no_identity_and_train_shows_no_held_out_scene():
    spans = sorted((first, first + count) for first, count in SPLITS.values())
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    train, test = World("train", size=400), World("test", size=400)
    assert not any(train.attributes(i).held_out for i in range(400))
    assert 50 < sum(test.attributes(i).held_out for i in range(400)) < 150
    assert not {train.identity(i).seed for i in range(400)} & {
        test.identity(i).seed for i in range(400)
    }
    # Every word on its own is seen in training.
    for k, values in enumerate((words.COLORS, words.PATTERNS, words.MOTIONS)):
        name = ("color", "pattern", "motion")[k]
        assert {getattr(train.attributes(i), name) for i in range(400)} == set(values)


def test_identities_are_all_different():
    people = {Identity.from_seed(seed) for seed in range(300)}
    traits = {tuple(vars(p).items())[1:] for p in people}
    assert len(traits) == 300


def test_clips_of_one_identity(world: World):
    assert [world.identity(i).seed for i in range(6)] == [110_000] * 3 + [110_001] * 3
    assert len({clip.caption for clip in world}) > 1
    with pytest.raises(IndexError):
        world[6]


def test_what_cannot_be_drawn_is_said_in_a_sentence():
    with pytest.raises(MiniatureError, match=r"motion is 'sideways'; choose one of left"):
        ClipAttributes(motion="sideways")
    with pytest.raises(MiniatureError, match="no split 'dev'"):
        World("dev")
    with pytest.raises(MiniatureError, match="has 10000 identities but size 10001 needs 10001"):
        World("val", size=10_001)
    with pytest.raises(MiniatureError, match="at least 1"):
        World("val", size=0)


def test_other_lengths_and_sizes():
    clip = World("val", size=1, frames=17, resolution=128)[0]
    assert clip.frames.shape == (17, 128, 128, 3)
    assert clip.boxes.max() > 64


def test_dataset(world: World, tmp_path):
    rows = world.to_dataset(cache_dir=tmp_path).with_format("numpy")
    assert len(rows) == 6
    row, clip = rows[4], world[4]
    assert np.array_equal(row["frames"], clip.frames)
    assert np.array_equal(np.asarray(row["reference"]), clip.reference)
    assert row["caption"] == clip.caption
    assert row["motion"] == clip.attributes.motion
    assert np.allclose(row["boxes"], clip.boxes, atol=1e-4)


def test_trainer_layout_reads_back(world: World, tmp_path):
    from media.video import read_clip
    from stdrc.training.folder import read_folder

    folder = write_layout(world, tmp_path / "set", layout="trainer")
    entries, problems = read_folder(folder)
    assert not problems
    assert [e.caption for e in entries] == [clip.caption for clip in world]
    clip, entry = world[5], entries[5]
    assert entry.identity == clip.identity.name
    assert np.allclose(np.array(entry.boxes), clip.boxes, atol=0.01)
    frames = read_clip(entry.video).frames
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 4
    again = write_layout(world, tmp_path / "again", layout="trainer")
    digests = [
        [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(f.rglob("*")) if p.is_file()]
        for f in (folder, again)
    ]
    assert digests[0] == digests[1]


def test_consisid_layout_reads_back(world: World, tmp_path):
    from stdrc.training.folder import read_folder

    entries, problems = read_folder(
        write_layout(world, tmp_path / "set", layout="consisid"), "consisid"
    )
    assert not problems
    assert [e.caption for e in entries] == [clip.caption for clip in world]
    for entry, clip in zip(entries, world):
        assert entry.video.is_file()
        assert np.allclose(np.array(entry.boxes), clip.boxes, atol=0.01)
        heads = np.array(entry.heads)
        assert (heads[:, :2] <= clip.boxes[:, :2] + 0.01).all()
        assert (heads[:, 2:] >= clip.boxes[:, 2:] - 0.01).all()


def test_challenge_layouts_read_back(world: World, tmp_path):
    from bench.evalsets import evalset

    old = write_layout(world, tmp_path / "old", layout="ipvg2025")
    samples = evalset("ipvg2025", path=old).load(tmp_path)
    assert [s.id for s in samples][:4] == [
        "id001/prompt1",
        "id001/prompt2",
        "id001/prompt3",
        "id002/prompt1",
    ]
    assert [s.prompt for s in samples] == [clip.caption for clip in world]

    new = write_layout(world, tmp_path / "new", layout="ipvg2026")
    facial = evalset("ipvg2026-facial", path=new / "test_track1/final").load(tmp_path)
    assert [s.prompt for s in facial] == [clip.caption for clip in world]
    assert facial[5].identity == "id002"
    sequential = evalset("ipvg2026-sequential", path=new / "test_track2/final").load(tmp_path)
    for sample in sequential:
        assert set(words.split_words(sample.prompt)) <= set(vocabulary())
        first, second = (parse_prompt(event.description) for event in sample.timeline)
        assert first["motion"] != second["motion"]
        assert sample.timeline[0].end == sample.timeline[1].start


def test_writing_refuses_what_it_cannot_do(world: World, tmp_path):
    with pytest.raises(MiniatureError, match="no layout 'zip'"):
        write_layout(world, tmp_path / "x", layout="zip")
    (tmp_path / "note").write_text("mine")
    with pytest.raises(MiniatureError, match="not an empty folder"):
        write_layout(world, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
