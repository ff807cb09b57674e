"""Arguments and options that several subcommands share, and what they stand for."""

from pathlib import Path

import click

from sweep.plan import Plan, make_plan
from sweep.storage.files import Files
from sweep.storage.store import Store
from sweep.study import load_study

DEFAULT_RESULTS = "results"
results_option = click.option(
    "--results",
    default=DEFAULT_RESULTS,
    show_default=True,
    metavar="DIR",
    help="Results root: a folder, or an s3:// or gs:// address.",
)
address_option = click.option(
    "--address", metavar="HOST:PORT", help="Ray cluster to work on. [default: RAY_ADDRESS, or this machine]"
)
study_argument = click.argument("study", metavar="STUDY.yaml", type=click.Path(path_type=Path))


def open_study(study: Path, results: str) -> tuple[Plan, Store]:
    """The plan of a study file, and the store of its results."""
    plan = make_plan(study)
    return plan, Store(f"{results.rstrip('/')}/{plan.study.name}")


def open_files(study: Path, results: str) -> Files:
    """The results of a study, without reading what the study names."""
    return Files(f"{results.rstrip('/')}/{load_study(study).name}")


def say_notes(plan: Plan) -> None:
    """Say what a user should know about the study's images, a line each on standard error."""
    for note in plan.images.notes:
        click.echo(f"note: {note}", err=True)
