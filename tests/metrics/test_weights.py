"""Where weights are looked for, and what is said when they aren't there."""

import zipfile
from dataclasses import replace

import pytest

from metrics import weights
from metrics.catalogue import availability, doctor, metric_info, metric_names
from metrics.errors import MetricsError
from metrics.facts import FAMILIES, NEEDS
from metrics.weights import WEIGHTS, fetch, find, require, short_hash


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("STDRC_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
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


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("variable", "name", "place"),
    [
        ("", "facenet.vggface2", "home/.cache/torch/checkpoints/20180402-114759-vggface2.pt"),
        ("TORCH_HOME", "facenet.vggface2", "checkpoints/20180402-114759-vggface2.pt"),
        ("TORCH_HOME", "raft.large", "hub/checkpoints/raft_large_C_T_SKHT_V2-ff5fadd5.pth"),
        ("TORCH_HOME", "lpips.alexnet", "hub/checkpoints/alexnet-owt-7be5be79.pth"),
        (
            "XDG_CACHE_HOME",
            "raft.large",
            "torch/hub/checkpoints/raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        ),
        ("XDG_CACHE_HOME", "i3d.torchscript", "stdrc/weights/i3d_torchscript.pt"),
        ("", "insightface.buffalo_l", "home/.insightface/models/buffalo_l/det_10g.onnx"),
    ],
)
def test_what_libraries_keep_is_found(monkeypatch, tmp_path, variable, name, place):
    """Trees as facenet-pytorch, torchvision and insightface leave them."""
    root = tmp_path / "root" if variable else tmp_path
    if variable:
        monkeypatch.setenv(variable, str(root))
    assert find(name) is None
    file = put(root / place)
    assert find(name) in (file, file.parent)


def test_the_hubs_cache_as_open_clip_leaves_it(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--timm--vit_base_patch32_clip_224.openai"
    put(repo / "refs/main", b"abc")
    blob = put(repo / "blobs/123")
    file = repo / "snapshots/abc/open_clip_model.safetensors"
    file.parent.mkdir(parents=True)
    file.symlink_to(blob)
    assert find("open_clip.vit_b32") == file


def test_fetching(monkeypatch, tmp_path):
    """One file, an archive of a folder, and what isn't what was published."""
    monkeypatch.setenv("STDRC_WEIGHTS", str(tmp_path / "cache"))
    source = put(tmp_path / "i3d.pt", b"weights")
    row = replace(WEIGHTS["i3d.torchscript"], url=source.as_uri())
    monkeypatch.setitem(WEIGHTS, row.name, row)
    assert fetch(row.name) == tmp_path / "cache/i3d_torchscript.pt"
    source.unlink()
    assert fetch(row.name).read_bytes() == b"weights", "what is here is not fetched again"
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        archive.writestr("det_10g.onnx", "x")
    row = replace(WEIGHTS["insightface.buffalo_l"], url=(tmp_path / "pack.zip").as_uri())
    monkeypatch.setitem(WEIGHTS, row.name, row)
    assert (fetch(row.name) / "det_10g.onnx").is_file()
    row = replace(WEIGHTS["raft.large"], url=(tmp_path / "pack.zip").as_uri())
    monkeypatch.setitem(WEIGHTS, row.name, row)
    with pytest.raises(MetricsError, match=r"has the SHA-256 .* not the stated ff5fadd5"):
        fetch(row.name)
    row = replace(row, url=(tmp_path / "gone").as_uri())
    monkeypatch.setitem(WEIGHTS, row.name, row)
    with pytest.raises(MetricsError, match=r"can't be downloaded from .*gone"):
        fetch(row.name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MetricsError, match="come with a package"):
        fetch("dlib.recognition")
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        "buffalo_l",
        "i3d_torchscript.pt",
    ]


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
    with pytest.raises(MetricsError, match=r"glint360k.*stdrc weights fetch curricularface.ir101"):
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
        made_here = "STDRC_WEIGHTS" in row.enable  # measured or scripted by whoever needs it
        assert row.hub or row.package or row.url or made_here, row.name
    infos = {name: metric_info(name) for name in metric_names()}
    for name, info in infos.items():
        assert info.name == name
        assert info.family in FAMILIES, name
        assert set(info.weights) <= set(WEIGHTS), name
        assert all((info.label, info.formula, info.source, info.cost, info.backend)), name
        assert set(info.needs) <= set(NEEDS), name
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
    assert "stdrc weights fetch curricularface.ir101" in absent.enable
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
