"""Subcommands on a run that goes on elsewhere: stop, cancel."""

import os
import signal
import time
from pathlib import Path

import click

from sweep.cli.options import open_files, results_option, study_argument
from sweep.errors import WorkError
from sweep.runs.holder import Holder, is_alive, read_holder, tempo_of
from sweep.runs.interrupt import DRAIN_SECONDS
from sweep.runs.lease import Action, ask, drop
from sweep.storage.files import Files

CANCEL_SECONDS = 15.0
"""How long a run on this machine may take to end by itself before `sweep cancel` kills its process."""
CLOSING_SECONDS = 60.0
"""How long a run may take to close what it has open once nothing is in flight any more."""


@click.command()
@study_argument
@results_option
def stop(study: Path, results: str) -> None:
    """Let a run of the study, in whatever terminal or on whatever machine, finish what is in flight and end.

    Waits until the run has ended, which takes half a minute at most as a rule. What is done is stored; `sweep run`
    goes on from there.

    \b
    sweep stop studies/umist.yaml
    """
    files = open_files(study, results)
    holder = _ask(files, study, "stop")
    if holder is None:
        return
    _wait(files, holder, DRAIN_SECONDS + CLOSING_SECONDS + 2 * tempo_of(files).beat)
    if _gone(files, holder):
        click.echo(f"{study}: stopped; go on with: sweep run {study}")
        return
    raise WorkError(
        f"{study}: {holder} has not ended yet; look again with `sweep status {study}`, "
        f"or end it at once with `sweep cancel {study}`"
    )


@click.command()
@study_argument
@results_option
def cancel(study: Path, results: str) -> None:
    """End a run of the study at once; what is in flight is dropped, and computed again by the next run.

    A run on this machine that does not end within 15 seconds is killed.

    \b
    sweep cancel studies/umist.yaml
    """
    files = open_files(study, results)
    holder = _ask(files, study, "cancel")
    if holder is None:
        return
    tempo = tempo_of(files)
    _wait(files, holder, CANCEL_SECONDS + 2 * tempo.beat)
    if not _gone(files, holder) and holder.here and not holder.dead:
        os.kill(holder.pid, signal.SIGKILL)
        click.echo(f"{study}: {holder} did not end by itself and was killed")
    _wait(files, holder, tempo.stale + 2 * tempo.beat)
    if _gone(files, holder):
        click.echo(f"{study}: cancelled; go on with: sweep run {study}")
        return
    raise WorkError(f"{study}: {holder} is still alive; end process {holder.pid} on {holder.host} there")


def _ask(files: Files, study: Path, action: Action) -> Holder | None:
    """Ask for an action of the run, and say so; None where nothing runs."""
    holder = read_holder(files)
    if holder is None or not is_alive(files, holder):
        click.echo(f"{study}: nothing runs")
        return None
    ask(files, holder, action)
    click.echo(f"{study}: asked {holder} to {action}")
    return holder


def _wait(files: Files, holder: Holder, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not _gone(files, holder) and time.monotonic() < until:
        time.sleep(0.5)


def _gone(files: Files, holder: Holder) -> bool:
    """Whether the run that held the lease has ended; the lease of a dead one is removed."""
    current = read_holder(files)
    if current is None or current.owner != holder.owner:
        return True
    stale = time.time() - current.heartbeat > tempo_of(files).stale
    if current.dead or (stale and not is_alive(files, current)):
        drop(files, current)
        return True
    return False
