"""Jobs in this process: one thread generates, a second encodes, the caller writes and scores."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.batching import HEARTBEAT, Batcher, Result, encode
from bench.generators import Generator
from bench.sweep import Job

_END = object()


class LocalEngine:
    """In this process: one thread generates, a second encodes, the caller writes and scores."""

    name = "local"

    def __init__(self, generator: Generator, *, crf: int) -> None:
        self.batcher = Batcher(generator)
        self.crf = crf

    def run(self, jobs: Iterable[Job]) -> Iterator[Result | None]:
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
            for job in jobs:
                for made in self.batcher.videos(job.tasks):
                    if not hand_over(made):
                        return
            hand_over(_END)

        def write() -> None:
            while not stop.is_set():
                try:
                    made = frames.get(timeout=HEARTBEAT)
                except queue.Empty:
                    continue
                if made is _END:
                    break
                task, video, error, seconds = made
                results.put(
                    Result(task.key, None, error)
                    if error
                    else encode(task, video, seconds, self.crf)
                )
            results.put(_END)

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:  # handed to the caller's thread
                results.put(error)

        threads = [
            threading.Thread(target=guarded, args=(work,), name=work.__name__, daemon=True)
            for work in (generate, write)
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
