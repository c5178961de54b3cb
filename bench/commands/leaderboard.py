"""`stdrc leaderboard`: tables, exports, ablations, comparisons, the page, and people's votes."""

from __future__ import annotations

import getpass
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.options import Json, Run, group, plain_table, print_table, say
from leaderboards.errors import LeaderboardError
from media.wording import warnings_said

app = group(
    "Rank entries, export tables, compare, collect votes.\n\nExample: stdrc leaderboard runs/quick",
    default="table",
)

Sources = Annotated[
    list[Path],
    typer.Argument(help="Run folders, and CSV or Parquet tables of scores.", show_default=False),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by", help="What the order is by: families, ipvg2025, score, opens2v, or one column."
    ),
]
Pool = Annotated[str | None, typer.Option("--pool", help="Pool entries by this axis.")]
Missing = Annotated[
    str | None,
    typer.Option(
        help="A failed sample counts as the worst value (worst), or is left out for all (drop)."
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weight", help="With --by score: FAMILY=WEIGHT or COLUMN=WEIGHT; repeat."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse, rather than leave blank, what cannot be compared.")
]
Trust = Annotated[
    bool,
    typer.Option("--trust-published", help="Let means without samples stand beside measured ones."),
]
Draws = Annotated[int, typer.Option(min=100, help="Bootstrap resamples of identities.")]
At = Annotated[
    list[str] | None,
    typer.Option("--at", help="Hold an axis at a value, for example text=3; repeat for several."),
]


def _board(
    sources: Sources,
    by: By = None,
    weights: Weights = None,
    missing: Missing = None,
    pool: Pool = None,
    strict: Strict = False,
    trust: Trust = False,
    draws: Draws = 1000,
) -> Any:
    from leaderboards import Leaderboard
    from leaderboards.ranking import Ranking

    try:
        keyed = {name: float(value) for name, value in _pairs(weights, "--weight").items()}
    except ValueError as error:
        raise LeaderboardError(f"--weight wants a number: {error}.") from error
    declared = by is None and not keyed and missing is None
    board = Leaderboard.from_sources(
        sources,
        rank=None
        if declared
        else Ranking(by or ("score" if keyed else None), keyed or None, missing=missing or "worst"),  # type: ignore[arg-type]
        draws=draws,
        on_mixed="refuse" if strict else "blank",
        trust_published=trust,
    )
    return board.by(pool) if pool else board


