"""Names, families, patterns and plug-ins: which metrics there are and how they are chosen."""

import json
import sys
from pathlib import Path

import pytest

from bench import config as cfg
from bench.cli import main
from bench.suite_judge import SuiteJudge
from media.errors import UnknownNameError, UserError, WeightsMissingError
from metrics import MetricSuite, VideoMetric, facts, metric_info, metric_names, register
from metrics.catalogue import choose, load_plugins
from metrics.errors import MetricsError
from metrics.facts import FAMILIES, Backend, MetricInfo, unregister
from metrics.presets import PRESETS
from metrics.weights import require
from tests.media.clips import steps, write_video

OWN = '''"""Brightness, in one file."""

import numpy as np

from metrics import VideoMetric, register


@register(
    "own.brightness",
    label="Brightness",
    formula="mean of f / 255",
    source="a test",
    family="quality",
    cost="none",
)
class Brightness(VideoMetric):
    features = ("pixels",)

    def measure(self, video):
        return float(np.mean(video["pixels"])) / 255
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a metric of one's own and a video, which is the current one."""
    (tmp_path / "own_metric.py").write_text(OWN)
    write_video(tmp_path / "a.mp4", steps(5))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    unregister("own.brightness")
    sys.modules.pop("own_metric", None)


def test_the_definition_is_found_by_its_name():
    import metrics.leakage

    text = Path(metrics.leakage.__file__).read_text(encoding="utf-8")
    assert '"leakage.crop_ssim.{backend}"' in text


def test_names_of_before_are_there_with_the_plug_ins():
    names = set(metric_names())
    assert {"identity.dlib", "identity.curricularface.largest", "consisid.face_cur", "fid"} <= names
    assert {"fvd.i3d", "fvd.videomae_base", "fvd.videomae_v2", "kvd.i3d", "kid"} <= names
    assert "fvd.videomae" not in names  # which of the two?
    assert {"identity.miniature", "world.motion", "text.miniature", "fvd.miniature"} <= names
    assert not {"faces.rate.curricularface", "leakage.crop_ssim.curricularface"} & names


def test_families_and_patterns_choose():
    assert set(choose(["temporal.*"])) == {n for n in metric_names() if n.startswith("temporal.")}
    assert choose(["identity.dlib", "identity.d*"])[:1] == ["identity.dlib"]
    assert len(choose(["*.dlib", "identity.dlib"])) == len(set(choose(["*.dlib"])))
    for family in ("identity", "text", "temporal", "copying", "distribution"):
        members = choose([family])
        assert members
        assert all(metric_info(name).family == family for name in members)
        assert not [name for name in members if "miniature" in name]  # drawn faces only
    assert "identity.facenet" in choose(["identity"])
    assert "identity.miniature" in choose(["*.miniature"])
    with pytest.raises(UnknownNameError, match=r"temporal\.flicker"):
        choose(["temporal.flickr"])
    with pytest.raises(MetricsError, match=r"no metric is called 'nothing\.\*'"):
        choose(["nothing.*"])


def test_every_metric_says_what_it_is_about_and_what_it_takes():
    infos = [metric_info(name) for name in metric_names()]
    assert {info.family for info in infos} == set(FAMILIES)
    of = {info.name: info for info in infos}
    assert of["identity.dlib.faces_only"].diagnostic
    assert not of["identity.dlib"].diagnostic
    assert of["copy_paste.dlib"].needs == ("reference", "target")
    consistency = of["identity.dlib.consistency"]
    assert (consistency.needs, consistency.inputs) == ((), ("reference",))
    assert of["identity.dlib.differs"].higher_is_better is False
    assert "EXIF" in of["consisid.face_arc"].quirks


def test_a_class_carries_the_direction_of_its_metric():
    from metrics import FID, FVD, CopyPaste, IdentitySimilarity, WarpingError

    assert IdentitySimilarity.higher_is_better is True
    for lower in (CopyPaste, WarpingError, FVD, FID):
        assert lower.higher_is_better is False


def test_a_plug_in_in_the_suite(own):
    suite = MetricSuite(["own.brightness"], plugins=["own_metric:Brightness"])
    assert metric_info("own.brightness") == MetricInfo(
        "own.brightness", "brightness", "Brightness", "mean of f / 255", "a test",
        family="quality", cost="none",
    )  # fmt: skip
    from metrics import VideoItem

    (row,) = suite.score([VideoItem(own / "a.mp4", "a")])
    assert row.status == "ok"
    assert 0 < row.value < 1


def test_a_plug_in_on_the_command_line_and_in_a_config(own, capsys):
    arguments = ["score", "a.mp4", "--plugin", "own_metric:Brightness", "-m", "own.*,temporal.fl*"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json", "--quiet"])
    assert ended.value.code in (0, None)
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [s["metric"] for s in scores] == ["own.brightness", "temporal.flicker"]
    section = {"plugins": ["own_metric:Brightness"], "names": ["own.*", "temporal.flicker"]}
    judge = SuiteJudge(cfg.Metrics(**section), own / "cache")
    assert [c.metric for c in judge.columns] == ["own.brightness", "temporal.flicker"]
    assert [c.family for c in judge.columns] == ["quality", "temporal"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("own_metric", "not of the form"),
        ("no_such_module_here:X", "no module 'no_such_module_here'"),
        ("own_metric:Nothing", "no 'Nothing'"),
        ("own_metric:np", "not a registered metric"),
    ],
)
def test_a_plug_in_that_is_none_is_refused(own, target, words):
    with pytest.raises(UserError, match=words):
        load_plugins([target])


def test_registering_is_checked():
    facts = {"label": "", "formula": "", "family": "quality"}
    with pytest.raises(MetricsError, match="family 'beauty'"):
        register("own.a", **{**facts, "family": "beauty"})
    with pytest.raises(MetricsError, match="needs 'audio'"):
        register("own.a", needs=("audio",), **facts)
    with pytest.raises(MetricsError, match="words in braces"):
        register("own.{a}", **facts)
    with pytest.raises(MetricsError, match="words in braces"):
        register("own.a", backends=(Backend("x"),), **facts)

    class Other(VideoMetric):
        pass

    with pytest.raises(MetricsError, match=r"TemporalFlicker\. Choose another name"):
        register("temporal.flicker", **facts)(Other)


def test_a_pattern_stands_for_a_metric_per_backend():
    class Sharp(VideoMetric):
        def __init__(self, model, **kwargs):
            self.model = model
            super().__init__(**kwargs)

    backends = (Backend("a", weights=("clip.vit_b32",), quirks="of a"), Backend("b", cost="much"))
    register("own.sharp.{model}", label="Sharp", formula="", family="quality",
             quirks="own", backends=backends)(Sharp)  # fmt: skip
    try:
        first, second = (metric_info(f"own.sharp.{m}") for m in "ab")
        assert (first.label, first.quirks, first.weights) == (
            "Sharp (a)", "own; of a", ("clip.vit_b32",),
        )  # fmt: skip
        assert (second.cost, second.weights) == ("much", ())
        assert second.make().model == "b"
    finally:
        unregister("own.sharp.{model}")


def test_missing_weights_are_a_case_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STDRC_WEIGHTS", raising=False)
    with pytest.raises(WeightsMissingError, match="i3d_torchscript"):
        require("i3d.torchscript")


def test_presets_stand_for_their_columns():
    for name, preset in PRESETS.items():
        assert choose([name]) == list(preset.metrics)
        assert all(metric_info(metric) for metric in preset.metrics)
    assert choose(["consisid", "ipvg2025"]) == choose(["consisid"])
    total = sum(column.weight for column in PRESETS["opens2v"].columns.values())
    assert total == pytest.approx(1)
    with pytest.raises(UnknownNameError, match="opens2v"):
        choose(["opens2"])


def test_opens2vs_weights_are_those_that_the_leaderboard_ranks_by():
    from leaderboards.ranking import OPENS2V

    ours = {name: column.weight for name, column in PRESETS["opens2v"].columns.items()}
    assert ours == {name: weight for name, (weight, _) in OPENS2V.items()}
    for name, (_, names) in OPENS2V.items():
        metric = PRESETS["opens2v"].columns[name].metric
        assert not metric or metric.replace(".", "").replace("_", "") in names


def test_a_presets_missing_columns_are_said(own, capsys):
    assert set(MetricSuite(["opens2v"]).lacking) == {
        "opens2v MotionSmoothness", "opens2v GmeScore", "opens2v NaturalScore",
    }  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(["score", "a.mp4", "--metrics", "opens2v,temporal.flicker"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "opens2v GmeScore: has no metric here; take it from" in said
    assert "Columns that no metric fills (3): opens2v MotionSmoothness" in said
    assert "opens2v.motion_amplitude" in said


def test_metrics_come_in_one_order_whatever_was_imported_first(monkeypatch):
    expected = metric_names()
    by_module: dict[str, list] = {}
    for name, statement in facts._REGISTERED.items():
        by_module.setdefault(statement.cls.__module__, []).append((name, statement))
    turned = {k: v for module in reversed(by_module) for k, v in by_module[module]}
    assert list(turned) != list(facts._REGISTERED)
    monkeypatch.setattr(facts, "_REGISTERED", turned)
    assert metric_names() == expected
