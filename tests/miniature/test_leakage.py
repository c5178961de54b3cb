"""leakage.attributes.*: planted leaks are seen, obedient clips have none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics import MetricSuite, metric_info
from metrics.errors import MetricsError
from metrics.scores import VideoItem
from miniature.judges.attributes import LEAKING
from miniature.judges.metrics import AttributeLeakage
from miniature.world import ClipAttributes, Identity
from miniature.world.render import render_clip, render_portrait

WHO = Identity.from_seed(110_000)
ASKED = ClipAttributes("green", "striped", "left", "smiling", "warm", "red")
PROMPT = (
    "a person moves left in front of a green striped wall, smiling, in warm light, in a red hat"
)
SHOWN = ClipAttributes("blue", "dotted", "still", "surprised", "cold", "none")
PORTRAIT = render_portrait(WHO, SHOWN, seed=3)[0]


def clip(**leaks: str) -> np.ndarray:
    """A clip that obeys the prompt but for the attributes given."""
    return render_clip(WHO, dataclasses.replace(ASKED, **leaks), seed=3).frames


def score(attribute: str, frames: np.ndarray, prompt: str = PROMPT) -> float:
    metric = AttributeLeakage(attribute)
    metric.update(frames, PORTRAIT, prompt)
    return float(metric.compute())


@pytest.mark.parametrize(
    ("attribute", "leaks"),
    [
        ("expression", {"expression": "surprised"}),
        ("lighting", {"lighting": "cold"}),
        ("hat", {"hat": "none"}),
        ("background", {"color": "blue", "pattern": "dotted"}),
    ],
)
def test_a_planted_leak_is_seen_by_its_own_metric_alone(
    attribute: str, leaks: dict[str, str]
) -> None:
    leaking, obedient = clip(**leaks), clip()
    found = {name: (score(name, leaking), score(name, obedient)) for name in LEAKING}
    assert found == {name: (float(name == attribute), 0.0) for name in LEAKING}
    assert score("any", leaking) == 0.25
    assert score("any", obedient) == 0.0


def test_another_wrong_background_is_not_the_references() -> None:
    assert score("background", clip(color="pink", pattern="brick")) == 0.0
    # Nor is half of it: the reference's colour in the pattern that was asked for.
    assert score("background", clip(color="blue")) == 0.0


def test_what_the_prompt_does_not_ask_otherwise_has_no_value() -> None:
    metric = AttributeLeakage("lighting")
    metric.update(clip(lighting="cold"), PORTRAIT, "a person moves left, smiling, in cold light")
    metric.update(clip(lighting="cold"), PORTRAIT, "a person moves left, smiling")
    assert (int(metric.videos), int(metric.skipped)) == (0, 2)
    with pytest.raises(MetricsError, match="no video with a value"):
        metric.compute()


def test_the_suite_scores_it_when_named_and_only_then(tmp_path: Path) -> None:
    name = "leakage.attributes.lighting"
    info = metric_info(name)
    assert (info.higher_is_better, info.by_default, info.family) == (False, False, "copying")
    (tmp_path / "clip").mkdir()
    for i, frame in enumerate(clip(lighting="cold")):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{i}.png")
    Image.fromarray(PORTRAIT).save(tmp_path / "face.png")
    item = VideoItem(tmp_path / "clip", "a", prompt=PROMPT, references=(tmp_path / "face.png",))
    (found,) = MetricSuite([name]).score([item])
    assert found.value == 1.0
    assert found.detail["reference_lighting"] == "cold"
