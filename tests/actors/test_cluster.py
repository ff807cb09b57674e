"""Which Ray cluster a run works on, and what is told where it can join none."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweep.actors.address import check_address, cluster_address, is_joined
from sweep.errors import InputError
from tests.cluster.strangers import CALLS, HARMLESS, NOTHING, PAGES, call, page

HOLD = """
import os, sys
from sweep.actors.cluster import cluster
with cluster(None) as joined:
    import ray
    print(joined, len(ray.nodes()), ray.get_runtime_context().gcs_address, os.environ["RAY_TMPDIR"], flush=True)
    sys.stdin.read()
"""
JOIN = """
import sys
import ray
from sweep.cli.invocation import invoke
ray.__version__ = "2.59.1"
sys.exit(invoke(sys.argv[1:]))
"""


OPEN = """
import json, os, sys
import psutil, ray
from sweep.actors.cluster import cluster
with cluster(None):
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    ours = psutil.Process().children(recursive=True)
    ports = {
        (one.laddr.ip, one.laddr.port)
        for process in ours for one in process.net_connections("tcp") if one.status == "LISTEN"
    }
    print(json.dumps([ray.util.get_node_ip_address(), sorted(ports), os.environ["RAY_AUTH_TOKEN"]]), flush=True)
    sys.stdin.read()
assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(os.environ)
with cluster(None):
    assert ray.get(ray.remote(lambda: 2).remote()) == 2
"""


@contextmanager
def holding_ray(environment: dict[str, str]) -> Iterator[list[str]]:
    """A process with a Ray of its own; gives what it says of it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline().split()
        if not said:
            pytest.fail(process.stderr.read())
        try:
            yield said
        finally:
            process.communicate(timeout=100)


def test_a_run_has_a_ray_of_its_own_which_no_other_version_joins(tmp_path: Path) -> None:
    # What `ray start` leaves: the address of the machine's latest cluster. Here nobody answers there.
    (tmp_path / "study.yaml").write_text("{}")
    # Sockets need short paths, shorter than those of tmp_path.
    # Ray's last processes may still be writing logs when the folder is removed.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
        with holding_ray({"RAY_TMPDIR": folder}) as (joined, nodes, address, _):
            assert (joined, nodes) == ("False", "1")
            other = subprocess.run(
                [sys.executable, "-c", JOIN, "plan", str(_small(tmp_path)), "--address", address],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
    assert other.returncode == 2, other.stderr
    (line,) = other.stderr.splitlines()
    assert re.fullmatch(
        rf"sweep: the cluster at {address} has Ray 2\.60\.\d+ on Python 3\.11\.\d+, this environment Ray 2\.59\.1 on Python "
        r"3\.11\.\d+; install the same Ray and Python here as there",
        line,
    )


def test_a_ray_of_its_own_answers_nobody_else(tmp_path: Path) -> None:
    """Its ports are open to the network; without its token, which no file holds, no page and no call is answered."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    with subprocess.Popen(
        [sys.executable, "-c", OPEN],
        env=environment | {"HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        own, ports, token = json.loads(process.stdout.readline())
        answers: list[tuple[int, str, int | str | None]] = []
        with_token: set[str] = set()
        for host, port in ports:
            address = own if host in ("0.0.0.0", "::") else host
            answers += [(port, path, page(address, port, method, path)) for method, path in PAGES]
            answers += [(port, name, call(address, port, name, None)) for name in CALLS]
            with_token |= {call(address, port, name, token) for name in HARMLESS}
        process.communicate(timeout=100)
    assert process.returncode == 0
    assert [one for one in answers if one[2] not in NOTHING] == []
    assert "UNAUTHENTICATED" in {status for *_, status in answers}
    assert "OK" in with_token
    assert not list(tmp_path.rglob("auth_token"))


def _small(folder: Path) -> Path:
    from tests.studies import write_small_study

    return write_small_study(folder / "study").path


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (
            "http://127.0.0.1:8265",
            "is the address of Ray's dashboard and jobs; use `sweep submit`, or name the cluster's own",
        ),
        ("https://me:geheim@head/ray", r"https://\*\*\*@head/ray: is the address of Ray's dashboard"),
        ("ray://head:10001", "Ray Client is not supported; run sweep on a node of the cluster"),
        ("head", "write it as HOST:PORT"),
        ("head:", "write it as HOST:PORT"),
        ("head:0", "write it as HOST:PORT"),
        ("head:port", "write it as HOST:PORT"),
        (":6379", "write it as HOST:PORT"),
        ("127.0.0.1:9", r"no Ray cluster answers at 127.0.0.1:9 \(Connection refused\)"),
        ("[::1]:9", r"no Ray cluster answers at \[::1\]:9 "),
        ("a..b:6379", "no Ray cluster answers at a..b:6379 "),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_addresses_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, address: str, problem: str, given: bool
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local" if given else address)
    place = "--address " if given else "RAY_ADDRESS="
    with pytest.raises(InputError, match=f"^{place}.*{problem}"):
        check_address(address if given else None)


def test_auto_is_what_ray_start_has_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    # Also where other runs on this machine have a Ray of their own, which ends with them.
    with pytest.raises(InputError, match="no cluster was started on this machine by `ray start`"):
        cluster_address("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:9\n")
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127.0.0.1:9 .*; start one"):
        cluster_address("auto")


@pytest.mark.parametrize(
    ("address", "variable", "joined"),
    [
        (None, None, False),
        (None, "", False),
        (None, "local", False),
        ("local", "head:6379", False),
        ("head:6379", None, True),
        (None, "auto", True),
    ],
)
def test_what_joins_a_cluster(
    monkeypatch: pytest.MonkeyPatch, address: str | None, variable: str | None, joined: bool
) -> None:
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert is_joined(address) is joined
    if not joined:
        assert cluster_address(address) is None


def too_long(folder: Path) -> Path:
    return folder / ("x" * 60)


def not_there(folder: Path) -> Path:
    return folder / "x"


def a_file_in_its_place(folder: Path) -> Path:
    (folder / "ray").touch()
    return folder


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("make", [too_long, not_there, a_file_in_its_place])
def test_where_ray_keeps_its_files(monkeypatch: pytest.MonkeyPatch, make: object, variable: str) -> None:
    assert callable(make)
    with tempfile.TemporaryDirectory(prefix="ray-") as short:
        monkeypatch.setenv(variable, str(make(Path(short))))
        if variable == "RAY_TMPDIR":  # asked for by that name, so nothing else is chosen
            with pytest.raises(InputError, match=f"^RAY_TMPDIR={short}.*; name another folder"):
                check_address(None)
        else:
            check_address(None)
        assert os.environ.get("RAY_TMPDIR") == (
            os.environ["RAY_TMPDIR"] if variable == "RAY_TMPDIR" else None
        )
