"""Timelines and references with a time: segments, weights, and the blended velocity."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stdrc.errors import STDRCError
from stdrc.positions import ReferencePlacement
from stdrc.timeline import Event, Reference, blend_weights, joined_prompt, segments
from tests.stdrc.test_pipeline import CALL, PROMPT, count_calls, largest, picture

SECONDS = 9 / 8
HALF = SECONDS / 2
times = st.floats(0, 5, allow_nan=False)


@given(st.lists(st.tuples(times, times), max_size=4), st.lists(times, min_size=1, max_size=20))
def test_every_moment_belongs_to_the_events_that_hold_then(spans, moments):
    events = [Event(min(a, b), max(a, b) + 0.1, str(i)) for i, (a, b) in enumerate(spans)]
    cut = segments(6.0, events)
    starts = sorted({s.start for s in cut})
    for t in moments:
        start = max(s for s in starts if s <= t)
        here = [s for s in cut if s.start == start]
        holds = [i for i, e in enumerate(events) if e.start <= t < e.end]
        assert [s.event for s in here] == (holds or [None])
        assert sum(s.share for s in here) == pytest.approx(1)


@given(
    st.lists(st.floats(0.01, 9), min_size=0, max_size=5, unique=True),
    st.floats(0, 3),
    st.lists(st.floats(-1, 10), min_size=1, max_size=20),
)
def test_weights_are_shares_that_add_up_to_one(borders, fade, moments):
    moments = torch.tensor(moments, dtype=torch.float64)
    weights = blend_weights([0.0, *sorted(borders)], moments, fade)
    assert weights.min() >= 0
    assert weights.max() <= 1
    torch.testing.assert_close(weights.sum(0), torch.ones_like(moments))


def test_far_from_borders_a_segment_has_its_moments_to_itself():
    weights = blend_weights([0.0, 2.0, 4.0], torch.tensor([1.0, 1.75, 2.0, 2.25, 3.0, 5.0]), 0.5)
    right = [[1, 1, 0.5, 0, 0, 0], [0, 0, 0.5, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    assert weights.tolist() == right


@pytest.mark.parametrize("span", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_an_event_needs_a_length(span):
    with pytest.raises(STDRCError, match="has to start at 0 or later and end after that"):
        Event(*span, "waves")


def test_what_starts_behind_the_end_is_refused():
    with pytest.raises(STDRCError, match="ends after 1 seconds, and something is to start at 2"):
        segments(1.0, [Event(2, 3, "waves")])


def test_a_template_without_its_words_is_refused():
    events = [Event(0, 1.5, "he waves.")]
    told = joined_prompt("A man.", events, "[{start:.1f}-{end:.1f}] {prompt}")
    assert told == "A man. [0.0-1.5] he waves"
    with pytest.raises(STDRCError, match=r"has \{start\}, \{end\} and \{prompt\}"):
        joined_prompt("A man.", events, "at {time} {prompt}")


def test_one_event_is_the_plain_pipeline_to_the_bit(pipe):
    plain = pipe(PROMPT, reference=picture(), seeds=0, **CALL).frames
    event = Event(0.0, SECONDS, PROMPT)
    timed = pipe("something else", reference=picture(), seeds=0, timeline=[event], **CALL).frames
    assert torch.equal(plain, timed)
    always = Reference(picture(), "a")
    assert torch.equal(plain, pipe(PROMPT, reference=always, seeds=0, **CALL).frames)


def test_equal_events_blend_to_the_plain_pipeline(pipe):
    plain = pipe(PROMPT, reference=picture(), seeds=0, **CALL).frames
    events = [Event(0, HALF, PROMPT), Event(HALF, SECONDS, PROMPT)]
    for fade in (0.0, 0.4):
        made = pipe("x", reference=picture(), seeds=0, timeline=events, fade=fade, **CALL).frames
        assert largest(made, plain) < 1e-5


def test_a_step_follows_the_event_of_its_frame(pipe):
    """After one step without a fade, each latent frame is that of its own event's pipeline."""
    call = {**CALL, "num_inference_steps": None, "sigmas": [1.0, 0.5]}
    taken = []

    def keep(_, step, __, state):
        if step == 0:
            taken.append(state["latents"].clone())
        return {}

    first, second = "a person walks left", "a person nods"
    common = {"reference": picture(), "seeds": 0, "callback_on_step_end": keep, **call}
    pipe(first, **common)
    pipe(second, **common)
    events = [Event(0, HALF, first), Event(HALF, SECONDS, second)]
    pipe("x", timeline=events, fade=0.0, **common)
    one, two, mixed = (x.unflatten(1, (3, -1)) for x in taken)  # [1, frames, tokens, C]
    # Three latent frames: pixel frame 0, frames 1 to 4 and 5 to 8; the border is at 4.5.
    assert largest(mixed[:, :2], one[:, :2]) < 1e-6
    assert largest(mixed[:, 2], two[:, 2]) < 1e-6
    assert largest(one[:, 2], two[:, 2]) > 1e-3


