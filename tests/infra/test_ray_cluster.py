"""The cluster file, as far as it can be checked without a cloud: by Ray's validation, and by running its commands."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
README = INFRA / "README.md"
PROJECT_ON_NODE = "~/relevance-sweep/"
TOKEN = "~/.ray/auth_token"
COMMAND_LISTS = (
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
LOCKS = ("requirements-gpu.lock", "requirements-cluster.lock", "bootstrap.lock")


def load() -> dict[str, Any]:
    config = yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())
    assert isinstance(config, dict)
    return config


CONFIG = load()
COMMANDS = [command for name in COMMAND_LISTS for command in CONFIG[name]]
NODE_TYPES: dict[str, dict[str, Any]] = CONFIG["available_node_types"]
WORKERS = {name: kind for name, kind in NODE_TYPES.items() if name != CONFIG["head_node_type"]}
HEAD = NODE_TYPES[CONFIG["head_node_type"]]


def pins(lock: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def flatten(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in flatten(part)]
    if isinstance(value, list):
        return [text for item in value for text in flatten(item)]
    return [str(value)]


# --- Ray's own judgement -------------------------------------------------------------------------------------


def test_ray_prepares_and_validates_it() -> None:
    prepared = prepare_config(load())
    validate_config(prepared)
    # A default that slips in from Ray's AWS template would be an unreviewed machine or command.
    assert set(prepared["available_node_types"]) == set(NODE_TYPES)
    assert prepared["head_setup_commands"] == CONFIG["setup_commands"] + CONFIG["head_setup_commands"]
    assert prepared["worker_setup_commands"] == CONFIG["setup_commands"] + CONFIG["worker_setup_commands"]
    assert not prepared["docker"]


@pytest.mark.parametrize(
    "damage",
    [{"cluster_nam": "x"}, {"head_node_type": "gone"}, {"max_workers": -1}],
    ids=["unknown key", "no such type", "negative"],
)
def test_the_validation_has_teeth(damage: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"cluster_nam|head_node_type|minimum"):
        validate_config(prepare_config(load() | damage))


# --- What Ray would let through ------------------------------------------------------------------------------


def test_nothing_listens_on_every_interface() -> None:
    # Ray's template for AWS puts the dashboard, which runs whatever it is sent, on all interfaces.
    for text in flatten(CONFIG):
        assert not re.search(r"\b0\.0\.0\.0\b|\[?::\]?/0|host[= ]'?\*|hosts[= ]'?\*", text), text
    start = " ".join(CONFIG["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--host=127.0.0.1" in (INFRA / "mlflow_server.py").read_text()


def test_every_machine_has_its_own_named_profile() -> None:
    names = [kind["node_config"]["IamInstanceProfile"]["Name"] for kind in NODE_TYPES.values()]
    assert len(set(names)) == len(names), "the head may launch machines; workers may not"
    for name in names:
        assert name in README.read_text(), f"{name} is not explained"


def test_the_head_is_on_demand_and_takes_no_work() -> None:
    assert HEAD["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in HEAD["node_config"]
    assert HEAD["max_workers"] == 0


def test_workers_are_spot_machines_with_a_gpu_from_zero() -> None:
    assert WORKERS
    for kind in WORKERS.values():
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert kind["resources"]["GPU"] >= 1
        assert kind["min_workers"] == 0
        assert 1 <= kind["max_workers"] <= CONFIG["max_workers"] <= 16


def test_start_commands_keep_what_ray_relies_on() -> None:
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert CONFIG[name][0] == "ray stop"
        start = CONFIG[name][1]
        # `;`, not `&&`: where the limit may not be raised, Ray should still start.
        assert "ulimit -n 65536; ray start" in start
        assert start.startswith("unset OMP_NUM_THREADS;")
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in CONFIG["head_start_ray_commands"][1]
    assert "--address=$RAY_HEAD_IP:6379" in CONFIG["worker_start_ray_commands"][1]


@pytest.mark.parametrize("command", [*COMMANDS, (INFRA / "node-env.sh").read_text()])
def test_shell_parses(command: str) -> None:
    # The way Ray wraps it: a stray bracket or quote would close the wrapping instead.
    wrapped = f"source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && ({command}\n)"
    result = subprocess.run(["bash", "-n", "-c", wrapped], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# --- Files ---------------------------------------------------------------------------------------------------


def test_every_mounted_path_is_in_the_checkout() -> None:
    for remote, local in CONFIG["file_mounts"].items():
        if remote == TOKEN:
            continue  # made by `ray get-auth-token --generate`; the README says so
        assert remote == PROJECT_ON_NODE + local
        assert (ROOT / local).exists(), local
    assert CONFIG["file_mounts"][TOKEN] == TOKEN
    assert "ray get-auth-token --generate" in README.read_text()


def test_every_path_a_command_names_is_mounted() -> None:
    named = {path for command in COMMANDS for path in re.findall(r"~/relevance-sweep/([\w./-]+)", command)}
    assert {"requirements.lock", "infra/requirements-gpu.lock", "infra/bootstrap.lock"} <= named
    mounted = [local for remote, local in CONFIG["file_mounts"].items() if remote != TOKEN]
    for path in named:
        assert (ROOT / path).is_file(), path
        assert any(path == local or path.startswith(f"{local}/") for local in mounted), path


def test_what_the_build_reads_is_mounted() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    mounted = set(CONFIG["file_mounts"].values())
    for path in map(Path, needed | set(wheel["packages"]) | set(wheel["force-include"])):
        assert mounted & {str(path), *map(str, path.parents)}, path


@pytest.mark.parametrize("name", LOCKS)
def test_locks_hold_names_versions_and_hashes_only(name: str) -> None:
    # No index, no host, no path of the machine that made it.
    line = re.compile(
        r"[A-Za-z0-9_.-]+(\[[\w,-]+\])?==[\w.+!]+( ; [\w\s.'\"=<>!()-]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?"
    )
    for text in (INFRA / name).read_text().splitlines():
        assert line.fullmatch(text), text


@pytest.mark.parametrize("name", ["requirements-gpu.lock", "requirements-cluster.lock"])
def test_no_version_differs_between_the_head_and_the_workers(name: str) -> None:
    # Objects travel between them as pickles.
    here, there = pins(ROOT / "requirements.lock"), pins(INFRA / name)
    assert {k: (here[k], there[k]) for k in here.keys() & there.keys() if here[k] != there[k]} == {}
    head, workers = pins(INFRA / "requirements-cluster.lock"), pins(INFRA / "requirements-gpu.lock")
    assert head.items() <= workers.items()


def test_the_gpu_lock_has_all_a_worker_needs() -> None:
    locked = pins(INFRA / "requirements-gpu.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["reference"]]
    wanted += project["build-system"]["requires"]  # the editable install builds without isolation
    cuda = [Requirement(text) for text in importlib.metadata.requires("tensorflow") or []]
    cuda = [want for want in cuda if want.marker and want.marker.evaluate({"extra": "and-cuda"})]
    cuda = [want for want in cuda if not want.marker or not want.marker.evaluate({"extra": ""})]
    assert any(want.name.startswith("nvidia-cudnn") for want in cuda)
    for want in [Requirement(text) for text in wanted] + cuda:
        assert locked.get(canonicalize_name(want.name), "") in want.specifier, want


# --- The commands themselves, in a home directory of their own -----------------------------------------------


def shell(command: str, home: Path, *, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    env = {"HOME": str(home), "PATH": path}
    return subprocess.run(
        ["bash", "-c", command], env=env, cwd=home, capture_output=True, text=True, check=False, timeout=60
    )


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "relevance-sweep").mkdir()
    (tmp_path / "relevance-sweep" / "infra").symlink_to(INFRA)
    # How Ubuntu's begins: everything below is out of reach of `ssh node command`.
    (tmp_path / ".bashrc").write_text("case $- in *i*) ;; *) return;; esac\nexport TOO_LATE=1\n")
    return tmp_path


def test_sweep_is_found_by_shells_that_are_not_interactive(home: Path) -> None:
    script(home / "sweep-venv/bin/sweep", "echo the right one")
    [command] = [command for command in COMMANDS if ".bashrc" in command]
    for _ in range(2):
        assert shell(command, home).returncode == 0
    lines = (home / ".bashrc").read_text().splitlines()
    assert [number for number, line in enumerate(lines) if "node-env.sh" in line] == [0]
    assert lines[-1] == "export TOO_LATE=1"

    seen = shell('. ~/.bashrc; sweep; echo "$RAY_AUTH_MODE $TF_FORCE_GPU_ALLOW_GROWTH $TOO_LATE"', home)
    assert seen.stdout.splitlines() == ["the right one", "token true "]


def test_only_the_head_is_sent_to_mlflow(home: Path) -> None:
    ask = '. ~/relevance-sweep/infra/node-env.sh; echo "$MLFLOW_TRACKING_URI"'
    assert shell(ask, home).stdout.strip() == ""
    (home / "ray_bootstrap_config.yaml").touch()
    assert shell(ask, home).stdout.strip() == "http://127.0.0.1:5000"


def test_mlflow_keeps_its_records_in_the_bucket_that_the_user_names(home: Path) -> None:
    """What the script does is tried on a real server by tests/cluster/test_mlflow_server.py."""
    (home / "sweep-venv").symlink_to(sys.prefix)
    [start] = [command for command in COMMANDS if "mlflow_server.py" in command]
    done = subprocess.run(
        ["bash", "-c", start],
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mlflow_server: --keep s3://BUCKET/mlflow: write the name of your bucket")


def test_a_failed_step_is_never_made_up_for_by_another_environment() -> None:
    # uv falls back to whatever environment lies around when the one in VIRTUAL_ENV is missing; --python does not.
    for command in COMMANDS:
        if "uv pip install" in command:
            assert "--python ~/sweep-venv" in command


# --- The README's promises -----------------------------------------------------------------------------------


def test_policies_in_the_readme_grant_no_wildcard_action() -> None:
    blocks = re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        for statement in json.loads(block)["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                assert "*" not in action, action
                if action in {"iam:PassRole", "ec2:TerminateInstances", "ec2:CreateTags"}:
                    assert statement["Resource"] != "*", action
                    assert "Condition" in statement, action


def test_files_the_readme_names_exist() -> None:
    for path in re.findall(r"`(infra/[\w./-]+)`", README.read_text()):
        assert (ROOT / path).exists(), path


def test_nothing_here_knows_a_developers_machine() -> None:
    # `/home/ubuntu` would be one too: commands use ~ so that another image or user works.
    mine = str(Path.home())
    for file in INFRA.iterdir():
        if file.is_file():
            text = file.read_text()
            assert "/home/" not in text
            assert f"{mine}/" not in text or mine == "/"
            assert str(ROOT) not in text
