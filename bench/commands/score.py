"""`stdrc score`: metrics of any videos, from this program or from any other model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bench.commands.options import (
    SAMPLES,
    Device,
    Json,
    Match,
    Metrics,
    NumFrames,
    Plugins,
    Quiet,
    plain_table,
    say,
)
from media.wording import counted, some

if TYPE_CHECKING:
    from metrics.scores import Score, SetScore, VideoItem


_SHOWN = 20  # videos and reasons that are listed
_NAMED = 4  # metrics that are named with a reason


Videos = Annotated[Path, typer.Argument(help="A video, or a folder of videos.")]
Samples = Annotated[
    Path | None,
    typer.Option(
        help=f"{SAMPLES} A sample's video is named by its id, or as its row or --match says."
    ),
]
References = Annotated[
    list[Path] | None,
    typer.Option(
        "--reference",
        "-r",
        help="A face that every video should show (repeat it for several people), or a folder with "
        "an image of each video's name.",
    ),
]
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="The prompt of every video.")]
Real = Annotated[
    Path | None, typer.Option(help="Folder of true videos, for FVD, FID and the like.")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for scores.csv, scores.json and scores.parquet.")
]
Name = Annotated[
    str | None, typer.Option(help="Name of these videos in tables; by default their folder's.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace scores that are in --out.")]
Engine = Annotated[
    str,
    typer.Option(
        help="What runs the protocols' networks: torch; openvino, on a CPU; torch-float16."
    ),
]
Cache = Annotated[Path | None, typer.Option(help="Folder that keeps features between runs.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 1 also if a metric can't run here.")
]


def command(
    videos: Videos,
    samples: Samples = None,
    match: Match = "{sample}",
    reference: References = None,
    prompt: Prompt = None,
    real: Real = None,
    metrics: Metrics = None,
    plugin: Plugins = None,
    out: Out = None,
    name: Name = None,
    force: Force = False,
    num_frames: NumFrames = 16,
    device: Device = "auto",
    engine: Engine = "torch",
    cache: Cache = None,
    strict: Strict = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score videos.

    \b
    stdrc score videos/ --samples eval.json --out scores
    stdrc score clips/ --reference face.jpg -m identity.dlib,temporal.flicker
    """
    import json as as_json

    from bench.errors import BenchError
    from media.video import find_videos

    if samples is not None and (reference or prompt is not None):
        raise BenchError("--samples brings its own references and prompts; leave the others out.")
    if out is not None and (out / "scores.csv").exists() and not force:
        raise BenchError(f"{out} holds scores already; name another --out, or add --force.")
    if samples is not None:
        items = _from_samples(videos, samples, match)
    else:
        items = _from_files(videos, reference, prompt)
    truths = find_videos(real) if real is not None else []

    from bench.default_metrics import asked_metrics, default_metrics
    from bench.generators import pick_device
    from metrics.catalogue import load_plugins, metric_names
    from metrics.suite import MetricSuite

    load_plugins(plugin or ())
    asked, skipped = (
        default_metrics(items, bool(truths)) if metrics is None else (asked_metrics(metrics), [])
    )
    suite = MetricSuite(
        list(metric_names()) if asked == "all" else asked,
        device=pick_device(device),
        num_frames=num_frames,
        cache=cache,
        real=truths,
        engine=engine,
    )
    rows = _run(suite, items, quiet)
    entry = name or (videos if videos.is_dir() else videos.parent).resolve().name
    if out is not None:
        _write(rows, items, out, entry)
    named = [name.strip() for name in (metrics or "").split(",")]
    if json:
        typer.echo(as_json.dumps(_records(rows, items), indent=2))
    else:
        _show(rows, items, suite.absent, named, skipped, out)
    _end(rows, named, strict)


def _end(rows: list[Score | SetScore], named: Sequence[str], strict: bool) -> None:
    """Exit with 1 if something failed, or a metric asked for by name applies to no video."""
    none = [name for name in unfit(rows) if name in named]
    failed = sum(row.status == "failed" for row in rows)
    absent = sum(row.status == "absent" for row in rows)
    nothing = not any(row.status == "ok" for row in rows)
    if failed or none or nothing or (strict and absent):
        said = f"{failed} of {len(rows)} scores failed"
        said += f", {absent} are absent" if absent else ""
        said += f"; {' and '.join(none)} can be computed for none of the videos" if none else ""
        typer.echo(said + ("; nothing could be scored" if nothing else ""), err=True)
        raise typer.Exit(1)


# --- what to score ---------------------------------------------------------------------------


