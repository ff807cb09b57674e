"""Ending a run from another terminal: it is asked, waited for, and in the last resort killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.cli.commands import cli
from sweep.errors import WorkError
from sweep.runs.holder import Tempo, read_holder
from sweep.storage.files import Files
from tests.studies import SmallStudy

FAST = Tempo(beat=0.2, stale=10, settle=0.3)
# Holds the lease as a run does; ends when it is asked for what it was told to obey.
RUN = """
import os, sys, threading
from sweep.storage.files import Files
from sweep.runs.holder import Tempo
from sweep.runs.lease import Lease
asked = threading.Event()
def on_action(action):
    print(action, flush=True)
    if action in sys.argv[2:]:
        asked.set()
with Lease(Files(sys.argv[1]), "s", on_action, print, print, Tempo(0.2, 10, 0.3)):
    print("held", flush=True)
    asked.wait(60)
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.cli.control.tempo_of", lambda _: FAST)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For runs that do not obey, which need not be waited for."""
    for name in ("DRAIN_SECONDS", "CLOSING_SECONDS", "CANCEL_SECONDS"):
        monkeypatch.setattr(f"sweep.cli.control.{name}", 2.0)


@pytest.fixture
def root(small_study: SmallStudy) -> Path:
    return small_study.path.parent / "results" / "small"


@contextmanager
def running(root: Path, *obeys: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lease of the study, and ends when it is asked for any of `obeys`."""
    command = [sys.executable, "-c", RUN, str(root), *obeys]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def command(word: str, study: SmallStudy) -> list[str]:
    """Lines that the command prints. Raises what it raises."""
    results = study.path.parent / "results"
    done = CliRunner().invoke(cli, [word, str(study.path), "--results", str(results)], catch_exceptions=False)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output.splitlines()


@pytest.mark.parametrize("word", ["stop", "cancel"])
def test_a_run_that_obeys_ends(small_study: SmallStudy, root: Path, word: str) -> None:
    with running(root, word) as process:
        asked, ended = command(word, small_study)
        assert asked.startswith(f"{small_study.path}: asked process {process.pid} on ")
        assert asked.endswith(f" to {word}")
        assert ended.endswith(f"; go on with: sweep run {small_study.path}")
        assert process.wait(10) == 0
    assert read_holder(Files(str(root))) is None


@pytest.mark.usefixtures("impatient")
def test_a_run_that_does_not_stop_is_told_of(small_study: SmallStudy, root: Path) -> None:
    with running(root), pytest.raises(WorkError, match=r"has not ended yet; .* `sweep cancel "):
        command("stop", small_study)


@pytest.mark.usefixtures("impatient")
def test_a_run_that_does_not_end_is_killed(small_study: SmallStudy, root: Path) -> None:
    with running(root) as process:
        _, killed, ended = command("cancel", small_study)
        assert killed.endswith("did not end by itself and was killed")
        assert ended.startswith(f"{small_study.path}: cancelled; go on with: ")
        assert process.wait(10) == -signal.SIGKILL
    assert read_holder(Files(str(root))) is None


@pytest.mark.usefixtures("impatient")
def test_a_suspended_run_is_cancelled_too(small_study: SmallStudy, root: Path) -> None:
    with running(root) as process:
        os.kill(process.pid, signal.SIGSTOP)
        assert "cancelled" in command("cancel", small_study)[-1]


@pytest.mark.parametrize("word", ["stop", "cancel"])
def test_nothing_runs_and_nothing_is_made(small_study: SmallStudy, root: Path, word: str) -> None:
    assert command(word, small_study) == [f"{small_study.path}: nothing runs"]
    assert not root.parent.exists()
