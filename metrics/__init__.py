"""Evaluation of identity-preserving text-to-video generation: reading, backends, metrics, suite.

Names are imported when they are first used, so that ``import metrics`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from media.video import read_clip
    from metrics.errors import MetricsError
    from metrics.frechet import frechet_distance
    from metrics.registry import metric_info
    from metrics.scores import Score, SetScore, VideoItem
    from metrics.suite import MetricSuite

__all__ = [
    "MetricSuite",
    "MetricsError",
    "Score",
    "SetScore",
    "VideoItem",
    "frechet_distance",
    "metric_info",
    "read_clip",
]

_HOME = {
    "MetricSuite": "metrics.suite",
    "MetricsError": "metrics.errors",
    "Score": "metrics.scores",
    "SetScore": "metrics.scores",
    "VideoItem": "metrics.scores",
    "frechet_distance": "metrics.frechet",
    "metric_info": "metrics.registry",
    "read_clip": "media.video",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
