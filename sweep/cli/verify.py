"""The subcommand that holds stored maps to the reference."""

import math
from pathlib import Path

import click

from sweep.cli.options import open_study, results_option, study_argument
from sweep.errors import WorkError


@click.command()
@study_argument
@results_option
@click.option("--sample", type=click.IntRange(min=1), default=20, show_default=True, help="How many maps.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses the maps.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Largest error allowed, as a share of a map's maximum.",
)
def verify(study: Path, results: str, sample: int, seed: int, tolerance: float) -> None:
    """Compute a random sample of a study's maps again with iNNvestigate, and compare.

    Where a study shares the relevance of sums otherwise than iNNvestigate can, the engine's maps with iNNvestigate's way
    are compared in place of the stored ones (docs/lrp.md).

    Ends with exit code 1 where a map is off by more than the tolerance. The comparison is kept in the table
    `verification` and in MLflow.

    \b
    sweep verify studies/umist.yaml
    sweep verify studies/umist.yaml --sample 200 --tolerance 1e-5
    """
    plan, store = open_study(study, results)
    from sweep.runs.verification import explained, sample_maps
    from sweep.runs.verification import verify as compare
    from sweep.terminal.progress import Display
    from sweep.tracking import log_verification

    total = sum(map(len, sample_maps(plan, sample, seed).values()))
    with Display() as display:
        display.stage("verify", total, 0)
        found = compare(plan, store, sample, seed, display.advance)
        display.finish()
    r = "none, every map is constant" if found.min_pearson is None else f"{found.min_pearson:.7f}"
    click.echo(
        f"{total:,} of {len(explained(plan)) * len(plan.selected):,} maps computed again by {found.reference}\n"
        f"largest error       {found.max_error:.2e} of the map's maximum ({found.worst})\n"
        f"lowest correlation  {r}"
    )
    if not found.is_of_stored_maps(plan):
        click.echo(
            "Sums share their relevance by z in iNNvestigate, and otherwise in this study: what was compared are maps of the "
            "same models and images that the engine made by z just now (docs/lrp.md)"
        )
    metrics = {"max_error": found.max_error, "maps": float(total)}
    metrics |= {} if found.min_pearson is None else {"min_pearson": found.min_pearson}
    problem = log_verification(plan, results, metrics)
    if problem:
        click.echo(f"MLflow was not told: {problem}", err=True)
    if math.isnan(found.max_error):
        raise WorkError(f"values that are not finite in a map or in its reference: {found.worst}")
    if found.max_error > tolerance:
        raise WorkError(f"the largest error, {found.max_error:.2e}, is above the tolerance of {tolerance:g}")
