"""A Ray cluster of several nodes: where workers are placed, and the loss of its head."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.runner import Runner

from .fakes import PixelJudge, make_config, no_report

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room, and two nodes with two places each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=2)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def config_on(cluster: Any, folder: Path, delay: float = 0.0, **engine: Any) -> Any:
    generator = {"kind": "custom", "factory": "tests.bench.fakes:DrawnGenerator"}
    return make_config(
        folder,
        generator={**generator, "args": {"delay": delay}},
        engine={"kind": "ray", "address": cluster.address, "workers": 2, **engine},
    )


def run(config: Any, **changes: Any) -> Any:
    parts = {"judge": PixelJudge(), "report": no_report, "console": Console(file=io.StringIO())}
    return Runner(config, **{**parts, **changes}).run()  # type: ignore[arg-type]


def test_workers_are_packed_or_spread_or_refused(tmp_path: Path, cluster: Any) -> None:
    from bench.ray_engine import RayEngine

    class Seen(RayEngine):
        """Notes the nodes on which its workers are."""

        def run(self, jobs: Any) -> Any:
            yield from super().run(jobs)
            actors = [worker.handle.actor for worker in self.workers]
            self.nodes = {node for _, node in ray.get([actor.place.remote() for actor in actors])}

    for placement, nodes in (("pack", 1), ("spread", 2), ("strict_spread", 2)):
        config = config_on(cluster, tmp_path / placement, placement=placement)
        engine = Seen(config)
        assert run(config, engine=engine).generated == 16
        assert len(engine.nodes) == nodes, placement
        engine.close()
    config = config_on(cluster, tmp_path, placement="strict_pack", workers=3, place_s=2)
    with pytest.raises(BenchError, match=r"no room for 3 workers at once \(strict_pack; a worker "):
        run(config)


def test_the_loss_of_the_head_is_said(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import ray_engine

    monkeypatch.setattr(ray_engine, "LOOK_EVERY", 1.0)
    monkeypatch.setattr(ray_engine, "HEAD_GONE", 3.0)
    config = config_on(cluster, tmp_path, delay=2.0)

    def shoot() -> None:
        while len(list(config.folder.glob("videos/??/*.mp4"))) < 2:
            time.sleep(0.05)
        cluster.head_node.kill_gcs_server()

    thread = threading.Thread(target=shoot)
    thread.start()
    with pytest.raises(BenchError, match=r"has lost its head at .* the same command, what is done"):
        run(config)
    thread.join()
    assert 2 <= len(list(config.folder.glob("videos/??/*.mp4"))) < 16
