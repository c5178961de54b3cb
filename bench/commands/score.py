"""`stdrc score`: metrics of any videos, from this program or from any other model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from metrics.scores import Score, SetScore, VideoItem

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def command(
    videos: Annotated[Path, typer.Argument(help="A video, or a folder of videos.")],
    samples: Annotated[
        Path | None,
        typer.Option(
            help="What the videos were made from: an eval.json, a CSV or JSONL table (columns "
            "prompt, reference and, where there are, id, identity, target, video), or a folder of "
            "idNNN/ folders. A sample's video is VIDEOS/<its id>.mp4, or as its row says."
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference",
            "-r",
            help="A face that every video should show (repeat it for several people), or a folder "
            "with an image of each video's name.",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="The prompt of every video.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Folder of true videos, for FVD, FID and the like.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            "-m",
            help="Names, patterns such as 'temporal.*', or families such as 'identity', with "
            "commas between them, or 'all'; default: those that can run here and fit what is "
            "given. 'stdrc doctor' lists them.",
        ),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A metric of your own, module:Class (repeat it for several)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.csv, scores.json and scores.parquet.")
    ] = None,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames sampled of each video.")] = 16,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps features between runs.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also if a metric can't run here.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON instead of a table.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Score videos.

    \b
    stdrc score videos/ --samples eval.json --out scores
    stdrc score clips/ --reference face.jpg -m identity.dlib,temporal.flicker
    """
    from bench.errors import BenchError

    if samples is not None and (reference or prompt is not None):
        raise BenchError("--samples brings its own references and prompts; leave the others out.")
    items = _from_samples(videos, samples) if samples else _from_files(videos, reference, prompt)
    truths = _video_files(real) if real is not None else []

    from metrics.catalogue import load_plugins
    from metrics.suite import MetricSuite

    load_plugins(plugin or ())
    suite = MetricSuite(
        _names(metrics, items, bool(truths)),
        device=device,
        num_frames=num_frames,
        cache=cache,
        real=truths,
    )
    rows = _run(suite, items, quiet)
    _report(rows, items, suite.absent, out, json)
    _end(rows, strict)


def _report(
    rows: list[Score | SetScore],
    items: list[VideoItem],
    absent: dict[str, str],
    out: Path | None,
    as_json: bool,
) -> None:
    """Write and print the scores."""
    if out is not None:
        _write(rows, items, out)
    if as_json:
        import json

        typer.echo(json.dumps(_records(rows, items), indent=2))
    else:
        _show(rows, items, absent, out)


def _end(rows: list[Score | SetScore], strict: bool) -> None:
    """Exit with 1 if something failed, the counts being the last thing that is said."""
    failed = sum(row.status == "failed" for row in rows)
    absent = sum(row.status == "absent" for row in rows)
    if failed or (strict and absent):
        said = f"{failed} of {len(rows)} scores failed"
        typer.echo(said + (f", {absent} are absent" if absent else ""), err=True)
        raise typer.Exit(1)


# --- what to score ---------------------------------------------------------------------------


def _video_files(folder: Path) -> list[Path]:
    """Videos below a folder in natural order, or the file itself."""
    from bench.errors import BenchError
    from media.files import natural_order

    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise BenchError(f"There is no video or folder {folder}; check the path.")
    found = [p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
    if not found:
        raise BenchError(f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}); check the path.")
    return natural_order(found)


def _from_files(videos: Path, references: list[Path] | None, prompt: str | None) -> list[VideoItem]:
    from bench.errors import BenchError
    from metrics.scores import VideoItem

    base = videos if videos.is_dir() else videos.parent
    folders = [r for r in references or [] if r.is_dir()]
    files = tuple(r for r in references or [] if not r.is_dir())
    for path in files:
        if not path.is_file():
            raise BenchError(f"There is no reference {path}; check the path.")
    if folders and len(references or []) > 1:
        raise BenchError("Give one folder of references, or image files, not both.")
    items = []
    for video in _video_files(videos):
        key = video.relative_to(base).as_posix()
        found = files
        if folders:
            candidates = [folders[0] / f"{video.stem}{suffix}" for suffix in IMAGE_SUFFIXES]
            found = tuple(p for p in candidates if p.is_file())[:1]
        items.append(VideoItem(video, key, prompt, found))
    return items


