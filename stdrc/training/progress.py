"""What a user sees of a run: a bar on a terminal, plain lines elsewhere, and TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate.tracking import GeneralTracker
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from media.wording import duration


class RunLog:
    """Shows and records a run's numbers; does nothing at all unless `main`.

    Args:
        folder: for TensorBoard's event files.
        total: steps of the whole run.
        start: steps done before, when resumed.
        main: whether this is the main process.
        trackers: accelerate's, which receive the same numbers as TensorBoard.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total: int,
        start: int,
        main: bool,
        trackers: Sequence[GeneralTracker] = (),
    ) -> None:
        self.trackers = trackers
        self.total, self.start, self.main = total, start, main
        self.began = time.monotonic()
        self.writer: SummaryWriter | None = None
        self.bar: Progress | None = None
        if not main:
            return
        # What a killed run logged after its last checkpoint is done again: those points go.
        self.writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("[progress.description]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task("loss –", total=total, completed=start)

    def __enter__(self) -> RunLog:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.writer is not None:
            self.writer.close()
        for tracker in self.trackers:
            tracker.finish()

    def advance(self, step: int, loss: float) -> None:
        """Move the bar; `loss` is the running mean."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step, description=f"loss {loss:.4f}")

    def record(self, step: int, numbers: dict[str, float], under: str = "train") -> None:
        """Write numbers of a step, and a line where there is no bar or they are rare."""
        if not self.main:
            return
        assert self.writer is not None
        told = {f"{under}/{name}": value for name, value in numbers.items()}
        for name, value in told.items():
            self.writer.add_scalar(name, value, step)
        for tracker in self.trackers:
            tracker.log(told, step=step)
        if under != "train":
            shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            self.say(f"step {step}/{self.total}  {under}: {shown}")
        elif self.bar is None:
            pace = (time.monotonic() - self.began) / max(1, step - self.start)
            left = duration(pace * (self.total - step))
            shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            print(
                f"step {step}/{self.total}  {shown}  {pace:.2f} s/step  {left} left",
                file=sys.stderr,
                flush=True,
            )

    def say(self, text: str) -> None:
        """One line for a person."""
        if not self.main:
            return
        if self.bar is not None:
            self.bar.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def image(self, step: int, name: str, pixels: Any) -> None:
        """An image [H, W, 3] uint8."""
        if self.writer is not None:
            self.writer.add_image(name, pixels, step, dataformats="HWC")
            for tracker in self.trackers:
                if hasattr(tracker, "log_images"):
                    tracker.log_images({name: [pixels]}, step=step)
