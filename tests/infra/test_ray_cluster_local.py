"""The file for machines of one's own, as far as it can be checked without any; tests/cluster/test_ray_up.py has two."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.infra.test_ray_cluster import COMMAND_LISTS, INFRA, ROOT, TOKEN, flatten, script, shell
from tests.infra.test_ray_cluster import CONFIG as AWS


def load() -> dict[str, Any]:
    config = yaml.safe_load((INFRA / "ray-cluster-local.yaml").read_text())
    assert isinstance(config, dict)
    return config


CONFIG = load()
COMMANDS = [command for name in COMMAND_LISTS for command in CONFIG.get(name, [])]


def command_with(words: str) -> str:
    [found] = [command for command in COMMANDS if words in command]
    return str(found)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "relevance-sweep").mkdir()
    (tmp_path / "relevance-sweep" / "infra").symlink_to(INFRA)
    return tmp_path


def test_ray_prepares_and_validates_it() -> None:
    prepared = prepare_config(load())
    validate_config(prepared)
    [kind] = prepared["available_node_types"].values()
    # Every worker is there at all times.
    assert kind["min_workers"] == kind["max_workers"] == len(CONFIG["provider"]["worker_ips"])
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == CONFIG["setup_commands"]
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[name] == CONFIG[name]


@pytest.mark.parametrize(
    "damage", [{"cluster_nam": "x"}, {"auth": {"user": "x"}}], ids=["unknown key", "auth"]
)
def test_the_validation_has_teeth(damage: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"cluster_nam|user"):
        validate_config(prepare_config(load() | damage))


def test_what_applies_to_any_machine_is_as_on_aws() -> None:
    """A change to one of the files is a change to the other."""
    assert CONFIG["file_mounts"] == AWS["file_mounts"]
    assert CONFIG["rsync_exclude"] == AWS["rsync_exclude"]
    theirs = {*AWS["setup_commands"], *AWS["worker_setup_commands"], *AWS["head_start_ray_commands"]}
    for words in ("node-env.sh", "bootstrap.lock", "uv venv", "--editable"):
        assert command_with(words) in theirs, words
    assert CONFIG["worker_start_ray_commands"] == AWS["worker_start_ray_commands"]
    mlflow = command_with("mlflow_server.py")
    assert mlflow in {command.partition(" --keep")[0] for command in AWS["head_start_ray_commands"]}
    unset = " RAY_enable_autoscaler_v2 RAY_CLOUD_INSTANCE_ID RAY_NODE_TYPE_NAME;"
    assert CONFIG["head_start_ray_commands"][0] == "ray stop"
    assert CONFIG["head_start_ray_commands"][1].replace(unset, ";") == AWS["head_start_ray_commands"][1]


def test_nothing_listens_on_every_interface() -> None:
    for text in flatten(CONFIG):
        assert not re.search(r"\b0\.0\.0\.0\b|host[= ]'?\*|hosts[= ]'?\*", text), text
    assert "--dashboard-host=127.0.0.1" in CONFIG["head_start_ray_commands"][1]


@pytest.mark.parametrize("command", COMMANDS)
def test_shell_parses(command: str) -> None:
    wrapped = f"source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && ({command}\n)"
    result = subprocess.run(["bash", "-n", "-c", wrapped], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_every_path_a_command_names_is_mounted() -> None:
    named = {path for command in COMMANDS for path in re.findall(r"[\w/-]*\.(?:lock|sh)\b", command)}
    mounted = [remote for remote in CONFIG["file_mounts"] if remote != TOKEN]
    assert {"infra/requirements-gpu.lock", "requirements.lock"} <= named
    for path in named:
        inside = path.removeprefix("/").removeprefix("relevance-sweep/")
        assert (ROOT / inside).is_file(), path
        remote = f"~/relevance-sweep/{inside}"
        assert any(remote == one or remote.startswith(f"{one}/") for one in mounted), path


@pytest.mark.parametrize(
    ("driver", "locks"),
    [
        ("exit 0", ["infra/requirements-gpu.lock"]),
        ("exit 9", ["requirements.lock", "infra/requirements-cluster.lock"]),  # a driver without a GPU
        (None, ["requirements.lock", "infra/requirements-cluster.lock"]),
    ],
)
def test_cuda_goes_where_its_driver_is(home: Path, driver: str | None, locks: list[str]) -> None:
    script(home / "sweep-uv/bin/uv", 'echo "$@" > "$HOME/installed"')
    if driver:
        script(home / "bin/nvidia-smi", driver)
    done = shell(command_with("requirements-gpu.lock"), home, path=f"{home}/bin:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    installed = (home / "installed").read_text()
    assert re.findall(r"-r (\S+)", installed) == locks
    assert "--require-hashes" in installed


@pytest.mark.parametrize(
    ("driver", "sees", "joins"), [(None, 1, True), ("exit 0", 0, True), ("exit 0", 1, False)]
)
def test_a_gpu_that_tensorflow_does_not_find_keeps_a_machine_out(
    home: Path, driver: str | None, sees: int, joins: bool
) -> None:
    script(home / "sweep-venv/bin/python", f"exit {sees}")
    if driver:
        script(home / "bin/nvidia-smi", driver)
    done = shell(command_with("list_physical_devices"), home, path=f"{home}/bin:/usr/bin:/bin")
    assert (done.returncode == 0) == joins
