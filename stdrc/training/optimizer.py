"""The optimizers a run may name, as one `torch.optim.Optimizer` each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.utils import is_bitsandbytes_available
from torch import Tensor, nn

from stdrc.errors import STDRCError
from stdrc.training.config import OptimizerConfig

# The matrices between a block's activations. What leads into and out of the blocks, biases, norms
# and modulation tables are not of Muon's kind.
_HIDDEN_MATRIX = re.compile(r"transformer_blocks\..*\.weight$")


class _Muon(torch.optim.Muon):
    """PyTorch's Muon, but on a CPU it orthogonalises in float32.

    PyTorch's is fixed to bfloat16. A processor without instructions for it takes 20 times as long
    over that as over float32, and longer than over forward and backward of a small model together.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if any(p.is_cuda for group in self.param_groups for p in group["params"]):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p.grad))
                average.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(average, group["momentum"]) if group["nesterov"] else average
                p.mul_(1 - group["lr"] * group["weight_decay"])
                # The size of AdamW's updates: `adjust_lr_fn="match_rms_adamw"`.
                size = 0.2 * math.sqrt(max(p.shape))
                direction = _orthogonalised(
                    update, group["ns_coefficients"], group["ns_steps"], group["eps"]
                )
                p.add_(direction, alpha=-group["lr"] * size)
        return loss


def _orthogonalised(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Newton-Schulz towards the nearest orthogonal matrix, as in `torch.optim.Muon`."""
    a, b, c = coefficients
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside transformer blocks, AdamW for everything else.

    Both are PyTorch's own, except for Muon's precision on a CPU; this gives them one list of groups
    and one state, so that checkpoints, schedules and `accelerate` see a single optimizer. Muon's
    update is scaled to AdamW's usual size (`match_rms_adamw`), so one learning rate serves both.

    Args:
        matrices: 2-D parameters, for Muon.
        others: all other parameters, for AdamW.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        config: OptimizerConfig,
    ) -> None:
        rate = {"lr": config.lr, "weight_decay": config.weight_decay}
        self._inner: list[torch.optim.Optimizer] = []
        if matrices:
            self._inner.append(_Muon(matrices, adjust_lr_fn="match_rms_adamw", **rate))
        if others:
            self._inner.append(
                torch.optim.AdamW(others, betas=config.betas, eps=config.eps, foreach=True, **rate)
            )
        super().__init__([group for inner in self._inner for group in inner.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a checkpoint puts new groups and a new state here; the two work on what is here.
        for inner, group in zip(self._inner, self.param_groups, strict=True):
            inner.param_groups, inner.state = [group], self.state
            inner.step()
        return loss


def make_optimizer(
    named: Sequence[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """The optimizer of a configuration.

    Args:
        named: trained parameters with the names that `Denoiser` gives them.

    Raises:
        STDRCError: 8 bits without bitsandbytes or a card.
    """
    parameters = [parameter for _, parameter in named]
    adam: dict[str, Any] = config.model_dump(include={"lr", "betas", "eps", "weight_decay"})
    if config.name == "adafactor":
        return torch.optim.Adafactor(parameters, lr=config.lr, weight_decay=config.weight_decay)
    if config.name == "adamw8bit":
        if not (is_bitsandbytes_available() and torch.cuda.is_available()):
            raise STDRCError(
                "optimizer.name: adamw8bit needs a CUDA card and bitsandbytes (pip install "
                "bitsandbytes); use adamw or adafactor here."
            )
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(parameters, **adam)
    if config.name == "muon":
        hidden = [_HIDDEN_MATRIX.search(name) is not None and p.ndim == 2 for name, p in named]
        return MuonWithAdamW(
            [p for p, is_hidden in zip(parameters, hidden, strict=True) if is_hidden],
            [p for p, is_hidden in zip(parameters, hidden, strict=True) if not is_hidden],
            config,
        )
    return torch.optim.AdamW(parameters, **adam, foreach=True)
