"""Jobs in this process: one thread generates, a second encodes, the caller takes what is made."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.batching import HEARTBEAT, Ahead, Batcher, Result, encode, log, unclaimed
from bench.generators import Generator
from bench.sweep import Job, Task

_END = object()


class LocalEngine:
    """In this process, where nothing can be killed alone: for generators that are at hand."""

    name = "in process"

    def __init__(self, generator: Generator, *, crf: int) -> None:
        self.batcher = Batcher(generator)
        self.crf = crf
        self.claim: Callable[[Job], bool] = unclaimed
        self.say: Callable[[str], None] = log.warning
        self._stopping = False
        self._at: tuple[str, Task, float] | None = None

    def stop(self) -> None:
        self._stopping = True

    def working(self) -> list[tuple[str, Task, float]]:
        if (at := self._at) is None:
            return []
        return [(at[0], at[1], time.monotonic() - at[2])]

    def close(self) -> None:
        """There is nothing to end."""

    def prepare(self, ahead: Ahead) -> None:
        self.batcher.generator.prepare(ahead.tasks)

    def run(self, jobs: Iterable[Job]) -> Iterator[Result | None]:
        self._stopping = False
        stop = threading.Event()
        # Bounded, so that frames do not pile up where encoding is slower than generating.
        frames: queue.Queue[Any] = queue.Queue(maxsize=2)
        results: queue.Queue[Any] = queue.Queue()

        def hand_over(made: Any) -> bool:
            while not stop.is_set():
                try:
                    frames.put(made, timeout=HEARTBEAT)
                    return True
                except queue.Full:
                    continue
            return False

        def generate() -> None:
            try:
                for job in jobs:
                    if self._stopping:
                        break
                    if not self.claim(job):
                        continue
                    self._at = ("this process", job.tasks[0], time.monotonic())
                    for made in self.batcher.videos(job.tasks):
                        if not hand_over(made):
                            return
                    self._at = None
                hand_over(_END)
            except BaseException as error:  # raised once what was made before it is encoded
                hand_over(error)

        def write() -> None:
            while not stop.is_set():
                try:
                    made = frames.get(timeout=HEARTBEAT)
                except queue.Empty:
                    continue
                if isinstance(made, BaseException):
                    raise made
                if made is _END:
                    break
                task, video, failure, seconds = made
                results.put(failure or encode(task, video, seconds, self.crf))
            results.put(_END)

        def guarded() -> None:
            try:
                write()
            except BaseException as error:  # handed to the caller's thread
                results.put(error)

        threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("generate", generate), ("write", guarded))
        ]
        for thread in threads:
            thread.start()
        try:
            while True:
                try:
                    result = results.get(timeout=HEARTBEAT)
                except queue.Empty:
                    yield None
                    continue
                if result is _END:
                    return
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            stop.set()
            for thread in threads:
                thread.join()
