"""The command `sweep`: one module per group of subcommands.

Nothing is imported here that takes time, so that Ctrl-C ends the command in one line from its first moment on.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> NoReturn:
    """Run the command; every expected error is a line on standard error, and the exit code says its kind."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as under nohup, or behind an & in a script
        # A library may take an exception in the middle of its import for its own failure.
        signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    from sweep.cli.surroundings import settle

    settle()
    from sweep.cli.invocation import invoke

    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    code = invoke(sys.argv[1:])
    # All is done and told; a signal that comes while the interpreter ends would only put a traceback below it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End the process, which has begun nothing yet."""
    os.write(2, b"sweep: stopped\n")
    os._exit(STOPPED)
