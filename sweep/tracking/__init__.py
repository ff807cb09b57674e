"""MLflow: one parent run per study and one child run per model, found again by tag when a study resumes.

Nothing else in the package talks to MLflow. A tracking server that does not answer costs the history, never
the study: the tables hold everything that matters, and the history is caught up from them.
"""

from sweep.tracking.additions import log_people, log_verification
from sweep.tracking.connection import how_to_open, tracking_uri
from sweep.tracking.health import tracking_fault
from sweep.tracking.readouts import load_readout
from sweep.tracking.registry import alias_of, register_models
from sweep.tracking.study_runs import FAILED, FINISHED, KILLED
from sweep.tracking.tracker import Tracker

__all__ = [
    "FAILED",
    "FINISHED",
    "KILLED",
    "Tracker",
    "alias_of",
    "how_to_open",
    "load_readout",
    "log_people",
    "log_verification",
    "register_models",
    "tracking_fault",
    "tracking_uri",
]
