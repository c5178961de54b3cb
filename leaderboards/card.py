"""A results card: Markdown with the front matter that the model hub reads as evaluation results."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from leaderboards.leaderboard import Leaderboard
from leaderboards.runfolder import RunFolder
from leaderboards.tables.data import significant
from leaderboards.tables.markdown import to_markdown

#: The hub's name of the task, as a tag and in words.
TASK = ("text-to-video", "Identity-preserving text-to-video generation")

#: Entries of the table below an entry's results.
SHOWN = 10


def results_card(board: Leaderboard, entry: str | None = None, dataset: str | None = None) -> str:
    """The card of one entry: its means as a `model-index`, and the table that it stands in.

    entry: key or label; the one placed first if not given. dataset: what the samples are called;
    the run's evaluation set if not given.

    Each metric's `args` say what measured it, over how many videos, the interval, and whether
    higher is better, which the hub's format has no fields for. Raises LeaderboardError for an
    unknown entry.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    row = board.entries.index(board.entry(entry)) if entry else 0
    chosen = board.entries[row]
    name = dataset or _dataset(board.scores.root) or chosen.source or "unnamed samples"
    results = []
    for c, column in enumerate(board.columns):
        cell = board.cell(row, c)
        if math.isnan(cell.mean):
            continue
        told: dict[str, Any] = {"backend": column.backend, "version": column.version, "n": cell.n}
        told |= {"failed": cell.failed, "higher_is_better": column.higher_is_better}
        if not math.isnan(cell.low):
            told |= {
                "confidence": board.confidence,
                "low": significant(cell.low),
                "high": significant(cell.high),
            }
        results.append(
            EvalResult(
                task_type=TASK[0],
                task_name=TASK[1],
                dataset_type="-".join(re.findall(r"[^\W_]+", name.lower())) or "unnamed",
                dataset_name=name,
                metric_type=column.metric,
                metric_name=column.title,
                metric_value=significant(cell.mean),
                metric_args={k: v for k, v in told.items() if v not in (None, "")},
            )
        )
    data = ModelCardData(
        model_name=chosen.label,
        eval_results=results,
        pipeline_tag=TASK[0],
        tags=[TASK[0], "identity-preserving"],
    )
    place = board.standings[row].text
    body = (
        f"# Results of {chosen.label}\n\nOn {name}: place {place} of {len(board.entries)}. "
        "The means, with intervals, are in the front matter of this file as well.\n\n"
        f"{to_markdown(board, top=SHOWN)}"
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _dataset(root: Path | None) -> str:
    """What a run's manifest calls its evaluation set; "" where it has none."""
    if root is None:
        return ""
    with RunFolder(root) as folder:
        about = folder.manifest()["config"].get("evalset", {}) if folder.has_manifest else {}
    where = about.get("path") or about.get("prefix")
    return " ".join(filter(None, (about.get("kind"), Path(where).name if where else "")))
