"""What runs a convolutional network: torch, torch in half precision, or OpenVINO for CPUs.

OpenVINO's float32 sums in another order, so scores may move in their last digits, and half
precision moves them in the third or fourth: both are a choice, and engine and precision are part of
a score's version.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as package_version
from typing import Any

import torch
from torch import Tensor, nn

from metrics.errors import MetricsError

__all__ = ["ENGINES", "compiled", "engine_version"]

ENGINES = ("torch", "torch-float16", "openvino")


def engine_version(engine: str) -> str:
    """What an engine adds to the version of what it computes: nothing for torch.

    Raises:
        MetricsError: another name, or OpenVINO isn't installed.
    """
    if engine not in ENGINES:
        raise MetricsError(f"no engine is called {engine!r}; choose one of {', '.join(ENGINES)}.")
    if engine == "torch":
        return ""
    if engine == "torch-float16":
        return "+float16"
    _openvino()
    return f"+openvino{package_version('openvino')}-f32"


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MetricsError(
            "the engine openvino isn't installed; pip install 'stdrc-bench[openvino]', or score "
            "with the engine torch."
        ) from error
    return openvino


def compiled(
    network: nn.Module, shape: tuple[int, ...], engine: str, device: str | torch.device
) -> Callable[[Tensor], Tensor]:
    """A network as a function of float32 images ``[N, *shape]``, N free.

    Raises:
        MetricsError: as `engine_version`; OpenVINO on another device than the CPU.
    """
    engine_version(engine)
    if engine == "torch-float16":
        halved = network.half().to(memory_format=torch.channels_last)
        return lambda images: halved(images.half()).float()
    if engine == "torch" and torch.device(device).type == "cpu":
        # A seventh faster, within 1e-6 (measured: IR-101's cosines move by 4.5e-7).
        return network.to(memory_format=torch.channels_last)
    if engine == "torch":
        return network
    if torch.device(device).type != "cpu":
        raise MetricsError(f"the engine openvino runs on the CPU, not on {device}; take torch.")
    openvino = _openvino()
    model = openvino.convert_model(network, example_input=torch.zeros(1, *shape))
    model.reshape([-1, *shape])
    # Left alone it takes bfloat16 where a processor has it, and uses every core whatever torch's
    # number of threads.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    made = openvino.Core().compile_model(model, "CPU", settings)
    return lambda images: torch.from_numpy(made(images.cpu().numpy())[0].copy())
