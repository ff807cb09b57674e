"""`sweep submit` where there is no cluster: what it says. tests/cluster/test_submit.py has one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweep.cli.invocation import invoke
from tests.studies import SmallStudy


@contextmanager
def web_server(status: int) -> Iterator[str]:
    """Address of a server that answers every request with `status` and no Ray."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(study: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert invoke(["submit", str(study), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:1", "nothing answers there; open the way with `ray attach"),
        ("http://no-such-host.invalid:8265", "nothing answers there"),
        ("127.0.0.1:6379", "jobs are submitted to Ray's dashboard; write http://HOST:8265"),
        ("ray://127.0.0.1:10001", "jobs are submitted to Ray's dashboard"),
        ("http://", "write http://HOST:8265"),
    ],
)
def test_an_address_without_a_job_server_is_one_line(
    small_study: SmallStudy, capsys: pytest.CaptureFixture[str], address: str, said: str
) -> None:
    line = refusal(small_study.path, "--results", "/srv/results", "--address", address, capsys=capsys)
    assert line.startswith(f"sweep: --address {address}: ")
    assert said in line


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_server_that_is_not_rays_is_one_line(
    small_study: SmallStudy, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    with web_server(status) as address:
        line = refusal(small_study.path, "--results", "/srv/results", "--address", address, capsys=capsys)
    assert "what answers there is not Ray's dashboard" in line


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_token_is_one_line(
    small_study: SmallStudy, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    with web_server(status) as address:
        line = refusal(small_study.path, "--results", "/srv/results", "--address", address, capsys=capsys)
    assert "set RAY_AUTH_MODE=token" in line


def test_the_address_that_is_given_is_asked_and_no_other(
    small_study: SmallStudy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(404) as other:
        monkeypatch.setenv("RAY_ADDRESS", other)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", other)
        line = refusal(
            small_study.path, "--results", "/srv/results", "--address", "http://127.0.0.1:1", capsys=capsys
        )
    assert "nothing answers there" in line


def test_results_of_this_machine_are_refused(
    small_study: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--results results: is a folder of this machine" in refusal(small_study.path, capsys=capsys)


def test_the_study_is_checked_before_anything_is_asked(
    small_study: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_study.path.parent / "first.npz").unlink()
    line = refusal(small_study.path, "--results", "s3://bucket/results", capsys=capsys)
    assert "factors.pretraining.first: no file" in line


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["submit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert (
        "sweep submit studies/umist.yaml --cluster infra/ray-cluster.yaml --results s3://bucket/results"
        in shown
    )
    assert "sweep submit studies/demo.yaml --results /srv/results --address http://127.0.0.1:8266" in shown
