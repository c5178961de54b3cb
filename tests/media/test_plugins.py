"""The seam for plug-ins, met as an installed distribution would."""

import sys

import pytest

from media.errors import UnknownNameError, UserError
from media.plugins import declared, load


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution of one module with entry points of our group."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(module: str, source: str, *points: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [f"{point} = {module}" for point in points or (module,)]
        (info / "entry_points.txt").write_text("\n".join(["[stdrc.plugins]", *lines]))

    yield install
    for name in [n for n in sys.modules if n.startswith("plug_")]:
        del sys.modules[name]


def test_what_plugins_declare_is_found_without_importing_it(install):
    install(
        "plug_a",
        "CHECKPOINTS = {'toy': 'plug_heavy:folder'}\n"
        "METRICS = ('plug_heavy:Sharpness', 'plug_heavy:Blur')\nCONFIGS = 'plug_a.configs'\n",
    )
    install("plug_b", "CHECKPOINTS = {'big': 'plug_other:folder'}\n")
    checkpoints = declared("CHECKPOINTS")
    assert checkpoints["toy"] == "plug_heavy:folder"
    assert checkpoints["big"] == "plug_other:folder"
    assert {"plug_heavy:Sharpness", "plug_heavy:Blur"} <= set(declared("METRICS"))
    assert "plug_a.configs" in declared("CONFIGS")
    assert "plug_heavy" not in sys.modules


def test_a_name_declared_twice_is_refused(install):
    install("plug_a", "EVALSETS = {'plug-set': 'plug_a:A'}\n", "plug_one", "plug_two")
    with pytest.raises(UserError, match="'plug-set' is declared in EVALSETS by two plug-ins"):
        declared("EVALSETS")


def test_a_broken_plugin_is_named(install):
    install("plug_a", "import plug_that_is_not_there\n")
    with pytest.raises(UserError, match=r"'plug_a' can't be imported .*plug_that_is_not_there"):
        declared("METRICS")


def test_what_a_plugin_spells_is_text(install):
    install("plug_a", "FACE_ENCODERS = {'plug-mine': print}\n")
    with pytest.raises(UserError, match=r"plug_a\.FACE_ENCODERS holds 'plug-mine'"):
        declared("FACE_ENCODERS")
    with pytest.raises(UnknownNameError, match="choose one of CHECKPOINTS"):
        declared("WEIGHTS")


def test_loading_by_name(install):
    install("plug_a", "class Blur:\n    sigma = 3\n")
    install("plug_b", "import plug_gone\n", "plug_unused")
    assert load("plug_a:Blur.sigma") == 3
    for target, words in {
        "plug_a": "not of the form",
        "plug_a:Sharpen": "plug_a has no 'Sharpen'",
        "plug_nowhere:A": "no module 'plug_nowhere'",
        "plug_a.sub:A": "no module 'plug_a.sub'|not a package",
    }.items():
        with pytest.raises(UserError, match=words):
            load(target)
    with pytest.raises(ModuleNotFoundError, match="plug_gone"):
        load("plug_b:A")
