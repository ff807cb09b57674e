"""The secret of an experiment, and what is made with it: pseudonyms of observers, and completion codes.

Whoever has the secret can tell whether a given worker took part. Once it is deleted nobody can.
"""

import base64
import hmac
import os
import stat
from pathlib import Path

from sweep.errors import InputError

SECRET_BYTES = 32
_PSEUDONYM_DIGITS = 20
_CODE_LETTERS = 12


def secret_path(experiment_id: str) -> Path:
    """Where an experiment's secret is kept where the user names no place: in the user's configuration, outside all results."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(configuration) / "relevance-sweep" / "human" / f"{experiment_id}.secret"


def read_secret(path: Path, create: bool) -> bytes:
    """The secret in the file `path`, which is made where `create` says so. Only its owner may read it (mode 0600).

    Raises InputError where there is none, or where others may read it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if create else None
    except FileExistsError:
        file = None
    if file is not None:
        with os.fdopen(file, "w") as opened:
            opened.write(os.urandom(SECRET_BYTES).hex() + "\n")
            opened.flush()
            os.fsync(opened.fileno())
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(
            f"{path}: the secret of the experiment is missing, and the journal has sessions that were made with it; "
            "put it back, or name it with --secret"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"{path}: others may read this secret; run: chmod 600 {path}")
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise InputError(
            f"{path}: holds no secret of {SECRET_BYTES} bytes as hexadecimal digits; name another with --secret"
        )
    return secret


def pseudonym(secret: bytes, experiment_id: str, observer: str) -> str:
    """Pseudonym of an observer in one experiment: HMAC-SHA256, 80 bits in hexadecimal digits."""
    return _digest(secret, "observer", experiment_id, observer).hex()[:_PSEUDONYM_DIGITS]


def completion_code(secret: bytes, session_id: str) -> str:
    """Code that shows that a session was finished: 60 bits in groups of four letters and digits."""
    letters = base64.b32encode(_digest(secret, "code", session_id)).decode()[:_CODE_LETTERS]
    return "-".join(letters[start : start + 4] for start in range(0, _CODE_LETTERS, 4))


def _digest(secret: bytes, *parts: str) -> bytes:
    return hmac.digest(secret, "\0".join(parts).encode(), "sha256")
