"""What `stdrc bench status` says of a run folder, while the run goes on or after it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.claims import parts
from bench.store import Store
from bench.working import noted
from leaderboards.runfolder import STORE
from media.wording import duration


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
            "retired": [
                {"cell": label, "videos": n, "bytes": size} for label, n, size in store.retired()
            ],
        }


def _read_parts(folder: Path, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of a shared run added up: each video is done by one of them."""
    videos = {s: sum(part["videos"][s] for part in found) for s in ("done", "failed")}
    videos["pending"] = sum(found[0]["videos"].values()) - sum(videos.values())
    whole = {**found[0], "run": str(folder), "videos": videos, "cells": [], "metrics": []}
    for key in ("working", "failures", "retired"):
        whole[key] = [row for part in found for row in part[key]]
    writers = [part["writer"] for part in found if part["writer"]]
    return {**whole, "cells_in_all": 0, "writer": "; ".join(writers) or None}


def show_status(found: dict[str, Any], console: Console) -> None:
    """The same, as tables."""
    videos = found["videos"]
    writer = f"written to by {found['writer']}" if found["writer"] else "nobody writes to it"
    line = f"{found['run']}: {videos['done']} of {sum(videos.values())} videos done"
    if videos["failed"]:
        line += f", {videos['failed']} failed"
    console.print(f"{line}; {writer}", markup=False, soft_wrap=True)
    for row in found["working"]:
        text = f"{row['worker']}: {row['sample']} of {row['cell']} for {duration(row['seconds'])}"
        console.print(text, markup=False, soft_wrap=True)
    if found["cells"]:
        table = Table(box=None, pad_edge=False)
        for name in ("cell", "done", "pending", "failed"):
            table.add_column(name, justify="left" if name == "cell" else "right")
        for cell in found["cells"]:
            n = cell["videos"]
            label = Text(cell["label"] + (" *" if cell["mismatch"] else ""))
            table.add_row(label, *(str(n.get(s, 0)) for s in ("done", "pending", "failed")))
        console.print(table)
        if (hidden := found["cells_in_all"] - len(found["cells"])) > 0:
            console.print(f"... and {hidden} more cells (--cells)")
        if any(cell["mismatch"] for cell in found["cells"]):
            console.print("* the checkpoint was trained with another placement")
    if found["metrics"]:
        table = Table(box=None, pad_edge=False)
        for name in ("metric", "backend", "scores", "failed", "mean"):
            left = name in ("metric", "backend")
            table.add_column(name, justify="left" if left else "right")
        for row in found["metrics"]:
            n, mean = row["scores"], row["mean"]
            table.add_row(
                row["metric"],
                row["backend"],
                str(n.get("ok", 0)),
                str(n.get("failed", 0)),
                "" if mean is None else f"{mean:.4g}",
            )
        console.print(table)
    for failure in found["failures"]:
        text = f"failed: {failure['sample']} in {failure['cell']}: {failure['reason']}"
        console.print(text, markup=False, soft_wrap=True)
    if found["failures"]:
        console.print(
            f"whole errors: {found['run']}/logs/videos; 'stdrc bench retry {found['run']}' tries "
            "again",
            markup=False,
            soft_wrap=True,
        )
    if found["retired"]:
        n, size = (sum(row[key] for row in found["retired"]) for key in ("videos", "bytes"))
        cells = ", ".join(dict.fromkeys(row["cell"] for row in found["retired"]))
        console.print(
            f"retired: {n} videos ({size / 2**20:.1f} MiB) that no plan has any more, of {cells}; "
            f"'stdrc bench clean {found['run']}' removes them",
            markup=False,
            soft_wrap=True,
        )
