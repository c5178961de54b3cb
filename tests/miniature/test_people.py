"""Clips of several people: exact truth, judges that read it, and measures that answer faults."""

import numpy as np
import pytest

from bench.evalsets import evalset
from benchmarks.people_faults import FAULTS, SHARES, reading
from benchmarks.people_faults import clips as faulty_clips
from miniature.judges.faces import MiniatureFaces
from miniature.world.people import render_people
from miniature.world.sequences import sample_scenes
from miniature.world.world import World


def clips(count: int, arrangement: str = "beside", people: int = 2, frames: int = 16):
    world = World(split="test", size=count * people)
    for i in range(count):
        scenes = sample_scenes(np.random.default_rng([97, 0, i]), people)
        cast = [world.identity(i * people + k) for k in range(people)]
        yield render_people(cast, scenes, arrangement, frames=frames, seed=i)


@pytest.mark.parametrize("people", [2, 3])
def test_beside_each_has_a_square_and_in_turn_a_part(people):
    for clip in clips(2, "beside", people):
        assert clip.frames.shape == (16, 64, 64 * people, 3)
        for k, boxes in enumerate(clip.boxes):
            assert (boxes[:, [0, 2]] >= 64 * k).all()
            assert (boxes[:, [0, 2]] <= 64 * (k + 1)).all()
        assert set(clip.times) == {(0.0, 2.0)}
    for clip in clips(2, "in_turn", people):
        assert clip.frames.shape == (16, 64, 64, 3)
        starts, ends = zip(*clip.times, strict=True)
        assert starts == (0.0, *ends[:-1])
        assert ends[-1] == 2.0
        seen = ~np.isnan(clip.boxes[:, :, 0])
        assert (seen.sum(axis=0) == 1).all()  # one person at any time
        assert len(clip.caption.split()) <= 32
    one, two = (next(iter(clips(1))) for _ in range(2))
    assert np.array_equal(one.frames, two.frames)


def test_the_detector_finds_everybody_where_they_are():
    faces = MiniatureFaces()
    for clip in clips(3):
        for t, found in enumerate(faces.detect(clip.frames)):
            assert len(found) == 2
            middles = found.boxes.reshape(2, 2, 2).mean(1).numpy()
            truth = clip.boxes[:, t].reshape(2, 2, 2).mean(1)
            apart = np.linalg.norm(middles[:, None] - truth, axis=2).min(axis=0)
            assert apart.max() < 4


READINGS = [(spoil, kind, *read) for spoil, kind, reads in FAULTS for read in reads]


@pytest.mark.parametrize(
    ("spoil", "kind", "metric", "of", "rises"),
    READINGS,
    ids=[f"{kind}-{spoil.__name__}-{of}" for spoil, kind, _, of, _ in READINGS],
)
def test_planted_faults_are_answered_monotonically(spoil, kind, metric, of, rises):
    made = faulty_clips(kind, 4)
    values = [reading(metric, of, made, spoil, share) for share in SHARES]
    assert values == sorted(values, reverse=not rises)
    assert abs(values[-1] - values[0]) > 0.3
    if kind != "events" and not rises:
        assert values[0] > 0.8


def test_the_evaluation_set_says_who_and_when(tmp_path):
    (beside,) = evalset("world_people", clips=1).load(tmp_path)
    assert len(beside.references) == len({s.person for s in beside.shown}) == 2
    assert beside.timeline == ()
    (turns,) = evalset("world_people", clips=1, arrangement="in_turn", frames=16).load(tmp_path)
    assert [(s.start, s.end) for s in turns.shown] == [(0, 1), (1, 2)]
    assert [(e.start, e.end) for e in turns.timeline] == [(0, 1), (1, 2)]
    assert turns.target.is_file()