def _from_samples(videos: Path, samples: Path) -> list[VideoItem]:
    """A video for each sample: by the table's column `video` where it has one, else by its id.

    Raises:
        BenchError: if no sample has a video.
    """
    from bench.errors import BenchError
    from media.files import natural_order
    from metrics.scores import VideoItem

    if not videos.is_dir():
        raise BenchError(f"With --samples, VIDEOS is a folder of videos; {videos} is not one.")
    loaded = _samples_config(samples).load(samples.parent)
    named = _named_videos(samples, videos)
    items = []
    for number, sample in enumerate(loaded):
        candidates = [videos / f"{sample.id}{suffix}" for suffix in VIDEO_SUFFIXES]
        if named:
            candidates = [named[number]]
        video = next((p for p in candidates if p.is_file()), candidates[0])
        items.append(
            VideoItem(
                video, sample.id, sample.prompt, sample.references, sample.target, sample.identity
            )
        )
    if not any(item.video.is_file() for item in items):
        there = ", ".join(p.name for p in natural_order(videos.iterdir())[:3]) or "nothing"
        raise BenchError(
            f"None of the {len(items)} samples of {samples} has a video in {videos}: looked for "
            f"{items[0].video.name} and so on, and there is {there}. Name the videos by the "
            "samples' ids, or name them in a column 'video'."
        )
    return items


def _table_kind(samples: Path) -> Literal["csv", "jsonl"] | None:
    kinds: dict[str, Literal["csv", "jsonl"]] = {".csv": "csv", ".jsonl": "jsonl"}
    return kinds.get(samples.suffix.lower())


def _named_videos(samples: Path, videos: Path) -> list[Path]:
    """The files that a table's column `video` names, in its order; [] without such a column."""
    from bench.errors import BenchError
    from media.errors import UserError
    from media.files import inside
    from media.tables import read_table

    kind = _table_kind(samples)
    found: list[Path] = []
    for row in read_table(samples, kind, ("prompt",)) if kind else ():
        if "video" not in row.values:
            if found:
                raise BenchError(f"{samples}:{row.line}: 'video' is missing; name one in each row.")
            return []
        try:
            found.append(inside(videos, row.values["video"], "video"))
        except UserError as error:
            raise BenchError(f"{samples}:{row.line}: {error}.") from None
    return found


def _table_columns(samples: Path, kind: Literal["csv", "jsonl"]) -> dict[str, str]:
    """Of the columns `id`, `identity` and `target`, those that a table has, as settings."""
    from media.tables import read_table

    first = next(iter(read_table(samples, kind, ("prompt",))), None)
    has = first.values if first is not None else {}
    return {name: name for name in ("id", "identity", "target") if name in has}


def _samples_config(samples: Path) -> Any:
    """The kind of evaluation set that a path is."""
    from bench.evalsets import evalset
    from media.tables import read_json

    if samples.is_dir() and not (samples / "eval.json").is_file():
        return evalset("ipvg2025", path=samples)
    if kind := _table_kind(samples):
        return evalset(kind, path=samples, **_table_columns(samples, kind))
    file = samples / "eval.json" if samples.is_dir() else samples
    content = read_json(file)
    if isinstance(content, dict):
        return evalset("opens2v", path=file)
    first = content[0] if isinstance(content, list) and content else {}
    if isinstance(first, dict) and "img_paths" in first:
        return evalset("ipvg2026-sequential", path=file)
    return evalset("ipvg2026-facial", path=file)


def _names(asked: str | None, items: list[VideoItem], real: bool) -> list[str]:
    """Metrics to run; by default all that can run here and whose needs some video meets."""
    from metrics.catalogue import availability, metric_info, metric_names

    if asked is not None and asked.strip() != "all":
        from bench.errors import BenchError

        names = [name.strip() for name in asked.split(",") if name.strip()]
        if not names:
            raise BenchError("--metrics names no metric; leave it out, or name some.")
        return names
    if asked is not None:
        return list(metric_names())
    given = {
        "reference": any(item.references for item in items),
        "prompt": any(item.prompt for item in items),
        "target": real or any(item.target for item in items),
    }
    return [
        name
        for name, info in ((name, metric_info(name)) for name in metric_names())
        if info.by_default
        and all(given[need] for need in info.needs)
        and (info.level == "video" or len(items) > 1)
        and not availability(info, {})[0]
    ]


# --- running ---------------------------------------------------------------------------------


