"""A real `ray up` of `infra/ray-cluster-local.yaml` on two machines, a study on them, and `ray down`.

The machines are this one, divided by namespaces; everything that Ray does on them it does by SSH. What differs from the
file: the addresses, user and key; the set-up, which takes the environment that is here instead of downloading one; one
CPU for each machine. The commands are those of infra/README.md.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.plan import make_plan
from sweep.stages import rows_of_tables
from tests.cluster.machines import HEAD, NEEDS_DASHBOARD, WORKER, Machines, machines, skip_without_namespaces
from tests.cluster.strangers import NOTHING
from tests.cluster.test_nodes import assert_alike, tables
from tests.studies import SmallStudy, sweep, write_small_study

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
FILE = "infra/ray-cluster-local.yaml"
README = ROOT / "infra" / "README.md"
JOINED = 300.0
"""Seconds that the worker may take to join after `ray up` has come back."""
GONE = 30.0
"""Seconds that a process may take to be gone after it was ended."""
WRITTEN_BY_WORKER = 0o640
"""Mode of the files that the worker writes: it has a umask of its own, so that every file tells who wrote it."""


def cluster_file(network: Machines) -> Path:
    """The file as a user would fill it in, with the changes that the top of this module tells."""
    config: dict[str, Any] = yaml.safe_load((ROOT / FILE).read_text())
    config["provider"] |= {"head_ip": HEAD, "worker_ips": [WORKER]}
    config["auth"] |= {"ssh_user": "root", "ssh_private_key": str(network.key)}
    [first] = [command for command in config["setup_commands"] if "node-env.sh" in command]
    # In place of the editable install: the code that was copied, not this checkout.
    code = "grep -q PYTHONPATH ~/.bashrc || sed -i '1i export PYTHONPATH=$HOME/relevance-sweep' ~/.bashrc"
    config["setup_commands"] = [first, code]
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[name] = [text.replace("ray start ", "ray start --num-cpus=1 ") for text in config[name]]
    path = network.folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config, width=10_000))
    return path


def type_in(network: Machines, *commands: str) -> str:
    """Type commands on the laptop, in the checkout, as infra/README.md has them."""
    text = "\n".join(["set -e", *commands])
    for theirs, ours in {
        FILE: str(cluster_file(network)),
        "192.168.1.11 192.168.1.12": WORKER,
        "192.168.1.10": HEAD,
        "sweep@": "root@",
    }.items():
        text = text.replace(theirs, ours)
    done = network.laptop("bash", "-c", text, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_readme(opening: str) -> str:
    """The block of commands of infra/README.md that opens with these words."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    [found] = [block for block in blocks if block.startswith(opening)]
    return found


def wait_for(seconds: float, what: str, problem: Callable[[], object]) -> None:
    """Wait until `problem()` is nothing."""
    deadline = time.monotonic() + seconds
    while found := problem():
        assert time.monotonic() < deadline, f"{what}: {found}"
        time.sleep(1)


def joined(network: Machines) -> str:
    """Nothing where both machines are in the cluster, otherwise what Ray says of it."""
    said = type_in(network, f"ray exec {FILE} 'ray status'")
    return "" if "/2.0 CPU" in said else said


def left(network: Machines, address: str) -> set[str]:
    """Processes and ports of a machine, without SSH's and the shell that the machine hangs on."""
    lines = network.on(address, "ps -eo args").splitlines()[1:]
    ours = ("sshd:", "/usr/sbin/sshd", "bash -c", "ps -eo")
    listening = {line.split()[3] for line in network.on(address, "ss -tlnH").splitlines()}
    return {line for line in lines if not line.startswith(ours)} | {
        one for one in listening if not one.endswith(":22")
    }


