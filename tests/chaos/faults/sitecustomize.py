"""Faults at a chosen rename, for every Python process that has this folder on its path; nothing without the variable.

SWEEP_TEST_FAULTS holds JSON: a list of {match, action, marker, times}. A rename whose target matches the regular
expression `match` meets the fault, at most `times` times in all processes together: `kill` ends the process with
the temporary file written and not yet renamed; `poison` raises an error that no waiting cures.
"""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

_FAULTS: list[dict[str, Any]] = json.loads(os.environ.get("SWEEP_TEST_FAULTS", "[]"))
_replace = os.replace


def _claimed(fault: dict[str, Any]) -> bool:
    for turn in range(fault["times"]):
        try:
            Path(f"{fault['marker']}.{turn}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def _faulty_replace(source: Any, target: Any, **options: Any) -> None:
    for fault in _FAULTS:
        if re.search(fault["match"], str(target)) and _claimed(fault):
            if fault["action"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError(f"poisoned: {Path(str(target)).name}")
    _replace(source, target, **options)


if _FAULTS:
    os.replace = _faulty_replace  # type: ignore[assignment]
