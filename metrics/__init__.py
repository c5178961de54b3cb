"""Evaluation of identity-preserving text-to-video generation: metrics, features, and the suite.

Names are imported when they are first used, so that ``import metrics`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from media.video import read_clip
    from metrics.catalogue import metric_info, metric_names
    from metrics.copying import CopyPaste
    from metrics.distribution import FID, FVD, KID, KVD, FrechetDistance, KernelDistance
    from metrics.errors import MetricsError
    from metrics.facts import MetricInfo, register
    from metrics.frechet import frechet_distance
    from metrics.identity import FaceRate, IdentitySimilarity
    from metrics.kernel import kernel_distance
    from metrics.metric import Result, StreamedMetric, Video, VideoMetric
    from metrics.motion import DynamicDegree, WarpingError
    from metrics.scores import Score, SetScore, VideoItem
    from metrics.sets import SetMetric
    from metrics.suite import MetricSuite
    from metrics.temporal import FeatureConsistency, IdentityConsistency, TemporalFlicker
    from metrics.text import CLIPScore

_HOME = {
    "CLIPScore": "metrics.text",
    "CopyPaste": "metrics.copying",
    "DynamicDegree": "metrics.motion",
    "FID": "metrics.distribution",
    "FVD": "metrics.distribution",
    "FaceRate": "metrics.identity",
    "FeatureConsistency": "metrics.temporal",
    "FrechetDistance": "metrics.distribution",
    "IdentityConsistency": "metrics.temporal",
    "IdentitySimilarity": "metrics.identity",
    "KID": "metrics.distribution",
    "KVD": "metrics.distribution",
    "KernelDistance": "metrics.distribution",
    "MetricInfo": "metrics.facts",
    "MetricSuite": "metrics.suite",
    "MetricsError": "metrics.errors",
    "Result": "metrics.metric",
    "Score": "metrics.scores",
    "SetMetric": "metrics.sets",
    "SetScore": "metrics.scores",
    "StreamedMetric": "metrics.metric",
    "TemporalFlicker": "metrics.temporal",
    "Video": "metrics.metric",
    "VideoItem": "metrics.scores",
    "VideoMetric": "metrics.metric",
    "WarpingError": "metrics.motion",
    "frechet_distance": "metrics.frechet",
    "kernel_distance": "metrics.kernel",
    "metric_info": "metrics.catalogue",
    "metric_names": "metrics.catalogue",
    "read_clip": "media.video",
    "register": "metrics.facts",
}

__all__ = [
    "FID",
    "FVD",
    "KID",
    "KVD",
    "CLIPScore",
    "CopyPaste",
    "DynamicDegree",
    "FaceRate",
    "FeatureConsistency",
    "FrechetDistance",
    "IdentityConsistency",
    "IdentitySimilarity",
    "KernelDistance",
    "MetricInfo",
    "MetricSuite",
    "MetricsError",
    "Result",
    "Score",
    "SetMetric",
    "SetScore",
    "StreamedMetric",
    "TemporalFlicker",
    "Video",
    "VideoItem",
    "VideoMetric",
    "WarpingError",
    "frechet_distance",
    "kernel_distance",
    "metric_info",
    "metric_names",
    "read_clip",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
