"""Sequential clips: what they show, and that the judge follows their timelines."""

import numpy as np
import pytest

from bench.evalsets import evalset
from miniature.judges.metrics import MiniatureTimeline
from miniature.world.sequences import render_sequence, sample_scenes
from miniature.world.world import World


def clips(count: int, events: int = 2, frames: int = 17):
    people = World(split="test", size=count)
    for i in range(count):
        scenes = sample_scenes(np.random.default_rng([96, 0, i]), events)
        yield render_sequence(people.identity(i), scenes, frames=frames, seed=i)


@pytest.mark.parametrize(("events", "frames"), [(2, 17), (3, 25)])
def test_events_follow_one_another_and_fill_the_clip(events, frames):
    for clip in clips(4, events, frames):
        starts, ends = zip(*[(start, end) for start, end, _ in clip.timeline])
        assert starts == (0.0, *ends[:-1])
        assert ends[-1] == frames / clip.fps
        assert len(clip.frames) == len(clip.boxes) == frames
        assert len({scene.motion for scene in clip.scenes}) == events
        assert len({scene.expression for scene in clip.scenes}) == events
        assert len(clip.caption.split()) <= 32
        middles = clip.boxes.reshape(frames, 2, 2).mean(1)
        # Nobody jumps at a border: no step there is longer than the world's fastest elsewhere.
        assert np.abs(np.diff(middles, axis=0)).max() < 6
        background = clip.frames[:, :4, :4].astype(int)
        assert np.abs(np.diff(background, axis=0)).max() <= 60  # one background throughout


def test_equal_seeds_draw_equal_clips():
    one, two = (next(iter(clips(1))) for _ in range(2))
    assert np.array_equal(one.frames, two.frames)
    assert one.timeline == two.timeline


def test_the_judge_answers_planted_faults_monotonically():
    made = list(clips(12))

    def mean(measured, change):
        metric = MiniatureTimeline(measured=measured)
        for clip in made:
            metric.update(change(clip), clip.timeline, clip.fps)
        return float(metric.compute())

    def late(share):
        def change(clip):
            n = round(share * len(clip.frames))
            return np.concatenate([np.repeat(clip.frames[:1], n, 0), clip.frames[: 17 - n]])

        return change

    def swapped(clip):
        k = round(clip.timeline[0][1] * clip.fps)
        return np.concatenate([clip.frames[k:], clip.frames[:k]])

    accuracy = [mean("accuracy", late(share)) for share in (0.0, 0.25, 0.5)]
    assert accuracy[0] > 0.85
    assert accuracy == sorted(accuracy, reverse=True)
    assert mean("accuracy", swapped) < 0.15
    assert mean("order", late(0.0)) > 0.9
    assert mean("order", swapped) < -0.9
    errors = [mean("boundary", late(share)) for share in (0.0, 0.5)]
    assert errors[0] < 0.4 < errors[1]


def test_the_evaluation_set_has_timelines(tmp_path):
    samples = evalset("world_sequential", identities=2, events=3, frames=25).load(tmp_path)
    assert len(samples) == 2
    for sample in samples:
        assert len(sample.timeline) == 3
        assert sample.timeline[-1].end == 25 / 8
        assert sample.target.is_file()
        assert "then" in sample.prompt
