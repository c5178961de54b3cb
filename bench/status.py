"""What `stdrc bench status` says of a run folder, while the run goes on or after it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.store import Store
from bench.working import noted
from leaderboards.runfolder import STORE, parts
from media.wording import duration

WATCH_EVERY = 2.0  # seconds between two looks of `watch_status`


def read_status(folder: Path, cells: int = 20) -> dict[str, Any]:
    """Counts of a run as plain data.

    Args:
        folder: the run folder.
        cells: how many cells to list.

    Raises:
        BenchError: if it is not a run folder, or from a newer version.
    """
    if not (folder / STORE).is_file() and (shared := parts(folder)):
        return _read_parts(folder, [read_status(part, cells) for part in shared])
    with Store(folder) as store:
        counts = store.counts()
        return {
            "run": str(folder),
            "writer": store.holder() if (held := store.held()) else None,
            "working": [
                {**row, "seconds": time.time() - row["since"]}
                for row in (noted(folder) if held else [])
            ],
            "videos": {s: counts.get(s, 0) for s in ("done", "pending", "failed")},
            "seconds_a_video": store.mean_seconds(),
            "metrics": [
                {"metric": m, "backend": b, "scores": n, "mean": mean}
                for m, b, n, mean in store.metric_counts()
            ],
            "cells": [
                {"cell": c.cell, "label": c.label, "mismatch": c.mismatch, "videos": n}
                for c, n in store.cell_counts(cells)
            ],
            "cells_in_all": store.cell_total(),
            "failures": [
                {"cell": label, "sample": sample, "reason": reason}
                for label, sample, reason in store.failures()
            ],
            "score_failures": [
                {"metric": metric, "reason": reason, "scores": n}
                for metric, reason, n in store.score_failures()
            ],
            "retired": [
                {"cell": label, "videos": n, "bytes": size} for label, n, size in store.retired()
            ],
        }


def _read_parts(folder: Path, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of a shared run added up: each video is done by one of them."""
    videos = {s: sum(part["videos"][s] for part in found) for s in ("done", "failed")}
    videos["pending"] = sum(found[0]["videos"].values()) - sum(videos.values())
    whole = {**found[0], "run": str(folder), "videos": videos, "cells": [], "metrics": []}
    for key in ("working", "failures", "score_failures", "retired"):
        whole[key] = [row for part in found for row in part[key]]
    writers = [part["writer"] for part in found if part["writer"]]
    return {**whole, "cells_in_all": 0, "writer": "; ".join(writers) or None}


def show_status(found: dict[str, Any], console: Console) -> None:
    """The same, as tables."""
    for part in _parts(found):
        console.print(part, markup=False, soft_wrap=isinstance(part, str))


def watch_status(
    folder: Path, console: Console, *, cells: int = 20, every: float = WATCH_EVERY
) -> None:
    """Show a run until nobody writes to it any more: in place in a terminal, else a line a change.

    Args:
        folder, cells: as for `read_status`.
        every: seconds between two looks.

    Raises:
        BenchError: if it is not a run folder.
    """
    found, said = read_status(folder, cells), ""
    live = console.is_terminal and Live(console=console, auto_refresh=False, transient=True)
    with live or nullcontext():
        while found["writer"]:
            if live:
                shown = (Text(p) if isinstance(p, str) else p for p in _parts(found))
                live.update(Group(*shown), refresh=True)
            elif (line := progress_line(found)) != said:
                said = line
                console.print(line, markup=False, soft_wrap=True)
            time.sleep(every)
            found = read_status(folder, cells)
    show_status(found, console)


def progress_line(found: dict[str, Any]) -> str:
    """How many videos are done and failed, and how long the rest takes, in one line."""
    videos = found["videos"]
    line = f"{found['run']}: {videos['done']} of {sum(videos.values())} videos done"
    if videos["failed"]:
        line += f", {videos['failed']} failed"
    if found["writer"] and videos["pending"] and (each := found["seconds_a_video"]):
        left = videos["pending"] * each / max(len(found["working"]), 1)
        line += f", about {duration(left)} left"
    return line


def _parts(found: dict[str, Any]) -> Iterator[str | Table]:
    writer = f"written to by {found['writer']}" if found["writer"] else "nobody writes to it"
    yield f"{progress_line(found)}; {writer}"
    for row in found["working"]:
        yield f"{row['worker']}: {row['sample']} of {row['cell']} for {duration(row['seconds'])}"
    if found["cells"]:
        yield _cell_table(found["cells"])
        if (hidden := found["cells_in_all"] - len(found["cells"])) > 0:
            yield f"... and {hidden} more cells (--cells)"
        if any(cell["mismatch"] for cell in found["cells"]):
            yield "* the checkpoint was trained with another placement"
    if found["metrics"]:
        yield _metric_table(found["metrics"])
    for failure in found["failures"]:
        yield f"failed: {failure['sample']} in {failure['cell']}: {failure['reason']}"
    if found["failures"]:
        yield (
            f"whole errors: {found['run']}/logs/videos; 'stdrc bench retry {found['run']}' tries "
            "again"
        )
    for row in found["score_failures"]:
        yield f"no {row['metric']} of {row['scores']}: {row['reason']}"
    if found["retired"]:
        n, size = (sum(row[key] for row in found["retired"]) for key in ("videos", "bytes"))
        cells = ", ".join(dict.fromkeys(row["cell"] for row in found["retired"]))
        yield (
            f"retired: {n} videos ({size / 2**20:.1f} MiB) that no plan has any more, of {cells}; "
            f"'stdrc bench clean {found['run']}' removes them"
        )


def _table(*names: str, left: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place < left else "right")
    return table


def _cell_table(cells: Sequence[dict[str, Any]]) -> Table:
    table = _table("cell", "done", "pending", "failed", left=1)
    for cell in cells:
        label = Text(cell["label"] + (" *" if cell["mismatch"] else ""))
        counts = (str(cell["videos"].get(s, 0)) for s in ("done", "pending", "failed"))
        table.add_row(label, *counts)
    return table


def _metric_table(metrics: Sequence[dict[str, Any]]) -> Table:
    table = _table("metric", "backend", "scores", "failed", "mean", left=2)
    for row in metrics:
        counts = (str(row["scores"].get(s, 0)) for s in ("ok", "failed"))
        mean = "" if row["mean"] is None else f"{row['mean']:.4g}"
        table.add_row(row["metric"], row["backend"], *counts, mean)
    return table
