"""The files for clusters that the examples hold do what they say."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from bench.commands.bench import app

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (["sweep.yaml"], "bench sweep.yaml --share"),
        (["sweep.yaml", "16"], "bench sweep.yaml --shard 3/16"),
    ],
)
def test_a_task_of_a_slurm_array(tmp_path: Path, arguments: list[str], typed: str) -> None:
    program = tmp_path / ".venv" / "bin" / "stdrc"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@" > typed\n')
    program.chmod(0o755)
    subprocess.run(
        ["bash", str(EXAMPLES / "sweep.sbatch"), *arguments],
        cwd=tmp_path,
        env={**os.environ, "SLURM_ARRAY_TASK_ID": "3"},
        check=True,
    )
    assert (tmp_path / "typed").read_text().strip() == typed
    assert _parsed(typed.split()[1:])["config"] == "sweep.yaml"


def test_the_ray_job() -> None:
    job = yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (program, command) == ("stdrc", "bench")
    given = _parsed(arguments)
    assert (given["engine"], given["address"]) == ("ray", "auto")
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["HF_HUB_OFFLINE"] == "1"
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
            assert set(mounts) <= volumes
            for path in (given["config"], str(given["run_folder"])):
                assert any(path.startswith(f"{mount}/") for mount in mounts.values())
            assert container["resources"]["requests"] == container["resources"]["limits"]


def _parsed(arguments: list[str]) -> dict[str, Any]:
    group: Any = get_command(app)
    return dict(group.commands["run"].make_context("run", list(arguments)).params)
