"""The subcommand that looks whether this machine can run studies."""

import click

from sweep.cli.options import results_option
from sweep.errors import WorkError, redacted


@click.command()
@results_option
def doctor(results: str) -> None:
    """Check versions, GPUs, memory, the results root, MLflow and Ray: a line each, with the remedy where one is needed.

    Ends with exit code 1 where something is wrong. It computes nothing and leaves no file.

    \b
    sweep doctor
    sweep doctor --results s3://bucket/results
    """
    from sweep.runs.doctor import examine

    checks = examine(results)
    for check in checks:
        click.echo(redacted(f"{'ok   ' if check.fine else 'WRONG'}  {check.subject:<10} {check.found}"))
        if check.remedy:
            click.echo(redacted(f"       {'':<10} {check.remedy}"))
    wrong = [check.subject for check in checks if not check.fine]
    if wrong:
        raise WorkError(f"something is wrong with: {', '.join(wrong)}")
