"""A generator and a judge that need no weights, for the tests of the bench."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from bench import config as cfg
from bench.evalsets import EvalSet, Sample
from bench.generators import Generator, Resolved, Settings
from leaderboards.runfolder import MetricRow
from metrics.scores import Score, SetScore, VideoItem


class DrawnGenerator(Generator):
    """Moving squares whose colour comes from the prompt, the settings and the seed."""

    name = "drawn"

    def __init__(self, delay: float = 0.0, log: Path | None = None, size: int = 32) -> None:
        self.delay, self.log, self.size = delay, log, size
        self.batches: list[int] = []

    def resolve(self, settings: Settings, *, allow_mismatch: bool = False) -> Resolved:
        return Resolved(
            settings,
            {"drawn": "1"},
            mismatch=settings.placement == "overlap",
            passes=settings.steps or 2,
            fps=settings.frame_rate or 8.0,
            stage=str(settings.augmentation),
        )

    def generate(self, samples: Any, settings: Settings) -> list[Any]:
        self.batches.append(len(samples))
        if self.log is not None:
            with open(self.log, "a") as file:
                for s in samples:
                    file.write(
                        json.dumps([os.getpid(), s.id, settings.axes(), settings.seed]) + "\n"
                    )
        return [self.draw(sample, settings) for sample in samples]

    def draw(self, sample: Sample, settings: Settings) -> Any:
        time.sleep(self.delay)
        if "raise" in sample.prompt:
            raise RuntimeError("the model fell over")
        key = json.dumps([sample.prompt, settings.axes(), settings.seed], sort_keys=True)
        rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
        frames = np.full((5, self.size, self.size, 3), rng.random(3), np.float32)
        row, column = rng.integers(0, self.size // 2, 2)
        colour = rng.random(3)
        for t in range(5):
            frames[t, row : row + 8, column + t : column + t + 8] = colour
        if "nan" in sample.prompt:
            frames[3] = np.nan
        return frames


@dataclass
class PixelJudge:
    """Mean brightness of each video, and the spread of brightness within a cell."""

    version: str = "1"
    scored: list[str] = field(default_factory=list)
    delay: float = 0.0
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[MetricRow]:
        return [
            MetricRow("pixel.mean", "numpy", self.version, "Brightness", True, 0, 255),
            MetricRow("pixel.change", "numpy", "1", "Change", False, 0, 255),
            MetricRow("set.spread", "numpy", "1", "Spread", True, 0, None, per_video=False),
        ]

    def score(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        for item in items:
            time.sleep(self.delay)
            self.scored.append(item.key)
            frames = read(item.video)
            for column, value in zip(
                self.columns, (frames.mean(), np.abs(np.diff(frames, axis=0)).mean())
            ):
                if column.metric not in metrics:
                    continue
                yield FakeScore(
                    item.key, item.group, column.metric, "numpy", column.version, float(value)
                )

    def score_sets(self, items: Iterable[VideoItem], metrics: Sequence[str]) -> Iterator[Any]:
        groups: dict[str, list[float]] = {}
        for item in items:
            groups.setdefault(item.group, []).append(float(read(item.video).mean()))
        for group, values in groups.items():
            spread = float(np.std(values))
            yield FakeSetScore(group, "set.spread", "numpy", "1", spread, None, None, len(values))


@dataclass(frozen=True)
class FakeScore(Score):
    status: str = "ok"


@dataclass(frozen=True)
class FakeSetScore(SetScore):
    status: str = "ok"


def read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]).astype(
            np.float64
        )


def write_set(folder: Path, prompts: list[str], identities: int = 2) -> Path:
    """A CSV evaluation set with small references."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["id,prompt,reference,person"]
    for i in range(identities):
        Image.new("RGB", (16, 16), (40 * i, 100, 200)).save(folder / f"person{i}.png")
        lines += [f"p{i}-{k},{prompt},person{i}.png,person{i}" for k, prompt in enumerate(prompts)]
    table = folder / "set.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def make_config(
    folder: Path, *, prompts: list[str] | None = None, **sections: Any
) -> cfg.BenchConfig:
    """A config on a small CSV set; `sections` replace whole sections."""
    table = write_set(folder / "data", prompts or ["a red square", "a blue square"])
    data: dict[str, Any] = {
        "name": "small",
        "run": str(folder / "run"),
        "evalset": {"kind": "csv", "path": str(table), "id": "id", "identity": "person"},
        "generator": {"kind": "custom", "factory": "tests.bench.fakes:DrawnGenerator"},
        "sweep": {"grid": {"placement": ["tass", "overlap"], "text": [1.0, 3.0]}},
    }
    return cfg.parse_config({**data, **sections}, "test")


