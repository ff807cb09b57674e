"""The same study on unlike clusters: logical GPUs and a CPU node, nodes that come and go, a single worker."""

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from sweep.plan import make_plan
from sweep.stages import rows_of_tables
from tests.studies import SWEEP, SmallStudy, write_small_study

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


@contextmanager
def cluster_of(*nodes: dict[str, float]) -> Iterator[Cluster]:
    """A head without CPUs, as on a real cluster, and nodes with the given resources."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for resources in nodes:
            cluster.add_node(**resources)
        yield cluster
    finally:
        cluster.shutdown()


def run(study: SmallStudy, results: str, address: str) -> None:
    command = [str(SWEEP), "run", str(study.path), "--results", results, "--address", address]
    done = subprocess.run(
        command, cwd=study.path.parent, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr


def tables(study: SmallStudy, results: str) -> dict[str, list[dict[str, Any]]]:
    root = study.path.parent / results / "small"
    found = {}
    for table in rows_of_tables(make_plan(study.path)):
        rows = pq.read_table(root / table).to_pylist()
        found[table] = sorted(
            rows, key=lambda row: [str(value) for value in row.values() if isinstance(value, str | int)]
        )
    return found


def assert_alike(one: dict[str, list[dict[str, Any]]], other: dict[str, list[dict[str, Any]]]) -> None:
    """Words, whole numbers and decisions are equal; floating-point numbers within 1e-5."""
    for table, rows in one.items():
        assert len(rows) == len(other[table])
        for mine, theirs in zip(rows, other[table], strict=True):
            for column, value in mine.items():
                if column in ("mlflow_run_id", "weights_sha256"):
                    continue
                if isinstance(value, float | list):
                    np.testing.assert_allclose(
                        value, theirs[column], rtol=1e-5, atol=1e-5, err_msg=f"{table}.{column}"
                    )
                else:
                    assert value == theirs[column], (table, column)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return write_small_study(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="module")
def by_one_worker(study: SmallStudy) -> dict[str, list[dict[str, Any]]]:
    with cluster_of({"num_cpus": 1}) as cluster:
        run(study, "one", cluster.address)
    found = tables(study, "one")
    assert {name: len(rows) for name, rows in found.items()} == rows_of_tables(make_plan(study.path))
    return found


def test_two_gpu_workers_and_a_cpu_worker_give_the_tables_of_a_single_one(
    study: SmallStudy, by_one_worker: dict[str, list[dict[str, Any]]]
) -> None:
    with cluster_of({"num_cpus": 2, "num_gpus": 1}, {"num_cpus": 1}) as cluster:
        run(study, "three", cluster.address)
    assert_alike(by_one_worker, tables(study, "three"))


def test_nodes_that_come_late_are_used_and_nodes_that_go_take_nothing_with_them(
    study: SmallStudy, by_one_worker: dict[str, list[dict[str, Any]]]
) -> None:
    """The study begins with no node at all; one comes, a second comes, and the first is killed while it works."""
    root = study.path.parent / "moving" / "small"
    with cluster_of() as cluster, ThreadPoolExecutor() as background:
        running = background.submit(run, study, "moving", cluster.address)
        time.sleep(5)
        first = cluster.add_node(num_cpus=1)
        wait_for(root / "features", 1)
        cluster.add_node(num_cpus=1)
        wait_for(root / "masked", 10)
        cluster.remove_node(first, allow_graceful=False)
        running.result()
        assert len(cluster.list_all_nodes()) == 2
    assert_alike(by_one_worker, tables(study, "moving"))


def wait_for(folder: Path, files: int) -> None:
    deadline = time.monotonic() + 600
    while len(list(folder.glob("*.parquet"))) < files:
        assert time.monotonic() < deadline, f"{folder} has no {files} files"
        time.sleep(0.2)
