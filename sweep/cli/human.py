"""Subcommands on the comparison with people: trials, answers, how many are needed, export."""

from pathlib import Path

import click

from sweep.cli import human_page
from sweep.cli.options import open_study, results_option, study_argument


@click.group()
def human() -> None:
    """Ask people which faces are alike, and compare their answers with the models' choices."""


for _command in (human_page.page, human_page.collect, human_page.status, human_page.forget):
    human.add_command(_command)


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

    The choice of a condition is the class that most of its seeds put second (sweep query rank2). Trials are made once;
    the same choices and options give the same experiment.

    \b
    sweep human trials studies/demo.yaml --conditions objects-identity faces-identity
    """
    from sweep.human.trials import Design, address_of, make_trials

    plan, store = open_study(study, results)
    made = make_trials(plan, store, conditions, Design(lists, blocks, catch))
    test = made.test
    tied = sum(row["ambiguous"] for row in test)
    targets = len(test) + made.alike + made.without_choice + made.without_picture
    click.echo(
        f"Targets     {targets}: the conditions choose differently for {len(test)} ({tied} with a tie among the seeds), "
        f"alike for {made.alike}; {made.without_choice} without a choice, {made.without_picture} without a picture of one\n"
        f"Agreement   {sum(row['votes_a'] for row in test) / sum(row['n_models_a'] for row in test):.0%} of the models of "
        f"{conditions[0]} and {sum(row['votes_b'] for row in test) / sum(row['n_models_b'] for row in test):.0%} of those of "
        f"{conditions[1]} share the choice that is shown\n"
        f"Lists       {lists}, each {len(made.rows) // lists} trials: {len(test)} test, {catch} catch, the rest practice\n"
        f"Experiment  {made.experiment_id}{' (made before)' if made.known else ''}\n"
        f"Trials      {address_of(store, made)}"
    )
