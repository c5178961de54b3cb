"""Choosing guidance weights: a search for one metric that keeps another near its best.

The paper leaves the weights to the user. Here the objective is stated in the config ("the most
identity whose text alignment is at most 2 % below its best"), Optuna proposes weights on a
grid, and every trial is an ordinary cell on the run's store: a trial that was run before costs
nothing, and a search that was killed goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import config as cfg
from bench.errors import BenchError
from bench.runner import Runner
from bench.scoring import Judge
from bench.store import Store


@dataclass(frozen=True)
class Trial:
    """Weights that were tried, and what came of them."""

    text: float
    reference: float
    objective: float
    constraint: float
    feasible: bool


@dataclass(frozen=True)
class Choice:
    """The chosen weights, and all that were tried, best first."""

    objective: str
    subject_to: str
    bound: float
    best: Trial
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def tune_guidance(
    config: cfg.BenchConfig,
    *,
    trials: int | None = None,
    limit: int | None = None,
    console: Console | None = None,
    **stand_ins: Any,
) -> Choice:
    """Search `config.tune`'s box of guidance weights.

    Args:
        config: a run with a `tune` section; the sweep's base is kept, its axes are not run.
        trials: how many weights to try; the section's number if None. Repeats of weights count.
        limit: only the first N samples.
        stand_ins: passed to `Runner`.

    Raises:
        BenchError: without a `tune` section, for metrics that cannot run here, or if no trial has
            both metrics.
    """
    if config.tune is None:
        raise BenchError(
            f"The config {config.name} has no 'tune' section; it needs at least objective and "
            "subject_to, the names of two metrics."
        )
    import optuna

    tune = config.tune
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    first = Runner(_at(config, tune.text[0], tune.reference[0]), limit=limit, **stand_ins)
    judge = first.judge
    signs = _signs(tune, judge)
    shared = {
        **stand_ins,
        "generator": first.generator,
        "judge": judge,
        "engine": first.engine,
        "console": console,
    }
    measured: dict[tuple[float, float], tuple[float, float]] = {}

    def bound() -> float:
        best = max(c for _, c in measured.values())
        return best - tune.tolerance * abs(best)

    def objective(trial: optuna.Trial) -> float:
        weights = (
            trial.suggest_float("text", *tune.text, step=tune.step),
            trial.suggest_float("reference", *tune.reference, step=tune.step),
        )
        if weights not in measured:
            measured[weights] = _measure(_at(config, *weights), tune, signs, limit, shared)
        value, constraint = measured[weights]
        # Optuna counts a trial as feasible where this is <= 0; the bound moves with the best.
        trial.set_user_attr("violation", bound() - constraint)
        return value

    sampler = optuna.samplers.TPESampler(
        seed=tune.seed,
        n_startup_trials=max(4, (trials or tune.trials) // 3),
        constraints_func=lambda trial: (trial.user_attrs["violation"],),
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    try:
        study.optimize(objective, n_trials=trials or tune.trials)
    finally:
        first.close()
    limit_value = bound()
    found = [
        Trial(
            text=text,
            reference=reference,
            objective=signs[tune.objective] * value,
            constraint=signs[tune.subject_to] * constraint,
            feasible=constraint >= limit_value,
        )
        for (text, reference), (value, constraint) in measured.items()
    ]
    found.sort(key=lambda t: (not t.feasible, -signs[tune.objective] * t.objective))
    return Choice(
        objective=tune.objective,
        subject_to=tune.subject_to,
        bound=signs[tune.subject_to] * limit_value,
        best=found[0],
        trials=tuple(found),
    )


def _signs(tune: cfg.Tune, judge: Judge) -> dict[str, float]:
    """Metric -> 1 where more is better, -1 where less is.

    Raises:
        BenchError: for a metric that cannot run here.
    """
    columns = {c.metric: c for c in judge.columns}
    signs = {}
    for name in (tune.objective, tune.subject_to):
        if name not in columns:
            why = judge.absent.get(name)
            raise BenchError(
                f"tune: the metric {name!r} cannot run here ({why})."
                if why
                else f"tune: there is no metric {name!r}; there are {', '.join(sorted(columns))}."
            )
        signs[name] = -1.0 if columns[name].higher_is_better is False else 1.0
    return signs


def _at(config: cfg.BenchConfig, text: float, reference: float) -> cfg.BenchConfig:
    """The config with one cell: its base at these weights."""
    base = config.sweep.base.model_copy(update={"text": text, "reference": reference})
    sweep = config.sweep.model_copy(
        update={"base": base, "grid": {}, "list": [], "ablations": {}, "exclude": []}
    )
    return config.model_copy(update={"sweep": sweep})


def _measure(
    config: cfg.BenchConfig,
    tune: cfg.Tune,
    signs: dict[str, float],
    limit: int | None,
    shared: dict[str, Any],
) -> tuple[float, float]:
    """Mean objective and constraint of one cell, signed so that more is better."""
    # A trial's table is not worth writing; `stdrc leaderboard` makes one of the whole store.
    runner = Runner(config, limit=limit, **{"report": lambda _: None, "search": True, **shared})
    runner.run()
    (cell,) = runner.plan.cells
    values = []
    with Store(runner.folder) as store:
        for name in (tune.objective, tune.subject_to):
            mean = store.mean(cell.id, name)
            if mean is None:
                raise BenchError(
                    f"tune: no video of the cell text={config.sweep.base.text:g} "
                    f"reference={config.sweep.base.reference:g} has a score for {name!r}; "
                    f"'stdrc bench status {runner.folder}' says why."
                )
            values.append(signs[name] * mean)
    return values[0], values[1]


def show_choice(choice: Choice, console: Console) -> None:
    """The trials as a table, and the choice in words."""
    table = Table(box=None, pad_edge=False)
    for name in ("text", "reference", choice.objective, choice.subject_to, ""):
        table.add_column(name, justify="right")
    for trial in choice.trials:
        table.add_row(
            f"{trial.text:g}",
            f"{trial.reference:g}",
            f"{trial.objective:.4g}",
            f"{trial.constraint:.4g}",
            "" if trial.feasible else "below the bound",
        )
    console.print(table)
    best = choice.best
    console.print(
        f"chosen: text={best.text:g} reference={best.reference:g}, the best {choice.objective} "
        f"({best.objective:.4g}) with {choice.subject_to} within {choice.bound:.4g}",
        soft_wrap=True,
    )
