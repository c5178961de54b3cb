"""What a column measures: its family, whether it only informs, and which values are worst and best.

A run folder states family and diagnostic with each metric. The names listed here are for sources
that don't: older folders, and tables from papers. They are matched without case, first match first.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

#: Families in the order in which they are named under a table.
FAMILIES: Mapping[str, str] = {
    "identity": "identity",
    "text": "text alignment",
    "distribution": "distribution",
    "temporal": "temporal consistency",
    "copying": "copying",
    "motion": "motion",
    "quality": "quality",
}

_KNOWN: tuple[tuple[str, str, bool], ...] = (
    # pattern of the metric's name, family, diagnostic
    ("*faces?rate*", "", True),
    ("*face_rate*", "", True),
    ("identity.*.consistency", "temporal", False),
    ("identity.*.largest", "identity", True),
    ("identity.*.differs", "identity", True),
    ("identity.people.*.*", "identity", True),
    ("identity.timeline.*.*", "identity", True),
    # The mean over frames with a face is better for whoever hides the face.
    ("identity.*.faces_only", "identity", True),
    ("leakage.*", "copying", True),
    ("*dynamic_degree*", "motion", True),
    ("*dynamic degree*", "motion", True),
    ("kvd*", "distribution", True),
    ("kid*", "distribution", True),
    ("identity*", "identity", False),
    ("*face?arc*", "identity", False),
    ("*face?cur*", "identity", False),
    ("*facesim*", "identity", False),
    ("*arcface*", "identity", False),
    ("copy_paste*", "copying", False),
    ("copy-paste*", "copying", False),
    ("*subject?consistency*", "temporal", False),
    ("*background?consistency*", "temporal", False),
    ("*.motion", "motion", False),
    ("motion?amplitude*", "motion", False),
    ("*aesthetic*", "quality", False),
    ("*imaging?quality*", "quality", False),
    ("*musiq*", "quality", False),
    ("*fvd*", "distribution", False),
    ("*fid", "distribution", False),
    ("*fid.*", "distribution", False),
    ("text*", "text", False),
    ("*clip*", "text", False),
    ("*gmescore*", "text", False),
)

#: Of faces, the one that counts first; those of plug-ins follow.
BACKENDS = ("insightface", "curricularface", "facenet", "dlib", "*")

#: Which column of a family counts where there are several: the first of these that is there.
PRIMARY: Mapping[str, tuple[str, ...]] = {
    "identity": (
        *(f"identity.{backend}" for backend in BACKENDS),
        "*face?arc*",
        "*face?cur*",
        "*facesim?arc*",
        "*facesim?cur*",
        "*",
    ),
    "text": (
        "text.xclip_score",
        "text.clip_score_video",
        "text.clip_score",
        "text.open_clip_score_video",
        "text.open_clip_score",
        "text.*",
        "*clip*",
        "*",
    ),
    "distribution": ("fvd.i3d", "fvd.videomae", "fvd*", "*fvd*", "*fid*", "*"),
    # By who or what is seen. Flicker and warping errors reward a video that stands still.
    "temporal": (
        *(f"identity.{backend}.consistency" for backend in BACKENDS),
        "*subject?consistency*",
        "*consistency*",
    ),
    "copying": (*(f"copy_paste.{backend}" for backend in BACKENDS), "*"),
    "motion": ("*.motion", "*"),
    "quality": ("*aesthetic*", "*imaging?quality*", "*"),
}

#: (worst, best, source): the values that the scheme `score` takes for 0 and 1 where the metric
#: states none. They are fixed, so that a new entry doesn't reorder old ones.
_ANCHORS: tuple[tuple[str, float, float, str], ...] = (
    ("identity.dlib", 0.8, 1.0, "dlib's strangers, docs/metrics.md"),
    ("identity.*", 0.0, 1.0, "cosine of strangers, of one picture"),
    ("copy_paste*", 1.0, -1.0, "the reference's look, the true clip's"),
    ("*subject?consistency*", 0.1462, 1.0, "VBench"),
    ("*background?consistency*", 0.2615, 1.0, "VBench"),
    ("text.*clip*", 0.0, 36.4, "VBench, overall consistency, times 100"),
    ("consisid.clip_score", 0.0, 36.4, "VBench, overall consistency, times 100"),
)


def _plain(metric: str) -> str:
    return metric.strip().lower()


def known_family(metric: str) -> tuple[str, bool]:
    """(family, diagnostic) of a metric that goes by a known name; ("", False) elsewhere.

    >>> known_family("identity.facenet.largest"), known_family("Face-Arc")
    (('identity', True), ('identity', False))
    """
    name = _plain(metric)
    return next(((f, d) for pattern, f, d in _KNOWN if fnmatch(name, pattern)), ("", False))


def precedence(family: str, metric: str) -> int | None:
    """Position of a metric among those that may stand for its family; the smallest counts.

    None for a metric that never stands for it.
    """
    name = _plain(metric)
    order = PRIMARY.get(family, ("*",))
    return next((i for i, pattern in enumerate(order) if fnmatch(name, pattern)), None)


def known_anchors(metric: str) -> tuple[float, float, str] | None:
    """(worst, best, source) of a metric with published or measured anchors; None elsewhere."""
    name = _plain(metric)
    for pattern, worst, best, source in _ANCHORS:
        if fnmatch(name, pattern):
            return worst, best, source
    return None
