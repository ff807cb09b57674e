"""Progress in a notebook: a line per stage below the cell, which is written over as the stage goes on."""

import sys
from typing import Any

INTERVAL = 0.5
"""Seconds between two versions of a line."""


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel; IPython in a terminal is none."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


class NotebookLines:
    """Shows lines by name; a line of a name that was shown before takes the other's place."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}

    def show(self, name: str, line: str) -> None:
        """Show `line` as that of `name`."""
        from IPython.display import display

        content = {"text/plain": line}
        if name in self._handles:
            self._handles[name].update(content, raw=True)
        else:
            self._handles[name] = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call]
