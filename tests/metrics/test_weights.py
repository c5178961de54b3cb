"""Where weights are looked for, and what is said when they aren't there."""

from dataclasses import replace

import pytest

from metrics import weights
from metrics.catalogue import availability, doctor, metric_info, metric_names
from metrics.errors import MetricsError
from metrics.facts import FAMILIES
from metrics.weights import WEIGHTS, find, require, short_hash


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STDRC_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_hub_path", lambda w, folder: None)


def test_places_are_looked_at_in_order(monkeypatch, tmp_path):
    name = "inception.imagenet"
    file = WEIGHTS[name].file
    assert find(name) is None
    home = tmp_path / "home/.cache/torch/hub/checkpoints" / file
    home.parent.mkdir(parents=True)
    home.write_bytes(b"home")
    assert find(name) == home
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("STDRC_WEIGHTS", str(folder))
    assert find(name) == home
    (folder / file).write_bytes(b"folder")
    assert find(name) == folder / file
    explicit = tmp_path / "mine.pth"
    explicit.write_bytes(b"mine")
    assert find(name, explicit) == explicit
    with pytest.raises(MetricsError, match="aren't at"):
        find(name, tmp_path / "nowhere.pth")


def test_folders_count_once_they_hold_something(monkeypatch, tmp_path):
    monkeypatch.setenv("STDRC_WEIGHTS", str(tmp_path))
    (tmp_path / "buffalo_l").mkdir()
    assert find("insightface.buffalo_l") is None
    (tmp_path / "buffalo_l" / "det_10g.onnx").write_bytes(b"x")
    assert find("insightface.buffalo_l") == tmp_path / "buffalo_l"


def test_weights_that_packages_ship_are_found_without_importing_them():
    assert find("facenet.mtcnn") is not None
    pytest.importorskip("dlib")
    assert require("dlib.recognition").name == WEIGHTS["dlib.recognition"].file


def test_missing_weights_name_file_and_command():
    with pytest.raises(MetricsError, match=r"glint360k.*hf download BestWishYsh"):
        require("curricularface.ir101")
    with pytest.raises(MetricsError, match="no weights are called 'arc'"):
        find("arc")


def test_hash_covers_every_file_of_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    first = short_hash(tmp_path)
    (tmp_path / "b").write_bytes(b"2")
    assert short_hash(tmp_path) != first
    assert len(first) == 12


def test_every_row_is_complete_and_every_metric_names_known_weights():
    for row in WEIGHTS.values():
        assert all((row.name, row.purpose, row.file, row.license, row.enable)), row.name
        assert row.hub or row.package or row.places or "STDRC_WEIGHTS" in row.enable, row.name
    infos = {name: metric_info(name) for name in metric_names()}
    for name, info in infos.items():
        assert info.name == name
        assert info.family in FAMILIES, name
        assert set(info.weights) <= set(WEIGHTS), name
        assert all((info.label, info.formula, info.source, info.cost, info.backend)), name
        assert set(info.needs) <= {"reference", "prompt", "target"}, name
        assert info.level in ("video", "set"), name
        low, high = info.range
        assert low is None or high is None or low < high, name
    used = {w for info in infos.values() for w in info.weights}
    assert used == set(WEIGHTS) - {"insightface.antelopev2"}


def test_doctor_says_what_runs_and_what_would_enable_the_rest():
    rows = {row.metric: row for row in doctor()}
    assert set(rows) == set(metric_names())
    assert rows["temporal.flicker"].runs
    assert rows["faces.rate.facenet"].runs
    absent = rows["consisid.face_cur"]
    assert not absent.runs
    assert "buffalo_l" in absent.reason
    assert "glint360k" in absent.reason
    assert "hf download" in absent.enable
    for row in rows.values():
        assert bool(row.reason) != row.runs
        assert bool(row.enable) != row.runs


def test_a_missing_package_is_named():
    info = replace(metric_info("temporal.flicker"), modules=("no_such_module",))
    reason, enable = availability(info, {})
    assert "no_such_module" in reason
    assert enable == "pip install no_such_module"


def test_unknown_metrics_are_answered_with_near_ones():
    with pytest.raises(MetricsError, match=r"identity\.dlib"):
        metric_info("identity.dlb")
