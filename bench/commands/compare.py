"""`stdrc compare`: finished videos of several models, scored and tested on the same samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.options import (
    SAMPLES,
    Device,
    Limit,
    Match,
    Metrics,
    NumFrames,
    Plugins,
    print_table,
    say,
)
from media.wording import some

if TYPE_CHECKING:
    from bench.config import BenchConfig
    from bench.evalsets import EvalSet
    from bench.generators.folder import FolderConfig


def command(
    models: Annotated[
        list[str],
        typer.Argument(metavar="NAME=FOLDER...", help="A model's name and its videos' folder."),
    ],
    samples: Annotated[Path, typer.Option("--samples", "-s", help=SAMPLES)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The run folder; what is in it is not done again.")
    ] = Path("runs/compare"),
    match: Match = "{sample}",
    metrics: Metrics = None,
    plugin: Plugins = None,
    num_frames: NumFrames = 16,
    fps: Annotated[float, typer.Option(help="Frames per second of folders of frames.")] = 24.0,
    device: Device = "auto",
    limit: Limit = None,
    vote: Annotated[
        bool, typer.Option("--vote", help="Then serve a page where people vote, blind.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what was matched to what, and stop.")
    ] = False,
) -> None:
    """Score the videos of several models and say which is better, and with what certainty.

    Shows first which video is taken for which sample. Then writes scores, paired tests, tables and
    the page into the run folder, and a config per model, from which 'stdrc bench' continues. A
    sample without a video counts as the worst value. Run again, it does only what is new.

    \b
    stdrc compare --samples people.csv ours=videos/ours theirs=videos/theirs
    stdrc compare -s eval.json ours=a theirs=b --match '{index:03d}.mp4' --vote
    """
    from rich.console import Console

    from bench.default_metrics import cautions
    from bench.evalsets.detect import evalset_at
    from bench.generators.folder import finished
    from leaderboards.leaderboard import Leaderboard

    console = Console(highlight=False)
    config = evalset_at(samples)
    loaded = config.load(out / "evalset")
    if limit is not None:
        config = config.model_copy(update={"limit": limit})
        loaded = type(loaded)(loaded[:limit], name=loaded.name)
    folders = {}
    for name, folder in _models(models, out).items():
        folders[name] = finished(folder.absolute(), match, loaded, name=name, fps=fps)
        _show_match(console, name, folders[name], loaded)
    if plan:
        return
    asked, skipped = _metrics(metrics, plugin, loaded)
    say(console, *([] if asked == "all" else cautions(asked)), *skipped)
    about = {"names": asked, "plugins": plugin or [], "device": device, "num_frames": num_frames}
    configs = [_config(name, out, config, folder, about) for name, folder in folders.items()]
    failed = _run(console, configs, loaded)
    board = Leaderboard.from_run(out, on_mixed="blank")
    _show(console, board, out)
    if failed:
        say(
            console,
            f"videos or scores that failed, and count as the worst value: {failed}; "
            f"'stdrc bench status {out}' says why",
        )
    if vote:
        from bench.commands import leaderboard

        leaderboard.vote([out], [entry.label for entry in board.entries])
    if failed:
        raise typer.Exit(1)


def _models(given: Sequence[str], out: Path) -> dict[str, Path]:
    """Name -> folder.

    Raises:
        BenchError: a name is missing, odd or given twice, or there is nothing to compare with.
    """
    from bench.errors import BenchError
    from leaderboards.runfolder import STORE

    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (equals and folder and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)):
            raise BenchError(
                f"{text!r} is not NAME=FOLDER; write, for example, ours=videos/ours (letters, "
                "digits and ._- in the name)."
            )
        if name in found:
            raise BenchError(f"Two models are called {name!r}; give each a name of its own.")
        found[name] = Path(folder).expanduser()
    if len(found) < 2 and not (out / STORE).is_file():
        raise BenchError(
            "A comparison needs two models, NAME=FOLDER each; 'stdrc score' scores one."
        )
    return found


def _show_match(console: Any, name: str, folder: FolderConfig, samples: EvalSet) -> None:
    """Say which video was taken for which sample.

    Raises:
        BenchError: no sample has a video.
    """
    from bench.errors import BenchError

    matched = folder.make().matched(samples)
    if not matched.found:
        raise BenchError(f"{name}: {matched.nothing(folder.path)}")
    found, missing, unused = matched
    shown = [path.relative_to(folder.path) if path.is_relative_to(folder.path) else path
             for path in found.values()]  # fmt: skip
    pairs = [f"{sample} = {path}" for sample, path in zip(found, shown)]
    first = ", ".join(pairs[:3]) + (f", ... {pairs[-1]}" if len(pairs) > 3 else "")
    lines = [f"{name}: {len(found)} of {len(samples)} samples have a video: {first}"]
    if missing:
        lines.append(f"  without: {some(list(missing), 5)}; each counts as the worst value")
    if unused:
        lines.append(f"  not used: {some([path.name for path in unused], 5)}")
    say(console, *lines)


def _metrics(
    asked: str | None, plugins: Sequence[str] | None, samples: EvalSet
) -> tuple[list[str] | str, list[str]]:
    """(what goes into the configs, what is skipped and why)."""
    from bench.default_metrics import asked_metrics, default_metrics
    from bench.scoring import item_of
    from metrics.catalogue import load_plugins

    load_plugins(plugins or ())
    if asked is not None:
        return asked_metrics(asked), []
    return default_metrics(item_of(sample, Path()) for sample in samples)


def _config(
    name: str, out: Path, evalset: Any, folder: FolderConfig, metrics: dict[str, Any]
) -> BenchConfig:
    """A model's part of the run, written beside the store for those who go on from there."""
    import yaml

    from bench.config import parse_config
    from media.files import write_atomic

    data = {
        "name": name,
        "run": str(out.absolute()),
        "evalset": evalset.model_dump(mode="json", exclude_defaults=True) | {"kind": evalset.kind},
        "generator": folder.model_dump(mode="json", exclude_defaults=True) | {"kind": "folder"},
        "metrics": metrics,
    }
    for key in ("path", "prefix"):
        if isinstance(value := getattr(evalset, key, None), Path):
            data["evalset"][key] = str(value.absolute())
    file = out / f"{name}.yaml"
    config = parse_config(data, str(file))
    write_atomic(file, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return config


def _run(console: Any, configs: Sequence[BenchConfig], samples: EvalSet) -> int:
    """Score what is not scored yet, and report where anything is new; how many failed."""
    from bench.runner import Runner, write_report
    from bench.scoring import make_judge

    folder = configs[0].folder
    judge = make_judge(configs[0].metrics, folder / "cache")
    failed, new = 0, not (folder / "leaderboard" / "index.html").is_file()
    for config in configs:
        console.print(f"scoring {config.name}", markup=False)
        runner = Runner(
            config, judge=judge, samples=samples, console=console, report=lambda _: None
        )
        done = runner.run(retry_failed=True)
        failed = done.failed + done.unscorable
        new = new or bool(done.generated or done.scored or done.adopted)
    if new:
        write_report(folder)
    return failed


def _show(console: Any, board: Any, out: Path) -> None:
    """The table, the paired tests of what counts in the order, and where everything is."""
    from leaderboards.report import pair_sentences
    from leaderboards.tables import terminal_table

    print_table(console, terminal_table(board, width=console.width))
    page = out / "leaderboard" / "index.html"
    say(console, *pair_sentences(board))
    say(console, page.with_name("leaderboard.csv"), page.with_name("leaderboard.tex"), page)
