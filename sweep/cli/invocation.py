"""Running a subcommand, and what its errors come to: a line each on standard error, and an exit code."""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click
from click.shell_completion import shell_complete

from sweep.cli.commands import cli
from sweep.errors import Stopped, SweepError, redacted

COMPLETE = "_SWEEP_COMPLETE"
"""Set by the shell when it asks what may follow, and once to have the script that asks (docs/install.md)."""


def invoke(arguments: Sequence[str]) -> int:
    """Run the command with `arguments`; returns the exit code."""
    if asked := os.environ.get(COMPLETE):
        return shell_complete(cli, {}, "sweep", COMPLETE, asked)
    try:
        try:
            with cli.make_context("sweep", list(arguments)) as context:
                cli.invoke(context)
            code = 0
        except click.exceptions.Exit as end:
            code = end.exit_code
        # Now rather than at the interpreter's end, where nobody could tell what went wrong.
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "sweep"
        click.echo(f"sweep: {error.format_message()} (see {command} --help)", err=True)
        code = error.exit_code
    except SweepError as error:
        for line in str(error).splitlines():
            click.echo(f"sweep: {line}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("sweep: stopped", err=True)
        code = Stopped.exit_code
    except BrokenPipeError:  # the reader of our output has gone, as in `sweep query auc | head`
        code = 0
    except OSError as error:
        code = _refused(error)
    _forget_output()
    return code


_NO_OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
"""What the system says of an output that takes no more."""


def _refused(error: OSError) -> int:
    """Tell what the operating system refused: a file that the user named, or the output itself."""
    reason = (error.strerror or str(error)).lower()
    if error.filename is not None:
        click.echo(f"sweep: {redacted(os.fsdecode(error.filename))}: {reason}", err=True)
        return 2
    place = "cannot write to standard output: " if error.errno in _NO_OUTPUT else ""
    click.echo(f"sweep: {place}{redacted(reason)}", err=True)
    return 1


def _forget_output() -> None:
    """Drop what could not be written: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
