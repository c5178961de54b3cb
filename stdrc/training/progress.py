"""What a person sees of a run: a bar on a terminal, plain lines elsewhere, and TensorBoard."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

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
    """

    def __init__(self, folder: Path, *, total: int, start: int, main: bool) -> None:
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

    def advance(self, step: int, loss: float) -> None:
        """Move the bar; `loss` is the running mean."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step, description=f"loss {loss:.4f}")

    def record(self, step: int, numbers: dict[str, float]) -> None:
        """Write numbers of a step, and a line where there is no bar."""
        if not self.main:
            return
        assert self.writer is not None
        for name, value in numbers.items():
            self.writer.add_scalar(f"train/{name}", value, step)
        if self.bar is None:
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
