"""The subcommand that takes a study's numbers and maps to other programs."""

from pathlib import Path

import click

from sweep.cli.options import results_option, study_argument


@click.command()
@study_argument
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@results_option
def export(study: Path, folder: Path, results: str) -> None:
    """Write a study's tables, maps and masks into a new folder DIR, for R and other programs.

    CSV and Parquet with a data dictionary (Psych-DS), an R script that repeats the main tests with lme4, maps and masks
    as NumPy arrays and PNG. DIR is written whole or not at all.

    \b
    sweep export studies/demo.yaml demo-export
    """
    from sweep.api import Result

    result = Result.open(study, results)
    for sentence in result.export(folder):
        click.echo(f"missing: {sentence}", err=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    click.echo(f"Export   {folder}  ({size / 1e6:.1f} MB; begin with {folder / 'README.md'})")