def table_of(folder: Path) -> bytes:
    """All that a leaderboard is made of, as bytes: everything but times."""
    import sqlite3

    db = sqlite3.connect(f"{(folder / 'store.sqlite').absolute().as_uri()}?mode=ro", uri=True)
    rows = []
    for query in (
        "SELECT cell, label, axes, mismatch FROM cells ORDER BY cell",
        "SELECT sample, identity, prompt FROM samples ORDER BY sample",
        "SELECT video, cell, sample, seed, status, path, sha256, reason FROM videos ORDER BY video",
        "SELECT * FROM scores ORDER BY video, metric, backend",
        "SELECT * FROM set_scores ORDER BY cell, metric, backend",
        "SELECT * FROM metrics ORDER BY metric, backend",
    ):
        rows.append(db.execute(query).fetchall())
    db.close()
    return repr(rows).encode()


def no_report(folder: Path) -> None:
    """Stands in for the leaderboard, which has tests of its own."""
    (folder / "leaderboard").mkdir(exist_ok=True)


def evalset(folder: Path, prompts: list[str], identities: int = 2) -> EvalSet:
    table = write_set(folder, prompts, identities)
    from bench.evalsets import evalset

    return evalset("csv", path=table, id="id", identity="person").load(folder / "cache")


class DeadlyGenerator(DrawnGenerator):
    """Takes its whole process down for one prompt."""

    def draw(self, sample: Sample, settings: Settings) -> Any:
        if "die" in sample.prompt:
            os._exit(1)
        return super().draw(sample, settings)


class MoodyGenerator(DeadlyGenerator):
    """Does what a prompt says: dies, hangs, breaks its GPU, returns something else; at first only.

    Args:
        recovers: a folder, in which it remembers to have done so; a second time it draws.
    """

    def __init__(self, recovers: str | None = None, **args: Any) -> None:
        super().__init__(**args)
        self.recovers = Path(recovers) if recovers is not None else None

    def draw(self, sample: Sample, settings: Settings) -> Any:
        name = hashlib.sha256(f"{sample.id}{settings.axes()}".encode()).hexdigest()
        if self.recovers is not None:
            if (self.recovers / name).exists():
                return DrawnGenerator.draw(self, sample, settings)
            self.recovers.mkdir(parents=True, exist_ok=True)
            (self.recovers / name).touch()
        if "hang" in sample.prompt:
            time.sleep(3600)
        if "fault" in sample.prompt:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "fill" in sample.prompt:
            raise MemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        for word, returned in RETURNED.items():
            if word in sample.prompt:
                return returned
        return super().draw(sample, settings)


class PreparedGenerator(DrawnGenerator):
    """Needs something made for every sample first; the first `deaths` workers die of it."""

    def __init__(self, folder: str, deaths: int = 0, **args: Any) -> None:
        super().__init__(**args)
        self.folder, self.deaths = Path(folder), deaths

    def unprepared(self, tasks: Any) -> Any:
        return list(tasks)

    def prepare(self, tasks: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self.folder.iterdir()))
        (self.folder / f"{number}-{len(list(tasks))}").touch()
        if number < self.deaths:
            os._exit(9)

    def draw(self, sample: Sample, settings: Settings) -> Any:
        assert len(list(self.folder.iterdir())) == self.deaths + 1
        return super().draw(sample, settings)


#: A word of a prompt -> what is returned in place of a video.
RETURNED: dict[str, Any] = {
    "nothing": None,
    "number": 5,
    "text": "no/such/file.mp4",
    "levels": np.full((5, 32, 32, 3), 200.0, np.float32),
    "negative": np.full((5, 32, 32, 3), -0.5, np.float32),
    "infinite": np.full((5, 32, 32, 3), np.inf, np.float32),
    "whole": np.full((5, 32, 32, 3), 1, np.int64),
    "grey": np.zeros((5, 32, 32), np.uint8),
    "odd": np.zeros((5, 33, 33, 3), np.uint8),
    "empty": np.zeros((0, 32, 32, 3), np.uint8),
    "ragged": [np.zeros((32, 32, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)],
}


class UnbuiltGenerator(DrawnGenerator):
    """Is made where a plan is, and by no worker."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        if os.getpid() != pid:
            raise RuntimeError("no licence for this machine")
