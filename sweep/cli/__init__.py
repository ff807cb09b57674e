"""The command `sweep`: one module per group of subcommands."""

import contextlib
import os
import signal
import sys
from typing import NoReturn

import click

from sweep import __version__
from sweep.cli import control, data, plan, query, report, study, verify
from sweep.errors import Stopped, SweepError


def main() -> NoReturn:
    """Run the command; every expected error is a line on standard error, and the exit code says its kind."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except SweepError as error:
        for line in str(error).splitlines():
            click.echo(f"sweep: {line}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("sweep: stopped", err=True)
        code = Stopped.exit_code
    except BrokenPipeError:
        # The reader of our output has gone, as in `sweep query auc | head`.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Do two networks look at the same pixels?

    A study file names factors; every combination of their levels is a model. Each model is finetuned, its
    relevance mapped, and every model's input masked with every model's map.

    \b
    sweep plan   studies/umist.yaml      what the study comes to
    sweep run    studies/umist.yaml      do it, or go on with it
    sweep status studies/umist.yaml      how far it is
    sweep stop   studies/umist.yaml      let it finish what is in flight, and end
    sweep verify studies/umist.yaml      hold its maps to iNNvestigate
    sweep query  auc                     ask the tables
    sweep report studies/umist.yaml      see it as one page
    """


for _command in (
    plan.plan,
    study.run,
    study.status,
    control.stop,
    control.cancel,
    verify.verify,
    query.query,
    report.report,
    data.data,
):
    cli.add_command(_command)
