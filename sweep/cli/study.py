"""Subcommands that do a study and say how far it is."""

import contextlib
import shlex
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sweep.cli.options import (
    address_option,
    open_study,
    results_option,
    study_argument,
)
from sweep.errors import Stopped, WorkError
from sweep.plan import Plan
from sweep.runs.health import notes, set_damaged_aside
from sweep.stages import STAGES, rows_of_tables, stages_of
from sweep.storage.addresses import DEFAULT_RESULTS
from sweep.storage.store import Store


@click.command()
@study_argument
@results_option
@address_option
@click.option(
    "--refresh",
    type=click.Choice(list(STAGES)),
    metavar="STAGE",
    help=f"Compute a stage again ({', '.join(STAGES)}), and with it every stage that is made from it.",
)
def run(study: Path, results: str, address: str | None, refresh: str | None) -> None:
    """Do a study, or go on with it: what is stored already is not computed again.

    Ctrl-C, SIGTERM and `sweep stop` from another terminal finish what is in flight (for at most 20 seconds; a
    second Ctrl-C drops it) and end with exit code 130. The same command goes on from there. What --refresh
    replaces is kept in .replaced/ beside it; to go on with a refresh that was stopped, leave --refresh away.

    \b
    sweep run studies/umist.yaml
    sweep run studies/umist.yaml --results s3://bucket/results --address auto
    sweep run studies/umist.yaml --refresh relevance
    """
    from sweep import api

    try:
        result = api.run(study, results, address=address, refresh=refresh)
    except Stopped as end:
        raise Stopped(f"{end}; go on with: {_command(study, results, address)}") from None
    result.summarise()
    from sweep.tracking import how_to_open, tracking_uri

    click.echo(f"\nReport   {result.store.root}/report/index.html\nTables   {result.store.root}")
    click.echo(f"MLflow   {how_to_open(tracking_uri(results))}")


@click.command()
@study_argument
@results_option
@click.option("--watch", "watching", is_flag=True, help="Go on showing it until the study is complete.")
@click.option("--check", is_flag=True, help="Read every stored file and verify its checksum and columns.")
def status(study: Path, results: str, watching: bool, check: bool) -> None:
    """Show how far a study is, stage by stage, who runs it, what failed, and what other versions have made.

    With --watch, from any terminal that reaches the results: bars, rates and the time left, as units are stored.

    With --check, files that are damaged are named and set aside, so that the next run makes them again; exit code 1
    says that there were some. It reads tables, weights, figures, report and records; what `sweep verify` stored is
    made again by `sweep verify`.

    \b
    sweep status studies/umist.yaml
    sweep status studies/umist.yaml --check
    sweep status studies/umist.yaml --results s3://bucket/results --watch
    """
    plan, store = open_study(study, results)
    if watching:
        from sweep.terminal.watch import watch

        with contextlib.suppress(KeyboardInterrupt):
            watch(plan, store, Console())
        return
    damaged = set_damaged_aside(plan, store) if check else []
    show(plan, store)
    for line in notes(plan, store):
        click.echo(line)
    if damaged:
        raise WorkError("\n".join([*damaged, f"Set aside; made again by: {_command(study, results, None)}"]))
    if check:
        click.echo("every stored file is what was written")


def _command(study: Path, results: str, address: str | None) -> str:
    """What to type to go on with a study."""
    words = ["sweep", "run", str(study)]
    if results != DEFAULT_RESULTS:
        words += ["--results", results]
    if address:
        words += ["--address", address]
    return shlex.join(words)


def show(plan: Plan, store: Store) -> None:
    """Print what a study comes to, and how much of it is stored."""
    study = plan.study
    # An attribution is a factor of masks: it makes no more models.
    by = len(study.factors.attribution)
    factors = [f"{name} {len(levels)}" for name, levels in study.factors if levels and name != "attribution"]
    click.echo(
        f"{study.name}: {' × '.join(factors)} = {len(plan.models)} models, "
        f"{f'{by} attributions, ' if by else ''}{len(plan.images.ids):,} images "
        f"({len(plan.selected):,} with maps), {study.dataset.input_size} px"
    )
    table = Table("stage", "table", box=None, pad_edge=False)
    for column in ("units", "stored", "rows"):
        table.add_column(column, justify="right")
    rows = rows_of_tables(plan)
    for stage in stages_of(plan).values():
        units = stage.units(plan)
        missing = store.missing(units)
        for name in (name for name in stage.tables if name in rows):
            planned = sum(unit.table == name for unit in units)
            left = sum(unit.table == name for unit in missing)
            table.add_row(stage.name, name, f"{planned:,}", f"{planned - left:,}", f"{rows[name]:,}")
    Console(width=100).print(table)  # numbers are never cut, however narrow the terminal
