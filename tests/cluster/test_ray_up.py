"""A real `ray up` of `infra/ray-cluster-local.yaml` on two machines, a study on them, and `ray down`.

The machines are this one, divided by namespaces; everything that Ray does on them it does by SSH. What differs from the
file: the addresses, user and key; the set-up, which takes the environment that is here instead of downloading one; one
CPU for each machine.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.machines import HEAD, WORKER, Machines, machines
from tests.cluster.test_nodes import assert_alike, tables
from tests.studies import SmallStudy, sweep, write_small_study

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
JOINED = 120.0
"""Seconds that the worker may take to join after `ray up` has come back."""
GONE = 120.0
"""Seconds that a worker's Ray may outlive its head: it waits a minute for it to return."""
LINES = "cd ~/relevance-sweep && "


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with machines(tmp_path_factory.mktemp("machines")) as made:
        for machine in ("head", "worker"):
            (made.home(machine) / "sweep-venv").symlink_to(sys.prefix)
        yield made


def cluster_file(network: Machines) -> Path:
    """The file as a user would fill it in, with the changes that the top of this module tells."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "ray-cluster-local.yaml").read_text())
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


def ray(network: Machines, *arguments: str | Path, cwd: Path = ROOT) -> str:
    done = network.laptop("ray", *map(str, arguments), cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(seconds: float, what: str, problem: Any) -> None:
    """Wait until `problem()` is empty."""
    deadline = time.monotonic() + seconds
    while found := problem():
        assert time.monotonic() < deadline, f"{what}: {found}"
        time.sleep(1)


def processes(network: Machines, address: str) -> set[str]:
    """What runs on a machine beside the shell that it hangs on and SSH."""
    lines = network.on(address, "ps -eo args").splitlines()[1:]
    return {line for line in lines if not line.startswith(("sshd:", "bash -c", "ps -eo", "/usr/sbin/sshd"))}


def ports(network: Machines, address: str) -> set[str]:
    """Addresses on which a machine listens, without SSH's."""
    listening = {line.split()[3] for line in network.on(address, "ss -tlnH").splitlines()}
    return {one for one in listening if not one.endswith(":22")}


@contextmanager
def up(network: Machines, config: Path) -> Iterator[None]:
    ray(network, "get-auth-token", "--generate")
    print(ray(network, "up", "-y", "--no-config-cache", config))
    yield


def test_a_study_on_two_machines_gives_the_tables_of_one_and_ray_down_leaves_nothing(
    network: Machines, tmp_path: Path
) -> None:
    study = write_small_study(tmp_path)
    began = time.monotonic()
    config = cluster_file(network)
    with up(network, config):
        print("up", time.monotonic() - began)
        wait_for(
            JOINED,
            "the worker did not join",
            lambda: "" if "2 node" in (said := ray(network, "exec", config, "ray list nodes 2>/dev/null; python -c \"import ray; ray.init(address='auto', logging_level='ERROR'); print(len([n for n in ray.nodes() if n['Alive']]), 'node')\"")) else said,
        )
        print("joined", time.monotonic() - began)
        print(ray(network, "exec", config, f"cd {tmp_path} && sweep run study.yaml --results two --address auto"))
        print("ran", time.monotonic() - began)
        for address in (HEAD, WORKER):
            print(address, processes(network, address), ports(network, address))
        print(ray(network, "exec", config, "kill -- -$(cat ~/mlflow/server.pid)"))
        print(ray(network, "down", "-y", config))
        print("down", time.monotonic() - began)
        for address in (HEAD, WORKER):
            wait_for(GONE, f"left on {address}", lambda: processes(network, address) | ports(network, address))
            print("gone", address, time.monotonic() - began)
