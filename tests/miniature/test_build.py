"""A transformer made deeper computes what it computed, and can learn in its new blocks."""

from __future__ import annotations

import pytest
import torch

from miniature.build import deepen
from stdrc.sequence import TokenSequence
from stdrc.training.denoiser import Denoiser, pack
from tests.stdrc.training_tiny import tiny_transformer


def test_a_deeper_transformer_is_the_same_function() -> None:
    old = tiny_transformer().eval()
    new = deepen(old, (None, 0, None, 1)).eval()
    assert new.config.num_layers == len(new.transformer_blocks) == 4
    alone = TokenSequence.of(old.rope, frames=2, height=3, width=3, fps=8.0)
    g = torch.Generator().manual_seed(1)
    video = pack(torch.randn(2, 4, 2, 3, 3, generator=g), old)
    call = (video, torch.tensor([0.3, 0.8]), torch.randn(2, 5, 16, generator=g), None, None, alone)
    before, after = Denoiser(old)(*call)[0], Denoiser(new)(*call)[0]
    torch.testing.assert_close(after, before)
    after.square().sum().backward()
    for i in (0, 2):
        block = new.transformer_blocks[i]
        for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
            assert float(layer.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("order", [(0,), (1, 0), (0, None, 1, 1), (0, 1, 2)])
def test_old_blocks_stay_in_order(order: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="must hold every old block once"):
        deepen(tiny_transformer(), order)
