"""A sweep's progress and scores in TensorBoard or Weights & Biases, through the libraries.

`sweep/...` is how far the run is, at every step (the number of settled videos); `METRIC/CELL` is a
cell's mean, written once all its videos are scored, and, with set-level metrics, at the run's end.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from bench.config import BenchConfig, config_json
from bench.errors import BenchError
from bench.progress import PLAIN_EVERY, Progress
from bench.store import Store
from bench.sweep import Cell
from leaderboards.runfolder import MetricRow


class _Tracker(ABC):
    """What a library takes.

    Args:
        folder: the run folder.
        config: the run's, as plain data.
    """

    @abstractmethod
    def __init__(self, folder: Path, config: Mapping[str, Any], store: Store) -> None: ...

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class _TensorBoard(_Tracker):
    """Event files in RUN/tensorboard; a start that goes on adds one."""

    def __init__(self, folder: Path, config: Mapping[str, Any], store: Store) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _WandB(_Tracker):
    """A run of W&B, kept in RUN/wandb until it is sent; the next start goes on with the same one.

    Its environment variables hold: WANDB_MODE=offline sends nothing, WANDB_PROJECT names another.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], store: Store) -> None:
        import wandb

        identity = store.meta("wandb") or secrets.token_hex(4)
        store.set_meta("wandb", identity)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "stdrc-bench"),
            name=config["name"],
            id=identity,
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


_TRACKERS: dict[str, type[_Tracker]] = {"tensorboard": _TensorBoard, "wandb": _WandB}


class Trackers:
    """Those that a config names, none of which is where it names none.

    Args:
        config: the run; its `trackers` names them.
        cells: whose means are written,
        columns: of these metrics.

    Raises:
        BenchError: if a library is not installed.
    """

    def __init__(
        self, config: BenchConfig, store: Store, cells: Sequence[Cell], columns: Sequence[MetricRow]
    ) -> None:
        for name in config.trackers:
            if importlib.util.find_spec(name) is None:
                raise BenchError(
                    f"trackers: {name} is not installed; pip install {name}, or leave it out."
                )
        self.store, self.columns = store, columns
        self._labels = {cell.id: cell.label for cell in cells}
        plain = config_json(config) if config.trackers else {}
        self._each = [_TRACKERS[name](store.folder, plain, store) for name in config.trackers]
        self._next = 0.0
        self._whole: set[str] = set()  # cells whose means were written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Write the last state and all scores."""
        try:
            if self._each:
                self._log({}, self._labels, self.columns)
        finally:
            for tracker in self._each:
                tracker.close()

    def tick(self, progress: Progress) -> None:
        """Write how far the run is, now and then; cheap to call often."""
        if not self._each or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PLAIN_EVERY
        values = {"sweep/scored": progress.scored, "sweep/videos_per_second": progress.rate}
        whole = [
            cell
            for cell, state in progress.cells.items()
            if state.scored == state.done and state.done + state.failed == state.total
        ]
        new = [cell for cell in whole if cell not in self._whole]
        self._whole.update(new)
        self._log(values, new, [column for column in self.columns if column.per_video])

    def _log(
        self, values: Mapping[str, float], cells: Iterable[str], columns: Sequence[MetricRow]
    ) -> None:
        counts = self.store.counts()
        done, failed = counts.get("done", 0), counts.get("failed", 0)
        values = {"sweep/done": done, "sweep/failed": failed, **values}
        for cell, column in itertools.product(cells, columns):
            if (mean := self.store.mean(cell, column.metric)) is not None:
                values[f"{column.metric}/{self._labels[cell]}"] = mean
        for tracker in self._each:
            tracker.log(done + failed, values)
