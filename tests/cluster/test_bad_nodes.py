"""A node that cannot do a run's work: it is set aside in one line and the others finish, or its reason ends the run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from sweep.plan import make_plan
from sweep.stages import all_units
from sweep.storage.store import Store
from tests.studies import SWEEP, SmallStudy, write_small_study

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


@contextmanager
def node_of_its_own(address: str, before: str) -> Iterator[None]:
    """A node whose processes see other mounts; `before` is done there first."""
    ray = f"{Path(sys.executable).parent}/ray start --address={address} --num-cpus=1 --block --disable-usage-stats"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{before} && exec {ray}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "--block" in line:
                    break
            else:
                pytest.skip("needs leave to make a mount namespace")
            time.sleep(2)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate()


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    (tmp_path / "results").mkdir()
    return write_small_study(tmp_path).changed(factors={"task": ["identity"], "seed": [1]})


def run(study: SmallStudy, address: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SWEEP, "run", study.path, "--address", address],
        cwd=study.path.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@contextmanager
def cluster_with(before: str, cpus: int) -> Iterator[str]:
    """The address of a cluster with one such node, beside a head with so many CPUs."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    with ExitStack() as stack:
        stack.callback(cluster.shutdown)
        stack.enter_context(node_of_its_own(cluster.address, before))
        yield cluster.address


def test_a_node_with_a_disk_of_its_own_is_set_aside_and_the_others_finish(study: SmallStudy) -> None:
    """Its worker, its trials and its ranker would all write to, or read from, another folder of the same name."""
    with cluster_with(f"mount -t tmpfs tmpfs {study.path.parent}/results", cpus=1) as address:
        done = run(study, address)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "set aside" in line or "does not see" in line]
    root = study.path.parent / "results" / "small"
    assert line.startswith("node ")
    assert f" does not see {root}: use a folder that all nodes mount" in line
    plan = make_plan(study.path)
    assert Store(str(root)).missing(all_units(plan)) == []


def test_where_no_node_sees_the_results_one_line_says_so(study: SmallStudy) -> None:
    with cluster_with(f"mount -t tmpfs tmpfs {study.path.parent}/results", cpus=0) as address:
        done = run(study, address)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sweep: ")]
    assert " does not see " in line
    assert "Traceback" not in done.stderr


def test_a_node_where_workers_die_at_their_start_is_set_aside(study: SmallStudy) -> None:
    """TensorFlow cannot be imported there, as on a processor that lacks an instruction set."""
    import tensorflow

    package = Path(tensorflow.__file__).parent
    with cluster_with(f"mount -t tmpfs tmpfs {package}", cpus=1) as address:
        done = run(study, address)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert told.count("this node is set aside, the others go on") == 1
    # Where features are too few for three workers to die, what looks at the nodes before the trials finds it.
    assert "workers die at their start: " in told or "nothing starts there: " in told
