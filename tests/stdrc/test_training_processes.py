"""Training by several processes, from a folder of files to a result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stdrc.training import train
from tests.stdrc.test_training_run import base, config, folder  # noqa: F401

RATE = {"lr": 1e-3, "warmup": 0}


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_that_accumulates(
    base: Path, folder: Path,  # noqa: F811
) -> None:  # fmt: skip
    """From the files on, as torchrun starts it; a checkpoint of two goes on as one."""
    how = {"dropout": {"text": 0.0, "reference": 0.0, "both": 0.0}, "batch_size": 1}
    root = Path(__file__).parents[2]

    def two(output: str, steps: int) -> None:
        settings = config(
            base, folder, output=str(folder.parent / output), steps=steps, optimizer=RATE, **how
        )
        file = folder.parent / f"{output}.yaml"
        file.write_text(json.dumps(settings.model_dump(mode="json")))
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone",
             "-m", "bench.cli", "train", str(file)],
            check=True, cwd=root, timeout=600,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def one(output: str, **changes: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
        settings = config(
            base, folder, output=str(folder.parent / output), steps=4, optimizer=RATE,
            accumulation=2, **how, **changes,
        )  # fmt: skip
        lora = train(settings, resume=True)
        return losses(output), load_file(lora)  # type: ignore[arg-type]

    def losses(output: str) -> list[float]:
        state = folder.parent / output / "checkpoints" / "step-0000004" / "state.json"
        return json.loads(state.read_text())["losses"]

    two("two", 4)
    assert json.loads(
        (folder.parent / "two/checkpoints/step-0000004/state.json").read_text()
    )["world"] == 2  # fmt: skip
    expected, weights = one("one")
    assert len(set(expected)) == 4
    assert losses("two") == pytest.approx(expected, rel=1e-5)
    found = load_file(folder.parent / "two" / "pytorch_lora_weights.safetensors")
    for key, value in weights.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-6)
    two("cut", 2)
    resumed, again = one("cut")
    assert resumed == pytest.approx(expected, rel=1e-5)
    for key, value in weights.items():
        torch.testing.assert_close(again[key], value, rtol=1e-3, atol=1e-6)
