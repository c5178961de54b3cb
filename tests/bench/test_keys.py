"""Names of checkpoints: a folder's and a hub id's agree, and a hub id costs no weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import save_file

from bench import keys
from bench.errors import BenchError
from media.files import file_sha256, tree_sha256


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A repository on a hub that counts what is fetched from it."""
    folder = tmp_path / "repo"
    for part in ("transformer", "vae"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
        tensors = {"x": torch.zeros(3, dtype=torch.bfloat16)}
        save_file(tensors, folder / part / "diffusion_pytorch_model.safetensors")
    index = {"_class_name": "LTX2Pipeline", "transformer": [], "vae": [], "crop": "face"}
    (folder / "model_index.json").write_text(json.dumps(index))
    fetched: list[str] = []

    class Api:
        def model_info(self, repo: str, files_metadata: bool) -> Any:
            files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            weights = SimpleNamespace(sha256="0" * 64)
            large = {f: SimpleNamespace(sha256=file_sha256(folder / f)) for f in files}
            return SimpleNamespace(
                siblings=[
                    SimpleNamespace(
                        rfilename=f, lfs=large.get(f, weights) if "safetensors" in f else None
                    )
                    for f in [*files, "one-file.safetensors", "media/picture.json"]
                ]
            )

        def parse_safetensors_file_metadata(self, repo: str, name: str) -> Any:
            assert name.startswith("transformer/")
            return SimpleNamespace(parameter_count={"BF16": 3})

    def download(repo: str, name: str) -> str:
        assert repo == "maker/model"
        fetched.append(name)
        return str(folder / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for cached in (keys._hub_files, keys._hub_hash):
        cached.cache_clear()
    yield SimpleNamespace(folder=folder, fetched=fetched)
    for cached in (keys._hub_files, keys._hub_hash):
        cached.cache_clear()


def test_a_hub_id_has_the_key_of_its_folder_and_only_configs_are_fetched(hub: Any) -> None:
    assert keys.checkpoint_hash("maker/model") == keys.checkpoint_hash(hub.folder)
    assert keys.checkpoint_dtype("maker/model") == keys.checkpoint_dtype(str(hub.folder))
    index = keys.model_index("maker/model")
    assert index is not None
    assert json.loads(index.read_text())["crop"] == "face"
    assert {Path(name).suffix for name in hub.fetched} == {".json"}
    assert "media/picture.json" not in hub.fetched


def test_a_hub_id_without_safetensors_is_refused(hub: Any) -> None:
    for file in hub.folder.rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(BenchError, match=r"maker/model holds no \.safetensors file"):
        keys.checkpoint_hash("maker/model")


def test_a_key_is_of_weights_and_configs_alone(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b/c.json", "d.model", "e.txt", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    key = keys.checkpoint_hash(tmp_path)
    assert key == tree_sha256(
        tmp_path, [tmp_path / n for n in ("a.safetensors", "b/c.json", "d.model", "e.txt")]
    )
    assert keys.checkpoint_hash(tmp_path / "a.safetensors") == file_sha256(
        tmp_path / "a.safetensors"
    )
    (tmp_path / "README.md").write_text("another")
    assert keys.checkpoint_hash(tmp_path) == key
    for name in ("a.safetensors", "b/c.json", "d.model", "e.txt"):
        (tmp_path / name).write_text("another")
        before, key = key, keys.checkpoint_hash(tmp_path)
        assert key != before
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(BenchError, match=f"{tmp_path} holds no .safetensors file"):
        keys.checkpoint_hash(tmp_path)


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), OSError("no route")])
def test_offline_the_cache_gives_the_same_key(
    hub: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = keys.checkpoint_hash("maker/model")
    dtype = keys.checkpoint_dtype("maker/model")
    assert dtype == "bfloat16"
    keys._hub_files.cache_clear()
    keys._hub_hash.cache_clear()
    (hub.folder / "media").mkdir()
    (hub.folder / "media" / "picture.json").write_text("{}")  # no part of the pipeline
    asked = []

    class Offline:
        def model_info(self, repo: str, files_metadata: bool) -> Any:
            raise error

    def cached(repo: str, local_files_only: bool) -> str:
        asked.append((repo, local_files_only))
        return str(hub.folder)

    monkeypatch.setattr(huggingface_hub, "HfApi", Offline)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    hub.fetched.clear()
    assert keys.checkpoint_hash("maker/model") == online
    assert keys.checkpoint_dtype("maker/model") == dtype
    assert keys.model_index("maker/model") == hub.folder / "model_index.json"
    assert set(asked) == {("maker/model", True)}
    assert hub.fetched == []


def test_a_repository_without_a_transformer_is_taken_as_float32(hub: Any) -> None:
    weights = hub.folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(hub.folder / "transformer.safetensors")
    assert keys.checkpoint_dtype("maker/model") == "float32"


def test_what_is_neither_here_nor_in_the_cache_is_refused(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(repo: str, local_files_only: bool) -> str:
        raise OSError("nothing of it\nis cached")

    for name in ("model", "a/b/c", "maker/mo del"):
        with pytest.raises(BenchError, match=f"The checkpoint '{name}' is neither"):
            keys.checkpoint_hash(name)

    def offline(repo: str, files_metadata: bool) -> Any:
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=offline))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    with pytest.raises(BenchError, match=r"'maker/gone' is neither .*\(nothing of it\)"):
        keys.checkpoint_hash("maker/gone")


def test_the_index_of_a_folder_and_of_what_has_none(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    file.write_bytes(b"")
    assert keys.model_index(str(tmp_path)) is None
    assert keys.model_index(str(file)) is None
    (tmp_path / "model_index.json").write_text("{}")
    assert keys.model_index(str(tmp_path)) == tmp_path / "model_index.json"


def test_equal_data_have_one_text() -> None:
    assert keys.canonical({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
