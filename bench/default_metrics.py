"""Which metrics are scored where none are named, and what is skipped and why.

Of each metric the one backend that the leaderboard would prefer is scored, of those that can run
here and apply to what the videos come with. Metrics of drawn faces are for drawn faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from bench.errors import BenchError
from leaderboards.families import FAMILIES, precedence
from media.wording import some
from metrics.catalogue import availability, choose, metric_info, metric_names
from metrics.facts import NEEDS, MetricInfo
from metrics.features.face_backends import recognisers
from metrics.scores import VideoItem


def default_metrics(items: Iterable[VideoItem], real: bool = False) -> tuple[list[str], list[str]]:
    """(names of the metrics to score, what was skipped and why: three lines at most).

    Args:
        items: the videos, with what each comes with.
        real: true videos are given beside those of the items.
    """
    listed = list(items)
    given = {need: any(item.given[need] for item in listed) for need in NEEDS}
    given["target"] |= real
    infos = [info for info in map(metric_info, metric_names()) if info.by_default]
    fit = [info for info in infos if all(given[need] for need in info.needs)]
    fit = [info for info in fit if info.level == "video" or len(listed) > 1]
    here = [info for info in fit if not availability(info, {})[0]]
    names = _one_backend_each(here)
    lacking = [info for info in infos if info not in fit]
    return names, _skipped(
        {
            "need weights or packages ('stdrc weights' lists them)": _names(fit, here),
            f"need a {_one_of(lacking, given)}, which is not given": [i.name for i in lacking],
            "are measured by another backend already (-m NAME adds them)": [
                info.name for info in here if info.name not in names
            ],
        }
    )


def asked_metrics(asked: str) -> list[str] | Literal["all"]:
    """What --metrics means: "all", or names, patterns and families with commas between them.

    Raises:
        BenchError: it names nothing.
        UnknownMetricError: one of them stands for no metric.
    """
    if asked.strip() == "all":
        return "all"
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if not names:
        raise BenchError("--metrics names no metric; leave it out, or name some.")
    return choose(names)


def _one_backend_each(here: Sequence[MetricInfo]) -> list[str]:
    """All that is seen of faces by one backend, which recognises them; of the others the best."""
    recognising = {info.backend for info in here if not info.diagnostic}
    faces = sorted(
        (b.name for b in recognisers()), key=lambda b: _rank("identity", f"identity.{b}")
    )
    face = next((backend for backend in faces if backend in recognising), None)
    best: dict[str, MetricInfo] = {}
    for info in here:
        if info.backend in faces and info.backend != face:
            continue
        kind = info.name.replace(info.backend, "*", 1)
        if kind not in best or _place(info) < _place(best[kind]):
            best[kind] = info
    return [info.name for info in here if info in best.values()]


def _place(info: MetricInfo) -> float:
    return _rank(info.family, info.name)


def _rank(family: str, name: str) -> float:
    place = precedence(family, name)
    return math.inf if place is None else place


def main_metrics(names: Iterable[str]) -> list[str]:
    """Of metrics per video the one that stands for each family, in the order of families."""
    infos = [metric_info(name) for name in names]
    shown = [info for info in infos if info.level == "video" and not info.diagnostic]
    best = {info.family: info.name for info in sorted(shown, key=_place, reverse=True)}
    return [best[family] for family in FAMILIES if family in best]


def cautions(names: Iterable[str]) -> list[str]:
    """What a reader of the identity scores has to know of their backends."""
    infos = [info for info in map(metric_info, names) if info.family == "identity"]
    return [f"{i.name}: {i.quirks}." for i in infos if i.quirks and not i.diagnostic]


def _names(fit: Sequence[MetricInfo], here: Sequence[MetricInfo]) -> list[str]:
    return [info.name for info in fit if info not in here]


def _one_of(lacking: Iterable[MetricInfo], given: Mapping[str, bool]) -> str:
    words = {need: need for need in NEEDS} | {
        "target": "true video",
        "people": "second person's reference",
        "times": "time of a reference",
    }
    needs = {need for info in lacking for need in info.needs if not given[need]}
    return " or ".join(word for need, word in words.items() if need in needs) or "second video"


def _skipped(reasons: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"skipped: {len(names)} metrics that {reason}: {some(names, 3)}"
        for reason, names in reasons.items()
        if names
    ]
