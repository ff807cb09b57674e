"""What of the user's surroundings could change a figure, stop a run late, or garble the output, set right at the start.

Ray's processes on this machine are started with the same environment.
"""

import logging
import os
import resource
import sys
import warnings
from pathlib import Path
from typing import TextIO

_FIXED = {"MPLBACKEND": "agg", "KERAS_BACKEND": "tensorflow"}
"""Figures are files, so no window system is needed; and TensorFlow is the only backend that is installed."""
_WITHOUT = ("TUNE_RESULT_DIR", "RAY_AIR_LOCAL_CACHE_DIR", "TF_USE_LEGACY_KERAS")
"""Ray Tune refuses to work with the first two, which it once read; the last makes another Keras of TensorFlow's."""
OPEN_FILES = 65_536
"""Files that a process may have open, as Ray recommends."""


def settle() -> None:
    """Make the libraries work as they would without settings of the user's own; to be called before they are imported."""
    os.environ.update(_FIXED)
    for name in _WITHOUT:
        os.environ.pop(name, None)
    if os.environ.pop("PYTHONWARNINGS", None) is not None:
        # Meant for another program: libraries warn when they are imported, and `error` would end that.
        warnings.simplefilter("ignore")
    for name in ("COLUMNS", "LINES"):
        if not os.environ.get(name, "1").isdecimal() or int(os.environ.get(name, "1")) == 0:
            del os.environ[name]  # nothing would be shown on a screen without a width
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - raises nothing
        os.environ["HOME"] = (
            "/"  # as containers have it for a user whom the system does not list; Ray Tune needs one
        )
    # Where the home folder cannot be written to, matplotlib says so at length, and does without its cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    _raise_limit()
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)  # or the next file that is opened would be taken for it
    sys.stdout, sys.stderr = _writable(sys.stdout), _writable(sys.stderr)


def _raise_limit() -> None:
    """Allow as many open files as Ray asks for, or as the system permits: Ray's processes hold some hundred each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _writable(stream: TextIO | None) -> TextIO:
    """A stream that takes every text: what the terminal's encoding lacks is written as an escape, and a closed one takes all."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return stream
