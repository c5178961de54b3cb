"""Engines: torch is the network itself; OpenVINO gives its numbers, and is part of the version."""

import pytest
import torch

from metrics import MetricSuite
from metrics.errors import MetricsError
from metrics.features.face_backends.curricularface import ImprovedResNet
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
    with pytest.raises(MetricsError, match="choose one of torch, torch-float16, openvino"):
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


def test_half_precision_is_a_choice_and_part_of_the_version():
    images = torch.randn(6, 3, 16, 16)
    with torch.inference_mode():
        whole = small()(images)
        halved = compiled(small(), (3, 16, 16), "torch-float16", "cpu")(images)
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, whole, rtol=0, atol=1e-2)
    assert not torch.equal(halved, whole)
    assert engine_version("torch-float16") == "+float16"


def test_channels_last_moves_cosines_by_less_than_a_millionth():
    torch.manual_seed(0)
    network = ImprovedResNet((1, 2, 2, 1)).eval()
    images = torch.rand(4, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        before = torch.nn.functional.normalize(network(images))
        after = torch.nn.functional.normalize(
            compiled(network, (3, 112, 112), "torch", "cpu")(images)
        )
    assert float((before @ before.T - after @ after.T).abs().max()) < 1e-6
