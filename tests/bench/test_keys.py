"""Names of checkpoints: a folder's and a hub id's agree, and a hub id costs no weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from bench import keys
from bench.errors import BenchError
from media.files import file_sha256


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