def _from_files(videos: Path, references: list[Path] | None, prompt: str | None) -> list[VideoItem]:
    from bench.errors import BenchError
    from media.images import IMAGE_SUFFIXES
    from media.video import find_videos
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
    for video in find_videos(videos):
        key = video.relative_to(base).as_posix() if video != base else video.resolve().name
        found = files
        if folders:
            candidates = [folders[0] / f"{video.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
            found = tuple(p for p in candidates if p.is_file())[:1]
        items.append(VideoItem(video, key, prompt, found))
    return items


def _from_samples(videos: Path, samples: Path, match: str = "{sample}") -> list[VideoItem]:
    """A video for each sample, as a generator of finished videos finds it.

    Raises:
        BenchError: if no sample has a video.
    """
    from bench.errors import BenchError
    from bench.evalsets.detect import evalset_at
    from bench.generators.folder import finished
    from bench.scoring import item_of

    if not videos.is_dir():
        raise BenchError(f"With --samples, VIDEOS is a folder of videos; {videos} is not one.")
    loaded = evalset_at(samples).load(samples.parent)
    matched = finished(videos, match, loaded).make().matched(loaded)
    if not matched.found:
        raise BenchError(f"{samples}: {matched.nothing(videos)}")
    where = matched.found | matched.missing
    return [item_of(sample, where[sample.id]) for sample in loaded]


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

    paths = {item.key: str(item.video.absolute()) for item in items}
    return {
        "scores": [
            {"video": paths.get(r.key, ""), **asdict(r)} for r in rows if isinstance(r, Score)
        ],
        "sets": [asdict(r) for r in rows if not isinstance(r, Score)],
    }


def _write(rows: list[Score | SetScore], items: list[VideoItem], out: Path, entry: str) -> None:
    import json

    import pandas as pd

    from bench.errors import BenchError
    from media.files import whole_file
    from metrics.catalogue import metric_info

    records = _records(rows, items)
    about = {item.key: item for item in items}
    scores = [
        {
            **row,
            "detail": json.dumps(row["detail"], sort_keys=True),
            # What makes it a table that 'stdrc leaderboard' reads.
            "entry": entry,
            "sample": row["key"],
            "identity": about[row["key"]].identity,
            "prompt": about[row["key"]].prompt or "",
            "reference": str(next((r.absolute() for r in about[row["key"]].references), "")),
            "higher_is_better": metric_info(row["metric"]).higher_is_better,
        }
        for row in records["scores"]
    ]
    columns = ["video", "key", "group", "metric", "backend", "version", "value", "status"]
    columns += ["reason", "detail", "entry", "sample", "identity", "prompt", "reference"]
    table = pd.DataFrame(scores, columns=[*columns, "higher_is_better"])
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
    return "-" if value is None or value != value else f"{value:.4g}"


def _show(
    rows: list[Score | SetScore],
    items: list[VideoItem],
    absent: dict[str, str],
    named: Sequence[str],
    skipped: list[str],
    out: Path | None,
) -> None:
    """Print the videos, the means, published tables, what failed and what could not be scored."""
    from rich.console import Console

    from bench.default_metrics import cautions
    from metrics.catalogue import lacking
    from metrics.presets import PRESETS
    from metrics.scores import Score

    console = Console(width=None if Console().is_terminal else 80, highlight=False)
    none = unfit(rows)
    scores = [r for r in rows if isinstance(r, Score) and r.metric not in {**absent, **none}]
    sets = [r for r in rows if not isinstance(r, Score) and r.metric not in {**absent, **none}]
    means = _estimates(scores, items)
    presets = [name for name in dict.fromkeys(named) if name in PRESETS]
    published = (_published(name, means) for name in presets)
    for table in (_videos(scores, items, out), _means(means, sets, items), *published):
        if table is not None and table.row_count:
            console.print(table)
    say(console, *cautions(dict.fromkeys(row.metric for row in scores)), *skipped)
    _show_remarks(console, scores, sets, out)
    _list(console, "Not applicable", none)
    _list(console, "Metrics that can't run here", absent)
    _list(console, "Columns that no metric fills", lacking(named))
    if out is not None:
        console.print(f"Written: {out}/scores.csv, scores.json, scores.parquet", markup=False)


def unfit(rows: Sequence[Score | SetScore]) -> dict[str, str]:
    """Metrics that apply to none of the videos, and what all of these lack."""
    found = {row.metric: row.reason for row in rows if row.status == "inapplicable"}
    return {
        name: why
        for name, why in found.items()
        if all(row.status == "inapplicable" for row in rows if row.metric == name)
    }


def _list(console: Any, title: str, reasons: dict[str, str]) -> None:
    """Metrics by the reason why they are not there."""
    if not reasons:
        return
    console.print(f"{title} ({len(reasons)}):", style="bold")
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        say(console, f"  {some(names, _NAMED)}: {reason}")


def _videos(scores: list[Score], items: list[VideoItem], out: Path | None) -> Any:
    """A row per video, the worst first; None for a single one."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from bench.default_metrics import main_metrics
    from metrics.catalogue import metric_info

    names = main_metrics(dict.fromkeys(row.metric for row in scores))[:3]
    if len(items) < 2 or not names:
        return None
    values = {(row.key, row.metric): row.value for row in scores}
    sign = 1 if metric_info(names[0]).higher_is_better else -1

    def goodness(item: VideoItem) -> float:
        value = values.get((item.key, names[0]))
        return float("-inf") if value is None else sign * value

    worst = sorted(items, key=goodness)
    more = len(worst) - _SHOWN
    title = "Videos, the worst first"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    if more > 0:
        table.caption = f"{more} more; " + (f"{out}/scores.csv has all" if out else "--out has all")
    table.add_column("video", overflow="ellipsis", no_wrap=True)
    for name in names:
        table.add_column(f"{name} {_arrow(name)}", justify="right", overflow="fold")
    for item in worst[:_SHOWN]:
        table.add_row(item.key, *(_number(values.get((item.key, name))) for name in names))
    return table


def _arrow(metric: str) -> str:
    from metrics.catalogue import metric_info

    return "↑" if metric_info(metric).higher_is_better else "↓"


class _Estimate(NamedTuple):
    """Mean of a metric over videos, its 95 % interval, how many have a value, how many failed."""

    mean: float
    low: float
    high: float
    n: int
    failed: int


def _estimates(scores: list[Score], items: list[VideoItem]) -> dict[str, _Estimate]:
    """What is known of each metric."""
    import numpy as np

    from leaderboards.statistics import cluster_means, few_values
    from metrics.catalogue import metric_info

    place = {item.key: i for i, item in enumerate(items)}
    people = {item.identity or item.key: i for i, item in enumerate(items)}
    clusters = np.array([people[item.identity or item.key] for item in items])
    names = list(dict.fromkeys(row.metric for row in scores))
    values = np.full((len(items), len(names)), np.nan)
    for row in scores:
        if row.value is not None:
            values[place[row.key], names.index(row.metric)] = row.value
    ranges = [metric_info(name).range for name in names]
    ends = [few_values(values[:, j], *ranges[j]) or (np.nan,) * 2 for j in range(len(names))]
    found = cluster_means(values, clusters, ends=np.array(ends).reshape(-1, 2))
    estimates = {}
    for j, (name, (least, most)) in enumerate(zip(names, ranges, strict=True)):
        low = max(found.low[j], -np.inf if least is None else least)
        high = min(found.high[j], np.inf if most is None else most)
        lost = sum(row.metric == name and row.status == "failed" for row in scores)
        n = int(np.isfinite(values[:, j]).sum())
        estimates[name] = _Estimate(float(found.mean[j]), low, high, n, lost)
    return estimates


def _means(means: dict[str, _Estimate], sets: list[SetScore], items: list[VideoItem]) -> Any:
    """A row per metric: its mean over videos, or its value of the set, with a 95 % interval."""
    title = counted(len(items), "video")
    heads = ("metric", "mean", "95 % interval", "n", "failed")
    table = plain_table(*heads, left=("metric",), title=title, no_wrap=True)
    for name, (mean, low, high, n, lost) in means.items():
        interval = _interval(low, high)
        table.add_row(f"{name} {_arrow(name)}", _number(mean), interval, str(n), str(lost or ""))
    for one in sets:
        failed = "1" if one.status == "failed" else ""
        interval = _interval(one.low, one.high)
        name = f"{one.metric} {_arrow(one.metric)}"
        table.add_row(name, _number(one.value), interval, str(one.n), failed)
    return table


def _published(name: str, means: dict[str, _Estimate]) -> Any:
    """The table of a preset: its columns by their published names, and what they make together."""
    from metrics.presets import PRESETS

    preset = PRESETS[name]
    unit = ", %" if preset.percent else ""
    values = {
        column: means[of.metric].mean
        for column, of in preset.columns.items()
        if of.metric in means and means[of.metric].n
    }
    shown = values
    if preset.score and (together := preset.weighted(values)) is not None:
        shown = {**values, preset.score: together}
    table = plain_table(
        f"column{unit}", "value", "metric", left=(f"column{unit}", "metric"),
        title=f"{name}: {preset.source}", no_wrap=True,
    )  # fmt: skip
    table.caption, table.caption_justify = preset.total.replace("`", "'"), "left"
    for column in (*preset.columns, *([preset.score] if preset.score else ())):
        value = shown.get(column)
        said = f"{100 * value:.2f}" if preset.percent and value is not None else _number(value)
        of = preset.columns.get(column)
        source = "weighted mean on the anchors" if of is None else of.metric or "not here"
        table.add_row(column, said, source)
    return table


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None or low != low or high != high:
        return "-"
    return f"[{low:.3g}, {high:.3g}]"


def _show_remarks(
    console: Any, scores: list[Score], sets: list[SetScore], out: Path | None
) -> None:
    from collections import Counter

    failures = Counter((r.key, r.reason) for r in scores if r.status == "failed")
    failures.update((r.metric, r.reason) for r in sets if r.status == "failed")
    notes = Counter((r.key, r.reason) for r in scores if r.status == "ok" and r.reason)
    for title, found in (("Failed", failures), ("Remarks", notes)):
        if found:
            videos = len({key for key, _ in found})
            console.print(
                f"{title} ({counted(sum(found.values()), 'score')}, {counted(videos, 'video')}):",
                style="bold",
            )
            shown = found.most_common(_SHOWN)
            say(console, *(f"  {key}: {reason} ({count})" for (key, reason), count in shown))
            if len(found) > _SHOWN:
                where = f"; {out / 'scores.csv'} has all" if out else "; --out writes all"
                console.print(f"  and {len(found) - _SHOWN} more{where}", markup=False)
