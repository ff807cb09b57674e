"""The command `sweep`."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from sweep import __version__
from sweep.errors import InputError, SweepError
from sweep.plan import STAGES, Plan, make_plan
from sweep.store import Store

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""

_results = click.option(
    "--results",
    default="results",
    show_default=True,
    metavar="DIR",
    help="Results root: a folder, or an s3:// or gs:// address.",
)
_study = click.argument("study", metavar="STUDY.yaml", type=click.Path(path_type=Path))


def main() -> NoReturn:
    """Run the command; every expected error is a line on standard error, and the exit code says its kind."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except SweepError as error:
        for line in str(error).splitlines():
            click.echo(f"sweep: {line}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("sweep: stopped. What is done is stored; the same command goes on from there.", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `sweep query auc | head`.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Do two networks look at the same pixels?

    A study file names factors; every combination of their levels is a model. Each model is finetuned, its
    relevance mapped, and every model's input masked with every model's map.

    \b
    sweep plan   studies/umist.yaml      what the study comes to
    sweep run    studies/umist.yaml      do it, or go on with it
    sweep status studies/umist.yaml      how far it is
    sweep query  auc                     ask the tables
    """


@cli.command()
@_study
@_results
def plan(study: Path, results: str) -> None:
    """Check a study and show what it comes to, without computing anything.

    \b
    sweep plan studies/umist.yaml
    """
    _show(*_open(study, results))


@cli.command()
@_study
@_results
@click.option(
    "--address", metavar="HOST:PORT", help="Ray cluster to work on. [default: RAY_ADDRESS, or this machine]"
)
def run(study: Path, results: str, address: str | None) -> None:
    """Do a study, or go on with it: what is stored already is not computed again.

    \b
    sweep run studies/umist.yaml
    sweep run studies/umist.yaml --results s3://bucket/results --address auto
    """
    plan, store = _open(study, results)
    from sweep.pipeline import run_study
    from sweep.progress import Display
    from sweep.report.summary import summarise
    from sweep.tracking import tracking_uri

    with Display() as display:
        run_study(plan, store, results, display, address)
    summarise(plan, store)
    click.echo(f"\nTables   {store.root}\nMLflow   mlflow ui --backend-store-uri {tracking_uri(results)}")


@cli.command()
@_study
@_results
def status(study: Path, results: str) -> None:
    """Show how far a study is, stage by stage.

    \b
    sweep status studies/umist.yaml
    """
    _show(*_open(study, results))


@cli.command()
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="Say what each query answers.")
@click.option("--study", metavar="NAME", help="Which study under the results root. [default: the only one]")
@_results
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a variable of the query.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
)
def query(
    name: str | None, listing: bool, study: str | None, results: str, settings: tuple[str, ...], form: str
) -> None:
    """Run one of the SQL files on a study's tables and print its answer.

    \b
    sweep query --list
    sweep query auc
    sweep query bins --study umist --set draws=1000 --format csv > bins.csv
    """
    from sweep.queries import list_queries, run_query
    from sweep.report.tables import print_table, write_table

    if listing or name is None:
        for known in list_queries():
            click.echo(f"{known.name:<22} {known.question}")
        return
    parameters = dict(_setting(text) for text in settings)
    answer = run_query(name, f"{results.rstrip('/')}/{study or _only_study(results)}", parameters)
    if form == "table":
        print_table(answer)
    else:
        write_table(answer, form, sys.stdout.buffer)


@cli.group()
def data() -> None:
    """Look at images before building a study on them."""


@data.command("show")
@click.argument("source")
@click.option("--sheet", type=click.Path(path_type=Path), default="contact-sheet.png", show_default=True)
def data_show(source: str, sheet: Path) -> None:
    """Count a dataset's images by label, and write a contact sheet.

    \b
    sweep data show bundled:heads
    sweep data show manifest:faces/manifest.csv --sheet faces.png
    """
    from sweep.data.images import load_images
    from sweep.data.show import THUMBNAIL, contact_sheet, counts
    from sweep.report.tables import print_table
    from sweep.study import Dataset

    images = load_images(Dataset(source=source, input_size=THUMBNAIL), Path())
    click.echo(f"{len(images.ids):,} images, split as a study with the default settings would")
    print_table(counts(images))
    try:
        contact_sheet(images).save(sheet)
    except (OSError, ValueError) as error:
        raise InputError(f"--sheet {sheet}: cannot be written: {error}") from None
    click.echo(f"\nContact sheet: {sheet}")


def _open(study: Path, results: str) -> tuple[Plan, Store]:
    plan = make_plan(study)
    return plan, Store(f"{results.rstrip('/')}/{plan.study.name}")


def _show(plan: Plan, store: Store) -> None:
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


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text}: write it as NAME=VALUE")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return name, kind(value)
    return name, value


def _only_study(results: str) -> str:
    folder = Path(results)
    names = sorted(path.parent.name for path in folder.glob("*/study.yaml")) if folder.is_dir() else []
    if len(names) == 1:
        return names[0]
    found = (
        f"holds {', '.join(names)}; say which with --study"
        if names
        else "holds no study; run one, or say where"
    )
    raise InputError(f"--results {results}: {found}")
