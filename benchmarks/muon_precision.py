"""What a step of Muon costs on this processor: PyTorch's in bfloat16, and ours in float32.

    python benchmarks/muon_precision.py [--threads 1]

The matrices are the miniature's with four blocks; the gradients are random.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

from miniature.build import MiniatureConfig, build_transformer
from stdrc.training.config import OptimizerConfig
from stdrc.training.denoiser import is_video_parameter
from stdrc.training.optimizer import make_optimizer

STEPS = 5


def seconds(optimizer: torch.optim.Optimizer) -> float:
    """Processor seconds per step."""
    optimizer.step()
    began = time.process_time()
    for _ in range(STEPS):
        optimizer.step()
    return (time.process_time() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    named: list[tuple[str, nn.Parameter]] = []
    for name, parameter in build_transformer(MiniatureConfig()).named_parameters():
        if is_video_parameter(name) and "transformer_blocks." in name and parameter.ndim == 2:
            parameter.grad = torch.randn_like(parameter)
            named.append((name, parameter))
    ours = make_optimizer(named, OptimizerConfig(name="muon", lr=1e-3))
    theirs = torch.optim.Muon([p for _, p in named], lr=1e-3, adjust_lr_fn="match_rms_adamw")
    print(f"{len(named)} matrices, {sum(p.numel() for _, p in named):,} numbers")
    for label, optimizer in (("bfloat16 (torch.optim.Muon)", theirs), ("float32 (ours)", ours)):
        print(f"{label}: {seconds(optimizer):.3f} s per step", flush=True)


if __name__ == "__main__":
    main()
