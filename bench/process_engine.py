"""Jobs on this machine, each worker a process of its own: it can be killed, and can die, alone.

A worker is a fresh interpreter (nothing of the parent's threads, locks or GPU state is in it) that
is spoken to through a socket. It ends when its parent does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.batching import Ahead, BrokenWorkerError, describe
from bench.local_engine import LocalEngine
from bench.sweep import Job
from bench.workers import Began, Event, Lost, Prepared, Ready, Worker, WorkerEngine
from media.files import known_digests

log = logging.getLogger("stdrc.bench")
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from bench.process_engine import"


class ProcessEngine(WorkerEngine):
    """Jobs in `engine.workers` (one if none) processes on this machine."""

    name = "local"
    _number = 0

    def _grow(self) -> None:
        while len(self.workers) < (self.config.workers or 1):
            self._number += 1
            self.workers.append(Worker(f"worker {self._number}", self._spawn()))

    def _spawn(self) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", f"{_START} main; main()", json.dumps(sys.path)]
                + [str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a model prints is not the command's output
            )
        connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # it is gone; `_events` says so
            connection.send((self.bench, dict(known_digests())))
        return process, connection

    def _give(self, worker: Worker, job: Job | Ahead) -> None:
        with contextlib.suppress(OSError):  # it is gone; `_events` says so
            worker.handle[1].send(job)

    def _events(self, timeout: float) -> list[tuple[Worker, Event]]:
        by_connection: dict[Any, Worker] = {worker.handle[1]: worker for worker in self.workers}
        heard: list[tuple[Worker, Event]] = []
        for connection in wait(list(by_connection), timeout):
            worker = by_connection[connection]
            try:
                said: Any = worker.handle[1].recv()
            except (EOFError, OSError):
                said = Lost(self._ended(worker))
            if isinstance(said, logging.LogRecord):
                log.handle(said)
            else:
                heard.append((worker, said))
        return heard

    def _ended(self, worker: Worker) -> str:
        process = worker.handle[0]
        code = process.wait()
        worker.handle[1].close()
        if code >= 0:
            return f"it ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"it ended by {name}" + (", as when memory is full" if name == "SIGKILL" else "")

    def _kill(self, worker: Worker) -> None:
        process, connection = worker.handle
        process.kill()
        process.wait()
        connection.close()


# The worker's side -------------------------------------------------------------------------------


class _Said(logging.Handler):
    """Sends the bench's log to the parent."""

    def __init__(self, send: Any) -> None:
        super().__init__()
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self.send(record)


def main() -> None:
    """A worker's life: the config comes first, then jobs; ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt ends
    connection = Connection(int(sys.argv[2]))
    lock = threading.Lock()
    inbox: queue.Queue[Job | Ahead] = queue.Queue()

    def send(what: Any) -> None:
        with lock:
            connection.send(what)

    log.addHandler(_Said(send))
    log.setLevel(logging.INFO)
    log.propagate = False
    bench, digests = connection.recv()
    known_digests().update(digests)  # so that no worker reads 40 GB to name a checkpoint
    threading.Thread(target=_work, args=(bench, inbox, send), daemon=True).start()
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone, and whatever is at work with it


def _work(bench: Any, inbox: queue.Queue[Job | Ahead], send: Any) -> None:
    def jobs() -> Iterator[Job]:
        while True:
            job = inbox.get()
            if isinstance(job, Ahead):
                try:
                    generator.prepare(job.tasks)
                except Exception as error:
                    raise BrokenWorkerError(describe(error)) from error
                send(Prepared())
                continue
            send(Began(job.tasks[0].key))
            yield job

    try:
        try:
            generator = bench.generator.make()
        except Exception as error:
            send(Lost(fatal=describe(error)))
            raise
        send(Ready())
        for result in LocalEngine(generator, crf=bench.video.crf).run(jobs()):
            if result is not None:
                send(result)
    except BrokenWorkerError as error:
        send(Lost(str(error)))
    except BaseException:
        log.exception("a worker ended")
        os._exit(1)
    os._exit(0)
