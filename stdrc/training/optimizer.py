"""The optimizers a run may name, as one `torch.optim.Optimizer` each."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
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
    """PyTorch's Muon, but matrices of one shape are orthogonalised together, on a CPU in float32.

    PyTorch's takes them one by one, which a card spends waiting for the next of thousands of small
    products, and is fixed to bfloat16. A processor without instructions for that takes 20 times as
    long over it as over float32, and longer than over forward and backward of a small model.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            averages = [
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p.grad))
                for p in params
            ]
            torch._foreach_lerp_(averages, grads, 1 - group["momentum"])
            updates = averages
            if group["nesterov"]:
                updates = torch._foreach_lerp(grads, averages, group["momentum"])
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for rows in _same_shape(updates):
                # The size of AdamW's updates: `adjust_lr_fn="match_rms_adamw"`.
                size = 0.2 * math.sqrt(max(updates[rows[0]].shape))
                directions = _orthogonalised(
                    torch.stack([updates[i] for i in rows]),
                    group["ns_coefficients"], group["ns_steps"], group["eps"],
                )  # fmt: skip
                torch._foreach_add_(
                    [params[i] for i in rows], list(directions.unbind()), alpha=-group["lr"] * size
                )
        return loss


#: Numbers that are orthogonalised at once; Newton-Schulz holds them about four times.
_TOGETHER = 2**26


def _same_shape(matrices: Sequence[Tensor]) -> Iterator[list[int]]:
    """Numbers of matrices of one shape and device, as many as `_TOGETHER` allows."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        alike[matrix.shape, matrix.device, matrix.dtype].append(i)
    for (shape, *_), rows in alike.items():
        most = max(1, _TOGETHER // math.prod(shape))
        for start in range(0, len(rows), most):
            yield rows[start : start + most]


def _orthogonalised(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Newton-Schulz towards the nearest orthogonal matrices [n, rows, columns], as in
    `torch.optim.Muon`; on a card in bfloat16."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    if wide.is_cuda:
        wide = wide.bfloat16()
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide.mT if tall else wide).to(matrices.dtype)


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
