"""Timeline metrics: values by hand, and planted faults that are answered monotonically."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from media.writing import write_video
from metrics import MetricSuite, VideoItem, metric_info
from metrics.catalogue import make
from metrics.errors import MetricsError
from metrics.features.networks.text import TextAlignment, TextFeatures
from metrics.metric import Event
from metrics.timeline import FACTS, TimelineScore, border_errors, event_accuracy, order_tau

CAPTIONS = ("red", "green", "blue")


class Colours:
    """Embeds a frame as its mean colour, and three words."""

    name, version = "colours", "1"

    def encode(self, frames):
        return torch.from_numpy(frames).float().mean(dim=(1, 2)) + 1

    def encode_text(self, prompts):
        words = torch.eye(3)[[CAPTIONS.index(p) for p in prompts]]
        return TextFeatures(words, (1,) * len(prompts), 1)


class ColourClips(Colours):
    """The same for whole clips, as X-CLIP is asked."""

    encode = encode_text = property()

    def align(self, videos, prompts):
        found = Colours()
        return [
            TextAlignment(
                None,
                100 * float(torch.cosine_similarity(
                    found.encode(video).mean(0), found.encode_text([prompt]).features[0], dim=0
                )),
                1, 1,
            )
            for video, prompt in zip(videos, prompts)
        ]  # fmt: skip


MODELS = [Colours, ColourClips]


def clip(*colours: str, each: int = 10) -> np.ndarray:
    frames = np.zeros((len(colours) * each, 4, 4, 3), np.uint8)
    for i, colour in enumerate(colours):
        frames[i * each : (i + 1) * each, ..., CAPTIONS.index(colour)] = 255
    return frames


def events(*captions: str, each: float = 1.0):
    return [(i * each, (i + 1) * each, c) for i, c in enumerate(captions)]


def score(measured, frames, timeline, model=Colours, fps=10.0):
    metric = TimelineScore(model(), measured)
    metric.update(frames, timeline, fps)
    return float(metric.compute())


@pytest.mark.parametrize("model", MODELS)
def test_a_video_that_keeps_to_its_timeline(model):
    frames, told = clip(*CAPTIONS), events(*CAPTIONS)
    assert score("alignment", frames, told, model) > 99
    assert score("accuracy", frames, told, model) == 1
    assert score("order", frames, told, model) == 1
    assert score("boundary", frames, told, model) == pytest.approx(0, abs=0.11)


@pytest.mark.parametrize("model", MODELS)
def test_events_in_reverse(model):
    frames, told = clip(*CAPTIONS[::-1]), events(*CAPTIONS)
    assert score("alignment", frames, told, model) < 50
    assert score("accuracy", frames, told, model) == pytest.approx(1 / 3)  # the middle one
    assert score("order", frames, told, model) == -1


def test_one_event_dropped():
    frames, told = clip("red", "red", "blue"), events(*CAPTIONS)
    assert score("accuracy", frames, told) == pytest.approx(2 / 3)
    assert score("alignment", frames, told) == pytest.approx(2 / 3 * 100, abs=1)


@pytest.mark.parametrize("model", MODELS)
def test_what_comes_late_costs_more_the_later_it_comes(model):
    told = events("red", "blue", each=2.0)
    found = {m: [] for m in ("alignment", "accuracy", "boundary")}
    for late in (0, 2, 4, 6, 8, 10):  # of 20 frames: 10 to 50 %
        frames = np.concatenate([clip("red", each=20 + late), clip("blue", each=20 - late)])
        for measured, values in found.items():
            values.append(score(measured, frames, told, model))
    assert found["alignment"] == sorted(found["alignment"], reverse=True)
    assert found["accuracy"] == sorted(found["accuracy"], reverse=True)
    assert found["boundary"] == sorted(found["boundary"])
    assert found["boundary"][-1] == pytest.approx(1.0, abs=0.11)


@given(st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_order_is_scipys_tau_of_where_events_are(order):
    seen = np.zeros((4, 40))
    for place, event in enumerate(order):
        seen[event, 10 * place : 10 * place + 10] = 1
    places = [order.index(event) for event in range(4)]
    expected = kendalltau(range(4), places).statistic
    assert order_tau(seen, [10] * 4, [0.0, 1.0, 2.0, 3.0]) == pytest.approx(expected)


@given(st.integers(0, 20), st.integers(1, 19))
@settings(deadline=None)
def test_a_border_is_found_where_it_is(found, stated):
    seen = np.zeros((2, 20))
    seen[0, :found] = seen[1, found:] = 1
    moments = np.arange(20) + 0.5
    (error,) = border_errors(seen, moments, [(0.0, float(stated)), (float(stated), 20.0)])
    assert error == pytest.approx(abs(found - stated))


def test_a_repeated_caption_is_no_rival_of_itself():
    scores = np.array([[2.0, 0.0, 2.0], [0.0, 2.0, 0.0], [2.0, 0.0, 2.0]])
    assert event_accuracy(scores, ["a", "b", "a"]) == 1
    with pytest.raises(MetricsError, match="nothing to tell apart"):
        event_accuracy(np.ones((2, 2)), ["a", "a"])


def test_what_has_no_answer_says_why():
    one = [(0.0, 1.0, "red")]
    with pytest.raises(MetricsError, match="one event has no order"):
        score("order", clip("red"), one)
    with pytest.raises(MetricsError, match="no border"):
        score("boundary", clip("red"), one)
    with pytest.raises(MetricsError, match=r"ends after 1.00 s, and the event 'blue' lies from 1"):
        score("accuracy", clip("red"), events("red", "blue"))
    with pytest.raises(MetricsError, match="no frame rate"):
        score("accuracy", clip("red"), one, fps=0)
    with pytest.raises(MetricsError, match="use one of alignment"):
        TimelineScore(Colours(), "speed")


def test_direction_and_chance():
    assert not TimelineScore(Colours(), "boundary").higher_is_better
    assert TimelineScore(Colours(), "accuracy").higher_is_better
    metric = TimelineScore(Colours(), "accuracy")
    (video,) = metric.videos_of(clip(*CAPTIONS))
    told = tuple(Event(*e) for e in events(*CAPTIONS))
    result = metric.measure(replace(video, timeline=told, fps=10.0))
    assert result.detail["chance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("measured", FACTS)
def test_the_drawn_worlds_judge_in_the_suite(tmp_path, measured):
    """Through files and the suite: a value, and without a timeline the reason."""
    name = f"timeline.{measured}.miniature"
    assert metric_info(name).needs == ("timeline",)
    noise = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", noise, 8.0)
    told = ((0.0, 1.0, "a person moves left"), (1.0, 2.0, "a person nods"))
    items = [
        VideoItem(tmp_path / "a.mp4", "a", timeline=told),
        VideoItem(tmp_path / "a.mp4", "b"),
    ]
    with_it, without = MetricSuite([name]).score(items)
    assert with_it.status == "ok", with_it.reason
    low, high = metric_info(name).range
    assert low <= with_it.value <= (np.inf if high is None else high)
    assert without.status == "inapplicable"
    assert "needs a timeline" in without.reason
    assert type(make(metric_info(name))).__name__ == "MiniatureTimeline"
