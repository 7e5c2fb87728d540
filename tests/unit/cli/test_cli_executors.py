"""`curate executors`: the list, for people and for machines."""

from __future__ import annotations

import json

from tests.unit.plugin.distributions import Site

PLUGIN = """
from curate.plugin import ExecutorRef, hookimpl

@hookimpl
def curate_executors():
    return [ExecutorRef("cluster", "some_cluster:Cluster", "Work on a cluster", extra="cluster")]
"""


def test_executors_of_plugins_are_listed_beside_curates_own(site: Site, curate) -> None:
    site.install("curate-cluster", PLUGIN)

    listed = {row["use"]: row for row in json.loads(curate("executors", "--json").out)}
    table = curate("executors").out

    assert listed["local"]["distribution"] == "curate-speech"
    assert listed["cluster"]["qualified_name"] == "curate-cluster/cluster"
    assert listed["cluster"]["extra"] == "cluster"
    assert "Work on a cluster" in table
    assert "local" in table
