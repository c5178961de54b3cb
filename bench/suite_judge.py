"""The bench's judge on `metrics.suite.MetricSuite`.

Each video goes through the suite by itself. The suite batches whatever its decoder has ready, and
the last bits of a feature depend on what it was batched with; alone, a video has the same scores in
every run, whatever was killed and whichever machine of a cluster was faster. Features are kept on
disk by the video's hash, so set-level metrics cost no second pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import config as cfg
from bench.errors import BenchError
from bench.generators import pick_device
from leaderboards.runfolder import MetricRow
from metrics.scores import Score, SetScore, VideoItem

if TYPE_CHECKING:
    from metrics.suite import MetricSuite


class SuiteJudge:
    """Scores with the metrics that a config names.

    Args:
        config: names, patterns and families (or "all"), plug-ins, device, frames per video.
        cache: folder for features.

    Raises:
        MetricsError: for an unknown metric.
        BenchError: if none of the metrics can run here.
    """

    def __init__(self, config: cfg.Metrics, cache: Path) -> None:
        from metrics.catalogue import choose, lacking, load_plugins, metric_names
        from metrics.suite import MetricSuite

        if config.threads is not None:
            import torch

            torch.set_num_threads(config.threads)
        load_plugins(config.plugins)
        config = config.model_copy(update={"device": pick_device(config.device)})
        names = list(metric_names()) if config.names == "all" else choose(config.names)
        self._device = config.device
        asked = MetricSuite(names, self._device, config.num_frames, cache, engine=config.engine)
        short = lacking(() if config.names == "all" else config.names)
        self.absent: dict[str, str] = asked.absent | short
        present = [name for name in names if name not in self.absent]
        if not present:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.absent.items())
            raise BenchError(f"None of the metrics can run here ({reasons}).")
        # Without the absent ones, which would give a row a video that says nothing of the video.
        self._config, self._cache = config, cache
        self._suite = self._make(present)
        self.columns: Sequence[MetricRow] = [self._column(name) for name in present]
        self._per_video = [c.metric for c in self.columns if c.per_video]
        self._few: tuple[tuple[str, ...], MetricSuite] = ((), self._suite)

    def _make(self, metrics: Sequence[str]) -> MetricSuite:
        from metrics.suite import MetricSuite

        frames, engine = self._config.num_frames, self._config.engine
        return MetricSuite(list(metrics), self._device, frames, self._cache, engine=engine)

    def _column(self, name: str) -> MetricRow:
        from metrics.catalogue import metric_info

        info = metric_info(name)
        low, high = info.range
        return MetricRow(
            metric=name,
            backend=info.backend,
            version=self._suite.version(name),
            label=info.label,
            higher_is_better=info.higher_is_better,
            low=low,
            high=high,
            per_video=info.level == "video",
            family=info.family,
            diagnostic=info.diagnostic,
            needs=info.inputs,
            anchors=info.anchors,
        )

    def _suite_of(self, metrics: Sequence[str]) -> MetricSuite:
        """The suite of all metrics, or one of a few of them; one such is kept at a time."""
        if set(metrics) >= set(self._per_video):
            return self._suite
        if set(metrics) != set(self._few[0]):
            self._few = (tuple(metrics), self._make(metrics))
        return self._few[1]

    def score(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        suite = self._suite_of(metrics)
        for item in items:
            for row in suite.stream([item]):
                if isinstance(row, Score):  # a set of one video says nothing
                    yield row

    def score_sets(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        # Not the suite of all metrics, which would measure every one of them on each video again.
        suite = self._make(metrics)
        listed = list(items)
        for one in listed:  # what the cache lacks is computed alone here, as in `score`
            for _ in suite.stream([one]):
                pass
        for row in suite.stream(listed):
            if isinstance(row, SetScore):
                yield row
