"""The subcommand that asks a study's tables."""

import contextlib
import sys
from typing import Any

import click

from sweep.cli.options import results_of, results_option
from sweep.errors import InputError
from sweep.storage.checksums import STUDY
from sweep.storage.files import Files


@click.command()
@click.argument("name", required=False, metavar="[NAME | STUDY]")
@click.option("--list", "listing", is_flag=True, help="Say what each query answers.")
@click.option(
    "--sql", metavar="SELECT", help="Run this statement on the tables of STUDY instead; it can only read."
)
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
    name: str | None,
    listing: bool,
    sql: str | None,
    study: str | None,
    results: str,
    settings: tuple[str, ...],
    form: str,
) -> None:
    """Run one of the SQL files, or with --sql a statement, on a study's tables and print the answer.

    STUDY, for --sql, is a study file, the name of a study under the results root, or a folder with its results.

    \b
    sweep query --list
    sweep query auc
    sweep query bins --study umist --set draws=1000 --format csv > bins.csv
    sweep query studies/demo.yaml --sql "SELECT task, avg(val_accuracy) FROM models GROUP BY task"
    """
    from sweep.analysis.queries import list_queries, run_query
    from sweep.analysis.sql import run_sql
    from sweep.terminal.tables import print_table, write_table

    if listing or (name is None and sql is None):
        for known in list_queries():
            settings_of = f"  [--set {', '.join(known.parameters)}]" if known.parameters else ""
            click.echo(f"{known.name:<22} {known.question}{settings_of}")
        return
    if sql is not None and settings:
        raise InputError("--set: is for the variables of a named query; write the values into --sql")
    parameters = dict(_setting(text) for text in settings)
    if sql is not None:
        answer = run_sql(sql, results_of(name or study or _only_study(results), results))
    else:
        assert name is not None, "without a name the queries are listed"
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
