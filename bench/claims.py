"""Work shared by processes that see one folder: a job is done by whoever claims it first.

A claim is a file that only one can create, on network file systems too. Its owner touches it while
it works; a claim that was not touched for long is of a process that is gone, and may be taken. Each
process keeps a run folder of its own, `RUN-part-NAME`, so that no two write to one store; `merge`
puts the parts together, and `status` adds them up.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from bench.sweep import Job

STALE_S = 900.0  # seconds without a touch after which a claim's owner is gone
TOUCH_EVERY = 60.0


class Claims:
    """The claims that one process sees.

    Args:
        folder: where they lie; made if missing.
        owner: this process' name, the same when it is started again.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder, self.owner = folder, owner
        folder.mkdir(parents=True, exist_ok=True)
        self._left: dict[str, set[str]] = {}  # claim -> videos that have not come yet
        self._of: dict[str, str] = {}  # video -> claim
        self._touched = time.monotonic()

    def take(self, job: Job) -> bool:
        """Claim a job; False if another process has it, or has done it."""
        name = hashlib.sha256(job.name.encode()).hexdigest()[:32]
        done = self.folder / f"{name}.done"
        if done.exists() or not self._create(name):
            return False
        if done.exists():  # settled between the two looks
            (self.folder / name).unlink()
            return False
        self._left[name] = {task.key for task in job.tasks}
        self._of |= dict.fromkeys(self._left[name], name)
        return True

    def _create(self, name: str) -> bool:
        path = self.folder / name
        for _ in range(2):
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                if not self._abandoned(path):
                    return False
                continue
            with open(descriptor, "w") as file:
                file.write(self.owner)
            return True
        return False

    def _abandoned(self, path: Path) -> bool:
        """Whether a claim was our own before we were killed, or is stale; then it is removed."""
        try:
            ours, touched = path.read_text() == self.owner, path.stat().st_mtime
        except FileNotFoundError:
            return True  # its owner has just finished, or somebody else removes it
        if not ours and self._now() - touched < STALE_S:
            return False
        gone = path.with_name(f"{path.name}.{self.owner}.gone")
        try:
            path.rename(gone)  # of two who remove it, one succeeds
        except FileNotFoundError:
            return False
        gone.unlink()
        return True

    def _now(self) -> float:
        """The file server's time, which is what claims are dated by."""
        probe = self.folder / f".{self.owner}"
        probe.touch()
        return probe.stat().st_mtime

    def settle(self, key: str) -> None:
        """A video is done, or failed; the last one of a job settles the job."""
        name = self._of.pop(key, None)
        if name is None:
            return
        self._left[name].discard(key)
        if not self._left[name]:
            del self._left[name]
            (self.folder / name).replace(self.folder / f"{name}.done")

    def touch(self) -> None:
        """Say that this process is still at work; cheap to call often."""
        if time.monotonic() - self._touched > TOUCH_EVERY:
            self._touched = time.monotonic()
            for name in self._left:
                (self.folder / name).touch()


def part(folder: Path) -> tuple[Path, str]:
    """(run folder of this process' part of a run, its name); the same after it was killed."""
    host = socket.gethostname().partition(".")[0] or "host"
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    base = f"{host}-{task}" if task else host
    for number in range(1, 1000):
        name = base if number == 1 else f"{base}-{number}"
        path = folder.with_name(f"{folder.name}-part-{name}")
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        lock.release()
        return path, name
    raise OSError(f"{folder} has a thousand parts of {host} at work")
