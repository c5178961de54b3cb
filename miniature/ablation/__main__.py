"""`python -m miniature.ablation run | keep | report`: see the package's docstring."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from miniature.ablation.kept import is_measured, keep, restore
from miniature.ablation.plan import HERE, queue
from miniature.ablation.training import train_base, train_point


def run(work: Path) -> None:
    """Everything of the queue that is not there yet, in its order."""
    from miniature.ablation.measure import measure_base, measure_point

    restore(work)
    train_base(work)
    measure_base(work)
    for job, point in queue():
        if is_measured(work, point):
            continue
        print(f"== {job} {point.name}", flush=True)
        if job == "train":
            train_point(work, point)
        else:
            measure_point(work, point, job)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m miniature.ablation", description=__doc__)
    parser.add_argument("action", choices=("run", "keep", "report"))
    default = HERE.parents[1] / "runs" / "ablation"
    parser.add_argument("--work", type=Path, default=default, help="default: runs/ablation")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default 1")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    work = given.work.resolve()
    if given.action == "run":
        run(work)
    elif given.action == "keep":
        keep(work)
    else:
        from miniature.ablation.report import report

        restore(work)
        report(work)


if __name__ == "__main__":
    main()
