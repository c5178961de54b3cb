"""The bench's side of the metrics: videos go to a judge while others are still being generated.

A score depends on the metric's version and on what the metric is shown: the video, and of
reference, prompt and target what it needs. `inputs` hashes the latter; it stands beside each score.
"""

from __future__ import annotations

import hashlib
import itertools
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench import config as cfg
from bench.evalsets.samples import Sample
from bench.keys import canonical
from leaderboards.runfolder import MetricRow
from media.files import file_sha256
from metrics.scores import VideoItem


class Judge(Protocol):
    """Scores videos. `SuiteJudge` is the one; tests have their own."""

    @property
    def columns(self) -> Sequence[MetricRow]:
        """The metrics that can run here."""
        ...

    @property
    def absent(self) -> dict[str, str]:
        """Metric -> why it cannot run here."""
        ...

    def score(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        """A `Score` for each video and each of the per-video metrics, as each video is finished."""
        ...

    def score_sets(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        """A `SetScore` for each group and each of the set-level metrics."""
        ...


def make_judge(config: cfg.Metrics, cache: Path) -> Judge:
    """The judge a config names."""
    from bench.suite_judge import SuiteJudge

    return SuiteJudge(config, cache)


def item_of(sample: Sample, video: Path, key: str = "", group: str = "") -> VideoItem:
    """A sample's video as the metrics take it; its key is the sample's id where none is given."""
    return VideoItem(
        video=video,
        key=key or sample.id,
        prompt=sample.prompt,
        references=sample.references,
        target=sample.target,
        identity=sample.identity,
        group=group,
        timeline=tuple((e.start, e.end, e.description) for e in sample.timeline),
        shown=tuple((s.person, s.start, s.end) for s in sample.shown),
    )


def check_metrics(config: cfg.Metrics) -> None:
    """Know every metric that a config names, and load none.

    Raises:
        MetricsError: for one that there is not.
    """
    from metrics.catalogue import choose, load_plugins

    load_plugins(config.plugins)
    if config.names != "all":
        choose(config.names)


def inputs(needs: Sequence[str], item: VideoItem, sha256: str) -> str:
    """Hash of what a metric is shown: a video, by its own hash, and what it needs of the item."""
    shown: dict[str, Any] = {"video": sha256}
    if {"reference", "people", "times"} & set(needs):
        shown["reference"] = [file_sha256(path) for path in item.references]
    if "target" in needs:
        shown["target"] = file_sha256(item.target) if item.target else None
    if "prompt" in needs:
        shown["prompt"] = item.prompt
    if "timeline" in needs:
        shown["timeline"] = item.timeline
    if {"people", "times"} & set(needs):
        shown["whom"] = item.whom
    return hashlib.sha256(canonical(shown).encode()).hexdigest()[:32]


def judge_fingerprint(config: cfg.Metrics) -> str:
    """What the metrics' columns depend on, without loading any of them.

    The names that can run here, the metrics' code, and which files their weights are: if none of
    these changed since a run was complete, its scores are what they would be now. Weights go by
    size and time of change, since hashing gigabytes would cost more than asking the judge, which
    compares their bytes.
    """
    import metrics
    from media.video import DECODER
    from metrics.catalogue import availability, choose, load_plugins, metric_info, metric_names
    from metrics.weights import find

    load_plugins(config.plugins)
    names = list(metric_names()) if config.names == "all" else choose(config.names)
    present = [n for n in names if not availability(metric_info(n), {})[0]]
    digest = hashlib.sha256(
        canonical([present, config.num_frames, config.device, DECODER]).encode()
    )
    code = set(Path(metrics.__path__[0]).rglob("*.py"))
    code |= {Path(str(sys.modules[target.partition(":")[0]].__file__)) for target in config.plugins}
    for path in sorted(code):
        digest.update(path.read_bytes())
    for name in sorted({w for metric in present for w in metric_info(metric).weights}):
        place = find(name)
        files = [] if place is None else [place, *sorted(place.rglob("*"))]
        for file in files:
            status = file.stat()
            digest.update(canonical([name, file.name, status.st_size, status.st_mtime_ns]).encode())
    return digest.hexdigest()


_END = object()


class Scorer:
    """Runs a judge in a thread of its own: `submit` items, `collect` what is ready, `close`."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.error: BaseException | None = None
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._outbox: queue.Queue[Any] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="score", daemon=True)
        self._thread.start()

    def _submitted(self) -> Iterator[tuple[VideoItem, tuple[str, ...]]]:
        while (given := self._inbox.get()) is not _END and not self._stop.is_set():
            yield given

    def _work(self) -> None:
        try:
            for metrics, given in itertools.groupby(self._submitted(), key=lambda pair: pair[1]):
                for score in self.judge.score((item for item, _ in given), metrics):
                    self._outbox.put(score)
                    if self._stop.is_set():
                        return
        except BaseException as error:  # raised in the caller's thread, by `collect`
            self.error = error
        finally:
            self._outbox.put(_END)

    def submit(self, item: VideoItem, metrics: Iterable[str]) -> None:
        """One more video to score, and with what; neighbours of the same metrics cost least."""
        self._inbox.put((item, tuple(metrics)))

    def close(self) -> None:
        """No more videos will come."""
        self._inbox.put(_END)

    def collect(self, timeout: float | None = 0) -> tuple[list[Any], bool]:
        """(scores that are ready, whether more may come); waits up to `timeout` for the first."""
        ready: list[Any] = []
        while True:
            try:
                score = self._outbox.get(block=not ready and timeout != 0, timeout=timeout or None)
            except queue.Empty:
                return ready, True
            if score is _END:
                self._outbox.put(_END)  # so that later calls see it too
                return ready, False
            ready.append(score)

    def stop(self) -> None:
        """Give up what is not scored yet; the next start scores it."""
        self._stop.set()
        self._inbox.put(_END)
        self._thread.join()
