"""The subcommand that asks a study's tables."""

import contextlib
import sys
from typing import Any

import click

from sweep.cli.options import results_option
from sweep.errors import InputError
from sweep.storage.checksums import STUDY
from sweep.storage.files import Files


@click.command()
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="Say what each query answers.")
@click.option("--study", metavar="NAME", help="Which study under the results root. [default: the only one]")
@results_option
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
    from sweep.analysis.queries import list_queries, run_query
    from sweep.terminal.tables import print_table, write_table

    if listing or name is None:
        for known in list_queries():
            settings_of = f"  [--set {', '.join(known.parameters)}]" if known.parameters else ""
            click.echo(f"{known.name:<22} {known.question}{settings_of}")
        return
    parameters = dict(_setting(text) for text in settings)
    answer = run_query(name, f"{results.rstrip('/')}/{study or _only_study(results)}", parameters)
    if form == "table":
        print_table(answer)
    else:
        write_table(answer, form, sys.stdout.buffer)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text}: write it as NAME=VALUE")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return name, kind(value)
    return name, value


def _only_study(results: str) -> str:
    names = Files(results).folders_with(STUDY)
    if len(names) == 1:
        return names[0]
    found = (
        f"holds {', '.join(names)}; say which with --study"
        if names
        else "holds no study; run one, or say where"
    )
    raise InputError(f"--results {results}: {found}")
