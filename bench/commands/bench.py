"""`stdrc bench`: run a config, look at a run, merge shards, search guidance weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.options import Json, Limit, Run, group, plain_console, print_table, say
from bench.errors import BenchError
from media.wording import counted

app = group(
    "Run a sweep: plan, generate, score, report. The same command resumes a stopped run.\n\n"
    "Example: stdrc bench quick",
    default="run",
)

CONFIG_HELP = "The run's YAML file, or a name that 'stdrc configs' lists."
Config = Annotated[str, typer.Argument(help=CONFIG_HELP, show_default=False)]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run", "--out", "-o", help="The run folder; by default the config's.", show_default=False
    ),
]


def _load(
    name: str,
    run: Path | None = None,
    strict: bool = False,
    low_memory: bool = False,
    overrides: Sequence[str] = (),
    **engine: Any,
) -> Any:
    from bench.config import EngineConfig, load_config
    from bench.named_configs import find_config

    config = load_config(*find_config(name, "bench"), overrides)
    changes: dict[str, Any] = {} if run is None else {"run": run}
    kind, fields = config.generator.kind, type(config.generator).model_fields
    if strict and "strict" not in fields:
        raise BenchError(
            f"--strict: generators of kind {kind!r} don't say what their model can't read; leave "
            "it out."
        )
    if low_memory and "memory" not in fields:
        raise BenchError(f"--low-memory does nothing in a generator of kind {kind}; leave it out.")
    asked: dict[str, Any] = {"strict": True} if strict else {}
    if low_memory:
        from stdrc.memory import Memory

        asked["memory"] = Memory.low()
    if asked:
        changes["generator"] = config.generator.model_copy(update=asked)
    given = {name: value for name, value in engine.items() if value is not None}
    if given:
        changes["engine"] = EngineConfig(**{**config.engine.model_dump(), **given})
    return config.model_copy(update=changes) if changes else config


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise BenchError(f"--shard is I/N with 1 <= I <= N, for example 3/16, not {text!r}.")
    return int(index), int(count)


Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key: --set sweep.seeds=[1]; may be repeated."),
]
Shard = Annotated[
    str | None, typer.Option(help="I/N: do only this part, in a run folder of its own.")
]
Share = Annotated[
    bool, typer.Option("--share", help="Divide the work among processes with --share; then merge.")
]
Engine = Annotated[str | None, typer.Option(help="local or ray.")]
Address = Annotated[str | None, typer.Option(help="ray: a running cluster's address, or auto.")]
Workers = Annotated[int | None, typer.Option(help="ray: how many workers.", min=1)]
BatchSize = Annotated[int | None, typer.Option(help="Videos per batch.", min=1)]
LowMemory = Annotated[
    bool,
    typer.Option(
        "--low-memory", help="generator.memory: low, for a card of 24 GB; the same videos."
    ),
]
Plan = Annotated[
    bool, typer.Option("--plan", help="Print the plan, with time, disk and card, and stop.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for another process that is using the run folder.")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Retry videos and scores that failed before.")
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Fail videos of what the model can't read or was not taught."),
]
MaxFailures = Annotated[
    float | None,
    typer.Option(help="Stop after more failed videos: a number, or a share below 1.", min=0),
]
Report = Annotated[bool, typer.Option("--report", help="Write the report even if nothing changed.")]
Schema = Annotated[
    bool, typer.Option("--schema", help="Print the JSON schema of a config and stop.")
]


@app.command()
def run(
    config: Annotated[str | None, typer.Argument(help=CONFIG_HELP, show_default=False)] = None,
    run_folder: RunFolder = None,
    set_: Set = None,
    limit: Limit = None,
    shard: Shard = None,
    share: Share = False,
    engine: Engine = None,
    address: Address = None,
    workers: Workers = None,
    batch_size: BatchSize = None,
    low_memory: LowMemory = False,
    plan: Plan = False,
    wait: Wait = False,
    retry_failed: RetryFailed = False,
    strict: Strict = False,
    max_failures: MaxFailures = None,
    report: Report = False,
    schema: Schema = False,
) -> None:
    """Run a config, or resume it where it stopped.

    Example: stdrc bench quick --limit 2
    """
    if schema:
        from bench.config import BenchConfig

        typer.echo(json.dumps(BenchConfig.model_json_schema(), indent=2))
        return
    if config is None:
        raise BenchError(
            "Name a config: stdrc bench CONFIG; 'stdrc configs' lists those that are there."
        )
    from bench.runner import Runner

    console = plain_console()
    loaded = _load(
        config,
        run_folder,
        strict,
        low_memory,
        set_ or (),
        kind=engine,
        address=address,
        workers=workers,
        batch_size=batch_size,
        max_failures=max_failures,
    )
    runner = Runner(
        loaded,
        limit=limit,
        shard=_shard(shard),
        share=share,
        wait=None if wait else 0,
        console=console,
    )
    try:
        _say_plan(console, runner, plan, wait)
        if not plan:
            _run(console, runner, retry_failed=retry_failed, fresh_report=report)
    finally:
        runner.close()


def _run(console: Any, runner: Any, **how: Any) -> None:
    """Run, say what came of it, and exit with 1 if something failed."""
    from bench.errors import TooManyFailuresError

    try:
        summary = runner.run(**how)
    except KeyboardInterrupt:
        console.print(f"Stopped. The same command resumes; finished work is in {runner.folder}.")
        raise typer.Exit(130) from None
    except TooManyFailuresError as error:
        say(console, error)
        raise typer.Exit(1) from None
    _summarise(console, summary)


@app.command()
def retry(folder: Run) -> None:
    """Retry what failed, videos and scores, with the config of the last start.

    Example: stdrc bench retry runs/quick
    """
    from bench.runner import Runner

    console = plain_console()
    _run(console, Runner.of(folder, console=console), retry_failed=True)


@app.command()
def rescore(
    folder: Run,
    metrics: Annotated[
        list[str], typer.Argument(help="Metrics, or patterns such as 'temporal.*'.")
    ],
) -> None:
    """Compute the scores of some metrics again; nothing is generated.

    Example: stdrc bench rescore runs/quick identity.facenet
    """
    from bench.runner import Runner

    console = plain_console()
    _run(console, Runner.of(folder, console=console), rescore=metrics)


def _say_plan(console: Any, runner: Any, plan: bool, wait: bool) -> None:
    """What will be done, and how long it will take where that is asked for or not known yet."""
    from bench.store import Store

    runner.generator.may_train = not plan
    path = runner.folder / "store.sqlite"
    known = path.is_file() and path.stat().st_size > 0
    store = Store(runner.folder) if known and not wait else None
    try:
        lines, left = runner.describe_plan(store)
        say(console, *lines)
        if plan or (left and not known):
            say(console, *runner.forecast(left, store, needs=plan))
    finally:
        if store is not None:
            store.close()


def _summarise(console: Any, summary: Any) -> None:
    from media.wording import duration

    made = f"{summary.generated} generated, {summary.scored} scored"
    if not (summary.generated or summary.scored or summary.failed):
        made = "nothing was left to do"
    console.print(
        f"{counted(summary.cells, 'cell')}, {counted(summary.videos, 'video')}: {made}, in "
        f"{duration(summary.seconds)}",
        soft_wrap=True,
    )
    page = summary.folder / "leaderboard" / "index.html"
    if page.is_file():
        from leaderboards.effects import effect_sentences, every_effect
        from leaderboards.report import load
        from leaderboards.tables import terminal_table

        board = summary.board or load(summary.folder)
        print_table(console, terminal_table(board, width=console.width))
        tables = sorted(page.parent.glob("ablation_*.csv")) + sorted(page.parent.glob("*.tex"))
        say(console, *effect_sentences(every_effect(board)))
        say(console, page.parent / "leaderboard.csv", *tables, page)
    if summary.failed or summary.unscorable:
        say(
            console,
            f"{summary.failed} of {counted(summary.videos, 'video')} and "
            f"{counted(summary.unscorable, 'score')} failed; "
            f"'stdrc bench status {summary.folder}' says why, 'stdrc bench retry "
            f"{summary.folder}' retries them",
        )
        raise typer.Exit(1)


@app.command()
def status(
    folder: Run,
    cells: Annotated[int, typer.Option(help="Cells to list; 0 for none.", min=0)] = 20,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it until the run ends.")
    ] = False,
) -> None:
    """Show a run's progress, also while it is running.

    Example: stdrc bench status runs/quick --watch
    """
    from bench.status import read_status, show_status, watch_status

    if as_json and watch:
        raise BenchError("--json prints one state and --watch all of them; leave one out.")
    console = plain_console()
    if watch:
        watch_status(folder, console, cells=cells)
    elif as_json:
        typer.echo(json.dumps(read_status(folder, cells), indent=2))
    else:
        show_status(read_status(folder, cells), console)


@app.command()
def clean(folder: Run) -> None:
    """Remove retired videos, which are in no plan any more; 'status' lists them.

    Example: stdrc bench clean runs/quick
    """
    from bench.store import Store

    Store(folder).close()  # a folder that is not a run is not made one
    with Store(folder, write=True) as store:
        videos, size = store.clean()
    typer.echo(f"{folder}: {videos} retired videos removed, {size / 2**20:.1f} MiB")


@app.command()
def merge(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder to fill.")],
    shards: Annotated[list[Path], typer.Argument(help="The shards' run folders.")],
    prefer: Annotated[
        Path | None, typer.Option(help="Where two videos differ, keep this folder's.")
    ] = None,
) -> None:
    """Put the shards of a run together, score whole cells, and report.

    Example: stdrc bench merge runs/full runs/full-shard-*
    """
    from bench.merging import merge_shards

    console = plain_console()
    summary, remarks = merge_shards(folder, shards, prefer=prefer)
    say(console, *remarks)
    _summarise(console, summary)


@app.command()
def verify(
    folder: Run,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Remove damaged videos, so that the next run makes them."),
    ] = False,
) -> None:
    """Read everything in a run folder, and compare it with what was written.

    Example: stdrc bench verify runs/quick
    """
    from bench.verify import verify as check

    found = check(folder, repair=repair)
    for text in (*found.damaged.values(), *found.problems):
        typer.echo(text)
    end = "all intact" if not found.damaged else f"{len(found.damaged)} damaged"
    if found.damaged:
        end += (
            f"; 'stdrc bench retry {folder}' makes them again"
            if repair
            else f"; 'stdrc bench verify {folder} --repair' makes room for new ones"
        )
    typer.echo(f"{folder}: {counted(found.files, 'video')}, {end}")
    if found.damaged or found.problems:
        raise typer.Exit(1)


@app.command()
def push(
    folder: Run,
    url: Annotated[str, typer.Argument(help="s3://bucket/name, or what else fsspec knows.")],
    check: Annotated[
        bool, typer.Option("--check", help="Read the copy back, and compare its SHA-256.")
    ] = False,
) -> None:
    """Copy a finished run to an object store. The same command again sends what is missing.

    Example: stdrc bench push runs/quick s3://bucket/quick --check
    """
    from bench import push as pushing

    done = pushing.push(folder, url)
    typer.echo(
        f"{url}: {done.sent} files sent, {done.bytes / 2**20:.1f} MiB; {done.there} were there"
    )
    if check:
        wrong = pushing.check(url)
        for text in wrong:
            typer.echo(text)
        typer.echo(f"{url}: {f'{len(wrong)} are damaged' if wrong else 'all as they were sent'}")
        if wrong:
            raise typer.Exit(1)


@app.command()
def tune(
    config: Config,
    run_folder: RunFolder = None,
    trials: Annotated[
        int | None, typer.Option(help="Weights to try; by default the config's number.", min=1)
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Search guidance weights for the config's stated objective, on the same store.

    Example: stdrc bench tune guidance --trials 20
    """
    from bench.tune import show_choice, tune_guidance

    console = plain_console(stderr=as_json)
    choice = tune_guidance(_load(config, run_folder), trials=trials, limit=limit, console=console)
    if as_json:
        typer.echo(json.dumps(choice.to_dict(), indent=2))
    else:
        show_choice(choice, console)
