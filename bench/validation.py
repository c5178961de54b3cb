"""The suite's metrics as the judge of a training's validation videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import config as cfg
from bench.provenance import log
from bench.suite_judge import SuiteJudge
from metrics.scores import VideoItem
from stdrc.training.validation import Drawn, Judge


def suite_judge(metrics: Sequence[str], cache: Path) -> Judge:
    """A judge that says each metric's mean over the videos, and how many had no score.

    Args:
        metrics: names, patterns, families or presets; those of single videos count.
        cache: where features of the true videos and references are kept.

    Raises:
        BenchError: none of them can run here.
    """
    judge = SuiteJudge(cfg.Metrics(names=list(metrics), device="auto"), cache)
    for name, why in judge.absent.items():
        log.warning("validation goes without %s: %s", name, why)
    names = [column.metric for column in judge.columns if column.per_video]

    def judged(drawn: Sequence[Drawn]) -> Mapping[str, float]:
        items = [
            VideoItem(d.video, str(i), d.prompt, d.references, d.target, d.identity)
            for i, d in enumerate(drawn)
        ]
        found: dict[str, list[float]] = {name: [] for name in names}
        for score in judge.score(items, names):
            if score.value is not None:
                found[score.metric].append(score.value)
        numbers = {name: sum(got) / len(got) for name, got in found.items() if got}
        short = {f"{n}/unscored": len(drawn) - len(got) for n, got in found.items()}
        return numbers | {name: float(count) for name, count in short.items() if count}

    return judged
