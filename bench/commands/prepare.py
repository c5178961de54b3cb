"""`stdrc prepare`: a training folder from videos, with faces, references and identities found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.options import Device, Quiet


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of videos (plain, ConsisID's, VIP-200K's or with metadata.jsonl), a CSV, "
            "JSON or JSON-lines list (OpenS2V-5M's too), or a `datasets` set on disk or hub.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The training folder to write.")],
    faces: Annotated[
        str, typer.Option(help="Face detector: facenet, insightface, dlib, or a plug-in's.")
    ] = "facenet",
    device: Device = "auto",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A rule: every, min_seconds, min_face, min_share, several, cut or same, as in "
            "--set min_face=96; may be repeated.",
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="I/N: look at this part only; the last one finishes.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    quiet: Quiet = False,
) -> None:
    """Make a training folder of videos; the same command resumes where it stopped.

    Example: stdrc prepare clips --out data/clips --faces facenet
    """
    from bench.commands.bench import _shard
    from bench.generators.base import pick_device
    from bench.preparing.run import Preparation
    from bench.preparing.sources import read_sources

    part = _shard(shard)
    work = Preparation(out, faces, pick_device(device), _rules(set_ or []))
    sources = read_sources(source)
    for number, clip in enumerate(work.run(sources, shard=part, workers=workers), start=1):
        if not quiet:
            typer.echo(f"{number} {clip.video.name}", err=True)
    report = work.finish(sources)
    if report is None:
        left = sum(not work.done(each).is_file() for each in sources)
        typer.echo(f"{left} of {len(sources)} clips are left for other shards.")
        return
    typer.echo(f"{report['kept']} of {report['clips']} clips, {report['identities']} identities")
    for reason, count in sorted(report["left_out"].items(), key=lambda item: -item[1]):
        typer.echo(f"  left out: {count} {reason}")
    typer.echo(str(out / "report.html"))


def _rules(given: list[str]) -> Any:
    import yaml
    from pydantic import ValidationError

    from bench.errors import BenchError
    from bench.preparing.clips import Rules
    from media.settings import sentences

    values: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise BenchError(f"--set takes a rule=value, as in --set min_face=96, not {each!r}.")
        values[name] = yaml.safe_load(value)
    try:
        return Rules(**values)
    except ValidationError as error:
        raise BenchError(sentences(error, Rules, "stdrc prepare --set")) from None
