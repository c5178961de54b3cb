"""The files for clusters that the examples hold do what they say."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
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


def _closed(**keys: Any) -> dict[str, Any]:
    """A JSON schema of a mapping with these keys, all of them and no others."""
    closed = {"type": "object", "required": [*keys], "additionalProperties": False}
    return {**closed, "properties": keys}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
SWITCH = {"type": "boolean"}
AMOUNT = {"type": "string", "pattern": r"^[1-9]\d*(m|Mi|Gi)?$"}
AMOUNTS = {"type": "object", "additionalProperties": AMOUNT, "minProperties": 2}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = _closed(
    name=TEXT,
    image=TEXT,
    resources=_closed(requests=AMOUNTS, limits=AMOUNTS),
    volumeMounts=_list(_closed(name=TEXT, mountPath=TEXT)),
)
VOLUME = _closed(name=TEXT, persistentVolumeClaim=_closed(claimName=TEXT))
POD = _closed(spec=_closed(containers=_list(CONTAINER), volumes=_list(VOLUME)))
#: What KubeRay's definition of a RayJob (ray.io/v1) says of the fields that the example uses.
RAY_JOB = _closed(
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_closed(name=TEXT),
    spec=_closed(
        entrypoint=TEXT,
        shutdownAfterJobFinishes=SWITCH,
        backoffLimit=COUNT,
        runtimeEnvYAML=TEXT,
        rayClusterSpec=_closed(
            rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
            enableInTreeAutoscaling=SWITCH,
            headGroupSpec=_closed(rayStartParams=TEXTS, template=POD),
            workerGroupSpecs=_list(
                _closed(
                    groupName=TEXT,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=TEXTS,
                    template=POD,
                )
            ),
        ),
    ),
)


def _ray_job() -> Any:
    return yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text())


def test_the_ray_job_is_by_the_schema() -> None:
    jsonschema.validate(job := _ray_job(), RAY_JOB)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for key, value in (("maxReplica", 8), ("replicas", "2"), ("template", {})):
        with pytest.raises(
            jsonschema.ValidationError, match="spec" if key == "template" else f"{value}|{key}"
        ):
            jsonschema.validate(_with(job, key, value), RAY_JOB)


def _with(job: Any, key: str, value: Any) -> Any:
    """The job with a fault in its group of workers."""
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    groups = [{**group, key: value} for group in cluster["workerGroupSpecs"]]
    return {**job, "spec": {**spec, "rayClusterSpec": {**cluster, "workerGroupSpecs": groups}}}


def test_the_ray_job() -> None:
    job = _ray_job()
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
