"""The columns of published tables, by the name of the benchmark, wherever metrics are listed.

A preset says which metrics fill its columns, how the benchmark turns them into one total, and which
of its columns this package has no metric for, so that no table is short without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PRESETS", "Column", "Preset"]


@dataclass(frozen=True)
class Column:
    """One column of a published table.

    Attributes:
        metric: what fills it; empty where this package has nothing.
        weight: in the benchmark's total; 0 where it has none.
        anchors: values that count 0 and 1 in the total.
        elsewhere: where a column without a metric comes from.
    """

    metric: str = ""
    weight: float = 0.0
    anchors: tuple[float, float] = (0.0, 1.0)
    elsewhere: str = ""


@dataclass(frozen=True)
class Preset:
    """A published table.

    Attributes:
        source: who defines it.
        columns: by their published names.
        total: how the columns make one number; empty where they don't.
        beside: metrics that its reader should see as well.
        score: published name of the weighted mean of its columns; empty where there is none.
        percent: it is published in percent.
    """

    source: str
    columns: Mapping[str, Column]
    total: str = ""
    beside: tuple[str, ...] = field(default=())
    score: str = ""
    percent: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that fill it."""
        filled = (column.metric for column in self.columns.values() if column.metric)
        return (*filled, *self.beside)

    @property
    def lacking(self) -> dict[str, str]:
        """Columns that no metric fills, and where they come from."""
        return {name: c.elsewhere for name, c in self.columns.items() if not c.metric}

    def weighted(self, values: Mapping[str, float]) -> float | None:
        """The mean on the columns' anchors with their weights.

        Args:
            values: by the columns' published names.

        Returns:
            None where a column that has a weight has no value, or no column has a weight.

        Example:
            >>> two = Preset("me", {"a": Column("m", 3, (1.0, 5.0)), "b": Column("n", 1)})
            >>> two.weighted({"a": 3.0, "b": 0.9}), two.weighted({"a": 3.0})
            (0.6, None)
        """
        counted = {name: column for name, column in self.columns.items() if column.weight}
        if not counted or not counted.keys() <= values.keys():
            return None
        on_anchors = (
            c.weight * (values[name] - c.anchors[0]) / (c.anchors[1] - c.anchors[0])
            for name, c in counted.items()
        )
        return sum(on_anchors) / sum(column.weight for column in counted.values())


_CONSISID = {
    "Face-Arc": Column("consisid.face_arc"),
    "Face-Cur": Column("consisid.face_cur"),
    "FID": Column("consisid.fid"),
    "CLIPScore": Column("consisid.clip_score"),
}
_DETECTOR = "VBench's own script: a detector of the objects that its prompts name"

PRESETS: dict[str, Preset] = {
    "consisid": Preset("ConsisID evaluation, arXiv 2411.17440", _CONSISID),
    "ipvg2025": Preset(
        "facial identity challenge, ACM Multimedia 2025",
        _CONSISID,
        "ranks over the columns added; `stdrc leaderboard --by ipvg2025`",
    ),
    "ipvg2026": Preset(
        "facial identity challenge, ACM Multimedia 2026",
        {
            **_CONSISID,
            "visual quality": Column("quality.imaging"),
            "motion dynamics": Column("motion.magnitude.raft"),
            "action timeline": Column(
                elsewhere="the organisers: no public script is known (track 2)"
            ),
        },
        beside=("faces.rate.insightface", "timeline.alignment.xclip"),
    ),
    "opens2v": Preset(
        "OpenS2V-Eval v1.1, human domain, arXiv 2505.20292",
        {
            # Aesthetics and MotionAmplitude come out on their anchors already, 4..7 and 0..1.
            "Aesthetics": Column("opens2v.aesthetics", 0.18),
            "MotionSmoothness": Column(
                weight=0.09, elsewhere="OpenS2V-Eval's get_motion_smoothness.py: Q-Align, 7B"
            ),
            "MotionAmplitude": Column("opens2v.motion_amplitude", 0.03),
            "FaceSim": Column("opens2v.facesim_cur", 0.25),
            "GmeScore": Column(
                weight=0.15, elsewhere="OpenS2V-Eval's get_gmescore.py: GME-Qwen2-VL, 7B"
            ),
            "NaturalScore": Column(
                weight=0.30,
                anchors=(1.0, 5.0),
                elsewhere="OpenS2V-Eval's get_naturalscore.py: GPT-4o, a closed API",
            ),
        },
        "weighted sum on the anchors; `stdrc leaderboard --by opens2v` with the lacking columns "
        "from a table of scores",
        beside=("identity.people.curricularface",),  # of its samples with several faces
        score="TotalScore",
        percent=True,
    ),
    "vbench": Preset(
        "VBench, arXiv 2311.17982",
        {
            "subject consistency": Column("temporal.subject_consistency", 1, (0.1462, 1.0)),
            "background consistency": Column("temporal.background_consistency", 1, (0.2615, 1.0)),
            "temporal flickering": Column("temporal.flicker", 1, (0.6293, 1.0)),
            "motion smoothness": Column("motion.smoothness", 1, (0.706, 0.9975)),
            "dynamic degree": Column("vbench.dynamic_degree", 0.5),
            "aesthetic quality": Column("vbench.aesthetic_quality", 1),
            "imaging quality": Column("vbench.imaging_quality", 1),
            "overall consistency": Column("vbench.overall_consistency", 0, (0.0, 0.364)),
            **{
                name: Column(elsewhere=_DETECTOR)
                for name in ("object class", "multiple objects", "color", "spatial relationship")
            },
            **{
                name: Column(elsewhere="VBench's own script, on its own prompts")
                for name in ("human action", "scene", "appearance style", "temporal style")
            },
        },
        "quality score: weighted mean on the anchors of the first seven; the total adds a semantic "
        "score of all nine others, 4 : 1",
        score="quality score",
        percent=True,
    ),
}
"""Presets by name; in `--metrics` and `metrics.names` each stands for its metrics."""
