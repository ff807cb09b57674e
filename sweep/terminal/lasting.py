"""A stream whose reader may go away: a closed terminal, a pipe that was cut, a full disk never end what writes to it."""

import errno
import os
from contextlib import suppress
from typing import Any, TextIO

PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR)
"""Errors after which a later write may succeed."""


class LastingStream:
    """Passes text on to `stream` for as long as that takes it; afterwards the text goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, as far as possible."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush, as far as possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: OSError | ValueError) -> None:
        """Send what is still buffered, and whatever else is written to the same file, to nowhere."""
        if not isinstance(error, OSError) or error.errno not in PASSING:
            with suppress(OSError, ValueError):
                silence(self._stream.fileno())


def silence(descriptor: int) -> None:
    """Let an open file lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nowhere, descriptor)
    finally:
        os.close(nowhere)
