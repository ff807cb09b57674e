"""What `sweep human score` prints of an experiment with people, and what it gives to MLflow."""

import io
from collections.abc import Mapping

import pyarrow as pa
from rich.console import Console

from sweep.human.tables import folder_of
from sweep.report.answers import Answers
from sweep.report.exhibits import people_exhibit, preference_names
from sweep.report.people import logistic_sentence, rows_of, told
from sweep.terminal.tables import print_table, write_table

TESTS = ("test", "preference", "low", "high", "t", "df", "p", "meaning")
MODELS = ("model_id", "n_targets", "agreement", "low", "high", "p")
"""Columns that are printed."""
COUNTS = ("n_observers", "n_targets", "n_answers", "n_simulated", "n_excluded")
"""Columns that MLflow gets as they are."""


def print_scores(answers: Answers, experiment: str) -> None:
    """Print the tests, the agreement with each model, and what both say in sentences."""
    tests, models = (rows_of(answers, experiment, name) for name in ("preference", "models"))
    for columns, rows, title in (
        (TESTS, tests, f"Preference for {tests[0]['condition_a']}" if tests else "Preference"),
        (MODELS, models, "How often people choose what a single model finds most similar"),
    ):
        print_table(pa.table({name: [row[name] for row in rows] for name in columns}), f"\n{title}")
    console = Console(soft_wrap=True, highlight=False)
    console.print()
    if not tests:
        console.print("No test: no session of the experiment counts.", markup=False)
        return
    for sentence in (*told(answers, experiment), logistic_sentence(answers, experiment)):
        console.print(sentence, markup=False)
    if tests[0]["n_excluded"]:
        console.print(f"Sessions left out: {tests[0]['excluded']}.", markup=False)


def score_files(answers: Answers, experiment: str) -> dict[str, bytes]:
    """The figure and the answers of the queries, by path. Single answers of people are not among them.

    An observer may withdraw: what names a session stays in the results, where `sweep human forget` reaches it.
    """
    files: dict[str, bytes] = {}
    for name, own in preference_names(answers).items():
        if own == experiment:
            files |= people_exhibit(answers, name, experiment).files
    for query in ("preference", "targets", "agreement", "models", "transfer"):
        rows = pa.Table.from_pylist(
            [
                {name: value for name, value in row.items() if name != "excluded"}
                for row in rows_of(answers, experiment, query)
            ]
        )
        content = io.BytesIO()
        if rows.num_rows:
            write_table(rows, "csv", content)
            files[f"{folder_of(experiment)}/{query}.csv"] = content.getvalue()
    return files


def score_metrics(answers: Answers, experiment: str) -> Mapping[str, float]:
    """The figures that MLflow can compare between studies."""
    found: dict[str, float | None] = {}
    for row in rows_of(answers, experiment, "preference"):
        found |= {
            f"{row['test']}_{name}": row[name] for name in ("preference", "low", "high", "t", "df", "p")
        }
        found |= {name: float(row[name]) for name in COUNTS}
    for row in rows_of(answers, experiment, "agreement"):
        found["agreement"] = row["agreement"]
    return {name: value for name, value in found.items() if value is not None}