def modes(study: SmallStudy, results: str, *names: str) -> set[int]:
    """Modes of the files of some tables."""
    root = study.path.parent / results / "small"
    return {path.stat().st_mode & 0o777 for name in names for path in (root / name).glob("*.parquet")}


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    skip_without_namespaces()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Four models, and masking that takes longer than a worker may be later than the other."""
    small = write_small_study(tmp_path_factory.mktemp("study"))
    return small.changed(
        dataset={"input_size": 64},
        factors={"seed": [1]},
        relevance={"images": {"where": {}}},
        masking={"percents": list(range(0, 101, 5))},
    )


@pytest.fixture(scope="module")
def by_one_machine(study: SmallStudy) -> Iterator[Future[None]]:
    """The same study without a cluster; it goes on while the cluster is set up, which is mostly waiting."""

    def run() -> None:
        done = sweep("run", study.path, "--results", "one", cwd=study.path.parent)
        assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor() as background:
        yield background.submit(run)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, by_one_machine: object) -> Iterator[Machines]:
    """The two machines with the cluster on them."""
    with machines(tmp_path_factory.mktemp("machines")) as made:
        for machine in ("head", "worker"):
            (made.home(machine) / "sweep-venv").symlink_to(sys.prefix)
        (made.home("worker") / ".bashrc").write_text("umask 027\n")
        type_in(made, in_readme("export RAY_AUTH_MODE"), f"ray up --yes {FILE}")
        wait_for(JOINED, "the worker did not join", lambda: joined(made))
        yield made


def test_a_study_on_two_machines_gives_the_tables_of_one(
    network: Machines, study: SmallStudy, by_one_machine: Future[None]
) -> None:
    run = f"cd {study.path.parent} && sweep run study.yaml --results two --address auto"
    type_in(network, f"ray exec {FILE} '{run}'")
    by_one_machine.result()
    assert_alike(tables(study, "one"), tables(study, "two"))
    assert modes(study, "two", "images") == {0o644}
    by_workers = modes(study, "two", "features", "predictions", "relevance", "similarity", "masked")
    assert by_workers == {0o644, WRITTEN_BY_WORKER}


@contextmanager
def tunnel(network: Machines) -> Iterator[None]:
    """The way to the head, as infra/README.md opens it, with a keyboard at which nobody types."""
    [attach] = re.findall(r"^ray attach .*$", README.read_text(), re.MULTILINE)
    attach = attach.replace("infra/ray-cluster.yaml", str(cluster_file(network)))
    with network.start("bash", "-c", f"sleep 900 | {attach}", cwd=ROOT):
        yield


@NEEDS_DASHBOARD
def test_a_study_is_submitted_and_seen_through_the_tunnel(network: Machines, tmp_path: Path) -> None:
    study = write_small_study(tmp_path).changed(factors={"seed": [1], "task": ["identity"]})
    submit = in_readme("sweep submit").replace("studies/demo.yaml", str(study.path))
    submit = submit.replace("/srv/results", str(tmp_path / "three"))
    # It opens the way itself, and closes it: the second finds the port free.
    told = type_in(network, submit)
    assert "submitted as job small-" in told
    assert f"Tables   {tmp_path}/three/small" in told
    assert "nothing to compute" in type_in(network, submit)
    with tunnel(network):
        said = type_in(
            network,
            "until curl -fs -o /dev/null http://127.0.0.1:8265; do sleep 0.5; done",
            re.sub(r"--cluster \S+", "", submit),
            "curl -fsS http://127.0.0.1:5000/api/2.0/mlflow/experiments/get-by-name?experiment_name=small",
        )
    assert "submitted as job small-" in said
    assert f"Tables   {tmp_path}/three/small" in said
    assert json.loads(said[said.rindex('{\n  "experiment"') :])["experiment"]["name"] == "small"
    rows = rows_of_tables(make_plan(study.path))
    assert {name: len(found) for name, found in tables(study, "three").items()} == rows


def test_a_cut_link_costs_a_node_and_no_study(network: Machines, tmp_path: Path) -> None:
    """For a minute the worker is out of reach, in the midst of masking; it goes on writing, and nobody hears of it."""
    study = write_small_study(tmp_path).changed(
        dataset={"input_size": 96},
        relevance={"images": {"where": {}}},
        masking={"percents": list(range(101))},
    )
    masked = tmp_path / "cut" / "small" / "masked"
    run = f"cd {tmp_path} && sweep run study.yaml --results cut --address auto"
    with ThreadPoolExecutor() as background:
        running = background.submit(type_in, network, f"ray exec {FILE} '{run}'")
        wait_for(900, "nothing is masked", lambda: not running.done() and not list(masked.glob("*.parquet")))
        with network.cut("worker"):
            assert not running.done()
            time.sleep(60)
            assert not running.done(), "it was done before the cut was over"
        running.result()
    rows = rows_of_tables(make_plan(study.path))
    assert {name: len(found) for name, found in tables(study, "cut").items()} == rows
    wait_for(JOINED, "the worker did not come back", lambda: joined(network))


def test_a_stranger_gets_nothing_from_outside(network: Machines) -> None:
    """Another machine on the network of the two, without the token: no page, no call, on no port."""

    def scan(*options: str) -> list[dict[str, Any]]:
        command = [sys.executable, str(Path(__file__).with_name("strangers.py")), *options, HEAD, WORKER]
        done = network.laptop(*command, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    found = scan()
    ports = {(one["address"], one["port"]) for one in found}
    assert {(HEAD, 22), (WORKER, 22), (HEAD, 6379)} <= ports
    assert not {5000, 8265} & {port for _, port in ports}
    answers = [
        f"{one['address']}:{one['port']} {name} {status}"
        for one in found
        for name, status in {**one["pages"], **one["calls"]}.items()
        if status not in NOTHING
    ]
    assert answers == []
    # Those that have the token are answered, so the calls are the right ones.
    token = (network.home("laptop") / ".ray" / "auth_token").read_text().strip()
    assert "OK" in {status for one in scan("--token", token) for status in one["calls"].values()}


def test_the_token_is_for_its_user_alone(network: Machines) -> None:
    for address in (HEAD, WORKER):
        assert network.on(address, "stat -c %a ~/.ray/auth_token").strip() == "600"


def test_nothing_is_left_of_the_cluster_in_the_end(network: Machines) -> None:
    assert left(network, HEAD)
    assert left(network, WORKER)
    type_in(network, in_readme(f"ray down {FILE}").replace("ray down", "ray down --yes"))
    for address in (HEAD, WORKER):
        wait_for(GONE, f"left on {address}", lambda: left(network, address))  # noqa: B023 - called at once
