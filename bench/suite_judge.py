"""The bench's judge on `metrics.suite.MetricSuite`.

Each video goes through the suite by itself. The suite batches whatever its decoder has ready, and
the last bits of a feature depend on what it was batched with; alone, a video has the same scores in
every run, whatever was killed and whichever machine of a cluster was faster. Features are kept on
disk by the video's hash, so set-level metrics cost no second pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import config as cfg
from bench.errors import BenchError
from bench.scoring import Item
from bench.store import Column


class SuiteJudge:
    """Scores with the metrics that a config names.

    Args:
        config: names (or "all"), device, frames a video.
        cache: folder for features.

    Raises:
        MetricsError: for an unknown metric.
        BenchError: if none of the metrics can run here.
    """

    def __init__(self, config: cfg.Metrics, cache: Path) -> None:
        from metrics.registry import METRICS
        from metrics.suite import MetricSuite

        names = list(METRICS) if config.names == "all" else list(config.names)
        asked = MetricSuite(names, config.device, config.num_frames, cache)
        self.absent: dict[str, str] = dict(asked.absent)
        present = [name for name in names if name not in self.absent]
        if not present:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.absent.items())
            raise BenchError(f"None of the metrics can run here ({reasons}).")
        # Without the absent ones, which would give a row a video that says nothing of the video.
        self._suite = MetricSuite(present, config.device, config.num_frames, cache)
        self.columns: Sequence[Column] = [self._column(name) for name in present]

    def _column(self, name: str) -> Column:
        from metrics.registry import metric_info

        info = metric_info(name)
        low, high = info.range
        return Column(
            metric=name,
            backend=info.backend,
            version=self._suite.version(name),
            label=info.label,
            higher_is_better=info.higher_is_better,
            low=low,
            high=high,
            per_video=info.level == "video",
        )

    def score(self, items: Iterable[Item]) -> Iterator[Any]:
        from metrics.scores import Score

        for item in items:
            for row in self._suite.stream([_video_item(item)]):
                if isinstance(row, Score):  # a set of one video says nothing
                    yield row

    def score_sets(self, items: Iterable[Item]) -> Iterator[Any]:
        from metrics.scores import SetScore

        listed = [_video_item(item) for item in items]
        for one in listed:  # what the cache lacks is computed alone here, as in `score`
            for _ in self._suite.stream([one]):
                pass
        for row in self._suite.stream(listed):
            if isinstance(row, SetScore):
                yield row


def _video_item(item: Item) -> Any:
    from metrics.scores import VideoItem

    return VideoItem(
        video=item.video,
        key=item.key,
        prompt=item.prompt,
        references=item.references,
        target=item.target,
        identity=item.identity,
        group=item.group,
    )
