"""Arguments and options that several subcommands share, and what they stand for."""

from pathlib import Path
from typing import Any

import click

from sweep.errors import InputError
from sweep.plan import Plan, make_plan
from sweep.stages.filenames import store_of
from sweep.storage.addresses import DEFAULT_RESULTS, expanded, results_root
from sweep.storage.checksums import STUDY
from sweep.storage.files import Files
from sweep.storage.index import INDEX
from sweep.storage.store import Store
from sweep.study import load_study


class _ResultsRoot(click.ParamType[str]):
    """A folder or an address, in the form in which everything else takes it."""

    name = "root"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return results_root(str(value))


class _StudyFile(click.ParamType[Path]):
    """The path of a file that can be read more than once."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(expanded(str(value), str(value)))
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise InputError(f"{value}: is {kind}; name a study file, as in studies/umist.yaml")
        return path


results_option = click.option(
    "--results",
    type=_ResultsRoot(),
    default=DEFAULT_RESULTS,
    show_default=True,
    metavar="DIR",
    help="Results root: a folder, or an s3:// or gs:// address.",
)
address_option = click.option(
    "--address", metavar="HOST:PORT", help="Ray cluster to work on. [default: RAY_ADDRESS, or this machine]"
)
experiment_option = click.option(
    "--experiment", metavar="ID", help="Which experiment of the study. [default: the only one]"
)
study_argument = click.argument("study", metavar="STUDY.yaml", type=_StudyFile())
stored_study_argument = click.argument("study", metavar="STUDY")
"""A study whose results are there: see `results_of`."""


def open_study(study: Path, results: str) -> tuple[Plan, Store]:
    """The plan of a study file, and the store of its results."""
    plan = make_plan(study)
    return plan, store_of(plan, results)


def open_files(study: Path, results: str) -> Files:
    """The results of a study, without reading what the study names."""
    return Files(f"{results.rstrip('/')}/{load_study(study).name}")


def results_of(study: str, results: str) -> str:
    """Where the results of a study are: of a study file, of a study by its name, or of a folder with its results.

    Raises InputError where nothing of the kind is there.
    """
    path = Path(study)
    if study.endswith((".yaml", ".yml")) and "://" not in study:
        return f"{results.rstrip('/')}/{load_study(path).name}"
    if "://" in study or (path / INDEX).is_file():
        return results_root(study)
    names = Files(results).folders_with(STUDY)
    if study in names:
        return f"{results.rstrip('/')}/{study}"
    held = f"holds {', '.join(names)}" if names else "holds no study"
    raise InputError(
        f"{study}: is no study file (.yaml), no folder with results, and no study under {results}, which {held}"
    )


def say_notes(plan: Plan) -> None:
    """Say what a user should know about the study, a line each on standard error."""
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