def _run(suite: Any, items: list[VideoItem], quiet: bool) -> list[Score | SetScore]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    from metrics.scores import Score

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.2f} videos/s" if speed else "- videos/s")

    rows: list[Score | SetScore] = []
    columns = (
        TextColumn("scoring"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("scoring", total=len(items))
        last: str | None = None
        for row in suite.stream(items):
            if isinstance(row, Score) and row.key != last:
                progress.advance(task, 1 if last is not None else 0)
                last = row.key
            rows.append(row)
        progress.update(task, completed=len(items))
    return rows


# --- results ---------------------------------------------------------------------------------


def _records(rows: list[Score | SetScore], items: list[VideoItem]) -> dict[str, Any]:
    from dataclasses import asdict

    from metrics.scores import Score

    paths = {item.key: str(item.video) for item in items}
    return {
        "scores": [
            {"video": paths.get(r.key, ""), **asdict(r)} for r in rows if isinstance(r, Score)
        ],
        "sets": [asdict(r) for r in rows if not isinstance(r, Score)],
    }


def _write(rows: list[Score | SetScore], items: list[VideoItem], out: Path) -> None:
    import json

    import pandas as pd

    from bench.errors import BenchError
    from media.files import whole_file

    records = _records(rows, items)
    scores = [
        {**row, "detail": json.dumps(row["detail"], sort_keys=True)} for row in records["scores"]
    ]
    columns = ["video", "key", "group", "metric", "backend", "version"]
    columns += ["value", "status", "reason", "detail"]
    table = pd.DataFrame(scores, columns=columns)
    table["value"] = table["value"].astype("float64")
    try:
        writers: dict[str, Any] = {
            "scores.csv": lambda p: table.to_csv(p, index=False),
            "scores.parquet": lambda p: table.to_parquet(p, index=False),
            "scores.json": lambda p: p.write_text(json.dumps(records, indent=2) + "\n"),
        }
        if records["sets"]:
            writers["sets.csv"] = lambda p: pd.DataFrame(records["sets"]).to_csv(p, index=False)
        for name, write in writers.items():
            with whole_file(out / name) as part:
                write(part)
    except OSError as error:
        raise BenchError(
            f"The scores can't be written to {out} ({error.strerror}); choose another --out."
        ) from error


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _show(
    rows: list[Score | SetScore], items: list[VideoItem], absent: dict[str, str], out: Path | None
) -> None:
    from collections import Counter

    from rich.console import Console
    from rich.table import Table

    from metrics.catalogue import metric_info
    from metrics.scores import Score

    console = Console(width=None if Console().is_terminal else 80, highlight=False)
    scores = [row for row in rows if isinstance(row, Score)]
    sets = [row for row in rows if not isinstance(row, Score)]
    table = Table(title=f"{len(items)} video{'s' if len(items) != 1 else ''}", title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("")
    for name in ("mean", "lowest", "highest", "n", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in dict.fromkeys(row.metric for row in scores if row.metric not in absent):
        values = [r.value for r in scores if r.metric == name and r.value is not None]
        lost = sum(r.metric == name and r.status == "failed" for r in scores)
        arrow = "↑" if metric_info(name).higher_is_better else "↓"
        mean = sum(values) / len(values) if values else None
        low, high = (min(values), max(values)) if values else (None, None)
        table.add_row(
            name,
            arrow,
            *(_number(v) for v in (mean, low, high)),
            str(len(values)),
            str(lost or ""),
        )
    for row in sets:
        if row.status != "absent":
            arrow = "↑" if metric_info(row.metric).higher_is_better else "↓"
            shown = [_number(v) for v in (row.value, row.low, row.high)]
            failed = "1" if row.status == "failed" else ""
            table.add_row(row.metric, arrow, *shown, str(row.n), failed)
    if table.row_count:
        console.print(table)
    failures = Counter((r.key, r.reason) for r in scores if r.status == "failed")
    failures.update((r.metric, r.reason) for r in sets if r.status == "failed")
    notes = Counter((r.key, r.reason) for r in scores if r.status == "ok" and r.reason)
    for title, found in (("Failed", failures), ("Remarks", notes)):
        if found:
            videos = len({key for key, _ in found})
            console.print(f"{title} ({sum(found.values())} scores, {videos} videos):", style="bold")
            for (key, reason), count in found.most_common(20):
                console.print(f"  {key}: {reason} ({count})", markup=False, soft_wrap=True)
            if len(found) > 20:
                where = f"; {out / 'scores.csv'} has all" if out else "; --out writes all"
                console.print(f"  and {len(found) - 20} more{where}", markup=False)
    if absent:
        console.print(f"Absent ({len(absent)} metrics can't run here):", style="bold")
        for reason, names in _by_reason(absent).items():
            console.print(f"  {', '.join(names)}: {reason}", markup=False, soft_wrap=True)
    if out is not None:
        console.print(f"Written: {out}/scores.csv, scores.json, scores.parquet", markup=False)


def _by_reason(absent: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in absent.items():
        found.setdefault(reason, []).append(name)
    return found
