"""The way to a cluster that a submitted study takes: what can go wrong before it is open, told in a line."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.actors import tunnel as module
from sweep.actors.tunnel import tunnel
from sweep.errors import InputError, WorkError
from tests.studies import SmallStudy, sweep


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port at which somebody listens, taken for the dashboard's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(module, "PORT", port)
        monkeypatch.setattr(module, "LINGER_SECONDS", 1.0)
        yield port


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: nowhere\n")
    return path


def test_a_port_that_is_taken_is_waited_for_and_then_refused(taken: int, cluster_file: Path) -> None:
    began = time.monotonic()
    told = f"port {taken} of this machine is taken; if that is the way"
    with pytest.raises(InputError, match=told), tunnel(cluster_file):
        pass
    assert 1 <= time.monotonic() - began < 5


def test_what_ray_says_of_a_cluster_file_is_passed_on(
    cluster_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(module, "PORT", server.getsockname()[1])
    with pytest.raises(WorkError) as caught, tunnel(cluster_file):
        pass
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{cluster_file}: the head cannot be reached (")
    assert "provider" in line
    assert line.endswith(f"try `ray exec {cluster_file} uptime`")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ["--cluster", "nowhere.yaml"],
            "--cluster nowhere.yaml: no such file; name the file that you gave to `ray up`",
        ),
        (
            ["--cluster", "a.yaml", "--address", "http://b:1"],
            "--cluster, --address: name the cluster by one of them",
        ),
    ],
)
def test_bad_words_end_with_a_line(small_study: SmallStudy, options: list[str], problem: str) -> None:
    done = sweep(
        "submit", small_study.path, "--results", "s3://bucket/results", *options, cwd=small_study.path.parent
    )
    assert (done.returncode, done.stderr) == (2, f"sweep: {problem}\n")
