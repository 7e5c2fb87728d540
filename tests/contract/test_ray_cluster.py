"""Ray on several nodes, and beside somebody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cluster_stages import TellsNode

from curate import Pipeline, Resources
from curate.errors import InfrastructureError, PlanError
from curate.executors.ray import RayExecutor
from curate.records import Record
from curate.stages import Partition, ReadRecords
from tests.conftest import processes_left

pytestmark = pytest.mark.ray


def rows(count: int) -> list[Record]:
    return [{"x": x, "duration": 1.0} for x in range(count)]


def run(executor: Any, count: int, *stages: Any) -> Any:
    read = ReadRecords(rows(count)), Partition(max_records=10, by_length=False)
    return Pipeline("cluster", [*read, *stages]).run(executor)


def test_workers_are_placed_by_custom_resources(ray: Any, ray_cluster: Any) -> None:
    beside = next(node for node in ray.nodes() if "beside" in node["Resources"])
    here = TellsNode("somewhere").with_(workers=1)
    there = TellsNode("beside").with_(workers=2, resources=Resources(custom={"beside": 1}))
    result = run(RayExecutor(), 60, here, there)
    assert {record["beside"] for record in result.records()} == {beside["NodeID"]}
    assert result.summary["kept"] == 60
    assert processes_left() == []


def test_a_node_that_is_lost_loses_nothing(ray_cluster: Any, tmp_path: Path) -> None:
    doomed = ray_cluster.add_node(num_cpus=2, num_gpus=0, object_store_memory=100_000_000, resources={"doomed": 2})
    sign = tmp_path / "sign"

    def lose() -> None:
        # a node that has not worked yet cannot lose anything
        while not Path(f"{sign}-{doomed.node_id}").exists() and not over.wait(0.05):
            pass
        over.wait(0.5)
        ray_cluster.remove_node(doomed, allow_graceful=False)

    over = threading.Event()
    killer = threading.Thread(target=lose)
    killer.start()
    try:
        stage = TellsNode("node", 0.01, str(sign)).with_(workers=3)
        result = run(RayExecutor(), 600, stage)
    finally:
        over.set()
        killer.join()
    assert doomed.node_id in {record["node"] for record in result.records()}  # it has worked, until it was lost
    assert result.summary["kept"] == 600
    assert result.quarantined == []


def test_a_private_cluster_ignores_the_one_nearby(ray: Any, ray_cluster: Any, tmp_path: Path) -> None:
    code = (
        "import sys, ray\nfrom loguru import logger\n"
        "from curate import Pipeline\nlogger.enable('curate')\nfrom curate.stages import Merge, ReadRecords\n"
        "from curate.executors.ray import RayExecutor\nfrom cluster_stages import TellsNode\n"
        "executor = RayExecutor(num_cpus=1, object_store_memory='100MB')\n"
        "stages = [ReadRecords([{'x': 1}]), TellsNode('node').with_(workers=1), Merge('out.jsonl')]\n"
        "Pipeline('mine', stages).run(executor, run_dir=sys.argv[1])\n"
        "assert not ray.is_initialized()\n"
    )
    environment = {
        **os.environ,
        "RAY_ADDRESS": ray_cluster.address,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "ray: a private cluster on this machine" in done.stderr
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "out.jsonl").read_text().splitlines()]
    assert row["node"] not in {node["NodeID"] for node in ray.nodes()}
    assert run(RayExecutor(), 10, TellsNode("node").with_(workers=1)).summary["kept"] == 10


def test_what_no_node_has_is_told_when_nobody_finds_a_place(ray_cluster: Any) -> None:
    wanted = TellsNode("node").with_(workers=1, resources=Resources(custom={"unicorns": 1}))
    with pytest.raises(InfrastructureError, match=r"no node had room for it: it asks for .*'unicorns': 1"):
        run(RayExecutor(address="auto", setup_attempts=1, setup_timeout_s=3.0), 10, wanted)


def test_a_cluster_that_is_not_there() -> None:
    code = (
        "from curate import Pipeline\nfrom curate.stages import ReadRecords\n"
        "from curate.executors.ray import RayExecutor\nfrom cluster_stages import TellsNode\n"
        "Pipeline('p', [ReadRecords([{'x': 1}]), TellsNode('n')]).run(RayExecutor(address='127.0.0.1:1'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 1
    assert "InfrastructureError: ray: the cluster at 127.0.0.1:1 is not available" in done.stderr


def test_mistakes_are_found_at_plan_time(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def plan(executor: Any, **resources: Any) -> None:
        stage = TellsNode("node").with_(resources=Resources(**resources))
        Pipeline("p", [ReadRecords(rows(1)), stage, TellsNode("other").with_(resources=Resources(**resources))]).plan(
            executor
        )

    with pytest.raises(PlanError, match="asks for cpus=64, but this machine has"):
        plan(RayExecutor(), cpus=64)
    plan(RayExecutor(address="auto"), cpus=64)
    with pytest.raises(PlanError, match="asks for tpu=1, but the ray executor has 0; give it more with resources"):
        plan(RayExecutor(), custom={"tpu": 1})
    plan(RayExecutor(resources={"tpu": 1}), custom={"tpu": 1})
    with pytest.raises(PlanError, match=r"asks for gpu_memory_gb=8 without gpus; .* add gpus=…"):
        plan(RayExecutor(address="auto"), gpu_memory_gb=8)
    with pytest.raises(PlanError, match="runtime_envs names 'tels_node', and the stages are"):
        plan(RayExecutor(runtime_envs={"tels_node": {}}))
    with pytest.raises(PlanError, match=r"run in the same worker, .* but have different runtime_envs"):
        plan(RayExecutor(runtime_envs={"tells_node": {"env_vars": {"A": "1"}}}))
