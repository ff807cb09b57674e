"""`sweep submit` to a real cluster: a head with its dashboard, which wants a token."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sweep.plan import make_plan
from sweep.stages import rows_of_tables
from sweep.storage.files import Files
from tests.cluster.machines import NEEDS_DASHBOARD
from tests.cluster.test_nodes import tables
from tests.studies import SWEEP, SmallStudy, write_small_study

pytestmark = [NEEDS_DASHBOARD, pytest.mark.cluster, pytest.mark.timeout(1200)]
BINARIES = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Head:
    """A cluster of one machine, and how to submit to it."""

    address: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def start(self, study: SmallStudy, results: str, *options: str) -> subprocess.Popen[str]:
        root = results if "://" in results else study.path.parent / results
        command = [SWEEP, "submit", study.path, "--results", root, "--address", self.address, *options]
        return subprocess.Popen(
            list(map(str, command)),
            env=self.environment,
            cwd=study.path.parent,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def submit(self, study: SmallStudy, results: str, *options: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = self.start(study, results, *options)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err


@contextmanager
def started_head(home: Path) -> Iterator[Head]:
    home.mkdir(exist_ok=True)
    dashboard = free_port()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
    }
    subprocess.run(
        [BINARIES / "ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True
    )
    # A short path, for Ray's sockets; none of the folders of other clusters here.
    temporary = Path(f"/tmp/sweep-{dashboard}")
    command = [
        BINARIES / "ray",
        "start",
        "--head",
        "--block",
        "--num-cpus=1",
        f"--port={free_port()}",
        "--disable-usage-stats",
        f"--dashboard-port={dashboard}",
        # Two clusters on a machine: jobs are started by the agent, and the second could not listen on the usual port.
        f"--dashboard-agent-listen-port={free_port()}",
        f"--temp-dir={temporary}",
    ]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        while not answers(dashboard):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.5)
        yield Head(f"http://127.0.0.1:{dashboard}", environment, process)
    finally:
        process.terminate()  # it ends the others in their order; a raylet without its head would wait a minute for it
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with started_head(tmp_path_factory.mktemp("head")) as started:
        yield started


def test_a_run_outlives_who_asked_for_it_and_is_asked_for_once(head: Head, tmp_path: Path) -> None:
    study = write_small_study(tmp_path).changed(factors={"seed": [1]})
    code, out, err = head.submit(study, "there")
    assert (code, err) == (0, "")
    first, how = out.splitlines()
    job = first.rpartition(" ")[2]
    assert first == f"{study.path}: submitted as job {job}"
    assert job.startswith("small-")
    assert how.startswith("Follow it with: sweep submit")
    assert how.endswith(f"--follow --address {head.address}")

    code, out, err = head.submit(study, "there")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{study.path}: runs already, as job {job}"

    following = head.start(study, "there", "--follow")
    assert following.stdout is not None
    for line in following.stdout:
        if "features" in line:  # the run's own words
            break
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=60)
    assert following.returncode == 130
    assert err.startswith(f"sweep: {study.path}: goes on as job {job}; follow it again with: sweep submit")
    assert len(err.splitlines()) == 1

    code, out, err = head.submit(study, "there", "--follow")
    assert (code, err) == (0, "")
    assert out.startswith(f"{study.path}: runs already, as job {job}")
    assert "Report   " in out

    rows = rows_of_tables(make_plan(study.path))
    assert {name: len(found) for name, found in tables(study, "there").items()} == rows

    code, out, err = head.submit(study, "there", "--follow")
    assert (code, err) == (0, "")
    assert out.startswith(f"{study.path}: submitted as job {job[:-1]}2")
    assert "nothing to compute" in out


def test_a_bucket_gets_images_and_weights_once(bucket: str, tmp_path: Path) -> None:
    study = write_small_study(tmp_path / "here").changed(factors={"seed": [1], "task": ["identity"]})
    root = f"{bucket}/results"
    with started_head(tmp_path / "head") as head:
        code, out, err = head.submit(study, root, "--follow")
        assert (code, err) == (0, "Sending images and weights\n")
        assert f"Tables   {root}/small" in out
        files = Files(root)
        # The manifest, 30 images, 2 weights.
        sent = {name: files.read(f".inputs/{name}") for name in files.names(".inputs")}
        assert len(sent) == 33
        assert all(hashlib.sha256(content).hexdigest() == name for name, content in sent.items())
        code, out, err = head.submit(study, root, "--follow")
        assert code == 0
        assert "nothing to compute" in out
        assert set(files.names(".inputs")) == set(sent)


def test_a_run_that_fails_is_told(head: Head, tmp_path: Path) -> None:
    study = write_small_study(tmp_path).changed(dataset={"source": "umist:/nowhere/umist.mat"})
    code, out, err = head.submit(study, "there", "--follow")
    assert code == 1
    assert "/nowhere/umist.mat: no such file (dataset.source)" in out
    note, problem = err.splitlines()
    assert note == "note: not sent: /nowhere/umist.mat; the cluster's head must have this there"
    assert problem.startswith(f"sweep: {study.path}: job small-")
    assert problem.endswith("ended as FAILED: Job entrypoint command failed with exit code 2")


def test_nobody_gets_in_without_the_token(head: Head, tmp_path: Path) -> None:
    stranger = replace(head, environment={**head.environment, "RAY_AUTH_MODE": "disabled"})
    code, out, err = stranger.submit(write_small_study(tmp_path), "there")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "set RAY_AUTH_MODE=token" in err


def test_a_cluster_that_goes_is_one_line(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    with started_head(tmp_path / "home") as head:
        following = head.start(study, "there", "--follow")
        assert following.stdout is not None
        for line in following.stdout:
            if "features" in line:
                break
        head.process.terminate()
        _, err = following.communicate(timeout=120)
    assert following.returncode == 1
    [line] = err.splitlines()
    assert line.startswith(f"sweep: {head.address}: ")
    assert "follow it again with: sweep submit " in line
