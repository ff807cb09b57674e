"""Subcommands on an experiment with people before and after it: how many are needed, a rehearsal, export."""

from pathlib import Path

import click

from sweep.cli.options import experiment_option, open_files, open_study, results_option, study_argument
from sweep.errors import InputError


@click.command()
@click.option("--observers", type=click.IntRange(2), default=46, show_default=True)
@click.option("--targets", type=click.IntRange(2), default=95, show_default=True)
@click.option(
    "--preference",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.54,
    show_default=True,
    help="Mean preference that is to be found.",
)
@click.option(
    "--sd-observers",
    type=click.FloatRange(0, 5),
    default=0.15,
    show_default=True,
    help="Standard deviation between observers, on the logit scale.",
)
@click.option(
    "--sd-targets",
    type=click.FloatRange(0, 5),
    default=0.9,
    show_default=True,
    help="Standard deviation between targets, on the logit scale.",
)
@click.option(
    "--studies", type=click.IntRange(100, 100_000), default=1000, show_default=True, help="Simulated studies."
)
def power(
    observers: int, targets: int, preference: float, sd_observers: float, sd_targets: float, studies: int
) -> None:
    """Say how surely the crossed test finds a preference, and what more observers or more targets would change.

    \b
    sweep human power --observers 46 --targets 95 --preference 0.54
    """
    from sweep.human.power import Effect, comparison, in_words
    from sweep.terminal.tables import print_table

    effect = Effect(preference, sd_observers, sd_targets)
    rows = comparison(effect, observers, targets, studies)
    print_table(rows, f"\nPower of the crossed test for a preference of {preference:g}, p < 0.05, two-sided")
    click.echo(f"\n{in_words(effect, observers, targets)}")


@click.command()
@study_argument
@results_option
@experiment_option
@click.option("--observers", type=click.IntRange(1), default=46, show_default=True)
@click.option(
    "--preference",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.55,
    show_default=True,
    help="Mean probability of the first condition's choice, over all such observers and targets.",
)
@click.option("--careless", type=click.IntRange(0), default=0, help="Observers who fail the catch trials.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--to", "target", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE"
)
def simulate(
    study: Path,
    results: str,
    experiment: str | None,
    observers: int,
    preference: float,
    careless: int,
    seed: int,
    target: Path,
) -> None:
    """Write the journal of simulated observers, to rehearse an experiment before people come.

    \b
    sweep human simulate studies/demo.yaml --preference 0.6 --to rehearsal.jsonl
    sweep human import   studies/demo.yaml rehearsal.jsonl
    sweep human score    studies/demo.yaml
    """
    from sweep.human.simulating import Observers, drawn_preference, journal, text
    from sweep.human.tables import TRIALS, chosen_experiment, read_table

    if target.exists():
        raise InputError(f"--to {target}: is there already; name a new file")
    files = open_files(study, results)
    rows = read_table(files, chosen_experiment(files, experiment), TRIALS)
    simulated = Observers(preference, seed=seed)
    lines = journal(rows, observers, simulated, careless)
    target.write_text(text(lines), encoding="utf-8")
    click.echo(
        f"{len(lines):,} lines of {observers} simulated observers: {target}\n"
        f"Preference  {preference:.1%} over all such observers and targets, {drawn_preference(rows, observers, simulated):.1%} "
        "for those drawn"
    )


@click.command()
@study_argument
@results_option
@experiment_option
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR"
)
@click.option(
    "--form",
    type=click.Choice(["psych-ds", "bids"]),
    default="psych-ds",
    show_default=True,
    help="Which standard.",
)
@click.option("--stimuli", is_flag=True, help="Write the pictures too; think of who is shown.")
def export(study: Path, results: str, experiment: str | None, target: Path, form: str, stimuli: bool) -> None:
    """Write an experiment as a data set in the form of Psych-DS or BIDS, to be shared.

    \b
    sweep human export studies/demo.yaml --to shared-data
    sweep human export studies/demo.yaml --form bids --stimuli --to shared-data
    """
    from sweep.human.export import bids, psych_ds
    from sweep.human.tables import answered_experiment

    if target.exists() and any(target.iterdir()):
        raise InputError(f"--to {target}: holds files already; name a new folder")
    plan, store = open_study(study, results)
    chosen = answered_experiment(store.files, experiment)
    written = (psych_ds if form == "psych-ds" else bids)(plan, store.files, chosen, target, stimuli)
    click.echo(f"{len(written)} files of the experiment {chosen}: {target}")
