"""Engines: torch is the network itself; OpenVINO gives its numbers, and is part of the version."""

import pytest
import torch

from metrics import MetricSuite
from metrics.errors import MetricsError
from metrics.features.models import Models
from metrics.features.networks.engine import compiled, engine_version


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.PReLU(8), torch.nn.Flatten(), torch.nn.Linear(392, 4)
    ).eval()


def test_torch_is_the_network_itself_and_no_part_of_the_version():
    network = small()
    assert compiled(network, (3, 16, 16), "torch", "cpu") is network
    assert engine_version("torch") == ""
    assert Models().engine == "torch"


def test_unknown_and_absent_engines_are_refused(monkeypatch):
    with pytest.raises(MetricsError, match="choose one of torch, openvino"):
        MetricSuite(["temporal.flicker"], engine="tensorrt")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MetricsError, match=r"stdrc-bench\[openvino\]"):
        MetricSuite(["temporal.flicker"], engine="openvino")


def test_openvino_gives_the_networks_numbers_for_any_batch():
    pytest.importorskip("openvino")
    network = small()
    run = compiled(network, (3, 16, 16), "openvino", "cpu")
    for count in (1, 5):
        images = torch.randn(count, 3, 16, 16)
        with torch.inference_mode():
            torch.testing.assert_close(run(images), network(images), rtol=0, atol=1e-5)
    assert engine_version("openvino").startswith("+openvino20")
    with pytest.raises(MetricsError, match="on the CPU"):
        compiled(network, (3, 16, 16), "openvino", "cuda")