def _of_board(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_board` in the place of its `board`."""
    shared = inspect.signature(_board, eval_str=True).parameters
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    def with_options(**given: Any) -> None:
        board = _board(**{name: given.pop(name) for name in shared})
        command(board, **given)

    both = [p.replace(kind=p.KEYWORD_ONLY) for p in (*shared.values(), *own)]
    with_options.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in both}
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    return with_options


def _pairs(texts: list[str] | None, what: str) -> dict[str, str]:
    out = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise LeaderboardError(f"{what} is NAME=VALUE, for example text=3, not {text!r}.")
        out[name] = value
    return out


def _console(width: int | None = None) -> Any:
    from rich.console import Console

    if width is None and not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        width = 200  # a pipe has no width of its own
    return Console(width=width)


Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        help="Metrics, families or patterns such as 'temporal.*', or all; commas or repeat.",
    ),
]
Sort = Annotated[
    str | None, typer.Option(help="Sort by a column, name or place; -COLUMN for worst first.")
]
Top = Annotated[int | None, typer.Option(min=1, help="Show only the first N entries.")]
Width = Annotated[
    int | None, typer.Option(min=20, help="Characters per line; by default the terminal's.")
]


def _words(texts: list[str] | None) -> list[str] | None:
    found = [word.strip() for text in texts or [] for word in text.split(",") if word.strip()]
    return found or None


@app.command()
@_of_board
def table(
    board: Any,
    columns: Columns = None,
    sort: Sort = None,
    top: Top = None,
    width: Width = None,
    json: Json = False,
) -> None:
    """Print the ranked table, one line per entry.

    \b
    stdrc leaderboard table runs/quick others.csv --by score --weight identity=1
    stdrc leaderboard runs/quick --columns identity,text --top 5
    """
    from leaderboards.tables import select, terminal_table, to_json

    if json:
        sys.stdout.write(to_json(board).decode())
        return
    console = _console(width)
    chosen = select(board, _words(columns), sort, top, most=None)
    print_table(console, terminal_table(board, width=console.width, selection=chosen))


@app.command()
@_of_board
def export(
    board: Any,
    output: Annotated[
        list[Path],
        typer.Option("--output", "-o", help="File to write: .csv .parquet .json .md .tex; repeat."),
    ],
    columns: Columns = None,
    sort: Sort = None,
    top: Top = None,
    intervals: Annotated[bool, typer.Option(help="Print [low, high] in .md and .tex.")] = True,
    baseline: Annotated[
        str | None, typer.Option(help="Print differences from this entry in .md and .tex.")
    ] = None,
) -> None:
    """Write the table to files, the format given by each ending.

    \b
    stdrc leaderboard export runs/quick -o table.tex --columns identity,text,fvd.miniature
    """
    from leaderboards.tables import export as write

    with warnings_said():
        for path in output:
            typer.echo(
                write(
                    board, path, columns=_words(columns), sort=sort, top=top, intervals=intervals,
                    baseline=baseline,
                )
            )  # fmt: skip


@app.command()
def ablations(
    run: Run,
    axis: Annotated[str | None, typer.Option(help="Only this axis.")] = None,
    at: At = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            help="The value that the others of an axis are compared with, AXIS=VALUE; repeat. "
            "off or the first value if not given.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", help="Report effects on this column; repeat. By default one per family."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default RUN/leaderboard.")
    ] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Compile effects.tex to a PDF and a PNG; needs LaTeX.")
    ] = False,
) -> None:
    """Report what each axis changes, person by person, and write its tables.

    Prints paired differences against the baseline, averaged over the other axes, and interactions;
    writes them as effects.tex, a table for a paper, and effects.csv, which has those at the best
    point too; and ablation_AXIS.csv and .tex, the means.

    \b
    stdrc leaderboard ablations runs/quick --axis placement --at text=3
    """
    from leaderboards.ablations import ablation
    from leaderboards.ablations import ablations as every
    from leaderboards.effects import effect_sentences, effects, every_effect
    from leaderboards.report import load, write_ablations
    from leaderboards.tables import terminal_table

    board = load(run)
    held, bases = _pairs(at, "--at"), _pairs(baseline, "--baseline")
    tables = [ablation(board, axis, held)] if axis else every(board, held)
    if not tables:
        raise LeaderboardError(f"{run} varies no axis alone, so there is no ablation to show.")
    console = _console()
    for one in tables:
        shown = terminal_table(one.board, title=one.caption, width=console.width)
        print_table(console, shown)
    found = effects(board, axis, bases, column) if axis else every_effect(board, bases, column)
    say(console, *effect_sentences(found))
    for path in write_ablations(board, tables, found, output or run / "leaderboard", pdf):
        typer.echo(path)


@app.command()
def report(
    sources: Sources,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; by default RUN/leaderboard of a single run."),
    ] = None,
) -> None:
    """Write everything into RUN/leaderboard: tables, ablations, figures, the page.

    \b
    stdrc leaderboard report runs/quick
    stdrc leaderboard report runs/ours scored/scores.csv -o both
    """
    from leaderboards.report import load, write_report
    from leaderboards.tables import terminal_table

    if output is None and (len(sources) > 1 or not sources[0].is_dir()):
        raise LeaderboardError("Name a folder for a report of several sources, or of a table: -o.")
    board = load(*sources)
    console = _console()
    print_table(console, terminal_table(board, width=console.width))
    with warnings_said():
        for path in write_report(sources[0], board, output, sources[1:]):
            typer.echo(path)


@app.command()
def page(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    title: Annotated[str | None, typer.Option(help="Heading; by default the runs' names.")] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Point at the runs' videos instead of copying them.")
    ] = False,
) -> None:
    """Write the page of one or several runs as a folder to send around, videos included.

    \b
    stdrc leaderboard page runs/quick -o quick-page
    """
    from leaderboards.page import write_page
    from leaderboards.report import load

    board = load(*sources)
    media = "link" if link else "copy"
    with warnings_said():
        typer.echo(write_page(board, output, title=title, media=media, runs=sources))  # type: ignore[arg-type]


@app.command()
@_of_board
def card(
    board: Any,
    entry: Annotated[
        str | None, typer.Option("--entry", help="Whose results; by default the first entry's.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="What the samples are called; by default the run's evaluation set."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File; by default RUN/leaderboard/card.md."),
    ] = None,
) -> None:
    """Write an entry's results as a card that the model hub reads: Markdown with a model-index.

    \b
    stdrc leaderboard card runs/mine --entry ours -o ours/README.md
    """
    from leaderboards.card import results_card
    from media.files import write_atomic

    root = board.scores.root
    if output is None and root is None:
        raise LeaderboardError("Name a file for the card of a table: -o.")
    text = results_card(board, entry, dataset)
    typer.echo(write_atomic(output or root / "leaderboard" / "card.md", text.encode()))


@app.command()
def compare(
    sources: Sources,
    column: Annotated[str | None, typer.Option(help="The column; by default identity.")] = None,
    entry: Annotated[
        list[str] | None, typer.Option("--entry", help="Only these entries; repeat.")
    ] = None,
    pool: Pool = None,
) -> None:
    """Test every pair of entries on common samples by flipping the signs of identities.

    An order is decided where the difference stands out against the largest of all pairs.

    \b
    stdrc leaderboard compare runs/quick --pool placement --column text.clip
    """
    from rich.markup import escape

    board = _board(sources, pool=pool)
    frame = board.compare(column, entries=entry)
    heads = ("A", "B", "A - B", "interval", "N", "p", "p (adjusted)", "")
    shown = plain_table(*heads, left=("A", "B"))
    for row in frame.to_dict("records"):
        shown.add_row(
            escape(row["a"]),
            escape(row["b"]),
            f"{row['difference']:+.4f}",
            f"[{row['low']:+.4f}, {row['high']:+.4f}]",
            str(row["n"]),
            f"{row['p']:.4f}",
            f"{row['p_adjusted']:.4f}",
            "decided" if row["decided"] else "",
        )
    _console().print(shown)


@app.command()
def vote(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, and tables of scores with a column video.", show_default=False
        ),
    ],
    entry: Annotated[list[str], typer.Option("--entry", help="Entry to compare; at least two.")],
    votes: Annotated[
        Path | None,
        typer.Option(
            help="CSV to append to; by default RUN/leaderboard/votes.csv, or beside the table."
        ),
    ] = None,
    rater: Annotated[str | None, typer.Option(help="Who votes; by default your login.")] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(
            "--question",
            help="overall (the default), identity, quality, motion, prompt or timeline; repeat.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many pairs.")] = None,
    least: Annotated[
        float,
        typer.Option(
            "--least-seconds", min=0, help="Shortest time in seconds that a pair is watched."
        ),
    ] = 2.0,
    check_every: Annotated[
        int, typer.Option(min=0, help="One attention check per this many pairs; 0 for none.")
    ] = 15,
    plan: Annotated[
        float | None,
        typer.Option(
            help="Only say how many votes an interval of this width (of the chance to win) takes."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Serve a page on this machine that shows two videos blind and records which is better.

    \b
    stdrc leaderboard vote runs/quick --entry tass --entry overlap
    stdrc leaderboard vote runs/quick --entry tass --entry overlap --plan 0.1
    """
    from tempfile import TemporaryDirectory

    from leaderboards.votes import VoteFile
    from leaderboards.votes.pairs import pairs_of_run, with_checks
    from leaderboards.votes.server import VoteServer

    name = rater or getpass.getuser()
    first = sources[0]
    beside = first / "leaderboard" if first.is_dir() else first.parent
    file = VoteFile(votes or beside / "votes.csv")
    pairs = pairs_of_run(sources, entry, name, limit)
    asked = question or ["overall"]
    if plan is not None:
        _print_plan(plan, len(entry), len({p.sample for p in pairs}), len(asked), file.path)
        return
    with TemporaryDirectory(prefix="stdrc-votes-") as folder:
        if check_every:
            pairs = with_checks(pairs, check_every, name, Path(folder))
        with VoteServer(pairs, file, name, port, asked, least) as server:
            typer.echo(f"{server.url}  ({len(server.left_to_do)} votes for {name}; Ctrl-C ends)")
            typer.echo(f"votes go to {file.path}")
            if browser:
                import webbrowser

                webbrowser.open(server.url)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                typer.echo("")
    for note in file.notes:
        typer.echo(note, err=True)


def _print_plan(width: float, entries: int, samples: int, questions: int, file: Path) -> None:
    from leaderboards.votes import plan_votes, rater_spread, read_votes
    from leaderboards.votes.plan import RATER_SPREAD

    spread, source = RATER_SPREAD, "assumed; votes by several raters would tell"
    if file.is_file():
        pilot = read_votes(file)
        several = pilot["question"].nunique() == 1 and "rater" in pilot
        if several and pilot["rater"].nunique() > 1:
            spread, source = rater_spread(pilot), f"from the {len(pilot)} votes of {file}"
    plans = plan_votes(entries, width, spread=spread, samples=samples, questions=questions)
    shown = plain_table("Raters", "Votes per question", "Per rater", "Hours each", "", left=())
    for one in plans:
        if one.votes is None:
            shown.add_row(
                str(one.raters), "–", "–", "–", "too few raters, however many votes they cast"
            )
        else:
            shown.add_row(
                str(one.raters), f"{one.votes:,}", f"{one.per_rater:,}", f"{one.hours:.1f}",
                "more than one vote per pair of videos" if one.repeats else "",
            )  # fmt: skip
    console = _console()
    console.print(
        f"Votes for a 95 % interval {width:g} wide of each entry's chance to beat an average one "
        f"({entries} entries, {samples} samples; raters' spread {spread:.2f}, {source}):",
        highlight=False,
    )
    console.print(shown)


@app.command()
def votes(
    files: Annotated[list[Path], typer.Argument(help="CSVs of votes.", show_default=False)],
    prior: Annotated[
        float, typer.Option(min=0, help="Virtual draws that every pair starts with.")
    ] = 0.0,
    least_checks: Annotated[
        float, typer.Option(min=0, max=1, help="Share of attention checks a rater has to pass.")
    ] = 0.7,
) -> None:
    """Count points, fit Bradley-Terry strengths, and say how far raters agree, for each question.

    \b
    stdrc leaderboard votes runs/quick/leaderboard/votes.csv
    """
    from leaderboards.votes import QUESTIONS, read_votes

    read = read_votes(files, least_checks=least_checks)
    console = _console()
    for note in read.attrs["notes"]:
        console.print(note, markup=False, highlight=False)
    asked = sorted(set(read["question"]), key=lambda q: (*QUESTIONS, q).index(q))
    for question in asked:
        if asked != ["overall"]:
            console.print(f"\n{question}: {QUESTIONS.get(question, '')}", highlight=False)
        _print_votes(console, read_votes(read, question), prior)


def _print_votes(console: Any, read: Any, prior: float) -> None:
    """Points, strengths and agreement of the votes on one question."""
    from rich.markup import escape

    from leaderboards.votes import agreement, bradley_terry, left_share, vote_points

    reason = ""
    try:
        strengths = bradley_terry(read, prior=prior)
    except LeaderboardError as error:
        strengths, reason = None, str(error)
    heads = ("Entry", "Points", "Wins", "Draws", "Losses", "Both bad", "Strength", "95 % interval")
    shown = plain_table(*heads, left=("Entry",))
    for row in vote_points(read).reset_index().to_dict("records"):
        fitted = ["–", "–"]
        if strengths is not None:
            one = strengths.loc[row["entry"]]
            fitted = [f"{one['strength']:+.3f}", f"[{one['low']:+.3f}, {one['high']:+.3f}]"]
        counts = [str(int(row[name])) for name in ("wins", "draws", "losses", "both_bad")]
        shown.add_row(escape(row["entry"]), f"{row['points']:g}", *counts, *fitted)
    console.print(shown)
    lines = [f"No strengths: {reason}"]
    if strengths is not None:  # what is to be said of the file is said once, above
        lines = [note for note in strengths.attrs["notes"] if note not in read.attrs["notes"]]
    share, low, high = left_share(read)
    if share == share:
        lines = [*lines, f"Left won {share:.0%} of the decided votes [{low:.0%}, {high:.0%}]."]
    if "rater" in read and read["rater"].nunique() > 1 and read["rater"].ne("").all():
        alpha = agreement(read)
        lines.append(
            f"Krippendorff's alpha between {read['rater'].nunique()} raters: {alpha:.3f}"
            if alpha == alpha
            else "No pair was judged by two raters, so their agreement is unknown."
        )
    for line in lines:
        console.print(line, markup=False, highlight=False)