def test_a_segment_costs_a_step_more(pipe, monkeypatch):
    calls = count_calls(monkeypatch, pipe.transformer)
    pipe(PROMPT, reference=picture(), seeds=0, **CALL)
    plain = len(calls)
    events = [Event(0, HALF, "a"), Event(HALF, SECONDS, "b")]
    pipe(PROMPT, reference=picture(), seeds=0, timeline=events, **CALL)
    assert len(calls) == 3 * plain


def test_a_reference_is_left_out_of_other_intervals(pipe, monkeypatch):
    calls = count_calls(monkeypatch, pipe.transformer)
    people = [Reference(picture(1), "a", end=HALF), Reference(picture(2), "b", start=HALF)]
    both = pipe(PROMPT, reference=people, seeds=0, fade=0.0, **CALL).frames
    tokens = {shape[1] for shape in calls}
    assert tokens == {3 * 64, 4 * 64}  # never two references at once
    changed = [people[0], Reference(picture(3), "b", start=HALF)]
    other = pipe(PROMPT, reference=changed, seeds=0, fade=0.0, **CALL).frames
    assert largest(both, other) > 1e-4


def test_a_timed_reference_stands_beside_its_interval(pipe):
    rope = pipe.transformer.rope
    size = {"frames": 3, "height": 8, "width": 8, "fps": 8.0}
    tass = ReferencePlacement.tass()
    whole = tass.coords(rope, **size)
    assert torch.equal(tass.coords(rope, interval=(0, 3), **size), whole)
    early = tass.coords(rope, interval=(0, 2), **size)
    shorter = tass.coords(rope, **{**size, "frames": 2})
    assert torch.equal(early, shorter)
    start = ReferencePlacement.overlap().coords(rope, interval=(2, 3), **size)
    video = rope.prepare_video_coords(1, 3, 8, 8, None, fps=8.0)
    torch.testing.assert_close(start, video[:, :, -64:])


def test_batches_whose_references_change_at_other_times_are_refused(pipe):
    people = [[Reference(picture(), "a", end=HALF)], [Reference(picture(), "a", start=HALF)]]
    with pytest.raises(STDRCError, match="shown at different times"):
        pipe(["x", "y"], reference=people, seeds=[0, 1], **CALL)


def test_people_on_one_place_are_warned_about(pipe, caplog):
    people = [Reference(picture(1), "a"), Reference(picture(2), "b")]
    with caplog.at_level(logging.WARNING, logger="stdrc.timeline"):
        pipe(PROMPT, reference=people, seeds=0, placement="tass", **CALL)
        assert "people" not in caplog.text
        pipe(PROMPT, reference=people, seeds=0, placement="overlap", **CALL)
    assert "References of 2 people stand at one place" in caplog.text


def test_sound_is_blended_too(pipe):
    events = [Event(0, HALF, PROMPT), Event(HALF, SECONDS, PROMPT)]
    call = {**CALL, "seeds": 0, "audio": True, "reference": picture()}
    plain = pipe(PROMPT, **call)
    made = pipe("x", timeline=events, **call)
    assert largest(made.audio, plain.audio) < 1e-4
    assert np.isfinite(made.audio.float().numpy()).all()
