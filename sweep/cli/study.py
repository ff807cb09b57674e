"""Subcommands that do a study and say how far it is."""

import contextlib
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sweep.cli.options import address_option, open_study, results_option, study_argument
from sweep.plan import STAGES, Plan
from sweep.store import Store


@click.command()
@study_argument
@results_option
@address_option
def run(study: Path, results: str, address: str | None) -> None:
    """Do a study, or go on with it: what is stored already is not computed again.

    \b
    sweep run studies/umist.yaml
    sweep run studies/umist.yaml --results s3://bucket/results --address auto
    """
    plan, store = open_study(study, results)
    from sweep.pipeline import run_study
    from sweep.progress import Display
    from sweep.report.summary import summarise
    from sweep.tracking import how_to_open, tracking_uri

    with Display() as display:
        run_study(plan, store, results, display, address)
    summarise(plan, store)
    click.echo(f"\nReport   {store.root}/report/index.html\nTables   {store.root}")
    click.echo(f"MLflow   {how_to_open(tracking_uri(results))}")


@click.command()
@study_argument
@results_option
@click.option("--watch", "watching", is_flag=True, help="Go on showing it until the study is complete.")
def status(study: Path, results: str, watching: bool) -> None:
    """Show how far a study is, stage by stage.

    With --watch, from any terminal that reaches the results: bars, rates and the time left, as units are stored.

    \b
    sweep status studies/umist.yaml
    sweep status studies/umist.yaml --results s3://bucket/results --watch
    """
    plan, store = open_study(study, results)
    if watching:
        from sweep.watch import watch

        with contextlib.suppress(KeyboardInterrupt):
            watch(plan, store, Console())
    else:
        show(plan, store)


def show(plan: Plan, store: Store) -> None:
    """Print what a study comes to, and how much of it is stored."""
    study = plan.study
    factors = [f"{name} {len(levels)}" for name, levels in study.factors if levels]
    click.echo(
        f"{study.name}: {' × '.join(factors)} = {len(plan.models)} models, {len(plan.images.ids):,} images "
        f"({len(plan.selected):,} with maps), {study.dataset.input_size} px"
    )
    table = Table("stage", "table", box=None, pad_edge=False)
    for column in ("units", "stored", "rows"):
        table.add_column(column, justify="right")
    rows = plan.rows()
    for stage, names in STAGES.items():
        units = plan.units(stage)
        missing = store.missing(units)
        for name in names:
            planned = sum(unit.table == name for unit in units)
            left = sum(unit.table == name for unit in missing)
            table.add_row(stage, name, f"{planned:,}", f"{planned - left:,}", f"{rows[name]:,}")
    Console().print(table)
