"""Where results may be: what a user writes after --results, turned into a folder or an address that means one place."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sweep.errors import InputError, has_password

DEFAULT_RESULTS = "results"
"""The results root unless the user names another: a folder of the working directory."""
_ONE_SLASH = re.compile(r"(?i)(s3|gs|gcs|hdfs|abfss?|https?):/?(?!/)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_STRANGE = re.compile(r"[^A-Za-z0-9._~/:@=+,-]")
"""What an address of an object store may not hold: PyArrow decodes '%', drops what follows '#', and refuses the rest."""


def results_root(given: str) -> str:
    """The folder or address that a user names, `~` and variables resolved. Raises InputError where it names no place."""
    root = place_of(given)
    return root if "://" in root else expanded(root, f"--results {root}")


def place_of(root: str) -> str:
    """The folder or address that `root` means, without a slash at its end. Raises InputError where it means none."""
    place = f"--results {root}"
    if not root.strip():
        raise InputError("--results: is empty; name a folder, or an address (s3://, gs://)")
    if root.startswith("file:"):
        root = _folder_of(root, place)
    elif "://" in root:
        _check_address(root, place)
    elif _ONE_SLASH.match(root):
        raise InputError(f"{place}: an address has two slashes after the colon, as in s3://bucket/folder")
    return root.rstrip("/") or "/"


def expanded(given: str, place: str) -> str:
    """A path whose `~` and variables the shell has left as they are, because they were quoted.

    What exists under the very name is meant. Raises InputError, opening with `place`, where a variable is not set.
    """
    if os.path.lexists(given):
        return given
    for braced, plain in _VARIABLE.findall(given):
        if (name := braced or plain) not in os.environ:
            raise InputError(
                f"{place}: the variable {name} is not set; set it, or make the folder of that name first"
            )
    path = os.path.expandvars(os.path.expanduser(given))  # noqa: PTH111 - leaves an unknown user's ~ as it is
    if path.startswith("~"):
        raise InputError(
            f"{place}: no home folder is known for '{path.split('/')[0]}'; name the folder in full"
        )
    return path


def _folder_of(address: str, place: str) -> str:
    parts = urlsplit(address)
    if (
        parts.netloc not in ("", "localhost")
        or not parts.path.startswith("/")
        or parts.query
        or parts.fragment
    ):
        raise InputError(f"{place}: write a folder's address as file:///FOLDER, or the folder alone")
    return unquote(parts.path)


def _check_address(address: str, place: str) -> None:
    if has_password(address):
        raise InputError(
            f"{place}: an address with a password would be stored with the results; put the password into the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    if "?" in address:
        raise InputError(
            f"{place}: an address takes no '?'; name an S3-compatible server by AWS_ENDPOINT_URL"
        )
    if not address.partition("://")[2].strip("/"):
        raise InputError(
            f"{place}: names no bucket; write it as {address.partition('://')[0]}://bucket/folder"
        )
    if found := _STRANGE.search(address):
        raise InputError(
            f"{place}: an address may hold only letters, digits and ._~/:@=+,- but here is {found[0]!r}; rename the folder"
        )


def nearest_folder(path: Path) -> Path:
    """The folder on the way to `path` that is there already. Raises NotADirectoryError where a file stands in the way."""
    for folder in (path, *path.parents):
        if folder.is_dir():
            return folder
        if os.path.lexists(folder):
            raise NotADirectoryError(f"{folder} is a file, not a folder")
    raise NotADirectoryError(f"{path} lies in no folder")


def reason_of(error: Exception) -> str:
    """What an error of the operating system means, without its number and the path."""
    words = getattr(error, "strerror", None) or str(error)
    return f"{words[:1].lower()}{words[1:]}"
