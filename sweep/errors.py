"""Every exception the package raises on purpose, and the exit code each stands for."""

from collections.abc import Sequence


class SweepError(Exception):
    """Base of all errors that are reported as a line, never as a traceback."""

    exit_code = 1


class InputError(SweepError):
    """Something the user gave is wrong; nothing was written. Each problem names the place and the remedy."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        # A line each, even where they quote a key or a path that has line breaks.
        self.problems: Sequence[str] = [" ".join(problem.splitlines()) for problem in problems]
        super().__init__("\n".join(self.problems))


class WorkError(SweepError):
    """Work that was asked for failed; what was finished is stored and will not be done again."""


class StoreError(WorkError):
    """The results root could not be read or written, and waiting did not help."""


class DamagedError(WorkError):
    """A stored file is not what was written; it was set aside, and the next run makes it anew."""


class LostError(WorkError):
    """Another run has taken over the study; this one may write no more."""


class Stopped(SweepError):
    """A run was asked to stop before its end."""

    exit_code = 130
    """As shells have it after Ctrl-C."""
