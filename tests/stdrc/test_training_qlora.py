"""LoRAs on a base in eight or four bits, where bitsandbytes is installed; on the CPU.

diffusers quantises on a card only. bitsandbytes itself computes on CPUs, too, so that here its
check for a card is left out and the weights stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.quantizers.bitsandbytes import bnb_quantizer
from safetensors.torch import load_file

from stdrc.memory import Memory
from stdrc.pipeline import STDRCPipeline
from stdrc.training import Trainer, train
from stdrc.training import trainer as trainer_module
from tests.stdrc.test_training_run import base, config, folder  # noqa: F401

bitsandbytes = pytest.importorskip(
    "bitsandbytes", minversion="0.50", reason="needs bitsandbytes (pip install bitsandbytes)"
)


def as_with_a_card(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            return call(*arguments, **named)

    return called


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for bits in (4, 8):
        quantizer = getattr(bnb_quantizer, f"BnB{bits}BitDiffusersQuantizer")
        monkeypatch.setattr(quantizer, "validate_environment", lambda *_, **__: None)
        monkeypatch.setattr(quantizer, "update_device_map", lambda _, at: at or {"": "cpu"})
    monkeypatch.setattr(Memory, "loading", as_with_a_card(Memory.loading))
    make = as_with_a_card(trainer_module.make_optimizer)
    monkeypatch.setattr(trainer_module, "make_optimizer", make)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(("held", "dtype"), [("int8", torch.int8), ("nf4", torch.uint8)])
def test_a_lora_is_trained_on_a_base_in_few_bits(
    base: Path, folder: Path, tmp_path: Path, held: str, dtype: torch.dtype,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    losses: list[float] = []
    bases: list[torch.Tensor] = []
    plain = Trainer.__init__

    def made(self: Trainer, *arguments: Any, **named: Any) -> None:
        plain(self, *arguments, **named)
        self.on_step = lambda _, numbers: losses.append(numbers["loss"])
        if self.config.base_weights != "saved":
            bases.append(self.transformer.transformer_blocks[0].attn1.to_q.base_layer.weight)

    monkeypatch.setattr(Trainer, "__init__", made)

    def run(output: str, weights: str, steps: int = 3, resume: bool = False) -> dict[str, Any]:
        settings = config(
            base, folder, base_weights=weights, precision="bf16", steps=steps,
            output=str(tmp_path / output), lora={"rank": 128}, cache={"folder": str(tmp_path)},
            optimizer={"lr": 1e-3, "warmup": 0, "name": "adamw8bit"}, gradient_checkpointing=True,
        )  # fmt: skip
        return load_file(train(settings, resume=resume))  # type: ignore[arg-type]

    run("saved", "saved")
    found = run("few", held)
    # The codes stay codes, and what they stand for is the base but for the rounding.
    assert bases[0].dtype == dtype
    assert losses[3:] == pytest.approx(losses[:3], rel=0.02)
    assert losses[3:] != losses[:3]
    assert any(value.abs().max() > 0 for key, value in found.items() if "lora_B" in key)
    run("cut", held, steps=2)
    again = run("cut", held, resume=True)
    assert all(torch.equal(again[key], found[key]) for key in found)

    pipe = STDRCPipeline.from_pretrained(base)
    pipe.load_lora_weights(tmp_path / "few" / "pytorch_lora_weights.safetensors")
    assert str(pipe.trained_placement) == "tass"
