"""Every exception the package raises on purpose, and the exit code each stands for."""

import os
import re
from collections.abc import Sequence

HIDDEN = "***"
"""Stands for a password wherever an address is shown or stored."""
SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "RAY_AUTH_TOKEN",
)
"""Environment variables whose values are never shown."""
_PASSWORD = re.compile(r"(?<=://)[^\s/:@'\"]*:[^\s'\"]*@")
"""User and password before the host of an address; MLflow's databases take a '/' and an '@' inside the password."""
_PARAMETER = re.compile(
    r"(?i)([?&;][^\s=&;]*(?:key|token|secret|passw|pwd|signature|sig|credential|auth)[^\s=&;]*=)[^\s&;'\"]*[^\s&;'\",.:)]"
)


def redacted(text: str) -> str:
    """`text` without the passwords of the addresses in it, and without those that the environment holds."""
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, HIDDEN)
    return _PARAMETER.sub(rf"\1{HIDDEN}", _PASSWORD.sub(f"{HIDDEN}@", text))


def has_password(address: str) -> bool:
    """Whether an address holds a password, or a key among its parameters."""
    return bool(_PASSWORD.search(address) or _PARAMETER.search(address))


class SweepError(Exception):
    """Base of all errors that are reported as a line, never as a traceback, and never with a password."""

    exit_code = 1

    def __init__(self, *parts: object) -> None:
        super().__init__(*(redacted(part) if isinstance(part, str) else part for part in parts))


class InputError(SweepError):
    """Something the user gave is wrong; nothing was written. Each problem names the place and the remedy."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        # A line each, even where they quote a key or a path that has line breaks.
        self.problems: Sequence[str] = [redacted(" ".join(problem.splitlines())) for problem in problems]
        super().__init__("\n".join(self.problems))


class WorkError(SweepError):
    """Work that was asked for failed; what was finished is stored and will not be done again."""


class StoreError(WorkError):
    """The results root could not be read or written, and waiting did not help."""


class DamagedError(WorkError):
    """A stored file is not what was written; it was set aside, and the next run makes it again."""


class LostError(WorkError):
    """Another run has taken over the study; this one may write no more."""


class Stopped(SweepError):
    """A run was asked to stop before its end."""

    exit_code = 130
    """As shells have it after Ctrl-C."""
