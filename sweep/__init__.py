"""relevance-sweep: do two networks look at the same pixels?

What is public stands here: `Study`, `run`, `Result`, `compare` and the errors; `sweep.lrp` computes relevance of any network.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep import lrp
    from sweep.api import Report, Result, compare, run
    from sweep.errors import InputError, Stopped, SweepError, WorkError
    from sweep.report.comparison import Comparison
    from sweep.study import Study

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "InputError",
    "Report",
    "Result",
    "Stopped",
    "Study",
    "SweepError",
    "WorkError",
    "compare",
    "lrp",
    "run",
]

_HOMES = {
    **dict.fromkeys(("Report", "Result", "compare", "run"), "sweep.api"),
    "Comparison": "sweep.report.comparison",
    **dict.fromkeys(("InputError", "Stopped", "SweepError", "WorkError"), "sweep.errors"),
    "Study": "sweep.study",
}


def __getattr__(name: str) -> Any:
    # Not at import: `sweep --help` must wait neither for pandas nor for pydantic.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "lrp":
        return importlib.import_module("sweep.lrp")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
