"""A real `ray up` of `infra/ray-cluster.yaml`, its autoscaler and a study, with a server that plays EC2, IAM and S3.

The instances are the machines of tests/cluster/machines.py: a command `ssh` that stands before the real one leads
from the laptop to one of them and from there to the other, whatever address EC2 gave. What differs from the file: the
user; the bucket; the set-up, which takes the environment that is here; one GPU machine at most, its size, and how long
it may idle.
"""

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.plan import make_plan
from sweep.stages import all_units
from tests.cluster.machines import HEAD, LAPTOP, WORKER, Machines, machines, skip_without_namespaces
from tests.cluster.test_ray_up import README, ROOT, in_readme, wait_for
from tests.studies import write_small_study

pytest.importorskip("moto.server")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
FILE = "infra/ray-cluster.yaml"
CLOUD = f"http://{LAPTOP}:5005"
IDLE_MINUTES = 0.3
SSH = """\
#!/bin/bash
given=() found=
for word in "$@"; do
    if [ -z "$found" ] && [[ $word =~ ^(.*@)?[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$ ]]; then
        word=${{BASH_REMATCH[1]}}{address} found=1
    fi
    given+=("$word")
done
exec {ssh} "${{given[@]}}"
"""
ACCESS = {
    "AWS_ENDPOINT_URL": CLOUD,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""Of everyone who speaks to the cloud; on real instances a profile stands for it."""


def cluster_file(folder: Path) -> Path:
    """The file as a user would fill it in, with the changes that the top of this module tells."""
    text = (ROOT / FILE).read_text().replace("s3://BUCKET/", "s3://bucket/")
    config: dict[str, Any] = yaml.safe_load(text)
    config["auth"]["ssh_user"] = "root"
    config["idle_timeout_minutes"] = IDLE_MINUTES
    spot = config["available_node_types"]["gpu_spot"]
    spot["resources"], spot["max_workers"] = {"CPU": 1, "GPU": 1}, 1
    [first] = [command for command in config["setup_commands"] if "node-env.sh" in command]
    code = "grep -q PYTHONPATH ~/.bashrc || sed -i '1i export PYTHONPATH=$HOME/relevance-sweep' ~/.bashrc"
    config["setup_commands"] = [first, code]
    config["head_setup_commands"] = config["worker_setup_commands"] = []
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config, width=10_000))
    return path


def type_in(network: Machines, command: str) -> str:
    """Type a command on the laptop, in the checkout, as infra/README.md has it."""
    path = network.folder / "cluster.yaml"
    command = command.replace(FILE, str(path)).replace("BUCKET", "bucket")
    done = network.laptop("bash", "-c", f"set -e\n{command}", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(network: Machines, service: str, call: str, **arguments: Any) -> dict[str, Any]:
    """Ask the cloud, from the laptop, whose network it is in."""
    code = (
        "import boto3, json, sys; service, call, arguments = sys.argv[1:];"
        "print(json.dumps(getattr(boto3.client(service), call)(**json.loads(arguments)), default=str))"
    )
    done = network.laptop(sys.executable, "-c", code, service, call, json.dumps(arguments), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def instances(network: Machines) -> list[tuple[str, str, str]]:
    """Node type, market and state of every instance there ever was."""
    groups = ask(network, "ec2", "describe_instances")["Reservations"]
    found = [one for group in groups for one in group["Instances"]]
    tags = [{tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in found]
    return sorted(
        (tag["ray-user-node-type"], one.get("InstanceLifecycle", "on demand"), one["State"]["Name"])
        for one, tag in zip(found, tags, strict=True)
    )


def lead_ssh(path: Path, address: str) -> None:
    """Write a command `ssh` that goes to `address`, whatever address it is given."""
    path.parent.mkdir()
    path.write_text(SSH.format(address=address, ssh=shutil.which("ssh")))
    path.chmod(0o755)


def in_bucket(network: Machines, prefix: str) -> dict[str, int]:
    """Names and sizes of what the bucket holds."""
    found = ask(network, "s3", "list_objects_v2", Bucket="bucket", Prefix=prefix)
    return {one["Key"]: one["Size"] for one in found.get("Contents", [])}


def on_head(network: Machines, command: str) -> str:
    return network.on(HEAD, f"source ~/.bashrc; {command}")


def of_readme(opening: str) -> str:
    """The line of commands of infra/README.md that opens with these words."""
    [found] = re.findall(rf"^{re.escape(opening)}.*$", README.read_text(), re.MULTILINE)
    return str(found)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A laptop, the cloud, and the two machines that its instances turn out to be."""
    skip_without_namespaces()
    with machines(tmp_path_factory.mktemp("machines"), ACCESS) as made:
        key = made.home("laptop") / ".ssh" / "ray-autoscaler_us-east-1.pem"
        key.write_bytes(made.key.read_bytes())
        key.chmod(0o600)
        for machine, target in (("laptop", HEAD), ("head", WORKER)):
            lead_ssh(made.home(machine) / "bin" / "ssh", target)
        for machine in ("head", "worker"):
            (made.home(machine) / "sweep-venv").symlink_to(sys.prefix)
            lines = [f"export {name}={value}" for name, value in ACCESS.items()]
            (made.home(machine) / ".bashrc").write_text(
                "\n".join(["export PATH=$HOME/bin:$PATH", *lines, ""])
            )
        cluster_file(made.folder)
        with made.start(sys.executable, "-m", "moto.server", "-H", LAPTOP, "-p", "5005", cwd=ROOT):
            type_in(made, f"until curl -s -o /dev/null {CLOUD}; do sleep 0.2; done")
            ask(made, "s3", "create_bucket", Bucket="bucket")
            ask(
                made,
                "ec2",
                "import_key_pair",
                KeyName="ray-autoscaler_us-east-1",
                PublicKeyMaterial=made.key.with_suffix(".pub").read_text(),
            )
            for role in ("relevance-sweep-head", "relevance-sweep-worker"):
                ask(made, "iam", "create_instance_profile", InstanceProfileName=role)
            yield made


def test_a_study_starts_a_gpu_machine_which_goes_when_it_idles(network: Machines, tmp_path: Path) -> None:
    type_in(network, in_readme("export RAY_AUTH_MODE"))
    type_in(network, f"ray up --yes {FILE}")
    assert instances(network) == [("head", "on demand", "running")]

    study = write_small_study(tmp_path).changed(factors={"seed": [1], "task": ["identity"]})
    run = of_readme("ray exec infra/ray-cluster.yaml 'cd ~/relevance-sweep && sweep run")
    assert "sweep run studies/umist.yaml --results s3://BUCKET/umist " in run
    run = run.replace("studies/umist.yaml", str(study.path)).replace("/umist", "/results")
    seen: set[tuple[str, str, str]] = set()
    with ThreadPoolExecutor() as background:
        running = background.submit(type_in, network, run)
        # While it runs: the machine has nothing to do for the report, and may be gone before the run is over.
        while not running.done():
            seen |= set(instances(network))
            time.sleep(1)
        assert "Tables   s3://bucket/results/small" in running.result()
    assert ("gpu_spot", "spot", "running") in seen
    masked = sum("/masked/" in name for name in in_bucket(network, "results/small/"))
    assert masked == len([unit for unit in all_units(make_plan(study.path)) if unit.table == "masked"])

    gone = [("gpu_spot", "spot", "terminated"), ("head", "on demand", "running")]
    wait_for(180, "an idle machine stays", lambda: (now := instances(network)) != gone and now)


def test_the_next_head_has_the_history_of_the_first(network: Machines) -> None:
    def down() -> None:
        type_in(network, of_readme("ray exec infra/ray-cluster.yaml 'python"))
        type_in(network, f"ray down --yes {FILE}")
        assert {state for _, _, state in instances(network)} == {"terminated"}

    down()
    kept = in_bucket(network, "mlflow/")
    assert kept["mlflow/mlflow.db"] > 0
    assert any(name.startswith("mlflow/artifacts/") for name in kept)

    shutil.rmtree(network.home("head") / "mlflow")  # a new machine has a new disk
    type_in(network, f"ray up --yes {FILE}")
    assert [kind for kind, _, state in instances(network) if state == "running"] == ["head"]
    ask_mlflow = "curl -fsS 'http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=9'"
    names = {one["name"] for one in json.loads(on_head(network, ask_mlflow))["experiments"]}
    assert "small" in names
    down()
