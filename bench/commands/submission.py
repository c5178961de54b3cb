"""`stdrc submission`: build a challenge archive from a run, or check anybody's."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.options import Json, Run, group

app = group(
    "Build and check challenge archives.\n\n"
    "Example: stdrc submission check facial_results.zip --format ipvg2026-facial"
)

Format = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        help="ipvg2026-facial, ipvg2026-sequential, ipvg2025-facial or ipvg2025-fullbody.",
    ),
]
Eval = Annotated[
    Path | None, typer.Option("--eval", help="eval.json (2026) or the testset folder (2025).")
]


def _score(metrics: Sequence[str], paths: Sequence[Path]) -> Sequence[Mapping[str, float]]:
    """Scores of videos by metrics that need nothing but the video."""
    from metrics.suite import MetricSuite, VideoItem

    items = [VideoItem(path, key=str(n)) for n, path in enumerate(paths)]
    out: list[dict[str, float]] = [{} for _ in paths]
    for score in MetricSuite(list(metrics)).stream(items):
        key, value = getattr(score, "key", None), score.value
        if key is not None and value is not None and score.status == "ok":
            out[int(key)][score.metric] = float(value)
    return out


@app.command()
def pack(
    run: Run,
    entry: Annotated[
        list[str],
        typer.Option("--entry", "-e", help="The entry's key or label; 2025: up to three, repeat."),
    ],
    format: Format,
    eval: Eval = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; by default RUN/submissions/ENTRY."),
    ] = None,
    primary: Annotated[
        str | None, typer.Option(help="Which entry is the primary run, where there are several.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which seed, where there are several.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="What re-encoded videos are scored with, before and after; repeat."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far a metric's mean may move by re-encoding.")
    ] = 0.02,
) -> None:
    """Build the archive of one entry, with a manifest beside it.

    Videos that are not H.264 yuv420p in MP4 are re-encoded, and scored before and after. Several
    entries become several runs, one of them primary.

    \b
    stdrc submission pack runs/final --entry tass -f ipvg2026-facial \\
      --eval test_track1/final/eval.json
    """
    from leaderboards.submission import pack_runs, pack_submission

    settings: dict[str, Any] = {
        "out": output,
        "eval": eval,
        "seed": seed,
        "scorer": partial(_score, metric or ["temporal.flicker"]),
        "tolerance": tolerance,
    }
    if len(entry) == 1 and primary in (None, *entry):
        packed = [pack_submission(run, entry[0], format, **settings)]
    else:
        packed = pack_runs(run, entry, format, primary=primary, **settings)
    for done in packed:
        for warning in done.warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"{done.archive}  ({done.videos} videos, {done.reencoded} re-encoded)")
        typer.echo(done.manifest)


@app.command()
def check(
    archive: Annotated[Path, typer.Argument(help="The zip file.", show_default=False)],
    format: Format,
    eval: Eval = None,
    manifest: Annotated[
        Path | None, typer.Option(help="The manifest that `pack` wrote beside the archive.")
    ] = None,
    json: Json = False,
) -> None:
    """Check any team's archive; every problem is listed, and the exit code is 1 if there is one.

    \b
    stdrc submission check facial_results.zip -f ipvg2026-facial \\
      --eval test_track1/final/eval.json
    """
    from leaderboards import check_submission

    report = check_submission(archive, format, eval=eval, manifest=manifest)
    if json:
        data = {
            "archive": report.archive,
            "format": report.format,
            "sha256": report.sha256,
            "ok": report.ok,
            "problems": report.problems,
            "warnings": report.warnings,
            "videos": {name: facts.__dict__ for name, facts in report.videos.items()},
        }
        typer.echo(json_module.dumps(data, indent=1))
    else:
        for warning in report.warnings:
            typer.echo(f"warning: {warning}", err=True)
        for problem in report.problems:
            typer.echo(problem)
        n = len(report.problems)
        told = f"{n} problem{'s' if n > 1 else ''}" if n else f"{len(report.videos)} videos, good"
        typer.echo(f"{archive}: {told}.")
    if not report.ok:
        raise typer.Exit(1)
