"""The subcommand that shows a study as a page."""

from pathlib import Path

import click

from sweep.cli.options import results_option, study_argument


@click.command()
@study_argument
@results_option
def report(study: Path, results: str) -> None:
    """Write a study's figures and its report, one HTML page that needs nothing else.

    Where units are missing the page says so first, and rests on what is there. Where no mask was tried yet, nothing is
    written, and the exit code is 1.

    \b
    sweep report studies/umist.yaml
    """
    from sweep.api import Result

    report = Result.open(study, results).report()
    for sentence in report.missing:
        click.echo(f"missing: {sentence}", err=True)
    click.echo(f"Report   {report.address}  ({len(report.page.encode()) / 1e6:.1f} MB)")
