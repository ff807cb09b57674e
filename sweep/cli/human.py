"""Subcommands on the comparison with people: trials, answers, scores."""

from pathlib import Path

import click

from sweep.cli import human_design, human_page
from sweep.cli.options import experiment_option, open_files, open_study, results_option, study_argument


@click.group()
def human() -> None:
    """Ask people which faces are alike, and compare their answers with the models' choices."""


@human.command()
@study_argument
@results_option
@click.option("--conditions", nargs=2, required=True, metavar="A B", help="The two conditions to compare.")
@click.option("--lists", default=4, show_default=True, help="Lists of trials; an even number.")
@click.option("--blocks", default=5, show_default=True, help="Blocks of a list, with a rest between them.")
@click.option("--catch", default=10, show_default=True, help="Catch trials in each list.")
def trials(
    study: Path, results: str, conditions: tuple[str, str], lists: int, blocks: int, catch: int
) -> None:
    """Make the trials of an experiment: targets on which the choices of two conditions differ.

    The choice of a condition is the class that most of its seeds put second (sweep query rank2). Trials are made once:
    the same choices and options give the same experiment.

    \b
    sweep human trials studies/demo.yaml --conditions objects-identity faces-identity
    """
    from sweep.human.lists import Design
    from sweep.human.trials import address_of, make_trials

    plan, store = open_study(study, results)
    made = make_trials(plan, store, conditions, Design(lists, blocks, catch))
    test = made.test
    tied = sum(row["ambiguous"] for row in test)
    targets = len(test) + made.alike + made.without_choice + made.without_picture
    shares = [
        sum(row[f"votes_{side}"] for row in test) / sum(row[f"n_models_{side}"] for row in test)
        for side in "ab"
    ]
    click.echo(
        f"Targets     {targets}: the conditions choose differently for {len(test)} ({tied} with a tie among the seeds), "
        f"alike for {made.alike}; {made.without_choice} without a choice, {made.without_picture} without a picture\n"
        f"Agreement   {shares[0]:.0%} of the models of {conditions[0]} and {shares[1]:.0%} of those of {conditions[1]} "
        "make the choice that is shown\n"
        f"Lists       {lists}, each of {len(made.rows) // lists} trials: {len(test)} test, {catch} catch, the rest "
        "practice\n"
        f"Experiment  {made.experiment_id}{' (made before)' if made.known else ''}\n"
        f"Trials      {address_of(store, made)}"
    )


@human.command("import")
@study_argument
@click.argument("answers", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@results_option
@click.option(
    "--catch-right",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="Share of catch trials that an observer must answer rightly.",
)
def import_(study: Path, answers: tuple[Path, ...], results: str, catch_right: float) -> None:
    """Import the answers of people: the collector's journal, downloads of the page, results of JATOS.

    The tables are made again from the files named here: name every file that counts.

    \b
    sweep human import studies/demo.yaml journal.jsonl
    sweep human import studies/demo.yaml downloads/*.jsonl jatos_results.txt
    """
    from sweep.human.importing import import_answers

    found = import_answers(open_files(study, results), answers, catch_right)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"Experiment  {found.experiment_id}\n"
        f"Sessions    {found.sessions.num_rows:,}, {len(found.excluded):,} left out of the tests\n"
        f"Answers     {found.responses.num_rows:,}; {found.repeated:,} came again, {found.conflicts:,} came again with "
        "another choice: the first counts"
    )
    for row in found.excluded:
        click.echo(f"left out    {row['session_id']}: {row['reason']}")


@human.command()
@study_argument
@results_option
@experiment_option
def score(study: Path, results: str, experiment: str | None) -> None:
    """Test what people prefer, draw figure 7, and record both in MLflow.

    \b
    sweep human score studies/demo.yaml
    """
    from sweep.human.tables import answered_experiment
    from sweep.report.answers import Answers
    from sweep.report.people_scores import print_scores, score_files, score_metrics
    from sweep.storage.checksums import write_files
    from sweep.tracking import log_people

    plan, store = open_study(study, results)
    chosen = answered_experiment(store.files, experiment)
    answers = Answers(plan, store)
    print_scores(answers, chosen)
    files = score_files(answers, chosen)
    figures = {path: content for path, content in files.items() if path.startswith("figures/")}
    write_files(store, figures)
    for path in figures:
        click.echo(f"Figure  {store.root}/{path}")
    problem = log_people(plan, results, score_metrics(answers, chosen), files)
    if problem:
        click.echo(f"MLflow was not told: {problem}", err=True)


for _command in (
    human_page.page,
    human_page.collect,
    human_page.status,
    human_page.forget,
    human_design.power,
    human_design.simulate,
    human_design.export,
):
    human.add_command(_command)
